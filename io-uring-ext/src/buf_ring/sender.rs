//! [`BundleSender`]: many buffers, in order, with one submission.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::bundle::{Batch, BundleSent, MAX_ENTRIES, SendBundle};
use crate::buf::{IoBuf, Slice};
use crate::error::{Error, Result, StartError};
use crate::mode::{Local, Mode, OwnedBy};
use crate::op::StreamFd;
use crate::ring::{Ends, Inner, Pending, Ring, Until};

const WHAT: &str = "sending a bundle";

/// What a [`BundleSender`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleCounters {
    /// Sends that the kernel has ended.
    pub sends: u64,
    /// Bytes that have gone to the socket.
    pub bytes: u64,
    /// Buffers that have gone to the socket whole.
    pub buffers: u64,
    /// Sends that ended before all of their bytes had gone.
    pub short: u64,
}

/// Sends queued buffers down a stream, in order, up to 256 with one submission: `send` with
/// `IORING_RECVSEND_BUNDLE` (Linux 6.10, `EINVAL` before; `io_uring_prep_send_bundle(3)`).
///
/// [`push`](Self::push) queues; [`try_flush`](Self::try_flush), [`wait`](Self::wait) or
/// [`flush`](Self::flush) sends. One send is in flight at a time: streams have an order. It takes as many
/// of the queued buffers as there are, and goes on inside the kernel as the socket gets room; where the
/// kernel ends it earlier, another one follows. After an error or a cancel, what had not gone is kept, to
/// the byte, and sent by the next call, or given back by [`take_unsent`](Self::take_unsent): nothing is
/// lost, sent twice or out of order. The kernel waits for room on a socket with `O_NONBLOCK` too.
///
/// Buffers that have been sent are free: [`take_sent`](Self::take_sent) gives those of the send that ended
/// last, to be used again; what is not taken is dropped when the next one begins.
///
/// Dropping the sender cancels, as dropping any operation does: flush first. What is in flight is freed
/// when the kernel is done with it.
///
/// It pays for many small buffers that are ready together. A [`Message`](crate::op::Message) sends many
/// buffers too, on sockets of every kind, but is not continued by the kernel when the socket is full.
///
/// ```
/// use io_uring_ext::buf_ring::BundleSender;
/// use io_uring_ext::{Fd, Ring, StreamFd};
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// # if let Err(refusal) = io_uring_ext::probe::Probe::run().get("IORING_FEAT_RECVSEND_BUNDLE") {
/// #     eprintln!("skipped: {refusal}");
/// #     return Ok(());
/// # }
/// let ring = Ring::local()?;
/// let (near, mut far) = UnixStream::pair()?;
/// let mut sender = BundleSender::new(&ring, &StreamFd::new(&Fd::new(near))?, 64)?;
/// for word in ["three ", "buffers, ", "one send"] {
///     sender.push(word.as_bytes().to_vec()).map_err(|_| "the queue is full")?;
/// }
/// assert!(sender.wait(None)?);
/// assert_eq!((sender.counters().sends, sender.counters().buffers), (1, 3));
/// assert_eq!(sender.take_sent().ok_or("nothing was sent")?, b"three "); // to be used again
/// drop(sender); // and with it the socket
/// let mut text = String::new();
/// far.read_to_string(&mut text)?;
/// assert_eq!(text, "three buffers, one send");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BundleSender<B: IoBuf, M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    /// `None` while a send has it, and for ever when the ring had to leak that.
    batch: Option<Box<Batch<B, M>>>,
    sending: Option<Pending<SendBundle<B, M>, M>>,
    /// Buffers in the batch.
    in_flight: usize,
    waiting: VecDeque<B>,
    /// Bytes of the first waiting buffer that have been sent; none while a batch is in front of it.
    skip: usize,
    sent: VecDeque<B>,
    capacity: usize,
    counters: BundleCounters,
}

/// What [`start`](BundleSender::start) found.
enum Progress {
    /// Nothing is left to send.
    Idle,
    /// A send is in flight.
    InFlight,
    /// The submission queue is full.
    QueueFull,
}

impl<B: IoBuf, M: Mode> BundleSender<B, M> {
    /// Buffers in one submission, at most.
    pub const MAX_BUFFERS: u16 = MAX_ENTRIES;

