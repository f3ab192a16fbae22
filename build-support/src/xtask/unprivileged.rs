//! Runs a built test binary as the user `nobody`.
//!
//! Cargo takes this as its test runner, so the binaries of the privileged pass run a second time without being built
//! a second time.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// The hidden command of this tool that drops privileges and becomes the test binary.
pub(crate) const COMMAND: &str = "as-nobody";

/// The user and group id of `nobody` and `nogroup` on Debian; no other file than its own belongs to it.
const NOBODY: u32 = 65534;

/// Whether this process may become another user.
pub(crate) fn possible() -> bool {
    super::setup::is_root()
}

/// Becomes `program`, run by `nobody`.
///
/// The binary is opened before and executed through its descriptor: the target directory may lie where only its owner
/// may look.
pub(crate) fn exec(program: &str, arguments: &[&str]) -> Result<ExitCode> {
    let binary = File::open(program).with_context(|| format!("cannot open {program}"))?;
    let error = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()))
        .arg0(program)
        .args(arguments)
        .env("HOME", "/nonexistent")
        .env("USER", "nobody")
        .gid(NOBODY)
        .uid(NOBODY)
        .exec();
    Err(error).with_context(|| format!("cannot run {program} as nobody"))
}
