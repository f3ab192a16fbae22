//! A backend chosen at run time, by URI.
//!
//! An application that knows its backend when it is built names the type (or [`DefaultPort`] and
//! [`DefaultSocket`]) and pays nothing. One that does not opens an [`AnyPort`] or an [`AnySocket`];
//! each packet is then moved once more, in and out of an enum, and each call goes through a box:
//! no allocation, no copy of its bytes, no system call.
//!
//! | URI | backend | needs |
//! |---|---|---|
//! | `memory:NAME` | [`memory`](crate::backend::memory): the two ends of a link are opened under one name | nothing |
//! | `packet:INTERFACE` | [`packet`](crate::backend::packet): `AF_PACKET` | CAP_NET_RAW |
//! | `uring:INTERFACE` | `io_uring` over `AF_PACKET` | feature `io-uring`, CAP_NET_RAW |
//! | `xdp:INTERFACE` | AF_XDP: every frame of one queue, none of which the kernel gets | feature `xdp`, CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF |
//! | `udp+socket://ADDRESS:PORT` | [`socket`](crate::backend::socket): a UDP socket | nothing |
//! | `udp+uring://ADDRESS:PORT` | `io_uring` over a UDP socket | feature `io-uring` |
//! | `udp+packet://ADDRESS:PORT?interface=NAME` | [`UdpOverL2`](crate::udp::UdpOverL2) on `packet` | CAP_NET_RAW |
//! | `udp+xdp://ADDRESS:PORT?interface=NAME` | the same on `xdp`, queue 0 | as `xdp` |
//! | `udp+memory://ADDRESS:PORT?interface=NAME&mac=MAC` | the same on `memory` | nothing |
//!
//! Behind a `?` stand settings: `packet:eth0?promiscuous=true&frames=4096`. An unknown one is an
//! error that names those there are. Those of `xdp` are the ones of `packet`, `queue=N`,
//! `mode=zero-copy` or `copy`, `hook=native` or `generic` (without these two: the better one that is to be
//! had, reported in [`Caps::fallbacks`](crate::Caps::fallbacks)), and `force=true`, without which an
//! interface that a default route leads through is refused.
//!
//! [`DefaultPort`]: crate::DefaultPort
//! [`DefaultSocket`]: crate::DefaultSocket

mod buffer;
mod lane;
mod port;
mod socket;

pub use port::{AnyFrame, AnyPort, open_port};
pub use socket::{AnyDatagram, AnySocket, open_socket};
