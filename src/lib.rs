#![doc = include_str!("../README.md")]

pub mod any;
mod choice;
mod open;
pub mod prelude;
mod uri;

pub use bypass_core::*;
pub use choice::{DefaultPort, DefaultSocket};
pub use open::{Attach, Bind};

pub use bypass_core::backend::packet::PacketOptions;
pub use bypass_core::backend::socket::UdpOptions;

#[cfg(feature = "dpdk")]
pub use bypass_dpdk as dpdk;
#[cfg(feature = "xdp")]
pub use bypass_xdp as xdp;

/// The crate `io-uring-ext`: rings and operations, and the two backends on top.
#[cfg(feature = "io-uring")]
pub mod io_uring {
    pub use io_uring_ext::packet::*;
    pub use io_uring_ext::*;
}
