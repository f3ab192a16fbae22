//! What a ring promises, case by case and against a reference.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;

use memmap2::{MmapOptions, MmapRaw};
use proptest::prelude::*;

use super::words::Words;
use super::*;

const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, entries: 192, size: 8 };

fn anonymous(len: usize) -> MmapRaw {
    MmapRaw::from(MmapOptions::new().len(len).map_anon().unwrap())
}

#[derive(Clone, Debug)]
enum Turn {
    /// Reserve looking for so many, write so many of what was had.
    Produce { want: u32, write: u32 },
    /// Look for so many, read so many.
    Consume { want: u32, read: usize },
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        (0..12u32, 0..12u32).prop_map(|(want, write)| Turn::Produce { want, write }),
        (0..12u32, 0..12usize).prop_map(|(want, read)| Turn::Consume { want, read }),
    ];
    proptest::collection::vec(turn, 0..200)
}

/// Also while some that are not published yet are written.
#[test]
fn places_are_looked_up_again_when_more_are_wanted() {
    let words = Words::new(8, u32::MAX - 3);
    let (mut producer, mut consumer) =
        (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
    let mut places = producer.reserve(1);
    assert!((0..6).all(|n| places.push(n)) && !places.has(3));
    drop(places);
    assert!(consumer.entries(6).eq(0..6));
    let mut places = producer.reserve(1);
    assert_eq!(places.left(), 2, "no more are known of");
    assert!(places.push(6) && places.has(7) && !places.has(8));
    assert!((7..14).all(|n| places.push(n)) && !places.push(14));
    drop(places);
    assert!(consumer.entries(8).eq(6..14));
}

/// Across the end of the ring, where the next stretch has begun or not.
#[test]
fn entries_that_are_not_wanted_stay() {
    for (start, again) in (0..8).flat_map(|start| [(start, false), (start, true)]) {
        let words = Words::new(8, start);
        let (mut producer, mut consumer) =
            (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
        let mut places = producer.reserve(8);
        assert!((0..8).all(|n| places.push(n)));
        drop(places);
        let mut entries = consumer.entries(8);
        for n in 0..8 {
            assert_eq!(entries.next_if(|entry| *entry != n), None, "from {start}");
            if again {
                entries.limit(8);
            }
            assert_eq!((entries.taken(), entries.left()), (n as u32, 8 - n as u32));
            assert_eq!(entries.next_if(|entry| *entry == n), Some(n));
        }
        assert_eq!(entries.next_if(|_| unreachable!("there is none")), None);
        drop(entries);
        assert_eq!(producer.reserve(8).left(), 8);
    }
}

#[test]
fn what_nobody_has_taken_can_be_taken_out_again() {
    let words = Words::new(8, u32::MAX - 1);
    let (mut producer, mut consumer) =
        (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
    let fill = |producer: &mut Producer<_>| {
        let mut places = producer.reserve(8);
        assert!((0..5).all(|n| places.push(n)));
    };
    fill(&mut producer);
    producer.retract(5);
    assert_eq!((consumer.entries(1).next(), producer.waiting()), (None, 0));
    fill(&mut producer);
    assert_eq!(consumer.entries(1).next(), Some(0));
    producer.retract(5);
    assert!(consumer.entries(4).eq(1..5), "too late");
}

proptest! {
    /// Whatever is reserved, written and read in whichever portions, from whichever cursor: what comes
    /// out is what went in, and neither side sees more than there is.
    #[test]
    fn a_ring_is_a_queue(size in 0..5u32, start in any::<u32>(), near_the_end in any::<bool>(), turns in turns()) {
        let size = 1 << size;
        let start = if near_the_end { u32::MAX - start % 64 } else { start };
        let words = Words::new(size, start);
        let (mut producer, mut consumer) =
            (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
        let (mut reference, mut next) = (VecDeque::new(), 0u64);
        for turn in turns {
            match turn {
                Turn::Produce { want, write } => {
                    let room = (size - reference.len()) as u32;
                    let mut reserved = producer.reserve(want);
                    prop_assert!(reserved.left() <= room);
                    prop_assert!(reserved.left() >= want.min(room));
                    for _ in 0..write {
                        if reserved.push(next) {
                            reference.push_back(next);
                            next += 1;
                        }
                    }
                    drop(reserved);
                    prop_assert_eq!(producer.waiting() as usize, reference.len());
                }
                Turn::Consume { want, read } => {
                    let mut entries = consumer.entries(want);
                    prop_assert!(entries.size_hint().0 <= reference.len());
                    prop_assert!(entries.size_hint().0 >= reference.len().min(want as usize));
                    for entry in entries.by_ref().take(read) {
                        prop_assert_eq!(Some(entry), reference.pop_front());
                    }
                    drop(entries);
                    prop_assert_eq!(consumer.is_empty(), reference.is_empty());
                }
            }
            prop_assert_eq!(producer.consumed(), start.wrapping_add((next as u32).wrapping_sub(reference.len() as u32)));
        }
    }

    /// Whatever becomes of each entry, and wherever both rings stand: those that were taken are gone, those
    /// that were given arrive in order, and the others are still there.
    #[test]
    fn entries_go_from_ring_to_ring(
        sizes in (0..5u32, 0..5u32),
        starts in (any::<u32>(), any::<u32>()),
        turns in proptest::collection::vec((0..20u32, 0..20u32, 0..20usize, proptest::collection::vec(0..3u8, 20)), 0..50),
    ) {
        let words = |size: u32, start: u32| Words::new(1 << size, start | (u32::MAX << 5));
        let (first, second) = (words(sizes.0, starts.0), words(sizes.1, starts.1));
        let (mut source, mut sink) =
            (Producer::new(Arc::clone(&first)), Consumer::new(Arc::clone(&second)));
        let (mut from, mut into) = (Consumer::new(first), Producer::new(second));
        let (mut before, mut after, mut next) = (VecDeque::new(), VecDeque::new(), 0);
        for (write, most, read, becomes) in turns {
            let mut places = source.reserve(write);
            for _ in 0..write {
                if places.push(next) {
                    before.push_back(next);
                    next += 1;
                }
            }
            drop(places);
            let room = (1 << sizes.1) - after.len();
            let wanted = room.min(before.len()).min(most as usize);
            let mut exchange = Exchange::new(&mut from, &mut into, most);
            let (mut seen, mut given, mut stayed) = (0, 0, false);
            exchange.each(|entry| {
                assert!(Some(&entry) == before.front() && !stayed);
                if becomes[seen] == 2 {
                    stayed = true;
                    return Step::Stay;
                }
                before.pop_front();
                seen += 1;
                if becomes[seen - 1] == 1 {
                    return Step::Take;
                }
                after.push_back(entry + 1000);
                given += 1;
                Step::Give(entry + 1000)
            });
            prop_assert_eq!((exchange.taken() as usize, exchange.written()), (seen, given));
            // What was not given leaves its place to others.
            prop_assert!(stayed || seen >= wanted, "{} of {}", seen, wanted);
            drop(exchange);
            for entry in sink.entries(read as u32).take(read) {
                prop_assert_eq!(Some(entry), after.pop_front());
            }
        }
    }

    /// However wrong the other side's cursor is, nothing is reached outside of the ring and nobody
    /// panics.
    #[test]
    fn impossible_cursors_lead_nowhere(mine in any::<u32>(), theirs in any::<u32>()) {
        let words = Words::new(8, mine);
        let (mut producer, mut consumer) =
            (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
        words.consumer.store(theirs, Ordering::Relaxed);
        words.producer.store(theirs, Ordering::Relaxed);
        let mut reserved = producer.reserve(8);
        prop_assert!(reserved.left() <= 8);
        while reserved.push(1) {}
        drop(reserved);
        prop_assert!(producer.waiting() <= 8);
        prop_assert!(consumer.entries(8).count() <= 8);
    }
}

#[test]
fn a_guard_publishes_when_it_goes_and_not_before() {
    let words = Words::new(8, u32::MAX - 2);
    let (mut producer, mut consumer) =
        (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
    let mut reserved = producer.reserve(8);
    (0..5).for_each(|n| assert!(reserved.push(n)));
    assert!(consumer.is_empty());
    drop(reserved);
    let mut entries = consumer.entries(5);
    assert_eq!((entries.next(), entries.next()), (Some(0), Some(1)));
    assert_eq!(producer.reserve(8).left(), 3, "nothing has come back yet");
    drop(entries);
    assert_eq!(producer.reserve(8).left(), 5);
    assert_eq!(consumer.entries(1).next(), Some(2), "what was not read is still there");
    assert_eq!(producer.written_before(producer.consumed()), 2);
}

#[test]
fn an_entry_that_is_panicked_over_was_taken_and_nothing_was_given_for_it() {
    let (first, second) = (Words::new(8, u32::MAX - 1), Words::new(8, 5));
    let mut source = Producer::new(Arc::clone(&first));
    let mut places = source.reserve(4);
    assert!((0..4).all(|n| places.push(n)));
    drop(places);
    let (mut from, mut into) = (Consumer::new(first), Producer::new(Arc::clone(&second)));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        Exchange::new(&mut from, &mut into, 8).each(|entry| {
            assert!(entry < 2, "in the middle");
            Step::Give(entry)
        });
    }));
    assert!(unwound.is_err());
    assert_eq!(from.entries(8).collect::<Vec<_>>(), [3]);
    assert_eq!(Consumer::new(second).entries(8).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_panic_publishes_what_was_done_before_it() {
    let words = Words::new(8, 0);
    let (mut producer, mut consumer) =
        (Producer::new(Arc::clone(&words)), Consumer::new(Arc::clone(&words)));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let mut reserved = producer.reserve(8);
        (0..3).for_each(|n| assert!(reserved.push(n)));
        panic!("in the middle");
    }));
    assert!(unwound.is_err());
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        for entry in consumer.entries(8) {
            assert!(entry < 1, "in the middle");
        }
    }));
    assert!(unwound.is_err());
    assert_eq!(consumer.entries(8).collect::<Vec<_>>(), [2]);
    assert_eq!(producer.reserve(8).left(), 8);
}

