//! A burst against a `VecDeque`, with every destructor counted, and with code that panics.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::OutOfRoom;

/// Who has been dropped, in order, and whose destructor panics.
#[derive(Clone, Default)]
struct Log {
    dropped: Rc<RefCell<Vec<u32>>>,
    fatal: Rc<Cell<Option<u32>>>,
}

impl Log {
    fn probe(&self, id: u32) -> Probe {
        Probe { id, log: self.clone() }
    }

    fn fill(&self, capacity: usize, ids: std::ops::Range<u32>) -> Burst<Probe> {
        let mut burst = Burst::with_capacity(capacity);
        ids.for_each(|id| burst.push(self.probe(id)).unwrap());
        burst
    }

    /// Who has been dropped since the last call, in ascending order.
    fn dropped(&self) -> Vec<u32> {
        let mut dropped = self.dropped.take();
        dropped.sort_unstable();
        dropped
    }
}

/// A buffer that tells when it is dropped.
struct Probe {
    id: u32,
    log: Log,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.log.dropped.borrow_mut().push(self.id);
        assert!(self.log.fatal.get() != Some(self.id), "the destructor of {} panics", self.id);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "probe {}", self.id)
    }
}

/// A buffer without bytes, for what a burst does.
macro_rules! without_bytes {
    ($buffer:ty $(, $own:item)?) => {
        impl Buffer for $buffer {
            $($own)?
            fn data(&self) -> &[u8] {
                &[]
            }
            fn data_mut(&mut self) -> &mut [u8] {
                &mut []
            }
            fn headroom(&self) -> usize {
                0
            }
            fn tailroom(&self) -> usize {
                0
            }
            fn prepend(&mut self, _: usize) -> Result<&mut [u8], OutOfRoom> {
                Ok(&mut [])
            }
            fn append(&mut self, _: usize) -> Result<&mut [u8], OutOfRoom> {
                Ok(&mut [])
            }
            fn trim_front(&mut self, _: usize) -> Result<(), OutOfRoom> {
                Ok(())
            }
            fn set_len(&mut self, _: usize) -> Result<(), OutOfRoom> {
                Ok(())
            }
        }
    };
}
without_bytes!(Probe);

fn ids(burst: &[Probe]) -> Vec<u32> {
    burst.iter().map(|probe| probe.id).collect()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    PushFront,
    PopFront,
    PopBack,
    /// Takes so many out, keeps so many of them, and drops the rest with the iterator.
    Drain(usize, usize),
    /// Takes so many out and passes so many of them on as they lie, as to a driver.
    Forget(usize, usize),
    AppendFrom(usize),
    AppendTo(usize),
    /// Appends as many of so many new ones as fit.
    FillFrom(usize),
    /// Keeps those whose number has no bit in common with this.
    Retain(u32),
    Truncate(usize),
    Clear,
    Fill(usize),
    Limit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..12_usize;
    let step = prop_oneof![
        4 => Just(Step::Push),
        2 => Just(Step::PushFront),
        3 => Just(Step::PopFront),
        1 => Just(Step::PopBack),
        1 => (n.clone(), n.clone()).prop_map(|(n, keep)| Step::Drain(n, keep)),
        1 => (n.clone(), n.clone()).prop_map(|(n, forget)| Step::Forget(n, forget)),
        2 => n.clone().prop_map(Step::AppendFrom),
        2 => n.clone().prop_map(Step::AppendTo),
        2 => n.clone().prop_map(Step::FillFrom),
        1 => (0..8_u32).prop_map(Step::Retain),
        1 => n.clone().prop_map(Step::Truncate),
        1 => Just(Step::Clear),
        2 => n.clone().prop_map(Step::Fill),
        1 => n.prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 0..80)
}

