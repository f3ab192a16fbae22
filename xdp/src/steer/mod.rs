//! Which queue of a device a packet comes to: [`Steering`].
//!
//! An AF_XDP socket sees one queue. Three settings of the device decide what arrives there:
//!
//! - how many queues it has ([`Channels`]), and how long their rings are ([`RingSizes`]);
//! - over which of them it spreads flows (the RSS indirection table);
//! - which flows go to a queue of their own ([`FlowRule`], "ntuple").
//!
//! They belong to the device and stay when the process ends. Drivers differ in what they have; what
//! one has not is [`Error::Unsupported`](bypass_core::Error::Unsupported), which names the driver.
//! A veth pair has channels and nothing else: the kernel picks its queues by the sender's.
//!
//! Sources: `ethtool(8)`, `include/uapi/linux/ethtool.h`, `Documentation/networking/scaling.rst`.

mod device;
mod flow;
#[allow(unsafe_code, reason = "ioctls that no safe wrapper has")]
mod sys;

pub use device::{Channels, RingSizes, Steering};
pub use flow::FlowRule;
