//! [`FileTable`] and [`FixedFd`].

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::types::DestinationSlot;
use socket2::SockRef;

use super::{Slot, SlotTable};
use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::ring::{Inner, Ring, RingId};

/// Slots in a file table, at most (`IORING_MAX_FIXED_FILES` in `io_uring/rsrc.c`).
const MAX_SLOTS: u32 = 1 << 20;
/// A slot that no table has, so that the kernel refuses it (`EINVAL`).
const NOWHERE: u32 = 1 << 30;

/// A ring's table of fixed files (Linux 5.19, `IORING_REGISTER_FILES2` with
/// `IORING_RSRC_REGISTER_SPARSE` in `io_uring_register(2)`).
///
/// An operation on a fixed file spares the kernel looking the descriptor up and counting its use,
/// twice per operation. And a file can be opened, accepted or made straight in a slot, as a *direct
/// descriptor* that the process's table of descriptors never sees.
///
/// ```
/// use io_uring_ext::fixed::FileTable;
/// use io_uring_ext::op::Read;
/// use io_uring_ext::Ring;
///
/// let ring = Ring::local()?;
/// let table = FileTable::new(&ring, 16)?;
/// let zero = table.install(&std::fs::File::open("/dev/zero")?)?;
/// let read = ring.push(Read::new(&zero, vec![1; 8], 0))?.wait(None)?;
/// assert_eq!(read.buf, [0; 8]);
///
/// drop(zero); // the ring closes it in its next call, and the slot is free
/// ring.submit()?;
/// assert_eq!(table.available(), 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A table stays on its ring's thread, the fixed files do not:
///
/// ```compile_fail,E0277
/// let ring = io_uring_ext::Ring::local()?;
/// let table = io_uring_ext::fixed::FileTable::new(&ring, 16)?;
/// std::thread::spawn(move || table.reserve());
/// # Ok::<(), io_uring_ext::Error>(())
/// ```
///
/// Clones are handles to the same table. A ring has one table at a time; it is unregistered when the
/// last handle, the last [`FixedFd`] and the last operation that uses either are gone, or when the
/// ring is closed.
pub struct FileTable<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    slots: Arc<SlotTable>,
}

impl<M: Mode> FileTable<M> {
    /// A table of `slots` empty slots for [`reserve`](Self::reserve) and
    /// [`install`](Self::install).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for no slots, more than 1048576, or a second table; [`Error::Refused`] when
    /// the kernel has none, or they are more than descriptors can be open (`EMFILE`).
    pub fn new(ring: &Ring<M>, slots: u32) -> Result<Self> {
        Self::with_kernel_slots(ring, slots, 0)
    }

    /// A table of `slots` empty slots as [`new`](Self::new), and `kernel` more, among which the
    /// kernel chooses where an operation is given [`kernel_slots`](Self::kernel_slots) to install
    /// into (Linux 6.0, `IORING_REGISTER_FILE_ALLOC_RANGE`).
    ///
    /// Slots of both kinds in one table need Linux 7.0, or an older one to which the correction has been
    /// brought back (6.18.16 has it): before, the kernel also chose among the others after one of them had
    /// been installed into or emptied (`io_file_bitmap_get` in `io_uring/filetable.c`). Whether it does is
    /// tried once.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`Error::Refused`] for slots of both kinds when the kernel confuses them.
    pub fn with_kernel_slots(ring: &Ring<M>, slots: u32, kernel: u32) -> Result<Self> {
        let total = slots.saturating_add(kernel);
        if !(1..=MAX_SLOTS).contains(&total) {
            return Err(Error::config("slots of a file table", total, "take 1 to 1048576"));
        }
        let slots = ring.inner.with(|state| state.open_file_table(slots, kernel))??;
        Ok(Self { ring: ring.inner.clone(), slots })
    }

