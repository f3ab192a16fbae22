//! [`Receiver`] and [`MessageReceiver`]: multishot receives that re-arm themselves.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use io_uring::cqueue;

use super::message::{MessageLayout, ReceivedMessage};
use super::multishot::RecvMulti;
use super::{BufRing, BufSource, Registered};
use crate::buf::IoBufMut;
use crate::error::{Error, Result, StartError};
use crate::mode::{Local, Mode, OwnedBy};
use crate::op::{DatagramFd, Target};
use crate::ring::key::Key;
use crate::ring::{Cqe, Ends, Until};

/// Why a multishot receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The buffer ring was empty (`ENOBUFS`). Nothing is lost: data waits in the socket. Re-armed once
    /// the ring holds the low-water mark again; arming at once would fail at once.
    NoBuffers,
    /// Data came, without the `MORE` flag: the completion queue was full. Nothing is lost. Re-armed
    /// with the next call; the queue should be larger.
    Overflow,
    /// An empty datagram came, which the kernel takes for an end. Re-armed with the next call.
    EmptyMessage,
    /// It was cancelled, by itself or with everything on the ring. Stays ended.
    Cancelled,
    /// The kernel cancelled it unasked: the thread that had armed it has exited (see
    /// [`Shared`](crate::Shared)). Nothing is lost. Re-armed with the next call, by the thread that
    /// makes it.
    Orphaned,
    /// The peer has closed the stream. Stays ended.
    EndOfStream,
    /// The socket had an error of this number, which the call that found it returns. Re-armed with
    /// the next call, because an error of a datagram socket is about one datagram.
    Error(i32),
}

/// What a receiver has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverCounters {
    /// Completions with data.
    pub received: u64,
    /// Times it was armed.
    pub armed: u64,
    /// Times it ended because the buffer ring was empty.
    pub no_buffers: u64,
    /// Times it ended because the completion queue was full.
    pub overflows: u64,
    /// Times it ended because the thread that had armed it had exited.
    pub orphaned: u64,
    /// Messages shorter than their own header, which were dropped.
    pub invalid: u64,
}

/// Data that came with a completion: its buffer, and how many bytes.
type Arrival<B> = (B, usize);

/// What both receivers have in common.
pub(crate) struct Multishot<S: BufSource, M: Mode> {
    ring: M::Ptr<Registered<S, M>>,
    fd: Target,
    layout: Option<MessageLayout>,
    stream: bool,
    armed: Option<Key>,
    /// Completions taken from the operation and not handed out yet.
    taken: VecDeque<Cqe>,
    ended: Option<EndReason>,
    low_water: usize,
    counters: ReceiverCounters,
}

impl<S: BufSource, M: Mode> Multishot<S, M> {
    fn new(ring: M::Ptr<Registered<S, M>>, fd: Target, layout: Option<MessageLayout>) -> Self {
        let stream = fd.is_stream();
        let entries = ring.with(|slots| slots.held.len()).unwrap_or(1);
        Self {
            fd,
            layout,
            stream,
            armed: None,
            taken: VecDeque::with_capacity(entries),
            ended: None,
            low_water: (entries / 4).max(1),
            counters: ReceiverCounters::default(),
            ring,
        }
    }

    /// The next arrival, without sleeping. Errors of the socket come in their place among the data.
    pub(crate) fn next(&mut self) -> Result<Option<Arrival<S::Buf>>> {
        loop {
            if let Some(arrival) = self.next_fetched()? {
                return Ok(Some(arrival));
            }
            if !self.pull()? {
                return Ok(None);
            }
        }
    }

    /// The next arrival among the completions that have been fetched.
    pub(crate) fn next_fetched(&mut self) -> Result<Option<Arrival<S::Buf>>> {
        while let Some(cqe) = self.taken.pop_front() {
            if let Some(arrival) = self.accept(cqe)? {
                return Ok(Some(arrival));
            }
        }
        Ok(None)
    }

