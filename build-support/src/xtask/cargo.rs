//! Where the workspace is, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use bypass_build_support::DPDK;
use serde_json::Value;

use super::setup;

/// The root of the workspace that this binary was built from.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A cargo command in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    // Cargo names itself to what it runs, so the same toolchain goes on.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What `cargo run` set for this binary is about this binary: passed on, it would make cargo
    // build things anew.
    for (name, _) in std::env::vars_os() {
        let known = name.to_string_lossy();
        if known.starts_with("CARGO_PKG_") || known.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// What `cargo metadata` says about the members of the workspace.
pub(crate) fn metadata() -> Result<Value> {
    let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let output = command.output().with_context(|| shown(&command))?;
    if !output.status.success() {
        bail!("{}: {}", shown(&command), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("what `cargo metadata` printed is not JSON")
}

/// The target that the compiler builds for by itself.
pub(crate) fn host() -> Result<String> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.arg("-vV").current_dir(root());
    let output = command.output().with_context(|| shown(&command))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Where this tool keeps its logs: inside the target directory.
pub(crate) fn scratch(metadata: &Value) -> Result<PathBuf> {
    let target = metadata["target_directory"]
        .as_str()
        .context("`cargo metadata` names no target directory")?;
    let scratch = Path::new(target).join("xtask");
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("cannot create {}", scratch.display()))?;
    Ok(scratch)
}

/// Builds the benchmarks, which live in a package of their own with their peers, and runs one.
pub(crate) fn bench(arguments: &[&str]) -> Result<ExitCode> {
    if !arguments.is_empty() {
        setup::ensure()?;
    }
    // A scenario whose server is an example.
    let has_dpdk = DPDK.find().is_ok();
    if arguments.contains(&"kv") {
        let features = if has_dpdk { "xdp,dpdk" } else { "xdp" };
        let mut command = cargo(&["build", "--release", "--features", features, "--example", "kv"]);
        let status = command.status().with_context(|| shown(&command))?;
        if !status.success() {
            bail!("{} failed", shown(&command));
        }
    }
    let package = "--package=bypass-benches";
    // A contestant that DPDK is linked into.
    if arguments.contains(&"dpdk") && has_dpdk {
        let parts = ["build", "--release", package, "--features=static", "--bin=dpdk-static"];
        let mut command = cargo(&parts);
        let status = command.status().with_context(|| shown(&command))?;
        if !status.success() {
            bail!("{} failed", shown(&command));
        }
    }
    let features = if has_dpdk { "--features=peers,dpdk" } else { "--features=peers" };
    let mut command = cargo(&["run", "--release", package, features, "--"]);
    command.args(arguments).current_dir(std::env::current_dir()?);
    let status = command.status().with_context(|| shown(&command))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
