//! [`Caps`]: what a backend does and costs, as it was obtained, not as it was asked for.

use bitflags::bitflags;

/// What an open endpoint can do, and how often it copies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// The backend's name, as in a URI: `memory`, `packet`, `socket`, `uring`, `xdp`, `dpdk`.
    pub backend: &'static str,
    /// Copies of each packet between the device's (or kernel's) buffer and the application's, on
    /// receive.
    pub rx_copies: u8,
    /// The same on send.
    pub tx_copies: u8,
    /// Whether frames go between the device and the application without any copy.
    pub zero_copy: bool,
    /// The largest packet that can be sent or received, in bytes: a whole frame for
    /// [`PacketIo`](crate::PacketIo), a payload for [`DatagramIo`](crate::DatagramIo).
    pub max_len: usize,
    /// Headroom of a buffer that [`alloc`](crate::PacketIo::alloc) hands out, in bytes.
    pub headroom: usize,
    /// The most segments in one packet; 1 where chains are not supported.
    pub max_segments: usize,
    /// Whether [`Stats`](crate::Stats) has the bytes of packets. Where a backend passes packets on by
    /// their addresses it may not look at them, and both counts stay 0.
    pub counts_bytes: bool,
    /// What it does on receive beyond moving bytes.
    pub rx_offloads: RxOffloads,
    /// What it does on send when asked.
    pub tx_offloads: TxOffloads,
    /// Fallbacks that were taken because they were allowed, each in a sentence: what was preferred,
    /// what was obtained, why.
    pub fallbacks: Vec<String>,
}

impl Caps {
    /// The least that a backend can do: one copy each way, single segments, no offload.
    #[must_use]
    pub fn new(backend: &'static str, max_len: usize, headroom: usize) -> Self {
        Self {
            backend,
            rx_copies: 1,
            tx_copies: 1,
            zero_copy: false,
            max_len,
            headroom,
            max_segments: 1,
            counts_bytes: true,
            rx_offloads: RxOffloads::empty(),
            tx_offloads: TxOffloads::empty(),
            fallbacks: Vec::new(),
        }
    }
}

bitflags! {
    /// What a backend finds out on receive.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RxOffloads: u32 {
        /// Fills [`RxMeta::checksum`](crate::RxMeta::checksum).
        const CHECKSUM = 1 << 0;
        /// Fills the receive time.
        const TIMESTAMP = 1 << 1;
        /// Fills [`RxMeta::hash`](crate::RxMeta::hash).
        const HASH = 1 << 2;
        /// Takes the VLAN tag out of the frame and fills [`RxMeta::vlan`](crate::RxMeta::vlan).
        const VLAN_STRIP = 1 << 3;
        /// Joins datagrams of one flow into a train (GRO); see
        /// [`RecvMeta::segment_size`](crate::RecvMeta::segment_size).
        const COALESCE = 1 << 4;
    }
}

bitflags! {
    /// What a backend does on send.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct TxOffloads: u32 {
        /// Fills in a checksum ([`TxMeta::checksum`](crate::TxMeta::checksum)).
        const CHECKSUM = 1 << 0;
        /// Cuts a train into packets (TSO, USO, UDP GSO).
        const SEGMENTATION = 1 << 1;
        /// Sends at a stated time ([`TxMeta::launch_time`](crate::TxMeta::launch_time)).
        const LAUNCH_TIME = 1 << 2;
        /// Tells when a packet was sent ([`TxMeta::timestamp`](crate::TxMeta::timestamp)).
        const TIMESTAMP = 1 << 3;
    }
}
