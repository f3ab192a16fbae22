//! What this process may do.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::{Finding, Section};

/// What the backends need, and for what.
const NEEDED: [(&str, CapabilitySet, &str); 5] = [
    ("CAP_NET_RAW", CapabilitySet::NET_RAW, "packet sockets, AF_XDP sockets"),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN, "XDP programs, promiscuous mode, queues and rules"),
    ("CAP_BPF", CapabilitySet::BPF, "loading XDP programs"),
    ("CAP_IPC_LOCK", CapabilitySet::IPC_LOCK, "packet memory beyond the limit of locked memory"),
    ("CAP_SYS_NICE", CapabilitySet::SYS_NICE, "real-time priority"),
];

pub(super) fn section() -> Section {
    let mut findings = vec![];
    match capabilities(None) {
        Ok(sets) => findings.extend(NEEDED.map(|(name, set, why)| {
            if sets.effective.contains(set) {
                Finding::good(name, why)
            } else {
                Finding::limited(name, format!("not there; needed for {why}"))
                    .with_remedy(grant(name))
            }
        })),
        Err(error) => findings.push(Finding::limited("capabilities", error.to_string())),
    }
    findings.push(locked_memory());
    super::section("process", findings)
}

/// The lines that give a program a capability: by file, by systemd, by Kubernetes.
fn grant(name: &str) -> String {
    let program = std::env::current_exe();
    let program = program.map_or("PROGRAM".to_owned(), |path| path.display().to_string());
    let short = name.trim_start_matches("CAP_");
    format!(
        "setcap {}+ep {program} | systemd: AmbientCapabilities={name} | Kubernetes: \
         securityContext.capabilities.add: [{short}]",
        name.to_lowercase()
    )
}

/// `getrlimit(2)`. Kernels count registered buffers and packet memory against it.
fn locked_memory() -> Finding {
    const ENOUGH: u64 = 64 << 20;
    let may_exceed =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    match getrlimit(Resource::Memlock).current {
        None => Finding::good("locked memory", "no limit"),
        Some(limit) if limit >= ENOUGH || may_exceed => {
            Finding::good("locked memory", format!("{} KiB", limit >> 10))
        }
        Some(limit) => Finding::limited(
            "locked memory",
            format!("{} KiB: registered buffers and packet memory may be refused", limit >> 10),
        )
        .with_remedy("ulimit -l unlimited | systemd: LimitMEMLOCK=infinity | CAP_IPC_LOCK"),
    }
}
