//! Asking the kernel to end operations early. No request is ever lost: what finds no room in the
//! submission queue waits.

use io_uring::opcode;
use io_uring::types::CancelBuilder;

use std::time::Duration;

use super::State;
use crate::error::{Error, Result};
use crate::op::{Cancel, Target, timespec};
use crate::ring::key::{self, Key, Kind};

impl State {
    /// Asks the kernel to end the operation early. The answer comes as its terminal completion.
    pub(crate) fn cancel(&mut self, key: Key) {
        let Some(flight) = self.slab.get_mut(key) else { return };
        if flight.in_flight && !flight.cancelling {
            flight.cancelling = true;
            #[cfg(feature = "tracing")]
            self.trace_cancel(key);
            // What waits for another member cannot be found yet; `start_next` asks when it can.
            if !self.waits(key) {
                self.cancels.push_back(key);
            }
            self.wake_driver();
        }
    }

    /// Asks the kernel to end everything early.
    pub(crate) fn cancel_everything(&mut self) {
        self.cancel_all = true;
        self.cancels_of_all += 1;
        self.wake_driver();
    }

    /// Asks the kernel to end everything early that works on this.
    pub(crate) fn cancel_target(&mut self, target: Target) -> Result<()> {
        if !target.belongs_to(self.id) {
            return Err(Error::ForeignRing);
        }
        self.cancels_of_targets.push_back(target);
        self.wake_driver();
        Ok(())
    }

    /// Asks the kernel to end everything early, and waits until it has, but not longer than this.
    pub(crate) fn cancel_now(
        &mut self,
        target: Option<&Target>,
        timeout: Option<Duration>,
    ) -> std::io::Result<()> {
        let submitter = self.uring.submitter();
        let builder = match target {
            Some(target) => target.cancel().all(),
            None => CancelBuilder::any().all(),
        };
        submitter.register_sync_cancel(timeout.map(timespec), builder)
    }

    /// Whether somebody asked for the operation to end early, alone or with everything.
    pub(crate) fn cancel_was_asked(&mut self, key: Key) -> bool {
        let asked_of_all = self.cancels_of_all;
        self.slab
            .get_mut(key)
            .is_none_or(|flight| flight.cancelling || flight.began_after < asked_of_all)
    }

    /// Whether there is a cancel of a target, and room and a place for it.
    pub(super) fn can_cancel_target(&mut self) -> bool {
        !self.cancels_of_targets.is_empty()
            && self.uring.space() > 0
            && self.slab.occupied() < self.slab.capacity()
    }

    /// A place has become vacant, for which a cancel of a target may wait.
    pub(super) fn place_is_vacant(&mut self) {
        if !self.cancels_of_targets.is_empty() {
            self.wake_driver();
        }
    }

    /// Moves waiting cancels into the submission queue, as many as fit. None is lost: the rest stays.
    pub(super) fn queue_cancels(&mut self) {
        while !self.cancels.is_empty() && self.uring.space() > 0 {
            let Some(key) = self.cancels.pop_front() else { break };
            if !self.slab.get_mut(key).is_some_and(|flight| flight.in_flight) {
                continue;
            }
            let target = key::encode(Kind::Operation, key);
            self.push(
                &opcode::AsyncCancel::new(target).build().user_data(key::encode(Kind::Cancel, key)),
            );
            self.counters.cancels += 1;
        }
        while self.can_cancel_target() {
            let Some(target) = self.cancels_of_targets.pop_front() else { break };
            let Ok((key, entry)) = self.place(Cancel::target(&target)) else { break };
            // What became of it, the operations that it found tell themselves.
            self.abandon(key, false);
            self.push(&entry);
            self.counters.cancels += 1;
        }
        if self.cancel_all && self.uring.space() > 0 {
            self.cancel_all = false;
            let many = Key { index: 0, generation: 0 };
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
            self.push(&entry.user_data(key::encode(Kind::CancelMany, many)));
            self.counters.cancels += 1;
        }
    }
}
