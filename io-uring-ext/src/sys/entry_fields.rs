//! Fields of a submission entry for which the `io-uring` crate has no setter.
//!
//! Relies on the layout of `struct io_uring_sqe` in `include/uapi/linux/io_uring.h`, which is the
//! kernel's interface and which the crate's `Entry` is made of (`repr(C)`).

use std::ptr;

use io_uring::squeue::Entry;

const _: () = assert!(size_of::<Entry>() == 64);

/// `ioprio`: the flags of socket operations.
const IOPRIO: usize = 2;
/// `cmd_op`, in the same place as `off`.
const CMD_OP: usize = 8;

/// Adds flags of a socket operation.
pub(crate) fn or_ioprio(mut entry: Entry, flags: u16) -> Entry {
    // SAFETY: a `u16` inside the entry.
    let field = unsafe { ptr::from_mut(&mut entry).byte_add(IOPRIO) }.cast::<u16>();
    // SAFETY: aligned, because the entry is to eight bytes, initialised, and of any value.
    unsafe { *field |= flags };
    entry
}

/// Sets the command of a `IORING_OP_URING_CMD`.
pub(crate) fn set_command(mut entry: Entry, command: u32) -> Entry {
    // SAFETY: a `u32` inside the entry.
    let field = unsafe { ptr::from_mut(&mut entry).byte_add(CMD_OP) }.cast::<u32>();
    // SAFETY: aligned, because the entry is to eight bytes.
    unsafe { field.write(command) };
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::{opcode, types};

    fn bytes(entry: &Entry) -> [u8; 64] {
        // SAFETY: an entry is 64 bytes of plain integers.
        unsafe { ptr::from_ref(entry).cast::<[u8; 64]>().read() }
    }

    /// What a setter of the crate does and what is done here are the same bytes.
    #[test]
    fn the_layout_is_the_crates() {
        let fd = types::Fd(7);
        let theirs = opcode::Send::new(fd, ptr::null(), 0).ioprio(0x1234).build();
        let ours = or_ioprio(opcode::Send::new(fd, ptr::null(), 0).build(), 0x1234);
        assert_eq!(bytes(&theirs), bytes(&ours));

        let theirs = opcode::UringCmd16::new(fd, 0x5678_9abc).build();
        let ours = set_command(opcode::UringCmd16::new(fd, 0).build(), 0x5678_9abc);
        assert_eq!(bytes(&theirs), bytes(&ours));
    }
}