/// Runs the steps on two bursts and on two deques.
fn compare(capacities: [usize; 2], steps: &[Step]) {
    let log = Log::default();
    let [mut burst, mut other] = capacities.map(Burst::<Probe>::with_capacity);
    let [mut model, mut other_model] = capacities.map(VecDeque::<u32>::with_capacity);
    let mut limit = capacities[0];
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next
    };
    for &step in steps {
        let mut gone = Vec::new();
        let room = limit.saturating_sub(model.len());
        match step {
            Step::Push => {
                let id = fresh();
                match burst.push(log.probe(id)) {
                    Ok(()) => model.push_back(id),
                    Err(back) => gone.push(back.id),
                }
                assert_eq!(gone.len(), usize::from(room == 0));
            }
            Step::PushFront => {
                let id = fresh();
                match burst.push_front(log.probe(id)) {
                    Ok(()) => model.push_front(id),
                    Err(back) => gone.push(back.id),
                }
                let full = model.len() == capacities[0];
                assert!(gone.is_empty() || full, "the limit is not for what goes back");
            }
            Step::PopFront => {
                let got = burst.pop_front().map(|probe| probe.id);
                assert_eq!(got, model.pop_front());
                gone.extend(got);
            }
            Step::PopBack => {
                let got = burst.pop_back().map(|probe| probe.id);
                assert_eq!(got, model.pop_back());
                gone.extend(got);
            }
            Step::Drain(n, keep) => {
                gone.extend(model.drain(..n.min(model.len())));
                let mut drain = burst.drain(n);
                assert_eq!((drain.len(), ids(drain.as_slice())), (gone.len(), gone.clone()));
                for want in gone.iter().take(keep) {
                    assert_eq!(drain.next().map(|probe| probe.id).as_ref(), Some(want));
                }
            }
            Step::Forget(n, forget) => {
                let all: Vec<u32> = model.drain(..n.min(model.len())).collect();
                let mut drain = burst.drain(n);
                let passed_on = drain.forget(forget);
                let n = passed_on.len();
                assert_eq!(ids(passed_on), all[..forget.min(all.len())]);
                for probe in passed_on {
                    // SAFETY: it was forgotten, so this is its only owner, and reads it out once.
                    drop(unsafe { std::ptr::read(probe) });
                }
                assert_eq!(ids(drain.as_slice()), all[n..]);
                gone.extend(all);
            }
            Step::AppendFrom(n) => {
                let n = n.min(other_model.len()).min(room);
                assert_eq!(burst.append(&mut other, n), n);
                model.extend(other_model.drain(..n));
            }
            Step::AppendTo(n) => {
                let n = n.min(model.len()).min(capacities[1] - other_model.len());
                assert_eq!(other.append(&mut burst, n), n);
                other_model.extend(model.drain(..n));
            }
            Step::FillFrom(n) => {
                let mut made = Vec::new();
                let mut source = (0..n).map(|_| {
                    made.push(fresh());
                    log.probe(made[made.len() - 1])
                });
                let filled = burst.fill_from(source.by_ref());
                assert_eq!(filled, n.min(room));
                assert_eq!(source.count(), n - filled, "what does not fit is not taken");
                model.extend(&made[..filled]);
                gone.extend(&made[filled..]);
            }
            Step::Retain(mask) => {
                gone.extend(model.iter().filter(|&id| id & mask != 0));
                model.retain(|id| id & mask == 0);
                burst.retain(|probe| probe.id & mask == 0);
            }
            Step::Truncate(n) => {
                gone.extend(model.drain(n.min(model.len())..));
                burst.truncate(n);
            }
            Step::Clear => {
                gone.extend(model.drain(..));
                burst.clear();
            }
            Step::Fill(n) => {
                let spare = burst.spare();
                assert_eq!(spare.len(), room, "all room is to be seen");
                let n = n.min(room);
                for slot in &mut spare[..n] {
                    let id = fresh();
                    slot.write(log.probe(id));
                    model.push_back(id);
                }
                // SAFETY: the first `n` slots were written above.
                unsafe { burst.assume_filled(n) };
            }
            Step::Limit(n) => {
                burst.set_limit(n);
                limit = n.min(capacities[0]);
                assert_eq!(burst.capacity(), limit);
            }
        }
        gone.sort_unstable();
        assert_eq!(log.dropped(), gone, "{step:?}");
        assert_eq!((ids(&burst), ids(&other)), (model.clone().into(), other_model.clone().into()));
        assert_eq!((burst.len(), burst.room()), (model.len(), limit.saturating_sub(model.len())));
        assert_eq!((burst.is_empty(), burst.is_full()), (model.is_empty(), burst.room() == 0));
    }
    drop((burst, other));
    let mut left: Vec<u32> = model.into_iter().chain(other_model).collect();
    left.sort_unstable();
    assert_eq!(log.dropped(), left, "at the end");
}

proptest! {
    #[test]
    fn a_burst_is_a_bounded_deque(first in 0..9_usize, second in 0..9_usize, steps in steps()) {
        compare([first, second], &steps);
    }
}

#[test]
fn room_in_front_counts_as_room() {
    let log = Log::default();
    let (mut burst, mut more) = (log.fill(8, 0..6), log.fill(8, 6..12));
    drop(burst.drain(4));
    assert_eq!(burst.append(&mut more, 8), 6);
    assert_eq!((ids(&burst), more.len()), (vec![4, 5, 6, 7, 8, 9, 10, 11], 0));
    drop(burst.drain(3));
    assert_eq!(burst.spare().len(), 3);
}

