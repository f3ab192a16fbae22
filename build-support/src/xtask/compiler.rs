//! Flags for some of what cargo builds: it puts this tool around the compiler. What has no flags is built once
//! for all passes.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// The name of every module with tests that need loom, and of the `cfg` that puts loom in place of the standard
/// atomics.
pub(crate) const MODEL: &str = "model";

/// The variable by which cargo takes a wrapper for the crates of the workspace. They become models.
pub(crate) const MODELS_WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

/// The variable by which cargo takes a wrapper for all crates. Those that have [`SANITIZE`] may have it.
pub(crate) const SANITIZER_WRAPPER: &str = "RUSTC_WRAPPER";

/// The flag is not stable, though every toolchain comes with the sanitizer.
pub(crate) const SANITIZE: &str = "-Zsanitizer=address";

/// Whether the first argument is a compiler, as it is when cargo calls this tool as its wrapper.
pub(crate) fn is_compiler(argument: &str) -> bool {
    Path::new(argument).file_stem().is_some_and(|name| name == "rustc")
}

/// Becomes the compiler.
pub(crate) fn exec(compiler: &str, arguments: &[&str]) -> Result<ExitCode> {
    let mut command = Command::new(compiler);
    command.args(arguments);
    if env::var_os(MODELS_WRAPPER).is_some() {
        command.args(["--cfg", MODEL]);
    }
    if arguments.contains(&SANITIZE) {
        // Not for all: build scripts that see it make something else, and all that depends on it is built anew.
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    Err(command.exec()).with_context(|| format!("cannot run {compiler}"))
}
