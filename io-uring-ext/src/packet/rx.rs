//! The receiving half of both endpoints: a multishot `recvmsg` straight into pool chunks.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bypass_core::pool::{Kind, Pool, PoolBuf};
use bypass_core::{Buffer, Burst, FrameCensus, Interest, Occupancy, Ready, sys};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::core_error;
use super::pool::Chunks;
use crate::buf_ring::{BufRing, MessageLayout, MessageReceiver};
use crate::mode::Local;
use crate::op::DatagramFd;
use crate::ring::Ring;
use crate::{Error, Result};

/// Errors of earlier packets that one call steps over before it lets the application have a turn.
const MOST_PENDING: usize = 16;

/// Packets that one call looks at without handing them out before it lets the application have a
/// turn: they could keep coming for ever.
const MOST_PASSED_OVER: usize = 1024;

/// Packets that the kernel takes from a socket before it looks after other operations
/// (`MULTISHOT_MAX_RETRY` in `io_uring/net.c`).
const MOST_AT_ONCE: usize = 32;

/// Room for control messages that a socket opened elsewhere may have been told to give.
pub(super) const SPARE_CONTROL: usize = 64;

/// What was received, beside the payload, which is the buffer's data.
pub(super) struct Arrival<'a> {
    /// The sender's address as the kernel wrote it.
    pub(super) name: &'a [u8],
    /// The control messages.
    pub(super) control: &'a [u8],
    /// Bytes of payload in the buffer.
    pub(super) len: usize,
    /// `MSG_TRUNC` and others.
    pub(super) flags: i32,
}

impl Arrival<'_> {
    /// Whether the packet was longer than its buffer, or what was said beside it did not fit: among
    /// that could be the size of the segments, without which a train is not to be understood.
    pub(super) fn is_truncated(&self) -> bool {
        self.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
    }
}

/// What an endpoint makes of arrivals.
pub(super) trait Receive<K: Kind> {
    /// What is kept beside the payload; `None` when it is not to be handed out, and has been counted.
    fn describe(&mut self, arrival: &Arrival<'_>) -> Option<K::Meta>;

    /// The payload is alone in its buffer now, with room in front.
    fn finish(&mut self, buf: &mut PoolBuf<K>) {
        let _ = buf;
    }

    /// Whether an error of the socket is about an earlier packet and not about receiving.
    fn is_about_earlier(&self, errno: i32) -> bool;
}

#[derive(Debug)]
pub(super) struct Rx<K: Kind> {
    pub(super) ring: Ring<Local>,
    buffers: BufRing<Chunks<K>, Local>,
    receiver: MessageReceiver<Chunks<K>, Local>,
    layout: MessageLayout,
    pool: Pool<K>,
    /// Errors that were about earlier packets.
    pending_errors: u64,
    /// An error that came behind packets, for the next call.
    failed: Option<Error>,
    /// Times that a wait slept.
    wakeups: u64,
}

impl<K: Kind> Rx<K> {
    /// Begins to receive from `socket` into up to `entries` chunks of `pool`, whose headroom must
    /// hold the layout's header.
    pub(super) fn new(
        ring: Ring<Local>,
        socket: &DatagramFd,
        pool: Pool<K>,
        entries: u16,
        layout: MessageLayout,
    ) -> Result<Self> {
        let chunks = Chunks { pool: pool.clone(), header: layout.payload_at() };
        let buffers = BufRing::new(&ring, entries, chunks)?;
        let receiver = buffers.message_receiver(socket, layout);
        let (pending_errors, failed, wakeups) = (0, None, 0);
        let mut rx =
            Self { ring, buffers, receiver, layout, pool, pending_errors, failed, wakeups };
        rx.receiver.shot.pull()?;
        Ok(rx)
    }

