//! Two kinds of work at a time: tests, which must not wait, and what can be done before it is needed.

use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context as _, Result};
use rustix::process::nice;

/// A third of the time that others get, where all want it. Less would not do: tests wait for what is built.
const LESS: i32 = 5;

/// Does `work`, and beside it `more`, in a thread with a lower priority, as all programs have that it starts.
/// Returns what came of `more` when both have ended.
pub(crate) fn of<T: Send>(
    work: impl FnOnce() -> Result<()>,
    more: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let more = scope.spawn(|| {
            // On Linux it is the thread's own.
            nice(LESS).context("cannot lower the priority of a thread")?;
            more()
        });
        work()?;
        more.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_ahead_has_a_lower_priority_and_tests_have_theirs() {
        let usual = nice(0).unwrap();
        let mut at_work = None;
        let ahead = of(
            || {
                at_work = Some(nice(0)?);
                Ok(())
            },
            || Ok(nice(0)?),
        );
        assert_eq!((at_work, ahead.unwrap()), (Some(usual), (usual + LESS).min(19)));
    }
}
