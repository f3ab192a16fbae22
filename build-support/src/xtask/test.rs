//! Every test in every layer, with one closing line.
//!
//! | pass | what runs |
//! |---|---|
//! | `all` | every test of the library crates, documentation included, with all features |
//! | `nobody` | the same binaries once more, without privileges (where this process has some) |
//! | `static` | DPDK once more, linked into the test |
//! | `tools` | the tests of the benchmark runner and of this tool |
//! | `models` | the wake-up and ring protocols under every interleaving that loom finds |
//! | `asan` | the crates that lend memory to the kernel, under AddressSanitizer |
//! | `asan-dpdk` | what is dropped and shared in every order on DPDK, the same way |
//! | `examples` | every example, copied into an empty crate, run, and judged by what it prints |
//!
//! Tests wait for the network and for the kernel more than they compute. Meanwhile [`ahead`] checks and
//! builds what comes next.
//!
//! A test that cannot run here appends `name<TAB>reason` to the file that `BYPASS_SKIP_LOG` names
//! and returns; libtest calls that passed, so it is moved from the passed to the skipped here. With
//! `CI=true` a skip is a failure unless [`ALLOWED_SKIPS`] has its reason.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use super::cargo::{cargo, host, metadata, scratch, shown};
use super::selection::Selection;
use super::skips::SkipLog;
use super::tally::Tally;
use super::unprivileged::Stage;
use super::watch::{Outcome, Watch};
use super::{ahead, checks, compiler, examples, setup, unprivileged};

/// Parts of reasons that stay valid under CI: what no machine of that kind can do.
const ALLOWED_SKIPS: &[&str] =
    &["this kernel refuses programs that replace functions", "no rules on taps without cls_flower"];

/// A test binary that takes longer hangs; it is ended and counts as failed.
const SUITE_TIMEOUT_SECONDS: &str = "600";

/// The name of the pass that links DPDK into the test.
const STATIC: &str = "static";

/// The name of the pass that sanitizes what is built on DPDK. The sanitizer knows the memory of Rust's
/// allocator, and of DPDK's pools only that it is there.
const SANITIZED_DPDK: &str = "asan-dpdk";

/// Names of tests that call the compiler, or the Python that setup has put beside its results, which
/// `nobody` cannot: they belong to the checkout's owner.
const NEED_CHECKOUT: [&str; 2] = ["compile_fail", "meatpy"];

/// Modules whose tests compute much and call nothing that could be refused: privileges are nothing to them.
const COMPUTE_ONLY: [&str; 2] = ["mutations::", "properties::"];

/// A test in which the kernel reports a longer name than it writes. The sanitizer takes the report for
/// what was written.
const LIES_TO_THE_SANITIZER: &str = "a_name_longer_than_its_room_never_leaves_it";

/// `cargo xtask test [FILTER] [--with-checks]`
pub(crate) fn run(arguments: &[&str]) -> Result<ExitCode> {
    let mut filter = None;
    let mut with_checks = false;
    for &argument in arguments {
        match argument {
            "--with-checks" => with_checks = true,
            flag if flag.starts_with('-') => bail!("`test` has no option `{flag}`"),
            name if filter.is_none() => filter = Some(name),
            name => bail!("`test` takes one filter, `{name}` is a second one"),
        }
    }
    Ok(count(filter, with_checks)?.close())
}

/// Runs the tests whose name holds `filter` (or all), prints the summary and returns the count.
pub(crate) fn count(filter: Option<&str>, with_checks: bool) -> Result<Tally> {
    if let Err(error) = setup::ensure() {
        println!("setup: {error:#}\nsetup: going on without; what needs the packages is skipped");
    }
    let run = Run {
        filter,
        scratch: scratch(&metadata()?)?,
        selection: Selection::of_this_machine()?,
        tool: std::env::current_exe().context("cannot tell where this tool lies")?,
    };
    let passes: Vec<_> = PASSES.iter().filter(|pass| pass.applies(&run)).collect();
    let examples = examples::Copies::create(filter, &run.scratch)?;
    let mut outcomes = Vec::from_iter(run.selection.left_out());
    // Most tests are in the first pass, and nothing else can be of use before them.
    passes.first().map_or(Ok(()), |pass| pass.build(&run))?;
    let checked = ahead::of(
        || {
            for pass in &passes {
                outcomes.push(Outcome::timed(|| pass.run(&run))?);
            }
            outcomes.push(Outcome::timed(|| examples.run())?);
            Ok(())
        },
        || {
            let checked = with_checks.then(|| Outcome::timed(checks::all)).transpose()?;
            passes.iter().try_for_each(|pass| pass.build(&run))?;
            examples.build()?;
            Ok(checked)
        },
    )?;
    outcomes.splice(0..0, checked);
    Ok(summary(&outcomes, std::env::var("CI").is_ok_and(|ci| ci == "true")))
}

