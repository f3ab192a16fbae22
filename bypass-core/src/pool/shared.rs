//! [`Shared`]: what the clones of a pool and its buffers share: the owner of each chunk, and the free ones.

use std::cell::Cell;
use std::sync::Arc;

use super::{Arena, Kind, Lent, NONE, PoolOptions, Released, StrayChunk};
use crate::{Result, TxOffloads};

/// Who owns a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Owner {
    Free,
    Application,
    Rx,
    Tx,
}

impl Lent {
    pub(super) fn owner(self) -> Owner {
        match self {
            Self::Rx => Owner::Rx,
            Self::Tx => Owner::Tx,
        }
    }
}

/// Where data lies in a chunk: offset and length.
pub(super) type Extent = (u32, u32);

/// What every packet touches of a chunk beside its bytes: the owner, and two marks. A byte, so that the
/// table of all chunks stays in the nearest cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u8);

impl State {
    const OWNER: u8 = 0b11;
    /// Its meta is not the default, and is reset when the chunk is freed.
    const HAS_META: u8 = 1 << 2;
    /// Another chunk of the same buffer is behind it.
    pub(super) const HAS_NEXT: u8 = 1 << 3;

    /// Without marks, as every free chunk is, and almost every other.
    pub(super) const fn plain(owner: Owner) -> Self {
        Self(owner as u8)
    }

    pub(super) const fn is_of(self, owner: Owner) -> bool {
        self.0 & Self::OWNER == owner as u8
    }

    pub(super) const fn given_to(self, owner: Owner) -> Self {
        Self(self.0 & !Self::OWNER | owner as u8)
    }

    pub(super) const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }
}

pub(super) struct Shared<K: Kind> {
    pub(super) arena: Arc<Arena>,
    pub(super) states: Box<[Cell<State>]>,
    /// Where the data lies, offset and length, of a chunk that no buffer tells of: one behind the
    /// first, or one that is lent.
    pub(super) extents: Box<[Cell<Extent>]>,
    /// The next chunk of the same buffer, where the state says that there is one.
    nexts: Box<[Cell<u32>]>,
    metas: Box<[Cell<K::Meta>]>,
    /// What a meta is reset to.
    blank: K::Meta,
    /// A stack: `free[..free_len]` are the chunks that nobody owns.
    free: Box<[Cell<u32>]>,
    pub(super) free_len: Cell<u32>,
    /// Chunks that are lent, as far as no [`Ledger`](super::Ledger) is open.
    pub(super) rx_posted: Cell<u32>,
    pub(super) tx_in_flight: Cell<u32>,
    /// Buffers that there are; they keep the pool alive together.
    pub(super) buffers: Cell<usize>,
    pub(super) chunk_size: u32,
    pub(super) headroom: u32,
    pub(super) rx_reserve: u32,
    pub(super) tx_offloads: TxOffloads,
}

impl<K: Kind> Shared<K> {
    /// Maps the memory; every chunk is free.
    pub(super) fn new(options: &PoolOptions) -> Result<Self> {
        fn table<T: Copy>(value: T, chunks: u32) -> Box<[Cell<T>]> {
            vec![Cell::new(value); chunks as usize].into()
        }
        let (blank, chunks) = (K::Meta::default(), options.chunks);
        Ok(Self {
            arena: Arc::new(Arena::new(options)?),
            states: table(State::plain(Owner::Free), chunks),
            extents: table((0, 0), chunks),
            nexts: table(NONE, chunks),
            metas: table(blank, chunks),
            blank,
            free: (0..chunks).rev().map(Cell::new).collect(),
            free_len: Cell::new(chunks),
            rx_posted: Cell::new(0),
            tx_in_flight: Cell::new(0),
            buffers: Cell::new(0),
            chunk_size: options.chunk_size,
            headroom: options.headroom,
            rx_reserve: options.rx_reserve,
            tx_offloads: options.tx_offloads,
        })
    }

    pub(super) fn lent(&self, to: Lent) -> &Cell<u32> {
        match to {
            Lent::Rx => &self.rx_posted,
            Lent::Tx => &self.tx_in_flight,
        }
    }

    /// Owners and extents, for a loop. There are as many: a chunk that has been looked up in the one table need
    /// not be checked for in the other.
    #[inline]
    pub(super) fn tables(&self) -> (&[Cell<State>], &[Cell<Extent>]) {
        match self.extents.get(..self.states.len()) {
            Some(extents) => (&*self.states, extents),
            None => Default::default(),
        }
    }

