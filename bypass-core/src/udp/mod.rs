//! UDP, IPv4/IPv6, ARP and NDP in user space, over any packet queue.

mod config;
mod datagram;
mod flows;
mod inspect;
mod local;
pub mod neighbours;
mod stack;
mod wire;

pub use ipnet::IpNet;

pub use self::config::{Config, Limits, RxChecksums, TxChecksums};
pub use self::datagram::UdpDatagram;
pub use self::stack::UdpOverL2;
