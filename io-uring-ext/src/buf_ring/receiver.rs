//! [`Receiver`] and [`MessageReceiver`]: multishot receives that re-arm themselves.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;

use super::message::{MessageLayout, ReceivedMessage};
use super::multishot::How;
use super::source::{RecvSource, Shot};
use super::{BufRing, BufSource};
use crate::error::Result;
use crate::mode::{Local, Mode, OwnedBy};
use crate::multishot::common_methods;
use crate::op::{DatagramFd, StreamFd, Target};

/// What a receiver has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverCounters {
    /// Completions with data.
    pub received: u64,
    /// Buffers that came behind the first of their completion; for a
    /// [bundle receiver](BufRing::bundle_receiver) alone.
    pub bundled: u64,
    /// Times it was armed.
    pub armed: u64,
    /// Times it ended because the buffer ring was empty.
    pub no_buffers: u64,
    /// Times it ended because the completion queue was full.
    pub overflows: u64,
    /// Times it ended because the thread that had armed it had exited.
    pub orphaned: u64,
    /// Completions that were dropped: with a message shorter than its own header, or with data in no
    /// buffer that the kernel had.
    pub invalid: u64,
}

/// Receives from a socket into the buffers of a [`BufRing`]: `recv` multishot (Linux 6.0).
///
/// One submission serves many arrivals. When the kernel ends it, it is armed again as its
/// [`EndReason`](super::EndReason) allows. Receiving allocates nothing.
///
/// What carries no data, an empty datagram, is not handed out; a [`MessageReceiver`] hands it out.
///
/// Dropping the receiver cancels the operation. Closing the socket elsewhere would not: the kernel
/// keeps a closed socket alive as long as a receive is armed on it.
pub struct Receiver<S: BufSource, M: Mode = Local>(Shot<S, M>);

/// Receives messages with their addresses and control data: `recvmsg` multishot (Linux 6.0).
///
/// As [`Receiver`]; each buffer begins with a header as [`MessageLayout`] says.
pub struct MessageReceiver<S: BufSource, M: Mode = Local> {
    pub(crate) shot: Shot<S, M>,
    layout: MessageLayout,
}

impl<S: BufSource + OwnedBy<M>, M: Mode> BufRing<S, M>
where
    S::Buf: OwnedBy<M>,
{
    /// Receives from `fd` into this ring's buffers, beginning with the first call.
    pub fn receiver(&self, fd: impl Into<Target>) -> Receiver<S, M> {
        Receiver(RecvSource::shot(self.shared.clone(), fd.into(), How::Data))
    }

    /// Receives from a stream as [`receiver`](Self::receiver), several buffers per completion where
    /// more has come than one holds (`IORING_RECVSEND_BUNDLE`, Linux 6.10; without it `EINVAL`).
    ///
    /// They are handed out one by one, in order. It pays when much comes at once and the buffers are
    /// small. Which buffers belong together is the kernel's accounting, on which this relies.
    pub fn bundle_receiver(&self, stream: &StreamFd) -> Receiver<S, M> {
        Receiver(RecvSource::shot(self.shared.clone(), stream.into(), How::Bundles))
    }

    /// Reads from what is no socket and can be polled, a pipe, terminal or eventfd, into this ring's
    /// buffers: `read` multishot (Linux 6.7, `io_uring_prep_read_multishot(3)`). A regular file answers
    /// `EBADFD`.
    pub fn reader(&self, fd: impl Into<Target>) -> Receiver<S, M> {
        Receiver(RecvSource::shot(self.shared.clone(), fd.into(), How::Reads))
    }

    /// Receives messages from `socket` into this ring's buffers, beginning with the first call.
    ///
    /// Each buffer has to hold [`MessageLayout::payload_at`] bytes more than the largest message.
    ///
    /// A Unix socket's peer can put open descriptors among the control data (`SCM_RIGHTS`), with
    /// close-on-exec set: whoever makes room for control data has to take them out of what is handed out
    /// and close them. Those of messages that nobody takes are closed.
    pub fn message_receiver(
        &self,
        socket: &DatagramFd,
        layout: MessageLayout,
    ) -> MessageReceiver<S, M> {
        let shot = RecvSource::shot(self.shared.clone(), socket.into(), How::Messages(layout));
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
    /// As [`try_recv`](Self::try_recv); [`Error::Closed`](crate::Error::Closed) when the ring was closed and had to leak the
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
                self.$field.source.low_water = buffers.max(1);
                self
            }

            /// What it has done so far.
            pub fn counters(&self) -> ReceiverCounters {
                let (source, ends) = (&self.$field.source, self.$field.ends());
                ReceiverCounters {
                    received: source.received,
                    bundled: source.bundled,
                    armed: ends.armed,
                    no_buffers: ends.no_buffers,
                    overflows: ends.overflows,
                    orphaned: ends.orphaned,
                    invalid: source.invalid,
                }
            }
        }

        common_methods!([S: BufSource, M: Mode] $receiver<S, M>, $field, ReceiverCounters);
    };
}

common!(Receiver, 0);
common!(MessageReceiver, shot);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ring;
    use crate::buf::BufPool;
    use crate::ring::Cqe;

    const BUFFER_AND_MORE: u32 = 1 | 2;

    // No kernel sends such things, so the completions are made up; nothing is armed.

    #[test]
    fn data_in_no_buffer_of_the_ring_is_counted() {
        let ring = Ring::local().unwrap();
        let pool = BufPool::local(256, 2).unwrap();
        let buffers = BufRing::new(&ring, 2, pool.clone()).unwrap();
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let stream = StreamFd::new(&crate::Fd::new(stream)).unwrap();
        for mut receiver in [buffers.receiver(&stream), buffers.bundle_receiver(&stream)] {
            // One that there is not, and none at all.
            for flags in [BUFFER_AND_MORE | 7 << 16, BUFFER_AND_MORE & !1] {
                receiver.0.fetched.push_back(Cqe { result: 5, flags });
                assert!(receiver.0.next_fetched().unwrap().is_none());
            }
            assert_eq!((receiver.counters().invalid, receiver.counters().received), (2, 0));
        }
        assert_eq!(pool.available(), 0, "the kernel has them as before");
    }

    #[test]
    fn a_message_shorter_than_its_header_is_counted() {
        let ring = Ring::local().unwrap();
        let pool = BufPool::local(256, 2).unwrap();
        let buffers = BufRing::new(&ring, 2, pool.clone()).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let layout = MessageLayout::new(28, 0);
        let mut receiver = buffers.message_receiver(&DatagramFd::new(socket).unwrap(), layout);
        let result = layout.payload_at() as i32 - 1;
        receiver.shot.fetched.push_back(Cqe { result, flags: BUFFER_AND_MORE });
        assert!(receiver.shot.next_fetched().unwrap().is_none());
        assert_eq!((receiver.counters().invalid, receiver.counters().received), (1, 0));
        assert_eq!(pool.available(), 1, "the buffer is free again");
    }
}
