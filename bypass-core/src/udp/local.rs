//! [`Local`]: who the endpoint is, as the data path asks for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::wire::ipv4::is_host;
use super::wire::{ethernet, ipv6};
use crate::{MacAddr, VlanTag};

/// Addresses, groups, port and VLAN of an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) mac: MacAddr,
    pub(super) port: u16,
    /// The identifier of our VLAN.
    pub(super) vlan: Option<u16>,
    /// Our addresses, each with its on-link prefix; at least one.
    pub(super) addresses: Vec<IpNet>,
    /// Those of IPv4 again, each with what reaches its whole network: the data path asks for them.
    pub(super) hosts_v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Those of IPv6 again.
    pub(super) hosts_v6: Vec<Ipv6Addr>,
    /// Routers for what is not on the link, at most one of each family.
    pub(super) gateways: Vec<IpAddr>,
    /// Groups that were joined.
    pub(super) groups: Vec<IpAddr>,
}

/// To whom a packet is addressed, as far as it is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// To us alone.
    Unicast,
    /// To a group of which we are, or to all.
    Group,
}

impl Local {
    pub(super) fn new(
        mac: MacAddr,
        port: u16,
        vlan: Option<u16>,
        addresses: Vec<IpNet>,
        gateways: Vec<IpAddr>,
    ) -> Self {
        let hosts_v4 = addresses.iter().filter_map(|net| match net {
            // Prefixes of 31 and 32 bits have no broadcast address (RFC 3021).
            IpNet::V4(net) if net.prefix_len() > 30 => Some((net.addr(), Ipv4Addr::BROADCAST)),
            IpNet::V4(net) => Some((net.addr(), net.broadcast())),
            IpNet::V6(_) => None,
        });
        let hosts_v6 = addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip),
        });
        Self {
            hosts_v4: hosts_v4.collect(),
            hosts_v6: hosts_v6.collect(),
            groups: Vec::new(),
            mac,
            port,
            vlan,
            addresses,
            gateways,
        }
    }

    /// Whether a frame with this tag is of our VLAN. The identifier 0 stands for "no VLAN, only a
    /// priority" (802.1Q).
    #[inline(always)]
    pub(super) fn is_our_vlan(&self, tag: Option<VlanTag>) -> bool {
        let vlan = match tag {
            None => return self.vlan.is_none(),
            Some(VlanTag { tpid: ethernet::VLAN, tci }) => tci & 0xfff,
            Some(_) => return false,
        };
        vlan == self.vlan.unwrap_or(0)
    }

    /// Our first address of IPv4.
    pub(super) fn first_v4(&self) -> Option<Ipv4Addr> {
        self.hosts_v4.first().map(|&(ip, _)| ip)
    }

    pub(super) fn is_ours(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.hosts_v4.iter().any(|&(host, _)| host == ip),
            IpAddr::V6(ip) => self.hosts_v6.contains(&ip),
        }
    }

    /// Whether an IPv4 packet to `ip` is for us.
    #[inline]
    pub(super) fn accepts_v4(&self, ip: Ipv4Addr) -> Option<Cast> {
        if self.is_ours(ip.into()) {
            return Some(Cast::Unicast);
        }
        let group = if ip.is_multicast() {
            self.groups.contains(&ip.into())
        } else {
            self.is_broadcast(ip)
        };
        group.then_some(Cast::Group)
    }

    /// Whether an IPv6 packet to `ip` is for us.
    #[inline]
    pub(super) fn accepts_v6(&self, ip: Ipv6Addr) -> Option<Cast> {
        if self.hosts_v6.contains(&ip) {
            return Some(Cast::Unicast);
        }
        let group = ip.is_multicast()
            && (ip == ipv6::ALL_NODES
                || self.hosts_v6.iter().any(|host| ipv6::solicited_node(*host) == ip)
                || self.groups.contains(&ip.into()));
        group.then_some(Cast::Group)
    }

    /// Whether a packet from `ip` can come from another host.
    #[inline]
    pub(super) fn believes_v4(&self, ip: Ipv4Addr) -> bool {
        is_host(ip.octets())
            && !self.hosts_v4.iter().any(|&(host, broadcast)| ip == host || ip == broadcast)
    }

    /// Whether a packet from `ip` can come from another host.
    #[inline]
    pub(super) fn believes_v6(&self, ip: Ipv6Addr) -> bool {
        !ip.is_unspecified() && !self.hosts_v6.contains(&ip)
    }

    /// Whether `ip` reaches every host of our network.
    pub(super) fn is_broadcast(&self, ip: Ipv4Addr) -> bool {
        ip.is_broadcast() || self.hosts_v4.iter().any(|&(_, broadcast)| ip == broadcast)
    }

    /// Our address to send to `destination` from: of the family and, if possible, of the network
    /// or the scope of the destination.
    pub(super) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let scoped = is_link_local(destination);
        let rank = |net: &&IpNet| (net.contains(&destination), is_link_local(net.addr()) == scoped);
        let family =
            self.addresses.iter().filter(|net| net.addr().is_ipv4() == destination.is_ipv4());
        // Of equals the first wins: the order of the configuration.
        family.rev().max_by_key(rank).map(IpNet::addr)
    }

    /// The host on the link that packets to `destination` are handed to.
    pub(super) fn hop_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let on_link = is_link_local(destination)
            || self.addresses.iter().any(|net| net.contains(&destination));
        if on_link {
            return Some(destination);
        }
        self.gateways.iter().copied().find(|hop| hop.is_ipv4() == destination.is_ipv4())
    }
}

