//! [`Read`].

use std::io;

use io_uring::{opcode, squeue};

use super::file::{POSITION, RwFlags};
use super::sealed::Prepare;
use super::{Completions, Operation, Target};
use crate::buf::IoBufMut;
use crate::ring::RingId;

/// Reads into a buffer, as `pread(2)` (Linux 5.6).
///
/// A file is read at `offset`; a socket or a pipe has none, so zero is given there. As always with
/// `read`, fewer bytes than fit may come, and zero is the end.
#[derive(Debug)]
pub struct Read<B: IoBufMut> {
    fd: Target,
    buf: B,
    offset: u64,
    flags: RwFlags,
}

impl<B: IoBufMut> Read<B> {
    /// Reads up to the buffer's capacity (at most 4 GiB) from `fd` at `offset`.
    pub fn new(fd: impl Into<Target>, buf: B, offset: u64) -> Self {
        Self { fd: fd.into(), buf, offset, flags: RwFlags::empty() }
    }

    /// Reads at the file's own position and moves it, as `read(2)`: offset −1. One at a time: of two in
    /// flight together both may read the same bytes.
    pub fn at_position(fd: impl Into<Target>, buf: B) -> Self {
        Self::new(fd, buf, POSITION)
    }

    /// Adds what is special about this read.
    #[must_use]
    pub fn flags(mut self, flags: RwFlags) -> Self {
        self.flags |= flags;
        self
    }

    /// The buffer, from an operation that was not started.
    pub fn into_buf(self) -> B {
        self.buf
    }
}

/// A finished [`Read`].
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct ReadDone<B> {
    /// Bytes read; zero is the end of the file.
    pub result: io::Result<usize>,
    /// The buffer; when the read was successful, the bytes read are its contents.
    pub buf: B,
}

// SAFETY: the buffer is stable memory that the operation owns (`IoBufMut`), and so is the descriptor.
unsafe impl<B: IoBufMut> Prepare for Read<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        let len = u32::try_from(self.buf.capacity()).unwrap_or(u32::MAX);
        let (fd, offset, flags) = (self.fd.number(), self.offset, self.flags.bits());
        let address = self.buf.stable_mut_ptr();
        match self.buf.registered(ring) {
            Some(index) => opcode::ReadFixed::new(fd, address, len, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Read::new(fd, address, len).offset(offset).rw_flags(flags).build(),
        }
    }
}

impl<B: IoBufMut> Operation for Read<B> {
    type Output = ReadDone<B>;

    fn complete(mut self, completions: Completions) -> ReadDone<B> {
        let result = completions.result_or(0);
        if let Ok(read) = result {
            // SAFETY: the kernel has written so many bytes to the start of the buffer, and was told
            // its capacity.
            unsafe { self.buf.set_init(read) };
        }
        ReadDone { result, buf: self.buf }
    }
}
