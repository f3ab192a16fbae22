//! [`Ledger`]: the owners of a pool's chunks, at hand for a loop over many of them.
//!
//! # What the unsafe code here relies on
//!
//! The same as [`PoolBuf`]: a chunk whose state says that the application owns it has one owner. While
//! its data is shown that is the ledger, in the frame of the call that shows it; nobody else is handed the
//! chunk meanwhile, whatever the function does that sees it, and whatever the kernel names. When that
//! function panics, [`InHand`] frees the chunk. Once it is lent again it passes for a chunk that came, should
//! the kernel name it once more without having had it: that it does not is for the caller to know, who says
//! of each chunk that the kernel is done with it.

use std::cell::Cell;
use std::fmt;
use std::hint::cold_path;
use std::rc::Rc;

use super::count::{hold, let_go, pointer};
use super::shared::{Extent, State};
use super::{Kind, Lent, NONE, Owner, Pool, PoolBuf, Shared, StrayChunk};

/// Moves many chunks of a pool between owners, with one look at the counters for all of them: for the
/// loops of a backend.
pub struct Ledger<'a, K: Kind> {
    shared: &'a Rc<Shared<K>>,
    /// The [tables](Shared::tables) of the pool: what is written into them could be the pointers to them, as far
    /// as the compiler knows, if they were looked up each time.
    states: &'a [Cell<State>],
    extents: &'a [Cell<Extent>],
    base: *mut u8,
    chunk_size: usize,
    headroom: u32,
    /// Buffers that are counted and not made.
    counted: usize,
    /// Chunks that were lent for receiving, and are not any more.
    received: u32,
    /// Chunks that were lent to be sent.
    sent: u32,
}

/// What became of a chunk that was [shown](Ledger::show).
#[derive(Debug)]
pub enum Shown<K: Kind> {
    /// It is lent to be received into, as it was.
    Again,
    /// It is lent to be sent.
    Sent,
    /// It is the caller's.
    Kept(PoolBuf<K>),
}

impl<K: Kind> Pool<K> {
    /// Opens the ledger for a loop that will make about `buffers` buffers.
    #[inline]
    #[must_use]
    pub fn ledger(&self, buffers: usize) -> Ledger<'_, K> {
        let shared = &self.shared;
        let buffers = buffers.min(shared.states.len());
        hold(shared, buffers);
        let (states, extents) = shared.tables();
        Ledger {
            shared,
            states,
            extents,
            base: shared.arena.base(),
            chunk_size: shared.chunk_size as usize,
            headroom: shared.headroom,
            counted: buffers,
            received: 0,
            sent: 0,
        }
    }
}

