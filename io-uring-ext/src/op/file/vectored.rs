//! [`ReadVectored`] and [`WriteVectored`].

use std::fmt;

use io_uring::{opcode, squeue};

use super::write::{RwFlags, WriteDone};
use crate::buf::{IoBuf, IoBufMut};
use crate::fixed::vectored_is_supported;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, ReadDone, Target};
use crate::ring::RingId;

/// Several buffers that are read or written as if they were one.
///
/// When all are parts of one registered buffer (see [`BufferTable`](crate::fixed::BufferTable)), the
/// operation uses the registration (Linux 6.15).
///
/// It is made once, travels into the operation and comes back with the result, so that a vectored
/// operation allocates nothing.
pub struct Vectored<B> {
    bufs: Vec<B>,
    /// Where the buffers are while an operation has them; as large as `bufs` from the beginning.
    pieces: Vec<libc::iovec>,
}

// SAFETY: the pointers lead into the buffers, and are only followed by the kernel while an operation
// owns both.
unsafe impl<B: Send> Send for Vectored<B> {}
// SAFETY: `&self` gives access to the buffers alone, which are `Sync`; nothing follows the pointers.
unsafe impl<B: Sync> Sync for Vectored<B> {}

impl<B> Vectored<B> {
    /// Buffers in one operation, at most: `UIO_MAXIOV`.
    pub const MAX_BUFFERS: usize = 1024;

    /// Room for `buffers` buffers, at most [`MAX_BUFFERS`](Self::MAX_BUFFERS).
    pub fn with_capacity(buffers: usize) -> Self {
        let buffers = buffers.clamp(1, Self::MAX_BUFFERS);
        Self { bufs: Vec::with_capacity(buffers), pieces: Vec::with_capacity(buffers) }
    }

    /// Appends a buffer.
    ///
    /// # Errors
    ///
    /// Gives it back when there are [`MAX_BUFFERS`](Self::MAX_BUFFERS) already.
    pub fn push(&mut self, buf: B) -> Result<(), B> {
        if self.bufs.len() >= Self::MAX_BUFFERS {
            return Err(buf);
        }
        self.bufs.push(buf);
        Ok(())
    }

    /// The buffers, in order.
    pub fn bufs(&self) -> &[B] {
        &self.bufs
    }

    /// The buffers, in order, to be changed.
    pub fn bufs_mut(&mut self) -> &mut [B] {
        &mut self.bufs
    }

    /// Takes the buffers out, in order. The room stays.
    pub fn drain(&mut self) -> std::vec::Drain<'_, B> {
        self.bufs.drain(..)
    }

    /// Writes down where the buffers are.
    fn point(&mut self, piece: impl FnMut(&mut B) -> libc::iovec) -> (*const libc::iovec, u32) {
        self.pieces.clear();
        self.pieces.extend(self.bufs.iter_mut().map(piece));
        // At most `MAX_BUFFERS`.
        (self.pieces.as_ptr(), self.pieces.len() as u32)
    }
}

impl<B: IoBuf> Vectored<B> {
    /// The registered buffer that all of them are part of. Pieces of no bytes are no parts of one to
    /// the kernel (`io_vec_fill_bvec` in `io_uring/rsrc.c`).
    fn registered(&self, ring: RingId) -> Option<u16> {
        if !vectored_is_supported() || self.pieces.iter().any(|piece| piece.iov_len == 0) {
            return None;
        }
        let mut indices = self.bufs.iter().map(|buf| buf.registered(ring));
        let first = indices.next()??;
        indices.all(|index| index == Some(first)).then_some(first)
    }

    /// Bytes in all buffers together.
    pub fn total_len(&self) -> usize {
        self.bufs.iter().map(IoBuf::init_len).sum()
    }
}

impl<B> FromIterator<B> for Vectored<B> {
    /// The first [`MAX_BUFFERS`](Self::MAX_BUFFERS) buffers.
    fn from_iter<I: IntoIterator<Item = B>>(bufs: I) -> Self {
        let bufs: Vec<B> = bufs.into_iter().take(Self::MAX_BUFFERS).collect();
        let pieces = Vec::with_capacity(bufs.len());
        Self { bufs, pieces }
    }
}

impl<B> IntoIterator for Vectored<B> {
    type Item = B;
    type IntoIter = std::vec::IntoIter<B>;
    fn into_iter(self) -> Self::IntoIter {
        self.bufs.into_iter()
    }
}

impl<B: fmt::Debug> fmt::Debug for Vectored<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.bufs).finish()
    }
}

