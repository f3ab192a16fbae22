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

impl Drop for Registrations {
    fn drop(&mut self) {
        // One after the other: inside each other, those of many rings would not fit the stack.
        let mut next = self.more.take();
        while let Some(mut one) = next {
            next = one.more.take();
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::SlotTable;

    #[test]
    fn those_of_many_rings_are_dropped_on_a_small_stack() {
        let small = std::thread::Builder::new().stack_size(1 << 16);
        let dropped = small.spawn(|| {
            let registrations = Registrations::default();
            for _ in 0..5000 {
                let table = SlotTable::new(RingId::next(), 1, 0);
                registrations.add(table.hold(0).unwrap());
            }
            drop(registrations);
        });
        dropped.unwrap().join().unwrap();
    }
}
