//! [`Producer`]: the side that writes entries.

use bypass_core::Occupancy;

use super::walk::Walk;
use super::{Memory, Slots as _};

/// The kernel sleeps until it is called (`XDP_RING_NEED_WAKEUP`, Linux 5.4).
const NEED_WAKEUP: u32 = 1 << 0;

/// The writing side of a ring: fill and TX in the application.
#[derive(Debug)]
pub(crate) struct Producer<M> {
    memory: M,
    /// Where the next entry goes. The copy in shared memory is written, never read.
    head: u32,
    /// How far the consumer was when this was last looked up.
    tail: u32,
}

impl<M: Memory> Producer<M> {
    /// The producer of a ring in which nothing was ever done, or of one that is taken over.
    pub(crate) fn new(memory: M) -> Self {
        let (head, tail) = (memory.producer(), memory.consumer());
        Self { memory, head, tail }
    }

    pub(crate) fn size(&self) -> u32 {
        self.memory.size()
    }

    /// All free places, looked up again when fewer than `want` are known of. What is written into them
    /// reaches the consumer when the guard goes.
    #[inline]
    pub(crate) fn reserve(&mut self, want: u32) -> Reserved<'_, M> {
        if self.known_room() < want {
            self.tail = self.memory.consumer();
        }
        let next = self.head;
        let end = next.wrapping_add(self.known_room());
        Reserved { walk: Walk::new(self.memory.slots(), self.memory.size(), next, end), ring: self }
    }

    /// Takes the last `n` entries out again, unless the consumer has taken some of the ring.
    pub(crate) fn retract(&mut self, n: u32) {
        let head = self.head.wrapping_sub(n);
        if self.memory.consumer() == head {
            self.head = head;
            self.memory.set_producer(head);
        }
    }

    /// Entries that the consumer has not taken yet.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        self.head.wrapping_sub(self.memory.consumer()).min(self.size())
    }

    /// How full the ring is.
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy { used: self.waiting().into(), size: self.size().into() }
    }

    /// How far the consumer is.
    pub(crate) fn consumed(&self) -> u32 {
        self.memory.consumer()
    }

    /// Whether the consumer has to be called to go on.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.memory.flags() & NEED_WAKEUP != 0
    }

    /// The entry in front of `cursor`, as it was written; the consumer only reads it.
    pub(crate) fn written_before(&self, cursor: u32) -> M::Entry {
        let slots = self.memory.slots();
        // SAFETY: the memory is there, and nobody writes to the ring but this side, which is borrowed and
        // not writing.
        unsafe { slots.read(slots.place(cursor.wrapping_sub(1))) }
    }

    /// Places that are free, as far as is known; none, should the consumer claim the impossible.
    #[inline]
    fn known_room(&self) -> u32 {
        self.size().saturating_sub(self.head.wrapping_sub(self.tail))
    }
}

/// Free places of a ring. Entries are published together when this is dropped, also by a panic; of
/// those that were reserved and not written nothing is seen.
#[derive(Debug)]
pub(crate) struct Reserved<'a, M: Memory> {
    ring: &'a mut Producer<M>,
    pub(super) walk: Walk<M::Slots>,
}

impl<M: Memory> Reserved<'_, M> {
    /// Where the entries are.
    #[inline]
    pub(super) fn slots(&self) -> M::Slots {
        self.ring.memory.slots()
    }

    /// Places that are left.
    #[inline]
    pub(crate) fn left(&self) -> u32 {
        self.walk.left()
    }

    /// Entries that were written.
    #[inline]
    pub(crate) fn written(&self) -> u32 {
        self.walk.cursor().wrapping_sub(self.ring.head)
    }

    /// Whether `want` places are left, looked up again when fewer are known of.
    #[inline]
    pub(crate) fn has(&mut self, want: u32) -> bool {
        if self.left() < want {
            self.ring.tail = self.ring.memory.consumer();
            let used = self.walk.cursor().wrapping_sub(self.ring.tail);
            self.walk.set_left(self.ring.size().saturating_sub(used));
        }
        self.left() >= want
    }

    /// Writes the next entry; false when there is no place.
    #[inline]
    pub(crate) fn push(&mut self, entry: M::Entry) -> bool {
        let Some(place) = self.walk.step() else { return false };
        // SAFETY: the memory is there, for the ring is borrowed; the place is inside the ring (see the head of
        // `walk`), and of a cursor before the walk's end, so one of those that were free when they were
        // reserved, and none of those was published since.
        unsafe { self.walk.slots().write(place, entry) };
        true
    }
}

impl<M: Memory> Drop for Reserved<'_, M> {
    #[inline]
    fn drop(&mut self) {
        let next = self.walk.cursor();
        if next != self.ring.head {
            self.ring.head = next;
            self.ring.memory.set_producer(next);
        }
    }
}
