//! [`TokioPort`]: a port whose waits are futures.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio::io::Interest as Events;
use ::tokio::runtime::Handle;
use ::tokio::task::consume_budget;
use bypass_core::{Burst, Endpoint as _, Error, Interest, PacketIo as _, Ready, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::XdpPort;
use super::endpoint::LINK_CHECK;
use crate::sys::watch::Watched;
use crate::umem::XdpFrame;

/// A port in tokio: tasks sleep where [`wait`](bypass_core::Endpoint::wait) would put the thread to
/// sleep.
///
/// Like the port it stays on its thread, so it is for a current-thread runtime, with a `LocalSet` where
/// tasks are spawned:
///
/// ```no_run
/// use bypass_core::{Burst, swap_addresses};
/// use bypass_xdp::{TokioPort, XdpOptions};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> bypass_core::Result<()> {
///     let mut port = TokioPort::new(XdpOptions::new("eth1").open()?)?;
///     let mut burst = Burst::with_capacity(64);
///     loop {
///         port.recv(&mut burst).await?;
///         burst.iter_mut().for_each(swap_addresses);
///         port.send(&mut burst).await?;
///     }
/// }
/// ```
///
/// **Cancellation.** Each future can be dropped at any time, and nothing is lost by that: frames are
/// received with the poll that completes [`recv`](Self::recv), and what [`send`](Self::send) has not
/// taken is still in the burst. What it has taken goes out as after
/// [`PacketIo::send`](bypass_core::PacketIo::send); it cannot be called back.
///
/// A port that always has something to do gives way to other tasks now and then, as tokio's own
/// sockets do. While a task waits, a timer looks after the link ten times a second, for the kernel wakes
/// nobody when an interface is removed; and a thousand times where it waits for something to be sent.
#[derive(Debug)]
pub struct TokioPort {
    port: XdpPort,
    socket: Watched,
    timer: Timer,
}

impl TokioPort {
    /// A port in the runtime whose context this is called in.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] outside of a runtime, or when `epoll` or a timer is not to be had. The port is
    /// closed then.
    ///
    /// # Panics
    ///
    /// As every use of tokio's I/O, when the runtime was built without `enable_io`.
    pub fn new(port: XdpPort) -> Result<Self> {
        let failed = |error| Error::os("watch an AF_XDP socket with tokio", error);
        Handle::try_current().map_err(|error| failed(io::Error::other(error)))?;
        let both = Events::READABLE | Events::WRITABLE;
        let socket = Watched::new(Rc::clone(&port.socket), both).map_err(failed)?;
        let timer = Timer::new().map_err(failed)?;
        Ok(Self { port, socket, timer })
    }

    /// Receives at least one frame: appends what has arrived to `out`, and returns how many there were.
    /// None only where `out` has no room.
    ///
    /// # Errors
    ///
    /// As [`PacketIo::recv`](bypass_core::PacketIo::recv), also when it happens during the wait.
    pub async fn recv(&mut self, out: &mut Burst<XdpFrame>) -> Result<usize> {
        consume_budget().await;
        let receive = |port: &mut XdpPort| {
            let received = port.recv(out)?;
            if received == 0 && !out.is_full() {
                port.advance()?;
                return Ok(None);
            }
            Ok(Some(received))
        };
        self.until(Interest::RX, receive).await
    }

    /// Sends all of `frames`, waiting for room where there is none, and rings the doorbell.
    ///
    /// # Errors
    ///
    /// As [`PacketIo::send`](bypass_core::PacketIo::send) and
    /// [`Endpoint::flush`](bypass_core::Endpoint::flush); what was not taken is still in `frames`, in
    /// order.
    pub async fn send(&mut self, frames: &mut Burst<XdpFrame>) -> Result<()> {
        consume_budget().await;
        let send = |port: &mut XdpPort| {
            port.send(frames)?;
            port.flush()?;
            Ok(frames.is_empty().then_some(()))
        };
        self.until(Interest::TX, send).await
    }

    /// Waits until all that was sent has come back: the frames left, or are counted as dropped.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::flush`](bypass_core::Endpoint::flush).
    pub async fn sent(&mut self) -> Result<()> {
        consume_budget().await;
        let flush = |port: &mut XdpPort| {
            port.flush()?;
            Ok((!port.tx.is_sending()).then_some(()))
        };
        self.until(Interest::TX, flush).await
    }

    /// Waits until one of `interest` can be served, and says which: [`Ready::RX`] when there is
    /// something to receive, [`Ready::TX`] when there is room in the TX ring and a frame to be had.
    ///
    /// Frames that the application holds come back to the pool without waking anybody: a task that
    /// waits for those learns of them within 100 ms.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::wait`](bypass_core::Endpoint::wait).
    pub async fn ready(&mut self, interest: Interest) -> Result<Ready> {
        consume_budget().await;
        let look = |port: &mut XdpPort| {
            port.advance()?;
            let ready = port.ready(interest);
            Ok((!ready.is_empty()).then_some(ready))
        };
        self.until(interest, look).await
    }

    /// The port, for what needs no waiting.
    #[must_use]
    pub fn port(&self) -> &XdpPort {
        &self.port
    }

    /// The port, for what needs no waiting: [`alloc`](bypass_core::PacketIo::alloc) among others.
    pub fn port_mut(&mut self) -> &mut XdpPort {
        &mut self.port
    }

    /// The port, out of tokio.
    #[must_use]
    pub fn into_inner(self) -> XdpPort {
        self.port
    }

    /// Sleeps between attempts until one has an answer.
    async fn until<T>(
        &mut self,
        interest: Interest,
        mut attempt: impl FnMut(&mut XdpPort) -> Result<Option<T>>,
    ) -> Result<T> {
        poll_fn(|context| {
            loop {
                if let Some(answer) = attempt(&mut self.port)? {
                    return Poll::Ready(Ok(answer));
                }
                // Readiness is void before the next attempt, so that whatever comes from then on is
                // news.
                match self.poll_news(context, interest)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Whether anything has happened since this was last asked; else it wakes the task when it does.
    fn poll_news(&mut self, context: &mut Context<'_>, interest: Interest) -> Result<Poll<()>> {
        let Self { port, socket, timer } = self;
        let failed = |error| Error::os("wait for an AF_XDP socket with tokio", error);
        let mut news = Poll::Pending;
        if interest.contains(Interest::RX) && socket.poll_read(context).map_err(failed)?.is_ready()
        {
            news = Poll::Ready(());
        }
        if interest.contains(Interest::TX) && socket.poll_write(context).map_err(failed)?.is_ready()
        {
            news = Poll::Ready(());
        }
        if timer.poll_tick(context, port.nap(interest)).map_err(failed)?.is_ready() {
            port.check_link()?;
            news = Poll::Ready(());
        }
        Ok(news)
    }
}

/// A timer of the kernel's, for a runtime's own may not be enabled (`timerfd_create(2)`).
#[derive(Debug)]
struct Timer {
    fd: Watched,
    /// As it is set.
    period: Duration,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let fd = Watched::new(Rc::new(fd), Events::READABLE)?;
        let timer = Self { fd, period: LINK_CHECK };
        timer.start()?;
        Ok(timer)
    }

    fn start(&self) -> io::Result<()> {
        let period = Timespec::try_from(self.period).map_err(io::Error::other)?;
        let setting = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }

    /// Whether a period is over; the next one has begun then, while somebody asks.
    fn poll_tick(&mut self, context: &mut Context<'_>, period: Duration) -> io::Result<Poll<()>> {
        if self.period != period {
            self.period = period;
            self.start()?;
        }
        if self.fd.poll_read(context)?.is_pending() {
            return Ok(Poll::Pending);
        }
        // Reading starts the next period. There is nothing to read when the timer was set anew.
        let _ticks = rustix::io::read(&self.fd, &mut [0; 8]);
        Ok(Poll::Ready(()))
    }
}
