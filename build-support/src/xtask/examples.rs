//! Copies the examples into an empty crate, where each must work as the one file or folder that it is,
//! runs them for real and judges what they print.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bypass_build_support::DPDK;

use super::cargo::{cargo, root, shown};
use super::watch::Outcome;

/// How one example is run and judged.
struct Example {
    name: &'static str,
    /// Features beside the default ones.
    features: &'static str,
    arguments: &'static [&'static str],
    /// What must be in what it prints.
    prints: &'static [&'static str],
}

/// What examples use beside the facade, as it stands in a manifest.
const DEPENDENCIES: &[&str] = &[
    "bytes = \"1.12\"",
    "crc32fast = \"1.5\"",
    "domain = { version = \"0.12\", features = [\"zonefile\"] }",
    "fastrand = \"2.5\"",
    "flate2 = \"1.1\"",
    "hashbrown = \"0.17\"",
    "itoa = \"1.0\"",
    "lexopt = \"0.3\"",
    "memmap2 = \"0.9\"",
    "ratatui = { version = \"0.30\", default-features = false, features = [\"crossterm\"] }",
    "rtrb = \"0.4\"",
    "rustix = { version = \"1.1\", features = [\"event\", \"net\"] }",
    "serde = { version = \"1.0\", features = [\"derive\"] }",
    "serde_json = \"1.0\"",
    "thiserror = \"2.0\"",
    "tokio = { version = \"1.54\", features = [\"io-util\", \"net\", \"rt-multi-thread\", \"sync\", \"time\"] }",
    "zerocopy = { version = \"0.8\", features = [\"derive\"] }",
];

/// The feature of examples that need DPDK.
const DPDK_FEATURE: &str = "dpdk";

const EXAMPLES: &[Example] = &[
    // Ends before the first query; the tests of its own ask it.
    Example {
        name: "dns",
        features: "",
        arguments: &["127.0.0.1:0", "--queries", "0"],
        prints: &["tcp on", "dns on", "0 queries, 0 answered"],
    },
    // Looks and leaves nothing behind.
    Example {
        name: "doctor",
        features: "",
        arguments: &["--require", "machine"],
        prints: &["clock source"],
    },
    // Ends before the first packet; the tests of the facade talk to it.
    Example {
        name: "echo",
        features: "",
        arguments: &["127.0.0.1:0", "--packets", "0"],
        prints: &["echo on"],
    },
    // Talks to itself, and compares what comes back.
    Example {
        name: "echo_tcp",
        features: "",
        arguments: &["--connections", "20", "--messages", "100"],
        prints: &["20 connections, 100 messages each, all of them came back"],
    },
    // Reads itself.
    Example {
        name: "file_read",
        features: "",
        arguments: &[],
        prints: &["bytes, Adler-32", "MB/s"],
    },
    // Starts and ends; the tests of the facade have clients talk to it.
    Example {
        name: "kv",
        features: "",
        arguments: &["127.0.0.1:0", "--check"],
        prints: &["kv on udp"],
    },
    // As the README has it; it fails by itself when messages, packets or orders are missing.
    Example {
        name: "market_data",
        features: "",
        arguments: &[],
        prints: &["socket", "uring", "recovered"],
    },
    // Its tests have it look at others; here there is nobody to look at.
    Example { name: "monitor", features: "", arguments: &["--help"], prints: &["usage: monitor"] },
    // In a network of its own, where the exchange verifies every checksum.
    Example {
        name: "order_sender",
        features: "",
        arguments: &[],
        prints: &["acknowledged", "good checksums"],
    },
    // It fails by itself when an acknowledged record is lost, or a torn one accepted.
    Example {
        name: "storage",
        features: "",
        arguments: &[],
        prints: &["random reads", "all verified"],
    },
    // The same on DPDK, where that is installed.
    Example {
        name: "market_data",
        features: DPDK_FEATURE,
        arguments: &["--rate", "20000", "--seconds", "1"],
        prints: &["socket", "dpdk", "recovered"],
    },
    Example {
        name: "order_sender",
        features: DPDK_FEATURE,
        arguments: &["--orders", "500"],
        prints: &["500 acknowledged", "good checksums"],
    },
];

