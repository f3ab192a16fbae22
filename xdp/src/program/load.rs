//! Loads the program of this crate.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use bypass_core::{Error, Result, Unsupported};
use libbpf_rs::libbpf_sys::{BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS};
use libbpf_rs::{
    ErrorKind, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel, ProgramMut, set_print,
};

use super::attach::Target;
#[cfg(feature = "libxdp")]
use super::dispatcher::{Dispatched, NEEDS};
use super::error::ProgramError;
use super::tables::FilterMaps;
#[cfg(feature = "libxdp")]
use crate::socket::Hook;

#[cfg(not(target_endian = "little"))]
compile_error!("the XDP program of bypass-xdp is built for little-endian machines only");

/// `bpf/steer.bpf.c`, built by `cargo xtask bpf`.
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../bpf/steer.bpf.o"));

/// libelf reads headers in place.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

const STEER: &str = "bypass_steer";
const HINTS: &str = "bypass_hints";

/// What asking the device takes.
const HINTS_NEED: &str = "asking the device for hints needs Linux 6.3 and a driver that answers";

/// How the program is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// Queues that the maps have room for.
    pub(super) queues: u32,
    /// Declares that frames may come in several fragments (Linux 5.18).
    pub(super) frags: bool,
    /// Asks the device for hints (Linux 6.3), which binds the program to it.
    pub(super) hints: bool,
}

/// The program in the kernel, not yet on an interface.
#[derive(Debug)]
pub(super) struct Loaded {
    object: Object,
    name: &'static str,
}

impl Loaded {
    pub(super) fn new(target: &Target, variant: Variant) -> Result<Self, ProgramError> {
        let name = if variant.hints { HINTS } else { STEER };
        let (loaded, log) = quietly(|| open(target, variant, name).and_then(OpenObject::load));
        match loaded {
            Ok(object) => Ok(Self { object, name }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(ProgramError::Denied { interface: target.interface.clone() })
            }
            Err(source) => {
                let interface = target.interface.clone();
                let log = if variant.hints { format!("{HINTS_NEED}: {log}") } else { log };
                Err(ProgramError::Load { interface, source, log: log.into() })
            }
        }
    }

    /// Loads the program behind the dispatcher of the interface.
    #[cfg(feature = "libxdp")]
    pub(super) fn behind_dispatcher(
        target: &Target,
        variant: Variant,
        hook: Hook,
        priority: u32,
    ) -> Result<(Self, Dispatched), ProgramError> {
        let (attached, log) = quietly(|| {
            let object = open(target, variant, STEER)?;
            let Variant { frags, .. } = variant;
            let name = c"bypass_steer";
            Ok(Dispatched::attach(object, name, frags, priority, target.ifindex, hook))
        });
        let interface = target.interface.clone();
        let (object, dispatched) = match attached {
            Ok(Ok(attached)) => attached,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(ProgramError::Denied { interface });
            }
            Ok(Err(source)) => {
                return Err(match target.refusal(source, hook) {
                    ProgramError::Refused { source, .. } => {
                        ProgramError::Refused { interface, hook, source, hint: NEEDS.into() }
                    }
                    other => other,
                });
            }
            Err(source) => return Err(ProgramError::Load { interface, source, log: log.into() }),
        };
        Ok((Self { object, name: STEER }, dispatched))
    }

    pub(super) fn program(&self) -> Result<ProgramMut<'_>> {
        self.object.progs_mut().find(|program| program.name() == self.name).ok_or_else(broken)
    }

    pub(super) fn with_fd<T>(&self, run: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
        Ok(run(self.program()?.as_fd()))
    }

    pub(super) fn map(&self, name: &str) -> Result<MapHandle> {
        use libbpf_rs::MapCore as _;
        let map = self.object.maps().find(|map| map.name() == name).ok_or_else(broken)?;
        let attempt = || format!("open the map {name} of the XDP program");
        MapHandle::try_from(&map).map_err(|error| ProgramError::map(attempt())(error).into())
    }

    pub(super) fn filter_maps(&self) -> Result<FilterMaps> {
        Ok(FilterMaps::new(
            self.map("config")?,
            self.map("sets")?,
            self.map("prefixes_v4")?,
            self.map("prefixes_v6")?,
        ))
    }
}

fn open(target: &Target, variant: Variant, name: &str) -> Result<OpenObject, libbpf_rs::Error> {
    let mut object = ObjectBuilder::default().name("bypass")?.open_memory(&OBJECT.0)?;
    for mut program in object.progs_mut() {
        let wanted = program.name() == name;
        program.set_autoload(wanted);
        if !wanted {
            continue;
        }
        let mut flags = if variant.frags { BPF_F_XDP_HAS_FRAGS } else { 0 };
        if variant.hints {
            flags |= BPF_F_XDP_DEV_BOUND_ONLY;
            program.set_ifindex(target.ifindex);
        }
        program.set_flags(flags);
    }
    for mut map in object.maps_mut() {
        if map.name() == "sockets" || map.name() == "counters" {
            map.set_max_entries(variant.queues)?;
        }
    }
    Ok(object)
}

/// The object and this module do not belong together.
fn broken() -> Error {
    Error::Unsupported(Unsupported {
        what: "XDP program".into(),
        backend: "this build",
        why: "the object lacks a program or map that the loader asks for; run `cargo xtask bpf`"
            .into(),
    })
}

/// Runs something during which libbpf's messages are kept instead of printed, and returns them on
/// one line. The messages are the process's: other users of libbpf have theirs kept meanwhile.
pub(super) fn quietly<T>(run: impl FnOnce() -> T) -> (T, String) {
    static RUNNING: Mutex<()> = Mutex::new(());
    static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let messages = || MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);

    let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    messages().clear();
    let before = set_print(Some((PrintLevel::Warn, |_, message| {
        MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    })));
    let outcome = run();
    set_print(before);
    let said = messages().concat();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // A verifier's log is long; the reason stands at its end.
    (outcome, lines[lines.len().saturating_sub(8)..].join(" | "))
}
