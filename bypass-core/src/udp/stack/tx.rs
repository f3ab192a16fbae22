//! The way of a datagram from the application to the port.

use std::net::IpAddr;
use std::time::Duration;

use super::parked::{Settle, Verdict};
use super::stats::Counters;
use super::{Settings, UdpOverL2, clock};
use crate::udp::UdpDatagram;
use crate::udp::datagram::{Plan, Turn};
use crate::udp::flows::CachedFlow;
use crate::udp::neighbours::{Lookup, Neighbours, NoRoute};
use crate::udp::wire::{Address, Flow, Seal, Template, ethernet, turn, udp};
use crate::{
    Buffer, Burst, Datagram, DropCause, Error, Frame, FrameError, MacAddr, OutOfRoom, PacketIo,
    Result, Room, Transmit, TxChecksum, TxMeta, Unsupported,
};

const ATTEMPT: &str = "send a datagram";

/// What a flow that was not known comes to. Its headers lack the station unless it is ready.
enum Opened {
    Ready(CachedFlow),
    /// Its neighbour is being asked for.
    Waits(IpAddr, CachedFlow),
    /// Its neighbour does not answer.
    Dead(CachedFlow),
}

impl<P: PacketIo, N: Neighbours> UdpOverL2<P, N> {
    pub(super) fn transmit(
        &mut self,
        datagrams: &mut Burst<UdpDatagram<P::Frame>>,
    ) -> Result<usize> {
        if let Some(error) = self.tx_error.take() {
            return Err(error);
        }
        self.tend()?;
        if !self.parked.is_empty() {
            self.pump()?;
        }
        let mut taken = 0;
        let outcome = loop {
            if datagrams.is_empty() {
                break Ok(());
            }
            if self.tx.is_full()
                && let Err(error) = self.push_out()
            {
                break Err(error);
            }
            if self.tx.is_full() {
                break Ok(());
            }
            match self.send_first(datagrams) {
                Ok(()) => taken += 1,
                Err(error) => break Err(error),
            }
        };
        // What waits now has somebody to be asked for.
        let asked = if self.parked.is_empty() { Ok(()) } else { self.tend() };
        let pushed = self.push_out();
        match outcome.and(asked).and(pushed) {
            Ok(()) => {}
            // Nothing is taken by a call that fails. What is wrong with the next datagram, the next
            // call finds out again; what is wrong with the port may be over by then.
            Err(error) if taken == 0 => return Err(error),
            Err(Error::Frame { .. }) if !datagrams.is_empty() => {}
            Err(error) => self.tx_error = Some(error),
        }
        Ok(taken)
    }

