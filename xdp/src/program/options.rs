//! [`ProgramOptions`]: how the program of this crate comes onto an interface.

use bypass_core::{Error, Result};

use super::attach::{Attachment, Hold, Target};
#[cfg(feature = "libxdp")]
use super::dispatcher::{DISPATCHER, NEEDS};
use super::error::ProgramError;
use super::filter::Filter;
use super::hints::Hints;
use super::load::{Loaded, Variant};
#[cfg(feature = "libxdp")]
use super::owner::Owner;
use super::routes;
use super::running::{Program, Traits};
use crate::socket::{Hook, Want};

/// Whether the program declares that frames may come in several fragments (`xdp.frags`, Linux 5.18),
/// without which drivers limit the MTU: veth to 3506 bytes, others to what fits a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frags {
    /// Where the driver refuses the program without; [`Program::has_frags`] says.
    #[default]
    Auto,
    /// Never: the MTU keeps its limit.
    Off,
    /// Always. A frame that the driver delivers in fragments is lost, and counted, on a socket
    /// without multi-buffer support (`XDP_USE_SG`).
    On,
}

/// How the XDP program of this crate is put on an interface.
///
/// ```no_run
/// use bypass_xdp::program::{Filter, ProgramOptions};
///
/// let mut options = ProgramOptions::new("eth1");
/// options.filter = Filter::new().udp([4000]);
/// let program = options.attach()?;
/// println!("{} mode", program.attachment().hook());
/// // Takes another port from now on; every packet is judged by one whole filter.
/// program.set_filter(&Filter::new().udp([4001]))?;
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramOptions {
    /// The interface's name, in the calling thread's namespace.
    pub interface: String,
    /// The frames to take; none at first.
    pub filter: Filter,
    /// Where the program runs.
    pub hook: Want<Hook>,
    /// Whether frames may come in fragments.
    pub frags: Frags,
    /// Whether the device is asked for what it knows of each frame.
    pub hints: Hints,
    /// Queues that may have a socket: 0 to this, exclusive.
    pub queues: u32,
    /// Takes all IP packets even of an interface that a default route leads through.
    pub force: bool,
    /// Shares the interface with other programs through libxdp's dispatcher (Linux 5.10, and a BPF
    /// file system at `/sys/fs/bpf`): the place among them, where the lowest runs first and 50 is
    /// usual. What this program does not take goes to the next one, and at last to the kernel.
    ///
    /// [`Hints::Require`] is an error with it. The dispatcher stays behind after `kill -9`, and where the
    /// program is dropped on a thread in another network namespace: libxdp looks for the interface there.
    #[cfg(feature = "libxdp")]
    pub dispatcher: Option<u32>,
}

impl ProgramOptions {
    /// Takes nothing yet, on 64 queues, in native mode where there is one.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            filter: Filter::new(),
            hook: Want::Prefer(Hook::Native),
            frags: Frags::Auto,
            hints: Hints::Off,
            queues: 64,
            force: false,
            #[cfg(feature = "libxdp")]
            dispatcher: None,
        }
    }

    /// Loads the program and puts it on the interface.
    ///
    /// # Errors
    ///
    /// [`NoSuchInterface`](bypass_core::Error::NoSuchInterface),
    /// [`MissingCapability`](bypass_core::Error::MissingCapability), and
    /// [`Backend`](bypass_core::Error::Backend) with a [`ProgramError`]: another program is there,
    /// the filter would cut the machine off, the driver or the kernel refuses.
    pub fn attach(&self) -> Result<Program> {
        let target = Target::find(&self.interface)?;
        routes::check(&self.interface, &self.filter, self.force)?;
        let mut refusals: Vec<(Attempt, ProgramError)> = Vec::new();
        for attempt in self.attempts() {
            match self.attach_as(&target, attempt) {
                Ok(mut program) => {
                    let mut why = |differs: &dyn Fn(&Attempt) -> bool| {
                        let first = refusals.iter().position(|(tried, _)| differs(tried))?;
                        Some(refusals.remove(first).1)
                    };
                    program.no_hints = why(&|tried| tried.hints && !attempt.hints);
                    program.attachment.fallback = why(&|tried| tried.hook != attempt.hook);
                    return Ok(program);
                }
                Err(Failure::Refused(refusal)) => refusals.push((attempt, refusal)),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
        // Only one reason can be told: that of what was asked for in the first place.
        Err(refusals.swap_remove(0).1.into())
    }

    /// What to try, in order; at least one.
    fn attempts(&self) -> Vec<Attempt> {
        let first = self.hook.first();
        let hooks =
            [first, first.other()].into_iter().take(1 + usize::from(self.hook.may_fall_back()));
        let hints: &[bool] = match self.hints {
            Hints::Off => &[false],
            Hints::Prefer => &[true, false],
            Hints::Require => &[true],
        };
        let frags: &[bool] = match self.frags {
            Frags::Auto => &[false, true],
            Frags::Off => &[false],
            Frags::On => &[true],
        };
        let mut attempts = Vec::new();
        for hook in hooks {
            for &hints in hints {
                attempts.extend(frags.iter().map(|&frags| Attempt { hook, hints, frags }));
            }
        }
        attempts
    }

    fn attach_as(&self, target: &Target, attempt: Attempt) -> Result<Program, Failure> {
        let Attempt { hook, hints, frags } = attempt;
        let traits = Traits { frags, hints, force: self.force };
        let variant = Variant { queues: self.queues, frags, hints };
        #[cfg(feature = "libxdp")]
        if let Some(priority) = self.dispatcher {
            return self.dispatch(target, hook, variant, priority, traits);
        }
        let loaded = Loaded::new(target, variant)?;
        let mut filter = loaded.filter_maps()?;
        filter.set(&self.filter)?;
        let link = loaded.with_fd(|program| target.attach(program, hook))??;
        let attachment = Attachment::of(Hold::Link(link), target, hook);
        Ok(Program::new(attachment, loaded, filter, traits)?)
    }

    /// libxdp loads and attaches in one, so the program takes nothing until its filter is written.
    #[cfg(feature = "libxdp")]
    fn dispatch(
        &self,
        target: &Target,
        hook: Hook,
        variant: Variant,
        priority: u32,
        traits: Traits,
    ) -> Result<Program, Failure> {
        let refused = |hint: &'static str| ProgramError::Refused {
            interface: target.interface.clone(),
            hook,
            source: std::io::ErrorKind::Unsupported.into(),
            hint: hint.into(),
        };
        if variant.hints {
            return Err(refused("a program behind the dispatcher cannot ask the device").into());
        }
        let (loaded, held) = Loaded::behind_dispatcher(target, variant, hook, priority)?;
        let attachment = Attachment::of(Hold::Dispatcher(held), target, hook);
        // libxdp attaches a program alone where it has no dispatcher, which nobody asked for.
        let owner = Owner::of(target.ifindex).and_then(|owner| owner.name);
        if owner.as_deref() != Some(DISPATCHER) {
            return Err(refused(NEEDS).into());
        }
        let mut filter = loaded.filter_maps()?;
        filter.set(&self.filter)?;
        Ok(Program::new(attachment, loaded, filter, traits)?)
    }
}

/// One way to bring the program onto the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    hook: Hook,
    hints: bool,
    frags: bool,
}

/// Why an attempt came to nothing.
enum Failure {
    /// The driver or the kernel does not do it this way; another may work.
    Refused(ProgramError),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Refused { .. } | ProgramError::Load { .. } => Self::Refused(error),
            other => Self::Final(other.into()),
        }
    }
}
