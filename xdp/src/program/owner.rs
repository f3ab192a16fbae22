//! [`Owner`]: whose program is on an interface.

use std::fmt;
use std::fs;
use std::os::fd::AsFd as _;

use bypass_core::{Error, Result};
use libbpf_rs::libbpf_sys::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};
use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo, ProgInfoIter, ProgInfoQueryOptions};

use super::sys;
use crate::socket::{Hook, Interface};

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
    /// A process that has the link open, or without a link the program or one of its maps: number and
    /// name.
    pub process: Option<(u32, String)>,
}

impl Owner {
    /// The program on an interface of the calling thread's namespace, if there is one and the kernel
    /// tells of it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`].
    pub fn on(interface: &str) -> Result<Option<Self>> {
        Ok(Self::of(Interface::find(interface)?.index))
    }

    #[must_use]
    pub(super) fn of(ifindex: u32) -> Option<Self> {
        let (native, generic) = sys::attached(ifindex).ok()?;
        let (program, hook) = match (native, generic) {
            (0, 0) => return None,
            (0, id) => (id, Hook::Generic),
            (id, _) => (id, Hook::Native),
        };
        let name = sys::program(program)
            .ok()
            .and_then(|fd| sys::program_name(fd.as_fd()).ok())
            .filter(|name| !name.is_empty());
        let link = LinkInfoIter::default()
            .find(|link| link.prog_id == program && matches!(link.info, LinkTypeInfo::Xdp(_)))
            .map(|link| link.id);
        let process = match link {
            Some(link) => holder(&[format!("link_id:\t{link}")]),
            None => holder(&traces(program)),
        };
        Some(Self { program, name, hook, link, process })
    }

    /// Whether it was left behind, as far as this process can see: attached through netlink, and no
    /// process has it or one of its maps open. A program that somebody put there to stay looks the same.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.link.is_none() && self.process.is_none()
    }

    /// Takes the program off its interface, unless another one is there by now.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`]; [`Error::Config`] for a program that a `bpf_link` holds, which is its
    /// holder's; [`Error::MissingCapability`]; [`Error::Os`].
    pub fn take_off(&self, interface: &str) -> Result<()> {
        if let Some(link) = self.link {
            return Err(Error::config("link", link, "the program goes with its link"));
        }
        let ifindex = Interface::find(interface)?.index;
        let attempt = format!("take {self} off {interface}");
        let refused = |error| Error::privileged(attempt.clone(), "CAP_NET_ADMIN", error);
        let program = sys::program(self.program).map_err(refused)?;
        let mode = match self.hook {
            Hook::Native => XDP_FLAGS_DRV_MODE,
            Hook::Generic => XDP_FLAGS_SKB_MODE,
        };
        sys::detach(program.as_fd(), ifindex, mode).map_err(refused)
    }

    /// How the interface becomes free.
    #[must_use]
    pub fn remedy(&self, interface: &str) -> String {
        if self.name.as_deref() == Some("xdp_dispatcher") {
            let show = format!("`xdp-loader status {interface}` lists its programs");
            return format!("{show}; join them through the dispatcher (feature `libxdp`)");
        }
        match (self.link, &self.process, self.hook) {
            (Some(_), Some((pid, _)), _) if *pid == std::process::id() => format!(
                "process {pid}, which is this one, has it there: ask for the same filter, hook, hints, \
                 `force` and `multi_buffer`, or name its program (`Receive::Program`)"
            ),
            (Some(_), Some((pid, name)), _) => format!("it goes when process {pid} ({name}) ends"),
            (Some(link), None, _) => format!("`bpftool link detach id {link}` takes it off"),
            (None, _, Hook::Native) => {
                format!("`ip link set dev {interface} xdp off` takes it off")
            }
            (None, _, Hook::Generic) => {
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

/// What the descriptors of a program and of its maps say.
fn traces(program: u32) -> Vec<String> {
    let options = ProgInfoQueryOptions::default().include_map_ids(true);
    let info = ProgInfoIter::with_query_opts(options).find(|info| info.id == program);
    let maps = info.map(|info| info.map_ids).unwrap_or_default();
    let maps = maps.into_iter().map(|map| format!("map_id:\t{map}"));
    [format!("prog_id:\t{program}")].into_iter().chain(maps).collect()
}

/// A process that has a descriptor of which the kernel says one of these lines (`proc(5)`, the
/// `..._show_fdinfo` of `kernel/bpf/syscall.c`).
fn holder(lines: &[String]) -> Option<(u32, String)> {
    let holds = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?;
        descriptors.flatten().find(|descriptor| {
            fs::read_to_string(descriptor.path())
                .is_ok_and(|info| info.lines().any(|its| lines.iter().any(|line| line == its)))
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
