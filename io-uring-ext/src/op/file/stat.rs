//! [`Statx`].

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use io_uring::{opcode, squeue};

use super::PathAt;
use crate::buf::IoBuf;
use crate::error::{Error, Result};
use crate::op::sealed::Prepare;
use crate::op::{Completions, Fd, Operation, Target};
use crate::ring::RingId;

/// Asks about a file, as `statx(2)` (Linux 5.6).
#[derive(Debug)]
pub struct Statx {
    path: PathAt,
    flags: i32,
    answer: Box<Metadata>,
}

impl Statx {
    /// About what `path` leads to.
    pub fn path(path: PathAt) -> Self {
        Self { path, flags: 0, answer: Box::new(Metadata(no_answer())) }
    }

    /// About what `path` names, which may be a symbolic link (`AT_SYMLINK_NOFOLLOW`).
    pub fn link(path: PathAt) -> Self {
        Self { flags: libc::AT_SYMLINK_NOFOLLOW, ..Self::path(path) }
    }

    /// About an open file (`AT_EMPTY_PATH`).
    pub fn fd(fd: &Fd) -> Self {
        Self { flags: libc::AT_EMPTY_PATH, ..Self::path(PathAt::itself(fd)) }
    }
}

const _: () = assert!(size_of::<libc::statx>() == 256, "the kernel writes `struct statx` whole");

fn no_answer() -> libc::statx {
    // SAFETY: it is integers throughout, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

// SAFETY: path and answer are heap blocks of the operation, the answer as large as the kernel has it, by
// the assertion above; the operation owns the descriptor.
unsafe impl Prepare for Statx {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let answer = (&raw mut self.answer.0).cast();
        opcode::Statx::new(self.path.dir(), self.path.as_ptr(), answer)
            .flags(self.flags)
            .mask(libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_DIOALIGN)
            .build()
    }
}

impl Operation for Statx {
    type Output = io::Result<Metadata>;

    fn complete(self, completions: Completions) -> io::Result<Metadata> {
        completions.result().map(|_| *self.answer)
    }
}

/// What [`Statx`] found out.
#[derive(Clone, Copy)]
pub struct Metadata(libc::statx);

/// Whether a file takes `O_DIRECT`, and what has to be aligned for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectIo {
    /// The kernel (before Linux 6.1) or the file system does not tell.
    Unknown,
    /// The file does not take it.
    Unsupported,
    /// It does.
    Aligned {
        /// The buffer's address is a multiple of this.
        memory: u32,
        /// Offset and length are multiples of this.
        offset: u32,
    },
}

impl DirectIo {
    /// Whether this buffer, read into or written at this offset, is aligned as the file asks. The kernel
    /// itself says no more than `EINVAL`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], with what is not.
    pub fn check(self, buf: &impl IoBuf, offset: u64) -> Result<()> {
        let Self::Aligned { memory, offset: unit } = self else { return Ok(()) };
        let (address, len) = (buf.stable_ptr().addr() as u64, buf.init_len() as u64);
        for (what, value, unit) in [
            ("the address of a buffer for O_DIRECT", address, memory),
            ("an offset for O_DIRECT", offset, unit),
            ("a length for O_DIRECT", len, unit),
        ] {
            if !value.is_multiple_of(unit.into()) {
                let value = format!("{value}, which is no multiple of {unit}");
                return Err(Error::config(what, value, "align it, or open without O_DIRECT"));
            }
        }
        Ok(())
    }
}

impl Metadata {
    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.0.stx_size
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    fn kind(&self) -> u32 {
        self.mode() & libc::S_IFMT
    }

    /// Kind and permissions, as `st_mode` in `inode(7)`.
    pub fn mode(&self) -> u32 {
        self.0.stx_mode.into()
    }

    /// User and group who own it.
    pub fn owner(&self) -> (u32, u32) {
        (self.0.stx_uid, self.0.stx_gid)
    }

    /// Its number, unique on its [`device`](Self::device).
    pub fn inode(&self) -> u64 {
        self.0.stx_ino
    }

    /// The device that it is on: major and minor number.
    pub fn device(&self) -> (u32, u32) {
        (self.0.stx_dev_major, self.0.stx_dev_minor)
    }

    /// Names that it has.
    pub fn links(&self) -> u32 {
        self.0.stx_nlink
    }

    /// Bytes allocated on the disk: fewer than the length where there are holes.
    pub fn allocated(&self) -> u64 {
        self.0.stx_blocks.saturating_mul(512)
    }

    /// When its data last changed. A time that `SystemTime` cannot hold is `None`.
    pub fn modified(&self) -> Option<SystemTime> {
        time(self.0.stx_mtime)
    }

    /// When it was last read, as far as the mount options have that kept.
    pub fn accessed(&self) -> Option<SystemTime> {
        time(self.0.stx_atime)
    }

    /// When anything about it last changed.
    pub fn changed(&self) -> Option<SystemTime> {
        time(self.0.stx_ctime)
    }

    /// When it was made, on file systems that keep it.
    pub fn created(&self) -> Option<SystemTime> {
        (self.0.stx_mask & libc::STATX_BTIME != 0).then(|| time(self.0.stx_btime)).flatten()
    }

    /// What `O_DIRECT` asks for (`STATX_DIOALIGN`, Linux 6.1).
    pub fn direct_io(&self) -> DirectIo {
        match (self.0.stx_dio_mem_align, self.0.stx_dio_offset_align) {
            _ if self.0.stx_mask & libc::STATX_DIOALIGN == 0 => DirectIo::Unknown,
            (0, _) | (_, 0) => DirectIo::Unsupported,
            (memory, offset) => DirectIo::Aligned { memory, offset },
        }
    }
}

fn time(stamp: libc::statx_timestamp) -> Option<SystemTime> {
    let seconds = Duration::from_secs(stamp.tv_sec.unsigned_abs());
    let whole = match stamp.tv_sec {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    whole?.checked_add(Duration::from_nanos(stamp.tv_nsec.into()))
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("mode", &format_args!("{:#o}", self.mode()))
            .field("len", &self.len())
            .field("inode", &self.inode())
            .field("direct_io", &self.direct_io())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_and_out_of_range() {
        let mut stamp = no_answer().stx_mtime;
        (stamp.tv_sec, stamp.tv_nsec) = (-2, 500_000_000);
        assert_eq!(time(stamp), UNIX_EPOCH.checked_sub(Duration::from_millis(1500)));
        stamp.tv_sec = i64::MIN;
        let _none_or_a_time = time(stamp);
        (stamp.tv_sec, stamp.tv_nsec) = (i64::MAX, u32::MAX);
        assert_eq!(time(stamp), None);
    }
}
