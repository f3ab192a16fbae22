//! [`PathAt`].

use std::ffi::{CString, c_char};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use io_uring::types;

use crate::error::{Error, Result};
use crate::op::Fd;

/// A path that an operation owns, and the directory from which a relative one starts.
///
/// The directory is a descriptor of its own: the kernel takes no slot of a file table there.
#[derive(Clone)]
pub struct PathAt {
    dir: Option<Fd>,
    path: CString,
}

impl PathAt {
    /// A path; a relative one starts in the directory that is the process's current one when the
    /// kernel looks it up.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a path with a zero byte.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let refused = |_| Error::config("a path", path.display(), "free of zero bytes");
        Ok(Self { dir: None, path: CString::new(path.as_os_str().as_bytes()).map_err(refused)? })
    }

    /// A path that starts, when it is relative, in the directory `dir`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn under(dir: &Fd, path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { dir: Some(dir.clone()), ..Self::new(path)? })
    }

    /// No path but the descriptor itself, for `AT_EMPTY_PATH`.
    pub(super) fn itself(fd: &Fd) -> Self {
        Self { dir: Some(fd.clone()), path: CString::default() }
    }

    pub(super) fn dir(&self) -> types::Fd {
        let number = |dir: &Fd| dir.as_fd().as_raw_fd();
        types::Fd(self.dir.as_ref().map_or(libc::AT_FDCWD, number))
    }

    /// Stays the same when the value is moved: the bytes are a heap block.
    pub(super) fn as_ptr(&self) -> *const c_char {
        self.path.as_ptr()
    }
}

impl fmt::Debug for PathAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dir {
            Some(dir) => write!(f, "{:?} under {dir:?}", self.path),
            None => self.path.fmt(f),
        }
    }
}
