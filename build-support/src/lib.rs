//! Helpers for the build scripts of the bypass-io family.
//!
//! ```no_run
//! // build.rs of a crate that binds a C library:
//! use bypass_build_support::{Library, Packages};
//!
//! let packages = Packages { debian: "libdpdk-dev", fedora: "dpdk-devel", arch: "dpdk" };
//! match (Library { name: "libdpdk", at_least: "22.11", feature: "dpdk", packages }).find() {
//!     Ok(found) => println!("cargo::metadata=version={}", found.version),
//!     Err(missing) => println!("cargo::error={missing}"),
//! }
//! ```
//!
//! It also holds the `xtask` binary (feature `xtask`), which is what `cargo xtask` runs.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

mod release;

pub use release::{Release, print_cfgs};

/// A C library that a cargo feature needs.
#[derive(Debug, Clone, Copy)]
pub struct Library {
    /// The pkg-config name, such as `libdpdk`.
    pub name: &'static str,
    /// The oldest version that will do.
    pub at_least: &'static str,
    /// The cargo feature that asks for it.
    pub feature: &'static str,
    /// What to install to have it.
    pub packages: Packages,
}

/// The package that brings a library, by distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packages {
    /// On Debian and Ubuntu.
    pub debian: &'static str,
    /// On Fedora and RHEL.
    pub fedora: &'static str,
    /// On Arch Linux.
    pub arch: &'static str,
}

/// DPDK, which `bypass-dpdk-sys` binds.
pub const DPDK: Library = Library {
    name: "libdpdk",
    at_least: "22.11",
    feature: "dpdk",
    packages: Packages { debian: "libdpdk-dev", fedora: "dpdk-devel", arch: "dpdk" },
};

/// The releases of DPDK after the oldest one that will do, for [`print_cfgs`].
pub const DPDK_RELEASES: &[&str] =
    &["23.03", "23.07", "23.11", "24.03", "24.07", "24.11", "25.03", "25.07", "25.11"];

/// What pkg-config knows of a library.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Found {
    /// Its version, such as `22.11.11`.
    pub version: String,
    /// Every flag that its headers need.
    pub c_flags: Vec<String>,
    /// The names of its libraries, without `lib`.
    pub libraries: Vec<String>,
    /// Where they lie, unless where every linker looks.
    pub folders: Vec<PathBuf>,
}

/// A C library that a cargo feature needs and this machine does not have.
///
/// Prints as one line that names the library, the packages that bring it, and the feature to turn off
/// instead.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Missing {
    /// What was looked for.
    pub library: Library,
    /// What pkg-config said, on one line.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { library: Library { name, at_least, feature, packages }, reason } = self;
        let Packages { debian, fedora, arch } = packages;
        write!(
            f,
            "feature `{feature}` needs {name} >= {at_least}: run `apt-get install {debian}` (Fedora: \
             `dnf install {fedora}`, Arch: `pacman -S {arch}`) or build without `{feature}` ({reason})"
        )
    }
}

impl std::error::Error for Missing {}

impl Library {
    /// Asks pkg-config for the library; links nothing.
    ///
    /// # Errors
    ///
    /// [`Missing`] when pkg-config, the library, or a version that will do is not there.
    pub fn find(self) -> Result<Found, Missing> {
        let missing = |reason| Missing { library: self, reason };
        let library = pkg_config::Config::new()
            .atleast_version(self.at_least)
            .cargo_metadata(false)
            // Who asks is not always a build script.
            .env_metadata(false)
            .probe(self.name)
            .map_err(|error| missing(one_line(&error)))?;
        Ok(Found {
            version: library.version,
            c_flags: c_flags(self.name).map_err(missing)?,
            libraries: library.libs,
            folders: library.link_paths,
        })
    }
}

/// All flags: the `pkg-config` crate hands out only those that name folders and definitions.
fn c_flags(library: &str) -> Result<Vec<String>, String> {
    let program = std::env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(program)
        .args(["--cflags", library])
        .output()
        .map_err(|error| format!("pkg-config does not start: {error}"))?;
    let flags = String::from_utf8_lossy(&output.stdout);
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

/// The first line that carries a reason; pkg-config's own report is a page of advice.
fn one_line(error: &pkg_config::Error) -> String {
    match error {
        pkg_config::Error::Command { cause, .. } => format!("pkg-config does not start: {cause}"),
        pkg_config::Error::ProbeFailure { output, .. }
        | pkg_config::Error::Failure { output, .. } => {
            let said = String::from_utf8_lossy(&output.stderr);
            said.lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("pkg-config failed")
                .trim()
                .to_owned()
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_library_is_one_line_that_names_the_packages() {
        let packages = Packages { debian: "libno-dev", fedora: "no-devel", arch: "no" };
        let library =
            Library { name: "no-such-library", at_least: "1.2", feature: "nothing", packages };
        let missing = library.find().unwrap_err();
        let line = missing.to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in [
            "no-such-library >= 1.2",
            "apt-get install libno-dev",
            "dnf install no-devel",
            "pacman -S no`",
            "feature `nothing`",
        ] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(!missing.reason.is_empty());
    }
}
