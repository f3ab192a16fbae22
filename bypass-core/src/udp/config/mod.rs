//! [`Config`]: who the endpoint is on its link, and what it does beside moving datagrams.

mod check;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use self::check::Checked;
use super::neighbours::{Neighbours, Resolver};
use crate::MacAddr;

/// Everything that [`UdpOverL2::new`](super::UdpOverL2::new) has to know.
///
/// ```
/// use bypass_core::udp::Config;
///
/// let config = Config::new("02:00:00:00:00:01".parse()?, 4000)
///     .address("10.0.0.1/24".parse()?)
///     .address("fd00::1/64".parse()?)
///     .gateway("10.0.0.254".parse()?)
///     .echo(true);
/// # let _ = config;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config<N = Resolver> {
    mac: MacAddr,
    port: u16,
    addresses: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    vlan: Option<u16>,
    mtu: Option<usize>,
    pub(super) ttl: u8,
    pub(super) multicast_ttl: u8,
    pub(super) rx_checksums: RxChecksums,
    pub(super) tx_checksums: TxChecksums,
    pub(super) echo: bool,
    pub(super) limits: Limits,
    pub(super) neighbours: N,
}

/// What is done about UDP checksums that arrive. The checksums of IPv4 headers and of the messages
/// that the stack answers are always verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxChecksums {
    /// Verified, unless the port says that they are right or have no meaning
    /// ([`RxMeta::checksum`](crate::RxMeta::checksum)).
    #[default]
    Verify,
    /// As `Verify`; and what holds the sum of the pseudo header only is right, too: a kernel on this
    /// machine leaves it so for a device to finish, and a virtual cable (veth) has none. One datagram
    /// more in 65 536 damaged ones is taken for intact.
    VerifyOrPartial,
    /// Not looked at: the application has checks of its own.
    Ignore,
}

/// How UDP checksums are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TxChecksums {
    /// By the device, where the port can have it done; else computed.
    #[default]
    Auto,
    /// Computed.
    Software,
    /// Left out over IPv4, which allows it; over IPv6 as `Auto`.
    Omit,
}

/// How much the stack keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams that wait for the port's queue, headers in front; at least 1. When it is full,
    /// `send` takes no more.
    pub tx_queue: usize,
    /// Frames taken from the port at once; at least 1.
    pub rx_burst: usize,
    /// Datagrams kept for the application that arrive while only a neighbour's answer is awaited
    /// (in `send` and `flush`); more are dropped as
    /// [`RxQueueFull`](crate::DropCause::RxQueueFull). At least 1.
    pub rx_queue: usize,
    /// Neighbours whose answer is awaited at once, each with a queue of its own.
    pub parked_neighbours: usize,
    /// Datagrams that wait for one neighbour; when there are more, the oldest is dropped
    /// (RFC 1122, section 2.3.2.2).
    pub parked_per_neighbour: usize,
    /// For how long a datagram waits for its neighbour.
    pub park_timeout: Duration,
    /// Flows whose headers are kept ready, rounded up to a power of two.
    pub flows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tx_queue: 64,
            rx_burst: 64,
            rx_queue: 256,
            parked_neighbours: 16,
            parked_per_neighbour: 64,
            park_timeout: Duration::from_secs(5),
            flows: 64,
        }
    }
}

impl Config<Resolver> {
    /// A station with this Ethernet address, whose datagrams go to and from `port`. It needs at
    /// least one [address](Self::address).
    #[must_use]
    pub fn new(mac: MacAddr, port: u16) -> Self {
        Self {
            mac,
            port,
            addresses: Vec::new(),
            gateways: Vec::new(),
            vlan: None,
            mtu: None,
            ttl: 64,
            multicast_ttl: 1,
            rx_checksums: RxChecksums::default(),
            tx_checksums: TxChecksums::default(),
            echo: false,
            limits: Limits::default(),
            neighbours: Resolver::default(),
        }
    }
}

impl<N> Config<N> {
    /// Adds an address of the endpoint, with the prefix that is reached on the link: `10.0.0.1/24`.
    #[must_use]
    pub fn address(mut self, address: IpNet) -> Self {
        self.addresses.push(address);
        self
    }

    /// The router for what is not on the link, one for each family. Not asked for where the kernel's
    /// routes are taken ([`Kernel`](super::neighbours::Kernel)).
    #[must_use]
    pub fn gateway(mut self, router: IpAddr) -> Self {
        self.gateways.push(router);
        self
    }

    /// The identifier of the VLAN, 1 to 4094: what is sent carries its tag, what arrives must. The
    /// tag may be in the frame or in [`RxMeta::vlan`](crate::RxMeta::vlan).
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// The largest IP packet that is sent, in bytes. Default: what the port carries, up to 1 500.
    #[must_use]
    pub fn mtu(mut self, bytes: usize) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Time to live (hop limit) of what is sent to one host. Default: 64.
    #[must_use]
    pub fn ttl(mut self, hops: u8) -> Self {
        self.ttl = hops;
        self
    }

    /// Time to live (hop limit) of what is sent to groups. Default: 1, the link.
    #[must_use]
    pub fn multicast_ttl(mut self, hops: u8) -> Self {
        self.multicast_ttl = hops;
        self
    }

    /// What is done about checksums that arrive.
    #[must_use]
    pub fn rx_checksums(mut self, policy: RxChecksums) -> Self {
        self.rx_checksums = policy;
        self
    }

    /// How checksums are made.
    #[must_use]
    pub fn tx_checksums(mut self, policy: TxChecksums) -> Self {
        self.tx_checksums = policy;
        self
    }

    /// Whether ICMP echo requests are answered. Default: no.
    #[must_use]
    pub fn echo(mut self, answered: bool) -> Self {
        self.echo = answered;
        self
    }

    /// How much the stack keeps.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How stations are found. Default: a [`Resolver`].
    #[must_use]
    pub fn neighbours<M: Neighbours>(self, neighbours: M) -> Config<M> {
        Config {
            mac: self.mac,
            port: self.port,
            addresses: self.addresses,
            gateways: self.gateways,
            vlan: self.vlan,
            mtu: self.mtu,
            ttl: self.ttl,
            multicast_ttl: self.multicast_ttl,
            rx_checksums: self.rx_checksums,
            tx_checksums: self.tx_checksums,
            echo: self.echo,
            limits: self.limits,
            neighbours,
        }
    }
}
