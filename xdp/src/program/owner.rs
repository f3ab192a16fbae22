//! [`Owner`]: whose program is on an interface.

use std::fmt;
use std::fs;
use std::os::fd::AsFd as _;

use libbpf_rs::Program;
use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo};

use super::sys;
use crate::socket::Hook;

/// An XDP program on an interface, and who holds it there. What this process may not see is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The program's identity, as `bpftool prog show id` takes it.
    pub program: u32,
    /// The program's name.
    pub name: Option<String>,
    /// Where it runs.
    pub hook: Hook,
    /// The `bpf_link` that holds it there; without one it was attached through netlink, and stays
    /// until somebody takes it off.
    pub link: Option<u32>,
    /// A process that has the link open: number and name.
    pub process: Option<(u32, String)>,
}

impl Owner {
    /// The program on an interface of the calling thread's namespace.
    #[must_use]
    pub(super) fn of(ifindex: u32) -> Option<Self> {
        let (native, generic) = sys::attached(ifindex).ok()?;
        let (program, hook) = match (native, generic) {
            (0, 0) => return None,
            (0, id) => (id, Hook::Generic),
            (id, _) => (id, Hook::Native),
        };
        let name = Program::fd_from_id(program)
            .ok()
            .and_then(|fd| sys::program_name(fd.as_fd()).ok())
            .filter(|name| !name.is_empty());
        let link = LinkInfoIter::default()
            .find(|link| link.prog_id == program && matches!(link.info, LinkTypeInfo::Xdp(_)))
            .map(|link| link.id);
        Some(Self { program, name, hook, link, process: link.and_then(holder) })
    }

    /// How the interface becomes free.
    pub(super) fn remedy(&self, interface: &str) -> String {
        if self.name.as_deref() == Some("xdp_dispatcher") {
            let show = format!("`xdp-loader status {interface}` lists its programs");
            return format!("{show}; join them through the dispatcher (feature `libxdp`)");
        }
        match (&self.process, self.link, self.hook) {
            (Some((pid, name)), ..) => format!("it goes when process {pid} ({name}) ends"),
            (None, Some(link), _) => format!("`bpftool link detach id {link}` takes it off"),
            (None, None, Hook::Native) => {
                format!("`ip link set dev {interface} xdp off` takes it off")
            }
            (None, None, Hook::Generic) => {
                format!("`ip link set dev {interface} xdpgeneric off` takes it off")
            }
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("without a name");
        write!(f, "program {} ({name}, {} mode)", self.program, self.hook)
    }
}

/// A process that has a link open, from what the kernel says of its descriptors (`proc(5)`,
/// `bpf_link_show_fdinfo` of `kernel/bpf/syscall.c`).
fn holder(link: u32) -> Option<(u32, String)> {
    let line = format!("link_id:\t{link}");
    let holds = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
        descriptors.flatten().find(|descriptor| {
            fs::read_to_string(descriptor.path())
                .is_ok_and(|info| info.lines().any(|its| its == line))
        })
    };
    let pid = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| holds(*pid).is_some())?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim_end().to_owned()))
}
