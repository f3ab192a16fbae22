//! What this machine lets each backend do, what not, why, and what changes that.
//!
//! ```
//! use bypass_io::probe::{self, ProbeOptions};
//!
//! let report = probe::run(&ProbeOptions::default());
//! println!("{report}");
//! if let Err(missing) = report.meets("packet") {
//!     println!("no raw sockets: {missing}");
//! }
//! ```
//!
//! What can be tried is tried, with what this program was built with: a version says little about a kernel
//! with patches, a container's filter, or missing privileges. The trials leave nothing behind. Those that
//! put a program on a network interface are made only when [asked for](ProbeOptions::try_sockets).

#[cfg(feature = "dpdk")]
mod dpdk;
#[cfg(feature = "xdp")]
mod interfaces;
mod machine;
mod packet;
mod process;
#[cfg(feature = "io-uring")]
mod uring;
#[cfg(feature = "xdp")]
mod xdp;

use std::fmt;

/// What to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeOptions {
    /// The network interfaces, of the calling thread's namespace; all but the loopback one when there
    /// is none here.
    pub interfaces: Vec<String>,
    /// Opens AF_XDP sockets on the interfaces for a moment, with a program that takes no packets that
    /// anybody sends (EtherType 0x88b5, for local experiments). Attaching it may interrupt a network
    /// card's traffic for about a second, so an interface that a default route leads through is left out.
    pub try_sockets: bool,
    /// Tries it on the interface of a default route, too.
    pub force: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// In order: the machine, this process, one for each backend, one for each of its interfaces.
    pub sections: Vec<Section>,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// `machine`, `process`, `packet`, `io_uring`, `xdp`, `xdp:INTERFACE`, `dpdk`.
    pub name: String,
    /// In no order of importance.
    pub findings: Vec<Finding>,
}

/// One thing that can be had, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// Whether it can be had.
    pub verdict: Verdict,
    /// How much of it there is; why not.
    pub detail: String,
    /// A command, or what else to do.
    pub remedy: Option<String>,
}

/// Whether something can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but not as well as it could, or not everywhere.
    Limited,
    /// It cannot be had, and the section's backend does not work without it.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Limited => "limited",
            Self::Missing => "missing",
        })
    }
}

/// Why a requirement is not met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unmet {
    /// There is no such section: the interface does not exist, or the program was built without the
    /// backend.
    #[error("nothing is known of {name:?}; known are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names of all sections.
        known: String,
    },
    /// What is missing.
    #[error("{}", list(.0))]
    Missing(Vec<Finding>),
}

fn list(findings: &[Finding]) -> String {
    let lines: Vec<_> = findings.iter().map(Finding::to_string).collect();
    lines.join("; ")
}

/// Looks at the machine. Takes some ten milliseconds, and a second for each interface that is
/// [tried](ProbeOptions::try_sockets).
#[must_use]
pub fn run(options: &ProbeOptions) -> Report {
    let common = [machine::section(), process::section(), packet::section()];
    Report { sections: common.into_iter().chain(backends(options)).collect() }
}

/// The sections of what this program was built with.
#[cfg_attr(not(feature = "xdp"), expect(unused_variables, reason = "they are about AF_XDP"))]
fn backends(options: &ProbeOptions) -> Vec<Section> {
    let sections: &[Vec<Section>] = &[
        #[cfg(feature = "io-uring")]
        vec![uring::section()],
        #[cfg(feature = "xdp")]
        xdp::sections(options),
        #[cfg(feature = "dpdk")]
        vec![dpdk::section()],
    ];
    sections.concat()
}

impl Report {
    /// The section of a name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Whether a backend can be had (`io_uring`, `xdp`), on an interface (`xdp:eth0`): nothing is
    /// [missing](Verdict::Missing) in its section, and in that of the backend.
    ///
    /// # Errors
    ///
    /// What is missing; or that nothing of this name was looked at.
    pub fn meets(&self, requirement: &str) -> Result<(), Unmet> {
        let unknown = || {
            let known: Vec<_> = self.sections.iter().map(|section| &*section.name).collect();
            Unmet::Unknown { name: requirement.to_owned(), known: known.join(", ") }
        };
        let section = self.section(requirement).ok_or_else(unknown)?;
        let backend = requirement.split_once(':').and_then(|(backend, _)| self.section(backend));
        let findings = backend.into_iter().chain([section]).flat_map(|section| &section.findings);
        let missing: Vec<_> =
            findings.filter(|finding| finding.verdict == Verdict::Missing).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(Unmet::Missing(missing)) }
    }
}

impl Finding {
    fn new(subject: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict, detail: detail.into(), remedy: None }
    }

    fn good(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Good, detail)
    }

    fn limited(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Limited, detail)
    }

    fn missing(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Missing, detail)
    }

    fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, section) in self.sections.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            section.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for Finding { subject, verdict, detail, remedy } in &self.findings {
            writeln!(f, "  {verdict:<8} {subject:<24} {detail}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:36}-> {remedy}", "")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

/// A section of this name.
fn section(name: impl Into<String>, findings: Vec<Finding>) -> Section {
    Section { name: name.into(), findings }
}

/// The first line of a small file, if it can be read.
fn line(path: impl AsRef<std::path::Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The names in a folder, sorted; none when it cannot be read.
fn names(path: impl AsRef<std::path::Path>) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn report() -> Report {
        let broken = Finding::missing("sockets", "EPERM").with_remedy("be root");
        let sections = vec![
            section("xdp", vec![Finding::good("kernel", "6.18")]),
            section("xdp:eth0", vec![Finding::limited("mode", "generic")]),
            section("io_uring", vec![broken]),
            section("io_uring:x", vec![]),
        ];
        Report { sections }
    }

    #[test]
    fn requirements_are_met_by_what_is_good_or_limited() {
        report().meets("xdp:eth0").unwrap();
        let error = report().meets("io_uring").unwrap_err();
        assert_eq!(error.to_string(), "sockets: EPERM (be root)");
        assert_eq!(report().meets("io_uring:x"), Err(error), "nothing works without the backend");
        let error = report().meets("xdp:eth1").unwrap_err();
        assert!(error.to_string().contains("xdp:eth0"), "{error}");
    }

    #[test]
    fn everything_is_told_in_words() {
        let text = report().to_string();
        for part in ["xdp:eth0", "limited  mode", "-> be root"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
