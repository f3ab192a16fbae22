//! What the stack answers itself, and what it asks: ARP, NDP, ICMP echo.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use zerocopy::IntoBytes;

use super::{UdpOverL2, clock};
use crate::udp::inspect::Message;
use crate::udp::local::Cast;
use crate::udp::neighbours::{Heard, Neighbours, Occasion};
use crate::udp::wire::arp::{self, Arp};
use crate::udp::wire::envelope::{Hosts, Stations, frame_up, wrap};
use crate::udp::wire::{Address, ethernet, icmp, igmp, ipv6, mld, ndp, protocol};
use crate::{Buffer, DropCause, MacAddr, OutOfRoom, PacketIo};

/// What handling a message comes to: it was handled, or counted under a cause.
pub(super) type Handled = Result<(), DropCause>;

impl<P: PacketIo, N: Neighbours> UdpOverL2<P, N> {
    pub(super) fn on_arp(&mut self, frame: P::Frame, message: &Arp) -> Handled {
        let (station, host) = message.sender();
        let target = message.target();
        if self.local.is_ours(host.into()) {
            return self.on_claim(Some(station));
        }
        let is_request = message.operation.get() == arp::REQUEST;
        let occasion = match (self.local.is_ours(target.into()), is_request) {
            (true, true) => Occasion::Request,
            (true, false) => Occasion::Reply { replace: true },
            (false, _) => Occasion::Announcement,
        };
        // Who tries an address for itself has none yet (RFC 5227).
        if !host.is_unspecified() {
            self.hear(Heard { host: host.into(), station: Some(station), occasion });
        }
        match occasion {
            Occasion::Request if self.neighbours.stack_answers() => {
                let ours = (self.local.mac, target);
                let reply = Arp::new(arp::REPLY, ours, (station, host));
                self.send_arp(frame, &reply, station)
            }
            Occasion::Announcement if target != host => Err(DropCause::NeighbourOther),
            _ => Ok(()),
        }
    }

    /// Somebody says that an address of ours is at `station`. Where it is, too, that is no conflict (RFC
    /// 5227, section 2.4): some ports hear what the kernel beside them sends.
    fn on_claim(&self, station: Option<MacAddr>) -> Handled {
        if station == Some(self.local.mac) { Ok(()) } else { Err(DropCause::AddressConflict) }
    }

    pub(super) fn on_message(&mut self, frame: P::Frame, message: &Message) -> Handled {
        let start = message.start.min(frame.data().len());
        let bytes = &frame.data()[start..message.end.max(start)];
        match (message.protocol, bytes.first().copied().unwrap_or_default()) {
            (protocol::ICMP, icmp::ECHO_REQUEST) => self.on_echo(frame, message, icmp::ECHO_REPLY),
            (protocol::ICMPV6, icmp::ECHO_REQUEST_V6) => {
                self.on_echo(frame, message, icmp::ECHO_REPLY_V6)
            }
            (protocol::ICMPV6, ndp::SOLICITATION | ndp::ADVERTISEMENT) => {
                let (IpAddr::V6(source), IpAddr::V6(destination)) =
                    (message.source, message.destination)
                else {
                    return Err(DropCause::NdpMalformed);
                };
                let heard = ndp::read(bytes, message.hops, source, destination)?;
                self.on_ndp(frame, message, source, heard)
            }
            (protocol::ICMPV6, mld::QUERY) => {
                let query = mld::read(bytes, message.hops, message.source)?;
                self.reports.asked(query, &self.local.groups, clock::now());
                Ok(())
            }
            (protocol::IGMP, _) => {
                let query = igmp::read(bytes)?;
                self.reports.asked(query, &self.local.groups, clock::now());
                Ok(())
            }
            _ => Err(DropCause::Icmp),
        }
    }

    /// An echo request becomes its answer in the frame that it came in.
    fn on_echo(&mut self, mut frame: P::Frame, message: &Message, kind: u8) -> Handled {
        let askable = message.cast == Cast::Unicast && !message.source.is_unspecified();
        if !self.settings.echo || !askable {
            return Err(DropCause::Icmp);
        }
        let back = Address::between(message.destination, message.source).ok_or(DropCause::Icmp)?;
        cut(&mut frame, message).map_err(|_| DropCause::ReplyNoFrame)?;
        let pseudo = back.icmp_pseudo_header(frame.data().len());
        icmp::seal(frame.data_mut(), kind, pseudo);
        let protocol = message.protocol;
        let hosts = Hosts { address: back, protocol, hops: self.settings.ttl, extra: &[] };
        self.send_message(frame, &hosts, message.station)
    }

    fn on_ndp(
        &mut self,
        mut frame: P::Frame,
        message: &Message,
        source: Ipv6Addr,
        heard: ndp::Heard,
    ) -> Handled {
        let (target, sender_station) = match heard {
            ndp::Heard::Solicitation { target, station } => (target, station),
            ndp::Heard::Advertisement { target, station, solicited, replace } => {
                if self.local.is_ours(target.into()) {
                    return self.on_claim(station);
                }
                let occasion =
                    if solicited { Occasion::Reply { replace } } else { Occasion::Announcement };
                self.hear(Heard { host: target.into(), station, occasion });
                return Ok(());
            }
        };
        let ours = self.local.is_ours(target.into());
        if !source.is_unspecified() {
            let occasion = if ours { Occasion::Request } else { Occasion::Announcement };
            self.hear(Heard { host: source.into(), station: sender_station, occasion });
        }
        if !ours {
            return Err(DropCause::NeighbourOther);
        }
        if !self.neighbours.stack_answers() {
            return Ok(());
        }
        // Who tries our address for itself is told, with all others, that it is taken.
        let (to, station) = if source.is_unspecified() {
            (ipv6::ALL_NODES, ethernet::group(ipv6::ALL_NODES.into()))
        } else {
            (source, message.station)
        };
        let solicited = !source.is_unspecified();
        let answer = ndp::Message::advertisement(target, self.local.mac, solicited);
        cut(&mut frame, message)
            .and_then(|()| frame.fill(answer.as_bytes()))
            .map_err(|_| DropCause::ReplyNoFrame)?;
        self.send_ndp(frame, Address::V6 { source: target, destination: to }, station)
    }

