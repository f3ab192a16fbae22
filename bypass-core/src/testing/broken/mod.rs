//! Backends that are wrong on purpose, to prove that the conformance checks can fail.

mod datagram;
mod packet;

pub use datagram::{BrokenSocket, DatagramDefect};
pub use packet::{Broken, Defect};
