//! Rings that the `io-uring` crate's builder cannot make: with flags that it does not know, and with
//! queues of another size.
//!
//! Relies on `io_uring::Parameters` being a transparent wrapper of `struct io_uring_params`, of which
//! the crate says that one "can be (unsafely) created from any properly laid-out and initialized memory
//! representation".

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use io_uring::{IoUring, Parameters};
use rustix::io_uring::{IoringSetupFlags, io_uring_params, io_uring_setup};

use super::control::register;

/// `IORING_REGISTER_RESIZE_RINGS`.
const RESIZE_RINGS: u32 = 33;

const _: () = assert!(size_of::<Parameters>() == size_of::<io_uring_params>());

/// Opens a ring with these flags, by their bits.
pub(crate) fn open(entries: u32, mut parameters: io_uring_params) -> io::Result<IoUring> {
    // SAFETY: a new ring does nothing by itself; its memory is mapped below.
    let fd = unsafe { io_uring_setup(entries, &mut parameters) }?;
    // SAFETY: the descriptor is the ring's, and the kernel has filled in the parameters.
    unsafe { map(fd, parameters) }
}

/// Parameters with these flags and this many completions.
pub(crate) fn parameters(flags: u32, completions: u32) -> io_uring_params {
    let mut parameters = io_uring_params::default();
    parameters.flags = IoringSetupFlags::from_bits_retain(flags);
    parameters.cq_entries = completions;
    parameters
}

/// Why the queues have not got other sizes.
#[derive(Debug)]
pub(crate) enum NotResized {
    /// They are as they were.
    Unchanged(io::Error),
    /// The kernel has changed them, and they could not be mapped: they are lost.
    Lost(io::Error),
}

/// Gives a ring's queues other sizes and maps them anew (`IORING_REGISTER_RESIZE_RINGS`, Linux 6.13;
/// `DEFER_TASKRUN` and `NO_SQARRAY` only). `fd` is another descriptor of the ring.
pub(crate) fn resize(
    before: &Parameters,
    fd: OwnedFd,
    entries: u32,
    completions: u32,
) -> Result<IoUring, NotResized> {
    let before = raw(before);
    let mut parameters = parameters(IoringSetupFlags::CQSIZE.bits(), completions);
    parameters.sq_entries = entries;
    let argument = (&raw mut parameters).cast();
    // SAFETY: the call takes one such structure and fills it in.
    unsafe { register(fd.as_raw_fd(), RESIZE_RINGS, argument, 1) }
        .map_err(NotResized::Unchanged)?;
    // What the call leaves out is as it was.
    (parameters.flags, parameters.features) = (before.flags, before.features);
    // SAFETY: the descriptor is the ring's, and the kernel has filled in sizes and offsets.
    unsafe { map(fd, parameters) }.map_err(NotResized::Lost)
}

/// The features of the kernel that made a ring.
pub(crate) fn features(parameters: &Parameters) -> u32 {
    raw(parameters).features.bits()
}

fn raw(parameters: &Parameters) -> &io_uring_params {
    // SAFETY: a transparent wrapper of the same structure (see above), of the same size; every bit
    // pattern of its integers is a value.
    unsafe { &*std::ptr::from_ref(parameters).cast::<io_uring_params>() }
}

/// # Safety
///
/// The parameters are those of the ring behind the descriptor.
unsafe fn map(fd: OwnedFd, parameters: io_uring_params) -> io::Result<IoUring> {
    // SAFETY: the same structure, as above.
    let parameters =
        unsafe { std::mem::transmute_copy::<io_uring_params, Parameters>(&parameters) };
    // SAFETY: passed on to the caller; the descriptor is handed over.
    unsafe { IoUring::from_fd(fd.into_raw_fd(), parameters) }
}

/// Opens a ring and closes it at once.
pub(crate) fn try_open(entries: u32, mut parameters: io_uring_params) -> io::Result<()> {
    // SAFETY: a new ring does nothing by itself, and is closed here.
    let fd = unsafe { io_uring_setup(entries, &mut parameters) }?;
    drop(fd);
    Ok(())
}

/// Opens a ring whose queues are in memory of ours (`IORING_SETUP_NO_MMAP`), and closes it at once.
pub(crate) fn try_no_mmap() -> io::Result<()> {
    const NO_MMAP: u32 = 1 << 14;
    let mut queues = memmap2::MmapMut::map_anon(super::fork::page_size())?;
    let mut entries = memmap2::MmapMut::map_anon(super::fork::page_size())?;
    // Touched, so that there are pages to pin.
    (queues[0], entries[0]) = (0, 0);
    let mut parameters = parameters(NO_MMAP, 0);
    parameters.cq_off.user_addr = pointer(&mut queues);
    parameters.sq_off.user_addr = pointer(&mut entries);
    // Whatever becomes of the ring, the kernel writes only to pages that it has pinned, and the mappings
    // are nobody else's.
    try_open(4, parameters)
}

fn pointer(map: &mut memmap2::MmapMut) -> rustix::io_uring::io_uring_ptr {
    rustix::io_uring::io_uring_ptr::new(map.as_mut_ptr().cast())
}

/// The ring's own descriptor.
pub(crate) fn fd(ring: &IoUring) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: it is open as long as the ring lives.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.as_raw_fd()) }
}
