//! The memory of a store: chunks of one size, allocated once. An item is a chain of them.
//!
//! ```text
//! first of an item:  next newer older chain hash flags expires length | cas | used key-length | 80 bytes
//! all others:        next | 124 bytes
//! ```
//!
//! Whatever the sizes of items, no memory is lost between them: to make room for a large item, as many small
//! ones go as there have to, and none is in a place that only its own kind can use.

use std::io;

use super::memory::Memory;

/// Bytes of a chunk, which are two cache lines.
pub const CHUNK: usize = 128;

/// The number of a chunk; that of its first one is the number of an item.
pub type Id = u32;

/// No chunk.
pub const NONE: Id = Id::MAX;

/// A field of four bytes, by its place in a chunk.
#[derive(Clone, Copy)]
pub struct Field(usize);

/// The next chunk of the item, or of the free list. The only field of chunks that are not the first.
const NEXT: Field = Field(0);
/// The item that was used next after this one, and before it.
pub const NEWER: Field = Field(4);
pub const OLDER: Field = Field(8);
/// The next item of the same bucket.
pub const CHAIN: Field = Field(12);
/// Low half of the key's hash.
pub const HASH: Field = Field(16);
/// What the client stored beside the value.
pub const FLAGS: Field = Field(20);
/// The second in which it expires; 0 is never.
pub const EXPIRES: Field = Field(24);
/// Bytes of the value.
pub const LENGTH: Field = Field(28);
/// The second in which it was last moved to the front of the others.
pub const USED: Field = Field(40);
const CAS: usize = 32;
const KEY_LENGTH: Field = Field(44);
/// Where key and value begin, in the first chunk of an item and in the others.
const FIRST: usize = 48;
const OTHER: usize = 4;

pub struct Arena {
    memory: Memory,
    /// The first free chunk, and how many there are.
    free: Id,
    available: usize,
}

impl Arena {
    /// So many chunks, all of them written to: no page of them is missing later.
    pub fn new(count: usize) -> io::Result<Self> {
        let memory = Memory::new(count * CHUNK)?;
        let mut arena = Self { memory, free: NONE, available: count };
        for id in (0..count as Id).rev() {
            arena.set(id, NEXT, arena.free);
            arena.free = id;
        }
        Ok(arena)
    }

    fn chunk(&self, id: Id) -> &[u8; CHUNK] {
        &self.memory.as_chunks().0[id as usize]
    }

    fn chunk_mut(&mut self, id: Id) -> &mut [u8; CHUNK] {
        &mut self.memory.as_chunks_mut().0[id as usize]
    }

    #[cfg(test)]
    pub fn available(&self) -> usize {
        self.available
    }

