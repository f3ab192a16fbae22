//! The items of one shard: a table by key, a list by time of use, and a limit of memory.
//!
//! Everything is allocated when the store is made. A write that finds no room takes it from the items that
//! were not used for longest. One thread has it to itself.

mod arena;
mod memory;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher as _;
use std::hint::black_box;
use std::io;

use hashbrown::DefaultHashBuilder;

use crate::protocol::{How, MAX_ITEM, fits};
use arena::{Arena, CHAIN, CHUNK, EXPIRES, FLAGS, HASH, Id, NEWER, NONE, OLDER, Part, USED};
use memory::Buckets;

/// What memcached takes for a time from now, in seconds, and not for a date.
const LONGEST_FROM_NOW: u32 = 30 * 24 * 60 * 60;
/// Bytes of the longest value that `incr` and `decr` take for a number: digits, with zeros and spaces round
/// them.
const LONGEST_NUMBER: usize = 64;

/// Keys that [`Store::foresee`] takes at once.
pub const AHEAD: usize = 64;
/// Bytes of an item that [`Store::foresee`] looks at: what fits in a datagram.
const DATAGRAM: usize = 1400;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Stored,
    NotStored,
    /// `cas`: somebody else has written since.
    Exists,
    NotFound,
    /// The store is too small for this item.
    OutOfMemory,
}

/// What became of `incr` or `decr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Now(u64),
    NotFound,
    NotANumber,
}

/// What a store has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub items: u64,
    pub total_items: u64,
    /// Items that went to make room while they were alive.
    pub evictions: u64,
    /// Items that went because their time was over.
    pub expired: u64,
}

pub struct Store {
    arena: Arena,
    /// A power of two of them.
    buckets: Buckets,
    hasher: DefaultHashBuilder,
    newest: Id,
    oldest: Id,
    /// Seconds since 1970.
    now: u32,
    /// The last unique number given out.
    cas: u64,
    /// Items up to this number have been flushed.
    flushed: u64,
    /// When everything shall be flushed.
    flush_at: Option<u32>,
    /// The bucket that [`sweep`](Self::sweep) looks at next.
    swept: usize,
    counters: Counters,
}

/// An item, to look at.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    arena: &'a Arena,
    id: Id,
}

impl<'a> Item<'a> {
    pub fn key(self) -> impl Iterator<Item = &'a [u8]> {
        self.arena.key(self.id)
    }

    pub fn value(self) -> impl Iterator<Item = &'a [u8]> {
        self.arena.value(self.id)
    }

    pub fn length(self) -> usize {
        self.arena.length(self.id)
    }

    pub fn flags(self) -> u32 {
        self.arena.get(self.id, FLAGS)
    }

    /// The second in which it expires; 0 is never.
    pub fn expires(self) -> u32 {
        self.arena.get(self.id, EXPIRES)
    }

    pub fn cas(self) -> u64 {
        self.arena.cas(self.id)
    }
}

impl Store {
    /// A store of `memory` bytes for items and what belongs to them, at `now` seconds since 1970.
    pub fn new(memory: usize, now: u32) -> io::Result<Self> {
        let chunks = (memory / (CHUNK + 2 * size_of::<Id>())).clamp(1, NONE as usize);
        Ok(Self {
            arena: Arena::new(chunks)?,
            buckets: Buckets::new(chunks.next_power_of_two())?,
            hasher: DefaultHashBuilder::default(),
            newest: NONE,
            oldest: NONE,
            now,
            cas: 0,
            flushed: 0,
            flush_at: None,
            swept: 0,
            counters: Counters::default(),
        })
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last unique number given out.
    pub fn last_cas(&self) -> u64 {
        self.cas
    }

    /// Tells the time; whether a flush that was to come has come.
    pub fn tick(&mut self, now: u32) -> bool {
        self.now = now;
        let flush = self.flush_at.is_some_and(|at| at <= now);
        if flush {
            self.flush(None);
        }
        flush
    }

    /// The second that a client's number of seconds means; 0 is never.
    pub fn deadline(&self, seconds: i32) -> u32 {
        match u32::try_from(seconds) {
            Ok(0) => 0,
            Ok(from_now) if from_now <= LONGEST_FROM_NOW => self.now.saturating_add(from_now),
            Ok(date) => date,
            // Negative: at once.
            Err(_) => 1,
        }
    }

    /// The item of this key, which is the one used last from now on.
    pub fn get(&mut self, key: &[u8]) -> Option<Item<'_>> {
        let id = self.find(key)?;
        self.touch_lru(id);
        Some(Item { arena: &self.arena, id })
    }