    /// Sends down `stream`, up to `buffers` with one submission, and as many may wait behind them.
    /// (A buffer counts once for each 4 MiB that it has begun.)
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless `buffers` is a power of two up to [`MAX_BUFFERS`](Self::MAX_BUFFERS);
    /// [`Error::Os`] when the kernel refuses to register a buffer ring.
    pub fn new(ring: &Ring<M>, stream: &StreamFd, buffers: u16) -> Result<Self>
    where
        B: OwnedBy<M>,
    {
        if !buffers.is_power_of_two() || buffers > MAX_ENTRIES {
            let why = "take a power of two up to 256: the kernel takes no more at once";
            return Err(Error::config("buffers in a bundle", buffers, why));
        }
        let capacity = 2 * usize::from(buffers);
        let batch = Batch::new(&ring.inner, stream.into(), buffers, capacity)?;
        Ok(Self {
            ring: ring.inner.clone(),
            batch: Some(Box::new(batch)),
            sending: None,
            in_flight: 0,
            waiting: VecDeque::with_capacity(capacity),
            skip: 0,
            sent: VecDeque::with_capacity(capacity),
            capacity,
            counters: BundleCounters::default(),
        })
    }

    /// Queues a buffer behind the others; nothing is sent yet. An empty one is sent in that it comes
    /// back in its turn.
    ///
    /// # Errors
    ///
    /// Gives it back when there is no [`room`](Self::room).
    pub fn push(&mut self, buf: B) -> Result<(), B> {
        if self.room() == 0 {
            return Err(buf);
        }
        self.waiting.push_back(buf);
        Ok(())
    }

    /// How many buffers can be queued now.
    pub fn room(&self) -> usize {
        self.capacity - self.queued()
    }

    /// Buffers that have not been sent whole, those in flight among them.
    pub fn queued(&self) -> usize {
        self.waiting.len() + self.in_flight
    }

    /// Whether a send is in flight.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// The next buffer of the send that ended last, to be used again.
    pub fn take_sent(&mut self) -> Option<B> {
        self.sent.pop_front()
    }

    /// Takes back the first of what has not been sent and is not in flight. It may have been sent in part;
    /// the slice is the rest of it.
    pub fn take_unsent(&mut self) -> Option<Slice<B>> {
        let buf = self.waiting.pop_front()?;
        // Not more of it has been sent than there is of it.
        buf.slice(std::mem::take(&mut self.skip)..).ok()
    }

    /// What it has done so far.
    pub fn counters(&self) -> BundleCounters {
        self.counters
    }

    /// Sends what is queued, without sleeping. Whether all of it has gone.
    ///
    /// # Errors
    ///
    /// The socket's or the ring's; what has not been sent stays queued, unless the ring was closed and
    /// had to leak it ([`Error::Closed`]). The next call tries again.
    pub fn try_flush(&mut self) -> Result<bool> {
        loop {
            if matches!(self.start()?, Progress::Idle) {
                return Ok(true);
            }
            self.ring.submit()?;
            if !self.sending.as_ref().is_some_and(Pending::is_done) {
                return Ok(false);
            }
            self.take_done()?;
        }
    }

