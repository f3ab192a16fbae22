//! [`ProgramOptions`]: how the program of this crate comes onto an interface.

use bypass_core::Result;

use super::attach::{Attachment, Target};
use super::error::ProgramError;
use super::filter::Filter;
use super::load::{Loaded, Variant};
use super::routes;
use super::running::Program;
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
    /// Queues that may have a socket: 0 to this, exclusive.
    pub queues: u32,
    /// Takes all IP packets even of an interface that a default route leads through.
    pub force: bool,
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
            queues: 64,
            force: false,
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
        let refused = match self.attach_at(&target, self.hook.first())? {
            Ok(program) => return Ok(program),
            Err(refused) if !self.hook.may_fall_back() => return Err(refused.into()),
            Err(refused) => refused,
        };
        let mut program = self.attach_at(&target, self.hook.first().other())??;
        program.attachment.fallback = Some(refused);
        Ok(program)
    }

    /// Tries one hook; the inner error is the driver's refusal, after which another may do.
    fn attach_at(&self, target: &Target, hook: Hook) -> Result<Result<Program, ProgramError>> {
        let refused = match self.attach_as(target, hook, self.frags == Frags::On)? {
            Err(refused) if self.frags == Frags::Auto => refused,
            decided => return Ok(decided),
        };
        // Only one of the two reasons can be told: that of what was asked for in the first place.
        Ok(match self.attach_as(target, hook, true) {
            Ok(Ok(program)) => Ok(program),
            Ok(Err(_)) | Err(_) => Err(refused),
        })
    }

    fn attach_as(
        &self,
        target: &Target,
        hook: Hook,
        frags: bool,
    ) -> Result<Result<Program, ProgramError>> {
        let loaded = Loaded::new(target, Variant { queues: self.queues, frags, hints: false })?;
        let mut filter = loaded.filter_maps()?;
        filter.set(&self.filter)?;
        let link = match loaded.with_fd(|program| target.attach(program, hook))? {
            Ok(link) => link,
            Err(refused @ ProgramError::Refused { .. }) => return Ok(Err(refused)),
            Err(error) => return Err(error.into()),
        };
        let attachment = Attachment::of(link, target, hook);
        Program::new(attachment, &loaded, filter, frags, self.force).map(Ok)
    }
}
