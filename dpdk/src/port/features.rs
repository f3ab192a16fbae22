//! What a port can do beyond moving bytes: [`Features`], [`RssTypes`].

use bitflags::bitflags;
use bypass_dpdk_sys as sys;

bitflags! {
    /// Abilities of a port that have to be asked for when it is started.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// Verifies the checksum of IPv4 headers on receive.
        const RX_IP_CHECKSUM = 1 << 0;
        /// Verifies the checksums of TCP and UDP on receive.
        const RX_L4_CHECKSUM = 1 << 1;
        /// Takes the VLAN tag out of received packets: [`RxMeta::vlan`](bypass_core::RxMeta::vlan).
        const RX_VLAN_STRIP = 1 << 2;
        /// Receives packets that are longer than an mbuf into chains of them.
        const RX_SCATTER = 1 << 3;
        /// Tells the RSS hash: [`RxMeta::hash`](bypass_core::RxMeta::hash).
        const RX_HASH = 1 << 4;
        /// Tells when packets arrived: [`RxMeta::timestamp`](bypass_core::RxMeta::timestamp).
        const RX_TIMESTAMP = 1 << 5;
        /// Joins TCP segments of one stream.
        const RX_LRO = 1 << 6;
        /// Fills in the checksum of IPv4 headers on send.
        const TX_IP_CHECKSUM = 1 << 16;
        /// Fills in the checksums of TCP and UDP on send.
        const TX_L4_CHECKSUM = 1 << 17;
        /// Cuts TCP data into segments on send (TSO).
        const TX_TCP_SEGMENTATION = 1 << 18;
        /// Cuts UDP data into datagrams on send (USO).
        const TX_UDP_SEGMENTATION = 1 << 19;
        /// Inserts a VLAN tag on send.
        const TX_VLAN_INSERT = 1 << 20;
        /// Sends packets of several segments.
        const TX_MULTI_SEGMENT = 1 << 21;
    }
}

/// Each feature, and what the driver calls it: on receive, on send.
const NAMES: &[(Features, u64, u64)] = &[
    (Features::RX_IP_CHECKSUM, sys::RTE_ETH_RX_OFFLOAD_IPV4_CKSUM, 0),
    (
        Features::RX_L4_CHECKSUM,
        sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM | sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM,
        0,
    ),
    (Features::RX_VLAN_STRIP, sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP, 0),
    (Features::RX_SCATTER, sys::RTE_ETH_RX_OFFLOAD_SCATTER, 0),
    (Features::RX_HASH, sys::RTE_ETH_RX_OFFLOAD_RSS_HASH, 0),
    (Features::RX_TIMESTAMP, sys::RTE_ETH_RX_OFFLOAD_TIMESTAMP, 0),
    (Features::RX_LRO, sys::RTE_ETH_RX_OFFLOAD_TCP_LRO, 0),
    (Features::TX_IP_CHECKSUM, 0, sys::RTE_ETH_TX_OFFLOAD_IPV4_CKSUM),
    (
        Features::TX_L4_CHECKSUM,
        0,
        sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM | sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM,
    ),
    (Features::TX_TCP_SEGMENTATION, 0, sys::RTE_ETH_TX_OFFLOAD_TCP_TSO),
    (Features::TX_UDP_SEGMENTATION, 0, sys::RTE_ETH_TX_OFFLOAD_UDP_TSO),
    (Features::TX_VLAN_INSERT, 0, sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT),
    (Features::TX_MULTI_SEGMENT, 0, sys::RTE_ETH_TX_OFFLOAD_MULTI_SEGS),
];

impl Features {
    /// What a driver with these abilities has.
    pub(crate) fn of(rx: u64, tx: u64) -> Self {
        let has = |&&(_, in_rx, in_tx): &&(Self, u64, u64)| in_rx & !rx == 0 && in_tx & !tx == 0;
        NAMES.iter().filter(has).map(|&(feature, ..)| feature).collect()
    }

    /// What to ask of the driver: on receive, on send.
    pub(crate) fn offloads(self) -> (u64, u64) {
        let asked = NAMES.iter().filter(|(feature, ..)| self.contains(*feature));
        asked.fold((0, 0), |(rx, tx), &(_, in_rx, in_tx)| (rx | in_rx, tx | in_tx))
    }

    /// The names of those that are set, for messages.
    pub(crate) fn names(self) -> String {
        self.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    }
}

bitflags! {
    /// What packets are spread over queues by (receive side scaling).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RssTypes: u64 {
        /// Addresses of IPv4 and IPv6.
        const IP = sys::RTE_ETH_RSS_IPV4 | sys::RTE_ETH_RSS_IPV6 | sys::RTE_ETH_RSS_FRAG_IPV4
            | sys::RTE_ETH_RSS_FRAG_IPV6 | sys::RTE_ETH_RSS_NONFRAG_IPV4_OTHER
            | sys::RTE_ETH_RSS_NONFRAG_IPV6_OTHER;
        /// Addresses and ports of TCP.
        const TCP = sys::RTE_ETH_RSS_NONFRAG_IPV4_TCP | sys::RTE_ETH_RSS_NONFRAG_IPV6_TCP;
        /// Addresses and ports of UDP.
        const UDP = sys::RTE_ETH_RSS_NONFRAG_IPV4_UDP | sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP;
        /// Addresses and ports of SCTP.
        const SCTP = sys::RTE_ETH_RSS_NONFRAG_IPV4_SCTP | sys::RTE_ETH_RSS_NONFRAG_IPV6_SCTP;
        /// Others of DPDK's `RTE_ETH_RSS_*`.
        const _ = !0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_its_name_at_the_driver() {
        for feature in Features::all().iter() {
            let (rx, tx) = feature.offloads();
            assert_eq!(Features::of(rx, tx), feature);
        }
        let (rx, tx) = Features::all().offloads();
        assert_eq!(Features::of(rx, tx), Features::all());
        let half = sys::RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
        assert_eq!(Features::of(half, 0), Features::empty(), "UDP is part of it too");
    }
}