/// What all passes are told.
struct Run<'a> {
    filter: Option<&'a str>,
    /// Where logs are written.
    scratch: PathBuf,
    selection: Selection,
    /// This program, which cargo calls back.
    tool: PathBuf,
}

const PASSES: &[Pass] = &[
    Pass { name: "all", packages: None, kind: Kind::Plain },
    Pass { name: "nobody", packages: None, kind: Kind::Nobody },
    Pass {
        name: STATIC,
        packages: Some(&["--package=bypass-dpdk", "--features=static", "--test=eal"]),
        kind: Kind::Plain,
    },
    Pass {
        name: "tools",
        packages: Some(&[
            "--package=bypass-build-support",
            "--package=bypass-benches",
            "--features=xtask,xdp",
        ]),
        kind: Kind::Plain,
    },
    Pass {
        name: "models",
        packages: Some(&[
            "--package=bypass-core",
            "--package=io-uring-ext",
            "--package=bypass-xdp",
            "--lib",
        ]),
        kind: Kind::Models,
    },
    Pass {
        name: "asan",
        packages: Some(&[
            "--package=bypass-core",
            "--package=io-uring-ext",
            "--all-features",
            "--lib",
            "--tests",
        ]),
        kind: Kind::Sanitized,
    },
    Pass {
        name: SANITIZED_DPDK,
        packages: Some(&[
            "--package=bypass-dpdk",
            "--test=conformance_ring",
            "--test=lifetimes",
            "--test=packets",
        ]),
        kind: Kind::Sanitized,
    },
];

/// One call of `cargo test`.
struct Pass {
    name: &'static str,
    /// What of the workspace; what users get, with everything in it, when nothing is said.
    packages: Option<&'static [&'static str]>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// The tests run as the user `nobody`.
    Nobody,
    /// Only the modules named [`compiler::MODEL`], built with loom in place of the standard atomics.
    Models,
    /// Built with AddressSanitizer. It sees every access of the tests and the crates, not those of
    /// the kernel; for those there are the poison tests.
    Sanitized,
}

impl Pass {
    fn applies(&self, run: &Run<'_>) -> bool {
        if [STATIC, SANITIZED_DPDK].contains(&self.name) && !run.selection.has_dpdk() {
            return false;
        }
        match self.kind {
            Kind::Plain => true,
            Kind::Nobody => unprivileged::possible(),
            Kind::Sanitized => run.filter.is_none(),
            // A second build is worth it for all tests, or for these.
            Kind::Models => run.filter.is_none_or(|filter| filter.contains(compiler::MODEL)),
        }
    }

    /// The call of cargo, as far as it says what is built and how.
    fn cargo(&self, run: &Run<'_>) -> Result<Command> {
        let mut command = cargo(&["test", "--no-fail-fast"]);
        command.env("CARGO_TERM_COLOR", "never");
        match self.packages {
            Some(packages) => command.args(packages),
            None => command.args(run.selection.shipped()),
        };
        match self.kind {
            Kind::Plain => &mut command,
            // Documentation tests are compiled as they run.
            Kind::Nobody => command.args(["--lib", "--bins", "--tests"]),
            Kind::Models => command.env(compiler::MODELS_WRAPPER, &run.tool),
            // Where the target is named, the flags are not for what runs while it is built.
            Kind::Sanitized => command
                .args(["--target", &host()?])
                .args(["--config", &format!("build.rustflags=['{}']", compiler::SANITIZE)])
                .env(compiler::SANITIZER_WRAPPER, &run.tool),
        };
        Ok(command)
    }

    /// Builds the tests. What does not build is told when they are to run.
    fn build(&self, run: &Run<'_>) -> Result<()> {
        let mut command = self.cargo(run)?;
        command.arg("--no-run");
        command.output().with_context(|| format!("cannot run {}", shown(&command)))?;
        Ok(())
    }

    fn command(&self, run: &Run<'_>, stage: Option<&Stage>) -> Result<Command> {
        let mut runner = vec!["timeout", "--foreground", "--kill-after=10", SUITE_TIMEOUT_SECONDS];
        let mut command = self.cargo(run)?;
        if let Some(stage) = stage {
            let tool =
                run.tool.to_str().context("this tool lies under a path that is not UTF-8")?;
            let stage = stage.folder.to_str().context("the temporary folder is not UTF-8")?;
            runner.extend([tool, unprivileged::COMMAND, stage]);
        }
        command.args(["--config", &format!("target.'cfg(unix)'.runner={runner:?}")]);
        // The filter goes to the tests: given one itself, cargo would not build the examples that
        // tests call.
        command
            .arg("--")
            .args(run.filter.or((self.kind == Kind::Models).then_some(compiler::MODEL)));
        if stage.is_some() {
            let skipped = NEED_CHECKOUT.iter().chain(&COMPUTE_ONLY);
            command.args(skipped.flat_map(|name| ["--skip", name]));
        }
        if self.kind == Kind::Sanitized {
            // What the tests leak, they leak on purpose.
            command.env("ASAN_OPTIONS", "detect_leaks=0").args(["--skip", LIES_TO_THE_SANITIZER]);
        }
        Ok(command)
    }