    /// What is known of a chunk. All that is done to every packet asks for nothing else, and cannot
    /// panic: a loop around it keeps its state in registers.
    #[inline]
    fn state(&self, chunk: u32) -> State {
        self.states.get(chunk as usize).map_or(State::plain(Owner::Free), Cell::get)
    }

    #[inline]
    fn set_state(&self, chunk: u32, state: State) {
        debug_assert!(chunk < self.arena.chunks());
        if let Some(place) = self.states.get(chunk as usize) {
            place.set(state);
        }
    }

    /// Gives a chunk, whose owner the caller speaks for, to another one.
    #[inline]
    pub(super) fn give(&self, chunk: u32, to: Owner) {
        self.set_state(chunk, self.state(chunk).given_to(to));
    }

    /// Gives the chunk of a buffer to the kernel or the device.
    #[inline]
    pub(super) fn lend(&self, chunk: u32, to: Lent, offset: u32, len: u32) {
        if let Some(extent) = self.extents.get(chunk as usize) {
            extent.set((offset, len));
        }
        self.give(chunk, to.owner());
    }

    /// Gives a chunk that was lent back to the application, with data in it.
    #[inline]
    pub(super) fn reclaim(
        &self,
        chunk: u32,
        from: Lent,
        offset: u32,
        len: u32,
    ) -> Result<(), StrayChunk> {
        let state = self.state(chunk);
        if !state.is_of(from.owner()) || !self.holds(offset, len) {
            return Err(StrayChunk { chunk });
        }
        self.set_state(chunk, state.given_to(Owner::Application));
        Ok(())
    }

    /// Whether the data lies inside a chunk.
    #[inline]
    fn holds(&self, offset: u32, len: u32) -> bool {
        u64::from(offset) + u64::from(len) <= u64::from(self.chunk_size)
    }