    /// Takes an empty slot, for an operation to install into.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`] when all are taken, or not yet given up by the kernel;
    /// [`Error::Closed`] after the ring.
    pub fn reserve(&self) -> Result<FixedFd> {
        self.ring.with(|state| state.reserve_file())?.map(FixedFd::new)
    }

    /// Takes a slot and installs a duplicate of `fd` in it. `fd` may be closed afterwards.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve); `EBADF` for a ring's own descriptor.
    pub fn install(&self, fd: &impl AsFd) -> Result<FixedFd> {
        let slot = self.reserve()?;
        self.replace(&slot, fd)?;
        Ok(slot)
    }

    /// Installs a duplicate of `fd` in a slot that is taken. What was in it stays open for operations
    /// that have begun; those that are queued and not submitted work on the new file.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignRing`] for a slot of another table; `EBADF` for a ring's own descriptor, which
    /// leaves the slot empty; [`Error::Config`] for a slot that the kernel chose, which therefore must not
    /// be left empty.
    pub fn replace(&self, slot: &FixedFd, fd: &impl AsFd) -> Result<()> {
        if slot.is_kernels() {
            return Err(Error::config(
                "a slot to be installed into",
                slot.slot(),
                "the kernel chose it: let go of its last handle, and have it choose again",
            ));
        }
        let stream = matches!(SockRef::from(fd).r#type(), Ok(socket2::Type::STREAM));
        self.ring.with(|state| state.install_file(&slot.0.slot, fd.as_fd()))??;
        slot.set_stream(stream);
        Ok(())
    }

    /// Empties a slot that is taken, so that its file closes now or with the last operation that has
    /// begun on it. Operations that have not answer `EBADF`.
    ///
    /// Letting go of the last handle does the same, in the ring's next call.
    ///
    /// # Errors
    ///
    /// As [`replace`](Self::replace); [`Error::Config`] for a slot that the kernel chose: it could
    /// choose it again at once, for something else, while there are handles of it.
    pub fn clear(&self, slot: &FixedFd) -> Result<()> {
        if slot.is_kernels() {
            return Err(Error::config(
                "a slot to be emptied",
                slot.slot(),
                "the kernel chose it: let go of its last handle instead",
            ));
        }
        self.ring.with(|state| state.remove_file(&slot.0.slot))?
    }

    /// The slots among which the kernel chooses, to install into.
    pub fn kernel_slots(&self) -> KernelSlots {
        KernelSlots(Arc::clone(&self.slots))
    }

    /// Slots that can be taken now, without those among which the kernel chooses.
    pub fn available(&self) -> usize {
        self.ring.with(|state| state.free_files()).unwrap_or(0)
    }
}

impl<M: Mode> Clone for FileTable<M> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), slots: Arc::clone(&self.slots) }
    }
}

/// A fixed file or direct descriptor: a slot of a ring's [`FileTable`], taken.
///
/// What it refers to is what has been installed; an operation on an empty slot answers `EBADF`. Clones
/// are handles to the same slot. Operations own one, so the slot is theirs until the kernel is done
/// with them; when the last handle is gone, on whatever thread, the file is closed in the ring's next
/// call. It is of use on its own ring only: another answers
/// [`Error::ForeignRing`](crate::Error::ForeignRing).
#[derive(Clone)]
pub struct FixedFd(Arc<Installed>);

struct Installed {
    slot: Slot,
    /// What is in it is a stream socket.
    stream: AtomicBool,
}

impl FixedFd {
    pub(crate) fn new(slot: Slot) -> Self {
        Self(Arc::new(Installed { slot, stream: AtomicBool::new(false) }))
    }

    /// The number of the slot.
    pub(crate) fn slot(&self) -> u32 {
        self.0.slot.index()
    }

    /// Whether the kernel chose the slot. Then only the ring empties it, when no handle is left: the
    /// kernel may choose it again at once.
    pub(crate) fn is_kernels(&self) -> bool {
        self.0.slot.is_kernels()
    }

