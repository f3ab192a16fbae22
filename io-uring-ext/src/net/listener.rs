//! [`TcpListener`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::TcpStream;
use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::multishot::Incoming;
use crate::op::{Accept, Fd};
use crate::ring::{Ends, Inner, Pending, Ring, Started};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that listens, on a ring.
pub struct TcpListener<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    fd: Fd,
}

impl<M: Mode> TcpListener<M> {
    /// Listens on `address`, which may be one that an old connection lingers on (`SO_REUSEADDR`).
    ///
    /// # Errors
    ///
    /// As `socket(2)`, `bind(2)` and `listen(2)`, which are called at once: nothing here waits.
    pub fn bind(ring: &Ring<M>, address: SocketAddr) -> Result<Self> {
        let listen = || {
            let kind = Type::STREAM.cloexec();
            let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        };
        let socket = listen().map_err(|error| Error::os("listening for TCP connections", error))?;
        Ok(Self { ring: ring.inner.clone(), fd: Fd::new(socket) })
    }

    /// Takes a listener that was made elsewhere.
    pub fn from_std(ring: &Ring<M>, listener: std::net::TcpListener) -> Self {
        Self { ring: ring.inner.clone(), fd: Fd::new(listener) }
    }

    /// Takes one connection, with its peer's address; [`TcpStream::new`] makes a stream of it.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn accept(&self) -> Started<Accept, M> {
        Pending::start(&self.ring, Accept::new(&self.fd), Ends::WithCompletion)
    }

    /// Takes connections as they come, all with one submission.
    pub fn incoming(&self) -> TcpIncoming<M> {
        TcpIncoming { ring: self.ring.clone(), incoming: Incoming::on(self.ring.clone(), &self.fd) }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// As `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.fd).local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The descriptor, for operations that take any.
    pub fn fd(&self) -> &Fd {
        &self.fd
    }
}

impl<M: Mode> fmt::Debug for TcpListener<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// The connections of a [`TcpListener`]: an [`Incoming`] that makes streams.
pub struct TcpIncoming<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    incoming: Incoming<M>,
}

impl<M: Mode> TcpIncoming<M> {
    /// The next connection, without sleeping.
    ///
    /// # Errors
    ///
    /// As [`Incoming::try_next`].
    pub fn try_next(&mut self) -> Result<Option<TcpStream<M>>> {
        let connection = self.incoming.try_next()?;
        Ok(connection.map(|fd| TcpStream::on(self.ring.clone(), fd)))
    }

    /// Sleeps until there is a connection; otherwise as [`Incoming::wait`].
    ///
    /// # Errors
    ///
    /// As [`Incoming::wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<TcpStream<M>>> {
        let connection = self.incoming.wait(timeout)?;
        Ok(connection.map(|fd| TcpStream::on(self.ring.clone(), fd)))
    }

    /// The next connection, waiting for it as a task; otherwise as [`Incoming::next`].
    ///
    /// # Errors
    ///
    /// As [`Incoming::next`].
    pub async fn next(&mut self) -> Result<Option<TcpStream<M>>> {
        let connection = self.incoming.next().await?;
        Ok(connection.map(|fd| TcpStream::on(self.ring.clone(), fd)))
    }

    /// What takes the connections: to look at its counters, or to cancel it.
    pub fn get_mut(&mut self) -> &mut Incoming<M> {
        &mut self.incoming
    }
}

// Nothing in it is pinned.
impl<M: Mode> Unpin for TcpIncoming<M> {}

impl<M: Mode> Stream for TcpIncoming<M> {
    type Item = Result<TcpStream<M>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = Pin::new(&mut this.incoming).poll_next(context);
        next.map(|next| next.map(|next| next.map(|fd| TcpStream::on(this.ring.clone(), fd))))
    }
}

impl<M: Mode> fmt::Debug for TcpIncoming<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.incoming.fmt(f)
    }
}
