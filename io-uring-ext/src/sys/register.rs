//! Registrations for which the `io-uring` crate has no call.
//!
//! Relies on `io_uring_register(2)` and the layouts of `include/uapi/linux/io_uring.h`. The kernel
//! reads the structures inside the call.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use io_uring::types::DestinationSlot;
use io_uring::{IoUring, opcode};
use rustix::io_uring::{IoringRegisterOp, io_uring_ptr, io_uring_register, io_uring_rsrc_update2};

/// Files that one call removes, at most.
const BATCH: usize = 64;

/// `struct io_uring_file_index_range`.
#[repr(C)]
struct FileIndexRange {
    offset: u32,
    len: u32,
    reserved: u64,
}

/// Puts a file into a slot of the file table, in the stead of what is there. When the kernel is done
/// with it, a completion with the tag as its `user_data` says so (`IORING_REGISTER_FILES_UPDATE2`,
/// Linux 5.13).
pub(crate) fn install_file(
    ring: BorrowedFd<'_>,
    slot: u32,
    fd: BorrowedFd<'_>,
    tag: u64,
) -> io::Result<()> {
    update_files(ring, slot, &[fd.as_raw_fd()], Some(&tag)).map(drop)
}

/// Empties slots of the file table, from the first on; the number of those done, which may be fewer
/// than were asked for.
pub(crate) fn remove_files(ring: BorrowedFd<'_>, first: u32, count: usize) -> io::Result<usize> {
    update_files(ring, first, &[-1; BATCH][..count.min(BATCH)], None)
}

fn update_files(
    ring: BorrowedFd<'_>,
    first: u32,
    fds: &[i32],
    tag: Option<&u64>,
) -> io::Result<usize> {
    debug_assert!(tag.is_none() || fds.len() == 1, "one tag is one file's");
    let mut update = io_uring_rsrc_update2::default();
    update.offset = first;
    update.data = io_uring_ptr::new(fds.as_ptr().cast_mut().cast());
    update.tags = tag
        .map_or(io_uring_ptr::null(), |tag| io_uring_ptr::new((&raw const *tag).cast_mut().cast()));
    update.nr = fds.len() as u32;
    // SAFETY: the structure is what this call takes, with its size; descriptors and tag live until
    // it returns, and there are as many as it says.
    let done = unsafe {
        io_uring_register(
            ring,
            IoringRegisterOp::RegisterFilesUpdate2,
            (&raw const update).cast(),
            size_of_val(&update) as u32,
        )
    };
    Ok(done? as usize)
}

/// Lets the kernel choose among these slots where it is asked to (`IORING_REGISTER_FILE_ALLOC_RANGE`,
/// Linux 6.0).
pub(crate) fn file_alloc_range(ring: BorrowedFd<'_>, offset: u32, len: u32) -> io::Result<()> {
    let range = FileIndexRange { offset, len, reserved: 0 };
    // SAFETY: the structure is what this call takes; it asks for no count.
    let done = unsafe {
        io_uring_register(
            ring,
            IoringRegisterOp::RegisterFileAllocRange,
            (&raw const range).cast(),
            0,
        )
    };
    done?;
    Ok(())
}

/// Whether the kernel chooses slots in its range alone, also when others have been installed into. Before
/// "io_uring/filetable: clamp alloc_hint to the configured alloc range" (Linux 7.0, and brought back) it went
/// on behind the slot that had been changed last.
pub(crate) fn kernel_keeps_to_its_range() -> io::Result<bool> {
    static KEEPS: OnceLock<bool> = OnceLock::new();
    match KEEPS.get() {
        Some(keeps) => Ok(*keeps),
        None => try_range().map(|keeps| *KEEPS.get_or_init(|| keeps)),
    }
}

/// Has the kernel choose a slot on a ring of its own.
fn try_range() -> io::Result<bool> {
    const CHOSEN: u32 = 2;
    const NO_TAG: u64 = 0;

    let mut ring: IoUring = IoUring::new(1)?;
    ring.submitter().register_files_sparse(CHOSEN + 1)?;
    // SAFETY: the ring's descriptor, which is open until the ring is dropped.
    let fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    file_alloc_range(fd, CHOSEN, 1)?;
    let file = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    install_file(fd, 0, file.as_fd(), NO_TAG)?;
    let socket = opcode::Socket::new(libc::AF_UNIX, libc::SOCK_DGRAM, 0)
        .file_index(Some(DestinationSlot::auto_target()))
        .build();
    // SAFETY: the entry points to nothing.
    unsafe { ring.submission().push(&socket) }.map_err(io::Error::other)?;
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => drop(answer?),
        }
        if let Some(cqe) = ring.completion().next() {
            let slot = u32::try_from(cqe.result());
            return match slot {
                Ok(slot) => Ok(slot == CHOSEN),
                Err(_) => Err(io::Error::from_raw_os_error(-cqe.result())),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<FileIndexRange>(), 16);
        assert_eq!(std::mem::offset_of!(FileIndexRange, offset), 0);
        assert_eq!(std::mem::offset_of!(FileIndexRange, len), 4);
        assert_eq!(std::mem::offset_of!(FileIndexRange, reserved), 8);
        assert_eq!(size_of::<io_uring_rsrc_update2>(), 32);
    }
}
