//! Formatting, lints, documentation, the sets of features, the override of the backend, and the XDP
//! program against its source.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::cargo::{cargo, metadata, shown};
use super::tally::Tally;
use super::test;
use super::watch::Outcome;

/// A step of `cargo xtask ci` other than the tests: a name and the commands that must all succeed.
struct Check {
    name: &'static str,
    commands: fn() -> Result<Vec<Command>>,
}

const CHECKS: &[Check] = &[
    Check { name: "fmt", commands: || Ok(vec![cargo(&["fmt", "--all", "--check"])]) },
    Check {
        name: "clippy",
        commands: || Ok(vec![clippy(&["--workspace", "--all-targets", "--all-features"])]),
    },
    Check { name: "doc", commands: doc },
    Check { name: "features", commands: features },
    Check { name: "override", commands: overrides },
    Check { name: "bpf", commands: bpf },
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
            tally.count(check.passes()?);
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
    for check in CHECKS {
        let passed = check.passes()?;
        outcome.tally.count(passed);
        if !passed {
            outcome.failures.push(check.name.to_owned());
        }
    }
    Ok(outcome)
}

impl Check {
    /// Runs the commands up to the first that fails, whose output is shown.
    fn passes(&self) -> Result<bool> {
        let start = Instant::now();
        let commands = (self.commands)()?;
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
fn clippy(arguments: &[&str]) -> Command {
    let mut command = cargo(&["clippy", "--quiet"]);
    command.args(arguments).args(["--", "-D", "warnings"]);
    command
}

fn doc() -> Result<Vec<Command>> {
    let mut command = cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--all-features"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(vec![command])
}

/// Every published crate with its sets of features.
fn features() -> Result<Vec<Command>> {
    let metadata = metadata()?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
    let mut commands = Vec::new();
    for package in packages.iter().filter(|package| !is_private(package)) {
        let name = package["name"].as_str().context("a package without a name")?;
        let features = package["features"].as_object().context("a package without features")?;
        // `default` only names other features.
        let features: Vec<&str> =
            features.keys().map(String::as_str).filter(|feature| *feature != "default").collect();
        for set in sets(&features) {
            commands.push(clippy(&[
                "--package",
                name,
                "--no-default-features",
                "--features",
                &set.join(","),
            ]));
        }
    }
    Ok(commands)
}

/// The facade with its backend chosen by `--cfg`; it asserts the choice at compile time. With all
/// features, so that the override has something to override (the steps above need the same packages).
fn overrides() -> Result<Vec<Command>> {
    let chosen = |backend: &str| {
        let mut command =
            cargo(&["rustc", "--quiet", "--package=bypass-io", "--lib", "--all-features"]);
        command.args(["--profile=check", "--", "--cfg", &format!("bypass_backend=\"{backend}\"")]);
        command
    };
    Ok(["packet", "io-uring", "xdp"].map(chosen).into())
}

/// The XDP program's object against its source; by this tool, called again.
fn bpf() -> Result<Vec<Command>> {
    let mut command = Command::new(std::env::current_exe().context("cannot tell what I am")?);
    command.args(["bpf", "--check"]);
    Ok(vec![command])
}

/// Whether the package is for this repository only (`publish = false`).
fn is_private(package: &Value) -> bool {
    package["publish"].as_array().is_some_and(Vec::is_empty)
}

/// No feature, each alone, each left out, and all: every subset of up to three, and of more those in
/// which one feature leans on another, or on its absence.
fn sets<'a>(all: &[&'a str]) -> Vec<Vec<&'a str>> {
    let alone = all.iter().map(|one| vec![*one]);
    let left_out =
        all.iter().map(|one| all.iter().filter(|other| *other != one).copied().collect());
    let mut sets: Vec<Vec<&str>> =
        [Vec::new(), all.to_vec()].into_iter().chain(alone).chain(left_out).collect();
    sets.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    sets.dedup();
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_three_features_are_checked_in_every_set_and_more_alone_and_left_out() {
        assert_eq!(sets(&[]), [Vec::<&str>::new()]);
        let expected: [&[&str]; 8] =
            [&[], &["a"], &["b"], &["c"], &["a", "b"], &["a", "c"], &["b", "c"], &["a", "b", "c"]];
        assert_eq!(sets(&["a", "b", "c"]), expected);
        assert_eq!(sets(&["a", "b", "c", "d", "e"]).len(), 12);
    }

    #[test]
    fn the_features_step_covers_the_facade_with_none_and_all() {
        let commands: Vec<String> = features().unwrap().iter().map(shown).collect();
        let has = |part: &str| commands.iter().any(|command| command.contains(part));
        assert!(has("--package bypass-io --no-default-features --features  --"), "{commands:#?}");
        assert!(has("--features dpdk,io-uring,xdp --"), "{commands:#?}");
        assert!(!has("bypass-benches"), "private packages are not for users: {commands:#?}");
    }
}
