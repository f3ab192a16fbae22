//! The backends that need no C library: real ones, and the fallback where io_uring is refused.

pub mod memory;
pub mod packet;
pub mod socket;
