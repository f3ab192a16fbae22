//! What proves a backend right: the conformance suite, and the rig of namespaces that it runs on.
//!
//! - [`conformance`]: checks that every [`PacketIo`](crate::PacketIo) and every
//!   [`DatagramIo`](crate::DatagramIo) passes, written once.
//! - [`loopback`]: what a UDP endpoint over the kernel's stack owes, against the standard library's.
//! - [`veth`]: what a packet backend owes on a real interface, against the kernel at the other end.
//! - [`broken`]: backends that are wrong on purpose, one for each check, so that the checks
//!   themselves are known to work.
//! - [`rig`]: network namespaces joined by a veth pair, gone when they are dropped, however the
//!   process ends.
//! - [`allocations`]: an allocator that counts.
//! - [`process`]: tests of what a process can do only once.
//! - [`needs`]: what a test needs of the machine, and the reason that is given when it is missing.

#[allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
pub mod allocations;
pub mod broken;
pub mod conformance;
pub mod loopback;
#[allow(unsafe_code, reason = "io_uring_setup has no wrapper in the standard library")]
pub mod needs;
pub mod process;
#[allow(unsafe_code, reason = "a new network namespace has no safe wrapper")]
pub mod rig;
pub mod veth;
