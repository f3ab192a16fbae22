//! [`Consumer`]: the side that reads entries.

use bypass_core::Occupancy;

use super::walk::Walk;
use super::{Memory, Slots as _};

/// The reading side of a ring: completion and RX in the application.
#[derive(Debug)]
pub(crate) struct Consumer<M> {
    memory: M,
    /// The next entry to read. The copy in shared memory is written, never read.
    tail: u32,
    /// How far the producer was when this was last looked up.
    head: u32,
}

impl<M: Memory> Consumer<M> {
    /// The consumer of a ring in which nothing was ever done, or of one that is taken over.
    pub(crate) fn new(memory: M) -> Self {
        let (head, tail) = (memory.producer(), memory.consumer());
        Self { memory, tail, head }
    }

    /// All entries that there are, looked up again when fewer than `want` are known of. Those that were
    /// read go back to the producer when the guard goes.
    #[inline]
    pub(crate) fn entries(&mut self, want: u32) -> Entries<'_, M> {
        if self.known() < want {
            self.look_up();
        }
        let next = self.tail;
        let end = next.wrapping_add(self.known());
        Entries { walk: Walk::new(self.memory.slots(), self.memory.size(), next, end), ring: self }
    }

    /// Looks up what there is to read.
    #[inline]
    pub(crate) fn look_up(&mut self) {
        self.head = self.memory.producer();
    }

    /// Whether it is known of entries to read.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.known() > 0
    }

    /// Whether there is nothing to read.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.tail == self.head && self.tail == self.memory.producer()
    }

    /// How full the ring is.
    pub(crate) fn occupancy(&self) -> Occupancy {
        let size = self.memory.size();
        let used = self.memory.producer().wrapping_sub(self.tail).min(size);
        Occupancy { used: used.into(), size: size.into() }
    }

    /// Entries to read, as far as is known; no more than the ring holds, whatever the producer claims.
    #[inline]
    fn known(&self) -> u32 {
        self.head.wrapping_sub(self.tail).min(self.memory.size())
    }
}

/// Entries of a ring, in order. Those that were taken are given back together when this is dropped,
/// also by a panic; the others are there the next time.
#[derive(Debug)]
pub(crate) struct Entries<'a, M: Memory> {
    ring: &'a mut Consumer<M>,
    pub(super) walk: Walk<M::Slots>,
}

impl<M: Memory> Entries<'_, M> {
    /// Where the entries are.
    #[inline]
    pub(super) fn slots(&self) -> M::Slots {
        self.ring.memory.slots()
    }

    /// Entries that are left.
    #[inline]
    pub(crate) fn left(&self) -> u32 {
        self.walk.left()
    }

    /// Entries that were taken.
    #[inline]
    pub(crate) fn taken(&self) -> u32 {
        self.walk.cursor().wrapping_sub(self.ring.tail)
    }

    /// Leaves all but the next `most` where they are.
    #[inline]
    pub(crate) fn limit(&mut self, most: u32) {
        self.walk.set_left(self.left().min(most));
    }

    /// The next entry, if it is one of those that are `wanted`; else it stays.
    #[inline]
    pub(crate) fn next_if(&mut self, wanted: impl FnOnce(&M::Entry) -> bool) -> Option<M::Entry> {
        let place = self.walk.peek()?;
        // SAFETY: the memory is there, for the ring is borrowed; the place is inside the ring (see the head of
        // `walk`), and of a cursor before the walk's end, of which the producer had published the entry when
        // its cursor was looked up; it gets it back when this guard goes, not before.
        let entry = unsafe { self.walk.slots().read(place) };
        if !wanted(&entry) {
            return None;
        }
        self.walk.step();
        Some(entry)
    }
}

impl<M: Memory> Iterator for Entries<'_, M> {
    type Item = M::Entry;

    #[inline]
    fn next(&mut self) -> Option<M::Entry> {
        self.next_if(|_| true)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left() as usize, Some(self.left() as usize))
    }
}

impl<M: Memory> Drop for Entries<'_, M> {
    #[inline]
    fn drop(&mut self) {
        let next = self.walk.cursor();
        if next != self.ring.tail {
            self.ring.tail = next;
            self.ring.memory.set_consumer(next);
        }
    }
}