#[test]
fn what_was_taken_out_goes_back_whatever_the_limit() {
    let log = Log::default();
    let mut burst = log.fill(4, 0..4);
    burst.set_limit(2);
    let first = burst.pop_front().unwrap();
    assert!(burst.push(log.probe(9)).is_err(), "the limit holds for others");
    assert!(burst.push_front(first).is_ok());
    assert_eq!((ids(&burst), burst.room()), (vec![0, 1, 2, 3], 0));
    assert!(burst.push_front(log.probe(8)).is_err(), "there are no more slots");
    // Also where the slots have been moved meanwhile.
    let mut burst = log.fill(4, 4..6);
    burst.set_limit(1);
    assert!(burst.push_front(log.probe(7)).is_ok());
    assert_eq!(ids(&burst), [7, 4, 5]);
}

#[test]
fn a_burst_without_capacity_refuses_everything() {
    let log = Log::default();
    let (mut none, mut some) = (log.fill(0, 0..0), log.fill(2, 0..2));
    assert_eq!(none.push(log.probe(9)).map_err(|probe| probe.id), Err(9));
    assert_eq!((none.append(&mut some, 2), none.spare().len()), (0, 0));
    assert_eq!(none.drain(4).len(), 0);
    assert!(none.pop_front().is_none() && none.pop_back().is_none() && none.is_full());
    assert_eq!(some.len(), 2);
}

#[test]
fn buffers_may_be_of_size_zero() {
    thread_local!(static DROPPED: Cell<usize> = const { Cell::new(0) });
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPPED.set(DROPPED.get() + 1);
        }
    }
    without_bytes!(Nothing);
    // No memory is needed, so nothing limits the capacity.
    let (mut burst, mut huge) = (Burst::with_capacity(4), Burst::with_capacity(usize::MAX));
    (0..4).for_each(|_| assert!(burst.push(Nothing).is_ok()));
    assert!(burst.push(Nothing).is_err() && huge.push(Nothing).is_ok());
    drop(burst.drain(2));
    assert_eq!((huge.append(&mut burst, usize::MAX), huge.len(), DROPPED.get()), (2, 3, 3));
    drop(huge);
    assert_eq!(DROPPED.get(), 6);
}

/// Runs `f` on a burst of 0 to 7 in which the destructor of 3 panics, and returns what is left and
/// what was dropped by then; nothing is ever dropped twice.
fn with_a_fatal_one(f: impl FnOnce(&mut Burst<Probe>)) -> (Vec<u32>, Vec<u32>) {
    let log = Log::default();
    let mut burst = log.fill(10, 0..8);
    log.fatal.set(Some(3));
    assert!(catch_unwind(AssertUnwindSafe(|| f(&mut burst))).is_err(), "3 was not dropped");
    log.fatal.set(None);
    let outcome = (ids(&burst), log.dropped());
    drop(burst);
    assert_eq!(log.dropped(), outcome.0, "what was left is dropped later, once");
    outcome
}

#[test]
fn a_destructor_that_panics_stops_no_other() {
    let all: Vec<u32> = (0..8).collect();
    assert_eq!(with_a_fatal_one(Burst::clear), (vec![], all.clone()));
    assert_eq!(with_a_fatal_one(|burst| burst.truncate(2)), (vec![0, 1], all[2..].to_vec()));
    assert_eq!(
        with_a_fatal_one(|burst| drop(burst.drain(5))),
        (all[5..].to_vec(), all[..5].to_vec())
    );
    let evens = |burst: &mut Burst<Probe>| burst.retain(|probe| probe.id % 2 == 0);
    assert_eq!(with_a_fatal_one(evens), (vec![0, 2, 4, 6], vec![1, 3, 5, 7]));
    let one = |burst: &mut Burst<Probe>| (0..4).for_each(|_| drop(burst.pop_front()));
    assert_eq!(with_a_fatal_one(one), (all[4..].to_vec(), all[..4].to_vec()));
    let whole = |burst: &mut Burst<Probe>| drop(std::mem::replace(burst, Burst::with_capacity(0)));
    assert_eq!(with_a_fatal_one(whole), (vec![], all));
}

#[test]
fn a_question_that_panics_loses_nothing() {
    let log = Log::default();
    let mut burst = log.fill(8, 0..8);
    let asked = AssertUnwindSafe(|| {
        burst.retain(|probe| {
            assert!(probe.id != 5, "no idea");
            probe.id % 2 == 1
        });
    });
    assert!(catch_unwind(asked).is_err());
    let mut left = ids(&burst);
    left.sort_unstable();
    assert_eq!((left, log.dropped()), ((0..8).collect(), vec![]));
}