    /// Hands what is queued to the port, as much as it takes.
    pub(super) fn push_out(&mut self) -> Result<()> {
        while !self.tx.is_empty() {
            match self.port.send(&mut self.tx) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error @ Error::Frame { .. }) => {
                    // It has its headers, and no caller to go back to.
                    self.tx.pop_front();
                    self.counters.drop(DropCause::TxError);
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the first datagram, or says why it can never be sent and leaves it.
    #[inline(always)]
    fn send_first(&mut self, datagrams: &mut Burst<UdpDatagram<P::Frame>>) -> Result<()> {
        let Some(first) = datagrams.first() else { return Ok(()) };
        let (settings, backend) = (&self.settings, self.caps.backend);
        let len = first.data().len();
        let dressed = match first.plan() {
            plan @ (Plan::To(_) | Plan::As(_)) => {
                let Some(flow) = self.flows.get(plan, self.neighbours.generation()) else {
                    return self.send_unknown(datagrams);
                };
                check(first, len, flow, backend)?;
                let staged = stage(datagrams, &mut self.tx);
                staged.is_some_and(|(frame, head)| dress(frame, head, flow, settings))
            }
            Plan::Reply => {
                let Some(turn) = first.turn(&self.local) else {
                    return self.send_unknown(datagrams);
                };
                check_len(len, settings.max_payload(turn.v6), backend)?;
                self.counters.turned += 1;
                let staged = stage(datagrams, &mut self.tx);
                staged
                    .map(|(frame, head)| turn_around(frame, head, turn, self.local.mac, settings))
                    .is_some()
            }
            Plan::Unset => return self.send_unknown(datagrams),
        };
        self.counters.accept(len);
        if !dressed {
            self.abandon_last();
        }
        Ok(())
    }

    /// What was promised to have room for headers has none: it must not go out without them.
    #[cold]
    fn abandon_last(&mut self) {
        self.tx.pop_back();
        self.counters.drop(DropCause::TxError);
    }

    /// Takes the first datagram, which goes a way that is not in the cache.
    #[cold]
    fn send_unknown(&mut self, datagrams: &mut Burst<UdpDatagram<P::Frame>>) -> Result<()> {
        let Some(first) = datagrams.first() else { return Ok(()) };
        let (plan, transmit, len) = (*first.plan(), first.transmit(), first.data().len());
        self.counters.flow_misses += 1;
        let opened = self.open_flow(plan, &transmit)?;
        let (Opened::Ready(flow) | Opened::Waits(_, flow) | Opened::Dead(flow)) = &opened;
        check(first, len, flow, self.caps.backend)?;
        let Some(datagram) = datagrams.pop_front() else { return Ok(()) };
        let (mut frame, head) = datagram.into_parts();
        self.counters.accept(len);
        if !dress(&mut frame, head, flow, &self.settings) {
            self.counters.drop(DropCause::TxError);
            return Ok(());
        }
        match opened {
            Opened::Ready(flow) => {
                // A reply is another flow for every datagram that it answers.
                if plan != Plan::Reply {
                    self.flows.insert(flow);
                }
                if self.tx.push(frame).is_err() {
                    self.counters.drop(DropCause::TxError);
                }
            }
            Opened::Waits(hop, _) => {
                if self.parked.park(hop, frame, clock::now()).is_some() {
                    self.counters.drop(DropCause::NeighbourQueueFull);
                }
            }
            Opened::Dead(_) => self.counters.drop(DropCause::NeighbourTimeout),
        }
        Ok(())
    }

    /// Finds out where a flow goes, and makes its headers.
    #[cold]
    fn open_flow(&mut self, plan: Plan, transmit: &Transmit) -> Result<Opened> {
        let backend = self.caps.backend;
        let refuse = |cause: FrameError| Error::frame(ATTEMPT, backend, cause);
        let destination = transmit.destination.ok_or_else(|| refuse(FrameError::NoDestination))?;
        let unreachable = |why: NoRoute| refuse(FrameError::Destination { destination, why });
        if transmit.segment_size.is_some() {
            return Err(refuse(FrameError::Unsupported(Unsupported {
                what: "segmentation of datagrams".into(),
                backend,
                why: "the stack sends each datagram as it is; cut the data yourself".into(),
            })));
        }
        let ip = destination.ip();
        let own = self.local.is_ours(ip);
        if ip.is_unspecified() || ip.is_loopback() || own {
            return Err(unreachable("it is the address of no other host".into()));
        }
        let source = self.source(transmit.source, ip).map_err(refuse)?.ok_or_else(|| {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            unreachable(format!("this endpoint has no {family} address").into())
        })?;
        let address = Address::between(source, ip)
            .ok_or_else(|| unreachable(format!("{source} is of another family").into()))?;
        let is_group =
            ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if self.local.is_broadcast(ip));

        let flow = |generation, station: MacAddr| CachedFlow {
            key: plan,
            generation,
            max_payload: self.settings.max_payload(ip.is_ipv6()),
            template: Template::new(&Flow {
                source_mac: self.local.mac,
                destination_mac: station,
                tag: self.local.vlan,
                address,
                source_port: self.local.port,
                destination_port: destination.port(),
                hops: if is_group { self.settings.multicast_ttl } else { self.settings.ttl },
                ecn: transmit.ecn,
            }),
        };
        if is_group {
            return Ok(Opened::Ready(flow(self.neighbours.generation(), ethernet::group(ip))));
        }
        if let Some(next_hop) = transmit.next_hop {
            return Ok(Opened::Ready(flow(self.neighbours.generation(), next_hop.mac)));
        }
        let hop = match self.neighbours.route(ip) {
            Some(route) => route.map_err(unreachable)?,
            None => self.local.hop_for(ip).ok_or_else(|| {
                unreachable("it is not on the link, and there is no gateway".into())
            })?,
        };
        let lookup = self.neighbours.lookup(hop, clock::now());
        let flow = |station| flow(self.neighbours.generation(), station);
        match lookup {
            // Nobody overtakes those who waited for the answer.
            Lookup::Found(_) if self.parked.awaits(hop) => {
                Ok(Opened::Waits(hop, flow(MacAddr::default())))
            }
            Lookup::Found(station) => Ok(Opened::Ready(flow(station))),
            Lookup::Asking => Ok(Opened::Waits(hop, flow(MacAddr::default()))),
            Lookup::Failed => Ok(Opened::Dead(flow(MacAddr::default()))),
            Lookup::Unknown(why) => Err(unreachable(why)),
        }
    }

    /// The address to send from: the one that was asked for, if it is ours; a group or broadcast
    /// address, as a reply to what came through one has it, stands for any of ours.
    fn source(
        &self,
        asked: Option<IpAddr>,
        destination: IpAddr,
    ) -> Result<Option<IpAddr>, FrameError> {
        let asked = asked.filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_multicast() && !self.local.is_broadcast(*ip),
            IpAddr::V6(ip) => !ip.is_multicast(),
        });
        match asked {
            None => Ok(self.local.source_for(destination)),
            Some(ip) if self.local.is_ours(ip) => Ok(Some(ip)),
            Some(ip) => Err(FrameError::Unsupported(Unsupported {
                what: format!("source address {ip}").into(),
                backend: self.caps.backend,
                why: "it is not among the addresses of the endpoint's configuration".into(),
            })),
        }
    }

    /// Sends what waited for neighbours that have answered, and gives up what has waited too long.
    pub(super) fn settle_parked(&mut self, now: Duration) {
        if self.parked.is_empty() {
            return;
        }
        let mut exit = Exit {
            neighbours: &mut self.neighbours,
            port: &mut self.port,
            tx: &mut self.tx,
            counters: &mut self.counters,
            now,
        };
        self.parked.settle(now, self.settings.park_timeout, &mut exit);
    }
}

