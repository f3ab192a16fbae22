//! A backend chosen at run time, by URI.
//!
//! An application that knows its backend when it is built names the type (or [`DefaultPort`] and
//! [`DefaultSocket`]) and pays nothing. One that does not opens an [`AnyPort`] or an [`AnySocket`];
//! each packet is then moved once more, in and out of an enum, and each call goes through a box:
//! no allocation, no copy of its bytes, no system call.
//!
//! | URI | backend | needs |
//! |---|---|---|
//! | `memory:NAME` | [`memory`](crate::backend::memory): the two ends of a link are opened under one name; the second with the settings of the first, or none | nothing |
//! | `packet:INTERFACE` | [`packet`](crate::backend::packet): `AF_PACKET` | CAP_NET_RAW |
//! | `uring:INTERFACE` | `io_uring` over `AF_PACKET` | feature `io-uring`, CAP_NET_RAW |
//! | `xdp:INTERFACE` | AF_XDP: every frame of one queue, none of which the kernel gets | feature `xdp`, CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF |
//! | `dpdk:NAME` | DPDK: a device that it has, a virtual one that it makes (`net_ring0`), or an interface of the kernel's; see [`QueuePair::open`](https://docs.rs/bypass-dpdk) | feature `dpdk`; CAP_NET_RAW for an interface |
//! | `udp+socket://ADDRESS:PORT` | [`socket`](crate::backend::socket): a UDP socket | nothing |
//! | `udp+uring://ADDRESS:PORT` | `io_uring` over a UDP socket | feature `io-uring` |
//! | `udp+packet://ADDRESS:PORT` | [`UdpOverL2`](crate::udp::UdpOverL2) on `packet` | CAP_NET_RAW, CAP_NET_ADMIN |
//! | `udp+xdp://ADDRESS:PORT` | the same on `xdp`, on all queues of the interface | as `xdp` |
//! | `udp+dpdk://ADDRESS:PORT` | the same on `dpdk` | as `dpdk`, CAP_NET_ADMIN |
//! | `udp+memory://ADDRESS:PORT?interface=NAME&mac=MAC` | the same on `memory` | nothing |
//!
//! UDP over frames works in one of two ways. Without more, the address is one that the kernel has on an
//! interface, and [`beside_kernel`](crate::udp::UdpOverL2::beside_kernel) takes the rest from there; on
//! `xdp` only the endpoint's own datagrams are taken from the kernel. With `interface=NAME` and
//! `prefix=BITS` the address is the endpoint's own, which the kernel must not have; `mac`, `gateway`,
//! `vlan` and `ping=true` (answer pings) say more, and on `xdp` every frame of the queue is taken.
//!
//! Behind a `?` stand settings: `packet:eth0?promiscuous=true&frames=4096`. An unknown one is an
//! error that names those there are. All take `frames`, `rx_reserve`, `frame_size` and `headroom`:
//! [`PoolOptions`](crate::pool::PoolOptions). `share=INDEX/COUNT` opens one of several sockets, or one part of the
//! queues of AF_XDP or DPDK, at an address of the kernel's: one for each worker. `dpdk:` has it too. Those of `xdp`
//! are the ones of `packet` and
//!
//! | setting | |
//! |---|---|
//! | `queue=N` | this queue, also beside `share`; without it 0, or all (of the part) for a datagram endpoint at an address of the kernel's |
//! | `hook=native` or `generic` | where the program must run; without it the better one that is to be had, reported in [`Caps::fallbacks`](crate::Caps::fallbacks) |
//! | `mode=zero-copy` or `copy` | whether the device must read and write the memory itself; without it as `hook` |
//! | `force=true` | take all frames even of an interface that a default route leads through |
//! | `unaligned=true`, `multi_buffer=true` | layout of the memory; frames longer than a chunk |
//! | `busy_poll=MICROSECONDS`, `busy_poll_budget=N` | poll the device from the application's calls |
//! | `tx_budget=N` | frames that a system call sends |
//!
//! [`DefaultPort`]: crate::DefaultPort
//! [`DefaultSocket`]: crate::DefaultSocket

mod buffer;
mod lane;
mod port;
mod socket;
#[cfg(feature = "xdp")]
mod xdp;

pub use port::{AnyFrame, AnyPort, open_port};
pub use socket::{AnyDatagram, AnySocket, open_socket};
