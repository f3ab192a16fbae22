//! The conformance suite: what every backend owes its users, checked with real traffic.
//!
//! Each check opens a fresh pair of linked endpoints, so it cannot see what another left behind.
//! A backend passes when every check passes:
//!
//! ```
//! use bypass_core::backend::memory::{LinkOptions, link};
//! use bypass_core::testing::conformance;
//!
//! conformance::packets(|| {
//!     let (a, b) = link(&LinkOptions::default())?;
//!     Ok((a.open()?, b.open()?))
//! })
//! .assert();
//! ```

mod channel;
mod checks;
mod datagram_checks;
mod packet_checks;

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use channel::{Channel, Datagrams, Packets};

use crate::{DatagramIo, PacketIo, Result};

/// What a check found: nothing, or what is wrong.
pub type Outcome = std::result::Result<(), String>;

/// One property, as a function of a way to open a pair.
pub(crate) struct Check<C> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Open<'_, C>) -> Outcome,
}

/// Makes a fresh pair.
type Open<'a, C> = &'a dyn Fn() -> Result<(C, C)>;

thread_local! {
    static PATIENCE: Cell<Duration> = const { Cell::new(Duration::from_secs(5)) };
}

/// When traffic that should flow counts as stalled: 5 s, or what [`with_patience`] says.
fn patience() -> Duration {
    PATIENCE.get()
}

/// Runs checks with another limit after which traffic counts as stalled.
pub fn with_patience<T>(limit: Duration, checks: impl FnOnce() -> T) -> T {
    let usual = PATIENCE.replace(limit);
    let outcome = checks();
    PATIENCE.set(usual);
    outcome
}

/// Runs every check for packet queues on pairs that `open` makes.
pub fn packets<P: PacketIo>(open: impl Fn() -> Result<(P, P)>) -> Report {
    let run = Cell::new(0);
    let open = || {
        run.set(run.get() + 1);
        let (a, b) = open()?;
        Ok((Packets::new(a, run.get()), Packets::new(b, run.get())))
    };
    let mut report = run_all(&checks::all(), &open);
    report.outcomes.extend(run_all(&packet_checks::all(), &open).outcomes);
    report
}

/// Runs every check for datagram endpoints on pairs that `open` makes. Each must be bound to an
/// address that the other can send to.
pub fn datagrams<D: DatagramIo>(open: impl Fn() -> Result<(D, D)>) -> Report {
    let run = Cell::new(0);
    let open = || {
        run.set(run.get() + 1);
        let (a, b) = open()?;
        let (to_a, to_b) = (a.local_addr(), b.local_addr());
        Ok((Datagrams::new(a, to_b, run.get()), Datagrams::new(b, to_a, run.get())))
    };
    let mut report = run_all(&checks::all(), &open);
    report.outcomes.extend(run_all(&datagram_checks::all(), &open).outcomes);
    report
}

fn run_all<C>(checks: &[Check<C>], open: Open<'_, C>) -> Report {
    Report::of(checks.iter().map(|check| (check.name, || (check.run)(open))))
}

/// What came out of every check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a report that nobody looks at proves nothing"]
pub struct Report {
    outcomes: Vec<(&'static str, Outcome)>,
}

impl Report {
    /// Runs checks, one after the other.
    pub(crate) fn of<F: FnOnce() -> Outcome>(
        checks: impl Iterator<Item = (&'static str, F)>,
    ) -> Self {
        let run = |(name, check): (_, F)| {
            // A check that panics has found something too, and the others still run.
            let outcome = catch_unwind(AssertUnwindSafe(check));
            (name, outcome.unwrap_or_else(|panic| Err(message(panic.as_ref()))))
        };
        Self { outcomes: checks.map(run).collect() }
    }

    /// The name and outcome of every check.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, &Outcome)> {
        self.outcomes.iter().map(|(name, outcome)| (*name, outcome))
    }

    /// # Panics
    ///
    /// When a check failed; the message lists all that did.
    pub fn assert(&self) {
        assert!(self.outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{self}");
    }
}

/// What a check said when it panicked.
fn message(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    said.map_or_else(|| "it panicked".to_owned(), |said| format!("it panicked: {said}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.outcomes {
            match outcome {
                Ok(()) => writeln!(f, "passed  {name}")?,
                Err(why) => writeln!(f, "FAILED  {name}: {why}")?,
            }
        }
        Ok(())
    }
}