    /// Refills the ring, arms where that is due, and fetches completions. Whether any came.
    pub(crate) fn pull(&mut self) -> Result<bool> {
        self.arm_if_due()?;
        self.ring.ring.submit()?;
        self.fetch()
    }

    /// Completions that have been fetched and not handed out.
    #[cfg(feature = "packet")]
    pub(crate) fn fetched(&self) -> usize {
        self.taken.len()
    }

    fn fetch(&mut self) -> Result<bool> {
        if let Some(key) = self.armed {
            let taken = &mut self.taken;
            self.ring.ring.with(|state| state.swap_results(key, taken))?;
        }
        Ok(!self.taken.is_empty())
    }

    fn arm_if_due(&mut self) -> Result<()> {
        let available = self.ring.refill();
        if self.armed.is_some() {
            return Ok(());
        }
        let due = self.needed().is_some_and(|needed| available >= needed);
        if due { self.arm() } else { Ok(()) }
    }

    /// How many buffers the ring has to hold for the receive to be armed; `None`: it stays ended.
    fn needed(&self) -> Option<usize> {
        match self.ended {
            None => Some(1),
            Some(EndReason::Cancelled | EndReason::EndOfStream) => None,
            Some(_) => Some(self.low_water),
        }
    }

    /// Waits until the receive, which is not armed, can be armed. Ready if it cannot.
    fn poll_arm(&self, context: &Context<'_>) -> Poll<()> {
        let Some(needed) = self.needed() else { return Poll::Ready(()) };
        if self.ring.refill() < needed {
            let bell = self.ring.with(|slots| slots.source.bell().cloned()).flatten();
            let Some(bell) = bell else { return Poll::Ready(()) };
            bell.register(context.waker());
            if self.ring.refill() < needed {
                return Poll::Pending;
            }
        }
        // Buffers have just come back, or the submission queue was full and the driver makes room.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn arm(&mut self) -> Result<()> {
        let header = self.layout.map(MessageLayout::header);
        let operation = RecvMulti::<S, M> { fd: self.fd.clone(), ring: self.ring.clone(), header };
        let started = self.ring.ring.with(|state| {
            // What comes back is only another handle on what `self` owns.
            state.start(operation, Ends::WithCompletion).map_err(|(_, why)| why)
        })?;
        match started {
            Ok(key) => {
                self.armed = Some(key);
                self.ended = None;
                self.counters.armed += 1;
                Ok(())
            }
            // Tried again with the next call, when completions have been taken.
            Err(StartError::QueueFull) => Ok(()),
            Err(StartError::TooMany { capacity }) => {
                Err(Error::config("operations", capacity, "a receiver needs one of its own"))
            }
            Err(StartError::Ring(error)) => Err(error),
        }
    }

    /// Takes one completion in.
    fn accept(&mut self, cqe: Cqe) -> Result<Option<Arrival<S::Buf>>> {
        let buf = cqueue::buffer_select(cqe.flags)
            .and_then(|id| self.ring.with(|slots| slots.take(id)).flatten());
        let len = usize::try_from(cqe.result).unwrap_or(0);
        if !cqe.more() {
            self.end(cqe);
        }
        let Some(mut buf) = buf else {
            return match self.ended {
                Some(EndReason::Error(errno)) if !cqe.more() => {
                    let error = io::Error::from_raw_os_error(errno);
                    Err(Error::os("a multishot receive", error))
                }
                _ => Ok(None),
            };
        };
        let len = len.min(buf.capacity());
        if let Some(layout) = self.layout {
            if cqe.result >= 0 && len < layout.payload_at() {
                self.counters.invalid += 1;
                return Ok(None);
            }
            clear_gaps(&mut buf, layout, len);
        }
        // SAFETY: the kernel has written so many bytes to the start of this buffer, except for the
        // gaps, which were just written.
        unsafe { buf.set_init(len) };
        if cqe.result < 0 || (len == 0 && self.stream) {
            // The end of a stream may come with a buffer in which nothing is.
            return Ok(None);
        }
        self.counters.received += 1;
        Ok(Some((buf, len)))
    }

