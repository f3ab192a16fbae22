//! Which packages and features can be built on this machine, as arguments for cargo.

use anyhow::{Context as _, Result};
use bypass_build_support::DPDK;
use serde_json::Value;

use super::cargo::metadata;
use super::watch::Outcome;

/// The packages that bind DPDK. Without its headers they do not build.
const BIND_DPDK: &[&str] = &["bypass-dpdk", "bypass-dpdk-sys"];

/// What the tests leave out, because it replaces something: DPDK linked into the program, with fewer
/// drivers. A test of its own has it.
const REPLACES: &str = "static";

/// This tool's package, whose tests are a pass of their own.
const TOOL: &str = env!("CARGO_PKG_NAME");

/// The package with the targets of the fuzzer.
pub(crate) const FUZZ: &str = "bypass-fuzz";

/// A choice among the workspace's packages and their features.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// Every member, and its features, by name.
    members: Vec<Member>,
    /// Why DPDK is not in it, if so.
    without_dpdk: Option<String>,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    /// Whether it is for this repository only (`publish = false`).
    private: bool,
    features: Vec<String>,
}

impl Selection {
    /// All that can be built here.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let without_dpdk = DPDK.find().err().map(|missing| missing.to_string());
        Self::new(&metadata()?, without_dpdk)
    }

    fn new(metadata: &Value, without_dpdk: Option<String>) -> Result<Self> {
        let packages =
            metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
        let mut members = packages.iter().map(Member::read).collect::<Result<Vec<_>>>()?;
        if without_dpdk.is_some() {
            members.retain(|member| !BIND_DPDK.contains(&member.name.as_str()));
            for member in &mut members {
                member.features.retain(|feature| feature != DPDK.feature && feature != REPLACES);
            }
        }
        Ok(Self { members, without_dpdk })
    }

    /// Every package with all features, but for the targets of the fuzzer, which has features of its own.
    pub(crate) fn everything(&self) -> Vec<String> {
        self.arguments(|member| member.name != FUZZ, |_| true)
    }

    /// What users get, as the tests want it: with all features, none of which takes another's place.
    pub(crate) fn shipped(&self) -> Vec<String> {
        let wanted = |member: &Member| !member.private && member.name != TOOL;
        self.arguments(wanted, |feature| feature != REPLACES)
    }

    /// The published packages and their features.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.members.iter().filter(|member| !member.private).map(|member| {
            (member.name.as_str(), member.features.iter().map(String::as_str).collect())
        })
    }

    /// The features of one package that can be built here.
    pub(crate) fn features_of(&self, package: &str) -> String {
        let member = self.members.iter().find(|member| member.name == package);
        member.map(|member| member.features.join(",")).unwrap_or_default()
    }

    /// Whether what needs DPDK is among it.
    pub(crate) fn has_dpdk(&self) -> bool {
        self.without_dpdk.is_none()
    }

    /// What was left out, as something that was skipped.
    pub(crate) fn left_out(&self) -> Option<Outcome> {
        let reason = self.without_dpdk.clone()?;
        let mut outcome = Outcome { pass: "dpdk", ..Outcome::default() };
        outcome.tally.skipped = 1;
        outcome.ignored.insert(BIND_DPDK.join(", "), reason);
        Some(outcome)
    }

    fn arguments(
        &self,
        members: impl Fn(&Member) -> bool,
        features: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut chosen = Vec::new();
        let mut arguments = Vec::new();
        for member in self.members.iter().filter(|member| members(member)) {
            let Member { name, .. } = member;
            arguments.push(format!("--package={name}"));
            let wanted = member.features.iter().filter(|feature| features(feature));
            chosen.extend(wanted.map(|feature| format!("{name}/{feature}")));
        }
        arguments.push(format!("--features={}", chosen.join(",")));
        arguments
    }
}

impl Member {
    fn read(package: &Value) -> Result<Self> {
        let features = package["features"].as_object().context("a package without features")?;
        // `default` only names other features.
        let features = features.keys().filter(|feature| *feature != "default").cloned().collect();
        Ok(Self {
            name: package["name"].as_str().context("a package without a name")?.to_owned(),
            private: package["publish"].as_array().is_some_and(Vec::is_empty),
            features,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// This workspace, as on a machine that has or has not DPDK.
    pub(crate) fn workspace(dpdk: bool) -> Selection {
        let without = (!dpdk).then(|| "no libdpdk".to_owned());
        Selection::new(&metadata().unwrap(), without).unwrap()
    }

    #[test]
    fn the_tests_have_every_feature_but_the_one_that_replaces() {
        let arguments = workspace(true).shipped().join(" ");
        for part in
            ["--package=bypass-io ", "bypass-io/dpdk", "bypass-dpdk/log", "bypass-xdp/libxdp"]
        {
            assert!(arguments.contains(part), "{part:?} is not in {arguments:?}");
        }
        for part in ["/static", "bypass-benches", "bypass-build-support"] {
            assert!(!arguments.contains(part), "{part:?} is in {arguments:?}");
        }
        assert!(workspace(true).everything().join(" ").contains("bypass-dpdk/static"));
        assert!(workspace(true).left_out().is_none());
    }

    #[test]
    fn without_dpdk_the_rest_is_built_and_the_lack_is_counted() {
        let selection = workspace(false);
        let arguments = selection.everything().join(" ");
        assert!(!arguments.contains("dpdk"), "{arguments}");
        assert!(arguments.contains("bypass-io/xdp"), "{arguments}");
        let outcome = selection.left_out().unwrap();
        assert_eq!((outcome.tally.skipped, outcome.ignored.len()), (1, 1));
    }
}
