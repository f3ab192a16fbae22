//! [`Registrations`]: where memory is registered.

use std::sync::OnceLock;

use super::Slot;
use crate::ring::RingId;

/// The slots that memory has in the tables of rings, at most one per ring. Looking takes no lock, and
/// nearly always one step.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    slot: OnceLock<Slot>,
    more: OnceLock<Box<Self>>,
}

impl Registrations {
    /// Adds a slot of a ring that there is none of yet.
    pub(crate) fn add(&self, slot: Slot) {
        let mut at = self;
        let mut slot = slot;
        while let Err(back) = at.slot.set(slot) {
            slot = back;
            at = at.more.get_or_init(Box::default);
        }
    }

    /// The slot in this ring's table.
    pub(crate) fn slot(&self, ring: RingId) -> Option<&Slot> {
        let mut at = self;
        loop {
            match at.slot.get()? {
                slot if slot.ring() == ring => return Some(slot),
                _ => at = at.more.get()?,
            }
        }
    }

    /// The number of the buffer in this ring's table.
    #[inline]
    pub(crate) fn index(&self, ring: RingId) -> Option<u16> {
        // A table has at most 2^14 slots.
        self.slot(ring).map(|slot| slot.index() as u16)
    }
}
