//! The way of a frame from the port to the application.

use super::UdpOverL2;
use crate::udp::UdpDatagram;
use crate::udp::inspect::{Inspected, Layout, inspect, plain, verify};
use crate::udp::neighbours::Neighbours;
use crate::udp::wire::arp::Arp;
use crate::udp::wire::udp::Verify;
use crate::{Buffer, Burst, DropCause, Frame, PacketIo, Result, RxMeta};

/// How often one call asks the port again when all that it gave were messages for the stack.
const ROUNDS: usize = 8;

impl<P: PacketIo, N: Neighbours> UdpOverL2<P, N> {
    pub(super) fn receive(&mut self, out: &mut Burst<UdpDatagram<P::Frame>>) -> Result<usize> {
        self.tend()?;
        let before = out.len();
        out.append(&mut self.backlog, usize::MAX);
        for _ in 0..ROUNDS {
            self.sort(out);
            if out.len() > before || out.is_full() {
                break;
            }
            // No more than `out` has room for, so that nothing stays here.
            self.rx.set_limit(out.room());
            if self.port.recv(&mut self.rx)? == 0 {
                break;
            }
        }
        // Answers of the stack itself go out with the frames that asked for them. An error is the
        // sender's to hear.
        if !self.tx.is_empty()
            && let Err(error) = self.push_out()
        {
            self.tx_error.get_or_insert(error);
        }
        let received = &out[before..];
        self.counters.rx_packets += received.len() as u64;
        self.counters.rx_bytes += received.iter().map(|one| one.data().len() as u64).sum::<u64>();
        Ok(received.len())
    }

    /// Works through the frames that were taken from the port, as far as `out` has room.
    #[inline]
    fn sort(&mut self, out: &mut Burst<UdpDatagram<P::Frame>>) {
        let mut rx = std::mem::replace(&mut self.rx, Burst::with_capacity(0));
        for frame in rx.drain(out.room()) {
            self.accept(frame, out);
        }
        self.rx = rx;
    }

    /// Whether there is a datagram to receive. Messages for the stack, as far as they come before
    /// it, are answered on the way.
    pub(super) fn look_ahead(&mut self) -> Result<bool> {
        let mut backlog = std::mem::replace(&mut self.backlog, Burst::with_capacity(0));
        let mut answer = Ok(());
        while backlog.is_empty() {
            match self.rx.pop_front() {
                Some(frame) => self.accept(frame, &mut backlog),
                None => match self.take_some() {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        answer = Err(error);
                        break;
                    }
                },
            }
        }
        self.backlog = backlog;
        self.push_out()?;
        answer.map(|()| !self.backlog.is_empty())
    }

    /// While datagrams wait for a neighbour, somebody must hear its answer, even when the
    /// application only sends. What else arrives is kept for it.
    pub(super) fn pump(&mut self) -> Result<()> {
        if self.parked.is_empty() {
            return Ok(());
        }
        let mut backlog = std::mem::replace(&mut self.backlog, Burst::with_capacity(0));
        let mut answer = Ok(());
        for _ in 0..ROUNDS {
            while let Some(frame) = self.rx.pop_front() {
                self.accept(frame, &mut backlog);
            }
            match self.take_some() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    answer = Err(error);
                    break;
                }
            }
        }
        self.backlog = backlog;
        answer
    }

    fn take_some(&mut self) -> Result<usize> {
        self.rx.set_limit(usize::MAX);
        self.port.recv(&mut self.rx)
    }

    /// Judges a frame: a datagram is put into `out`, everything else ends here and is counted.
    #[inline(always)]
    fn accept(&mut self, frame: P::Frame, out: &mut Burst<UdpDatagram<P::Frame>>) {
        if self.settings.chains && frame.segments().nth(1).is_some() {
            self.counters.drop(DropCause::MultiSegment);
            return;
        }
        let meta = frame.rx_meta();
        let verify = verify(&meta, self.settings.verify);
        match plain(frame.data(), &meta, &self.local, verify) {
            Some(layout) => self.deliver(frame, &layout, out),
            None => self.accept_unusual(frame, &meta, verify, out),
        }
    }

    #[inline(always)]
    fn deliver(
        &mut self,
        frame: P::Frame,
        layout: &Layout,
        out: &mut Burst<UdpDatagram<P::Frame>>,
    ) {
        let datagram = UdpDatagram::received(frame, layout, self.settings.reserve);
        if let Some((host, station)) = datagram.origin() {
            self.neighbours.observe(host, station);
        }
        if out.push(datagram).is_err() {
            self.counters.drop(DropCause::RxQueueFull);
        }
    }

    #[inline(never)]
    fn accept_unusual(
        &mut self,
        frame: P::Frame,
        meta: &RxMeta,
        verify: Verify,
        out: &mut Burst<UdpDatagram<P::Frame>>,
    ) {
        let handled = match inspect(frame.data(), meta, &self.local, verify) {
            Ok(Inspected::Udp(layout)) => return self.deliver(frame, &layout, out),
            Ok(Inspected::Arp(message)) => {
                Arp::read(message).and_then(|message| self.on_arp(frame, &message))
            }
            Ok(Inspected::Message(message)) => self.on_message(frame, &message),
            Err(cause) => Err(cause),
        };
        match handled {
            Ok(()) => self.counters.control_received += 1,
            Err(cause) => self.counters.drop(cause),
        }
    }
}
