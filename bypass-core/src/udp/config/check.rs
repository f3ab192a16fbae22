//! Whether a configuration makes sense, alone and on the port that it is for.

use std::net::IpAddr;

use super::{Config, Limits};
use crate::udp::local::Local;
use crate::udp::wire::{ethernet, ipv4, ipv6, udp};
use crate::{Caps, Error, MacAddr, Result};

/// The largest packet on Ethernet, unless jumbo frames were agreed on.
const ETHERNET_MTU: usize = 1500;

/// What a configuration comes to that makes sense.
#[derive(Debug)]
pub(in crate::udp) struct Checked {
    pub(in crate::udp) local: Local,
    /// The largest IP packet, in bytes.
    pub(in crate::udp) mtu: usize,
    /// The most bytes of headers that a datagram may get.
    pub(in crate::udp) header_len: usize,
}

impl<N> Config<N> {
    /// Checks everything, for a port of these abilities.
    pub(in crate::udp) fn check(&mut self, port: &Caps) -> Result<Checked> {
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

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

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
