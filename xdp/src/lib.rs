//! AF_XDP: packets between a network device's queues and the application, without the kernel's stack.

pub mod program;
mod ring;
mod socket;
#[allow(unsafe_code, reason = "system calls and mappings that no safe wrapper has")]
mod sys;
mod umem;

pub use socket::{Hook, Want};
