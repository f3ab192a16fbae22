//! [`Probe`]: what io_uring can do here, and who refuses the rest.
//!
//! Opcodes are asked for with `IORING_REGISTER_PROBE`, features are read from a ring's parameters, and
//! setup flags are tried. Whether the kernel knows a register call is found without making it: a disabled
//! ring takes a restriction to a call only if there is such a call. Those that can be made and taken back
//! are made too, because knowing the number is not being allowed to use it. What is none of these but a
//! behaviour, is tried.

mod names;
mod refusal;
mod trial;
mod zcrx;

use std::fmt;

use io_uring::IoUring;

pub use names::{Opcode, RegisterCall};
pub use refusal::Refusal;
pub use zcrx::{ZeroCopyRefusal, zero_copy_receive};

use crate::sys::setup;

/// What io_uring can do here.
///
/// ```
/// use io_uring_ext::probe::Probe;
///
/// let probe = Probe::run();
/// println!("{probe}"); // one line each: available, or refused and why
/// if let Err(refusal) = probe.get("multishot recvmsg") {
///     println!("falling back to plain sockets: {refusal}");
/// }
/// for opcode in probe.iter().filter(|capability| capability.name.starts_with("IORING_OP_FUTEX")) {
///     println!("{}: {}", opcode.name, opcode.verdict.is_ok());
/// }
/// ```
#[derive(Debug)]
pub struct Probe {
    capabilities: Vec<Capability>,
    unlisted: Refusal,
}

/// One thing that a kernel may have.
#[derive(Debug)]
#[non_exhaustive]
pub struct Capability {
    /// What kind of thing it is.
    pub kind: CapabilityKind,
    /// What it is: the name in the kernel's header, or a few words for a behaviour.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: (u32, u32),
    /// Whether this one has it, for this process.
    pub verdict: Result<(), Refusal>,
}

/// What kind of thing a [`Capability`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CapabilityKind {
    /// A ring at all.
    Ring,
    /// An operation.
    Opcode,
    /// A feature bit.
    Feature,
    /// A flag for making rings.
    Setup,
    /// A registration.
    Register,
    /// Something that has no name of its own in the interface.
    Behaviour,
}

impl Probe {
    /// Asks and tries everything. Takes a few milliseconds, leaves nothing behind.
    pub fn run() -> Self {
        let mut probe = Self { capabilities: Vec::new(), unlisted: Refusal::Unlisted };
        match IoUring::new(4) {
            Ok(ring) => {
                probe.note(CapabilityKind::Ring, "ring", (5, 1), Ok(()));
                probe.opcodes(&ring);
                probe.features(&ring);
                probe.setups(&ring);
                probe.registrations(&ring);
                probe.behaviours(&ring);
            }
            // Nothing else can be had either, for the same reason.
            Err(errno) => {
                let refusal = Refusal::of_setup(errno, (5, 1));
                probe.note(CapabilityKind::Ring, "ring", (5, 1), Err(refusal));
            }
        }
        probe
    }

    /// Everything that was looked at. Nothing but the ring when that is refused.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Goes through everything that was looked at.
    pub fn iter(&self) -> std::slice::Iter<'_, Capability> {
        self.capabilities.iter()
    }

    /// Whether a capability is there.
    ///
    /// # Errors
    ///
    /// The refusal; that of the ring when there is none at all; [`Refusal::Unlisted`] for a name that is
    /// not among the [`capabilities`](Self::capabilities).
    pub fn get(&self, name: &str) -> Result<(), &Refusal> {
        let find = |name| self.iter().find(|capability| capability.name == name);
        find("ring").map_or(Ok(()), |ring| ring.verdict.as_ref().copied())?;
        find(name).map_or(Err(&self.unlisted), |capability| capability.verdict.as_ref().copied())
    }

    fn note(
        &mut self,
        kind: CapabilityKind,
        name: &'static str,
        since: (u32, u32),
        verdict: Result<(), Refusal>,
    ) {
        self.capabilities.push(Capability { kind, name, since, verdict });
    }

    fn opcodes(&mut self, ring: &IoUring) {
        let mut answer = io_uring::Probe::new();
        let asked = ring.submitter().register_probe(&mut answer);
        for opcode in Opcode::ALL {
            let since = opcode.since();
            let verdict = match &asked {
                Ok(()) if answer.is_supported(opcode.code()) => Ok(()),
                Ok(()) => Err(Refusal::missing(since)),
                Err(errno) => Err(Refusal::of_register(copy(errno), (5, 6))),
            };
            self.note(CapabilityKind::Opcode, opcode.name(), since, verdict);
        }
    }

    fn features(&mut self, ring: &IoUring) {
        let there = setup::features(ring.params());
        for (bit, (name, since)) in names::FEATURES.iter().enumerate() {
            let verdict =
                if there & 1 << bit != 0 { Ok(()) } else { Err(Refusal::missing(*since)) };
            self.note(CapabilityKind::Feature, name, *since, verdict);
        }
    }

    fn setups(&mut self, ring: &IoUring) {
        for (bit, (name, since)) in names::SETUPS.iter().enumerate() {
            let verdict = trial::setup(1 << bit, ring);
            let verdict = verdict.map_err(|errno| Refusal::of_setup(errno, *since));
            self.note(CapabilityKind::Setup, name, *since, verdict);
        }
    }

    fn registrations(&mut self, ring: &IoUring) {
        let known = trial::known_calls();
        for call in RegisterCall::ALL {
            let since = call.since();
            let verdict = match &known {
                // Older than the means to tell, so the version has to.
                Err(_) => Refusal::by_age(since),
                Ok(known) if call.code() >= *known => Err(Refusal::missing(since)),
                Ok(_) => {
                    trial::register(*call, ring).map_err(|errno| Refusal::of_register(errno, since))
                }
            };
            self.note(CapabilityKind::Register, call.name(), since, verdict);
        }
    }

    fn behaviours(&mut self, ring: &IoUring) {
        for (name, since, attempt) in trial::BEHAVIOURS {
            let verdict = attempt(ring).map_err(|errno| Refusal::of_register(errno, *since));
            self.note(CapabilityKind::Behaviour, name, *since, verdict);
        }
    }
}

impl<'a> IntoIterator for &'a Probe {
    type Item = &'a Capability;
    type IntoIter = std::slice::Iter<'a, Capability>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Capability { name, since: (major, minor), verdict, .. } in &self.capabilities {
            writeln!(f, "{name:<34} {major}.{minor:<4} {}", refusal::Verdict(verdict))?;
        }
        Ok(())
    }
}

fn copy(errno: &std::io::Error) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.raw_os_error().unwrap_or(0))
}
