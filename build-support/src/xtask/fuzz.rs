//! What comes from the network, made up by libFuzzer, which is led by what the code has covered (`tests/fuzz`).
//!
//! A crash leaves its input in `tests/fuzz/artifacts`, and is repeated by the command that is printed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use super::cargo::{cargo, host, metadata, root, scratch, shown};
use super::selection::FUZZ;
use super::tally::Tally;

/// By name, with the longest input that is of use.
const TARGETS: &[(&str, u32)] = &[("dns", 512), ("kv", 4096), ("market", 4096), ("udp", 1514)];

/// For each target.
const SECONDS: u32 = 60;

/// The instrumentation that libFuzzer is led by, and the sanitizer, which is not stable, though every toolchain
/// comes with it.
const FLAGS: &[&str] = &[
    "-Zsanitizer=address",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// `cargo xtask fuzz [TARGET] [--seconds N]`
pub(crate) fn run(arguments: &[&str]) -> Result<ExitCode> {
    let (mut only, mut seconds) = (None, SECONDS);
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            "--seconds" => seconds = arguments.next().context("how many seconds?")?.parse()?,
            name if TARGETS.iter().any(|(target, _)| *target == name) => only = Some(name),
            other => {
                let targets: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
                bail!("there is no target `{other}`; there are {}", targets.join(", "))
            }
        }
    }
    let wanted = |target: &str| only.is_none_or(|only| only == target);
    let folder = scratch(&metadata()?)?.join("fuzz");
    Ok(fuzz(&folder, seconds, wanted)?.close())
}

fn fuzz(folder: &Path, seconds: u32, wanted: impl Fn(&str) -> bool) -> Result<Tally> {
    let mut tally = Tally::default();
    println!("fuzz: {seconds} s each");
    let programs = build(folder)?;
    for &(target, longest) in TARGETS.iter().filter(|(target, _)| wanted(target)) {
        let verdict = try_out(&programs.join(target), target, longest, seconds, folder)?;
        println!("  {target:10} {}", verdict.as_deref().unwrap_or("FAILED"));
        tally.count(verdict.is_some());
    }
    Ok(tally)
}

/// Builds all targets, and says where they are.
fn build(folder: &Path) -> Result<PathBuf> {
    let (host, flags) = (host()?, format!("build.rustflags={FLAGS:?}"));
    let mut command = cargo(&["build", "--quiet", "--package", FUZZ]);
    // Left out elsewhere, where the targets are only checked: it takes a C++ compiler.
    command.arg("--features=libfuzzer-sys/link_libfuzzer");
    command.args(["--target", &host, "--config", &flags, "--target-dir"]).arg(folder);
    command.env("RUSTC_BOOTSTRAP", "1");
    let status = command.status().with_context(|| shown(&command))?;
    ensure!(status.success(), "{} failed (it takes a C++ compiler)", shown(&command));
    Ok(folder.join(host).join("debug"))
}

/// Runs a target on what it found before and more. Returns what it says at the end; `None` where it failed, and
/// then everything has been printed.
fn try_out(
    program: &Path,
    target: &str,
    longest: u32,
    seconds: u32,
    folder: &Path,
) -> Result<Option<String>> {
    let (corpus, artifacts) =
        (folder.join("corpus").join(target), root().join("tests/fuzz/artifacts"));
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder)?;
    }
    let mut command = std::process::Command::new(program);
    command.arg(&corpus).args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={longest}"),
        format!("-artifact_prefix={}/{target}-", artifacts.display()),
        "-timeout=10".to_owned(),
    ]);
    // What stays from one input to the next is no leak.
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    let output = command.output().with_context(|| shown(&command))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{said}\nrepeat it: {} <the file above>", program.display());
        return Ok(None);
    }
    let done = said.lines().rfind(|line| line.starts_with("Done "));
    let coverage = said
        .lines()
        .rfind(|line| line.contains(" cov: "))
        .and_then(|line| line.split_whitespace().skip_while(|word| *word != "cov:").nth(1));
    let (done, coverage) = done.zip(coverage).context("it does not say what it did")?;
    Ok(Some(format!("{done}, {coverage} edges covered")))
}
