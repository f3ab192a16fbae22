//! [`Config`]: who the endpoint is on its link, and what it does beside moving datagrams.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::local::Local;
use super::neighbours::{Neighbours, Resolver};
use super::wire::{ethernet, ipv4, ipv6, udp};
use crate::{Caps, Error, MacAddr, Result};

/// The largest packet on Ethernet, unless jumbo frames were agreed on.
const ETHERNET_MTU: usize = 1500;

/// Everything that [`UdpOverL2::bind`](super::UdpOverL2::bind) has to know.
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

    /// The router for what is not on the link, one for each family.
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

    /// Checks everything, for a port of these abilities.
    pub(super) fn check(&mut self, port: &Caps) -> Result<Checked> {
        self.check_identity()?;
        self.check_gateways()?;
        self.check_limits()?;
        let (mtu, header_len) = (self.check_sizes(port)?, self.header_len());
        let local = Local::new(
            self.mac,
            self.port,
            self.vlan,
            std::mem::take(&mut self.addresses),
            std::mem::take(&mut self.gateways),
        );
        Ok(Checked { local, mtu, header_len })
    }

    fn check_identity(&self) -> Result<()> {
        if self.mac.is_group() || self.mac == MacAddr::default() {
            let why = "it must be the address of one station: an even first byte, not all zero";
            return Err(Error::config("mac", self.mac, why));
        }
        if self.port == 0 {
            let why = "nobody can send to port 0; choose one";
            return Err(Error::config("port", self.port, why));
        }
        if let Some(id) = self.vlan.filter(|id| !(1..=4094).contains(id)) {
            return Err(Error::config("vlan", id, "a VLAN has an identifier from 1 to 4094"));
        }
        if self.addresses.is_empty() {
            return Err(Error::config("address", "none", "an endpoint needs at least one"));
        }
        for (i, net) in self.addresses.iter().enumerate() {
            let is_host = match net.addr() {
                IpAddr::V4(ip) => ipv4::is_host(ip.octets()),
                IpAddr::V6(ip) => !(ip.is_multicast() || ip.is_unspecified() || ip.is_loopback()),
            };
            if !is_host {
                return Err(Error::config("address", net, "it is not the address of one host"));
            }
            if self.addresses[..i].iter().any(|earlier| earlier.addr() == net.addr()) {
                return Err(Error::config("address", net, "it is there twice"));
            }
        }
        for (setting, hops) in [("ttl", self.ttl), ("multicast_ttl", self.multicast_ttl)] {
            if hops == 0 {
                return Err(Error::config(setting, hops, "such a packet never leaves; 1 to 255"));
            }
        }
        Ok(())
    }

    fn check_gateways(&self) -> Result<()> {
        for (i, router) in self.gateways.iter().enumerate() {
            let on_link = self.addresses.iter().any(|net| net.contains(router))
                || matches!(router, IpAddr::V6(ip) if ip.is_unicast_link_local());
            if !on_link {
                let why = "a router must be on the link: inside the prefix of an address";
                return Err(Error::config("gateway", router, why));
            }
            if self.addresses.iter().any(|net| net.addr() == *router) {
                return Err(Error::config("gateway", router, "it is the endpoint's own address"));
            }
            if self.gateways[..i].iter().any(|earlier| earlier.is_ipv4() == router.is_ipv4()) {
                return Err(Error::config("gateway", router, "there is one of this family"));
            }
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<()> {
        let Limits { tx_queue, rx_burst, rx_queue, flows, .. } = self.limits;
        let sizes = [
            ("tx_queue", tx_queue),
            ("rx_burst", rx_burst),
            ("rx_queue", rx_queue),
            ("flows", flows),
        ];
        for (setting, value) in sizes {
            if value == 0 {
                return Err(Error::config(setting, value, "it must be at least 1"));
            }
        }
        Ok(())
    }

    fn check_sizes(&self, port: &Caps) -> Result<usize> {
        let link = ethernet::header_len(self.vlan);
        let carried = port.max_len.saturating_sub(link);
        let mtu = self.mtu.unwrap_or(carried.min(ETHERNET_MTU));
        let v6 = self.addresses.iter().any(|net| net.addr().is_ipv6());
        // What every host must be able to take (RFC 791; RFC 8200, section 5).
        let least = if v6 { 1280 } else { 68 };
        if mtu > carried.min(usize::from(u16::MAX)) {
            let why = format!("the port carries packets of up to {carried} bytes");
            return Err(Error::config("mtu", mtu, why));
        }
        if mtu < least {
            let why = format!("it must be at least {least} bytes here");
            return Err(Error::config("mtu", mtu, why));
        }
        let headers = self.header_len();
        if port.headroom < headers {
            let why = format!("the headers of a datagram need {headers} bytes of it");
            return Err(Error::config("headroom", port.headroom, why));
        }
        Ok(mtu)
    }

    /// The most bytes of headers that a datagram may get.
    fn header_len(&self) -> usize {
        let v6 = self.addresses.iter().any(|net| net.addr().is_ipv6());
        let ip = if v6 { ipv6::LEN } else { ipv4::LEN };
        ethernet::header_len(self.vlan) + ip + udp::LEN
    }
}

/// What a configuration comes to that makes sense.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) local: Local,
    /// The largest IP packet, in bytes.
    pub(super) mtu: usize,
    /// The most bytes of headers that a datagram may get.
    pub(super) header_len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(MacAddr([2, 0, 0, 0, 0, 1]), 4000)
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn every_nonsense_is_named() {
        let good = || config().address(net("10.0.0.1/24"));
        let v6 = || good().address(net("fd00::1/64"));
        let router = |text: &str| text.parse::<IpAddr>().unwrap();
        let limits = |limits| good().limits(limits);
        let default = Limits::default();
        let cases = [
            ("mac", Config::new(MacAddr([1, 0, 0, 0, 0, 1]), 1).address(net("10.0.0.1/24"))),
            ("mac", Config::new(MacAddr::default(), 1).address(net("10.0.0.1/24"))),
            ("port", Config::new(MacAddr([2, 0, 0, 0, 0, 1]), 0).address(net("10.0.0.1/24"))),
            ("address", config()),
            ("address", config().address(net("224.0.0.1/24"))),
            ("address", config().address(net("::/64"))),
            ("address", good().address(net("10.0.0.1/8"))),
            ("vlan", good().vlan(0)),
            ("vlan", good().vlan(4095)),
            ("ttl", good().ttl(0)),
            ("multicast_ttl", good().multicast_ttl(0)),
            ("gateway", good().gateway(router("10.0.1.1"))),
            ("gateway", good().gateway(router("10.0.0.1"))),
            ("gateway", good().gateway(router("10.0.0.2")).gateway(router("10.0.0.3"))),
            ("mtu", good().mtu(1501)),
            ("mtu", good().vlan(5).mtu(1500)),
            ("mtu", good().mtu(67)),
            ("mtu", v6().mtu(1279)),
            ("tx_queue", limits(Limits { tx_queue: 0, ..default.clone() })),
            ("rx_burst", limits(Limits { rx_burst: 0, ..default.clone() })),
            ("rx_queue", limits(Limits { rx_queue: 0, ..default.clone() })),
            ("flows", limits(Limits { flows: 0, ..default })),
        ];
        let port = Caps::new("memory", 1514, 128);
        for (setting, mut config) in cases {
            let error = config.check(&port).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{setting} = ")), "{setting}: {error}");
        }
        let tight = Caps::new("memory", 1514, 61);
        assert!(v6().check(&tight).unwrap_err().to_string().starts_with("headroom = 61: "));
        assert!(good().check(&tight).is_ok());
    }

    #[test]
    fn sizes_follow_the_port() {
        let mtu = |config: Config, max_len| {
            let mut config = config.address(net("10.0.0.1/24"));
            config.check(&Caps::new("memory", max_len, 128)).unwrap().mtu
        };
        assert_eq!(mtu(config(), 1514), 1500);
        assert_eq!(mtu(config().vlan(7), 1514), 1496);
        assert_eq!(mtu(config(), 9014), 1500, "jumbo frames only when asked for");
        assert_eq!(mtu(config().mtu(9000), 9014), 9000);
    }
}
