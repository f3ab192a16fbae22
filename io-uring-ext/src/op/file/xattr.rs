//! [`GetXattr`] and [`SetXattr`].

use std::ffi::CString;
use std::io;

use io_uring::{opcode, squeue};

use super::write::WriteDone;
use crate::buf::{IoBuf, IoBufMut};
use crate::error::{Error, Result};
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, ReadDone, Target};
use crate::ring::RingId;

fn name_of(name: &str) -> Result<CString> {
    let refused = |_| Error::config("an attribute's name", name, "free of zero bytes");
    CString::new(name).map_err(refused)
}

/// Reads an extended attribute of an open file, as `fgetxattr(2)` (Linux 5.19).
///
/// The value comes whole or not at all: `ERANGE` when it does not fit the buffer, `ENODATA` when there
/// is none of this name.
#[derive(Debug)]
pub struct GetXattr<B: IoBufMut> {
    fd: Target,
    name: CString,
    buf: B,
}

impl<B: IoBufMut> GetXattr<B> {
    /// Reads the attribute `name`, with its namespace as in `user.comment` (`xattr(7)`). A buffer
    /// without room gets the value's length as its result and no bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a name with a zero byte.
    pub fn new(fd: impl Into<Target>, name: &str, buf: B) -> Result<Self> {
        Ok(Self { fd: fd.into(), name: name_of(name)?, buf })
    }
}

// SAFETY: the name is a heap block of the operation, the buffer is stable memory that it owns
// (`IoBufMut`), and it owns the descriptor.
unsafe impl<B: IoBufMut> Prepare for GetXattr<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let len = u32::try_from(self.buf.capacity()).unwrap_or(u32::MAX);
        let value = self.buf.stable_mut_ptr().cast();
        opcode::FGetXattr::new(self.fd.number(), self.name.as_ptr(), value, len).build()
    }
}

impl<B: IoBufMut> Operation for GetXattr<B> {
    type Output = ReadDone<B>;

    fn complete(mut self, completions: Completions) -> ReadDone<B> {
        let result: io::Result<usize> = completions.result_or(0);
        if let Ok(read) = result
            && read <= self.buf.capacity()
        {
            // SAFETY: the kernel has written so many bytes to the start of the buffer. Only for one
            // without room it tells a length and writes nothing, and then the length does not fit.
            unsafe { self.buf.set_init(read) };
        }
        ReadDone { result, buf: self.buf }
    }
}

/// What [`SetXattr`] does when the attribute exists or does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XattrMode {
    /// Makes or replaces it.
    #[default]
    Set,
    /// `EEXIST` when it exists (`XATTR_CREATE`).
    Create,
    /// `ENODATA` when it does not (`XATTR_REPLACE`).
    Replace,
}

/// Sets an extended attribute of an open file, as `fsetxattr(2)` (Linux 5.19).
#[derive(Debug)]
pub struct SetXattr<B: IoBuf> {
    fd: Target,
    name: CString,
    value: B,
    mode: XattrMode,
}

impl<B: IoBuf> SetXattr<B> {
    /// Makes the buffer's contents the value of the attribute `name`. Its [`WriteDone`] counts no
    /// bytes: the value was set whole.
    ///
    /// # Errors
    ///
    /// As [`GetXattr::new`].
    pub fn new(fd: impl Into<Target>, name: &str, value: B, mode: XattrMode) -> Result<Self> {
        Ok(Self { fd: fd.into(), name: name_of(name)?, value, mode })
    }
}

// SAFETY: the name is a heap block of the operation, the value is stable memory that it owns (`IoBuf`),
// and it owns the descriptor.
unsafe impl<B: IoBuf> Prepare for SetXattr<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let len = u32::try_from(self.value.init_len()).unwrap_or(u32::MAX);
        let flags = match self.mode {
            XattrMode::Set => 0,
            XattrMode::Create => libc::XATTR_CREATE,
            XattrMode::Replace => libc::XATTR_REPLACE,
        };
        let value = self.value.stable_ptr().cast();
        opcode::FSetXattr::new(self.fd.number(), self.name.as_ptr(), value, len)
            .flags(flags)
            .build()
    }
}

impl<B: IoBuf> Operation for SetXattr<B> {
    type Output = WriteDone<B>;

    fn complete(self, completions: Completions) -> WriteDone<B> {
        WriteDone { result: completions.result_or(0), buf: self.value }
    }
}
