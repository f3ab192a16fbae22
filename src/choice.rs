//! The backend that the features chose.
//!
//! Features add, so several may be on. The first of these that is built in wins:
//!
//! | | frames | datagrams |
//! |---|---|---|
//! | 1. | `xdp` | `xdp`: UDP in user space on top |
//! | 2. | `dpdk` | `dpdk`: UDP in user space on top |
//! | 3. | `io-uring` | `io-uring` |
//! | 4. | `packet`, always there | `socket`, always there |
//!
//! AF_XDP and DPDK are asked for by name; `io-uring` is there by default.
//!
//! `--cfg bypass_backend="packet"` (or `"io-uring"`, `"dpdk"`, `"xdp"`) in `RUSTFLAGS` starts at that line, for
//! the whole build; a backend whose feature is off is then a compile error.

#[cfg(all(bypass_backend = "xdp", not(feature = "xdp")))]
compile_error!("--cfg bypass_backend=\"xdp\" needs the feature `xdp`");
#[cfg(all(bypass_backend = "io-uring", not(feature = "io-uring")))]
compile_error!("--cfg bypass_backend=\"io-uring\" needs the feature `io-uring`");
#[cfg(all(bypass_backend = "dpdk", not(feature = "dpdk")))]
compile_error!("--cfg bypass_backend=\"dpdk\" needs the feature `dpdk`");

cfg_select! {
    all(
        feature = "xdp",
        not(any(bypass_backend = "dpdk", bypass_backend = "io-uring", bypass_backend = "packet"))
    ) => {
        use crate::xdp::XdpPort as Port;
    }
    all(feature = "dpdk", not(any(bypass_backend = "io-uring", bypass_backend = "packet"))) => {
        use crate::dpdk::QueuePair as Port;
    }
    all(feature = "io-uring", not(bypass_backend = "packet")) => {
        use crate::io_uring::UringPort as Port;
    }
    _ => {
        use crate::backend::packet::PacketPort as Port;
    }
}

cfg_select! {
    all(
        feature = "xdp",
        not(any(bypass_backend = "dpdk", bypass_backend = "io-uring", bypass_backend = "packet"))
    ) => {
        use crate::xdp::XdpSocket as Socket;
    }
    all(feature = "dpdk", not(any(bypass_backend = "io-uring", bypass_backend = "packet"))) => {
        use crate::dpdk::DpdkSocket as Socket;
    }
    all(feature = "io-uring", not(bypass_backend = "packet")) => {
        use crate::io_uring::UringSocket as Socket;
    }
    _ => {
        use crate::backend::socket::UdpSocket as Socket;
    }
}

/// The datagram backend that the features chose.
pub type DefaultSocket = Socket;

/// The frame backend that the features chose.
pub type DefaultPort = Port;

// What an override promises, asserted: each line compiles only when the alias is the type that is named.
// The order of the features is asserted by a test, without an override.
#[cfg(bypass_backend = "packet")]
const _: (
    fn(DefaultPort) -> crate::backend::packet::PacketPort,
    fn(DefaultSocket) -> crate::backend::socket::UdpSocket,
) = (|port| port, |socket| socket);
#[cfg(bypass_backend = "io-uring")]
const _: (
    fn(DefaultPort) -> crate::io_uring::UringPort,
    fn(DefaultSocket) -> crate::io_uring::UringSocket,
) = (|port| port, |socket| socket);
#[cfg(bypass_backend = "xdp")]
const _: (fn(DefaultPort) -> crate::xdp::XdpPort, fn(DefaultSocket) -> crate::xdp::XdpSocket) =
    (|port| port, |socket| socket);
#[cfg(bypass_backend = "dpdk")]
const _: (fn(DefaultPort) -> crate::dpdk::QueuePair, fn(DefaultSocket) -> crate::dpdk::DpdkSocket) =
    (|port| port, |socket| socket);