    /// Appends what has arrived to `out`, as far as `receive` keeps it. Never sleeps.
    pub(super) fn recv(
        &mut self,
        out: &mut Burst<PoolBuf<K>>,
        receive: &mut impl Receive<K>,
    ) -> Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (before, mut errors, mut passed_over) = (out.len(), 0, 0);
        let mut fetched = None;
        while !out.is_full() && errors < MOST_PENDING && passed_over < MOST_PASSED_OVER {
            let next = match self.receiver.shot.next_fetched() {
                Ok(None) => {
                    // Unless the kernel stopped before the socket was empty, for want of buffers or
                    // because it was one receive's turn long enough, what comes from now on is left
                    // to the next call, which is better filled then.
                    let emptied = |n| n == 0 || (n < MOST_AT_ONCE && self.receiver.is_armed());
                    if fetched.is_some_and(emptied) {
                        break;
                    }
                    match self.fetch() {
                        Ok(n) => {
                            fetched = Some(n);
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                Ok(Some((buf, _))) => Ok(buf),
                Err(error) => Err(error),
            };
            let mut buf = match next {
                Ok(buf) => buf,
                Err(error) if error.raw_os_error().is_some_and(|e| receive.is_about_earlier(e)) => {
                    errors += 1;
                    continue;
                }
                Err(error) if out.len() > before => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => {
                    self.pending_errors += errors as u64;
                    return Err(error);
                }
            };
            if let Some(meta) = open(&mut buf, self.layout, receive) {
                buf.set_meta(meta);
                receive.finish(&mut buf);
                let _room_was_asked_for = out.push(buf);
            } else {
                passed_over += 1;
            }
        }
        self.pending_errors += errors as u64;
        let looked_at_all = errors < MOST_PENDING && passed_over < MOST_PASSED_OVER;
        if out.len() == before && looked_at_all && self.ring.inner.has_event_fd() {
            // Nothing left: whoever polls the descriptor must not find it readable for nothing.
            self.ring.acknowledge()?;
        }
        Ok(out.len() - before)
    }

    /// Looks for arrivals if there are none yet, and says how many completions wait.
    fn fetch(&mut self) -> Result<usize> {
        let shot = &mut self.receiver.shot;
        if shot.fetched.is_empty() {
            shot.pull()?;
        }
        Ok(shot.fetched.len())
    }

    /// Whether [`recv`](Self::recv) would find something.
    fn is_ready(&mut self) -> Result<bool> {
        Ok(self.failed.is_some() || self.fetch()? > 0)
    }

    /// Sleeps until something of `interest` can be served on `socket`, or the time is over.
    pub(super) fn wait_for(
        &mut self,
        socket: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> bypass_core::Result<Ready> {
        const WHAT: &str = "wait for room to send";

        let mut ready = Ready::empty();
        if interest.contains(Interest::TX) {
            ready = sys::wait(socket, Interest::TX, Some(Duration::ZERO), WHAT)?;
        }
        if interest.contains(Interest::RX) {
            ready.set(Ready::RX, self.is_ready().map_err(core_error)?);
        }
        if !ready.is_empty() || timeout == Some(Duration::ZERO) {
            return Ok(ready);
        }
        self.wakeups += 1;
        if !interest.contains(Interest::TX) {
            ready.set(Ready::RX, self.wait(timeout).map_err(core_error)?);
        } else if !interest.contains(Interest::RX) {
            ready = sys::wait(socket, Interest::TX, timeout, WHAT)?;
        } else {
            ready = self.wait_for_both(socket, timeout)?;
        }
        Ok(ready)
    }

    /// Sleeps until something has arrived, or the time is over, or a signal comes.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        /// How often to look for chunks while the application holds them all: only this thread, or
        /// a detached buffer that is dropped on another, can bring one back, and neither wakes us.
        const LOOK: Duration = Duration::from_millis(1);

        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        while !self.is_ready()? {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            if !self.receiver.is_armed() {
                std::thread::sleep(left.map_or(LOOK, |left| left.min(LOOK)));
            } else if self.ring.wait(1, left)? == 0 {
                return self.is_ready();
            }
        }
        Ok(true)
    }

    /// The ring cannot wait for room to send, and `poll` cannot wait for the ring: so its eventfd.
    fn wait_for_both(
        &mut self,
        socket: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> bypass_core::Result<Ready> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let writable = {
            let arrived = self.ring.poll_fd().map_err(core_error)?;
            let mut fds =
                [PollFd::new(&arrived, PollFlags::IN), PollFd::new(&socket, PollFlags::OUT)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(_) => !fds[1].revents().is_empty(),
                Err(Errno::INTR) => return Ok(Ready::empty()),
                Err(error) => return Err(bypass_core::Error::os("wait for a socket", error)),
            }
        };
        let mut ready = Ready::empty();
        ready.set(Ready::TX, writable);
        ready.set(Ready::RX, self.is_ready().map_err(core_error)?);
        if !ready.contains(Ready::RX) {
            self.ring.acknowledge().map_err(core_error)?;
            ready.set(Ready::RX, self.is_ready().map_err(core_error)?);
        }
        Ok(ready)
    }

    /// See [`Ring::poll_fd`].
    pub(super) fn poll_fd(&self) -> Result<BorrowedFd<'_>> {
        self.ring.poll_fd()
    }

    /// Where the pool's chunks are; `sending` of those that count as held are being sent.
    pub(super) fn census(&self, sending: u64) -> FrameCensus {
        let (mut census, posted) = (self.pool.census(), self.buffers.available() as u64);
        census.held -= posted + sending;
        census.rx_posted += posted;
        census.tx_in_flight += sending;
        census
    }

    /// Times that a wait slept.
    pub(super) fn wakeups(&self) -> u64 {
        self.wakeups
    }

    /// The ring of buffers that the kernel receives into: those that it has used and that are not
    /// posted anew.
    pub(super) fn occupancy(&self) -> Occupancy {
        let size = self.buffers.entries() as u64;
        Occupancy { used: size.saturating_sub(self.buffers.available() as u64), size }
    }

    pub(super) fn pool(&self) -> &Pool<K> {
        &self.pool
    }

    pub(super) fn pending_errors(&self) -> u64 {
        self.pending_errors
    }

    /// Arrivals shorter than their own header.
    pub(super) fn invalid(&self) -> u64 {
        self.receiver.counters().invalid
    }

    /// Shows what the ring and the receive count.
    pub(super) fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        let (ring, receiver) = (self.ring.counters(), self.receiver.counters());
        visit("recv_dry", receiver.no_buffers);
        visit("recv_armed", receiver.armed);
        visit("cq_overflows", ring.overflows);
        visit("enters", ring.enters);
        visit("completions", ring.completions);
    }
}

/// Shows an arrival to `receive` and leaves the payload alone as the buffer's data.
fn open<K: Kind>(
    buf: &mut PoolBuf<K>,
    layout: MessageLayout,
    receive: &mut impl Receive<K>,
) -> Option<K::Meta> {
    let bytes = buf.data();
    let parsed = layout.parse(bytes)?; // the receiver drops and counts what is too short
    let arrival = Arrival {
        name: &bytes[parsed.name.clone()],
        control: &bytes[parsed.control.clone()],
        len: parsed.payload.len(),
        flags: parsed.flags,
    };
    let meta = receive.describe(&arrival)?;
    buf.set_len(parsed.payload.end).ok()?;
    buf.trim_front(parsed.payload.start).ok()?;
    Some(meta)
}