    /// The operation has ended: notes why, and frees its place.
    fn end(&mut self, cqe: Cqe) {
        // Every message has a header, also an empty one.
        let overhead = self.layout.map_or(0, |layout| layout.payload_at());
        let reason = match -cqe.result {
            libc::ENOBUFS => EndReason::NoBuffers,
            libc::ECANCELED if self.cancel_was_asked() => EndReason::Cancelled,
            libc::ECANCELED => EndReason::Orphaned,
            errno if errno > 0 => EndReason::Error(errno),
            result if -result as usize > overhead => EndReason::Overflow,
            _ if self.stream => EndReason::EndOfStream,
            _ => EndReason::EmptyMessage,
        };
        self.counters.no_buffers += u64::from(reason == EndReason::NoBuffers);
        self.counters.overflows += u64::from(reason == EndReason::Overflow);
        self.counters.orphaned += u64::from(reason == EndReason::Orphaned);
        self.ended = Some(reason);
        if let Some(key) = self.armed.take() {
            let mut rest = VecDeque::new();
            let operation =
                self.ring.ring.with(|state| state.take::<RecvMulti<S, M>>(key, &mut rest));
            debug_assert!(rest.is_empty(), "completions after the terminal one");
            drop(operation);
        }
    }

    fn cancel_was_asked(&self) -> bool {
        let Some(key) = self.armed else { return true };
        self.ring.ring.with(|state| state.cancel_was_asked(key)).unwrap_or(true)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Arrival<S::Buf>>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(arrival) = self.next()? {
                return Ok(Some(arrival));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let Some(key) = self.armed else { return Ok(None) };
            let over = left.is_some_and(|left| left.is_zero());
            let something =
                |state: &mut crate::ring::state::State| state.first_result(key).map(drop);
            if over || self.ring.ring.wait_until(left, something)?.is_none() {
                return self.next();
            }
        }
    }

    /// The next arrival. Leaves submitting to the ring's driver.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Arrival<S::Buf>>>> {
        loop {
            if let Some(arrival) = self.next_fetched()? {
                return Poll::Ready(Ok(Some(arrival)));
            }
            self.arm_if_due()?;
            let Some(key) = self.armed else {
                return self.poll_arm(context).map(|()| Ok(None));
            };
            ready!(self.ring.ring.poll_until(key, Until::Completion, context))?;
            if !self.fetch()? {
                return Poll::Ready(Err(Error::Closed));
            }
        }
    }

    fn cancel(&mut self) -> Result<()> {
        let Some(key) = self.armed else {
            self.ended = Some(EndReason::Cancelled);
            return Ok(());
        };
        self.ring.ring.with(|state| {
            state.cancel(key);
            state.submit()
        })?
    }

    fn rearm(&mut self) {
        if self.armed.is_none() {
            self.ended = None;
        }
    }

    pub(crate) fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.ended
    }
}

impl<S: BufSource, M: Mode> Drop for Multishot<S, M> {
    fn drop(&mut self) {
        for cqe in self.taken.drain(..) {
            if let Some(id) = cqueue::buffer_select(cqe.flags) {
                self.ring.with(|slots| slots.put_back(id));
            }
        }
        if let Some(key) = self.armed.take() {
            // In a forked child there is nothing to cancel.
            let _ = self.ring.ring.with(|state| state.abandon(key, true));
        }
    }
}

/// Zeroes what the kernel counts among the `len` bytes of a message and does not write: the ends of
/// the rooms for address and control data (`io_recvmsg_multishot` in `io_uring/net.c`).
fn clear_gaps(buf: &mut impl IoBufMut, layout: MessageLayout, len: usize) {
    let start = buf.stable_mut_ptr();
    for (field, room) in [0, 4].into_iter().zip(layout.rooms()) {
        if len < room.end {
            return;
        }
        // SAFETY: a message begins with four lengths; `len` bytes hold them and all of its rooms.
        let length = unsafe { start.add(field) };
        // SAFETY: the kernel has written the lengths, wherever they lie.
        let length = unsafe { length.cast::<u32>().read_unaligned() } as usize;
        let gap = room.start.saturating_add(length).min(room.end);
        // SAFETY: inside the room.
        let at = unsafe { start.add(gap) };
        // SAFETY: from there to the end of the room is inside the buffer, which is ours again.
        unsafe { at.write_bytes(0, room.end - gap) };
    }
}

