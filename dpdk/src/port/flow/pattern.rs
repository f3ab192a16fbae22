//! [`Item`]: what packets have to look like.

use bypass_core::MacAddr;
use bypass_dpdk_sys as sys;
use ipnet::{Ipv4Net, Ipv6Net};

/// A header that a packet has, and what is in it. `None` stands for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Ethernet.
    Ethernet {
        /// Where the packet goes.
        destination: Option<MacAddr>,
        /// Where it comes from.
        source: Option<MacAddr>,
        /// What follows.
        ether_type: Option<u16>,
    },
    /// An IEEE 802.1Q tag.
    Vlan {
        /// The VLAN's number, below 4096.
        id: Option<u16>,
    },
    /// IPv4.
    Ipv4 {
        /// Where the packet comes from.
        source: Option<Ipv4Net>,
        /// Where it goes.
        destination: Option<Ipv4Net>,
        /// What follows.
        protocol: Option<u8>,
    },
    /// IPv6.
    Ipv6 {
        /// Where the packet comes from.
        source: Option<Ipv6Net>,
        /// Where it goes.
        destination: Option<Ipv6Net>,
        /// What follows.
        next_header: Option<u8>,
    },
    /// UDP.
    Udp {
        /// The port that the packet comes from.
        source: Option<u16>,
        /// The port that it goes to.
        destination: Option<u16>,
    },
    /// TCP.
    Tcp {
        /// The port that the packet comes from.
        source: Option<u16>,
        /// The port that it goes to.
        destination: Option<u16>,
    },
}

/// Room for the largest of the headers, aligned for each of them.
type Header = [u64; 8];

/// An [`Item`] as drivers want it: the header on the wire, and which of its bits count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded {
    pub(super) kind: sys::rte_flow_item_type,
    pub(super) spec: Header,
    pub(super) mask: Header,
}

const _: () = assert!(
    size_of::<sys::rte_flow_item_eth>() <= size_of::<Header>()
        && size_of::<sys::rte_flow_item_vlan>() <= size_of::<Header>()
        && size_of::<sys::rte_flow_item_ipv4>() <= size_of::<Header>()
        && size_of::<sys::rte_flow_item_ipv6>() <= size_of::<Header>()
        && size_of::<sys::rte_flow_item_udp>() <= size_of::<Header>()
        && size_of::<sys::rte_flow_item_tcp>() <= size_of::<Header>(),
    "a header has more bytes"
);

/// A header that is put together.
struct Bytes {
    spec: [u8; size_of::<Header>()],
    mask: [u8; size_of::<Header>()],
}

impl Bytes {
    /// The bytes from `at` on are these, where `mask` has ones.
    fn put(mut self, at: usize, spec: &[u8], mask: &[u8]) -> Self {
        for (i, (&spec, &mask)) in spec.iter().zip(mask).enumerate() {
            self.spec[at + i] = spec & mask;
            self.mask[at + i] = mask;
        }
        self
    }

    fn exactly(self, at: usize, spec: Option<&[u8]>) -> Self {
        match spec {
            Some(spec) => self.put(at, spec, &[0xff; 16]),
            None => self,
        }
    }

    fn of(self, kind: sys::rte_flow_item_type) -> Encoded {
        let words = |bytes: [u8; size_of::<Header>()]| {
            let mut words = Header::default();
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_ne_bytes(*bytes);
            }
            words
        };
        Encoded { kind, spec: words(self.spec), mask: words(self.mask) }
    }
}