    /// The item of this key, as it is.
    pub fn peek(&mut self, key: &[u8]) -> Option<Item<'_>> {
        let id = self.find(key)?;
        Some(Item { arena: &self.arena, id })
    }

    /// Stores a value, as `how` says; `expires` is a [deadline](Self::deadline).
    pub fn write(
        &mut self,
        how: How,
        key: &[u8],
        flags: u32,
        expires: u32,
        value: &[u8],
    ) -> Written {
        let old = self.find(key);
        let written = Part::Bytes(value);
        let (value, flags, expires) = match (how, old) {
            (How::Set, _) | (How::Add, None) | (How::Replace, Some(_)) => {
                ([written, Part::Bytes(b"")], flags, expires)
            }
            (How::Add, Some(id)) => {
                self.touch_lru(id);
                return Written::NotStored;
            }
            (How::Replace | How::Append | How::Prepend, None) => return Written::NotStored,
            (How::Cas(_), None) => return Written::NotFound,
            (How::Cas(cas), Some(id)) if self.arena.cas(id) != cas => return Written::Exists,
            (How::Cas(_), Some(_)) => ([written, Part::Bytes(b"")], flags, expires),
            // These keep what the item had.
            (How::Append | How::Prepend, Some(id)) => {
                let whole = self.arena.length(id) + value.len();
                if !fits(key.len(), whole) {
                    return Written::NotStored;
                }
                let value = match how {
                    How::Append => [Part::Item(id), written],
                    _ => [written, Part::Item(id)],
                };
                (value, self.arena.get(id, FLAGS), self.arena.get(id, EXPIRES))
            }
        };
        self.cas += 1;
        let cas = self.cas;
        if self.replace(old, key, value, [flags, expires], cas) {
            Written::Stored
        } else {
            Written::OutOfMemory
        }
    }

    /// Stores what a log says: an item with its number, whatever there was.
    pub fn restore(
        &mut self,
        key: &[u8],
        flags: u32,
        expires: u32,
        cas: u64,
        value: &[u8],
    ) -> bool {
        self.cas = self.cas.max(cas);
        let old = self.lookup(key);
        let value = [Part::Bytes(value), Part::Bytes(b"")];
        self.replace(old, key, value, [flags, expires], cas)
    }

    /// Puts a new item in the place of `old`; false when there is no room for it. A value that needs the same room
    /// is written over the old one.
    fn replace(
        &mut self,
        old: Option<Id>,
        key: &[u8],
        value: [Part<'_>; 2],
        [flags, expires]: [u32; 2],
        cas: u64,
    ) -> bool {
        let length: usize = value
            .iter()
            .map(|part| match part {
                Part::Bytes(bytes) => bytes.len(),
                Part::Item(id) => self.arena.length(*id),
            })
            .sum();
        if let Some(id) = old
            && value.iter().all(|part| matches!(part, Part::Bytes(_)))
            && self.arena.chunks(id) == Arena::chunks_for(key.len() + length)
        {
            self.arena.fill(id, key, value);
            self.describe(id, [flags, expires], cas);
            self.touch_lru(id);
            return true;
        }
        // What the new value is made of must not go to make room.
        old.into_iter().for_each(|id| self.make_newest(id));
        let id = loop {
            match self.arena.take(key.len() + length) {
                Some(id) => break id,
                None if self.oldest == NONE || Some(self.oldest) == old => return false,
                None => self.evict(),
            }
        };
        self.arena.fill(id, key, value);
        old.into_iter().for_each(|id| self.remove(id));
        let hash = self.hash(key);
        let bucket = self.bucket(hash);
        self.describe(id, [flags, expires], cas);
        self.arena.set(id, HASH, hash);
        self.arena.set(id, CHAIN, self.buckets.get(bucket));
        self.buckets.set(bucket, id);
        self.link_newest(id);
        self.counters.items += 1;
        true
    }

    /// Writes what every write changes beside the value.
    fn describe(&mut self, id: Id, [flags, expires]: [u32; 2], cas: u64) {
        self.arena.set(id, FLAGS, flags);
        self.arena.set(id, EXPIRES, expires);
        self.arena.set_cas(id, cas);
        self.counters.total_items += 1;
    }

    pub fn delete(&mut self, key: &[u8]) -> bool {
        let found = self.find(key);
        found.into_iter().for_each(|id| self.remove(id));
        found.is_some()
    }

    /// Sets another deadline.
    pub fn touch(&mut self, key: &[u8], expires: u32) -> bool {
        let found = self.find(key);
        if let Some(id) = found {
            self.arena.set(id, EXPIRES, expires);
            self.touch_lru(id);
        }
        found.is_some()
    }

    /// Adds to a number, wrapping round at 64 bits, or takes from it, down to 0.
    pub fn count(&mut self, key: &[u8], by: u64, up: bool) -> Counted {
        let Some(id) = self.find(key) else { return Counted::NotFound };
        let Some(number) = self.number(id) else { return Counted::NotANumber };
        let number = if up { number.wrapping_add(by) } else { number.saturating_sub(by) };
        self.cas += 1;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let length = self.arena.length(id);
        if digits.len() <= length {
            // memcached never makes it shorter: spaces fill it up.
            let mut padded = [b' '; LONGEST_NUMBER];
            padded[..digits.len()].copy_from_slice(digits);
            self.arena.overwrite(id, &padded[..length]);
            self.arena.set_cas(id, self.cas);
            self.touch_lru(id);
        } else {
            let [flags, expires] = [FLAGS, EXPIRES].map(|field| self.arena.get(id, field));
            let value = [Part::Bytes(digits), Part::Bytes(b"")];
            let cas = self.cas;
            if !self.replace(Some(id), key, value, [flags, expires], cas) {
                return Counted::NotFound;
            }
        }
        Counted::Now(number)
    }

    fn number(&self, id: Id) -> Option<u64> {
        let length = self.arena.length(id);
        if length == 0 || length > LONGEST_NUMBER {
            return None;
        }
        let (mut bytes, mut filled) = ([0; LONGEST_NUMBER], 0);
        for piece in self.arena.value(id) {
            bytes[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        let text = std::str::from_utf8(&bytes[..filled]).ok()?;
        // As strtoull(3): spaces before it, and behind the number a space ends it.
        text.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Forgets all items: now, or at a later second.
    pub fn flush(&mut self, at: Option<u32>) {
        match at {
            Some(at) if at > self.now => self.flush_at = Some(at),
            _ => self.restore_flush(self.cas),
        }
    }

    /// What the log says of a flush: items up to this number are gone.
    pub fn restore_flush(&mut self, cas: u64) {
        self.flush_at = None;
        self.flushed = self.flushed.max(cas);
    }

    /// Gives out only numbers above this one.
    pub fn restore_cas(&mut self, cas: u64) {
        self.cas = self.cas.max(cas);
    }

    /// Which items have been flushed: those up to this number.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// When everything is to be flushed.
    pub fn flush_at(&self) -> Option<u32> {
        self.flush_at
    }

    /// Removes dead items from a few buckets, so that memory comes back that nobody asks for.
    pub fn sweep(&mut self, buckets: usize) {
        for _ in 0..buckets {
            let mut id = self.buckets.get(self.swept);
            while id != NONE {
                let next = self.arena.get(id, CHAIN);
                if self.is_dead(id) {
                    self.bury(id);
                }
                id = next;
            }
            self.swept = (self.swept + 1) & (self.buckets.len() - 1);
        }
    }

    /// Shows the live items of some buckets from `bucket` on; returns where to go on, `None` at the end.
    pub fn visit(
        &self,
        bucket: usize,
        count: usize,
        mut visit: impl FnMut(Item<'_>),
    ) -> Option<usize> {
        let end = (bucket + count).min(self.buckets.len());
        for bucket in bucket..end {
            let mut id = self.buckets.get(bucket);
            while id != NONE {
                if !self.is_dead(id) {
                    visit(Item { arena: &self.arena, id });
                }
                id = self.arena.get(id, CHAIN);
            }
        }
        (end < self.buckets.len()).then_some(end)
    }

    // --- The table ---------------------------------------------------------------------------------

    fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// The live item of this key; a dead one is removed.
    fn find(&mut self, key: &[u8]) -> Option<Id> {
        let id = self.lookup(key)?;
        if self.is_dead(id) {
            self.bury(id);
            return None;
        }
        Some(id)
    }

    /// Has what [`get`](Self::get) of these keys looks at brought into the caches, up to [`AHEAD`] of them. Memory
    /// answers many reads at once, and lookups one after the other would wait for each.
    pub fn foresee<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let mut places = [0; AHEAD];
        let mut count = 0;
        for (place, key) in places.iter_mut().zip(keys) {
            *place = self.bucket(self.hash(key));
            count += 1;
        }
        let mut ids = places.map(|place| self.buckets.get(place));
        let ids = &mut ids[..count];
        let there = || ids.iter().copied().filter(|id| *id != NONE);
        black_box(there().fold(0, |seen, id| seen ^ self.arena.glance(id)));
        // Those that will be moved in the list, and where from.
        let moved = there().filter(|id| self.arena.get(*id, USED) != self.now);
        let beside = moved.flat_map(|id| [NEWER, OLDER].map(|field| self.arena.get(id, field)));
        let beside = beside.filter(|id| *id != NONE);
        black_box(beside.fold(0, |seen, id| seen ^ self.arena.get(id, USED)));
        // A step of all items at a time, along their chunks.
        for _ in 1..Arena::chunks_for(DATAGRAM) {
            let (mut seen, mut more) = (0, false);
            for id in ids.iter_mut().filter(|id| **id != NONE) {
                *id = self.arena.next(*id);
                if *id != NONE {
                    seen ^= self.arena.glance(*id);
                    more = true;
                }
            }
            black_box(seen);
            if !more {
                break;
            }
        }
    }

    fn lookup(&self, key: &[u8]) -> Option<Id> {
        let hash = self.hash(key);
        let mut id = self.buckets.get(self.bucket(hash));
        while id != NONE {
            if self.arena.get(id, HASH) == hash && self.arena.has_key(id, key) {
                return Some(id);
            }
            id = self.arena.get(id, CHAIN);
        }
        None
    }

    fn is_dead(&self, id: Id) -> bool {
        let expires = self.arena.get(id, EXPIRES);
        (expires != 0 && expires <= self.now) || self.arena.cas(id) <= self.flushed
    }

    fn bury(&mut self, id: Id) {
        self.remove(id);
        self.counters.expired += 1;
    }

    fn evict(&mut self) {
        let id = self.oldest;
        if self.is_dead(id) {
            self.counters.expired += 1;
        } else {
            self.counters.evictions += 1;
        }
        self.remove(id);
    }

    fn remove(&mut self, id: Id) {
        let next = self.arena.get(id, CHAIN);
        let bucket = self.bucket(self.arena.get(id, HASH));
        if self.buckets.get(bucket) == id {
            self.buckets.set(bucket, next);
        } else {
            let mut before = self.buckets.get(bucket);
            while self.arena.get(before, CHAIN) != id {
                before = self.arena.get(before, CHAIN);
            }
            self.arena.set(before, CHAIN, next);
        }
        self.unlink(id);
        self.arena.give_back(id);
        self.counters.items -= 1;
    }

    // --- The list by time of use -------------------------------------------------------------------

    /// Makes it the one used last, at most once a second: a key that everybody asks for costs no more.
    fn touch_lru(&mut self, id: Id) {
        if self.arena.get(id, USED) != self.now {
            self.make_newest(id);
        }
    }

    fn make_newest(&mut self, id: Id) {
        if self.newest != id {
            self.unlink(id);
            self.link_newest(id);
        }
        self.arena.set(id, USED, self.now);
    }

    fn link_newest(&mut self, id: Id) {
        self.arena.set(id, USED, self.now);
        self.arena.set(id, OLDER, self.newest);
        self.arena.set(id, NEWER, NONE);
        match self.newest {
            NONE => self.oldest = id,
            newest => self.arena.set(newest, NEWER, id),
        }
        self.newest = id;
    }

    fn unlink(&mut self, id: Id) {
        let [newer, older] = [NEWER, OLDER].map(|field| self.arena.get(id, field));
        match newer {
            NONE => self.newest = older,
            newer => self.arena.set(newer, OLDER, older),
        }
        match older {
            NONE => self.oldest = newer,
            older => self.arena.set(older, NEWER, newer),
        }
    }
}

/// Bytes of the smallest store: the largest item has room in it while it replaces another of its size.
pub const LEAST_MEMORY: usize = 4 * MAX_ITEM;
