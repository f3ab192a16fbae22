//! Ours: connections as fixed files, a multishot receive for each into one buffer ring, and the buffer
//! itself is sent back; one system call per turn. A completion names the connection that it is for, so
//! a turn costs nothing for the others.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use anyhow::{Context as _, Result, ensure};
use io_uring_ext::buf::{BufPool, PoolBuf};
use io_uring_ext::buf_ring::{BufRing, Receiver};
use io_uring_ext::fixed::{FileTable, FixedFd};
use io_uring_ext::op::{Accept, Send, SendFlags};
use io_uring_ext::{Fd, Local, Pending, Ring};

use super::BUFFER;
use crate::echo::calls;

/// The connections for which something has come, by number.
type Ready = Arc<Mutex<Vec<usize>>>;

/// Adds a connection to those.
struct Bell {
    number: usize,
    ready: Ready,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

/// Connections at once, at most.
const CONNECTIONS: u32 = 1024;

struct Connection {
    socket: FixedFd,
    receiver: Receiver<BufPool>,
    waker: Waker,
}

struct Server {
    ring: Ring,
    files: FileTable,
    buffers: BufRing<BufPool>,
    ready: Ready,
    /// `None` where one has ended.
    connections: Vec<Option<Connection>>,
    sends: Vec<Pending<Send<PoolBuf>, Local>>,
}

pub(super) fn serve(listener: TcpListener) -> Result<Infallible> {
    let ring = Ring::builder().entries(256).completions(2048).build_local()?;
    let buffers = BufRing::new(&ring, 256, BufPool::local(BUFFER, 512)?)?;
    let files = FileTable::new(&ring, CONNECTIONS)?;
    let (ready, connections, sends) = (Ready::default(), Vec::new(), Vec::with_capacity(512));
    let mut server = Server { ring, files, buffers, ready, connections, sends };
    let listener = Fd::new(listener);
    let accept = |ring: &Ring| ring.push(Accept::new(&listener)).map_err(|refused| refused.why);
    let mut incoming = accept(&server.ring)?;
    let mut numbers = Vec::with_capacity(512);
    let mut calls = 0;
    loop {
        if incoming.is_done() {
            let next = accept(&server.ring)?;
            let accepted = std::mem::replace(&mut incoming, next).try_take();
            server.welcome(&accepted.ok().context("it was done")??.socket)?;
        }
        std::mem::swap(&mut numbers, &mut *server.lock_ready());
        for number in numbers.drain(..) {
            server.echo(number)?;
        }
        server.pass_time(incoming.is_done())?;
        let enters = server.ring.counters().enters;
        calls::count((enters - calls) as usize);
        calls = enters;
    }
}

impl Server {
    fn lock_ready(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn welcome(&mut self, socket: &OwnedFd) -> Result<()> {
        let socket = self.files.install(socket)?;
        let number = self.connections.len();
        let waker = Waker::from(Arc::new(Bell { number, ready: Arc::clone(&self.ready) }));
        let receiver = self.buffers.receiver(&socket);
        self.connections.push(Some(Connection { socket, receiver, waker }));
        // Arms the receive.
        self.echo(number)
    }

    /// Sends back everything that has come on a connection.
    fn echo(&mut self, number: usize) -> Result<()> {
        let Some(connection) = &mut self.connections[number] else { return Ok(()) };
        let mut context = Context::from_waker(&connection.waker);
        loop {
            match connection.receiver.poll_recv(&mut context)? {
                Poll::Ready(Some(bytes)) => {
                    let send = Send::new(&connection.socket, bytes).flags(SendFlags::DONT_WAIT);
                    self.sends.push(self.ring.push(send).map_err(|refused| refused.why)?);
                }
                Poll::Ready(None) => {
                    self.connections[number] = None;
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Submits, and sleeps until there is something to do.
    fn pass_time(&mut self, busy: bool) -> Result<()> {
        let sends = self.sends.iter().filter(|send| !send.is_done()).count();
        if busy || !self.lock_ready().is_empty() {
            self.ring.submit()?;
        } else {
            // The sends end within the submission, because they do not wait; what comes beyond them
            // is something to do.
            self.ring.wait(sends + 1, None)?;
        }
        for send in self.sends.drain(..) {
            let sent = send.try_take().ok().context("a send is not done")?;
            let count = sent.result.context("cannot send")?;
            ensure!(count == sent.buf.len(), "a message was cut to {count} bytes");
        }
        Ok(())
    }
}
