#![doc = include_str!("../README.md")]

pub mod any;
mod choice;
mod open;
pub mod prelude;
pub mod probe;
mod uri;

pub use bypass_core::*;
pub use choice::{DefaultPort, DefaultSocket};
pub use open::{Attach, Bind};

pub use bypass_core::backend::packet::PacketOptions;
pub use bypass_core::backend::socket::{Share, UdpOptions};

/// The crate `bypass-dpdk`, and UDP on top of its ports.
#[cfg(feature = "dpdk")]
pub mod dpdk {
    pub use bypass_dpdk::*;

    /// A UDP endpoint past the kernel's stack, at an address that the kernel keeps, on a port of DPDK's:
    /// see [`beside_kernel`](crate::udp::UdpOverL2::beside_kernel).
    pub type DpdkSocket = crate::udp::UdpOverL2<QueuePair, crate::udp::neighbours::Kernel>;
}
/// The crate `bypass-xdp`: queues of an interface, and the program that fills them.
#[cfg(feature = "xdp")]
pub mod xdp {
    pub use bypass_xdp::*;

    /// A UDP endpoint past the kernel's stack, at an address that the kernel keeps, on every queue of
    /// the interface: see [`beside_kernel`](crate::udp::UdpOverL2::beside_kernel).
    pub type XdpSocket =
        crate::udp::UdpOverL2<crate::Queues<XdpPort>, crate::udp::neighbours::Kernel>;
}

/// The crate `io-uring-ext`: rings and operations, and the two backends on top.
#[cfg(feature = "io-uring")]
pub mod io_uring {
    pub use io_uring_ext::packet::*;
    pub use io_uring_ext::*;
}
