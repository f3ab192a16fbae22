//! [`Arena`]: the memory behind a pool, shared by every thread that holds a piece of it.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};

use super::PoolOptions;
use crate::{Error, Result};

/// Page size of the huge pages that are asked for: 2 MiB, as a power of two.
const HUGE_PAGE_BITS: u8 = 21;
const HUGE_PAGE: usize = 1 << HUGE_PAGE_BITS;

/// A page-aligned mapping cut into chunks of equal size.
///
/// It lives as long as anything refers to it: a pool, a detached buffer on another thread, or an
/// operation that the kernel has not finished.
#[derive(Debug)]
pub struct Arena {
    map: MmapRaw,
    chunks: u32,
    chunk_size: u32,
    id: ArenaId,
    /// Chunks whose detached buffers were dropped, on whichever thread; there is a place for every
    /// chunk, and a chunk is detached at most once at a time, so it never overflows.
    returned: ArrayQueue<u32>,
    fallback: Option<String>,
}

/// Tells arenas of this process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArenaId(u64);

/// Whether packet memory lies on huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// None that are reserved. Memory of 2 MiB and more is a whole number of huge pages, of which the kernel is
    /// asked to make transparent ones (`MADV_HUGEPAGE`), so that it takes fewer entries of the TLB; whether it
    /// does is its own affair (`/sys/kernel/mm/transparent_hugepage/enabled`).
    #[default]
    No,
    /// Reserved huge pages (`vm.nr_hugepages`) where there are enough, or else as [`No`](Self::No); the
    /// fallback is reported in [`Caps::fallbacks`](crate::Caps::fallbacks).
    Prefer,
    /// Reserved huge pages or an error.
    Require,
}

impl Arena {
    pub(super) fn new(options: &PoolOptions) -> Result<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let len = mapping_len(options).ok_or_else(|| {
            let why = "with this chunk size it is more memory than this machine can address";
            Error::config("chunks", options.chunks, why)
        })?;
        let (map, fallback) = map(len, options.huge_pages)?;
        Ok(Self {
            map: MmapRaw::from(map),
            chunks: options.chunks,
            chunk_size: options.chunk_size,
            id: ArenaId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            returned: ArrayQueue::new(options.chunks as usize),
            fallback,
        })
    }

    /// The first byte, page aligned. What lies behind it belongs to the owners of the chunks.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes in all chunks.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an arena has at least one chunk")]
    pub fn len(&self) -> usize {
        self.chunks as usize * self.chunk_size as usize
    }

    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes in each chunk.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Its identity; frames of one arena can be told from another's.
    #[must_use]
    pub fn id(&self) -> ArenaId {
        self.id
    }

    /// Why it does not lie on huge pages, if that was preferred and not to be had.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    pub(super) fn give_back(&self, chunk: u32) {
        let kept = self.returned.push(chunk);
        debug_assert!(kept.is_ok(), "chunk {chunk} came back twice");
    }

    pub(super) fn take_returned(&self) -> Option<u32> {
        self.returned.pop()
    }

    pub(super) fn returned(&self) -> usize {
        self.returned.len()
    }
}

/// Bytes in all chunks, if a slice could be so long; then so are whole huge pages around them.
fn mapping_len(options: &PoolOptions) -> Option<usize> {
    let len = (options.chunks as usize).checked_mul(options.chunk_size as usize)?;
    (len <= isize::MAX as usize).then_some(len)
}

fn map(len: usize, huge: HugePages) -> Result<(MmapMut, Option<String>)> {
    if huge == HugePages::No {
        return Ok((map_plain(len)?, None));
    }
    let whole = len.next_multiple_of(HUGE_PAGE);
    match MmapOptions::new().len(whole).huge(Some(HUGE_PAGE_BITS)).map_anon() {
        Ok(map) => Ok((map, None)),
        Err(error) if huge == HugePages::Require => {
            let pages = whole >> HUGE_PAGE_BITS;
            Err(Error::os(format!("map {pages} huge pages of 2 MiB for packet memory"), error)
                .with_remedy(format!("reserve them: sysctl vm.nr_hugepages={pages} (or more)")))
        }
        Err(error) => {
            let why = format!("huge pages were preferred, ordinary pages obtained: {error}");
            Ok((map_plain(len)?, Some(why)))
        }
    }
}

/// Ordinary pages, which the kernel may put together.
fn map_plain(len: usize) -> Result<MmapMut> {
    // The kernel puts a mapping where huge pages begin if it is a whole number of them.
    let whole = if len < HUGE_PAGE { len } else { len.next_multiple_of(HUGE_PAGE) };
    let map = MmapOptions::new().len(whole).map_anon().map_err(|error| {
        Error::os(format!("map {len} bytes of packet memory"), error)
            .with_remedy("make the pool smaller, or raise the memory limit")
    })?;
    if len >= HUGE_PAGE {
        // A kernel without them goes on with what it has.
        let _advised = map.advise(Advice::HugePage);
    }
    Ok(map)
}