/// Receives from a socket into the buffers of a [`BufRing`]: `recv` multishot (Linux 6.0).
///
/// One submission serves many arrivals. When the kernel ends it, it is armed again as its
/// [`EndReason`] allows. Receiving allocates nothing.
///
/// What carries no data, an empty datagram, is not handed out; a [`MessageReceiver`] hands it out.
///
/// Dropping the receiver cancels the operation. Closing the socket elsewhere would not: the kernel
/// keeps a closed socket alive as long as a receive is armed on it.
pub struct Receiver<S: BufSource, M: Mode = Local>(Multishot<S, M>);

/// Receives messages with their addresses and control data: `recvmsg` multishot (Linux 6.0).
///
/// As [`Receiver`]; each buffer begins with a header as [`MessageLayout`] says.
pub struct MessageReceiver<S: BufSource, M: Mode = Local> {
    pub(crate) shot: Multishot<S, M>,
    layout: MessageLayout,
}

impl<S: BufSource + OwnedBy<M>, M: Mode> BufRing<S, M>
where
    S::Buf: OwnedBy<M>,
{
    /// Receives from `fd` into this ring's buffers, beginning with the first call.
    pub fn receiver(&self, fd: impl Into<Target>) -> Receiver<S, M> {
        Receiver(Multishot::new(self.shared.clone(), fd.into(), None))
    }

    /// Receives messages from `socket` into this ring's buffers, beginning with the first call.
    ///
    /// Each buffer has to hold [`MessageLayout::payload_at`] bytes more than the largest message.
    pub fn message_receiver(
        &self,
        socket: &DatagramFd,
        layout: MessageLayout,
    ) -> MessageReceiver<S, M> {
        let shot = Multishot::new(self.shared.clone(), socket.into(), Some(layout));
        MessageReceiver { shot, layout }
    }
}

impl<S: BufSource, M: Mode> Receiver<S, M> {
    /// The next data, without sleeping; its buffer's length is that of the data.
    ///
    /// # Errors
    ///
    /// An error of the socket, or of the ring.
    pub fn try_recv(&mut self) -> Result<Option<S::Buf>> {
        Ok(self.0.next()?.map(|(buf, _)| buf))
    }

    /// Sleeps until there is data. `None` when the time is over, and also when the receiver has ended
    /// and cannot be armed: see [`end_reason`](Self::end_reason).
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<S::Buf>> {
        Ok(self.0.wait(timeout)?.map(|(buf, _)| buf))
    }

    /// The next data, waiting for it as a task. `None` when the receiver has ended and cannot be
    /// armed: see [`end_reason`](Self::end_reason). Dropping the future loses nothing.
    ///
    /// A receiver that has run out of buffers waits until they are back, if its
    /// [source](BufSource::bell) can tell when that is, and gives `None` if it cannot.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv); [`Error::Closed`] when the ring was closed and had to leak the
    /// receive.
    pub async fn recv(&mut self) -> Result<Option<S::Buf>> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Self::recv), for futures written by hand.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<S::Buf>>> {
        let arrival = ready!(self.0.poll_next(context))?;
        Poll::Ready(Ok(arrival.map(|(buf, _)| buf)))
    }
}

impl<S: BufSource, M: Mode> MessageReceiver<S, M> {
    /// The next message, without sleeping.
    ///
    /// # Errors
    ///
    /// An error of the socket, or of the ring.
    pub fn try_recv(&mut self) -> Result<Option<ReceivedMessage<S::Buf>>> {
        let arrival = self.shot.next()?;
        Ok(arrival.and_then(|(buf, _)| ReceivedMessage::new(buf, self.layout)))
    }

