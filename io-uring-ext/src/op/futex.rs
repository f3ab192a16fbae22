//! [`FutexWait`], [`FutexWaitV`] and [`FutexWake`].
//!
//! The word is an `Arc<AtomicU32>`: the operation keeps it alive, and any thread may change it. Futexes
//! are private to the process, as those of the standard library are (`FUTEX2_PRIVATE`).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use io_uring::types;
use io_uring::{opcode, squeue};

use super::sealed::Prepare;
use super::{Completions, Operation, Target};
use crate::ring::RingId;

/// `FUTEX2_SIZE_U32 | FUTEX2_PRIVATE`.
const PRIVATE_U32: u32 = 2 | 128;
/// `FUTEX_BITSET_MATCH_ANY`.
const ANY: u64 = u32::MAX as u64;

/// Waits until somebody wakes a futex, as `futex_wait(2)` (Linux 6.7).
///
/// ```
/// use io_uring_ext::Ring;
/// use io_uring_ext::op::{FutexWait, FutexWake};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let ring = Ring::local()?;
/// let word = Arc::new(AtomicU32::new(0));
/// let woken = ring.push(FutexWait::new(&word, 0))?;
/// ring.submit()?;
///
/// word.store(1, Ordering::Release);
/// assert_eq!(ring.push(FutexWake::new(&word, 1))?.wait(None)??, 1);
/// woken.wait(None)??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FutexWait {
    word: Arc<AtomicU32>,
    expected: u32,
}

impl FutexWait {
    /// Waits if the word is `expected`; `EAGAIN` if it is not. Both may be meant for another waiter: look
    /// at the word again.
    pub fn new(word: &Arc<AtomicU32>, expected: u32) -> Self {
        Self { word: Arc::clone(word), expected }
    }
}

// SAFETY: the operation shares the ownership of the word, which does not move, and which the kernel only
// reads, atomically.
unsafe impl Prepare for FutexWait {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::FutexWait::new(self.word.as_ptr(), self.expected.into(), ANY, PRIVATE_U32).build()
    }
}

impl Operation for FutexWait {
    type Output = io::Result<()>;

    fn complete(self, completions: Completions) -> io::Result<()> {
        completions.result().map(drop)
    }
}

/// Wakes those who wait for a futex, on a ring or in a system call, as `futex_wake(2)` (Linux 6.7).
///
/// Its result is how many were woken.
#[derive(Debug)]
pub struct FutexWake {
    word: Arc<AtomicU32>,
    waiters: u32,
}

impl FutexWake {
    /// Wakes at most so many.
    pub fn new(word: &Arc<AtomicU32>, waiters: u32) -> Self {
        Self { word: Arc::clone(word), waiters }
    }
}

// SAFETY: the operation shares the ownership of the word, of which the kernel needs the address alone.
unsafe impl Prepare for FutexWake {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        // The kernel counts with an `int` (`futex_wake` in `kernel/futex/waitwake.c`), to which more is
        // negative, and that is one.
        let waiters = self.waiters.min(i32::MAX as u32);
        opcode::FutexWake::new(self.word.as_ptr(), waiters.into(), ANY, PRIVATE_U32).build()
    }
}

impl Operation for FutexWake {
    type Output = io::Result<usize>;

    fn complete(self, completions: Completions) -> io::Result<usize> {
        completions.result()
    }
}

/// Waits until somebody wakes one of several futexes, as `futex_waitv(2)` (Linux 6.7).
///
/// Its result is the index of one that was woken. `EAGAIN` if a word is not what was expected, `EINVAL`
/// for none or more than [`MAX_WORDS`](Self::MAX_WORDS).
pub struct FutexWaitV {
    words: Vec<Arc<AtomicU32>>,
    waiters: Vec<types::FutexWaitV>,
}

impl FutexWaitV {
    /// Futexes in one operation, at most: `FUTEX_WAITV_MAX`.
    pub const MAX_WORDS: usize = 128;

    /// Waits if every word is what is expected of it.
    pub fn new<'a>(words: impl IntoIterator<Item = (&'a Arc<AtomicU32>, u32)>) -> Self {
        let (words, waiters) = words
            .into_iter()
            .take(Self::MAX_WORDS + 1)
            .map(|(word, expected)| {
                let waiter = types::FutexWaitV::new()
                    .val(expected.into())
                    .uaddr(word.as_ptr().addr() as u64)
                    .flags(PRIVATE_U32);
                (Arc::clone(word), waiter)
            })
            .unzip();
        Self { words, waiters }
    }
}

// SAFETY: the waiters are a heap block of the operation and point to words whose ownership it shares,
// which do not move, and which the kernel only reads, atomically.
unsafe impl Prepare for FutexWaitV {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        // One more than allowed, at most.
        opcode::FutexWaitV::new(self.waiters.as_ptr(), self.waiters.len() as u32).build()
    }
}

impl Operation for FutexWaitV {
    type Output = io::Result<usize>;

    fn complete(self, completions: Completions) -> io::Result<usize> {
        completions.result()
    }
}

impl fmt::Debug for FutexWaitV {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FutexWaitV").field("words", &self.words).finish_non_exhaustive()
    }
}
