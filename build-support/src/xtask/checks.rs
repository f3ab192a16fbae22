//! Formatting, lints, documentation, the sets of features, the override of the backend, the XDP
//! program against its source, and whether the crates could be published.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::cargo::{cargo, host, shown};
use super::selection::{FUZZ, Selection};
use super::tally::Tally;
use super::test;
use super::watch::Outcome;

/// The package whose features choose among each other: which backend is the default one.
const FACADE: &str = "bypass-io";

/// A step of `cargo xtask ci` other than the tests: a name and the commands that must all succeed.
struct Check {
    name: &'static str,
    commands: fn(&Selection) -> Result<Vec<Command>>,
}

const CHECKS: &[Check] = &[
    Check { name: "fmt", commands: |_| Ok(vec![cargo(&["fmt", "--all", "--check"])]) },
    Check {
        name: "clippy",
        commands: |selection| {
            let fuzz = format!("--package={FUZZ}");
            Ok(vec![clippy(&["--all-targets"], &selection.everything()), clippy(&[], &[fuzz])])
        },
    },
    Check { name: "doc", commands: doc },
    Check { name: "features", commands: features },
    Check { name: "override", commands: overrides },
    Check { name: "bpf", commands: bpf },
    Check { name: "package", commands: package },
];

/// `cargo xtask ci [STEP...]`
pub(crate) fn run(steps: &[&str]) -> Result<ExitCode> {
    if steps.is_empty() {
        return test::run(&["--with-checks"]);
    }
    let mut tally = Tally::default();
    for &step in steps {
        if step == "test" {
            tally += test::count(None, false)?;
        } else if let Some(check) = CHECKS.iter().find(|check| check.name == step) {
            tally.count(check.passes(&Selection::of_this_machine()?)?);
        } else {
            let known: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
            bail!("there is no step `{step}`; there are {} test", known.join(" "));
        }
    }
    Ok(tally.close())
}

/// Runs every check and counts each as one.
pub(crate) fn all() -> Result<Outcome> {
    let mut outcome = Outcome { pass: "checks", ..Outcome::default() };
    let selection = Selection::of_this_machine()?;
    for check in CHECKS {
        let passed = check.passes(&selection)?;
        outcome.tally.count(passed);
        if !passed {
            outcome.failures.push(check.name.to_owned());
        }
    }
    Ok(outcome)
}

impl Check {
    /// Runs the commands up to the first that fails, whose output is shown.
    fn passes(&self, selection: &Selection) -> Result<bool> {
        let start = Instant::now();
        let commands = (self.commands)(selection)?;
        let count = commands.len();
        for mut command in commands {
            let output =
                command.output().with_context(|| format!("cannot run {}", shown(&command)))?;
            if !output.status.success() {
                let said = [output.stdout, output.stderr].concat();
                println!(
                    "ci: {} FAILED: {}\n{}",
                    self.name,
                    shown(&command),
                    String::from_utf8_lossy(&said)
                );
                return Ok(false);
            }
        }
        println!(
            "ci: {} ok, {count} commands in {:.1} s",
            self.name,
            start.elapsed().as_secs_f64()
        );
        Ok(true)
    }
}

/// Clippy with warnings as errors; the flag reaches the members only, so dependencies are checked
/// once for all steps.
fn clippy(arguments: &[&str], selected: &[String]) -> Command {
    let mut command = cargo(&["clippy", "--quiet"]);
    command.args(arguments).args(selected).args(["--", "-D", "warnings"]);
    command
}

fn doc(selection: &Selection) -> Result<Vec<Command>> {
    let mut command = cargo(&["doc", "--quiet", "--no-deps"]);
    command.args(selection.everything()).env("RUSTDOCFLAGS", "-D warnings");
    let mut commands = vec![command];
    if selection.has_dpdk() {
        // As docs.rs does it, where there is no DPDK. It names the target too, so that this leaves alone
        // what the bindings' build script makes for everything else.
        let mut command = cargo(&["doc", "--quiet", "--no-deps", "--package=bypass-dpdk"]);
        command.args(["--features=log,tracing", "--target", &host()?]);
        command.env("RUSTDOCFLAGS", "-D warnings");
        command.env("DOCS_RS", "1").env("PKG_CONFIG", "false");
        commands.push(command);
    }
    Ok(commands)
}

