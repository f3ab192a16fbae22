//! A ring both of whose sides are in this process. In the model its atomics and entries are loom's, which
//! watches every access; in the other tests they are the standard ones.

#[cfg(model)]
use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
#[cfg(not(model))]
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{Memory, Slots};

#[derive(Debug)]
pub(super) struct Words {
    pub(super) producer: AtomicU32,
    pub(super) consumer: AtomicU32,
    pub(super) flags: AtomicU32,
    entries: Vec<Cell>,
}

impl Words {
    /// A ring of `size` entries, both of whose cursors stand at `cursor`.
    pub(super) fn new(size: usize, cursor: u32) -> Arc<Self> {
        Arc::new(Self {
            producer: AtomicU32::new(cursor),
            consumer: AtomicU32::new(cursor),
            flags: AtomicU32::new(0),
            entries: (0..size).map(|_| Cell::new()).collect(),
        })
    }
}

impl Memory for Arc<Words> {
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
        self.flags.load(Ordering::Relaxed)
    }
}

impl Slots for Arc<Words> {
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
        self.entries[place].read()
    }

    unsafe fn write(&self, place: usize, entry: u64) {
        self.entries[place].write(entry);
    }
}

/// An entry. In the model, two accesses at once of which one writes fail it.
#[cfg(model)]
#[derive(Debug)]
struct Cell(UnsafeCell<u64>);

// SAFETY: loom fails the model when an entry is accessed by two threads without order between them.
#[cfg(model)]
unsafe impl Sync for Cell {}

#[cfg(model)]
impl Cell {
    fn new() -> Self {
        Self(UnsafeCell::new(u64::MAX))
    }

    fn read(&self) -> u64 {
        self.0.with(|entry| {
            // SAFETY: the pointer is loom's, which checks that nobody writes.
            unsafe { entry.read() }
        })
    }

    fn write(&self, entry: u64) {
        self.0.with_mut(|place| {
            // SAFETY: the pointer is loom's, which checks that nobody else reads or writes.
            unsafe { place.write(entry) };
        });
    }
}

/// An entry.
#[cfg(not(model))]
#[derive(Debug)]
struct Cell(AtomicU64);

#[cfg(not(model))]
impl Cell {
    fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn write(&self, entry: u64) {
        self.0.store(entry, Ordering::Relaxed);
    }
}
