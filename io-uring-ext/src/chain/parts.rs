//! What a chain is made of: operations of different types, each in its place.

use io_uring::squeue::Flags;

use super::summary::Tally;
use crate::op::{Completions, Limit, Operation, When};
use crate::ring::RingId;
use crate::ring::key::Key;
use crate::ring::state::State;
use crate::ring::state::chain::Role;

/// How a member hangs on the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Runs if that one succeeded.
    Soft,
    /// Runs in any case.
    Hard,
}

/// One operation in a chain.
#[derive(Debug)]
pub struct One<T> {
    operation: T,
    link: Link,
    limit: Option<When>,
}

/// Many operations of one type in a chain.
#[derive(Debug)]
pub struct Each<T> {
    operations: Vec<T>,
    link: Link,
    limit: Option<When>,
}

impl<T> One<T> {
    pub(super) fn new(operation: T, link: Link) -> Self {
        Self { operation, link, limit: None }
    }
}

impl<T> Each<T> {
    pub(super) fn new(operations: Vec<T>, link: Link) -> Self {
        Self { operations, link, limit: None }
    }
}

/// A member in the ring's slab, with its time limit.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub(super) key: Key,
    pub(super) limit: Option<Key>,
    /// How it hangs on the one before.
    pub(super) link: Link,
}

/// The operations of a [`Chain`](super::Chain): a tuple of [`One`] and [`Each`].
pub trait Parts: sealed::Parts<Output: Sized> {}
impl<P: sealed::Parts> Parts for P {}

pub(crate) use sealed::{Grow, Last, Part};

mod sealed {
    use super::{Completions, Member, RingId, Sequence, Taker, When};

    /// An element of the tuple.
    pub trait Part: 'static {
        type Output;
        type Operations;
        type Keys: AsRef<[Member]>;

        fn entries(&self) -> usize;
        fn belongs_to(&self, ring: RingId) -> bool;
        fn start(self, sequence: &mut Sequence<'_>) -> Self::Keys;
        fn take(keys: &Self::Keys, taker: &mut Taker<'_>) -> Option<Self::Taken>;
        /// Operations taken out of the slab, to be completed without the lock.
        type Taken;
        fn complete(taken: Self::Taken) -> Self::Output;
        fn into_operations(self) -> Self::Operations;
        fn limit(&mut self, limit: When);
    }

    /// The tuple.
    pub trait Parts: Sized + 'static {
        type Output;
        type Operations;
        type Keys;
        type Taken;

        fn entries(&self) -> usize;
        fn belong_to(&self, ring: RingId) -> bool;
        fn start(self, sequence: &mut Sequence<'_>) -> Self::Keys;
        fn each(keys: &Self::Keys, visit: &mut dyn FnMut(&Member));
        fn take(keys: &Self::Keys, taker: &mut Taker<'_>) -> Option<Self::Taken>;
        fn complete(taken: Self::Taken) -> Self::Output;
        fn into_operations(self) -> Self::Operations;
    }

    /// A tuple that is not full.
    pub trait Grow<T> {
        type Grown;
        fn grow(self, part: T) -> Self::Grown;
    }

    /// A tuple with a last element.
    pub trait Last {
        fn limit(&mut self, limit: When);
    }

    pub(crate) type Completed<T> = (T, Completions);
}

/// Where the members go, one after the other.
#[doc(hidden)]
#[derive(Debug)]
pub struct Sequence<'a> {
    state: &'a mut State,
    last: Option<Key>,
    /// The entry of the last member; its time limit comes behind it.
    last_entry: usize,
    finished: bool,
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.state.take_members_back();
        }
    }
}

impl<'a> Sequence<'a> {
    pub(crate) fn new(state: &'a mut State) -> Self {
        Self { state, last: None, last_entry: 0, finished: false }
    }

    /// All members have been added.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }

    fn add<T: Operation>(&mut self, operation: T, link: Link, limit: Option<When>) -> Member {
        if self.last.is_some() {
            let flags = match link {
                Link::Soft => Flags::IO_LINK,
                Link::Hard => Flags::IO_HARDLINK,
            };
            self.state.mark_members(self.last_entry, flags);
        }
        self.last_entry = self.state.members();
        let key = self.state.add_member(operation, Role::Member { after: self.last });
        let limit = limit.map(|limit| {
            self.state.mark_members(self.last_entry, Flags::IO_LINK);
            self.state.add_member(Limit(limit), Role::Limit { of: key })
        });
        self.last = Some(key);
        Member { key, limit, link }
    }
}

/// Where the members come from when all are done.
#[doc(hidden)]
#[derive(Debug)]
pub struct Taker<'a> {
    pub(super) state: &'a mut State,
    pub(super) tally: Tally,
}

/// Takes one member out, with what there is to say about it.
fn take<T: Operation>(member: &Member, taker: &mut Taker<'_>) -> Option<(T, Completions)> {
    let Taker { state, tally } = taker;
    let mut completions = Completions::default();
    let ended = state.member_end(member.key);
    let limit = member.limit.and_then(|limit| {
        let mut completions = Completions::default();
        state.take::<Limit>(limit, &mut completions)?;
        completions.first()
    });
    let operation = state.take::<T>(member.key, &mut completions)?;
    tally.member(ended, completions.first(), limit, member.link);
    Some((operation, completions))
}