    /// Sleeps until there is a message. `None` when the time is over, and also when the receiver has
    /// ended and cannot be armed: see [`end_reason`](Self::end_reason).
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<ReceivedMessage<S::Buf>>> {
        let arrival = self.shot.wait(timeout)?;
        Ok(arrival.and_then(|(buf, _)| ReceivedMessage::new(buf, self.layout)))
    }

    /// The next message, waiting for it as a task; otherwise as [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<ReceivedMessage<S::Buf>>> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Self::recv), for futures written by hand.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<ReceivedMessage<S::Buf>>>> {
        let arrival = ready!(self.shot.poll_next(context))?;
        Poll::Ready(Ok(arrival.and_then(|(buf, _)| ReceivedMessage::new(buf, self.layout))))
    }
}

impl<S: BufSource, M: Mode> Stream for Receiver<S, M> {
    type Item = Result<S::Buf>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(context).map(Result::transpose)
    }
}

impl<S: BufSource, M: Mode> Stream for MessageReceiver<S, M> {
    type Item = Result<ReceivedMessage<S::Buf>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(context).map(Result::transpose)
    }
}

/// What is the same for both.
macro_rules! common {
    ($receiver:ident, $field:tt) => {
        impl<S: BufSource, M: Mode> $receiver<S, M> {
            /// Buffers that the ring must hold before a receive that ran out of them is armed again;
            /// a quarter of the ring unless set. More than the source can supply would be never.
            #[must_use]
            pub fn low_water(mut self, buffers: usize) -> Self {
                self.$field.low_water = buffers.max(1);
                self
            }

            /// Why the receive ended, while it is not armed.
            pub fn end_reason(&self) -> Option<EndReason> {
                self.$field.ended()
            }

            /// Whether the kernel has a receive armed.
            pub fn is_armed(&self) -> bool {
                self.$field.armed.is_some()
            }

            /// Ends the receive. What had arrived before is still handed out.
            ///
            /// # Errors
            ///
            /// As [`Ring::submit`](crate::Ring::submit).
            pub fn cancel(&mut self) -> Result<()> {
                self.$field.cancel()
            }

            /// Lets a receive that was cancelled be armed again with the next call.
            pub fn rearm(&mut self) {
                self.$field.rearm();
            }

            /// What it has done so far.
            pub fn counters(&self) -> ReceiverCounters {
                self.$field.counters()
            }
        }

        // Nothing in it is pinned.
        impl<S: BufSource, M: Mode> Unpin for $receiver<S, M> {}

        impl<S: BufSource, M: Mode> fmt::Debug for $receiver<S, M> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($receiver))
                    .field("armed", &self.is_armed())
                    .field("ended", &self.end_reason())
                    .field("counters", &self.counters())
                    .finish_non_exhaustive()
            }
        }
    };
}

common!(Receiver, 0);
common!(MessageReceiver, shot);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ring;
    use crate::buf::BufPool;

    /// No kernel sends such a thing, so the completion is made up; nothing is armed.
    #[test]
    fn a_message_shorter_than_its_header_is_counted() {
        const BUFFER_AND_MORE: u32 = 1 | 2;

        let ring = Ring::local().unwrap();
        let pool = BufPool::local(256, 2).unwrap();
        let buffers = BufRing::new(&ring, 2, pool.clone()).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let layout = MessageLayout::new(28, 0);
        let mut receiver = buffers.message_receiver(&DatagramFd::new(socket).unwrap(), layout);
        let result = layout.payload_at() as i32 - 1;
        receiver.shot.taken.push_back(Cqe { result, flags: BUFFER_AND_MORE });
        assert!(receiver.shot.next_fetched().unwrap().is_none());
        assert_eq!((receiver.counters().invalid, receiver.counters().received), (1, 0));
        assert_eq!(pool.available(), 1, "the buffer is free again");
    }
}
