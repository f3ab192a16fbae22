//! What is done to names: [`Rename`], [`Unlink`], [`MakeDir`], [`Symlink`], [`HardLink`].
//!
//! A change of a directory is on the disk after an [`Fsync`](super::Fsync) of that directory.

use io_uring::{opcode, squeue};

use super::{PathAt, succeeds_or_fails};
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::ring::RingId;

/// What [`Rename`] does when the new name exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RenameMode {
    /// Replaces it, with no moment in which the name does not exist.
    #[default]
    Replace,
    /// Refuses with `EEXIST` (`RENAME_NOREPLACE`).
    Keep,
    /// Exchanges the two; `ENOENT` when the new name does not exist (`RENAME_EXCHANGE`).
    Exchange,
}

/// Renames, as `renameat2(2)` (Linux 5.11).
#[derive(Clone, Debug)]
pub struct Rename {
    from: PathAt,
    to: PathAt,
    mode: RenameMode,
}

impl Rename {
    /// Gives what is called `from` the name `to`.
    pub fn new(from: PathAt, to: PathAt, mode: RenameMode) -> Self {
        Self { from, to, mode }
    }
}

// SAFETY: the paths are heap blocks of the operation, which owns the directories' descriptors.
unsafe impl Prepare for Rename {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let flags = match self.mode {
            RenameMode::Replace => 0,
            RenameMode::Keep => libc::RENAME_NOREPLACE,
            RenameMode::Exchange => libc::RENAME_EXCHANGE,
        };
        let Self { from, to, .. } = self;
        opcode::RenameAt::new(from.dir(), from.as_ptr(), to.dir(), to.as_ptr()).flags(flags).build()
    }
}

/// Removes a name, as `unlinkat(2)` (Linux 5.11).
#[derive(Clone, Debug)]
pub struct Unlink {
    path: PathAt,
    flags: i32,
}

impl Unlink {
    /// The name of anything but a directory (`unlink(2)`).
    pub fn file(path: PathAt) -> Self {
        Self { path, flags: 0 }
    }

    /// An empty directory (`rmdir(2)`).
    pub fn dir(path: PathAt) -> Self {
        Self { path, flags: libc::AT_REMOVEDIR }
    }
}

// SAFETY: the path is a heap block of the operation, which owns the directory's descriptor.
unsafe impl Prepare for Unlink {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::UnlinkAt::new(self.path.dir(), self.path.as_ptr()).flags(self.flags).build()
    }
}

/// Makes a directory, as `mkdirat(2)` (Linux 5.15).
#[derive(Clone, Debug)]
pub struct MakeDir {
    path: PathAt,
    mode: u32,
}

impl MakeDir {
    /// With these permissions, less the umask.
    pub fn new(path: PathAt, mode: u32) -> Self {
        Self { path, mode }
    }
}

// SAFETY: the path is a heap block of the operation, which owns the directory's descriptor.
unsafe impl Prepare for MakeDir {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::MkDirAt::new(self.path.dir(), self.path.as_ptr()).mode(self.mode).build()
    }
}

/// Makes a symbolic link, as `symlinkat(2)` (Linux 5.15).
#[derive(Clone, Debug)]
pub struct Symlink {
    content: PathAt,
    link: PathAt,
}

impl Symlink {
    /// Makes `link` a symbolic link whose content is `content`, which needs not exist; a directory that
    /// it starts from says nothing here.
    pub fn new(content: PathAt, link: PathAt) -> Self {
        Self { content, link }
    }
}

// SAFETY: the paths are heap blocks of the operation, which owns the directory's descriptor.
unsafe impl Prepare for Symlink {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let Self { content, link } = self;
        opcode::SymlinkAt::new(link.dir(), content.as_ptr(), link.as_ptr()).build()
    }
}

/// Gives a file one more name, as `linkat(2)` (Linux 5.15).
#[derive(Clone, Debug)]
pub struct HardLink {
    file: PathAt,
    name: PathAt,
}

impl HardLink {
    /// Gives `file` the name `name` too. A symbolic link is not followed.
    pub fn new(file: PathAt, name: PathAt) -> Self {
        Self { file, name }
    }
}

// SAFETY: the paths are heap blocks of the operation, which owns the directories' descriptors.
unsafe impl Prepare for HardLink {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let Self { file, name } = self;
        opcode::LinkAt::new(file.dir(), file.as_ptr(), name.dir(), name.as_ptr()).build()
    }
}

succeeds_or_fails!(Rename, Unlink, MakeDir, Symlink, HardLink);
