//! [`Read`].

use std::io;

use io_uring::{opcode, squeue};

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
}

impl<B: IoBufMut> Read<B> {
    /// Reads up to the buffer's capacity (at most 4 GiB) from `fd` at `offset`.
    pub fn new(fd: impl Into<Target>, buf: B, offset: u64) -> Self {
        Self { fd: fd.into(), buf, offset }
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
        let (fd, offset) = (self.fd.number(), self.offset);
        let address = self.buf.stable_mut_ptr();
        match self.buf.registered(ring) {
            Some(index) => opcode::ReadFixed::new(fd, address, len, index).offset(offset).build(),
            None => opcode::Read::new(fd, address, len).offset(offset).build(),
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
