//! [`FlowRule`]: packets that go to a queue of their own.

use std::net::IpAddr;

use super::sys::FlowSpec;
use crate::program::Transport;

pub(super) const TCP_V4: u32 = 1;
pub(super) const UDP_V4: u32 = 2;
pub(super) const TCP_V6: u32 = 5;
pub(super) const UDP_V6: u32 = 6;
/// The driver picks the place in its table of rules.
pub(super) const ANYWHERE: u32 = 0xffff_ffff;

/// Sends the packets of one kind to a queue: `ethtool -N eth0 flow-type udp4 dst-port 4000 action 3`.
///
/// ```
/// use bypass_xdp::program::Transport;
/// use bypass_xdp::steer::FlowRule;
///
/// let rule = FlowRule::new(Transport::Udp, 4000, 3).to([10, 0, 0, 2]);
/// assert_eq!(rule.queue, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowRule {
    /// The transport protocol.
    pub transport: Transport,
    /// The destination port.
    pub port: u16,
    /// The destination address; without one, every IPv4 address.
    pub address: Option<IpAddr>,
    /// The queue.
    pub queue: u32,
    /// Where the rule lies in the device's table, in which the first that fits decides; without one,
    /// the driver picks a place (not all can).
    pub location: Option<u32>,
}

impl FlowRule {
    /// Sends what goes to a port over IPv4 to a queue.
    #[must_use]
    pub fn new(transport: Transport, port: u16, queue: u32) -> Self {
        Self { transport, port, address: None, queue, location: None }
    }

    /// Only what goes to this address, which may be an IPv6 one.
    #[must_use]
    pub fn to(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Puts the rule at a place in the device's table.
    #[must_use]
    pub fn at(mut self, location: u32) -> Self {
        self.location = Some(location);
        self
    }

    /// `struct ethtool_tcpip4_spec` or `struct ethtool_tcpip6_spec`, and the same as a mask.
    pub(super) fn spec(&self) -> FlowSpec {
        let (mut fields, mut mask) = ([0; 52], [0; 52]);
        let mut set = |at: usize, bytes: &[u8]| {
            fields[at..at + bytes.len()].copy_from_slice(bytes);
            mask[at..at + bytes.len()].fill(0xff);
        };
        let port = self.port.to_be_bytes();
        let v6 = match self.address {
            None => {
                set(10, &port);
                false
            }
            Some(IpAddr::V4(address)) => {
                set(4, &address.octets());
                set(10, &port);
                false
            }
            Some(IpAddr::V6(address)) => {
                set(16, &address.octets());
                set(34, &port);
                true
            }
        };
        FlowSpec {
            flow_type: match (self.transport, v6) {
                (Transport::Tcp, false) => TCP_V4,
                (Transport::Udp, false) => UDP_V4,
                (Transport::Tcp, true) => TCP_V6,
                (Transport::Udp, true) => UDP_V6,
            },
            fields,
            extension: [0; 20],
            mask,
            mask_extension: [0; 20],
            queue: self.queue.into(),
            location: self.location.unwrap_or(ANYWHERE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_what_it_matches_and_nothing_else() {
        let spec = FlowRule::new(Transport::Udp, 4000, 3).spec();
        assert_eq!((spec.flow_type, spec.queue, spec.location), (UDP_V4, 3, ANYWHERE));
        assert_eq!(&spec.fields[..12], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0xa0]);
        assert_eq!(&spec.mask[..12], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert_eq!(spec.mask.iter().filter(|byte| **byte != 0).count(), 2);

        let spec = FlowRule::new(Transport::Tcp, 80, 0).to([10, 0, 0, 2]).at(7).spec();
        assert_eq!((spec.flow_type, spec.location), (TCP_V4, 7));
        assert_eq!(&spec.fields[4..8], &[10, 0, 0, 2]);
        assert_eq!(spec.mask.iter().filter(|byte| **byte != 0).count(), 6);

        let address: std::net::Ipv6Addr = "fd66::2".parse().unwrap();
        let spec = FlowRule::new(Transport::Udp, 1, 0).to(address).spec();
        assert_eq!(spec.flow_type, UDP_V6);
        assert_eq!(spec.fields[16..32], address.octets());
        assert_eq!(spec.fields[34..36], [0, 1]);
    }
}