    /// Tells the neighbours what was heard, and sends what waited for it.
    fn hear(&mut self, heard: Heard) {
        let now = clock::now();
        self.neighbours.heard(heard, now);
        self.settle_parked(now);
    }

    /// Asks the questions that are due.
    pub(super) fn solicit(&mut self, now: Duration) {
        while self.neighbours.deadline().is_some_and(|due| due <= now) {
            // Without a frame there is no question, and it remains to be asked.
            let Some(frame) = self.own_frame() else { return };
            let Some(asked) = self.neighbours.solicit(now) else { return };
            // A question that finds no room is repeated like one that got no answer.
            let _unsent = match asked.host {
                IpAddr::V4(host) => self.ask_arp(frame, host, asked.station),
                IpAddr::V6(host) => self.ask_ndp(frame, host, asked.station),
            };
        }
    }

    fn ask_arp(
        &mut self,
        frame: P::Frame,
        host: std::net::Ipv4Addr,
        station: Option<MacAddr>,
    ) -> Handled {
        let IpAddr::V4(source) =
            self.local.source_for(host.into()).ok_or(DropCause::ReplyNoFrame)?
        else {
            return Err(DropCause::ReplyNoFrame);
        };
        let nobody = MacAddr::default();
        let question = Arp::new(arp::REQUEST, (self.local.mac, source), (nobody, host));
        self.send_arp(frame, &question, station.unwrap_or(MacAddr::BROADCAST))
    }

    fn ask_ndp(
        &mut self,
        mut frame: P::Frame,
        host: Ipv6Addr,
        station: Option<MacAddr>,
    ) -> Handled {
        let IpAddr::V6(source) =
            self.local.source_for(host.into()).ok_or(DropCause::ReplyNoFrame)?
        else {
            return Err(DropCause::ReplyNoFrame);
        };
        let group = ipv6::solicited_node(host);
        let (destination, station) = match station {
            Some(station) => (host, station),
            None => (group, ethernet::group(group.into())),
        };
        let question = ndp::Message::solicitation(host, self.local.mac);
        frame.fill(question.as_bytes()).map_err(|_| DropCause::ReplyNoFrame)?;
        self.send_ndp(frame, Address::V6 { source, destination }, station)
    }

    fn send_arp(&mut self, mut frame: P::Frame, message: &Arp, station: MacAddr) -> Handled {
        let stations = self.stations(station);
        // The headers that the frame came with have the place that ours need.
        let len = ethernet::header_len(stations.tag).min(frame.data().len());
        frame
            .trim_front(len)
            .and_then(|()| frame.fill(message.as_bytes()))
            .and_then(|()| frame_up(&mut frame, &stations, ethernet::ARP))
            .map_err(|_| DropCause::ReplyNoFrame)?;
        self.queue_own(frame)
    }

    fn send_ndp(&mut self, mut frame: P::Frame, address: Address, station: MacAddr) -> Handled {
        let pseudo = address.icmp_pseudo_header(frame.data().len());
        let kind = frame.data().first().copied().unwrap_or_default();
        icmp::seal(frame.data_mut(), kind, pseudo);
        let (protocol, hops) = (protocol::ICMPV6, ndp::HOP_LIMIT);
        self.send_message(frame, &Hosts { address, protocol, hops, extra: &[] }, station)
    }

    /// Sends the message that `frame` holds.
    pub(super) fn send_message(
        &mut self,
        mut frame: P::Frame,
        hosts: &Hosts<'_>,
        station: MacAddr,
    ) -> Handled {
        wrap(&mut frame, &self.stations(station), hosts).map_err(|_| DropCause::ReplyNoFrame)?;
        self.queue_own(frame)
    }

    fn stations(&self, destination: MacAddr) -> Stations {
        Stations { source: self.local.mac, destination, tag: self.local.vlan }
    }

    /// An empty frame for a message of the stack's own.
    pub(super) fn own_frame(&mut self) -> Option<P::Frame> {
        if self.fresh.is_empty() {
            self.port.alloc(&mut self.fresh, 1);
        }
        self.fresh.pop_front()
    }

    /// Queues a message of the stack's own.
    fn queue_own(&mut self, frame: P::Frame) -> Handled {
        if self.tx.is_full()
            && let Err(error) = self.push_out()
        {
            self.tx_error.get_or_insert(error);
        }
        self.tx.push(frame).map_err(|_| DropCause::ReplyNoFrame)?;
        self.counters.control_sent += 1;
        Ok(())
    }
}

/// Cuts a frame down to the message in it.
fn cut(frame: &mut impl Buffer, message: &Message) -> Result<(), OutOfRoom> {
    frame.set_len(message.end)?;
    frame.trim_front(message.start)
}
