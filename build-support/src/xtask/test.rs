//! Every test in every layer, with one closing line.
//!
//! | pass | what runs |
//! |---|---|
//! | `all` | unit, property, integration, compile-fail and documentation tests of the library crates, all features |
//! | `tools` | the tests of the benchmark runner and of this tool |
//! | `models` | the wake-up and ring protocols under every interleaving that loom finds |
//! | `nobody` | the library's test binaries once more, without privileges (only where this process is root) |
//! | `examples` | every example, run for real and judged by what it prints |
//!
//! A test that cannot run here appends `name<TAB>reason` to the file that `BYPASS_SKIP_LOG` names and returns; libtest
//! calls that passed, so it is moved from the passed to the skipped here. With `CI=true` a skip is a failure unless
//! [`ALLOWED_SKIPS`] has its reason.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::cargo::{cargo, metadata, scratch, shown};
use super::libtest::{self, Line};
use super::tally::Tally;
use super::unprivileged::Stage;
use super::{checks, examples, setup, unprivileged};

/// Parts of reasons that stay valid under CI: what no machine of that kind can do.
const ALLOWED_SKIPS: &[&str] = &[];

/// A test binary that takes longer hangs; it is ended and counts as failed.
const SUITE_TIMEOUT_SECONDS: &str = "600";

/// The name of every module with tests that need loom.
const MODELS: &str = "model";

/// Names of tests that call the compiler, which `nobody` cannot: its results belong to the checkout's owner.
const NEEDS_COMPILER: &str = "compile_fail";

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
    let mut outcomes = Vec::new();
    if with_checks {
        outcomes.push(checks::all()?);
    }
    if let Err(error) = setup::ensure() {
        println!("setup: {error:#}\nsetup: going on without; what needs the packages is skipped");
    }
    let scratch = scratch(&metadata()?)?;
    for pass in PASSES.iter().filter(|pass| pass.applies(filter)) {
        outcomes.push(pass.run(filter, &scratch)?);
    }
    outcomes.push(examples::run(filter, &scratch)?);
    Ok(summary(&outcomes, std::env::var("CI").is_ok_and(|ci| ci == "true")))
}

/// What one pass did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) pass: &'static str,
    /// Each as libtest saw it: what skipped itself is among the passed.
    pub(crate) tally: Tally,
    /// Suite or test, and what went wrong.
    pub(crate) failures: Vec<String>,
    /// Name and reason.
    pub(crate) skips: BTreeSet<(String, String)>,
    /// Name and reason of what an attribute left out; libtest counts these as skipped itself.
    pub(crate) ignored: BTreeSet<(String, String)>,
}

const PASSES: &[Pass] = &[
    Pass { name: "all", packages: &["--all-features"], kind: Kind::Plain },
    Pass {
        name: "tools",
        packages: &[
            "--package=bypass-build-support",
            "--package=bypass-benches",
            "--features=xtask",
        ],
        kind: Kind::Plain,
    },
    Pass { name: "models", packages: &["--package=bypass-core", "--lib"], kind: Kind::Models },
    Pass { name: "nobody", packages: &["--all-features"], kind: Kind::Nobody },
];

/// One call of `cargo test`.
struct Pass {
    name: &'static str,
    packages: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// The tests run as the user `nobody`.
    Nobody,
    /// Only the modules named `model`, built with loom in place of the standard atomics.
    Models,
}

impl Pass {
    fn applies(&self, filter: Option<&str>) -> bool {
        match self.kind {
            Kind::Plain => true,
            Kind::Nobody => unprivileged::possible(),
            // A second build of everything is worth it for all tests, or for these.
            Kind::Models => filter.is_none_or(|filter| filter.contains(MODELS)),
        }
    }