    /// Runs the tests, prints a line per suite and the whole output of each suite that fails.
    fn run(&self, run: &Run<'_>) -> Result<Outcome> {
        let skip_log = SkipLog::create(self.name)?;
        let profile = run.scratch.parent().context("the target directory is the root")?;
        let stage = match self.kind {
            Kind::Nobody => Some(Stage::create(&profile.join("debug"))?),
            Kind::Plain | Kind::Models | Kind::Sanitized => None,
        };
        let mut command = self.command(run, stage.as_ref())?;
        command.env("BYPASS_SKIP_LOG", &skip_log.file);
        println!("\n{}: {}", self.name, shown(&command));

        // One stream, so that a suite's name comes before its results.
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", shown(&command)))?;
        drop(command); // holds the writing end

        let mut watch = Watch::new(self.name, skip_log);
        let mut log = File::create(run.scratch.join(format!("{}.log", self.name)))?;
        for line in BufReader::new(reader).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            writeln!(log, "{line}")?;
            watch.line(&line)?;
        }
        let status = child.wait()?;
        watch.finish(status.success())
    }
}

/// Prints what failed and what was skipped, and adds up.
fn summary(outcomes: &[Outcome], ci: bool) -> Tally {
    let mut total = Tally::default();
    println!("\nsummary");
    for outcome in outcomes {
        let mut tally = outcome.tally;
        tally.passed = tally.passed.saturating_sub(outcome.skips.len());
        let (again, missed): (Vec<_>, Vec<_>) = outcome
            .skips
            .iter()
            .partition(|(test, _)| outcome.pass == "nobody" && ran_elsewhere(test, outcomes));
        tally.skipped += missed.len();
        println!("  {:9} {tally}, {:.0} s", outcome.pass, outcome.took.as_secs_f64());
        for failure in &outcome.failures {
            println!("    failed: {failure}");
        }
        for (test, reason) in missed.into_iter().chain(&outcome.ignored) {
            // What was skipped with privileges too was skipped for the reason that was given there.
            let reason =
                privileged(outcomes).find_map(|pass| pass.skips.get(test)).unwrap_or(reason);
            let allowed = ALLOWED_SKIPS.iter().any(|allowed| reason.contains(allowed));
            if ci && !allowed {
                tally.skipped -= 1;
                tally.failed += 1;
                println!("    failed: {test} was skipped, which CI does not allow: {reason}");
            } else {
                println!("    skipped: {test}: {reason}");
            }
        }
        if !again.is_empty() {
            println!("    {} more need privileges and ran with them above", again.len());
        }
        total += tally;
    }
    total
}

/// Whether the test ran, and was not skipped, in a pass with privileges.
fn ran_elsewhere(test: &str, outcomes: &[Outcome]) -> bool {
    privileged(outcomes).all(|outcome| !outcome.skips.contains_key(test))
}

/// The passes that ran with the privileges of this process.
fn privileged(outcomes: &[Outcome]) -> impl Iterator<Item = &Outcome> {
    outcomes.iter().filter(|outcome| outcome.pass != "nobody")
}

#[cfg(test)]
mod tests {
    use super::super::watch::tests::{RUN, watched};
    use super::*;

    /// A pass with two tests that passed, one of which may have skipped itself, and one ignored.
    fn outcome(pass: &'static str, skips: &str) -> Outcome {
        watched(pass, RUN.lines().take(9), skips, true)
    }

    const SKIP: &str = "rig::veth\tneeds CAP_NET_ADMIN\n";

    #[test]
    fn a_skip_moves_a_test_from_passed_to_skipped() {
        let total = summary(&[outcome("all", SKIP)], false);
        assert_eq!(total, Tally { passed: 1, failed: 0, skipped: 2 });
    }

    #[test]
    fn under_ci_a_skip_is_a_failure() {
        let total = summary(&[outcome("all", SKIP)], true);
        assert_eq!(total, Tally { passed: 1, failed: 2, skipped: 0 });
    }

    #[test]
    fn what_nobody_may_not_do_is_no_skip_where_it_ran_with_privileges() {
        let total = summary(&[outcome("all", ""), outcome("nobody", SKIP)], false);
        assert_eq!(total, Tally { passed: 3, failed: 0, skipped: 2 });
        let total = summary(&[outcome("all", SKIP), outcome("nobody", SKIP)], false);
        assert_eq!(total, Tally { passed: 2, failed: 0, skipped: 4 });
    }
}
