//! UDP, IPv4/IPv6, ARP and NDP in user space, over any packet queue.
//!
//! [`UdpOverL2`] makes a [`DatagramIo`](crate::DatagramIo) of any [`PacketIo`](crate::PacketIo):
//! the same application runs on a kernel socket, and on AF_XDP, DPDK or a memory link without the
//! kernel's network stack.
//!
//! ```
//! use bypass_core::backend::memory;
//! use bypass_core::udp::{Config, UdpOverL2};
//! use bypass_core::{Buffer, Burst, Datagram, DatagramIo, DatagramIoExt, Endpoint};
//!
//! // Two endpoints on one cable; they find each other by ARP.
//! let (a, b) = memory::link(&memory::LinkOptions::default())?;
//! let config = |mac: &str, net: &str| -> Result<Config, Box<dyn std::error::Error>> {
//!     Ok(Config::new(mac.parse()?, 4000).address(net.parse()?))
//! };
//! let mut a = UdpOverL2::new(a.open()?, config("02:00:00:00:00:01", "10.0.0.1/24")?)?;
//! let mut b = UdpOverL2::new(b.open()?, config("02:00:00:00:00:02", "10.0.0.2/24")?)?;
//!
//! let (mut burst, mut echo) = (Burst::with_capacity(32), Burst::with_capacity(32));
//! a.compose(b"how are you?", b.local_addr(), &mut burst)?;
//! a.send(&mut burst)?; // it waits until the neighbour is known
//! while burst.is_empty() {
//!     a.flush()?;
//!     b.recv(&mut echo)?;
//!     echo.iter_mut().for_each(|datagram| datagram.reply());
//!     b.send(&mut echo)?; // turned around in the frame that it came in
//!     b.flush()?;
//!     a.recv(&mut burst)?;
//! }
//! assert_eq!(burst[0].data(), b"how are you?");
//! assert_eq!(burst[0].recv_meta().remote, Some(b.local_addr()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does
//!
//! - Checks everything about what arrives, and counts what it drops under a
//!   [cause](crate::DropCause) for each kind of defect: Ethernet and one VLAN tag, IPv4 with
//!   options, IPv6 with extension headers, UDP, all checksums (unless the port vouches for them).
//! - Turns a [reply](crate::Datagram::reply) around in the frame that it came in, without copy and
//!   without lookup. Other datagrams get their headers from a cache of the last flows.
//! - Finds [`neighbours`] in one of several ways, keeps datagrams that wait for one, a limited
//!   number for a limited time, and answers those who ask for its own addresses.
//! - Works beside the kernel ([`UdpOverL2::beside_kernel`]), at an address that the kernel keeps, or
//!   at one of its own.
//! - Answers pings, if asked to ([`Config::echo`]).
//! - Receives multicast ([`UdpOverL2::join`]) and broadcast, and tells routers and switches which
//!   groups it is in.
//!
//! # What it does not do
//!
//! - Fragments are counted and dropped, and none are sent: a datagram longer than the MTU is
//!   refused. Path MTU discovery and other ICMP errors are not acted on.
//! - No trains: [`segment_size`](crate::Transmit::segment_size) is refused.
//! - No DHCP, no router discovery, no address autoconfiguration, no duplicate address detection:
//!   addresses are [configured](Config). The zone of an IPv6 address is ignored, because an
//!   endpoint has one link.
//! - One port per endpoint. Datagrams to others are counted ([`UdpPort`](crate::DropCause::UdpPort))
//!   and answered by nobody.
//! - It works when it is called, on the thread that calls: an endpoint that nobody calls answers no
//!   ARP.

mod beside;
mod config;
mod datagram;
mod flows;
mod inspect;
mod local;
pub mod neighbours;
mod stack;
mod station;
mod wire;

pub use ipnet::IpNet;

pub use self::beside::Beside;
pub use self::config::{Config, Limits, RxChecksums, TxChecksums};
pub use self::datagram::UdpDatagram;
pub use self::stack::UdpOverL2;
pub use self::station::Station;
