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
        let delivery = Delivery { before: out.len(), stack: self, out };
        delivery.stack.collect(delivery.out)?;
        Ok(delivery.received().len())
    }

    /// Appends what there is to `out`, and sends what the stack answers itself.
    #[inline]
    fn collect(&mut self, out: &mut Burst<UdpDatagram<P::Frame>>) -> Result<()> {
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
        Ok(())
    }

    /// Works through the frames that were taken from the port, as far as `out` has room. They are taken
    /// one by one, so that a panic of the neighbours' leaves the others here.
    #[inline]
    fn sort(&mut self, out: &mut Burst<UdpDatagram<P::Frame>>) {
        for _ in 0..out.room() {
            let Some(frame) = self.rx.pop_front() else { break };
            self.accept(frame, out);
        }
    }

    /// Whether there is a datagram to receive. Messages for the stack, as far as they come before
    /// it, are answered on the way.
    pub(super) fn look_ahead(&mut self) -> Result<bool> {
        let found = Ahead::of(self).until_one();
        self.push_out()?;
        found
    }

    /// While datagrams wait for a neighbour, somebody must hear its answer, even when the
    /// application only sends. What else arrives is kept for it.
    pub(super) fn pump(&mut self) -> Result<()> {
        if self.parked.is_empty() {
            return Ok(());
        }
        Ahead::of(self).rounds()
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
        let origin = datagram.origin();
        if out.push(datagram).is_err() {
            self.counters.drop(DropCause::RxQueueFull);
        }
        // The neighbours may panic: by then the datagram is where it belongs.
        if let Some((host, station)) = origin {
            self.neighbours.observe(host, station);
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
        // Counted as a message until it turns out to be none: should the neighbours panic, it was one.
        self.counters.control_received += 1;
        let handled = match inspect(frame.data(), meta, &self.local, verify) {
            Ok(Inspected::Udp(layout)) => {
                self.counters.control_received -= 1;
                return self.deliver(frame, &layout, out);
            }
            Ok(Inspected::Arp(message)) => {
                Arp::read(message).and_then(|message| self.on_arp(frame, &message))
            }
            Ok(Inspected::Message(message)) => self.on_message(frame, &message),
            Err(cause) => Err(cause),
        };
        if let Err(cause) = handled {
            self.counters.control_received -= 1;
            self.counters.drop(cause);
        }
    }
}

/// What one call appends to the application's burst; it is counted when this is dropped, and so also
/// when the neighbours panic.
struct Delivery<'a, P: PacketIo, N> {
    stack: &'a mut UdpOverL2<P, N>,
    out: &'a mut Burst<UdpDatagram<P::Frame>>,
    /// Datagrams that were in `out` already.
    before: usize,
}

impl<P: PacketIo, N> Delivery<'_, P, N> {
    fn received(&self) -> &[UdpDatagram<P::Frame>] {
        self.out.get(self.before..).unwrap_or_default()
    }
}

impl<P: PacketIo, N> Drop for Delivery<'_, P, N> {
    #[inline]
    fn drop(&mut self) {
        let packets = self.received().len() as u64;
        let bytes: u64 = self.received().iter().map(|one| one.data().len() as u64).sum();
        self.stack.counters.rx_packets += packets;
        self.stack.counters.rx_bytes += bytes;
    }
}

/// Receiving for later: what is for the application goes into the backlog, which is back in its place
/// when this is dropped, and so also when the neighbours panic.
struct Ahead<'a, P: PacketIo, N> {
    stack: &'a mut UdpOverL2<P, N>,
    backlog: Burst<UdpDatagram<P::Frame>>,
}

impl<'a, P: PacketIo, N: Neighbours> Ahead<'a, P, N> {
    fn of(stack: &'a mut UdpOverL2<P, N>) -> Self {
        let backlog = std::mem::replace(&mut stack.backlog, Burst::with_capacity(0));
        Self { stack, backlog }
    }

    /// Takes from the port until there is a datagram. Answers whether there is one.
    fn until_one(mut self) -> Result<bool> {
        while self.backlog.is_empty() {
            match self.stack.rx.pop_front() {
                Some(frame) => self.stack.accept(frame, &mut self.backlog),
                None if self.stack.take_some()? == 0 => break,
                None => {}
            }
        }
        Ok(!self.backlog.is_empty())
    }

    /// Takes what the port has.
    fn rounds(mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            while let Some(frame) = self.stack.rx.pop_front() {
                self.stack.accept(frame, &mut self.backlog);
            }
            if self.stack.take_some()? == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl<P: PacketIo, N> Drop for Ahead<'_, P, N> {
    fn drop(&mut self) {
        std::mem::swap(&mut self.stack.backlog, &mut self.backlog);
    }
}
