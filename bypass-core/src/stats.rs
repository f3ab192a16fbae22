//! [`Stats`]: counters that add up, and [`DropCause`]: every way in which a packet can be lost.

use std::fmt;
use std::ops::{Add, AddAssign, Index, IndexMut};

use serde::{Serialize, Serializer};

/// The counters of an endpoint since it was opened.
///
/// They add up:
///
/// - what arrived = `rx_packets` + the receive drops, each under its cause;
/// - what `send` took = `tx_packets` + `tx_in_flight` + the send drops, each under its cause;
/// - `frames.total` = `free` + `held` + `rx_posted` + `tx_in_flight` of the [`FrameCensus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Packets handed to the application.
    pub rx_packets: u64,
    /// Their bytes, where the backend [counts them](crate::Caps::counts_bytes).
    pub rx_bytes: u64,
    /// Packets that left: the device or the kernel is done with them.
    pub tx_packets: u64,
    /// Their bytes. [`UdpOverL2`](crate::udp::UdpOverL2) counts payload, when `send` takes it: with that of
    /// datagrams in flight and of those dropped later.
    pub tx_bytes: u64,
    /// Packets that `send` took and that have neither left nor been dropped.
    pub tx_in_flight: u64,
    /// Packets lost, by cause.
    pub drops: Drops,
    /// Where the packet memory is.
    pub frames: Option<FrameCensus>,
    /// System calls made on the data path, where the backend counts them.
    pub syscalls: Option<u64>,
    /// Times that [`wait`](crate::Endpoint::wait) slept, and was woken or ran out of time, where the
    /// backend counts them.
    pub wakeups: Option<u64>,
}

impl Stats {
    /// Adds the counters of another endpoint: the sum over queues or workers.
    pub fn merge(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_in_flight += other.tx_in_flight;
        self.drops += other.drops;
        self.frames = sum(self.frames, other.frames);
        self.syscalls = sum(self.syscalls, other.syscalls);
        self.wakeups = sum(self.wakeups, other.wakeups);
    }
}

/// What is not counted adds nothing.
fn sum<T: Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// Where every buffer of a pool is; each is in exactly one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FrameCensus {
    /// Buffers in the pool.
    pub total: u64,
    /// Free to be allocated or posted for receiving.
    pub free: u64,
    /// Owned by the application: received or allocated, not yet sent or dropped.
    pub held: u64,
    /// Posted for receiving; the kernel or device writes there.
    pub rx_posted: u64,
    /// Taken for sending; the kernel or device reads there.
    pub tx_in_flight: u64,
}

impl FrameCensus {
    /// Whether every buffer is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.total == self.free + self.held + self.rx_posted + self.tx_in_flight
    }
}

impl Add for FrameCensus {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            free: self.free + other.free,
            held: self.held + other.held,
            rx_posted: self.rx_posted + other.rx_posted,
            tx_in_flight: self.tx_in_flight + other.tx_in_flight,
        }
    }
}