    pub fn get(&self, id: Id, Field(at): Field) -> u32 {
        let bytes = self.chunk(id);
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// Reads a little of each cache line of a chunk.
    pub fn glance(&self, id: Id) -> u32 {
        self.get(id, HASH) ^ self.get(id, Field(CHUNK - 4))
    }

    /// The next chunk of the item.
    pub fn next(&self, id: Id) -> Id {
        self.get(id, NEXT)
    }

    pub fn set(&mut self, id: Id, Field(at): Field, value: u32) {
        self.chunk_mut(id)[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// The item's number that no other value of its key has.
    pub fn cas(&self, id: Id) -> u64 {
        u64::from(self.get(id, Field(CAS))) | u64::from(self.get(id, Field(CAS + 4))) << 32
    }

    pub fn set_cas(&mut self, id: Id, cas: u64) {
        self.chunk_mut(id)[CAS..CAS + 8].copy_from_slice(&cas.to_le_bytes());
    }

    /// Chunks that an item of so many bytes of key and value takes.
    pub fn chunks_for(bytes: usize) -> usize {
        1 + bytes.saturating_sub(CHUNK - FIRST).div_ceil(CHUNK - OTHER)
    }

    /// Chunks that an item takes.
    pub fn chunks(&self, id: Id) -> usize {
        Self::chunks_for(self.key_length(id) + self.length(id))
    }

    /// Takes the chunks of a new item. `None` when there are too few, and then none is taken.
    pub fn take(&mut self, bytes: usize) -> Option<Id> {
        let count = Self::chunks_for(bytes);
        if count > self.available {
            return None;
        }
        let first = self.free;
        let mut last = first;
        for _ in 1..count {
            last = self.get(last, NEXT);
        }
        self.free = self.get(last, NEXT);
        self.set(last, NEXT, NONE);
        self.available -= count;
        Some(first)
    }

    /// Gives the chunks of an item back.
    pub fn give_back(&mut self, id: Id) {
        let (mut last, mut count) = (id, 1);
        while self.get(last, NEXT) != NONE {
            last = self.get(last, NEXT);
            count += 1;
        }
        self.set(last, NEXT, self.free);
        self.free = id;
        self.available += count;
    }

    /// Writes key and value of an item that was [taken](Self::take) with room for both.
    pub fn fill(&mut self, id: Id, key: &[u8], value: [Part<'_>; 2]) {
        let length = value.iter().map(|part| part.length(self)).sum::<usize>();
        self.set(id, KEY_LENGTH, key.len() as u32);
        self.set(id, LENGTH, length as u32);
        let mut place = (id, FIRST);
        self.put(&mut place, key);
        for part in value {
            match part {
                Part::Bytes(bytes) => self.put(&mut place, bytes),
                Part::Item(item) => {
                    let mut pieces = self.start(item, self.key_length(item));
                    while let Some((chunk, at, end)) = pieces.next(self) {
                        let bytes = *self.chunk(chunk);
                        self.put(&mut place, &bytes[at..end]);
                    }
                }
            }
        }
    }

    fn put(&mut self, (chunk, at): &mut (Id, usize), mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if *at == CHUNK {
                (*chunk, *at) = (self.get(*chunk, NEXT), OTHER);
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - *at));
            self.chunk_mut(*chunk)[*at..*at + now.len()].copy_from_slice(now);
            *at += now.len();
            bytes = later;
        }
    }

    /// Writes other bytes over the front of the value.
    pub fn overwrite(&mut self, id: Id, bytes: &[u8]) {
        let mut pieces = self.start(id, self.key_length(id));
        let mut rest = &bytes[..bytes.len().min(self.length(id))];
        while let Some((chunk, at, end)) = pieces.next(self) {
            let (now, later) = rest.split_at(rest.len().min(end - at));
            self.chunk_mut(chunk)[at..at + now.len()].copy_from_slice(now);
            rest = later;
        }
    }

    fn key_length(&self, id: Id) -> usize {
        self.get(id, KEY_LENGTH) as usize
    }

    pub fn length(&self, id: Id) -> usize {
        self.get(id, LENGTH) as usize
    }

    /// Whether it is the item of this key.
    pub fn has_key(&self, id: Id, key: &[u8]) -> bool {
        if self.key_length(id) != key.len() {
            return false;
        }
        let mut rest = key;
        self.key(id).all(|piece| {
            let same = rest.starts_with(piece);
            rest = rest.get(piece.len()..).unwrap_or_default();
            same
        })
    }

    /// The key, in pieces.
    pub fn key(&self, id: Id) -> impl Iterator<Item = &[u8]> {
        let length = self.key_length(id);
        self.pieces(Pieces { chunk: id, at: FIRST, left: length })
    }

    /// The value, in pieces.
    pub fn value(&self, id: Id) -> impl Iterator<Item = &[u8]> {
        self.pieces(self.start(id, self.key_length(id)))
    }

    fn pieces(&self, mut pieces: Pieces) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            let (chunk, at, end) = pieces.next(self)?;
            Some(&self.chunk(chunk)[at..end])
        })
    }

    /// Where the value begins: `skip` bytes behind the beginning of the key.
    fn start(&self, id: Id, mut skip: usize) -> Pieces {
        let (mut chunk, mut at) = (id, FIRST);
        while skip > CHUNK - at {
            skip -= CHUNK - at;
            (chunk, at) = (self.get(chunk, NEXT), OTHER);
        }
        Pieces { chunk, at: at + skip, left: self.length(id) }
    }
}

/// A part of a new value.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Bytes(&'a [u8]),
    /// The value of an item.
    Item(Id),
}

impl Part<'_> {
    fn length(self, arena: &Arena) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Item(id) => arena.length(id),
        }
    }
}

/// A walk over the bytes of an item.
struct Pieces {
    chunk: Id,
    at: usize,
    left: usize,
}

impl Pieces {
    /// The next piece: its chunk, and where it begins and ends there.
    fn next(&mut self, arena: &Arena) -> Option<(Id, usize, usize)> {
        if self.left == 0 {
            return None;
        }
        if self.at == CHUNK {
            (self.chunk, self.at) = (arena.get(self.chunk, NEXT), OTHER);
        }
        let (at, end) = (self.at, CHUNK.min(self.at + self.left));
        self.left -= end - at;
        self.at = end;
        Some((self.chunk, at, end))
    }
}
