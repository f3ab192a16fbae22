//! What a UDP endpoint over the kernel's stack owes: checks on the loopback interface, against the
//! standard library's sockets. They need no privileges.
//!
//! ```
//! use bypass_core::testing::loopback;
//!
//! loopback::sockets(|options| options.open()).assert();
//! ```
#![allow(clippy::unwrap_used, reason = "a check says what it expects by unwrapping")]

mod checks;
pub mod tools;

use super::conformance::Report;
use crate::backend::socket::UdpOptions;
use crate::{DatagramIo, Result};

/// Opens an endpoint.
type Sockets<'a, D> = &'a dyn Fn(&UdpOptions) -> Result<D>;

/// Runs every check on endpoints that `open` opens as the options say.
pub fn sockets<D: DatagramIo>(open: impl Fn(&UdpOptions) -> Result<D>) -> Report {
    let sockets: Sockets<'_, D> = &open;
    Report::of(checks::all::<D>().into_iter().map(|(name, check)| {
        let run = move || {
            check(sockets);
            Ok(())
        };
        (name, run)
    }))
}