impl<K: Kind> Ledger<'_, K> {
    /// [`Pool::reclaim`] of a chunk that [`Pool::lend_rx`] or [`show`](Self::show) has lent.
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] as there, and for a chunk that has meta of its own.
    ///
    /// # Safety
    ///
    /// The kernel or device must be done with the chunk: it no longer reads or writes it.
    #[inline]
    pub unsafe fn received(
        &mut self,
        chunk: usize,
        offset: u32,
        len: u32,
    ) -> Result<PoolBuf<K>, StrayChunk> {
        self.came(chunk, offset, len)?.set(State::plain(Owner::Application));
        self.received += 1;
        // SAFETY: the data lies inside the mapping: that was looked at.
        prefetch(unsafe { self.base.add(chunk * self.chunk_size + offset as usize) });
        Ok(self.buffer(chunk, offset, len))
    }

    /// Shows the data of a chunk as [`received`](Self::received) would hand it out, and lends the chunk
    /// again, as `f` says; `None` makes it a buffer.
    ///
    /// While `f` runs the chunk is in nobody else's hands, also should the kernel name it once more. When
    /// `f` panics it is freed.
    ///
    /// # Errors
    ///
    /// As [`received`](Self::received); then `f` has not run.
    ///
    /// # Safety
    ///
    /// As for [`received`](Self::received).
    #[inline]
    pub unsafe fn show(
        &mut self,
        chunk: usize,
        offset: u32,
        len: u32,
        f: impl FnOnce(&mut [u8]) -> Option<Lent>,
    ) -> Result<Shown<K>, StrayChunk> {
        // Of the pool, not of the ledger, which counts below.
        let states = self.states;
        self.came(chunk, offset, len)?.set(State::plain(Owner::Application));
        let lent = self.in_hand(chunk, offset, len, Some(Lent::Rx), f);
        Ok(match lent {
            Some(Lent::Rx) => {
                if let Some(state) = states.get(chunk) {
                    state.set(State::plain(Owner::Rx));
                }
                Shown::Again
            }
            Some(Lent::Tx) => {
                self.lend_tx(chunk, offset, len);
                self.received += 1;
                Shown::Sent
            }
            None => {
                self.received += 1;
                Shown::Kept(self.buffer(chunk, offset, len))
            }
        })
    }

    /// Has `f` fill `len` bytes behind the headroom of up to `n` free chunks, one at a time, and lends each
    /// to be sent, of which it tells `queue`. Returns how many: fewer when no more are free (whoever must
    /// leave some looks at [`Pool::available`] before), none when there is no room for so many bytes.
    ///
    /// Of the chunks, up to 64 are set aside before `f` runs, and are not to be had meanwhile. When it
    /// panics they are free again.
    #[inline]
    pub fn fill(
        &mut self,
        n: usize,
        len: u32,
        mut f: impl FnMut(&mut [u8]),
        mut queue: impl FnMut(Filled),
    ) -> usize {
        let offset = self.headroom;
        if !self.holds(offset, len) {
            return 0;
        }
        self.each_free(n, |ledger, chunk, state| {
            state.set(State::plain(Owner::Application));
            ledger.in_hand(chunk as usize, offset, len, None, &mut f);
            ledger.lend_tx(chunk as usize, offset, len);
            queue(Filled { chunk, offset });
        })
    }

    /// [`Pool::lend_rx`] with the ledger open.
    #[inline]
    pub(super) fn lend_rx(&mut self, n: usize, mut post: impl FnMut(u32)) -> usize {
        self.each_free(n, |ledger, chunk, state| {
            state.set(State::plain(Owner::Rx));
            ledger.received = ledger.received.wrapping_sub(1);
            post(chunk);
        })
    }

    /// Hands up to `n` free chunks to `f`, which gives each a new owner before it calls anybody, and returns
    /// how many there were.
    #[inline]
    fn each_free(&mut self, n: usize, mut f: impl FnMut(&mut Self, u32, &Cell<State>)) -> usize {
        let (states, mut taken) = (self.states, 0);
        let mut memory = [0; ASIDE];
        while taken < n {
            let rest = self.set_aside(&mut memory, n - taken);
            if rest.is_empty() {
                break;
            }
            let mut aside = Aside { shared: self.shared, rest: rest.iter() };
            while let Some(&chunk) = aside.rest.next_back() {
                let Some(state) = states.get(chunk as usize) else { continue };
                debug_assert_eq!(state.get(), State::plain(Owner::Free));
                taken += 1;
                f(self, chunk, state);
            }
        }
        taken
    }

    /// Has `f` fill `len` bytes behind the headroom of a chunk that was sent, and lends it to be sent again.
    /// `f` also gets how many bytes it was lent with before.
    ///
    /// When `f` panics the chunk is freed.
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] when the chunk was not being sent, or has no room for so many bytes; then `f` has not
    /// run.
    ///
    /// # Safety
    ///
    /// As for [`received`](Self::received).
    #[inline]
    pub unsafe fn resend(
        &mut self,
        chunk: usize,
        len: u32,
        f: impl FnOnce(&mut [u8], u32),
    ) -> Result<Filled, StrayChunk> {
        let (states, extents, offset) = (self.states, self.extents, self.headroom);
        let (Some(state), Some(extent)) = (states.get(chunk), extents.get(chunk)) else {
            return Err(stray(chunk));
        };
        if !state.get().is_of(Owner::Tx) || !self.holds(offset, len) {
            return Err(stray(chunk));
        }
        if state.get() != State::plain(Owner::Tx) {
            self.shared.blank(chunk as u32);
        }
        let (_, before) = extent.get();
        state.set(State::plain(Owner::Application));
        self.in_hand(chunk, offset, len, Some(Lent::Tx), |data| f(data, before));
        extent.set((offset, len));
        state.set(State::plain(Owner::Tx));
        Ok(Filled { chunk: chunk as u32, offset })
    }

    /// Takes up to `n` chunks off the stack of free ones; those whose detached buffers were dropped, when no
    /// others are free.
    #[inline]
    fn set_aside<'m>(&self, memory: &'m mut [u32; ASIDE], n: usize) -> &'m [u32] {
        let mut taken = self.shared.set_aside(memory, n);
        if taken == 0 {
            self.shared.collect_returned();
            taken = self.shared.set_aside(memory, n);
        }
        memory.get(..taken).unwrap_or_default()
    }

    /// The state of a chunk that was received into.
    #[inline]
    fn came(&self, chunk: usize, offset: u32, len: u32) -> Result<&Cell<State>, StrayChunk> {
        let is_lent = |state: &Cell<State>| state.get() == State::plain(Owner::Rx);
        match self.states.get(chunk) {
            Some(state) if is_lent(state) && self.holds(offset, len) => Ok(state),
            _ => {
                // Else a loop's counters of what is right are kept in memory.
                cold_path();
                Err(stray(chunk))
            }
        }
    }

    /// Whether the data lies inside a chunk.
    #[inline]
    fn holds(&self, offset: u32, len: u32) -> bool {
        u64::from(offset) + u64::from(len) <= self.chunk_size as u64
    }

    /// Shows data in a chunk that is the ledger's.
    #[inline]
    fn in_hand<R>(
        &self,
        chunk: usize,
        offset: u32,
        len: u32,
        was_lent: Option<Lent>,
        f: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let hand = InHand { shared: self.shared, chunk: chunk as u32, was_lent };
        // SAFETY: the callers have seen that chunk and data lie inside the mapping.
        let data = unsafe { self.base.add(chunk * self.chunk_size + offset as usize) };
        // SAFETY: the bytes are initialised (see `PoolBuf`), and nobody else has the chunk for as long as
        // `f` runs (see the module's head).
        let result = f(unsafe { std::slice::from_raw_parts_mut(data, len as usize) });
        std::mem::forget(hand);
        result
    }

    #[inline]
    fn lend_tx(&mut self, chunk: usize, offset: u32, len: u32) {
        if let (Some(state), Some(extent)) = (self.states.get(chunk), self.extents.get(chunk)) {
            extent.set((offset, len));
            state.set(State::plain(Owner::Tx));
            self.sent += 1;
        }
    }

    /// A buffer of a chunk that is the caller's.
    #[inline]
    fn buffer(&mut self, chunk: usize, offset: u32, len: u32) -> PoolBuf<K> {
        match self.counted.checked_sub(1) {
            Some(left) => self.counted = left,
            None => hold(self.shared, 1),
        }
        PoolBuf::counted(self.shared, chunk as u32, offset, len)
    }
}

