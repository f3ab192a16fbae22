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
//! | `udp+socket://ADDRESS:PORT` | [`socket`](crate::backend::socket): a UDP socket | nothing |
//! | `udp+uring://ADDRESS:PORT` | `io_uring` over a UDP socket | feature `io-uring` |
//! | `udp+packet://ADDRESS:PORT?interface=NAME` | [`UdpOverL2`](crate::udp::UdpOverL2) on `packet` | CAP_NET_RAW |
//! | `udp+memory://ADDRESS:PORT?interface=NAME&mac=MAC` | the same on `memory` | nothing |
//!
//! Behind a `?` stand settings: `packet:eth0?promiscuous=true&frames=4096`. An unknown one is an
//! error that names those there are.
//!
//! [`DefaultPort`]: crate::DefaultPort
//! [`DefaultSocket`]: crate::DefaultSocket

mod buffer;
mod lane;
mod port;
mod socket;

pub use port::{AnyFrame, AnyPort, open_port};
pub use socket::{AnyDatagram, AnySocket, open_socket};
