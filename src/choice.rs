//! The backend that the features chose.
//!
//! Features add, so several may be on. The first of these that is built in wins:
//!
//! 1. `io-uring`
//! 2. plain sockets (`socket` for datagrams, `packet` for frames), which are always there
//!
//! `--cfg bypass_backend="packet"` (or `"io-uring"`) in `RUSTFLAGS` overrides that, for the whole
//! build; a backend whose feature is off is then a compile error.

#[cfg(all(bypass_backend = "io-uring", not(feature = "io-uring")))]
compile_error!("--cfg bypass_backend=\"io-uring\" needs the feature `io-uring`");
#[cfg(any(bypass_backend = "xdp", bypass_backend = "dpdk"))]
compile_error!("this version of bypass-io has no backend `xdp` or `dpdk` yet");

/// The datagram backend that the features chose.
#[cfg(all(feature = "io-uring", not(bypass_backend = "packet")))]
pub type DefaultSocket = crate::io_uring::UringSocket;
/// The datagram backend that the features chose.
#[cfg(not(all(feature = "io-uring", not(bypass_backend = "packet"))))]
pub type DefaultSocket = crate::backend::socket::UdpSocket;

/// The frame backend that the features chose.
#[cfg(all(feature = "io-uring", not(bypass_backend = "packet")))]
pub type DefaultPort = crate::io_uring::UringPort;
/// The frame backend that the features chose.
#[cfg(not(all(feature = "io-uring", not(bypass_backend = "packet"))))]
pub type DefaultPort = crate::backend::packet::PacketPort;

// The choice, asserted: each line compiles only when the alias is the type that is named.
#[cfg(all(feature = "io-uring", not(bypass_backend = "packet")))]
mod asserted {
    use super::{DefaultPort, DefaultSocket};
    use crate::io_uring::{UringPort, UringSocket};

    const _: fn(DefaultSocket) -> UringSocket = |socket| socket;
    const _: fn(DefaultPort) -> UringPort = |port| port;
}
#[cfg(any(bypass_backend = "packet", not(feature = "io-uring")))]
mod asserted {
    use super::{DefaultPort, DefaultSocket};
    use crate::backend::packet::PacketPort;
    use crate::backend::socket::UdpSocket;

    const _: fn(DefaultSocket) -> UdpSocket = |socket| socket;
    const _: fn(DefaultPort) -> PacketPort = |port| port;
}