    fn command(
        &self,
        filter: Option<&str>,
        scratch: &Path,
        stage: Option<&Stage>,
    ) -> Result<Command> {
        let mut runner = vec!["timeout", "--foreground", "--kill-after=10", SUITE_TIMEOUT_SECONDS];
        let tool = std::env::current_exe().context("cannot tell where this tool lies")?;
        let tool = tool.to_str().context("this tool lies under a path that is not UTF-8")?;
        let mut command = cargo(&["test", "--no-fail-fast"]);
        command.args(self.packages);
        if let Some(stage) = stage {
            let stage = stage.folder.to_str().context("the temporary folder is not UTF-8")?;
            runner.extend([tool, unprivileged::COMMAND, stage]);
            // Documentation tests are compiled as they run.
            command.args(["--lib", "--bins", "--tests"]);
        }
        command.args(["--config", &format!("target.'cfg(unix)'.runner={runner:?}")]);
        if self.kind == Kind::Models {
            // Apart from the other builds, which have other flags for every crate.
            command.args(["--config", "build.rustflags=['--cfg', 'loom']"]);
            command.arg("--target-dir").arg(scratch.join(MODELS));
        }
        // The filter goes to the tests: given one itself, cargo would not build the examples that
        // tests call.
        command.arg("--").args(filter.or((self.kind == Kind::Models).then_some(MODELS)));
        if stage.is_some() {
            command.args(["--skip", NEEDS_COMPILER]);
        }
        Ok(command)
    }

    /// Runs the tests, prints a line per suite and the whole output of each suite that fails.
    fn run(&self, filter: Option<&str>, scratch: &Path) -> Result<Outcome> {
        let skip_log = SkipLog::create(self.name)?;
        let profile = scratch.parent().context("the target directory is the root")?.join("debug");
        let stage = match self.kind {
            Kind::Nobody => Some(Stage::create(&profile)?),
            Kind::Plain | Kind::Models => None,
        };
        let mut command = self.command(filter, scratch, stage.as_ref())?;
        command.env("BYPASS_SKIP_LOG", &skip_log.file).env("CARGO_TERM_COLOR", "never");
        println!("\n{}: {}", self.name, shown(&command));

        // One stream, so that a suite's name comes before its results.
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", shown(&command)))?;
        drop(command); // holds the writing end

        let mut watch = Watch::new(self.name);
        let mut log = File::create(scratch.join(format!("{}.log", self.name)))?;
        for line in BufReader::new(reader).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            writeln!(log, "{line}")?;
            watch.line(&line);
        }
        let status = child.wait()?;
        let mut outcome = watch.finish(status.success());
        outcome.skips = skip_log.read()?;
        Ok(outcome)
    }
}

