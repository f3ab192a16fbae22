//! [`TcpStream`].

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown as How, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::buf::{IoBuf, IoBufMut};
use crate::buf_ring::{BufRing, BufSource, Receiver};
use crate::error::{Error, Result, StartError};
use crate::mode::{Local, Mode, OwnedBy};
use crate::op::{
    Connect, Fd, Message, MessageBuf, Operation, Recv, RecvMsg, Send, SendFlags, SendMsg, Shutdown,
};
use crate::ring::{Ends, Inner, Pending, Ring, Started, WaitError};

/// A TCP connection, on a ring.
///
/// Clones are handles to the same connection: one task reads while another writes. The connection
/// ends when the last handle is gone and the last operation on it is done, or with
/// [`shutdown`](Self::shutdown).
///
/// Reads are not ordered among each other, and neither are writes: have one of each in flight.
pub struct TcpStream<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    fd: Fd,
}

impl<M: Mode> TcpStream<M> {
    /// Takes a connected socket, for example an [accepted](crate::op::Accepted) one.
    pub fn new(ring: &Ring<M>, socket: impl Into<OwnedFd>) -> Self {
        Self::on(ring.inner.clone(), socket.into())
    }

    pub(super) fn on(ring: M::Ptr<Inner<M>>, socket: OwnedFd) -> Self {
        Self { ring, fd: Fd::new(socket) }
    }

    /// Connects to `address`.
    ///
    /// # Errors
    ///
    /// When there is no socket to be had, or the ring has no room; whether the peer answers is the
    /// answer of the [`Connecting`].
    pub fn connect(ring: &Ring<M>, address: SocketAddr) -> Result<Connecting<M>, StartError> {
        let kind = Type::STREAM.cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
            .map_err(|error| Error::os("making a TCP socket", error))?;
        let stream = Self::new(ring, socket);
        let connect = stream.start(Connect::new(&stream.fd, address));
        let connect = connect.map_err(|refused| refused.why)?;
        Ok(Connecting { connect: Some(connect), stream })
    }

    /// Reads what is there, or comes next, up to the buffer's capacity. Zero bytes are the end.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn read<B: IoBufMut + OwnedBy<M>>(&self, buf: B) -> Started<Recv<B>, M> {
        self.start(Recv::new(&self.fd, buf))
    }

    /// Reads into several buffers, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn read_vectored<B: IoBufMut + OwnedBy<M>>(
        &self,
        bufs: Box<MessageBuf<B>>,
    ) -> Started<RecvMsg<B>, M> {
        self.start(RecvMsg::new(&self.fd, bufs))
    }

    /// Writes the whole buffer. A result of fewer bytes means that the connection failed on the way;
    /// the next write says why.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn write<B: IoBuf + OwnedBy<M>>(&self, buf: B) -> Started<Send<B>, M> {
        self.start(Send::new(&self.fd, buf).flags(SendFlags::WAIT_ALL))
    }

    /// Writes several buffers, one after the other, all of them.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn write_vectored<B: IoBuf + OwnedBy<M>>(
        &self,
        bufs: Box<Message<B>>,
    ) -> Started<SendMsg<B>, M> {
        self.start(SendMsg::new(&self.fd, bufs).flags(SendFlags::WAIT_ALL))
    }

    /// Receives into the buffers of a ring, with one submission.
    pub fn receiver<S: BufSource + OwnedBy<M>>(&self, buffers: &BufRing<S, M>) -> Receiver<S, M>
    where
        S::Buf: OwnedBy<M>,
    {
        buffers.receiver(&self.fd)
    }

    /// Ends reading, writing or both.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn shutdown(&self, how: How) -> Started<Shutdown, M> {
        self.start(Shutdown::new(&self.fd, how))
    }

    /// Sends small segments at once rather than wait for more (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As `setsockopt(2)`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        SockRef::from(&self.fd).set_tcp_nodelay(nodelay)
    }

    /// Whether small segments are sent at once.
    ///
    /// # Errors
    ///
    /// As `getsockopt(2)`.
    pub fn nodelay(&self) -> io::Result<bool> {
        SockRef::from(&self.fd).tcp_nodelay()
    }

    /// This end's address.
    ///
    /// # Errors
    ///
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.fd).local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The other end's address.
    ///
    /// # Errors
    ///
    /// As `getpeername(2)`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.fd).peer_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The descriptor, for operations that take any.
    pub fn fd(&self) -> &Fd {
        &self.fd
    }

    fn start<T: Operation>(&self, operation: T) -> Started<T, M> {
        Pending::start(&self.ring, operation, Ends::WithCompletion)
    }
}

impl<M: Mode> Clone for TcpStream<M> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), fd: self.fd.clone() }
    }
}

impl<M: Mode> fmt::Debug for TcpStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// A connection that is being made. Dropping it gives it up.
#[must_use = "dropping it gives the connection up"]
pub struct Connecting<M: Mode = Local> {
    /// `None` once it has answered.
    connect: Option<Pending<Connect, M>>,
    stream: TcpStream<M>,
}

impl<M: Mode> Connecting<M> {
    /// Submits, sleeps until the connection is made, and returns it.
    ///
    /// # Errors
    ///
    /// As `connect(2)`; `ETIMEDOUT` also when `timeout` is over, and then the attempt is given up.
    pub fn wait(mut self, timeout: Option<Duration>) -> Result<TcpStream<M>> {
        let answer = match self.connect.take().ok_or(Error::Closed)?.wait(timeout) {
            Ok(answer) => answer,
            Err(WaitError::TimedOut(_given_up)) => {
                Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
            }
            Err(WaitError::Ring(error)) => return Err(error),
        };
        answer.map_err(|error| Error::os("connecting", error))?;
        Ok(self.stream)
    }
}

// Nothing in it is pinned.
impl<M: Mode> Unpin for Connecting<M> {}

impl<M: Mode> Future for Connecting<M> {
    type Output = Result<TcpStream<M>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(connect) = &mut self.connect else { return Poll::Pending };
        let answer = ready!(Pin::new(connect).poll(context));
        self.connect = None;
        answer?.map_err(|error| Error::os("connecting", error))?;
        Poll::Ready(Ok(self.stream.clone()))
    }
}

impl<M: Mode> fmt::Debug for Connecting<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").field("stream", &self.stream).finish_non_exhaustive()
    }
}
