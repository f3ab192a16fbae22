//! [`File`]: a file and the ring that it is used on.
//!
//! Relies on nothing of its own: its one operation passes on what [`Open`] promises.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use io_uring::squeue;

use crate::buf::{IoBuf, IoBufMut};
use crate::error::{NotStarted, Result};
use crate::fixed::{FileTable, FixedFd};
use crate::mode::{Local, Mode, OwnedBy};
use crate::op::sealed::Prepare;
use crate::op::{
    Allocate, AllocateMode, Close, Completions, Fd, Fsync, Open, OpenOptions, Operation, PathAt,
    Read, ReadVectored, Statx, Target, Truncate, Vectored, Write, WriteVectored,
};
use crate::ring::{Cqe, Ends, Inner, Pending, Ring, RingId, Started};

/// A file and the ring that it is used on: the operations on files as methods.
///
/// Each method queues an operation and returns its [`Pending`], which is waited for or awaited. What can
/// be said about an operation (flags, the file's own position, …) is said to it in [`op`](crate::op), and
/// [`fd`](Self::fd) is what it works on.
///
/// ```
/// use io_uring_ext::Ring;
/// use io_uring_ext::fs::File;
/// use io_uring_ext::op::{OpenOptions, PathAt};
///
/// let ring = Ring::local()?;
/// let path = std::env::temp_dir().join(format!("file-of-{}", std::process::id()));
/// let options = OpenOptions::read_write().create(0o600).truncate();
/// let file = File::open(&ring, PathAt::new(&path)?, options)?.wait(None)??;
///
/// let written = file.write_at(b"through the ring".to_vec(), 0)?.wait(None)?;
/// assert_eq!(written.result?, 16);
/// file.sync_data()?.wait(None)??;
/// assert_eq!(file.metadata()?.wait(None)??.len(), 16);
///
/// // Several reads are in flight together, and end in any order.
/// let tail = file.read_at(Vec::with_capacity(8), 12)?;
/// let head = file.read_at(Vec::with_capacity(7), 0)?;
/// assert_eq!(tail.wait(None)?.buf, b"ring");
/// assert_eq!(head.wait(None)?.buf, b"through");
/// file.close()?.wait(None)??;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Short reads and writes
///
/// No method goes on by itself after a short read or write, because that would be several operations.
/// [`Slice`](crate::buf::Slice) is the rest of a buffer:
///
/// ```
/// # use io_uring_ext::Ring;
/// # use io_uring_ext::fs::File;
/// # use io_uring_ext::op::{OpenOptions, PathAt};
/// use io_uring_ext::buf::IoBufMut;
///
/// # let ring = Ring::local()?;
/// # let file = File::open(&ring, PathAt::new("/proc/self/exe")?, OpenOptions::read_only())?.wait(None)??;
/// let (mut buf, wanted) = (Vec::with_capacity(4096), 4096);
/// while buf.len() < wanted {
///     let done = buf.len();
///     let read = file.read_at(buf.slice_mut(done..wanted)?, done as u64)?.wait(None)?;
///     buf = read.buf.into_inner();
///     if read.result? == 0 {
///         return Err("the file ends before".into());
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct File<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    fd: Fd,
    slot: Option<FixedFd>,
}

#[expect(
    clippy::result_large_err,
    reason = "a refused operation comes back whole, and is not put in a box for that rare case"
)]
impl<M: Mode> File<M> {
    /// Opens a file, as [`Open`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn open(ring: &Ring<M>, path: PathAt, options: OpenOptions) -> Started<OpenFile<M>, M>
    where
        OpenFile<M>: OwnedBy<M>,
    {
        ring.push(OpenFile { open: Open::new(path, options), ring: ring.inner.clone() })
    }

    /// Takes a file that is open already, of the standard library for example.
    pub fn new(ring: &Ring<M>, fd: impl Into<OwnedFd>) -> Self {
        Self { ring: ring.inner.clone(), fd: Fd::new(fd), slot: None }
    }

    /// Installs the file in a slot of the ring's file table as well, and uses that from now on: it spares
    /// the kernel looking the descriptor up and counting its use, twice per operation.
    ///
    /// # Errors
    ///
    /// As [`FileTable::install`]; the file is as before.
    pub fn register(&mut self, table: &FileTable<M>) -> Result<()> {
        self.slot = Some(table.install(&self.fd)?);
        Ok(())
    }

    /// The descriptor, for every other operation.
    pub fn fd(&self) -> &Fd {
        &self.fd
    }

    fn target(&self) -> Target {
        match &self.slot {
            Some(slot) => slot.into(),
            None => (&self.fd).into(),
        }
    }

    fn push<T: Operation + OwnedBy<M>>(&self, operation: T) -> Started<T, M> {
        Pending::start(&self.ring, operation, Ends::WithCompletion)
    }

    /// Reads, as [`Read`]. The memory of a buffer that is registered with the ring is not looked up.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`], like all of these.
    pub fn read_at<B: IoBufMut>(&self, buf: B, offset: u64) -> Started<Read<B>, M>
    where
        Read<B>: OwnedBy<M>,
    {
        self.push(Read::new(self.target(), buf, offset))
    }