    /// Sleeps until everything queued has gone to the socket. `false` when the time is over; the send
    /// goes on.
    ///
    /// # Errors
    ///
    /// As [`try_flush`](Self::try_flush).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let progress = self.start()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match (progress, &self.sending) {
                (Progress::Idle, _) => return Ok(true),
                (Progress::InFlight, Some(sending)) => {
                    let key = sending.key();
                    let done = self.ring.wait_until(left, |state| {
                        (state.is_done(key) || state.is_closed()).then_some(())
                    })?;
                    if done.is_none() {
                        return Ok(false);
                    }
                    self.take_done()?;
                }
                // Taking completions makes room.
                _ if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                _ => self.ring.submit()?,
            }
        }
    }

    /// Sends what is queued, waiting as a task until all of it has gone to the socket. Dropping the
    /// future loses nothing: the send goes on.
    ///
    /// # Errors
    ///
    /// As [`try_flush`](Self::try_flush).
    pub async fn flush(&mut self) -> Result<()> {
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// As [`flush`](Self::flush), for futures written by hand.
    ///
    /// # Errors
    ///
    /// As [`try_flush`](Self::try_flush).
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while ready!(self.poll_send(context))? {}
        Poll::Ready(Ok(()))
    }

    /// Waits as a task until there is [`room`](Self::room), and sends if there is none.
    ///
    /// # Errors
    ///
    /// As [`try_flush`](Self::try_flush).
    pub async fn ready(&mut self) -> Result<()> {
        std::future::poll_fn(|context| self.poll_ready(context)).await
    }

    /// As [`ready`](Self::ready), for futures written by hand.
    ///
    /// # Errors
    ///
    /// As [`try_flush`](Self::try_flush).
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.room() == 0 && ready!(self.poll_send(context))? {}
        Poll::Ready(Ok(()))
    }

    /// Asks the kernel to end the send in flight. The call that finds it ended returns `ECANCELED`,
    /// unless the cancel came too late; the one after that goes on with what is left.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`].
    pub fn cancel(&mut self) -> Result<()> {
        self.sending.as_ref().map_or(Ok(()), Pending::cancel)
    }

    /// Starts a send, or waits for the one in flight. `false` when nothing is left to send.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<bool>> {
        match (self.start()?, &self.sending) {
            (Progress::Idle, _) => Poll::Ready(Ok(false)),
            (Progress::InFlight, Some(sending)) => {
                ready!(self.ring.poll_until(sending.key(), Until::End, context))?;
                self.take_done()?;
                Poll::Ready(Ok(true))
            }
            _ => {
                // The driver makes room.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn start(&mut self) -> Result<Progress> {
        if self.sending.is_some() {
            return Ok(Progress::InFlight);
        }
        if self.waiting.is_empty() {
            return Ok(Progress::Idle);
        }
        let Some(mut batch) = self.batch.take() else { return Err(Error::Closed) };
        if let Err(error) = batch.renew() {
            self.batch = Some(batch);
            return Err(error);
        }
        self.sent.clear();
        if !batch.fill(&mut self.waiting, std::mem::take(&mut self.skip)) {
            // All of them are empty.
            self.account(batch, 0);
            return Ok(Progress::Idle);
        }
        self.in_flight = batch.bufs.len();
        match Pending::start(&self.ring, SendBundle(batch), Ends::WithCompletion) {
            Ok(sending) => {
                self.sending = Some(sending);
                Ok(Progress::InFlight)
            }
            Err(refused) => {
                self.put_back(refused.operation.0);
                match refused.why {
                    StartError::QueueFull => Ok(Progress::QueueFull),
                    StartError::TooMany { capacity } => Err(Error::config(
                        "operations",
                        capacity,
                        "sending a bundle needs one of its own",
                    )),
                    StartError::Ring(error) => Err(error),
                }
            }
        }
    }

    /// The send in flight has ended, or the ring is closed. `Ok` also when there is more to send.
    fn take_done(&mut self) -> Result<()> {
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let asked = sending.cancel_was_asked();
        let Ok(BundleSent { result, batch }) = sending.try_take() else {
            self.in_flight = 0;
            return Err(Error::Closed);
        };
        let offered = batch.offered;
        let sent = result.as_ref().map_or(0, |sent| *sent).min(offered);
        self.counters.sends += 1;
        self.counters.short += u64::from(sent < offered);
        self.account(batch, sent);
        match result {
            Ok(_) if sent == offered => Ok(()),
            Ok(_) if asked => Err(Error::os(WHAT, io::Error::from_raw_os_error(libc::ECANCELED))),
            Ok(0) => Err(Error::os(WHAT, io::ErrorKind::WriteZero.into())),
            // The kernel says what stopped it when it is asked to go on.
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A worker was interrupted; the thread that had submitted it has exited; the kernel has
                // waited often enough, without anything sent.
                Some(libc::EINTR | libc::ECANCELED | libc::EAGAIN) if !asked => Ok(()),
                _ => Err(Error::os(WHAT, error)),
            },
        }
    }

    /// Sorts a batch, of which `sent` bytes have gone, into what is sent and what is left.
    fn account(&mut self, mut batch: Box<Batch<B, M>>, sent: usize) {
        batch.stale |= sent < batch.offered;
        self.counters.bytes += sent as u64;
        let mut gone = batch.skip + sent;
        while let Some(len) = batch.bufs.front().map(IoBuf::init_len).filter(|len| *len <= gone) {
            gone -= len;
            self.counters.buffers += 1;
            self.sent.extend(batch.bufs.pop_front());
        }
        batch.skip = gone;
        self.put_back(batch);
    }

    /// What is left in a batch waits again, in front of the rest.
    fn put_back(&mut self, mut batch: Box<Batch<B, M>>) {
        self.skip = batch.skip;
        while let Some(buf) = batch.bufs.pop_back() {
            self.waiting.push_front(buf);
        }
        self.in_flight = 0;
        self.batch = Some(batch);
    }
}

// Nothing in it is pinned.
impl<B: IoBuf, M: Mode> Unpin for BundleSender<B, M> {}

impl<B: IoBuf, M: Mode> fmt::Debug for BundleSender<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleSender")
            .field("waiting", &self.waiting.len())
            .field("in_flight", &self.in_flight)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
