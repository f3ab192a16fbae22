//! Places for operations of any type.
//!
//! A place stores a value inline when it fits, so that starting an operation allocates nothing, and
//! in a box when it does not. Relies on the `TypeId` in the vtable: a value is only ever read as the
//! type that it was stored as. A place never moves (the slab guarantees it), so a value has one
//! address from [`Payload::store`] to [`Payload::take`].

use std::any::TypeId;
use std::fmt;
use std::mem::{MaybeUninit, align_of, size_of};

use crate::op::sealed::Prepare;
use crate::ring::Cqe;

/// Words of inline storage: a read or a send with its buffer, descriptor and address.
const WORDS: usize = 12;

type Words = MaybeUninit<[u64; WORDS]>;

/// A place for one operation.
pub(crate) struct Payload {
    stored: Option<&'static VTable>,
    words: Words,
}

struct VTable {
    type_id: fn() -> TypeId,
    drop: unsafe fn(*mut Words),
    discard: unsafe fn(*mut Words, Cqe),
}

// SAFETY: a place holds what was stored through `Payload::store`. Places live in the state of one
// ring: that of a `Local` ring never leaves its thread (it is behind an `Rc`), and a `Shared` ring
// accepts only operations that are `Send` (the `OwnedBy<Shared>` bound).
unsafe impl Send for Payload {}

impl Payload {
    pub(crate) const fn empty() -> Self {
        Self { stored: None, words: MaybeUninit::uninit() }
    }

    /// Stores `value` and returns it at the address that it keeps until it is taken.
    pub(crate) fn store<T: Prepare>(&mut self, value: T) -> &mut T {
        debug_assert!(self.stored.is_none(), "the place is taken");
        if fits::<T>() {
            let place = self.words.as_mut_ptr().cast::<T>();
            // SAFETY: `fits` checked size and alignment of `T` against the words.
            unsafe { place.write(value) };
            self.stored = Some(&Inline::<T>::VTABLE);
            // SAFETY: written just above; exclusive through `&mut self`.
            unsafe { &mut *place }
        } else {
            let place = self.words.as_mut_ptr().cast::<Box<T>>();
            // SAFETY: a box is one word, aligned like one.
            unsafe { place.write(Box::new(value)) };
            self.stored = Some(&Boxed::<T>::VTABLE);
            // SAFETY: written just above; exclusive through `&mut self`.
            unsafe { &mut *place }
        }
    }

    /// Takes the value out, if it is a `T`.
    pub(crate) fn take<T: Prepare>(&mut self) -> Option<T> {
        self.check::<T>()?;
        self.stored = None;
        if fits::<T>() {
            // SAFETY: `check` found a `T`, which `store` put inline; clearing `stored` above makes
            // this the only owner.
            Some(unsafe { self.words.as_ptr().cast::<T>().read() })
        } else {
            // SAFETY: as above, with the box that `store` put there.
            Some(*unsafe { self.words.as_ptr().cast::<Box<T>>().read() })
        }
    }

    /// Moves the value, whatever it is, to another place.
    pub(crate) fn evict(&mut self) -> Self {
        std::mem::replace(self, Self::empty())
    }

    /// Tells the value about a completion that nobody will take.
    pub(crate) fn discard(&mut self, cqe: Cqe) {
        if let Some(vtable) = self.stored {
            // SAFETY: the vtable was made for the type of the value that is stored.
            unsafe { (vtable.discard)(&raw mut self.words, cqe) };
        }
    }

    fn check<T: Prepare>(&self) -> Option<()> {
        (self.stored.map(|vtable| (vtable.type_id)()) == Some(TypeId::of::<T>())).then_some(())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(vtable) = self.stored.take() {
            // SAFETY: the vtable was made for the type of the value that is stored, and taking it
            // makes this the only drop.
            unsafe { (vtable.drop)(&raw mut self.words) };
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("stored", &self.stored.is_some()).finish_non_exhaustive()
    }
}

const fn fits<T>() -> bool {
    size_of::<T>() <= size_of::<Words>() && align_of::<T>() <= align_of::<Words>()
}

struct Inline<T>(std::marker::PhantomData<T>);
struct Boxed<T>(std::marker::PhantomData<T>);

impl<T: Prepare> Inline<T> {
    const VTABLE: VTable = VTable {
        type_id: TypeId::of::<T>,
        // SAFETY: called on words that hold a `T` which is not used afterwards.
        drop: |words| unsafe { words.cast::<T>().drop_in_place() },
        discard: |words, cqe| {
            // SAFETY: called on words that hold a `T`, exclusively.
            let value = unsafe { &mut *words.cast::<T>() };
            value.discard(cqe);
        },
    };
}

impl<T: Prepare> Boxed<T> {
    const VTABLE: VTable = VTable {
        type_id: TypeId::of::<T>,
        // SAFETY: called on words that hold a `Box<T>` which is not used afterwards.
        drop: |words| unsafe { words.cast::<Box<T>>().drop_in_place() },
        discard: |words, cqe| {
            // SAFETY: called on words that hold a `Box<T>`, exclusively.
            let value = unsafe { &mut *words.cast::<Box<T>>() };
            value.discard(cqe);
        },
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingId;
    use io_uring::{opcode, squeue};
    use std::rc::Rc;

    /// Counts itself, fills `N` words and is told of discarded completions.
    struct Probe<const N: usize> {
        alive: Rc<()>,
        discarded: Vec<i32>,
        ballast: [u64; N],
    }

    // SAFETY: a nop has no pointers.
    unsafe impl<const N: usize> Prepare for Probe<N> {
        fn target(&self) -> Option<&crate::op::Target> {
            None
        }
        fn entry(&mut self, _ring: RingId) -> squeue::Entry {
            opcode::Nop::new().build()
        }
        fn discard(&mut self, cqe: Cqe) {
            self.discarded.push(cqe.result);
        }
    }

    fn probe<const N: usize>(alive: &Rc<()>) -> Probe<N> {
        Probe { alive: Rc::clone(alive), discarded: Vec::new(), ballast: [7; N] }
    }

    fn stores_takes_and_drops<const N: usize>() {
        let alive = Rc::new(());
        let mut place = Payload::empty();
        place.store(probe::<N>(&alive));
        assert!(place.take::<Probe<99>>().is_none(), "another type");
        place.discard(Cqe { result: 5, flags: 0 });
        let out = place.take::<Probe<N>>().unwrap();
        assert_eq!(out.discarded, [5]);
        assert_eq!(out.ballast, [7; N]);
        assert_eq!(Rc::strong_count(&out.alive), 2);
        assert!(place.take::<Probe<N>>().is_none(), "taken twice");
        drop((out, place));
        assert_eq!(Rc::strong_count(&alive), 1);

        let mut place = Payload::empty();
        place.store(probe::<N>(&alive));
        let moved = place.evict();
        drop(place);
        assert_eq!(Rc::strong_count(&alive), 2);
        drop(moved);
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn small_values_live_inline() {
        const { assert!(fits::<Probe<2>>()) };
        stores_takes_and_drops::<2>();
    }

    #[test]
    fn large_values_live_in_a_box() {
        const { assert!(!fits::<Probe<40>>()) };
        stores_takes_and_drops::<40>();
    }
}