/// The names of the examples that are there.
fn names() -> Result<BTreeSet<String>> {
    let folder = root().join("examples");
    let mut names = BTreeSet::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        let is_file = path.extension().is_some_and(|extension| extension == "rs");
        if is_file || path.join("main.rs").exists() {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// How `manifest` has tests built. Built otherwise, nothing that the examples depend on could be used again.
fn profile(manifest: &str) -> Option<&str> {
    manifest.find("[profile.dev]\n").map(|begin| &manifest[begin..])
}

/// A crate that depends on this one and has the examples as its programs.
pub(crate) struct Copies {
    names: BTreeSet<String>,
    folder: PathBuf,
    target: PathBuf,
}

impl Copies {
    /// Copies every file, and every folder with a `main.rs`, in `examples/` whose name holds `filter`.
    pub(crate) fn create(filter: Option<&str>, scratch: &Path) -> Result<Self> {
        let mut names = names()?;
        names.retain(|name| filter.is_none_or(|filter| name.contains(filter)));
        let folder = scratch.join("examples");
        let target = scratch.parent().context("the target directory is the root")?.to_owned();
        let programs = folder.join("src/bin");
        if folder.exists() {
            fs::remove_dir_all(folder.join("src"))?;
        }
        fs::create_dir_all(&programs)?;
        for name in &names {
            let (file, examples) = (format!("{name}.rs"), root().join("examples"));
            if examples.join(&file).exists() {
                fs::copy(examples.join(&file), programs.join(&file))?;
            } else {
                copy_folder(&examples.join(name), &programs.join(name))?;
            }
        }
        let manifest = format!(
            "[package]\nname = \"examples-alone\"\nedition = \"2024\"\n\n\
             [dependencies]\nbypass-io = {{ path = {:?}, features = [\"exporter\"] }}\n\
             # What examples use beside it.\n{}\n\n\
             [features]\ndpdk = [\"bypass-io/dpdk\"]\n\n\
             # Part of no workspace.\n[workspace]\n\n{}",
            root(),
            DEPENDENCIES.join("\n"),
            profile(&fs::read_to_string(root().join("Cargo.toml"))?)
                .context("the workspace says nothing of how tests are built")?,
        );
        fs::write(folder.join("Cargo.toml"), manifest)?;
        // The versions that everything else is tested with.
        fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
        Ok(Self { names, folder, target })
    }

    /// The examples of the table that were copied and can be built here.
    fn possible(&self) -> impl Iterator<Item = &Example> {
        let has_dpdk = DPDK.find().is_ok();
        EXAMPLES.iter().filter(move |example| {
            self.names.contains(example.name) && (has_dpdk || example.features != DPDK_FEATURE)
        })
    }

    /// Builds the programs. What does not build is told when they are to run.
    pub(crate) fn build(&self) -> Result<()> {
        for features in ["", DPDK_FEATURE] {
            let mut command = self.cargo("build", features);
            let examples = self.possible().filter(|example| example.features == features);
            let programs: Vec<_> = examples.flat_map(|example| ["--bin", example.name]).collect();
            if !programs.is_empty() {
                command.args(programs).output().with_context(|| shown(&command))?;
            }
        }
        Ok(())
    }

    /// Runs the programs; an example that has no entry in the table fails, so that none is forgotten.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let mut outcome = Outcome { pass: "examples", ..Outcome::default() };
        if self.names.is_empty() {
            return Ok(outcome);
        }
        let mut book = |what: String, seconds: f64, verdict: Result<(), String>| {
            println!(
                "  {what:55} {} ({seconds:.1} s)",
                if verdict.is_ok() { "ok" } else { "FAILED" }
            );
            outcome.tally.count(verdict.is_ok());
            if let Err(reason) = verdict {
                println!("{reason}");
                outcome.failures.push(what);
            }
        };
        println!("\nexamples: each copied into an empty crate and run");
        self.build()?;
        for name in &self.names {
            if !EXAMPLES.iter().any(|example| example.name == name) {
                let missing = format!("{name} has no entry in the table of {}", file!());
                book(format!("example {name}"), 0.0, Err(missing));
            }
        }
        for example in self.possible() {
            let start = Instant::now();
            let verdict = self.judge(example);
            let what = format!("example {} {}", example.name, example.features);
            book(what.trim_end().to_owned(), start.elapsed().as_secs_f64(), verdict);
        }
        Ok(outcome)
    }

    fn cargo(&self, what: &str, features: &str) -> Command {
        let mut command = cargo(&[what, "--quiet", "--manifest-path"]);
        command.arg(self.folder.join("Cargo.toml")).args(["--features", features]);
        // Where most of what it depends on has been built.
        command.arg("--target-dir").arg(&self.target);
        command
    }

    fn judge(&self, example: &Example) -> Result<(), String> {
        let mut command = self.cargo("run", example.features);
        command.args(["--bin", example.name, "--"]).args(example.arguments);
        let output = command.output().map_err(|error| format!("{}: {error}", shown(&command)))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let missing = example.prints.iter().find(|part| !printed.contains(**part));
        let reason = match missing {
            _ if !output.status.success() => output.status.to_string(),
            Some(part) => format!("it does not print {part:?}"),
            None => return Ok(()),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {reason}\n{printed}\n{said}", shown(&command)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_of_tests_is_what_the_manifest_ends_with() {
        let own = "[profile.dev]\nopt-level = 1\n\n[profile.dev.package.\"*\"]\ndebug = false\n";
        assert_eq!(profile(&format!("[package]\nname = \"a\"\n\n{own}")), Some(own));
        assert_eq!(profile("[profile.release]\nlto = true\n"), None);
    }
}
