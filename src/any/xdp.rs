//! The settings that only `xdp` has.

use crate::uri::Uri;
use crate::xdp::{CopyMode, Hook, NapiBusyPoll, Want, XdpOptions};
use crate::{Error, Result};

/// Settings of a URI; what is not there stays as it is.
pub(super) struct Settings {
    queue: Option<u32>,
    hook: Option<Hook>,
    mode: Option<CopyMode>,
    force: Option<bool>,
    unaligned: Option<bool>,
    multi_buffer: Option<bool>,
    busy_poll: Option<u32>,
    busy_poll_budget: Option<u32>,
    tx_budget: Option<u32>,
}

impl Settings {
    pub(super) fn take(uri: &mut Uri<'_>) -> Result<Self> {
        let hooks = [("native", Hook::Native), ("generic", Hook::Generic)];
        let modes = [("zero-copy", CopyMode::ZeroCopy), ("copy", CopyMode::Copy)];
        Ok(Self {
            queue: uri.take("queue")?,
            hook: uri.one_of("hook", &hooks)?,
            mode: uri.one_of("mode", &modes)?,
            force: uri.take("force")?,
            unaligned: uri.take("unaligned")?,
            multi_buffer: uri.take("multi_buffer")?,
            busy_poll: uri.take("busy_poll")?,
            busy_poll_budget: uri.take("busy_poll_budget")?,
            tx_budget: uri.take("tx_budget")?,
        })
    }

    /// The queue that was named, if one was.
    pub(super) fn queue(&self) -> Option<u32> {
        self.queue
    }

    /// A mode that is named is required, not preferred.
    pub(super) fn apply(&self, xdp: &mut XdpOptions) -> Result<()> {
        xdp.queue = self.queue.unwrap_or(xdp.queue);
        xdp.hook = self.hook.map_or(xdp.hook, Want::Require);
        xdp.mode = self.mode.map_or(xdp.mode, Want::Require);
        xdp.force = self.force.unwrap_or(xdp.force);
        xdp.umem.unaligned = self.unaligned.unwrap_or(xdp.umem.unaligned);
        xdp.multi_buffer = self.multi_buffer.unwrap_or(xdp.multi_buffer);
        xdp.tx_budget = self.tx_budget.or(xdp.tx_budget);
        if let Some(micros) = self.busy_poll {
            xdp.busy_poll = Some(NapiBusyPoll { micros, ..NapiBusyPoll::default() });
        }
        match (self.busy_poll_budget, &mut xdp.busy_poll) {
            (None, _) => Ok(()),
            (Some(budget), Some(polling)) => {
                polling.budget = budget;
                Ok(())
            }
            (Some(budget), None) => {
                let why = "without `busy_poll=MICROSECONDS` nothing is polled";
                Err(Error::config("busy_poll_budget", budget, why))
            }
        }
    }
}