/// Follows the output of one pass.
struct Watch {
    outcome: Outcome,
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

impl Watch {
    fn new(pass: &'static str) -> Self {
        Self {
            outcome: Outcome { pass, ..Outcome::default() },
            suite: None,
            outside: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let event = libtest::read(line);
        if let Line::Suite(name) = event {
            self.end_suite();
            let (start, name) = (Instant::now(), short(name));
            self.suite = Some(Suite {
                name,
                output: String::new(),
                start,
                tally: Tally::default(),
                ended: false,
            });
            return;
        }
        let Some(suite) = &mut self.suite else {
            self.outside.push_str(line);
            self.outside.push('\n');
            return;
        };
        suite.output.push_str(line);
        suite.output.push('\n');
        match event {
            Line::Failed(test) => self.outcome.failures.push(format!("{}: {test}", suite.name)),
            Line::Ignored(test, reason) => {
                self.outcome.ignored.insert((test.to_owned(), reason.to_owned()));
            }
            Line::Ended(tally) => {
                suite.tally += tally;
                suite.ended = true;
            }
            Line::Suite(_) | Line::Passed(_) | Line::Other => {}
        }
    }

    /// Books the suite that ran until now.
    fn end_suite(&mut self) {
        let Some(mut suite) = self.suite.take() else {
            return;
        };
        if !suite.ended {
            suite.tally.failed += 1;
            self.outcome
                .failures
                .push(format!("{}: ended without a result: crashed or took too long", suite.name));
        }
        self.outcome.tally += suite.tally;
        if suite.tally == Tally::default() {
            return;
        }
        let seconds = suite.start.elapsed().as_secs_f64();
        println!("  {:55} {} ({seconds:.1} s)", suite.name, suite.tally);
        if suite.tally.failed > 0 {
            println!("{}", suite.output);
        }
    }

    fn finish(mut self, success: bool) -> Outcome {
        self.end_suite();
        let outcome = &mut self.outcome;
        if !success && outcome.tally.failed == 0 {
            outcome.tally.failed += 1;
            outcome.failures.push("cargo failed outside of any test, see above".to_owned());
            println!("{}", self.outside);
        }
        self.outcome
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

/// The file to which tests write why they did not run; in a folder of its own that every user can reach.
struct SkipLog {
    folder: PathBuf,
    file: PathBuf,
}

impl SkipLog {
    fn create(pass: &str) -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("bypass-skips-{}-{pass}", std::process::id()));
        let file = folder.join("skips");
        let make = || {
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            File::create_new(&file)?.set_permissions(Permissions::from_mode(0o666))
        };
        make().with_context(|| format!("cannot create {}", file.display()))?;
        Ok(Self { folder, file })
    }

    fn read(&self) -> Result<BTreeSet<(String, String)>> {
        let text = fs::read_to_string(&self.file)?;
        let entry = |line: &str| {
            let (name, reason) = line.split_once('\t').unwrap_or((line, "no reason given"));
            (name.to_owned(), reason.to_owned())
        };
        Ok(text.lines().map(entry).collect())
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("cannot remove {}: {error}", self.folder.display());
        }
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
            .partition(|(name, _)| outcome.pass == "nobody" && ran_elsewhere(name, outcomes));
        tally.skipped += missed.len();
        println!("  {:9} {tally}", outcome.pass);
        for failure in &outcome.failures {
            println!("    failed: {failure}");
        }
        for (name, reason) in missed.into_iter().chain(&outcome.ignored) {
            let allowed = ALLOWED_SKIPS.iter().any(|allowed| reason.contains(allowed));
            if ci && !allowed {
                tally.skipped -= 1;
                tally.failed += 1;
                println!("    failed: {name} was skipped, which CI does not allow: {reason}");
            } else {
                println!("    skipped: {name}: {reason}");
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
fn ran_elsewhere(name: &str, outcomes: &[Outcome]) -> bool {
    let privileged = outcomes.iter().filter(|outcome| outcome.pass != "nobody");
    !privileged.flat_map(|outcome| &outcome.skips).any(|(skipped, _)| skipped == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "\
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

    fn outcome(pass: &'static str, skip: Option<&str>) -> Outcome {
        let mut watch = Watch::new(pass);
        RUN.lines().take(9).for_each(|line| watch.line(line));
        let mut outcome = watch.finish(true);
        outcome.skips.extend(skip.map(|name| (name.to_owned(), "needs CAP_NET_ADMIN".to_owned())));
        outcome
    }

    #[test]
    fn a_suite_that_prints_no_result_counts_as_failed() {
        let mut watch = Watch::new("all");
        RUN.lines().for_each(|line| watch.line(line));
        let outcome = watch.finish(false);
        assert_eq!(outcome.tally, Tally { passed: 2, failed: 2, skipped: 1 });
        assert_eq!(outcome.failures.len(), 2, "{:?}", outcome.failures);
        assert!(outcome.failures[0].starts_with("crash tests/crash.rs: ended without a result"));
        assert_eq!(outcome.failures[1], "bypass_core documentation: src/lib.rs - (line 3)");
    }

    #[test]
    fn a_build_that_fails_counts_as_failed() {
        let mut watch = Watch::new("all");
        watch.line("error[E0308]: mismatched types");
        assert_eq!(watch.finish(false).tally, Tally { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_skip_moves_a_test_from_passed_to_skipped() {
        let total = summary(&[outcome("all", Some("rig::veth"))], false);
        assert_eq!(total, Tally { passed: 1, failed: 0, skipped: 2 });
    }

    #[test]
    fn under_ci_a_skip_is_a_failure() {
        let total = summary(&[outcome("all", Some("rig::veth"))], true);
        assert_eq!(total, Tally { passed: 1, failed: 2, skipped: 0 });
    }

    #[test]
    fn what_nobody_may_not_do_is_no_skip_where_it_ran_with_privileges() {
        let total = summary(&[outcome("all", None), outcome("nobody", Some("rig::veth"))], false);
        assert_eq!(total, Tally { passed: 3, failed: 0, skipped: 2 });
        let total = summary(
            &[outcome("all", Some("rig::veth")), outcome("nobody", Some("rig::veth"))],
            false,
        );
        assert_eq!(total, Tally { passed: 2, failed: 0, skipped: 4 });
    }

    #[test]
    fn a_skip_log_is_writable_by_others_and_removed() {
        let log = SkipLog::create("unit").unwrap();
        assert_eq!(fs::metadata(&log.file).unwrap().permissions().mode() & 0o777, 0o666);
        fs::write(&log.file, "a::b\tno ping\na::b\tno ping\n").unwrap();
        assert_eq!(
            log.read().unwrap(),
            BTreeSet::from([("a::b".to_owned(), "no ping".to_owned())])
        );
        let folder = log.folder.clone();
        drop(log);
        assert!(!folder.exists());
    }
}
