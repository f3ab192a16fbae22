//! io_uring, by trial.

use std::net::Ipv4Addr;

use super::{Finding, Section, line};
use crate::io_uring::probe::{CapabilityKind, Probe};
use crate::io_uring::{Ring, UringSocket};
use crate::{Bind as _, UdpOptions};

const KINDS: [(CapabilityKind, &str); 5] = [
    (CapabilityKind::Opcode, "operations"),
    (CapabilityKind::Feature, "features"),
    (CapabilityKind::Setup, "setup flags"),
    (CapabilityKind::Register, "registrations"),
    (CapabilityKind::Behaviour, "behaviours"),
];

pub(super) fn section() -> Section {
    let probe = Probe::run();
    let mut findings = vec![rings(&probe)];
    if probe.get("ring").is_ok() {
        findings.push(tried("rings of one thread", Ring::local().err()));
        let options = UdpOptions::new((Ipv4Addr::LOCALHOST, 0).into());
        findings.push(tried("datagram sockets", UringSocket::bind(&options).err()));
        findings.extend(KINDS.map(|(kind, subject)| listed(&probe, kind, subject)));
    }
    super::section("io_uring", findings)
}

/// `Documentation/admin-guide/sysctl/kernel.rst`, `io_uring_disabled`.
fn rings(probe: &Probe) -> Finding {
    let sysctl = line("/proc/sys/kernel/io_uring_disabled");
    let remedy = match sysctl.as_deref() {
        Some("1") => {
            "sysctl -w kernel.io_uring_disabled=0, or join the group kernel.io_uring_group"
        }
        Some("2") => "sysctl -w kernel.io_uring_disabled=0",
        _ => {
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp filter"
        }
    };
    match probe.get("ring") {
        Ok(()) => Finding::good("rings", "can be made"),
        Err(refusal) => Finding::missing("rings", refusal.to_string()).with_remedy(remedy),
    }
}

fn tried(subject: &str, error: Option<impl std::fmt::Display>) -> Finding {
    match error {
        None => Finding::good(subject, "opened and closed"),
        Some(error) => Finding::missing(subject, error.to_string()),
    }
}

/// How many of a kind there are, and which are not.
fn listed(probe: &Probe, kind: CapabilityKind, subject: &str) -> Finding {
    let all: Vec<_> = probe.iter().filter(|capability| capability.kind == kind).collect();
    let refused: Vec<_> = all
        .iter()
        .filter_map(|capability| Some((capability.name, capability.verdict.as_ref().err()?)))
        .map(|(name, refusal)| format!("{name}: {refusal}"))
        .collect();
    let detail = format!("{} of {}", all.len() - refused.len(), all.len());
    if refused.is_empty() {
        Finding::good(subject, detail)
    } else {
        Finding::limited(subject, format!("{detail}; not {}", refused.join("; ")))
    }
}
