//! [`BrokenSocket`]: a datagram endpoint that is wrong on purpose.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::pool::{DatagramMeta, Kind, PoolBuf};
use crate::{
    Buffer, Burst, Caps, DatagramIo, Ecn, Endpoint, Error, FrameError, Interest, Ready, Result,
    Stats,
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatagramDefect {
    /// Does not tell who sent a datagram.
    ForgetsSender,
    /// Does not tell to which address a datagram was sent.
    ForgetsLocalAddress,
    /// Loses the congestion mark.
    LosesCongestionMark,
    /// Makes a byte of nothing.
    PadsEmpty,
    /// Pretends that a datagram without a destination was sent.
    SwallowsUnaddressed,
}

impl DatagramDefect {
    /// Every defect.
    pub const ALL: &[Self] = &[
        Self::ForgetsSender,
        Self::ForgetsLocalAddress,
        Self::LosesCongestionMark,
        Self::PadsEmpty,
        Self::SwallowsUnaddressed,
    ];
}

/// A sound datagram endpoint with a defect on top.
#[derive(Debug)]
pub struct BrokenSocket<D> {
    inner: D,
    defect: DatagramDefect,
}

impl<D> BrokenSocket<D> {
    /// Breaks `inner`.
    pub fn new(inner: D, defect: DatagramDefect) -> Self {
        Self { inner, defect }
    }

    fn spoil<K: Kind<Meta = DatagramMeta>>(&self, datagram: &mut PoolBuf<K>) {
        let mut meta = datagram.meta();
        match self.defect {
            DatagramDefect::ForgetsSender => meta.recv.remote = None,
            DatagramDefect::ForgetsLocalAddress => meta.recv.local = None,
            DatagramDefect::LosesCongestionMark => meta.recv.ecn = Ecn::NotCapable,
            DatagramDefect::PadsEmpty if datagram.data().is_empty() => {
                // A fresh chunk has room for a byte.
                let _padded = datagram.append(1);
            }
            _ => {}
        }
        datagram.set_meta(meta);
    }
}

impl<K, D> DatagramIo for BrokenSocket<D>
where
    K: Kind<Meta = DatagramMeta>,
    D: DatagramIo<Datagram = PoolBuf<K>>,
{
    type Datagram = PoolBuf<K>;

    fn recv(&mut self, out: &mut Burst<PoolBuf<K>>) -> Result<usize> {
        let n = self.inner.recv(out)?;
        let new = out.len() - n;
        out[new..].iter_mut().for_each(|datagram| self.spoil(datagram));
        Ok(n)
    }

    fn alloc(&mut self, out: &mut Burst<PoolBuf<K>>, n: usize) -> usize {
        self.inner.alloc(out, n)
    }

    fn send(&mut self, datagrams: &mut Burst<PoolBuf<K>>) -> Result<usize> {
        match self.inner.send(datagrams) {
            Err(Error::Frame { cause: FrameError::NoDestination, .. })
                if self.defect == DatagramDefect::SwallowsUnaddressed =>
            {
                datagrams.pop_front();
                Ok(1)
            }
            other => other,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }
}

impl<D: Endpoint> Endpoint for BrokenSocket<D> {
    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        self.inner.wait(interest, timeout)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_fd()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }
}
