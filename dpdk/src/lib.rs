//! DPDK for the bypass-io family.

mod eal;
mod error;
#[allow(unsafe_code, reason = "calls DPDK")]
mod vdev;

pub use eal::{
    Eal, EalOptions, Iova, Lcore, LcoreTask, Level, Memory, Pci, Record, Sink, ThreadRegistration,
};
pub use error::{DpdkError, Errno, Result};
pub use vdev::Vdev;
