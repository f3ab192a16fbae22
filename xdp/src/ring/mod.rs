//! The rings that a socket shares with the kernel: fill, completion, RX and TX.
//!
//! Each has one [`Producer`] and one [`Consumer`], one of which is the kernel. Both are written against
//! [`Memory`], so that the same code runs over the kernel's mapping ([`Mapped`]), in property tests,
//! and in a model checker.
//!
//! # What the unsafe code here relies on
//!
//! Cursors count entries modulo 2³² and never stop; the size is a power of two, so that the place of an
//! entry is the cursor's low bits. Entries `consumer..producer` belong to the consumer, the others to
//! the producer. Each side moves only its own cursor, with *release* after it has written or read
//! entries, and looks at the other's with *acquire* before. The kernel does the same
//! (`net/xdp/xsk_queue.h`). Cursors that the kernel shows are not trusted beyond that: however wrong,
//! they lead to entries inside the ring, never outside, and what stands in an entry is checked by who
//! reads it.

mod consumer;
mod exchange;
mod mapped;
mod producer;
mod walk;

#[cfg(all(test, model))]
mod model;
#[cfg(test)]
#[cfg(not(model))]
mod tests;
#[cfg(test)]
mod words;

pub(crate) use consumer::{Consumer, Entries};
pub(crate) use exchange::{Exchange, Step};
pub(crate) use mapped::{Layout, Mapped};
pub(crate) use producer::{Producer, Reserved};

/// The most entries of a ring: what is counted in them has a bit to spare.
pub(crate) const MAX_SIZE: u32 = 1 << 30;

/// The memory of a ring: cursors, flags and entries.
pub(crate) trait Memory {
    /// What an entry holds.
    type Entry: Copy;

    /// Where the entries are.
    type Slots: Slots<Entry = Self::Entry> + std::fmt::Debug;

    /// Where the entries are: a value of its own, so that a loop over them need not look it up each time.
    /// It is good for as long as the memory is there.
    fn slots(&self) -> Self::Slots;

    /// Entries in the ring, a power of two up to [`MAX_SIZE`].
    fn size(&self) -> u32;

    /// The producer's cursor, with acquire.
    fn producer(&self) -> u32;

    /// The consumer's cursor, with acquire.
    fn consumer(&self) -> u32;

    /// Sets the producer's cursor, with release.
    fn set_producer(&self, cursor: u32);

    /// Sets the consumer's cursor, with release.
    fn set_consumer(&self, cursor: u32);

    /// What the kernel says about the ring (`XDP_RING_NEED_WAKEUP`).
    fn flags(&self) -> u32;
}

/// The entries of a ring.
pub(crate) trait Slots {
    /// What an entry holds.
    type Entry: Copy;

    /// Where an entry is.
    type Place: Copy + PartialEq + std::fmt::Debug;

    /// Where the entry at a cursor is.
    fn place(&self, cursor: u32) -> Self::Place;

    /// The place of the entry `n` further on, or behind the last one.
    fn ahead(place: Self::Place, n: u32) -> Self::Place;

    /// How many entries lie between one place and another one ahead.
    fn between(from: Self::Place, to: Self::Place) -> u32;

    /// Reads the entry at a place.
    ///
    /// # Safety
    ///
    /// The memory must be there, and the place must be one of its entries, which belongs to the caller's
    /// side.
    unsafe fn read(&self, place: Self::Place) -> Self::Entry;

    /// Writes the entry at a place.
    ///
    /// # Safety
    ///
    /// As for [`read`](Self::read).
    unsafe fn write(&self, place: Self::Place, entry: Self::Entry);
}
