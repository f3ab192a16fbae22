//! Runs the examples for real and judges what they print.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::cargo::{cargo, root, shown};
use super::test::Outcome;

/// How one example is run and judged.
struct Example {
    name: &'static str,
    /// What follows `--`.
    arguments: &'static [&'static str],
    /// What is wrong with what it printed, if anything.
    judge: fn(&str) -> Result<(), String>,
}

const EXAMPLES: &[Example] = &[];

/// Every file in `examples/`; one that has no entry in the table fails, so that none is forgotten.
pub(crate) fn run(filter: Option<&str>) -> Result<Outcome> {
    let mut outcome = Outcome { pass: "examples", ..Outcome::default() };
    println!();
    for name in files()?.iter().filter(|name| filter.is_none_or(|filter| name.contains(filter))) {
        let start = Instant::now();
        let verdict = match EXAMPLES.iter().find(|example| example.name == name) {
            Some(example) => example.passes(),
            None => {
                Err("has no entry in the table of build-support/src/xtask/examples.rs".to_owned())
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "  example {name:47} {} ({seconds:.1} s)",
            if verdict.is_ok() { "ok" } else { "FAILED" }
        );
        outcome.tally.count(verdict.is_ok());
        if let Err(reason) = verdict {
            println!("{reason}");
            outcome.failures.push(name.clone());
        }
    }
    Ok(outcome)
}

/// The names of the examples that are there.
fn files() -> Result<BTreeSet<String>> {
    let folder = root().join("examples");
    let mut names = BTreeSet::new();
    if !folder.exists() {
        return Ok(names);
    }
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

impl Example {
    fn command(&self) -> Command {
        let mut command = cargo(&["run", "--quiet", "--example", self.name, "--"]);
        command.args(self.arguments);
        command
    }

    fn passes(&self) -> Result<(), String> {
        let mut command = self.command();
        let output = command.output().map_err(|error| format!("{}: {error}", shown(&command)))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let verdict = if output.status.success() {
            (self.judge)(&printed)
        } else {
            Err(output.status.to_string())
        };
        let said = String::from_utf8_lossy(&output.stderr);
        verdict.map_err(|reason| format!("{}: {reason}\n{printed}\n{said}", shown(&command)))
    }
}