/// Whether an address has a meaning on one link only: `fe80::/10`, and the groups of that scope.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.segments()[0] & 0xff0f == 0xff02,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local {
        let nets = ["10.1.0.1/16", "192.168.7.9/24", "fe80::9/64", "fd00::9/64"];
        let addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let mut local = Local::new(mac, 4000, None, addresses, vec![ip("10.1.0.254")]);
        local.groups = vec![ip("239.1.2.3"), ip("ff05::77")];
        local
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_source_is_of_the_network_of_the_destination() {
        let local = local();
        let source = |to: &str| local.source_for(ip(to)).unwrap();
        assert_eq!(source("192.168.7.200"), ip("192.168.7.9"));
        assert_eq!(source("10.1.2.3"), ip("10.1.0.1"));
        assert_eq!(source("1.1.1.1"), ip("10.1.0.1"), "the first, when none fits better");
        assert_eq!(source("fd00::1"), ip("fd00::9"));
        assert_eq!(source("2001:db8::1"), ip("fd00::9"), "a link-local source gets no answer");
        assert_eq!(source("fe80::1"), ip("fe80::9"));
        assert_eq!(source("ff02::1"), ip("fe80::9"));
        assert_eq!(source("ff05::77"), ip("fd00::9"));
    }

    #[test]
    fn off_the_link_the_way_is_the_gateway() {
        let local = local();
        assert_eq!(local.hop_for(ip("192.168.7.1")), Some(ip("192.168.7.1")));
        assert_eq!(local.hop_for(ip("1.1.1.1")), Some(ip("10.1.0.254")));
        assert_eq!(local.hop_for(ip("fe80::1")), Some(ip("fe80::1")));
        assert_eq!(local.hop_for(ip("2001:db8::1")), None);
    }

    #[test]
    fn only_what_is_addressed_to_us_is_accepted() {
        let local = local();
        let v4 = |to: [u8; 4]| local.accepts_v4(to.into());
        assert_eq!(v4([10, 1, 0, 1]), Some(Cast::Unicast));
        assert_eq!(v4([10, 1, 0, 2]), None);
        assert_eq!(v4([10, 1, 255, 255]), Some(Cast::Group));
        assert_eq!(v4([255; 4]), Some(Cast::Group));
        assert_eq!(v4([239, 1, 2, 3]), Some(Cast::Group));
        assert_eq!(v4([239, 1, 2, 4]), None);
        assert!(local.believes_v4([10, 1, 0, 2].into()));
        for source in [[10, 1, 0, 1], [10, 1, 255, 255], [127, 0, 0, 1], [0; 4], [224, 0, 0, 1]] {
            assert!(!local.believes_v4(source.into()), "{source:?}");
        }
        let v6 = |to: &str| local.accepts_v6(to.parse().unwrap());
        assert_eq!(v6("fd00::9"), Some(Cast::Unicast));
        assert_eq!(v6("fd00::8"), None);
        assert_eq!(v6("ff02::1:ff00:9"), Some(Cast::Group));
        assert_eq!(v6("ff02::1:ff00:8"), None);
        assert_eq!(v6("ff02::1"), Some(Cast::Group));
        assert_eq!(v6("ff05::77"), Some(Cast::Group));
    }

    #[test]
    fn tags_are_compared_by_identifier() {
        let tag = |tpid, tci| Some(VlanTag { tpid, tci });
        let mut local = local();
        assert!(local.is_our_vlan(None) && local.is_our_vlan(tag(0x8100, 0xe000)));
        assert!(!local.is_our_vlan(tag(0x8100, 5)));
        local.vlan = Some(5);
        assert!(local.is_our_vlan(tag(0x8100, 0x2005)));
        assert!(!local.is_our_vlan(None) && !local.is_our_vlan(tag(0x8100, 0)));
        assert!(!local.is_our_vlan(tag(0x88a8, 5)));
    }
}
