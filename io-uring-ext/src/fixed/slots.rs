//! [`Slot`]: the right to a slot, and its way back to the ring.
//!
//! A slot is let go of anywhere: on another thread, inside the ring's lock, after the ring. So letting
//! go only puts it on a list without locks, which the ring looks at in its next call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::ring::RingId;

/// The end of the list.
const END: u32 = u32::MAX;
/// Not on the list: nobody has the slot.
const FREE: u32 = u32::MAX - 1;
/// Not on the list: there is a [`Slot`] for it.
const HELD: u32 = u32::MAX - 2;

/// What a table and the handles of its slots share.
#[derive(Debug)]
pub(crate) struct SlotTable {
    ring: RingId,
    /// Slots that the application gives out. The kernel chooses among those behind them.
    own: u32,
    /// The slot that was released last, or [`END`].
    released: AtomicU32,
    /// For each slot the one that was released before it, or what it is instead of released.
    states: Box<[AtomicU32]>,
}

impl SlotTable {
    pub(crate) fn new(ring: RingId, own: u32, kernel: u32) -> Arc<Self> {
        let states = (0..own + kernel).map(|_| AtomicU32::new(FREE)).collect();
        Arc::new(Self { ring, own, released: AtomicU32::new(END), states })
    }

    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    pub(crate) fn own(&self) -> u32 {
        self.own
    }

    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// The handle of a slot that has none; `None` when it has one or does not exist.
    pub(crate) fn hold(self: &Arc<Self>, index: u32) -> Option<Slot> {
        let state = self.states.get(index as usize)?;
        state.compare_exchange(FREE, HELD, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(Slot { table: Arc::clone(self), index, handed_over: AtomicBool::new(false) })
    }

    fn release(&self, index: u32) {
        let mut last = self.released.load(Ordering::Relaxed);
        loop {
            self.states[index as usize].store(last, Ordering::Relaxed);
            // The order makes the link above visible to who takes the list.
            match self.released.compare_exchange_weak(
                last,
                index,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => last = now,
            }
        }
    }

    /// Whether a slot has been released since [`take_released`](Self::take_released).
    #[inline]
    pub(crate) fn has_released(&self) -> bool {
        self.released.load(Ordering::Relaxed) != END
    }

    /// Takes the slots that have been released. Each can be [held](Self::hold) again.
    pub(crate) fn take_released(&self) -> impl Iterator<Item = u32> {
        let mut next = self.released.swap(END, Ordering::Acquire);
        std::iter::from_fn(move || {
            let index = next;
            if index == END {
                return None;
            }
            next = self.states[index as usize].swap(FREE, Ordering::Relaxed);
            Some(index)
        })
    }
}

/// The right to one slot of a table. Dropping it releases the slot.
pub(crate) struct Slot {
    table: Arc<SlotTable>,
    index: u32,
    /// Another handle has the right now, and this one nothing any more.
    handed_over: AtomicBool,
}

impl Slot {
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn ring(&self) -> RingId {
        self.table.ring
    }

    /// Whether the kernel chose it. It may choose it again as soon as it is empty.
    pub(crate) fn is_kernels(&self) -> bool {
        self.index >= self.table.own
    }

    /// Gives the right to a new handle; `None` when it has been given before.
    pub(crate) fn hand_over(&self) -> Option<Self> {
        let first = !self.handed_over.swap(true, Ordering::Relaxed);
        first.then(|| Self {
            table: Arc::clone(&self.table),
            index: self.index,
            handed_over: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_of(&self, table: &Arc<SlotTable>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !*self.handed_over.get_mut() {
            self.table.release(self.index);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.index).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_handle_at_a_time() {
        let table = SlotTable::new(RingId::next(), 3, 0);
        let slot = table.hold(1).unwrap();
        assert!(table.hold(1).is_none());
        assert!(table.hold(3).is_none(), "there is none");
        assert!(!table.has_released());
        drop((slot, table.hold(0).unwrap()));
        assert!(table.hold(1).is_none(), "the ring has not taken it back yet");
        assert_eq!(table.take_released().collect::<Vec<_>>(), [0, 1]);
        assert!(!table.has_released());
        let (old, new) = (table.hold(1).unwrap(), table.hold(2).unwrap().hand_over());
        drop(old.hand_over());
        assert!(old.hand_over().is_none());
        assert_eq!(table.take_released().collect::<Vec<_>>(), [1], "by the new handle");
        drop((old, new));
        assert_eq!(table.take_released().collect::<Vec<_>>(), [2], "and not again by the old one");
    }

    #[test]
    fn threads_release_while_the_list_is_taken() {
        const SLOTS: u32 = 64;
        let table = SlotTable::new(RingId::next(), SLOTS, 0);
        let (sender, receiver) = std::sync::mpsc::channel::<Slot>();
        let receiver = std::sync::Mutex::new(receiver);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let Ok(slot) = receiver.lock().unwrap().recv() else { return };
                        drop(slot);
                    }
                });
            }
            let mut free: Vec<u32> = (0..SLOTS).collect();
            for _ in 0..20_000 {
                while let Some(index) = free.pop() {
                    sender.send(table.hold(index).expect("it is free")).unwrap();
                }
                while !table.has_released() {
                    std::thread::yield_now();
                }
                free.extend(table.take_released());
            }
            drop(sender);
        });
        table.take_released().for_each(drop);
        assert!((0..SLOTS).all(|index| table.hold(index).is_some()), "none was lost");
    }
}
