//! AF_XDP: packets between a network device's queues and the application, without the kernel's stack.
//!
//! ```no_run
//! use bypass_core::{Burst, Endpoint, Interest, PacketIoExt, Verdict, swap_addresses};
//! use bypass_xdp::XdpOptions;
//!
//! let mut port = XdpOptions::new("eth1").open()?;
//! let mut burst = Burst::with_capacity(64);
//! loop {
//!     port.wait(Interest::RX, None)?;
//!     // Every frame goes back to where it came from, in the memory that it came in.
//!     port.reflect(&mut burst, |frame| {
//!         swap_addresses(frame);
//!         Verdict::Send
//!     })?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), bypass_core::Error>(())
//! ```
//!
//! # Map
//!
//! [`XdpOptions`] opens queues of an interface: one ([`open`](XdpOptions::open)) or all
//! ([`queues`](XdpOptions::queues)). An open queue is an [`XdpPort`], the
//! [`PacketIo`](bypass_core::PacketIo) of this crate; its frames are [`XdpFrame`]s in a [`Umem`], which
//! ports of one thread can share. [`program`] decides which frames come, and leaves the rest to the
//! kernel.
//!
//! # What it does not do
//!
//! It shares no queue between sockets, and cuts no trains of segments. It runs on Linux 5.9 and later
//! (5.4 with an XDP program of another's).

mod error;
mod port;
pub mod program;
#[allow(unsafe_code, reason = "memory that is shared with the kernel, one side of which is ours")]
mod ring;
mod socket;
pub mod steer;
mod sys;
#[allow(unsafe_code, reason = "takes chunks back that the kernel is done with")]
mod umem;

pub use error::XdpError;
#[cfg(feature = "tokio")]
pub use port::TokioPort;
pub use port::{SentTime, XdpPort};
pub use socket::{
    CopyMode, Holder, Hook, Interface, NapiBusyPoll, Receive, RingSizes, Want, XdpOptions, XdpQueue,
};
pub use sys::DeviceFeatures;
pub use umem::{Umem, UmemOptions, Xdp, XdpFrame};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
