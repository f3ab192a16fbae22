//! DPDK for the bypass-io family.
//!
//! ```standalone_crate
//! use bypass_core::{Burst, PacketIoExt, Verdict, swap_addresses};
//! use bypass_dpdk::{EalOptions, Mempool, MempoolOptions, Port, PortOptions, Vdev};
//!
//! let eal = EalOptions::new().start()?;
//! let pool = Mempool::new(&eal, &MempoolOptions::new(4095))?;
//! let _device = Vdev::plug(&eal, "net_ring0", "")?;
//! let port = Port::open(&eal, "net_ring0")?.start(&PortOptions::new(&pool))?;
//! let mut queue = port.queue_pair(0)?;
//! let mut burst = Burst::with_capacity(32);
//! // Every packet goes back to where it came from, in the memory that it came in.
//! queue.reflect(&mut burst, |packet| {
//!     swap_addresses(packet);
//!     Verdict::Send
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//!
//! [`EalOptions`] start the environment ([`Eal`]); [`Vdev`]s come and go in it. A [`Mempool`] has memory
//! for packets ([`Mbuf`], [`SharedMbuf`]). A [`Port`] is opened by name, started with [`PortOptions`],
//! and hands out [`RxQueue`]s and [`TxQueue`]s; one of each is a [`QueuePair`], the
//! [`PacketIo`](bypass_core::PacketIo) of this crate. [`flow`] has rules for what a port receives.
//!
//! # What it does not do
//!
//! It runs in the primary process only, and has no launch times yet.

mod driver;
mod eal;
mod error;
#[allow(unsafe_code, reason = "packets in DPDK's memory")]
mod mbuf;
#[allow(unsafe_code, reason = "memory that DPDK manages")]
mod mempool;
#[allow(unsafe_code, reason = "asks the kernel about descriptors of a driver's")]
mod missed;
mod open;
#[allow(unsafe_code, reason = "calls DPDK")]
mod port;
#[allow(unsafe_code, reason = "hands packets to drivers and takes them")]
mod queue;
#[allow(unsafe_code, reason = "calls DPDK")]
mod vdev;

pub use eal::{
    Eal, EalOptions, Iova, Lcore, LcoreTask, Level, Memory, Pci, Record, Sink, ThreadRegistration,
};
pub use error::{DpdkError, Errno, Result};
pub use mbuf::{ExternalBuffer, Mbuf, SegmentsMut, SharedMbuf, TooManySegments, TxOffload};
pub use mempool::{Mempool, MempoolOptions};
pub use port::{
    Capabilities, Event, Features, Link, Port, PortOptions, PortStats, Refused, Report, Rss,
    RssTypes, Started, Stopped, Subscription, flow,
};
pub use queue::{QueuePair, RxQueue, TxQueue};
pub use vdev::Vdev;

/// The backend's name.
pub(crate) const BACKEND: &str = "dpdk";

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