#[test]
fn a_source_that_panics_loses_nothing() {
    let log = Log::default();
    let mut burst = log.fill(8, 0..2);
    let source = (2..).map(|id| {
        assert!(id < 4, "the source panics");
        log.probe(id)
    });
    assert!(catch_unwind(AssertUnwindSafe(|| burst.fill_from(source))).is_err());
    assert_eq!(ids(&burst), [0, 1, 2, 3]);
    drop(burst);
    assert_eq!(log.dropped(), [0, 1, 2, 3]);
}

#[test]
fn what_is_forgotten_is_leaked_and_nothing_else() {
    let log = Log::default();
    let mut burst = log.fill(8, 0..8);
    std::mem::forget(burst.drain(3));
    assert_eq!((ids(&burst), log.dropped()), ((3..8).collect(), vec![]));
    // The room that they left is room again.
    (8..11).for_each(|id| burst.push(log.probe(id)).unwrap());
    assert_eq!(ids(&burst), (3..11).collect::<Vec<_>>());
    std::mem::forget(burst);
    assert!(log.dropped().is_empty());
}

#[test]
fn a_free_bulk_of_ones_own_sees_them_as_they_lie() {
    thread_local!(static BULKS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) });
    struct Handle(u8);
    impl Drop for Handle {
        fn drop(&mut self) {
            panic!("{} is freed in bulk, not one by one", self.0);
        }
    }
    without_bytes!(
        Handle,
        fn free_bulk(mut buffers: Drain<'_, Self>) {
            let n = buffers.len();
            let freed = buffers.forget(n).iter().map(|handle| handle.0).collect();
            BULKS.with_borrow_mut(|bulks| bulks.push(freed));
        }
    );
    let mut burst = Burst::with_capacity(8);
    (0..8).for_each(|i| assert!(burst.push(Handle(i)).is_ok()));
    burst.retain(|handle| handle.0 % 4 != 1);
    burst.retain(|_| true);
    burst.truncate(4);
    drop(burst);
    let bulks: [&[u8]; 3] = [&[1, 5], &[6, 7], &[0, 2, 3, 4]];
    BULKS.with_borrow(|seen| {
        seen.iter().zip(bulks).for_each(|(seen, want)| {
            let mut seen = seen.clone();
            seen.sort_unstable();
            assert_eq!(seen, want);
        });
        assert_eq!(seen.len(), bulks.len());
    });
}

#[test]
fn a_burst_knows_whether_it_is_as_it_was_received() {
    let log = Log::default();
    let received = |burst: &mut Burst<Probe>, ids: std::ops::Range<u32>| {
        let fill = |slots: &mut [MaybeUninit<Probe>]| {
            ids.clone().zip(slots).map(|(id, slot)| slot.write(log.probe(id))).count()
        };
        // SAFETY: so many slots were written as the closure counts, with probes of their own.
        unsafe { burst.receive(fill) }
    };
    let changes: [fn(&mut Burst<Probe>, &Log); 6] = [
        |burst, log| drop(burst.push(log.probe(9))),
        |burst, _| drop(burst.iter_mut()),
        |burst, _| drop(burst.get_mut(0)),
        |burst, log| assert_eq!(burst.fill_from([log.probe(9)].into_iter()), 1),
        |burst, _| burst.retain(|_| true),
        |burst, log| assert_eq!(burst.append(&mut log.fill(1, 0..1), 1), 1),
    ];
    for change in changes {
        let mut burst = Burst::with_capacity(8);
        assert_eq!(received(&mut burst, 0..3), 3);
        assert_eq!(received(&mut burst, 3..5), 2);
        assert!(burst.is_as_received());
        assert_eq!(burst.iter().map(|probe| probe.id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(burst.data_mut().len(), 5);
        assert_eq!(burst.forget(0), 0);
        drop((burst.pop_front(), burst.pop_back()));
        let mut other = Burst::with_capacity(8);
        other.append(&mut burst, 1);
        assert!(burst.is_as_received() && other.is_as_received(), "what left changed nothing");
        change(&mut burst, &log);
        assert!(!burst.is_as_received());
        other.append(&mut burst, 1);
        assert!(!other.is_as_received(), "what joins brings it along");
        // What comes into an empty burst is as it was received again.
        burst.clear();
        received(&mut burst, 0..8);
        assert!(burst.is_as_received() && burst.is_full());
    }
}

#[test]
fn what_is_forgotten_is_not_dropped_and_what_is_left_is() {
    let log = Log::default();
    let mut burst = log.fill(8, 0..5);
    assert_eq!(burst.forget(2), 2);
    assert_eq!(burst.len(), 3);
    burst.clear();
    assert_eq!(log.dropped(), [2, 3, 4]);
    assert_eq!(log.fill(4, 0..2).forget(9), 2);
    assert_eq!(log.dropped(), Vec::<u32>::new());
}
