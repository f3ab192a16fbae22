//! What the stack counts, and how that adds up with what the port counts.

use super::UdpOverL2;
use crate::{DropCause, Drops, FrameCensus, PacketIo, Stats};

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
    /// Of datagrams that `send` took.
    tx_bytes: u64,
    pub(super) drops: Drops,
    /// ARP, NDP, ICMP and IGMP messages that were understood.
    pub(super) control_received: u64,
    /// Messages of the stack itself that were queued for the port.
    pub(super) control_sent: u64,
    /// Datagrams that went out with their headers turned around in place.
    pub(super) turned: u64,
    /// Datagrams whose flow had to be looked up.
    pub(super) flow_misses: u64,
}

impl Counters {
    pub(super) fn drop(&mut self, cause: DropCause) {
        self.drops[cause] += 1;
    }

    /// `send` took a datagram of so many bytes.
    #[inline(always)]
    pub(super) fn accept(&mut self, len: usize) {
        self.tx_bytes += len as u64;
    }

    pub(super) fn visit(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("control_received", self.control_received);
        visit("control_sent", self.control_sent);
        visit("turned_in_place", self.turned);
        visit("flow_misses", self.flow_misses);
    }
}

impl<P: PacketIo, N> UdpOverL2<P, N> {
    /// The port's counters seen from above.
    ///
    /// - What the port received = `rx_packets` + `control_received` + the drops of the stack + the
    ///   few frames that it has not looked at yet.
    /// - What `send` took = `tx_packets` + `tx_in_flight` + the send drops. The port cannot tell
    ///   the stack's own messages from datagrams, so of what has left they count as the first.
    /// - Bytes are payload; those sent are counted when the datagram is queued.
    pub(super) fn collect_stats(&self) -> Stats {
        let port = self.port.stats();
        let queued = (self.tx.len() + self.parked.len()) as u64;
        let in_flight = port.tx_in_flight + queued;
        let own = self.counters.control_sent;
        let own_in_flight = own.saturating_sub(port.tx_packets);
        let mut drops = port.drops;
        drops += self.counters.drops;
        let frames = port.frames.map(|census| {
            let queued = queued.min(census.held);
            FrameCensus {
                held: census.held - queued,
                tx_in_flight: census.tx_in_flight + queued,
                ..census
            }
        });
        Stats {
            rx_packets: self.counters.rx_packets,
            rx_bytes: self.counters.rx_bytes,
            tx_packets: port.tx_packets.saturating_sub(own),
            tx_bytes: self.counters.tx_bytes,
            tx_in_flight: in_flight.saturating_sub(own_in_flight),
            drops,
            frames,
            syscalls: port.syscalls,
            wakeups: port.wakeups,
        }
    }
}