    pub(crate) fn ring(&self) -> RingId {
        self.0.slot.ring()
    }

    /// Whether what was installed is known to be a stream socket.
    pub(crate) fn is_stream(&self) -> bool {
        self.0.stream.load(Ordering::Relaxed)
    }

    /// Whoever installs a socket says whether it is a stream.
    pub(crate) fn set_stream(&self, stream: bool) {
        self.0.stream.store(stream, Ordering::Relaxed);
    }
}

/// The slots of a [`FileTable`] among which the kernel chooses (`IORING_FILE_INDEX_ALLOC`, Linux 5.19;
/// the range 6.0). When none is left, the operation answers `ENFILE`; in a table made without such slots,
/// `EINVAL`.
#[derive(Clone)]
pub struct KernelSlots(Arc<SlotTable>);

impl KernelSlots {
    pub(crate) fn belongs_to(&self, ring: RingId) -> bool {
        self.0.ring() == ring
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == self.0.own() as usize
    }
}

/// Where an operation installs the descriptor that it makes: a [reserved](FileTable::reserve) slot,
/// or one of the [`KernelSlots`].
#[derive(Clone, Debug)]
pub struct FixedSlot(Place);

#[derive(Clone, Debug)]
enum Place {
    Reserved(FixedFd),
    Kernel(KernelSlots),
}

impl FixedSlot {
    /// The number of the slot for an operation that may leave it empty; for one that the kernel chose, and
    /// could choose again while there are handles of it, a number that is refused.
    pub(crate) fn number_to_empty(&self) -> Option<u32> {
        match &self.0 {
            Place::Reserved(slot) if slot.is_kernels() => Some(NOWHERE),
            _ => self.number(),
        }
    }

    /// The number of the slot; `None` for one that the kernel chooses.
    pub(crate) fn number(&self) -> Option<u32> {
        match &self.0 {
            Place::Reserved(slot) => Some(slot.slot()),
            // Before Linux 6.0 it would choose among the others.
            Place::Kernel(slots) if slots.is_empty() => Some(NOWHERE),
            Place::Kernel(_) => None,
        }
    }

    /// The slot as entries of operations that make descriptors name it.
    pub(crate) fn destination(&self) -> DestinationSlot {
        self.number()
            .and_then(|slot| DestinationSlot::try_from_slot_target(slot).ok())
            .unwrap_or(DestinationSlot::auto_target())
    }

    pub(crate) fn belongs_to(&self, ring: RingId) -> bool {
        match &self.0 {
            Place::Reserved(slot) => slot.ring() == ring,
            Place::Kernel(slots) => slots.0.ring() == ring,
        }
    }

    /// What a successful completion has installed; `number` is the slot that the kernel chose. To be
    /// called once for each such completion, also for one that nobody takes: dropping the answer is
    /// what closes the file.
    pub(crate) fn installed(&self, number: usize) -> io::Result<FixedFd> {
        match &self.0 {
            Place::Reserved(slot) => Ok(slot.clone()),
            Place::Kernel(KernelSlots(slots)) => {
                let slot = u32::try_from(number).ok().and_then(|number| slots.hold(number));
                slot.map(FixedFd::new).ok_or_else(|| {
                    io::Error::other(format!("the kernel chose slot {number}, which was taken"))
                })
            }
        }
    }
}

impl From<&FixedFd> for FixedSlot {
    fn from(slot: &FixedFd) -> Self {
        Self(Place::Reserved(slot.clone()))
    }
}

impl From<&KernelSlots> for FixedSlot {
    fn from(slots: &KernelSlots) -> Self {
        Self(Place::Kernel(slots.clone()))
    }
}

impl<M: Mode> fmt::Debug for FileTable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTable")
            .field("slots", &self.slots.len())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FixedFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FixedFd").field(&self.slot()).finish()
    }
}

impl fmt::Debug for KernelSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KernelSlots").finish_non_exhaustive()
    }
}
