//! What the kernel knows by number: fixed files (direct descriptors) and registered buffers.
//!
//! A table belongs to one ring. Its slots are owned handles: whoever holds one, an operation in flight
//! included, keeps the slot. When the last handle of a slot is gone the ring takes the slot back at its
//! next call, and gives it to somebody else, or frees its memory, only once the kernel has said that
//! nothing uses the old resource any more (the completion of its tag,
//! [`io_uring_register(2)`](https://man7.org/linux/man-pages/man2/io_uring_register.2.html)).

mod buffers;
mod files;
mod registrations;
mod slots;

pub use buffers::BufferTable;
pub(crate) use buffers::vectored_is_supported;
pub use files::{FileTable, FixedFd, FixedSlot, KernelSlots};
pub(crate) use registrations::Registrations;
pub(crate) use slots::{Slot, SlotTable};