/// Declares the causes once: the enum, the table of all of them, and their names.
macro_rules! drop_causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was lost. Nothing is ever lost without one of these counting it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum DropCause {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropCause {
            /// Every cause, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in tables, JSON and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drop_causes! {
    /// It arrived while no buffer was free for it: the application held them all.
    RxNoFrame = "rx_no_frame",
    /// The kernel's or device's receive queue was full: the application was too slow.
    RxQueueFull = "rx_queue_full",
    /// It was longer than a buffer; a cut packet is never handed out.
    RxTruncated = "rx_truncated",
    /// The device or kernel returned a buffer that it did not own, or an impossible length.
    RxInvalid = "rx_invalid",
    /// The device or kernel reported an error on it.
    RxError = "rx_error",
    /// It was taken for sending and the device or kernel then failed to send it.
    TxError = "tx_error",
    /// It was in flight when the endpoint was closed.
    TxAborted = "tx_aborted",
    /// A fault that was ordered: see `backend::memory::Faults`.
    Injected = "injected",

    /// Shorter than its Ethernet header (and VLAN tag).
    EthernetShort = "ethernet_short",
    /// Addressed to another station, or to a group that does not fit what is inside.
    EthernetAddress = "ethernet_address",
    /// From a group, which no station is.
    EthernetSource = "ethernet_source",
    /// Neither IPv4, IPv6 nor ARP.
    EtherType = "ether_type",
    /// Tagged for another VLAN than ours, or untagged where a tag is expected.
    VlanOther = "vlan_other",
    /// More than one VLAN tag.
    VlanNested = "vlan_nested",
    /// An ARP message that is cut short or not about Ethernet and IPv4 (RFC 826).
    ArpMalformed = "arp_malformed",
    /// An ARP request or neighbour solicitation for somebody else.
    NeighbourOther = "neighbour_other",
    /// Another station says that our address is its own.
    AddressConflict = "address_conflict",
    /// A frame with several segments, where the stack reads only the first.
    MultiSegment = "multi_segment",
    /// An IP header that is cut short, or of another version than the EtherType says.
    IpHeader = "ip_header",
    /// An IPv4 header length below 20 bytes or beyond the frame (RFC 791).
    Ipv4HeaderLength = "ipv4_header_length",
    /// A total or payload length that does not fit the frame.
    IpLength = "ip_length",
    /// A wrong IPv4 header checksum.
    Ipv4Checksum = "ipv4_checksum",
    /// A fragment; the stack does not reassemble.
    IpFragment = "ip_fragment",
    /// An IPv6 extension header that the stack does not step over (RFC 8200).
    Ipv6Extension = "ipv6_extension",
    /// A source address that no other host can have (multicast, broadcast, loopback, our own).
    IpSource = "ip_source",
    /// Addressed to another host.
    IpAddress = "ip_address",
    /// Neither UDP, nor a message that the stack answers.
    IpProtocol = "ip_protocol",
    /// A UDP header that is cut short.
    UdpHeader = "udp_header",
    /// A UDP length below 8 bytes or beyond the packet (RFC 768).
    UdpLength = "udp_length",
    /// A wrong UDP checksum, or none at all over IPv6 (RFC 8200, section 8.1).
    UdpChecksum = "udp_checksum",
    /// A UDP port that nobody here listens on.
    UdpPort = "udp_port",
    /// An ICMP message that the stack does not answer.
    Icmp = "icmp",
    /// An ICMP message that is cut short (RFC 792, RFC 4443).
    IcmpMalformed = "icmp_malformed",
    /// A wrong ICMP checksum.
    IcmpChecksum = "icmp_checksum",
    /// A neighbour discovery message that breaks a rule of RFC 4861, section 7.1.
    NdpMalformed = "ndp_malformed",
    /// An IGMP message that is cut short or damaged (RFC 3376).
    IgmpMalformed = "igmp_malformed",
    /// A report of group membership by another host.
    IgmpOther = "igmp_other",
    /// A reply of the stack itself (ARP, NDP, ICMP echo) for which there was no frame or room.
    ReplyNoFrame = "reply_no_frame",
    /// Sent to a neighbour whose queue of waiting datagrams was full.
    NeighbourQueueFull = "neighbour_queue_full",
    /// Sent to a neighbour that did not answer in time.
    NeighbourTimeout = "neighbour_timeout",
}

/// Lost packets, by cause.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Drops([u64; DropCause::ALL.len()]);

impl Drops {
    /// All causes together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every cause that has counted something.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        DropCause::ALL.iter().map(|&cause| (cause, self[cause])).filter(|&(_, n)| n > 0)
    }
}

impl Serialize for Drops {
    /// A map from the name of each cause that has counted something to its count.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(cause, n)| (cause.name(), n)))
    }
}

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropCause::ALL.len()])
    }
}

impl Index<DropCause> for Drops {
    type Output = u64;

    fn index(&self, cause: DropCause) -> &u64 {
        &self.0[cause as usize]
    }
}

impl IndexMut<DropCause> for Drops {
    fn index_mut(&mut self, cause: DropCause) -> &mut u64 {
        &mut self.0[cause as usize]
    }
}

impl AddAssign for Drops {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(cause, n)| (cause.name(), n))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cause_has_its_own_counter_and_name() {
        let names: HashSet<_> = DropCause::ALL.iter().map(|cause| cause.name()).collect();
        assert_eq!(names.len(), DropCause::ALL.len());
        let mut drops = Drops::default();
        for (i, &cause) in DropCause::ALL.iter().enumerate() {
            drops[cause] += i as u64 + 1;
        }
        assert!(DropCause::ALL.iter().enumerate().all(|(i, &cause)| drops[cause] == i as u64 + 1));
    }

    #[test]
    fn merging_adds_every_field() {
        let mut one =
            Stats { rx_packets: 1, syscalls: Some(2), wakeups: Some(5), ..Stats::default() };
        one.drops[DropCause::RxError] = 3;
        let mut sum = one;
        sum.merge(&one);
        assert_eq!((sum.rx_packets, sum.syscalls, sum.drops.total()), (2, Some(4), 6));
        assert_eq!(sum.wakeups, Some(10));
    }
}
