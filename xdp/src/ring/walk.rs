//! [`Walk`]: from entry to entry.
//!
//! # What the unsafe code of its users relies on
//!
//! `at..run_end` lies side by side inside the ring and is the places of the cursors before `run_end_cursor`.
//! Only `turn` begins a stretch, from a masked cursor and no further than the ring's end, so each place of
//! [`step`](Walk::step), and of [`together`], is one of the ring's: that of a cursor from where the walk began
//! to `end`, exclusive.

use super::Slots;

/// A way over entries of a ring. It knows how far the next ones lie side by side, so that a step is an addition
/// and a comparison.
#[derive(Debug)]
pub(super) struct Walk<S: Slots> {
    slots: S,
    at: S::Place,
    /// Behind the last one that lies beside the others, which is the entry of this cursor.
    run_end: S::Place,
    run_end_cursor: u32,
    /// The first cursor that is not on the way.
    end: u32,
    size: u32,
}

impl<S: Slots> Walk<S> {
    /// Over the entries from `next` to `end`, exclusive.
    #[inline]
    pub(super) fn new(slots: S, size: u32, next: u32, end: u32) -> Self {
        let at = slots.place(next);
        Self { slots, at, run_end: at, run_end_cursor: next, end, size }
    }

    /// The cursor of the next entry.
    #[inline]
    pub(super) fn cursor(&self) -> u32 {
        self.run_end_cursor.wrapping_sub(S::between(self.at, self.run_end))
    }

    /// Entries that are left.
    #[inline]
    pub(super) fn left(&self) -> u32 {
        self.end.wrapping_sub(self.cursor())
    }

    /// Ends the way `left` entries from here.
    #[inline]
    pub(super) fn set_left(&mut self, left: u32) {
        let next = self.cursor();
        self.end = next.wrapping_add(left);
        (self.run_end, self.run_end_cursor) = (self.at, next);
    }

    /// The place of the next entry.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<S::Place> {
        if self.at == self.run_end {
            self.turn();
            if self.at == self.run_end {
                return None;
            }
        }
        Some(self.at)
    }

    /// The place of the next entry, which is behind now.
    #[inline]
    pub(super) fn step(&mut self) -> Option<S::Place> {
        let place = self.peek()?;
        self.at = S::ahead(place, 1);
        Some(place)
    }

    #[inline]
    pub(super) fn slots(&self) -> &S {
        &self.slots
    }

    /// How many of the next entries lie side by side.
    #[inline]
    fn run(&mut self) -> u32 {
        if self.at == self.run_end {
            self.turn();
        }
        S::between(self.at, self.run_end)
    }

    /// From the end of a run to the next one, if there is one.
    #[inline]
    fn turn(&mut self) {
        let next = self.run_end_cursor;
        let run = self.end.wrapping_sub(next).min(self.size - (next & (self.size - 1)));
        if run > 0 {
            self.at = self.slots.place(next);
            self.run_end = S::ahead(self.at, run);
            self.run_end_cursor = next.wrapping_add(run);
        }
    }
}

/// Where to go on from a place of each of two walks.
pub(super) enum Go {
    Both,
    First,
    Nowhere,
}

/// Two walks at once: `f` is shown the next place of each, and says which of them goes on. Where both have
/// entries side by side there is one comparison for both: the second is never ahead of the first.
#[inline]
pub(super) fn together<A: Slots, B: Slots>(
    first: &mut Walk<A>,
    second: &mut Walk<B>,
    mut f: impl FnMut(A::Place, B::Place) -> Go,
) {
    loop {
        let run = first.run().min(second.run());
        if run == 0 {
            return;
        }
        let stop = A::ahead(first.at, run);
        while first.at != stop {
            let places = (first.at, second.at);
            first.at = A::ahead(places.0, 1);
            match f(places.0, places.1) {
                Go::Both => second.at = B::ahead(places.1, 1),
                Go::First => {}
                Go::Nowhere => {
                    first.at = places.0;
                    return;
                }
            }
        }
    }
}
