//! [`Filter`]: which frames an interface's sockets take.

use ipnet::IpNet;

/// The transport protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 768.
    Udp,
    /// RFC 9293.
    Tcp,
}

/// The frames that go to the sockets. A frame is taken when any of the rules names it; all others go
/// to the kernel, as if no program were there.
///
/// ```
/// use bypass_xdp::program::Filter;
///
/// // Port 4000 at every address, the name service at one address, and the PTP messages.
/// let filter = Filter::new()
///     .udp([4000])
///     .udp_at("10.0.0.2/32".parse()?, [53])
///     .ether_type(0x88f7);
/// assert!(!filter.takes_all_ip());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How frames are judged
///
/// - Up to two VLAN tags (802.1Q, 802.1ad) are stepped over; the EtherType is the one behind them.
///   A tag that the device has taken off is not seen.
/// - Ports are destination ports, addresses are destination addresses.
/// - IPv4 options are stepped over, and up to four IPv6 extension headers (hop-by-hop, routing,
///   destination, authentication, and the fragment header of a packet that is whole).
/// - Of a fragmented packet **all** fragments go to the kernel where the rule is about ports, for
///   only the first one has any; the kernel can then put the packet together, which the application
///   does not get. A rule without ports takes fragments like everything else.
/// - What is cut short or contradicts itself goes to the kernel, which knows how to count it. Lengths
///   and checksums inside the packet are not looked at: they are the receiver's to check.
/// - [`everything`](Self::everything) takes what cannot be read, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Everything,
    EtherType(u16),
    /// Everything to a prefix.
    To(IpNet),
    Port {
        to: Option<IpNet>,
        transport: Transport,
        port: u16,
    },
}

impl Filter {
    /// Takes nothing; rules are added to it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes every frame. The kernel then sees nothing of what arrives on the interface's queues
    /// that have a socket, not even ARP.
    #[must_use]
    pub fn everything() -> Self {
        Self { rules: vec![Rule::Everything] }
    }

    /// Takes UDP datagrams to these ports, at every address.
    #[must_use]
    pub fn udp(self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports(None, Transport::Udp, ports)
    }

    /// Takes TCP segments to these ports, at every address.
    #[must_use]
    pub fn tcp(self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports(None, Transport::Tcp, ports)
    }

    /// Takes UDP datagrams to these ports at the addresses of a prefix.
    #[must_use]
    pub fn udp_at(self, to: IpNet, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports(Some(to), Transport::Udp, ports)
    }

    /// Takes TCP segments to these ports at the addresses of a prefix.
    #[must_use]
    pub fn tcp_at(self, to: IpNet, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports(Some(to), Transport::Tcp, ports)
    }

    /// Takes every packet to the addresses of a prefix: every protocol, and fragments. (The kernel
    /// still answers ARP and neighbour solicitations, unless their packets are named, too.)
    #[must_use]
    pub fn to(mut self, prefix: IpNet) -> Self {
        self.rules.push(Rule::To(prefix.trunc()));
        self
    }

    /// Takes every frame of an EtherType, such as 0x0806 (ARP).
    #[must_use]
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.rules.push(Rule::EtherType(ether_type));
        self
    }

    /// Whether all packets of IPv4 or IPv6 are taken, or all of ARP, without which there is no IPv4.
    #[must_use]
    pub fn takes_all_ip(&self) -> bool {
        self.rules.iter().any(|rule| match rule {
            Rule::Everything | Rule::EtherType(0x0800 | 0x0806 | 0x86dd) => true,
            Rule::To(prefix) => prefix.prefix_len() == 0,
            Rule::EtherType(_) | Rule::Port { .. } => false,
        })
    }

    fn ports(
        mut self,
        to: Option<IpNet>,
        transport: Transport,
        ports: impl IntoIterator<Item = u16>,
    ) -> Self {
        let to = to.map(|prefix| prefix.trunc());
        self.rules.extend(ports.into_iter().map(|port| Rule::Port { to, transport, port }));
        self
    }
}
