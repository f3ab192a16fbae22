//! What a packet backend owes on a real interface: checks on veth pairs in namespaces, against the
//! kernel's own stack at the other end.
//!
//! ```
//! use bypass_core::testing::needs::{Need, skip};
//! use bypass_core::testing::veth;
//!
//! if !skip(&[Need::Namespaces]) {
//!     veth::ports(|options| options.open()).assert();
//! }
//! ```
#![allow(clippy::unwrap_used, reason = "a check says what it expects by unwrapping")]

mod checks;
pub mod tools;

use super::conformance::Report;
use crate::backend::packet::PacketOptions;
use crate::{PacketIo, Result};

/// Opens a port in the namespace of the calling thread.
type Ports<'a, P> = &'a dyn Fn(&PacketOptions) -> Result<P>;

/// Runs every check on ports that `open` opens as the options say, each on a fresh veth pair. Needs
/// the privilege to make namespaces.
pub fn ports<P: PacketIo>(open: impl Fn(&PacketOptions) -> Result<P>) -> Report {
    let ports: Ports<'_, P> = &open;
    Report::of(checks::all::<P>().into_iter().map(|(name, check)| {
        let run = move || {
            check(ports);
            Ok(())
        };
        (name, run)
    }))
}
