//! Which release of a library is there, as cfgs.

/// A release by year and month, such as 22.11; what follows (`22.11.3`, `23.03-rc1`) does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    year: u16,
    month: u16,
}

impl Release {
    /// Reads the first two numbers of a version.
    #[must_use]
    pub fn parse(version: &str) -> Option<Self> {
        let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self { year: next()?, month: next()? })
    }

    fn cfg(self, name: &str) -> String {
        format!("{name}_{}_{:02}", self.year, self.month)
    }
}

/// Prints the `cargo::` lines that set a cfg, such as `dpdk_23_11`, for each of `releases` up to
/// `version`, and make the others known.
///
/// Call it from a build script only.
#[expect(clippy::print_stdout, reason = "cargo reads it there")]
pub fn print_cfgs(name: &str, version: &str, releases: &[&str]) {
    let there = Release::parse(version);
    for release in releases.iter().filter_map(|release| Release::parse(release)) {
        let cfg = release.cfg(name);
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if there >= Some(release) {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_ordered() {
        let release = |version| Release::parse(version).unwrap();
        assert_eq!(release("22.11.11"), release("22.11"));
        assert_eq!(release("24.03-rc1"), release("24.03.0"));
        assert!(release("23.03") < release("23.11") && release("23.11") < release("24.03"));
        assert_eq!(release("23.03.1").cfg("dpdk"), "dpdk_23_03");
        assert_eq!(Release::parse("main"), None);
    }
}