    /// Takes the `n` free chunks on top, of which there must be so many, for their next owner. What the
    /// iterator is not asked for is leaked.
    #[inline]
    pub(super) fn take_many(&self, n: usize, owner: Owner) -> impl Iterator<Item = u32> + '_ {
        let top = self.free_len.get() as usize;
        let below = top.saturating_sub(n);
        self.free_len.set(below as u32);
        // Nobody writes to the places above the stack while the iterator is in use: those who hold it
        // let no other code run meanwhile.
        let (states, taken) = (&*self.states, self.free.get(below..top).unwrap_or_default());
        taken.iter().rev().map(move |chunk| {
            let chunk = chunk.get();
            if let Some(state) = states.get(chunk as usize) {
                debug_assert_eq!(state.get(), State::plain(Owner::Free));
                state.set(State::plain(owner));
            }
            chunk
        })
    }

    /// Moves up to `n` free chunks from the top of the stack into `to`, the topmost last, and returns how
    /// many. They are still nobody's.
    #[inline]
    pub(super) fn set_aside(&self, to: &mut [u32], n: usize) -> usize {
        let top = self.free_len.get() as usize;
        let below = top.saturating_sub(n.min(to.len()));
        let taken = self.free.get(below..top).unwrap_or_default();
        for (to, chunk) in to.iter_mut().zip(taken) {
            *to = chunk.get();
        }
        self.free_len.set(below as u32);
        taken.len()
    }

    /// Puts a chunk back that was set aside.
    pub(super) fn put_back(&self, chunk: u32) {
        self.free_len.set(self.push(self.free_len.get(), chunk));
    }

    /// Looked up only where the state says that it is not the default: a table that is as long as there are
    /// chunks is in no near cache.
    #[inline]
    pub(super) fn meta(&self, chunk: u32) -> K::Meta {
        if self.state(chunk).has(State::HAS_META) {
            self.metas[chunk as usize].get()
        } else {
            self.blank
        }
    }

    pub(super) fn set_meta(&self, chunk: u32, meta: K::Meta) {
        self.metas[chunk as usize].set(meta);
        self.set_state(chunk, State(self.state(chunk).0 | State::HAS_META));
    }

    /// Resets the meta of a chunk, which few have. (Inlined, if anywhere, where it is known that it does not
    /// panic, so that the loops around it keep their state in registers.)
    #[cold]
    #[inline]
    pub(super) fn blank(&self, chunk: u32) {
        if let Some(meta) = self.metas.get(chunk as usize) {
            meta.set(self.blank);
        }
        self.set_state(chunk, State(self.state(chunk).0 & !State::HAS_META));
    }

    #[inline]
    pub(super) fn has_next(&self, chunk: u32) -> bool {
        self.state(chunk).has(State::HAS_NEXT)
    }

    /// The chunk behind `chunk` in its buffer.
    pub(super) fn next(&self, chunk: u32) -> Option<u32> {
        if self.has_next(chunk) { self.nexts.get(chunk as usize).map(Cell::get) } else { None }
    }

    /// Puts `next` behind `chunk`, which must be the last of its buffer.
    pub(super) fn join(&self, chunk: u32, next: u32) {
        self.nexts[chunk as usize].set(next);
        self.set_state(chunk, State(self.state(chunk).0 | State::HAS_NEXT));
    }

    /// Takes off what is behind `chunk` in its buffer.
    pub(super) fn cut(&self, chunk: u32) -> Option<u32> {
        let next = self.next(chunk);
        self.set_state(chunk, State(self.state(chunk).0 & !State::HAS_NEXT));
        next
    }

    /// Frees one chunk that the application owned.
    #[inline]
    pub(super) fn release(&self, chunk: u32) {
        debug_assert!(self.state(chunk).is_of(Owner::Application));
        if self.state(chunk).has(State::HAS_META) {
            self.blank(chunk);
        }
        self.give(chunk, Owner::Free);
        self.free_len.set(self.push(self.free_len.get(), chunk));
    }

    /// Puts a chunk on the stack of free ones, which has a place for each; the new height.
    #[inline]
    fn push(&self, top: u32, chunk: u32) -> u32 {
        debug_assert!(top < self.arena.chunks());
        match self.free.get(top as usize) {
            Some(place) => {
                place.set(chunk);
                top + 1
            }
            None => top,
        }
    }

    /// Frees a buffer's chunks.
    pub(super) fn release_chain(&self, first: u32) {
        let mut chunk = Some(first);
        while let Some(this) = chunk {
            chunk = self.cut(this);
            self.release(this);
        }
    }

    /// Frees buffers by their first chunks, and returns how many.
    #[inline]
    pub(super) fn release_many(&self, firsts: impl Iterator<Item = u32>) -> usize {
        // In a loop the tables are not looked up each time: see `Ledger`.
        let (states, free) = (&*self.states, &*self.free);
        let (mut top, mut n) = (self.free_len.get() as usize, 0);
        for chunk in firsts {
            n += 1;
            let (Some(state), Some(place)) = (states.get(chunk as usize), free.get(top)) else {
                continue;
            };
            debug_assert!(state.get().is_of(Owner::Application));
            if state.get() != State::plain(Owner::Application) {
                self.free_len.set(top as u32);
                self.release_chain(chunk);
                top = self.free_len.get() as usize;
                continue;
            }
            state.set(State::plain(Owner::Free));
            place.set(chunk);
            top += 1;
        }
        self.free_len.set(top as u32);
        n
    }

    /// Frees chunks that were being sent.
    #[inline]
    pub(super) fn release_sent(&self, chunks: impl Iterator<Item = usize>) -> Released {
        let ((states, extents), free) = (self.tables(), &*self.free);
        let (first, mut strays, mut bytes) = (self.free_len.get() as usize, 0, 0);
        let mut top = first;
        for chunk in chunks {
            let (state, extent) = (states.get(chunk), extents.get(chunk));
            match (state, extent, free.get(top)) {
                (Some(state), Some(extent), Some(place)) if state.get().is_of(Owner::Tx) => {
                    if state.get() != State::plain(Owner::Tx) {
                        self.blank(chunk as u32);
                    }
                    state.set(State::plain(Owner::Free));
                    place.set(chunk as u32);
                    top += 1;
                    bytes += u64::from(extent.get().1);
                }
                _ => strays += 1,
            }
        }
        let chunks = (top - first) as u32;
        self.free_len.set(top as u32);
        self.tx_in_flight.set(self.tx_in_flight.get().wrapping_sub(chunks));
        Released { chunks, strays, bytes }
    }

    pub(super) fn collect_returned(&self) {
        while let Some(chunk) = self.arena.take_returned() {
            self.release(chunk);
        }
    }
}
