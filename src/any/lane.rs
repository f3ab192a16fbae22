//! [`Lane`]: makes an endpoint of one backend speak the packet type of all.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::{
    Buffer, Burst, Caps, Datagram, DatagramIo, Endpoint, Error, Frame, FrameError, Interest,
    Occupancy, PacketIo, Ready, Result, Stats,
};

/// Packets that pass through a lane at a time.
const WIDTH: usize = 64;

/// An endpoint that moves buffers of type `B`, seen as one that moves buffers of type `A`.
#[derive(Debug)]
pub(super) struct Lane<A, B: Buffer, E> {
    endpoint: E,
    /// Empty between calls.
    burst: Burst<B>,
    outside: std::marker::PhantomData<fn() -> A>,
}

impl<A, B, E: Endpoint> Lane<A, B, E>
where
    A: Buffer + From<B>,
    B: Buffer + TryFrom<A, Error = A>,
{
    pub(super) fn new(endpoint: E) -> Self {
        let burst = Burst::with_capacity(WIDTH);
        Self { endpoint, burst, outside: std::marker::PhantomData }
    }

    /// Fills the inner burst through `fill`, with no more than fits outside, and moves it out.
    fn outward(
        &mut self,
        outer: &mut Burst<A>,
        fill: impl FnOnce(&mut E, &mut Burst<B>) -> Result<usize>,
    ) -> Result<usize> {
        self.burst.set_limit(outer.room().min(WIDTH));
        let filled = fill(&mut self.endpoint, &mut self.burst);
        let n = self.burst.len();
        for unit in self.burst.drain(n) {
            let _room_was_there = outer.push(unit.into());
        }
        filled.map(|_| n)
    }

    /// Moves the front of `outer` in, sends it, and puts back what was refused.
    fn inward(
        &mut self,
        outer: &mut Burst<A>,
        send: impl FnOnce(&mut E, &mut Burst<B>) -> Result<usize>,
    ) -> Result<usize> {
        self.burst.set_limit(WIDTH);
        let mut foreign = None;
        while !self.burst.is_full()
            && let Some(unit) = outer.pop_front()
        {
            match B::try_from(unit) {
                Ok(unit) => {
                    let _room_was_there = self.burst.push(unit);
                }
                Err(unit) => {
                    foreign = Some(unit);
                    break;
                }
            }
        }
        let sent = match (&foreign, self.burst.is_empty()) {
            (Some(_), true) => {
                let backend = self.endpoint.caps().backend;
                Err(Error::frame("send", backend, FrameError::ForeignPool))
            }
            _ => send(&mut self.endpoint, &mut self.burst),
        };
        // Last first, each in front of the one that came before it.
        let refused = std::iter::from_fn(|| self.burst.pop_back()).map(A::from);
        for unit in foreign.into_iter().chain(refused) {
            let _room_was_there = outer.push_front(unit);
        }
        sent
    }
}

impl<A, B: Buffer, E: Endpoint> Endpoint for Lane<A, B, E> {
    fn flush(&mut self) -> Result<()> {
        self.endpoint.flush()
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        self.endpoint.wait(interest, timeout)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.endpoint.as_fd()
    }

    fn caps(&self) -> &Caps {
        self.endpoint.caps()
    }

    fn stats(&self) -> Stats {
        self.endpoint.stats()
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        self.endpoint.visit_counters(visit);
    }

    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        self.endpoint.visit_rings(visit);
    }
}

impl<A, P: PacketIo> PacketIo for Lane<A, P::Frame, P>
where
    A: Frame + From<P::Frame>,
    P::Frame: TryFrom<A, Error = A>,
{
    type Frame = A;

    fn recv(&mut self, out: &mut Burst<A>) -> Result<usize> {
        self.outward(out, |port, burst| port.recv(burst))
    }

    fn alloc(&mut self, out: &mut Burst<A>, n: usize) -> usize {
        self.outward(out, |port, burst| Ok(port.alloc(burst, n))).unwrap_or(0)
    }

    fn send(&mut self, frames: &mut Burst<A>) -> Result<usize> {
        self.inward(frames, |port, burst| port.send(burst))
    }
}

impl<A, S: DatagramIo> DatagramIo for Lane<A, S::Datagram, S>
where
    A: Datagram + From<S::Datagram>,
    S::Datagram: TryFrom<A, Error = A>,
{
    type Datagram = A;

    fn recv(&mut self, out: &mut Burst<A>) -> Result<usize> {
        self.outward(out, |socket, burst| socket.recv(burst))
    }

    fn alloc(&mut self, out: &mut Burst<A>, n: usize) -> usize {
        self.outward(out, |socket, burst| Ok(socket.alloc(burst, n))).unwrap_or(0)
    }

    fn send(&mut self, datagrams: &mut Burst<A>) -> Result<usize> {
        self.inward(datagrams, |socket, burst| socket.send(burst))
    }

    fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use crate::any::open_port;
    use crate::{Buffer, Burst};

    #[test]
    fn what_is_refused_goes_back_whatever_the_bursts_limit() {
        let uri = "memory:lane?ring=1";
        let (mut a, _b) = (open_port(uri).unwrap(), open_port(uri).unwrap());
        let mut burst = Burst::with_capacity(4);
        assert_eq!(a.alloc(&mut burst, 4), 4);
        for (n, frame) in burst.iter_mut().enumerate() {
            frame.fill(&[n as u8; 60]).unwrap();
        }
        burst.set_limit(1);
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        let left: Vec<u8> = burst.iter().map(|frame| frame.data()[0]).collect();
        assert_eq!(left, [1, 2, 3]);
    }
}
