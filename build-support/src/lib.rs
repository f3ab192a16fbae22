//! Helpers for the build scripts of the bypass-io family.
//!
//! ```no_run
//! // build.rs of a crate that binds a C library:
//! let library = bypass_build_support::require("libdpdk", "22.11", "libdpdk-dev", "dpdk");
//! match library {
//!     Ok(library) => println!("cargo::metadata=version={}", library.version),
//!     Err(missing) => {
//!         println!("cargo::error={missing}");
//!         std::process::exit(1);
//!     }
//! }
//! ```
//!
//! It also holds the `xtask` binary (feature `xtask`), which is what `cargo xtask` runs.

use std::fmt;

/// A C library that a cargo feature needs and this machine does not have.
///
/// Prints as one line that names the library, the Debian package that brings it, and the feature to
/// turn off instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The pkg-config name, such as `libdpdk`.
    pub library: String,
    /// The oldest version that will do.
    pub at_least: String,
    /// The Debian package whose installation mends it.
    pub package: String,
    /// The cargo feature that asked for the library.
    pub feature: String,
    /// What pkg-config said, on one line.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { library, at_least, package, feature, reason } = self;
        write!(
            f,
            "feature `{feature}` needs {library} >= {at_least}: run `apt-get install {package}` or \
             build without `{feature}` ({reason})"
        )
    }
}

impl std::error::Error for Missing {}

/// Finds the C library `library` (a pkg-config name) and prints the `cargo::` lines that link it.
///
/// Call it from a build script only: the lines go to standard output, where cargo reads them.
///
/// # Errors
///
/// [`Missing`] when pkg-config, the library, or a version of at least `at_least` is not there.
pub fn require(
    library: &str,
    at_least: &str,
    package: &str,
    feature: &str,
) -> Result<pkg_config::Library, Missing> {
    pkg_config::Config::new().atleast_version(at_least).probe(library).map_err(|error| Missing {
        library: library.to_owned(),
        at_least: at_least.to_owned(),
        package: package.to_owned(),
        feature: feature.to_owned(),
        reason: one_line(&error),
    })
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
    fn an_absent_library_is_one_line_that_names_the_package() {
        let missing = require("no-such-library", "1.2", "libnothing-dev", "nothing").unwrap_err();
        let line = missing.to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
        for part in
            ["no-such-library >= 1.2", "apt-get install libnothing-dev", "feature `nothing`"]
        {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(!missing.reason.is_empty());
    }
}
