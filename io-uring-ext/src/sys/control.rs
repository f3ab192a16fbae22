//! Calls of `io_uring_register(2)` that neither the `io-uring` crate nor rustix has.
//!
//! Relies on the numbers and layouts of `include/uapi/linux/io_uring.h`. The kernel reads the structures
//! inside the call.

use std::io;

use io_uring::squeue::Entry;

/// `IORING_REGISTER_SEND_MSG_RING`.
const SEND_MSG_RING: u32 = 31;

/// Has the kernel do what the entry says, a message to a ring, without a ring of one's own.
pub(crate) fn send_message(entry: &Entry) -> io::Result<()> {
    // SAFETY: the call takes one entry, which lives until it returns, and -1 in a ring's stead. It
    // does nothing but what `IORING_OP_MSG_RING` does.
    let answer = unsafe {
        libc::syscall(libc::SYS_io_uring_register, -1, SEND_MSG_RING, std::ptr::from_ref(entry), 1)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
