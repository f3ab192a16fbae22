//! Memory in huge pages, where the kernel has them: a store is looked at all over, and of ordinary pages the
//! processor knows too few at a time.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

use super::arena::{Id, NONE};

/// What a huge page has.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes, all of them 0 at first.
pub struct Memory(MmapMut);

impl Memory {
    pub fn new(bytes: usize) -> io::Result<Self> {
        // Only whole huge pages begin where one can be.
        let whole = if bytes < HUGE_PAGE { bytes } else { bytes.next_multiple_of(HUGE_PAGE) };
        let map = MmapMut::map_anon(whole)?;
        // A kernel that has none goes on with ordinary pages.
        let _advised = map.advise(Advice::HugePage);
        Ok(Self(map))
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// The first item of each bucket.
pub struct Buckets {
    memory: Memory,
    count: usize,
}

/// Bytes in the table for each.
const WIDTH: usize = size_of::<Id>();

impl Buckets {
    /// So many buckets without an item.
    pub fn new(count: usize) -> io::Result<Self> {
        let mut memory = Memory::new(count * WIDTH)?;
        memory.fill(0xff);
        Ok(Self { memory, count })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn get(&self, bucket: usize) -> Id {
        Id::from_ne_bytes(self.memory.as_chunks::<WIDTH>().0[bucket])
    }

    pub fn set(&mut self, bucket: usize, id: Id) {
        self.memory.as_chunks_mut::<WIDTH>().0[bucket] = id.to_ne_bytes();
    }
}

// Memory that is full of ones has no item.
const _: () = assert!(NONE == Id::MAX);