    /// Reads into several buffers, as [`ReadVectored`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn read_vectored_at<B: IoBufMut>(
        &self,
        bufs: Vectored<B>,
        offset: u64,
    ) -> Started<ReadVectored<B>, M>
    where
        ReadVectored<B>: OwnedBy<M>,
    {
        self.push(ReadVectored::new(self.target(), bufs, offset))
    }

    /// Writes, as [`Write`]; registered buffers as in [`read_at`](Self::read_at).
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn write_at<B: IoBuf>(&self, buf: B, offset: u64) -> Started<Write<B>, M>
    where
        Write<B>: OwnedBy<M>,
    {
        self.push(Write::new(self.target(), buf, offset))
    }

    /// Writes to the end of the file, as [`Write::append`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn append<B: IoBuf>(&self, buf: B) -> Started<Write<B>, M>
    where
        Write<B>: OwnedBy<M>,
    {
        self.push(Write::append(self.target(), buf))
    }

    /// Writes several buffers, as [`WriteVectored`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn write_vectored_at<B: IoBuf>(
        &self,
        bufs: Vectored<B>,
        offset: u64,
    ) -> Started<WriteVectored<B>, M>
    where
        WriteVectored<B>: OwnedBy<M>,
    {
        self.push(WriteVectored::new(self.target(), bufs, offset))
    }

    /// Brings the data to the disk, as [`Fsync::data`]: those of writes whose results have been taken.
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn sync_data(&self) -> Started<Fsync, M>
    where
        Fsync: OwnedBy<M>,
    {
        self.push(Fsync::data(self.target()))
    }

    /// Brings data and everything about the file to the disk, as [`Fsync::all`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn sync_all(&self) -> Started<Fsync, M>
    where
        Fsync: OwnedBy<M>,
    {
        self.push(Fsync::all(self.target()))
    }

    /// Allocates or frees disk space, as [`Allocate`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn allocate(&self, mode: AllocateMode, offset: u64, len: u64) -> Started<Allocate, M>
    where
        Allocate: OwnedBy<M>,
    {
        self.push(Allocate::new(self.target(), mode, offset, len))
    }

    /// Cuts or extends the file to `len` bytes, as [`Truncate`] (Linux 6.9).
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn truncate(&self, len: u64) -> Started<Truncate, M>
    where
        Truncate: OwnedBy<M>,
    {
        self.push(Truncate::new(self.target(), len))
    }

    /// Asks about the file, as [`Statx`].
    ///
    /// # Errors
    ///
    /// As [`Ring::push`].
    pub fn metadata(&self) -> Started<Statx, M>
    where
        Statx: OwnedBy<M>,
    {
        self.push(Statx::fd(&self.fd))
    }

    /// Closes the file, as [`Close`], which unlike a drop tells of errors. The slot of a
    /// [registered](Self::register) file is given up too, in the ring's next call.
    ///
    /// # Errors
    ///
    /// Gives the file back when its descriptor is in use elsewhere, and the operation when it could not be
    /// started.
    pub fn close(self) -> Result<Pending<Close, M>, CloseError<M>>
    where
        Close: OwnedBy<M>,
    {
        let Self { ring, fd, slot } = self;
        match fd.try_into_owned() {
            Ok(fd) => Ok(Pending::start(&ring, Close::new(fd), Ends::WithCompletion)?),
            Err(fd) => Err(CloseError::InUse(Self { ring, fd, slot })),
        }
    }
}

impl<M: Mode> fmt::Debug for File<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("fd", &self.fd)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// A file was not closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError<M: Mode> {
    /// An operation in flight, or somebody else, has the descriptor.
    #[error("{0:?} is in use elsewhere; take the results of its operations first")]
    InUse(File<M>),
    /// The operation could not be started.
    #[error(transparent)]
    NotStarted(#[from] NotStarted<Close>),
}

/// Opens a file. Made by [`File::open`].
pub struct OpenFile<M: Mode> {
    open: Open,
    ring: M::Ptr<Inner<M>>,
}

// SAFETY: it owns nothing that the kernel uses but the `Open`, which does not move when this does not.
unsafe impl<M: Mode> Prepare for OpenFile<M> {
    fn target(&self) -> Option<&Target> {
        self.open.target()
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        self.open.entry(ring)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.open.belongs_to(ring)
    }

    fn discard(&mut self, cqe: Cqe) {
        self.open.discard(cqe);
    }
}

impl<M: Mode> Operation for OpenFile<M> {
    type Output = io::Result<File<M>>;

    fn complete(self, completions: Completions) -> io::Result<File<M>> {
        let fd = self.open.complete(completions)?;
        Ok(File { ring: self.ring, fd: Fd::new(fd), slot: None })
    }
}

impl<M: Mode> fmt::Debug for OpenFile<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open.fmt(f)
    }
}