/// The way out for datagrams that have waited.
struct Exit<'a, P: PacketIo, N> {
    neighbours: &'a mut N,
    port: &'a mut P,
    tx: &'a mut Burst<P::Frame>,
    counters: &'a mut Counters,
    now: Duration,
}

impl<P: PacketIo, N: Neighbours> Settle<P::Frame> for Exit<'_, P, N> {
    fn judge(&mut self, hop: IpAddr) -> Verdict {
        match self.neighbours.lookup(hop, self.now) {
            Lookup::Found(station) => Verdict::Release(station),
            Lookup::Asking => Verdict::Wait,
            Lookup::Failed | Lookup::Unknown(_) => Verdict::Abandon,
        }
    }

    fn has_room(&mut self) -> bool {
        // What the port says to this it says again when the application sends.
        !self.tx.is_full() || self.port.send(self.tx).is_ok() && !self.tx.is_full()
    }

    fn release(&mut self, mut frame: P::Frame, station: MacAddr) {
        if let Some(destination) = frame.data_mut().first_chunk_mut() {
            *destination = station.0;
        }
        if self.tx.push(frame).is_err() {
            self.counters.drop(DropCause::TxError);
        }
    }

    fn give_up(&mut self, frame: P::Frame) {
        drop(frame);
        self.counters.drop(DropCause::NeighbourTimeout);
    }
}

impl Settings {
    fn max_payload(&self, v6: bool) -> usize {
        if v6 { self.max_v6 } else { self.max_v4 }
    }

    fn seal(&self, v6: bool) -> Seal {
        if v6 { self.seal_v6 } else { self.seal_v4 }
    }
}

#[inline(always)]
fn check_len(len: usize, max: usize, backend: &'static str) -> Result<()> {
    if len > max {
        return Err(Error::frame(ATTEMPT, backend, FrameError::TooLong { len, max }));
    }
    Ok(())
}

/// Whether a datagram of `len` bytes can go where its flow goes.
#[inline(always)]
fn check<F: Frame>(
    datagram: &UdpDatagram<F>,
    len: usize,
    flow: &CachedFlow,
    backend: &'static str,
) -> Result<()> {
    check_len(len, flow.max_payload, backend)?;
    let (asked, available) = (flow.template.len(), datagram.header_room());
    if available < asked {
        let room = OutOfRoom { room: Room::Headroom, asked, available };
        return Err(Error::frame(ATTEMPT, backend, room));
    }
    Ok(())
}

/// Moves the frame of the first datagram into the queue, where it gets its headers: it is moved
/// while it lies still, not while the changes to it are on their way to memory. Answers it and the
/// bytes of headers in it.
#[inline(always)]
fn stage<'a, F: Frame>(
    datagrams: &mut Burst<UdpDatagram<F>>,
    tx: &'a mut Burst<F>,
) -> Option<(&'a mut F, usize)> {
    let (frame, head) = datagrams.pop_front()?.into_parts();
    tx.push(frame).ok()?;
    Some((tx.last_mut()?, head))
}

/// Turns the headers of a received datagram around, `head` bytes of them.
#[inline(always)]
fn turn_around<F: Frame>(frame: &mut F, head: usize, how: Turn, mac: MacAddr, settings: &Settings) {
    let seal = match how.sealed {
        true => Seal::Keep,
        false => settle_seal(settings.seal(how.v6), frame, head),
    };
    turn(frame.data_mut(), how.link, how.v6, mac, settings.ttl, seal);
}

/// Gives a datagram the headers of its flow, in place of the `head` bytes that it has. Answers
/// false if there is no room for them.
#[inline(always)]
fn dress<F: Frame>(frame: &mut F, head: usize, flow: &CachedFlow, settings: &Settings) -> bool {
    let len = flow.template.len();
    let made = if head > len {
        frame.trim_front(head - len).is_ok()
    } else {
        head == len || frame.prepend(len - head).is_ok()
    };
    if made {
        let seal = settle_seal(settings.seal(flow.template.is_v6()), frame, len);
        flow.template.write(frame.data_mut(), seal);
    }
    made
}

/// Tells the device which checksum to fill in, if it is to do that. `head` bytes of headers end
/// with the UDP header.
#[inline(always)]
fn settle_seal(seal: Seal, frame: &mut impl Frame, head: usize) -> Seal {
    if seal != Seal::Device {
        return seal;
    }
    let start = (head - udp::LEN) as u16;
    let checksum = Some(TxChecksum { start, offset: udp::CHECKSUM_OFFSET });
    let asked = frame.set_tx_meta(TxMeta { checksum, ..TxMeta::default() });
    if asked.is_ok() { Seal::Device } else { Seal::Software }
}