/// Reads into several buffers, one after the other, as `preadv2(2)` (Linux 5.1).
///
/// ```
/// use io_uring_ext::op::{ReadVectored, Vectored};
/// use io_uring_ext::{Fd, Ring};
///
/// let ring = Ring::local()?;
/// let file = Fd::new(std::fs::File::open("/proc/version")?);
/// let bufs: Vectored<_> = [Vec::with_capacity(6), Vec::with_capacity(8)].into_iter().collect();
/// let done = ring.push(ReadVectored::new(&file, bufs, 0))?.wait(None)?;
/// assert_eq!(done.result?, 14);
/// assert_eq!(done.buf.bufs(), [b"Linux ".to_vec(), b"version ".to_vec()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// As with [`Read`](crate::op::Read), fewer bytes than fit may come. Each buffer's contents are then
/// what was read into it, which for the last ones may be nothing.
#[derive(Debug)]
pub struct ReadVectored<B: IoBufMut> {
    fd: Target,
    bufs: Vectored<B>,
    offset: u64,
    flags: RwFlags,
}

impl<B: IoBufMut> ReadVectored<B> {
    /// Reads up to the buffers' capacities (2 GiB together) from `fd` at `offset`; zero for sockets and
    /// pipes.
    pub fn new(fd: impl Into<Target>, bufs: Vectored<B>, offset: u64) -> Self {
        Self { fd: fd.into(), bufs, offset, flags: RwFlags::empty() }
    }

    /// Adds what is special about this read.
    #[must_use]
    pub fn flags(mut self, flags: RwFlags) -> Self {
        self.flags |= flags;
        self
    }

    /// The buffers, from an operation that was not started.
    pub fn into_bufs(self) -> Vectored<B> {
        self.bufs
    }
}

// SAFETY: the buffers are stable memory that the operation owns (`IoBufMut`), the pieces are a heap
// block of its own that changes no more, and it owns the descriptor.
unsafe impl<B: IoBufMut> Prepare for ReadVectored<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        let (pieces, count) = self.bufs.point(|buf| libc::iovec {
            iov_base: buf.stable_mut_ptr().cast(),
            iov_len: buf.capacity(),
        });
        let (fd, offset, flags) = (self.fd.number(), self.offset, self.flags.bits());
        match self.bufs.registered(ring) {
            Some(index) => opcode::ReadvFixed::new(fd, pieces, count, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Readv::new(fd, pieces, count).offset(offset).rw_flags(flags).build(),
        }
    }
}

impl<B: IoBufMut> Operation for ReadVectored<B> {
    type Output = ReadDone<Vectored<B>>;

    fn complete(mut self, completions: Completions) -> ReadDone<Vectored<B>> {
        let result = completions.result_or(0);
        if let Ok(mut left) = result {
            for (buf, piece) in self.bufs.bufs.iter_mut().zip(&self.bufs.pieces) {
                let read = left.min(piece.iov_len);
                left -= read;
                // SAFETY: the kernel fills the pieces in order, so these bytes of this one have been
                // written, and `iov_len` is the buffer's capacity.
                unsafe { buf.set_init(read) };
            }
        }
        ReadDone { result, buf: self.bufs }
    }
}

/// Writes several buffers, one behind the other, as `pwritev2(2)` (Linux 5.1).
///
/// What [`Write`](super::Write) says about short writes holds here too: the result may end in the
/// middle of any buffer.
#[derive(Debug)]
pub struct WriteVectored<B: IoBuf> {
    fd: Target,
    bufs: Vectored<B>,
    offset: u64,
    flags: RwFlags,
}

impl<B: IoBuf> WriteVectored<B> {
    /// Writes the buffers' contents (at most 2 GiB together) to `fd` at `offset`; zero for sockets and
    /// pipes.
    pub fn new(fd: impl Into<Target>, bufs: Vectored<B>, offset: u64) -> Self {
        Self { fd: fd.into(), bufs, offset, flags: RwFlags::empty() }
    }

    /// Writes to the end of the file, as [`Write::append`](super::Write::append).
    pub fn append(fd: impl Into<Target>, bufs: Vectored<B>) -> Self {
        Self { flags: RwFlags::APPEND, ..Self::new(fd, bufs, 0) }
    }

    /// Adds what is special about this write.
    #[must_use]
    pub fn flags(mut self, flags: RwFlags) -> Self {
        self.flags |= flags;
        self
    }

    /// The buffers, from an operation that was not started.
    pub fn into_bufs(self) -> Vectored<B> {
        self.bufs
    }
}

// SAFETY: the buffers are stable memory that the operation owns (`IoBuf`), the pieces are a heap block
// of its own that changes no more, and it owns the descriptor.
unsafe impl<B: IoBuf> Prepare for WriteVectored<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        let (pieces, count) = self.bufs.point(|buf| libc::iovec {
            iov_base: buf.stable_ptr().cast_mut().cast(),
            iov_len: buf.init_len(),
        });
        let (fd, offset, flags) = (self.fd.number(), self.offset, self.flags.bits());
        match self.bufs.registered(ring) {
            Some(index) => opcode::WritevFixed::new(fd, pieces, count, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Writev::new(fd, pieces, count).offset(offset).rw_flags(flags).build(),
        }
    }
}

impl<B: IoBuf> Operation for WriteVectored<B> {
    type Output = WriteDone<Vectored<B>>;

    fn complete(self, completions: Completions) -> WriteDone<Vectored<B>> {
        WriteDone { result: completions.result_or(self.bufs.total_len()), buf: self.bufs }
    }
}