/// Every published crate with its sets of features.
fn features(selection: &Selection) -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    for (name, features) in selection.published() {
        for set in sets(&features, name == FACADE) {
            let selected = [format!("--package={name}"), format!("--features={}", set.join(","))];
            commands.push(clippy(&["--no-default-features"], &selected));
        }
    }
    Ok(commands)
}

/// The facade with its backend chosen by `--cfg`; it asserts the choice at compile time. With all
/// features, so that the override has something to override (the steps above need the same packages).
fn overrides(selection: &Selection) -> Result<Vec<Command>> {
    let features = format!("--features={}", selection.features_of("bypass-io"));
    let chosen = |backend: &str| {
        let mut command =
            cargo(&["rustc", "--quiet", "--package=bypass-io", "--lib", features.as_str()]);
        command.args(["--profile=check", "--", "--cfg", &format!("bypass_backend=\"{backend}\"")]);
        command
    };
    let dpdk = selection.has_dpdk().then_some("dpdk");
    Ok(["packet", "io-uring", "xdp"].into_iter().chain(dpdk).map(chosen).collect())
}

/// The XDP program's object against its source; by this tool, called again.
fn bpf(_: &Selection) -> Result<Vec<Command>> {
    let mut command = Command::new(std::env::current_exe().context("cannot tell what I am")?);
    command.args(["bpf", "--check"]);
    Ok(vec![command])
}

/// Every crate as it would be uploaded: it leans on nothing that stays here.
fn package(_: &Selection) -> Result<Vec<Command>> {
    let mut command = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
    command.args(["--workspace", "--exclude=bypass-benches", "--exclude=bypass-fuzz"]);
    Ok(vec![command])
}

/// No feature, each alone, and all: in these a feature is found out that leans on another one. Where features
/// choose among each other, also all but one, for each.
fn sets<'a>(all: &[&'a str], they_choose: bool) -> Vec<Vec<&'a str>> {
    let mut sets = vec![Vec::new(), all.to_vec()];
    sets.extend(all.iter().map(|one| vec![*one]));
    if they_choose {
        let without = |one| all.iter().filter(|other| *other != one).copied().collect();
        sets.extend(all.iter().map(without));
    }
    sets.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    sets.dedup();
    sets
}

#[cfg(test)]
mod tests {
    use super::super::selection::tests::workspace;
    use super::*;

    #[test]
    fn features_are_checked_alone_and_together_and_left_out_where_they_choose() {
        assert_eq!(sets(&[], false), [Vec::<&str>::new()]);
        let expected: [&[&str]; 5] = [&[], &["a"], &["b"], &["c"], &["a", "b", "c"]];
        assert_eq!(sets(&["a", "b", "c"], false), expected);
        let expected: [&[&str]; 8] =
            [&[], &["a"], &["b"], &["c"], &["a", "b"], &["a", "c"], &["b", "c"], &["a", "b", "c"]];
        assert_eq!(sets(&["a", "b", "c"], true), expected);
        assert_eq!(sets(&["a", "b", "c", "d", "e"], true).len(), 12);
    }

    #[test]
    fn the_features_step_covers_the_facade_with_none_and_all() {
        let commands = features(&workspace(true)).unwrap();
        let commands: Vec<String> = commands.iter().map(shown).collect();
        let has = |part: &str| commands.iter().any(|command| command.contains(part));
        assert!(has("--no-default-features --package=bypass-io --features= --"), "{commands:#?}");
        assert!(has("--features=dpdk,exporter,io-uring,xdp --"), "{commands:#?}");
        assert!(!has("bypass-benches"), "private packages are not for users: {commands:#?}");
    }
}