#[test]
fn a_sleeping_kernel_is_seen() {
    let words = Words::new(8, 0);
    let producer = Producer::new(Arc::clone(&words));
    assert!(!producer.needs_wakeup());
    words.flags.store(1, Ordering::Relaxed);
    assert!(producer.needs_wakeup());
}

#[test]
fn a_layout_outside_of_the_mapping_is_refused() {
    let len = LAYOUT.len::<u64>();
    assert_eq!(len, 192 + 8 * 8);
    assert!(Mapped::<u64>::new(anonymous(len), &LAYOUT).is_ok());
    let far = u64::MAX - 3;
    for wrong in [
        Layout { size: 16, ..LAYOUT },
        Layout { size: 7, ..LAYOUT },
        Layout { size: 0, ..LAYOUT },
        Layout { size: 1 << 31, ..LAYOUT },
        Layout { entries: 196, ..LAYOUT },
        Layout { entries: far, ..LAYOUT },
        Layout { producer: 2, ..LAYOUT },
        Layout { producer: 256, ..LAYOUT },
        Layout { consumer: 253, ..LAYOUT },
        Layout { flags: far, ..LAYOUT },
    ] {
        assert!(Mapped::<u64>::new(anonymous(len), &wrong).is_err(), "{wrong:?}");
    }
    // Also where there is room; nobody touches it.
    let largest = Layout { size: MAX_SIZE, ..LAYOUT };
    let larger = Layout { size: MAX_SIZE * 2, ..LAYOUT };
    let map = || {
        let map = MmapOptions::new().len(larger.len::<u64>()).no_reserve_swap().map_anon();
        MmapRaw::from(map.unwrap())
    };
    assert!(Mapped::<u64>::new(map(), &largest).is_ok());
    assert!(Mapped::<u64>::new(map(), &larger).is_err());
}