impl Item {
    pub(super) fn encode(self) -> Encoded {
        let bytes = Bytes { spec: [0; _], mask: [0; _] };
        let number = |number: Option<u16>| number.map(u16::to_be_bytes);
        match self {
            Self::Ethernet { destination, source, ether_type } => bytes
                .exactly(0, destination.as_ref().map(|address| &address.0[..]))
                .exactly(6, source.as_ref().map(|address| &address.0[..]))
                .exactly(12, number(ether_type).as_ref().map(|kind| &kind[..]))
                .of(sys::RTE_FLOW_ITEM_TYPE_ETH),
            Self::Vlan { id } => match id {
                Some(id) => bytes.put(0, &id.to_be_bytes(), &0xfff_u16.to_be_bytes()),
                None => bytes,
            }
            .of(sys::RTE_FLOW_ITEM_TYPE_VLAN),
            Self::Ipv4 { source, destination, protocol } => {
                let net = |bytes: Bytes, at, net: Option<Ipv4Net>| match net {
                    Some(net) => bytes.put(at, &net.addr().octets(), &net.netmask().octets()),
                    None => bytes,
                };
                let bytes = bytes.exactly(9, protocol.as_ref().map(std::slice::from_ref));
                net(net(bytes, 12, source), 16, destination).of(sys::RTE_FLOW_ITEM_TYPE_IPV4)
            }
            Self::Ipv6 { source, destination, next_header } => {
                let net = |bytes: Bytes, at, net: Option<Ipv6Net>| match net {
                    Some(net) => bytes.put(at, &net.addr().octets(), &net.netmask().octets()),
                    None => bytes,
                };
                let bytes = bytes.exactly(6, next_header.as_ref().map(std::slice::from_ref));
                net(net(bytes, 8, source), 24, destination).of(sys::RTE_FLOW_ITEM_TYPE_IPV6)
            }
            Self::Udp { source, destination } => bytes
                .exactly(0, number(source).as_ref().map(|port| &port[..]))
                .exactly(2, number(destination).as_ref().map(|port| &port[..]))
                .of(sys::RTE_FLOW_ITEM_TYPE_UDP),
            Self::Tcp { source, destination } => bytes
                .exactly(0, number(source).as_ref().map(|port| &port[..]))
                .exactly(2, number(destination).as_ref().map(|port| &port[..]))
                .of(sys::RTE_FLOW_ITEM_TYPE_TCP),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    fn bytes(header: Header) -> Vec<u8> {
        header.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn headers_lie_where_dpdk_has_them() {
        assert_eq!(offset_of!(sys::rte_ipv4_hdr, next_proto_id), 9);
        assert_eq!(offset_of!(sys::rte_ipv4_hdr, src_addr), 12);
        assert_eq!(offset_of!(sys::rte_ipv4_hdr, dst_addr), 16);
        assert_eq!(offset_of!(sys::rte_ipv6_hdr, proto), 6);
        assert_eq!(offset_of!(sys::rte_ipv6_hdr, src_addr), 8);
        assert_eq!(offset_of!(sys::rte_ipv6_hdr, dst_addr), 24);
        assert_eq!(offset_of!(sys::rte_udp_hdr, dst_port), 2);
        assert_eq!(offset_of!(sys::rte_tcp_hdr, dst_port), 2);
    }

    #[test]
    fn what_is_asked_for_is_masked_and_nothing_else() {
        let item = Item::Ipv4 {
            source: Some("10.1.2.3/24".parse().unwrap()),
            destination: None,
            protocol: Some(17),
        };
        let encoded = item.encode();
        let (spec, mask) = (bytes(encoded.spec), bytes(encoded.mask));
        assert_eq!((&spec[9..10], &mask[9..10]), (&[17][..], &[0xff][..]));
        assert_eq!((&spec[12..16], &mask[12..16]), (&[10, 1, 2, 0][..], &[255, 255, 255, 0][..]));
        assert!(mask[..9].iter().chain(&mask[16..]).all(|&byte| byte == 0));

        let vlan = Item::Vlan { id: Some(5) }.encode();
        assert_eq!(
            (&bytes(vlan.spec)[..2], &bytes(vlan.mask)[..2]),
            (&[0, 5][..], &[0xf, 0xff][..])
        );
        let udp = Item::Udp { source: None, destination: Some(53) }.encode();
        assert_eq!(bytes(udp.spec)[..4], [0, 0, 0, 53]);
        assert_eq!(bytes(udp.mask)[..4], [0, 0, 0xff, 0xff]);
        let any = Item::Ethernet { destination: None, source: None, ether_type: None }.encode();
        assert_eq!((any.spec, any.mask), (Header::default(), Header::default()));
    }
}
