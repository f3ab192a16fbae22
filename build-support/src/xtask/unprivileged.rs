//! Runs built test binaries as the user `nobody`.
//!
//! Cargo takes this tool as its test runner, so the binaries of the privileged pass run a second
//! time without being built a second time. They run from a folder of their own: the target
//! directory may lie where only its owner may look.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// The hidden command of this tool that drops privileges and becomes the test binary.
pub(crate) const COMMAND: &str = "as-nobody";

/// The user and group id of `nobody` and `nogroup` on Debian.
const NOBODY: u32 = 65534;

/// Whether this process may become another user.
pub(crate) fn possible() -> bool {
    super::setup::is_root()
}

/// A folder that every user can reach, laid out as cargo's: `deps` and `examples` in it. It is
/// removed when this is dropped.
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
}

impl Stage {
    /// Makes the folder, with the examples that tests call; `profile` is where cargo put them.
    pub(crate) fn create(profile: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("bypass-nobody-{}", std::process::id()));
        let stage = Self { folder };
        for part in ["deps", "examples"] {
            let part = stage.folder.join(part);
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let examples = profile.join("examples");
        for example in examples.read_dir().into_iter().flatten() {
            let example = example?;
            let metadata = example.metadata()?;
            if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
                provide(&example.path(), &stage.folder.join("examples"))?;
            }
        }
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            println!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// Becomes `program`, run by `nobody` from the folder `stage`.
pub(crate) fn exec(stage: &str, program: &str, arguments: &[&str]) -> Result<ExitCode> {
    let program = provide(Path::new(program), &Path::new(stage).join("deps"))?;
    let error = Command::new(&program)
        .args(arguments)
        .env("HOME", "/nonexistent")
        .env("USER", "nobody")
        .env("SHELL", "/bin/sh")
        .gid(NOBODY)
        .uid(NOBODY)
        .exec();
    Err(error).with_context(|| format!("cannot run {} as nobody", program.display()))
}

/// Links the file into the folder, or copies it where that is on another disk.
fn provide(file: &Path, folder: &Path) -> Result<PathBuf> {
    let place = folder.join(file.file_name().context("a file without a name")?);
    if fs::hard_link(file, &place).is_err() {
        fs::copy(file, &place).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_holds_the_programs_and_is_removed() {
        let profile = std::env::temp_dir().join(format!("bypass-profile-{}", std::process::id()));
        fs::create_dir_all(profile.join("examples")).unwrap();
        let example = profile.join("examples/echo");
        fs::copy("/bin/true", &example).unwrap();
        fs::write(profile.join("examples/echo.d"), "no program").unwrap();

        let stage = Stage::create(&profile).unwrap();
        let names: Vec<_> = fs::read_dir(stage.folder.join("examples")).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert!(Command::new(stage.folder.join("examples/echo")).status().unwrap().success());
        let folder = stage.folder.clone();
        drop(stage);
        assert!(!folder.exists());
        fs::remove_dir_all(profile).unwrap();
    }
}