impl<T: Operation> Part for One<T> {
    type Output = T::Output;
    type Operations = T;
    type Keys = [Member; 1];
    type Taken = sealed::Completed<T>;

    fn entries(&self) -> usize {
        1 + usize::from(self.limit.is_some())
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        belongs_to(&self.operation, ring)
    }

    fn start(self, sequence: &mut Sequence<'_>) -> [Member; 1] {
        [sequence.add(self.operation, self.link, self.limit)]
    }

    fn take(keys: &[Member; 1], taker: &mut Taker<'_>) -> Option<Self::Taken> {
        take(&keys[0], taker)
    }

    fn complete((operation, completions): Self::Taken) -> T::Output {
        operation.complete(completions)
    }

    fn into_operations(self) -> T {
        self.operation
    }

    fn limit(&mut self, limit: When) {
        self.limit = Some(limit);
    }
}

impl<T: Operation> Part for Each<T> {
    type Output = Vec<T::Output>;
    type Operations = Vec<T>;
    type Keys = Vec<Member>;
    type Taken = Vec<sealed::Completed<T>>;

    fn entries(&self) -> usize {
        self.operations.len() * (1 + usize::from(self.limit.is_some()))
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.operations.iter().all(|operation| belongs_to(operation, ring))
    }

    fn start(self, sequence: &mut Sequence<'_>) -> Vec<Member> {
        let Self { operations, link, limit } = self;
        let links = std::iter::once(link).chain(std::iter::repeat(Link::Soft));
        let add = |(operation, link)| sequence.add(operation, link, limit);
        operations.into_iter().zip(links).map(add).collect()
    }

    fn take(keys: &Vec<Member>, taker: &mut Taker<'_>) -> Option<Self::Taken> {
        keys.iter().map(|member| take(member, taker)).collect()
    }

    fn complete(taken: Self::Taken) -> Vec<T::Output> {
        let complete = |(operation, completions): (T, _)| operation.complete(completions);
        taken.into_iter().map(complete).collect()
    }

    fn into_operations(self) -> Vec<T> {
        self.operations
    }

    fn limit(&mut self, limit: When) {
        self.limit = Some(limit);
    }
}

fn belongs_to<T: Operation>(operation: &T, ring: RingId) -> bool {
    operation.target().is_none_or(|target| target.belongs_to(ring)) && operation.belongs_to(ring)
}

macro_rules! tuples {
    ($($part:ident $n:tt)+ ; $($next:ident $next_n:tt)*) => {
        impl<$($part: Part),+> sealed::Parts for ($($part,)+) {
            type Output = ($($part::Output,)+);
            type Operations = ($($part::Operations,)+);
            type Keys = ($($part::Keys,)+);
            type Taken = ($($part::Taken,)+);

            fn entries(&self) -> usize {
                0 $(+ self.$n.entries())+
            }

            fn belong_to(&self, ring: RingId) -> bool {
                $(self.$n.belongs_to(ring))&&+
            }

            fn start(self, sequence: &mut Sequence<'_>) -> Self::Keys {
                ($(self.$n.start(sequence),)+)
            }

            fn each(keys: &Self::Keys, visit: &mut dyn FnMut(&Member)) {
                $(keys.$n.as_ref().iter().for_each(&mut *visit);)+
            }

            fn take(keys: &Self::Keys, taker: &mut Taker<'_>) -> Option<Self::Taken> {
                Some(($($part::take(&keys.$n, taker)?,)+))
            }

            fn complete(taken: Self::Taken) -> Self::Output {
                ($($part::complete(taken.$n),)+)
            }

            fn into_operations(self) -> Self::Operations {
                ($(self.$n.into_operations(),)+)
            }
        }

        tuples!(@last ($($part)+) $($n)+);
        tuples!(@grow ($($part $n)+) $($next $next_n)*);
    };
    (@last ($($part:ident)+) $n:tt) => {
        impl<$($part: Part),+> Last for ($($part,)+) {
            fn limit(&mut self, limit: When) {
                self.$n.limit(limit);
            }
        }
    };
    (@last $parts:tt $first:tt $($n:tt)+) => {
        tuples!(@last $parts $($n)+);
    };
    (@grow ($($part:ident $n:tt)+)) => {};
    (@grow ($($part:ident $n:tt)+) $next:ident $next_n:tt $($rest:ident $rest_n:tt)*) => {
        impl<$($part,)+ $next> Grow<$next> for ($($part,)+) {
            type Grown = ($($part,)+ $next,);
            fn grow(self, part: $next) -> Self::Grown {
                ($(self.$n,)+ part,)
            }
        }
        tuples!($($part $n)+ $next $next_n ; $($rest $rest_n)*);
    };
}

tuples!(A 0 ; B 1 C 2 D 3 E 4 F 5 G 6 H 7);
