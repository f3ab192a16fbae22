//! Both sides of a ring under every interleaving and every reordering that the memory model allows:
//! `RUSTFLAGS="--cfg model" cargo test -p bypass-xdp --lib model`.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::*;

/// A ring whose every access loom watches: two at once to the same entry fail the model.
struct Watched {
    producer: AtomicU32,
    consumer: AtomicU32,
    entries: Vec<UnsafeCell<u64>>,
}

// SAFETY: loom fails the model when an entry is accessed by two threads without order between them.
unsafe impl Sync for Watched {}
// SAFETY: integers.
unsafe impl Send for Watched {}

impl Watched {
    fn new(size: usize, cursor: u32) -> Arc<Self> {
        Arc::new(Self {
            producer: AtomicU32::new(cursor),
            consumer: AtomicU32::new(cursor),
            entries: (0..size).map(|_| UnsafeCell::new(u64::MAX)).collect(),
        })
    }
}

impl Memory for Arc<Watched> {
    type Entry = u64;
    type Slots = Self;

    fn slots(&self) -> Self {
        Self::clone(self)
    }

    fn size(&self) -> u32 {
        self.entries.len() as u32
    }

    fn producer(&self) -> u32 {
        self.producer.load(Ordering::Acquire)
    }

    fn consumer(&self) -> u32 {
        self.consumer.load(Ordering::Acquire)
    }

    fn set_producer(&self, cursor: u32) {
        self.producer.store(cursor, Ordering::Release);
    }

    fn set_consumer(&self, cursor: u32) {
        self.consumer.store(cursor, Ordering::Release);
    }

    fn flags(&self) -> u32 {
        0
    }
}

impl Slots for Arc<Watched> {
    type Entry = u64;
    /// A walk that leaves the ring meets a place that is not there.
    type Place = usize;

    fn place(&self, cursor: u32) -> usize {
        cursor as usize & (self.entries.len() - 1)
    }

    fn ahead(place: usize, n: u32) -> usize {
        place + n as usize
    }

    fn between(from: usize, to: usize) -> u32 {
        (to - from) as u32
    }

    unsafe fn read(&self, place: usize) -> u64 {
        self.entries[place].with(|entry| {
            // SAFETY: the pointer is loom's, which checks that nobody writes.
            unsafe { entry.read() }
        })
    }

    unsafe fn write(&self, place: usize, entry: u64) {
        self.entries[place].with_mut(|place| {
            // SAFETY: the pointer is loom's, which checks that nobody else reads or writes.
            unsafe { place.write(entry) };
        });
    }
}

/// Two threads pass `n` entries through a ring of `size`, across the end of the cursors; the producer
/// writes up to `batch` at a time.
fn pass(size: usize, n: u64, batch: u32) {
    loom::model(move || {
        let words = Watched::new(size, u32::MAX);
        let theirs = Arc::clone(&words);
        let producing = thread::spawn(move || {
            let (mut producer, mut next) = (Producer::new(theirs), 0);
            while next < n {
                let mut reserved = producer.reserve(batch);
                for _ in 0..batch {
                    if next < n && reserved.push(next) {
                        next += 1;
                    }
                }
                drop(reserved);
                thread::yield_now();
            }
        });
        let (mut consumer, mut next) = (Consumer::new(words), 0);
        while next < n {
            for entry in consumer.entries(1) {
                assert_eq!(entry, next);
                next += 1;
            }
            thread::yield_now();
        }
        producing.join().unwrap();
        assert!(consumer.is_empty());
    });
}

#[test]
fn entries_arrive_whole_and_in_order() {
    pass(2, 3, 1);
}

#[test]
fn places_are_written_again_only_when_they_were_read() {
    pass(1, 3, 1);
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    pass(2, 4, 2);
}

/// What is written and not published by a guard that is still alive is nobody else's business.
#[test]
fn what_a_guard_still_holds_is_not_seen() {
    loom::model(|| {
        let words = Watched::new(2, 0);
        let theirs = Arc::clone(&words);
        let consuming = thread::spawn(move || Consumer::new(theirs).entries(2).count());
        let mut producer = Producer::new(words);
        let mut reserved = producer.reserve(2);
        assert!(reserved.push(1) && reserved.push(2));
        drop(reserved);
        let seen = consuming.join().unwrap();
        assert!(seen == 0 || seen == 2, "{seen} of a batch of 2");
    });
}