/// Both sides of a mapping, on two threads.
#[test]
fn a_mapped_ring_carries_entries_between_threads() {
    use std::os::fd::AsRawFd;
    let (file, len) =
        (rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap(), 256);
    rustix::fs::ftruncate(&file, len).unwrap();
    let map = move || {
        let map = MmapOptions::new().len(len as usize).map_raw(file.as_raw_fd()).unwrap();
        Mapped::<u64>::new(map, &LAYOUT).unwrap()
    };
    let (other, (told, done)) = (map(), mpsc::channel());
    // The pointers of one mapping stay on one thread.
    let mut producer = Producer::new(other);
    let reader = thread::spawn(move || {
        let mut consumer = Consumer::new(map());
        let mut next = 0;
        while next < 10_000 {
            for entry in consumer.entries(8) {
                assert_eq!(entry, next);
                next += 1;
            }
            thread::yield_now();
        }
        told.send(next).unwrap();
    });
    let mut next = 0;
    while next < 10_000 {
        let mut reserved = producer.reserve(3);
        while next < 10_000 && reserved.push(next) {
            next += 1;
        }
        drop(reserved);
        thread::yield_now();
    }
    assert_eq!(done.recv(), Ok(10_000));
    reader.join().unwrap();
    assert_eq!(producer.waiting(), 0);
}
