//! DPDK for the bypass-io family.

mod eal;
mod error;
#[allow(unsafe_code, reason = "packets in DPDK's memory")]
mod mbuf;
#[allow(unsafe_code, reason = "memory that DPDK manages")]
mod mempool;
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
    Capabilities, Features, Link, Port, PortOptions, PortStats, Refused, Report, Rss, RssTypes,
    Started, Stopped,
};
pub use queue::{QueuePair, RxQueue, TxQueue};
pub use vdev::Vdev;

/// The backend's name.
pub(crate) const BACKEND: &str = "dpdk";
