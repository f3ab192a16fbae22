//! Follows the output of `cargo test`: a line per suite, and the whole output of each that fails.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::libtest::{self, Line};
use super::skips::SkipLog;
use super::tally::Tally;

/// What one pass did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) pass: &'static str,
    /// With what had to be compiled for it still.
    pub(crate) took: Duration,
    /// Each as libtest saw it: what skipped itself is among the passed.
    pub(crate) tally: Tally,
    /// Suite or test, and what went wrong.
    pub(crate) failures: Vec<String>,
    /// Reasons of the tests that skipped themselves, by suite and test.
    pub(crate) skips: BTreeMap<String, String>,
    /// The same of what an attribute left out, which libtest counts as skipped itself.
    pub(crate) ignored: BTreeMap<String, String>,
}

/// Follows the output of one pass.
pub(crate) struct Watch {
    outcome: Outcome,
    skip_log: SkipLog,
    /// The suite that runs now, with its output so far.
    suite: Option<Suite>,
    /// What cargo itself says outside of any suite: warnings and compiler errors.
    outside: String,
}

struct Suite {
    name: String,
    output: String,
    start: Instant,
    tally: Tally,
    /// Whether its result line came; a suite that crashes prints none.
    ended: bool,
}

impl Outcome {
    /// What `pass` did, with the time that it took.
    pub(crate) fn timed(pass: impl FnOnce() -> Result<Self>) -> Result<Self> {
        let start = Instant::now();
        let outcome = pass()?;
        Ok(Self { took: start.elapsed(), ..outcome })
    }
}

impl Watch {
    /// Tests write into `skip_log` why they do not run.
    pub(crate) fn new(pass: &'static str, skip_log: SkipLog) -> Self {
        Self {
            outcome: Outcome { pass, ..Outcome::default() },
            skip_log,
            suite: None,
            outside: String::new(),
        }
    }

    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str) -> Result<()> {
        let event = libtest::read(line);
        if let Line::Suite(name) = event {
            self.end_suite()?;
            let (start, name) = (Instant::now(), short(name));
            self.suite = Some(Suite {
                name,
                output: String::new(),
                start,
                tally: Tally::default(),
                ended: false,
            });
            return Ok(());
        }
        let Some(suite) = &mut self.suite else {
            self.outside.push_str(line);
            self.outside.push('\n');
            return Ok(());
        };
        suite.output.push_str(line);
        suite.output.push('\n');
        match event {
            Line::Failed(test) => self.outcome.failures.push(format!("{}: {test}", suite.name)),
            Line::Ignored(test, reason) => {
                self.outcome.ignored.insert(format!("{}: {test}", suite.name), reason.to_owned());
            }
            Line::Ended(tally) => {
                suite.tally += tally;
                suite.ended = true;
            }
            Line::Suite(_) | Line::Passed(_) | Line::Other => {}
        }
        Ok(())
    }

    /// Books the suite that ran until now.
    fn end_suite(&mut self) -> Result<()> {
        let Some(mut suite) = self.suite.take() else { return Ok(()) };
        for (test, reason) in self.skip_log.take()? {
            self.outcome.skips.insert(format!("{}: {test}", suite.name), reason);
        }
        if !suite.ended {
            suite.tally.failed += 1;
            self.outcome
                .failures
                .push(format!("{}: ended without a result: crashed or took too long", suite.name));
        }
        self.outcome.tally += suite.tally;
        if suite.tally == Tally::default() {
            return Ok(());
        }
        let seconds = suite.start.elapsed().as_secs_f64();
        println!("  {:55} {} ({seconds:.1} s)", suite.name, suite.tally);
        if suite.tally.failed > 0 {
            println!("{}", suite.output);
        }
        Ok(())
    }

    /// Books the rest; `success` is how cargo ended.
    pub(crate) fn finish(mut self, success: bool) -> Result<Outcome> {
        self.end_suite()?;
        let outcome = &mut self.outcome;
        if !success && outcome.tally.failed == 0 {
            outcome.tally.failed += 1;
            outcome.failures.push("cargo failed outside of any test, see above".to_owned());
            println!("{}", self.outside);
        }
        Ok(self.outcome)
    }
}

/// `unittests src/lib.rs (…/deps/bypass_core-0f3a)` becomes `bypass_core src/lib.rs`.
fn short(suite: &str) -> String {
    let Some((what, binary)) = suite.split_once(" (") else {
        return format!("{suite} documentation");
    };
    let file = binary.trim_end_matches(')').rsplit('/').next().unwrap_or(binary);
    let name = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
    format!("{name} {}", what.trim_start_matches("unittests "))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A run with a suite that has an ignored test, one that crashes, and a failing doctest.
    pub(crate) const RUN: &str = "\
   Compiling bypass-core v0.1.0
     Running unittests src/lib.rs (target/debug/deps/bypass_core-0f3a)

running 3 tests
test burst::keeps_the_rest ... ok
test rig::veth ... ok
test rig::nic ... ignored, needs a NIC

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s

     Running tests/crash.rs (target/debug/deps/crash-77)

running 1 test
error: test failed, to rerun pass `--test crash`
   Doc-tests bypass_core

running 1 test
test src/lib.rs - (line 3) ... FAILED

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s
";

    /// What comes of `lines` in which the tests write `skips`.
    pub(crate) fn watched(
        pass: &'static str,
        lines: impl Iterator<Item = &'static str>,
        skips: &str,
        success: bool,
    ) -> Outcome {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = SkipLog::create(&format!("watch-{number}")).unwrap();
        std::fs::write(&log.file, skips).unwrap();
        let mut watch = Watch::new(pass, log);
        lines.for_each(|line| watch.line(line).unwrap());
        watch.finish(success).unwrap()
    }

    #[test]
    fn a_suite_that_prints_no_result_counts_as_failed() {
        let outcome = watched("all", RUN.lines(), "", false);
        assert_eq!(outcome.tally, Tally { passed: 2, failed: 2, skipped: 1 });
        assert_eq!(outcome.failures.len(), 2, "{:?}", outcome.failures);
        assert!(outcome.failures[0].starts_with("crash tests/crash.rs: ended without a result"));
        assert_eq!(outcome.failures[1], "bypass_core documentation: src/lib.rs - (line 3)");
        let ignored = ("bypass_core src/lib.rs: rig::nic".to_owned(), "needs a NIC".to_owned());
        assert_eq!(outcome.ignored, BTreeMap::from([ignored]));
    }

    #[test]
    fn a_skip_belongs_to_the_suite_that_ran() {
        let outcome = watched("all", RUN.lines(), "rig::veth\tno veth\n", false);
        let skip = ("bypass_core src/lib.rs: rig::veth".to_owned(), "no veth".to_owned());
        assert_eq!(outcome.skips, BTreeMap::from([skip]));
    }

    #[test]
    fn a_build_that_fails_counts_as_failed() {
        let outcome = watched("all", ["error[E0308]: mismatched types"].into_iter(), "", false);
        assert_eq!(outcome.tally, Tally { passed: 0, failed: 1, skipped: 0 });
    }
}
