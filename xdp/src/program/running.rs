//! [`Program`]: the program of this crate on an interface.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use bypass_core::{Error, Result};
use libbpf_rs::{MapCore as _, MapHandle};

use super::attach::Attachment;
use super::counters::Counters;
use super::error::ProgramError;
use super::filter::Filter;
use super::load::Loaded;
use super::routes;
use super::shared::Entry;
use super::sockets::XskMap;
use super::sys;
use super::tables::FilterMaps;

/// The program of this crate on an interface, until this value is dropped.
///
/// All queues of the interface share it; sockets join it through [`sockets`](Self::sockets).
#[derive(Debug)]
pub struct Program {
    /// Dropped first: nothing is redirected to sockets that are about to go.
    pub(super) attachment: Attachment,
    /// Dropped when the program is off its interface.
    pub(super) entry: Option<Entry>,
    sockets: XskMap,
    counters: MapHandle,
    pub(super) filter: Arc<Mutex<FilterMaps>>,
    traits: Traits,
    /// The kernel's number of it.
    pub(super) id: u32,
    pub(super) no_hints: Option<ProgramError>,
    /// What libbpf knows of the program; libxdp takes it off with that.
    _loaded: Loaded,
}

/// How it was loaded, and what it may be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub(super) frags: bool,
    pub(super) hints: bool,
    pub(super) force: bool,
}

impl Program {
    pub(super) fn new(
        attachment: Attachment,
        loaded: Loaded,
        filter: FilterMaps,
        traits: Traits,
    ) -> Result<Self> {
        let sockets = duplicate(loaded.map("sockets")?.as_fd())?;
        let id = loaded.with_fd(sys::program_id)?;
        let id = id.map_err(|error| Error::os("ask for the number of an XDP program", error))?;
        Ok(Self {
            id,
            attachment,
            entry: None,
            sockets: XskMap::from_fd(sockets)?,
            counters: loaded.map("counters")?,
            filter: Arc::new(Mutex::new(filter)),
            traits,
            no_hints: None,
            _loaded: loaded,
        })
    }

    /// Exchanges the filter while packets flow. Each packet is judged by the old filter or by the
    /// new one, never by parts of both; when this returns, the old one judges none any more. That
    /// takes milliseconds. It is changed for all ports that share the program.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] with a [`ProgramError`](super::ProgramError) when the filter is larger than
    /// the program's maps or would cut the machine off, or when the kernel refuses; the old filter
    /// stays in force then.
    pub fn set_filter(&self, filter: &Filter) -> Result<()> {
        routes::check(self.attachment.interface(), filter, self.traits.force)?;
        let mut maps = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(maps.set(filter)?)
    }

    /// Where sockets are entered to receive the frames of their queue.
    #[must_use]
    pub fn sockets(&self) -> &XskMap {
        &self.sockets
    }

    /// Where the program runs, and why not elsewhere.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Whether frames may come in fragments, which sockets must be opened for.
    #[must_use]
    pub fn has_frags(&self) -> bool {
        self.traits.frags
    }

    /// Whether the device is asked for what it knows of each frame.
    #[must_use]
    pub fn has_hints(&self) -> bool {
        self.traits.hints
    }

    /// Why the device is not asked, where that was preferred.
    #[must_use]
    pub fn no_hints(&self) -> Option<&ProgramError> {
        self.no_hints.as_ref()
    }

    /// What the program did with the frames of a queue; zeros for a queue that it has no room for.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn queue_counters(&self, queue: u32) -> Result<Counters> {
        if queue >= self.counters.max_entries() {
            return Ok(Counters::default());
        }
        Ok(Counters::read(&self.counters, queue)?)
    }

    /// What the program did with the frames of all queues.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn counters(&self) -> Result<Counters> {
        let mut sum = Counters::default();
        for queue in 0..self.counters.max_entries() {
            sum.merge(&self.queue_counters(queue)?);
        }
        Ok(sum)
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| Error::os("duplicate a map's descriptor", error))
}
