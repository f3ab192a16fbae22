//! [`Queues`]: several queues of a device, driven by one thread, as one port.

use std::fmt;
use std::ops::AddAssign;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::{
    Burst, Caps, Endpoint, Error, Interest, Occupancy, PacketIo, Ready, Result, Stats, sys,
};

/// How long to sleep before the queues are asked again: not all that they wait for wakes.
const SLICE: Duration = Duration::from_millis(100);
/// The same where nothing wakes: for room to send on one queue while others receive, and where a
/// queue has no descriptor.
const TICK: Duration = Duration::from_millis(1);

/// Several queues of a device, driven by one thread, as one port: it receives from all, in turns, and
/// sends through the first. A device spreads what arrives over its queues, so who wants all of it has
/// to serve all of them; who has more to do than one thread can gives each queue one of its own
/// instead.
///
/// The queues share their packet memory: any of them takes back what another one has received.
pub struct Queues<P: PacketIo> {
    /// At least one.
    ports: Vec<P>,
    /// Who is asked first by the next `recv`.
    turn: usize,
    /// What a queue said after others had something: the next call does.
    untold: Option<Error>,
    caps: Caps,
    /// Wakes when any queue has something; where there are several, and each has a descriptor.
    wakes: Option<OwnedFd>,
}

impl<P: PacketIo> Queues<P> {
    /// Joins `ports` that share their packet memory.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is none; [`Error::Os`] without descriptors for `epoll(7)`.
    pub fn new(ports: Vec<P>) -> Result<Self> {
        let Some(first) = ports.first() else {
            return Err(Error::config("queues", 0, "a port has at least one"));
        };
        let mut caps = first.caps().clone();
        for other in &ports[1..] {
            let new = other.caps().fallbacks.iter().filter(|told| !caps.fallbacks.contains(told));
            let new: Vec<_> = new.cloned().collect();
            caps.fallbacks.extend(new);
        }
        let wakes = if ports.len() > 1 { epoll(&ports)? } else { None };
        Ok(Self { ports, turn: 0, untold: None, caps, wakes })
    }

    /// The queues.
    #[must_use]
    pub fn ports(&self) -> &[P] {
        &self.ports
    }

    /// Asks every queue; only the first one sends.
    fn look(&mut self, interest: Interest) -> Result<Ready> {
        let mut ready = Ready::empty();
        let mut asked = interest;
        for port in &mut self.ports {
            if !asked.is_empty() {
                ready |= port.wait(asked, Some(Duration::ZERO))?;
            }
            asked &= Interest::RX;
        }
        Ok(ready)
    }

    fn sleep(&mut self, interest: Interest, left: Duration) -> Result<Ready> {
        match &self.wakes {
            Some(wakes) if !interest.contains(Interest::TX) => {
                let attempt = "wait for the queues of a device";
                sys::wait(wakes.as_fd(), interest, Some(left.min(SLICE)), attempt)
            }
            _ => self.ports[0].wait(interest, Some(left.min(TICK))),
        }
    }
}

fn epoll<P: PacketIo>(ports: &[P]) -> Result<Option<OwnedFd>> {
    let fds: Option<Vec<_>> = ports.iter().map(Endpoint::as_fd).collect();
    let Some(fds) = fds else { return Ok(None) };
    let failed = |error| Error::os("watch the queues of a device with epoll", error);
    let wakes = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
    for (fd, i) in fds.into_iter().zip(0..) {
        epoll::add(&wakes, fd, EventData::new_u64(i), EventFlags::IN).map_err(failed)?;
    }
    Ok(Some(wakes))
}

impl<P: PacketIo> PacketIo for Queues<P> {
    type Frame = P::Frame;

    #[inline]
    fn recv(&mut self, out: &mut Burst<Self::Frame>) -> Result<usize> {
        if let Some(error) = self.untold.take() {
            return Err(error);
        }
        let (all, first, before) = (self.ports.len(), self.turn, out.len());
        for i in 0..all {
            let at = (first + i) % all;
            match self.ports[at].recv(out) {
                // Every queue is asked first now and then, or a busy one could fill the burst for ever.
                Ok(_) if out.is_full() => {
                    self.turn = (at + 1) % all;
                    break;
                }
                Ok(_) => {}
                // What came before the error comes first. A queue may say it once only.
                Err(error) if out.len() > before => {
                    self.turn = at;
                    self.untold = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(out.len() - before)
    }

    #[inline]
    fn alloc(&mut self, out: &mut Burst<Self::Frame>, n: usize) -> usize {
        self.ports[0].alloc(out, n)
    }

    #[inline]
    fn send(&mut self, frames: &mut Burst<Self::Frame>) -> Result<usize> {
        self.ports[0].send(frames)
    }
}

impl<P: PacketIo> Endpoint for Queues<P> {
    fn flush(&mut self) -> Result<()> {
        self.ports.iter_mut().try_for_each(Endpoint::flush)
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        if let [only] = &mut self.ports[..] {
            return only.wait(interest, timeout);
        }
        if self.untold.is_some() && interest.contains(Interest::RX) {
            return Ok(Ready::RX);
        }
        let start = Instant::now();
        loop {
            let ready = self.look(interest)?;
            let left = match timeout {
                Some(timeout) => timeout.saturating_sub(start.elapsed()),
                None => SLICE,
            };
            if !ready.is_empty() || left.is_zero() {
                return Ok(ready);
            }
            let asleep = Instant::now();
            let woken = self.sleep(interest, left)?;
            // Neither a packet nor the time: a signal.
            if woken.is_empty() && asleep.elapsed() < left.min(TICK) {
                return Ok(Ready::empty());
            }
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.ports[..] {
            [only] => only.as_fd(),
            _ => self.wakes.as_ref().map(AsFd::as_fd),
        }
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The sum; the packet memory, which is the same for all, once.
    fn stats(&self) -> Stats {
        let mut all = self.ports.iter().map(Endpoint::stats);
        let mut sum = all.next().unwrap_or_default();
        let frames = sum.frames;
        all.for_each(|stats| sum.merge(&stats));
        sum.frames = frames;
        sum
    }

    /// Sums.
    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        let mut sums = Sums(Vec::new());
        self.ports.iter().for_each(|port| port.visit_counters(&mut |name, n| sums.add(name, n)));
        sums.0.iter().for_each(|(name, sum)| visit(name, *sum));
    }

    /// Sums.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        let mut sums = Sums(Vec::new());
        self.ports.iter().for_each(|port| port.visit_rings(&mut |name, ring| sums.add(name, ring)));
        sums.0.iter().for_each(|(name, sum)| visit(name, *sum));
    }
}

/// What the queues show, added up by name.
struct Sums<T>(Vec<(String, T)>);

impl<T: AddAssign> Sums<T> {
    fn add(&mut self, name: &str, value: T) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl<P: PacketIo> fmt::Debug for Queues<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues")
            .field("backend", &self.caps.backend)
            .field("queues", &self.ports.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
