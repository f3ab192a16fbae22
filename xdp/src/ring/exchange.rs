//! [`Exchange`]: from ring to ring.

use super::walk::{self, Go};
use super::{Consumer, Entries, Memory, Producer, Reserved, Slots as _};

/// What becomes of an entry.
#[derive(Debug)]
pub(crate) enum Step<E> {
    /// It was taken, and this one is written into the other ring.
    Give(E),
    /// It was taken.
    Take,
    /// It stays, and so do those behind it.
    Stay,
}

/// Entries of a ring, and a place in another ring for each. Like [`Entries`] and [`Reserved`], those that were
/// taken and those that were written count when this is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Exchange<'a, A: Memory, B: Memory> {
    from: Entries<'a, A>,
    into: Reserved<'a, B>,
}

impl<'a, A: Memory, B: Memory> Exchange<'a, A, B> {
    /// Up to `most` entries, as far as there are places.
    #[inline]
    pub(crate) fn new(from: &'a mut Consumer<A>, into: &'a mut Producer<B>, most: u32) -> Self {
        let mut from = from.entries(most);
        from.limit(most);
        let into = into.reserve(from.left());
        Self { from, into }
    }

    /// Shows each entry to `f`, in order, which says what becomes of it. One that `f` panics over was taken.
    #[inline]
    pub(crate) fn each(&mut self, mut f: impl FnMut(A::Entry) -> Step<B::Entry>) {
        let Self { from, into } = self;
        let (read, written) = (from.slots(), into.slots());
        walk::together(&mut from.walk, &mut into.walk, |entry, place| {
            // SAFETY: the memory is there, for the ring is borrowed; the place is one of the walk's, as for
            // `Entries::next`.
            let entry = unsafe { read.read(entry) };
            match f(entry) {
                Step::Give(entry) => {
                    // SAFETY: the same, as for `Reserved::push`; the walk goes on behind it.
                    unsafe { written.write(place, entry) };
                    Go::Both
                }
                Step::Take => Go::First,
                Step::Stay => Go::Nowhere,
            }
        });
    }

    /// Entries that were taken.
    #[inline]
    pub(crate) fn taken(&self) -> u32 {
        self.from.taken()
    }

    /// Entries that were written.
    #[inline]
    pub(crate) fn written(&self) -> u32 {
        self.into.written()
    }
}
