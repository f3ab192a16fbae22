//! The tables of fixed files and registered buffers: which slot is free, and when it is again.
//!
//! A slot that nobody holds is emptied in the kernel, in a call of the ring. It is given out again, and
//! memory that was in it is freed, when no resource that was in it is in use any more: each carries a
//! tag, whose completion says so. What the kernel itself installed (an accepted connection, a buffer
//! cloned from another ring) has no tag; there the kernel's answer to the emptying is all that there is
//! to wait for.

mod buffers;
mod files;

use std::sync::{Arc, Weak};

use super::State;
use crate::fixed::{Registrations, Slot, SlotTable};
use crate::ring::key::{self, Key, Kind};
use crate::sys::arena::Arena;

/// One table, as the ring sees it.
#[derive(Debug)]
pub(super) struct Table {
    slots: Arc<SlotTable>,
    kind: Kind,
    /// Tells its tags from those of an earlier table.
    generation: u32,
    /// Slots to give out; those among which the kernel chooses are never here.
    free: Vec<u32>,
    /// What is known of each slot.
    entries: Box<[Entry]>,
    /// Slots that are being emptied; between calls there are none.
    emptying: Vec<u32>,
    /// How often something has been registered, replaced or removed.
    changes: u64,
}

#[derive(Debug, Default)]
struct Entry {
    /// Resources that have been in the slot and whose tags have not come.
    tags: u32,
    /// Nobody holds it and it has been emptied: free when all tags have come.
    emptied: bool,
    /// Registered memory: what is in the slot last, before it what the kernel may still use.
    memory: Vec<Arc<Arena>>,
    /// Whose memory is in the slot.
    owner: Weak<Registrations>,
}

impl Table {
    fn new(slots: Arc<SlotTable>, kind: Kind, generation: u32) -> Self {
        let len = slots.len();
        Self {
            free: (0..slots.own()).rev().collect(),
            slots,
            kind,
            generation,
            entries: std::iter::repeat_with(Entry::default).take(len).collect(),
            emptying: Vec::with_capacity(len),
            changes: 0,
        }
    }

    /// Nobody else knows it, so nobody can use it any more.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.slots) == 1
    }

    fn reserve(&mut self) -> Option<Slot> {
        // A slot that could not be held again is left out: it was never given back.
        std::iter::from_fn(|| self.free.pop()).find_map(|index| self.slots.hold(index))
    }

    /// The tag of the next resource in a slot.
    fn tag(&self, index: u32) -> u64 {
        key::encode(self.kind, Key { index, generation: self.generation })
    }

    /// The kernel has taken a resource with a tag into the slot.
    fn installed(&mut self, index: u32) -> &mut Entry {
        self.changes += 1;
        let entry = &mut self.entries[index as usize];
        entry.tags += 1;
        entry
    }

    /// Nobody holds the slot, and the kernel has let go of what was in it, but for what is in flight.
    fn emptied(&mut self, index: u32) {
        self.changes += 1;
        // The kernel gives out its own slots itself.
        if index < self.slots.own() {
            self.entries[index as usize].emptied = true;
            self.settle(index);
        }
    }

    fn tag_came(&mut self, key: Key) {
        if key.generation == self.generation
            && let Some(entry) = self.entries.get_mut(key.index as usize)
        {
            entry.tags = entry.tags.saturating_sub(1);
            self.settle(key.index);
        }
    }

    /// Frees what the kernel is done with.
    fn settle(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        if entry.emptied && entry.tags == 0 {
            entry.emptied = false;
            entry.memory.clear();
            self.free.push(index);
        } else if !entry.emptied && entry.tags <= 1 {
            // At most the tag of what is in the slot is to come.
            entry.memory.drain(..entry.memory.len().saturating_sub(1));
        }
    }

    /// Empties the released slots by `empty`, which gets runs of neighbours and says how many of one
    /// were done. A slot that cannot be emptied is never given out again.
    fn release(&mut self, mut empty: impl FnMut(u32, usize) -> std::io::Result<usize>) {
        let mut emptying = std::mem::take(&mut self.emptying);
        emptying.extend(self.slots.take_released());
        emptying.sort_unstable();
        let mut rest = &emptying[..];
        while let Some(first) = rest.first().copied() {
            let run = rest.iter().zip(first..).take_while(|(slot, next)| *slot == next).count();
            let done = empty(first, run).unwrap_or(0).min(run);
            rest[..done].iter().for_each(|index| self.emptied(*index));
            rest = &rest[done.max(1)..];
        }
        emptying.clear();
        self.emptying = emptying;
    }
}

impl State {
    /// Empties the slots that nobody holds any more, and gives up a table that nobody knows.
    #[inline]
    pub(super) fn release_slots(&mut self) {
        let is_due = |table: &Option<Table>| {
            table.as_ref().is_some_and(|table| table.slots.has_released() || table.is_unused())
        };
        if is_due(&self.files) {
            self.release_files();
        }
        if is_due(&self.buffers) {
            self.release_buffers();
        }
    }

    /// The kernel is done with a resource.
    pub(super) fn tag_came(&mut self, kind: Kind, key: Key) {
        let table = match kind {
            Kind::File => &mut self.files,
            Kind::Buffer => &mut self.buffers,
            _ => return,
        };
        if let Some(table) = table {
            table.tag_came(key);
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.table_generation = self.table_generation.wrapping_add(1);
        self.table_generation
    }

    /// Takes the tags that have come, where this is not left to another thread.
    fn look_for_tags(&mut self) {
        self.release_slots();
        if !self.led {
            self.reap();
        }
    }

    /// Gives up the tables, with nothing in flight: files close, and memory is unpinned.
    pub(super) fn close_tables(&mut self) {
        // Should these fail, it happens with the end of the ring's descriptor.
        if self.files.take().is_some() {
            let _ = self.uring.submitter().unregister_files();
        }
        if self.buffers.is_some() {
            let _ = self.uring.submitter().unregister_buffers();
            self.buffers = None;
        }
    }

    /// Gives up the tables, with something in flight that may never end: registered memory is leaked.
    pub(super) fn leak_tables(&mut self) {
        self.files = None;
        std::mem::forget(self.buffers.take());
    }
}
