//! Sending frames: many in one `sendmmsg(2)`.

use std::os::fd::BorrowedFd;

use super::Link;
use crate::pool::{FrameMeta, Kind, PoolBuf};
use crate::sys::{Outgoing, SendBatch};
use crate::{Buffer, Burst, Error, FrameError, Result, Stats, Unsupported};

/// Most segments of a frame.
pub(super) const MAX_SEGMENTS: usize = 16;

/// A frame has at least a header (`hard_header_len` of Ethernet).
const MIN_LEN: usize = 14;

/// The sending half of an AF_PACKET port, shared by the backends over such sockets.
#[derive(Debug)]
pub struct FrameSender {
    batch: SendBatch,
    link: Link,
}

/// How a batch ended.
enum End {
    /// Everything in it was sent.
    Next,
    /// The kernel has no room.
    Full,
    Failed(Error),
}

impl FrameSender {
    /// Sends up to `batch` frames with one system call.
    #[must_use]
    pub fn new(link: Link, batch: usize) -> Self {
        Self { batch: SendBatch::new(batch, batch.max(MAX_SEGMENTS) * 2), link }
    }

    /// Where the frames go.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Sends from the front of `frames` as far as the kernel takes them, and returns how many.
    ///
    /// # Errors
    ///
    /// As [`PacketIo::send`](crate::PacketIo::send).
    pub fn send<K: Kind<Meta = FrameMeta>>(
        &mut self,
        socket: BorrowedFd<'_>,
        frames: &mut Burst<PoolBuf<K>>,
        stats: &mut Stats,
    ) -> Result<usize> {
        let mut taken = 0;
        while !frames.is_empty() {
            let (sent, end) = self.send_batch(socket, frames, stats);
            PoolBuf::free_bulk(frames.drain(sent));
            taken += sent;
            match end {
                End::Next => {}
                End::Failed(error) if taken == 0 => return Err(error),
                // The next call fails the same way.
                End::Failed(_) | End::Full => break,
            }
        }
        Ok(taken)
    }

    /// Sends one batch and answers how many frames are gone.
    fn send_batch<K: Kind<Meta = FrameMeta>>(
        &mut self,
        socket: BorrowedFd<'_>,
        frames: &[PoolBuf<K>],
        stats: &mut Stats,
    ) -> (usize, End) {
        let Self { batch, link } = self;
        let mut outgoing = batch.fill();
        let mut wrong = None;
        for frame in frames {
            wrong = unsendable(frame, link);
            if wrong.is_some() || !outgoing.push(frame.segments()) {
                break;
            }
        }
        if let (Some(cause), 0) = (wrong, outgoing.left()) {
            return (0, failed::<K>(cause));
        }
        transmit(&mut outgoing, socket, frames, link, stats)
    }
}

/// Hands the batch, which is the first of `frames`, to the kernel.
fn transmit<K: Kind<Meta = FrameMeta>>(
    outgoing: &mut Outgoing<'_, '_>,
    socket: BorrowedFd<'_>,
    frames: &[PoolBuf<K>],
    link: &Link,
    stats: &mut Stats,
) -> (usize, End) {
    let (mut sent, mut retried) = (0, false);
    while outgoing.left() > 0 {
        stats.syscalls = stats.syscalls.map(|n| n + 1);
        let error = match outgoing.send(socket) {
            Ok(n) => {
                let gone = &frames[sent..sent + n];
                stats.tx_packets += n as u64;
                stats.tx_bytes += gone.iter().map(|frame| frame.total_len() as u64).sum::<u64>();
                sent += n;
                continue;
            }
            Err(error) => error,
        };
        let end = match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => End::Full,
            // It may be about an earlier time when the link was down.
            Some(libc::ENETDOWN) if !retried => {
                retried = true;
                continue;
            }
            // The MTU is smaller than it was.
            Some(libc::EMSGSIZE) => {
                let (len, max) = (frames[sent].total_len(), link.current_max_len(socket));
                failed::<K>(FrameError::TooLong { len, max })
            }
            _ => End::Failed(link.explain(socket, format!("send on {}", link.name()), error)),
        };
        return (sent, end);
    }
    (sent, End::Next)
}

/// Why a frame can never be sent.
fn unsendable<K: Kind<Meta = FrameMeta>>(frame: &PoolBuf<K>, link: &Link) -> Option<FrameError> {
    let data = frame.data();
    let (len, segments) = match frame.is_chain() {
        false => (data.len(), 1),
        true => (frame.total_len(), frame.segments().count()),
    };
    if len < MIN_LEN {
        return Some(FrameError::TooShort { len, min: MIN_LEN });
    }
    if len > link.max_len() && len > link.max_len_of(data) {
        return Some(FrameError::TooLong { len, max: link.max_len_of(data) });
    }
    (segments > MAX_SEGMENTS).then(|| {
        FrameError::Unsupported(Unsupported {
            what: format!("frame of {segments} segments").into(),
            backend: K::BACKEND,
            why: "`caps().max_segments` is the limit".into(),
        })
    })
}

fn failed<K: Kind>(cause: FrameError) -> End {
    End::Failed(Error::frame("send a frame", K::BACKEND, cause))
}