/// Has two cache lines brought near, headers and what is behind them, while the loop goes on: whoever reads
/// the frames of a burst one by one would wait for memory at each.
#[inline]
fn prefetch(data: *const u8) {
    #[cfg(target_arch = "x86_64")]
    for line in [data, data.wrapping_add(CACHE_LINE)] {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and never faults, wherever it points to.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    // Elsewhere there is no stable way to ask for it.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// The kernel or device named a chunk that it did not have.
#[inline]
fn stray(chunk: usize) -> StrayChunk {
    StrayChunk { chunk: u32::try_from(chunk).unwrap_or(NONE) }
}

/// Where a chunk lies that was [filled](Ledger::fill).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Index in the arena.
    pub chunk: u32,
    /// Where its data begins.
    pub offset: u32,
}

/// How many free chunks are set aside at a time.
const ASIDE: usize = 64;

/// Bytes in a cache line.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Free chunks that are not on the stack of free ones; they go back there.
struct Aside<'a, K: Kind> {
    shared: &'a Shared<K>,
    rest: std::slice::Iter<'a, u32>,
}

impl<K: Kind> Drop for Aside<'_, K> {
    #[inline]
    fn drop(&mut self) {
        for &chunk in self.rest.as_slice() {
            self.shared.put_back(chunk);
        }
    }
}

/// A chunk whose data is shown; freed by a panic.
struct InHand<'a, K: Kind> {
    shared: &'a Shared<K>,
    chunk: u32,
    was_lent: Option<Lent>,
}

impl<K: Kind> Drop for InHand<'_, K> {
    #[cold]
    fn drop(&mut self) {
        self.shared.release(self.chunk);
        if let Some(was) = self.was_lent {
            let lent = self.shared.lent(was);
            lent.set(lent.get().wrapping_sub(1));
        }
    }
}

impl<K: Kind> Drop for Ledger<'_, K> {
    #[inline]
    fn drop(&mut self) {
        let (posted, sent) = (&self.shared.rx_posted, &self.shared.tx_in_flight);
        posted.set(posted.get().wrapping_sub(self.received));
        sent.set(sent.get().wrapping_add(self.sent));
        if self.counted > 0 {
            // SAFETY: so many are counted that no buffer was made with.
            unsafe { let_go(pointer(self.shared), self.counted) };
        }
    }
}

impl<K: Kind> fmt::Debug for Ledger<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("backend", &K::BACKEND)
            .field("received", &self.received)
            .field("sent", &self.sent)
            .finish()
    }
}
