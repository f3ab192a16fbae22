//! [`XdpOptions`] from what every frame backend can be opened with.

use bypass_core::backend::packet::PacketOptions;
use bypass_core::{Error, Result, Unsupported};

use super::{RingSizes, XdpOptions};
use crate::umem::UmemOptions;

impl TryFrom<&PacketOptions> for XdpOptions {
    type Error = Error;

    /// Queue 0 with every frame, like a port of the packet backend; but the kernel gets none of them.
    ///
    /// `ring` becomes the size of the RX ring, rounded up; `max_frame` beyond a chunk asks for frames of
    /// several segments; half of the pool is posted for receiving, or `rx_reserve` if that is more, for
    /// frames wait nowhere else (a packet socket has a buffer behind its pool); `send_buffer` stays what it is. `batch` and `qdisc_bypass` say nothing here:
    /// AF_XDP sends past the queueing discipline, 32 frames with a call.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for promiscuous mode, for what the machine itself sends, and for fanout.
    fn try_from(packet: &PacketOptions) -> Result<Self> {
        let asked = [
            (packet.promiscuous, "promiscuous mode", "set it: ip link set DEV promisc on"),
            (packet.outgoing, "way to receive what this machine sends", "AF_PACKET has one"),
            (packet.fanout.is_some(), "fanout", "the device spreads frames over its queues"),
        ];
        if let Some((_, what, why)) = asked.into_iter().find(|(asked, ..)| *asked) {
            let (what, why) = (what.into(), why.into());
            return Err(Unsupported { what, backend: "AF_XDP", why }.into());
        }
        let mut options = Self::new(&*packet.interface);
        options.umem = UmemOptions { pool: packet.pool.clone(), ..UmemOptions::default() };
        let too_large = |ring| {
            let why = "there is no power of two that is so large";
            Error::config("ring", ring, why)
        };
        if let Some(ring) = packet.ring {
            let rx = ring.max(1).checked_next_power_of_two().ok_or_else(|| too_large(ring))?;
            options.rings = RingSizes { rx, ..options.rings };
        }
        let posted = packet.pool.rx_reserve.max(packet.pool.chunks / 2);
        options.umem.pool.rx_reserve = posted;
        let fill = posted.checked_next_power_of_two().ok_or_else(|| too_large(posted))?;
        options.rings.fill = options.rings.fill.max(fill);
        let room = options.umem.rx_room();
        options.multi_buffer = packet.max_frame.is_some_and(|longest| longest > room);
        options.send_buffer = packet.send_buffer;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use bypass_core::backend::packet::{Fanout, FanoutMode};

    use super::*;

    #[test]
    fn what_a_packet_port_is_asked_for_is_honoured_or_refused() {
        let mut packet = PacketOptions::new("eth1");
        packet.ring = Some(1000);
        packet.pool.rx_reserve = 3000;
        packet.pool.chunks = 8192;
        packet.send_buffer = Some(1 << 20);
        packet.max_frame = Some(9014);
        let options = XdpOptions::try_from(&packet).unwrap();
        assert_eq!((options.rings.rx, options.rings.fill), (1024, 4096));
        assert_eq!(options.umem.pool.rx_reserve, 4096);
        assert_eq!((options.multi_buffer, options.send_buffer), (true, Some(1 << 20)));
        assert_eq!((&*options.interface, options.umem.pool.chunks), ("eth1", 8192));

        let fanout = Some(Fanout { group: 1, mode: FanoutMode::Hash });
        for refused in [
            PacketOptions { promiscuous: true, ..packet.clone() },
            PacketOptions { outgoing: true, ..packet.clone() },
            PacketOptions { fanout, ..packet.clone() },
        ] {
            let error = XdpOptions::try_from(&refused).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)), "{error}");
        }
        packet.ring = Some(u32::MAX);
        assert!(matches!(XdpOptions::try_from(&packet), Err(Error::Config { .. })));
    }
}
