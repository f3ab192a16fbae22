//! A pool against a model in which each chunk is in exactly one place and keeps its bytes there.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use proptest::prelude::*;

use super::{Numbered, small};
use crate::pool::{Detached, Filled, Lent, Pool, PoolBuf, PoolOptions, Posted, Shown, StrayChunk};
use crate::{Buffer, Burst};

const CHUNKS: u32 = 8;
const RESERVE: usize = 2;
const SIZE: u32 = 256;

#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(usize),
    AllocRx,
    Drop(usize),
    /// Changes length and headroom, and writes anew.
    Rewrite(usize, usize, usize),
    Post(usize, bool),
    /// The kernel writes over a receive buffer and says where.
    Reclaim(usize, u32, u32),
    /// The kernel names any chunk, in any direction.
    Stray(u32, bool, u32, u32),
    Detach(usize),
    Attach(usize),
    DropDetached(usize, bool),
    Chain(usize, usize),
    Split(usize),
    /// A free chunk is lent to be received into.
    Lend,
    /// What was received is shown where it lies, and then lent again, sent, kept, or there is a panic.
    Show(usize, u32, u32, u8),
    /// A free chunk is filled and sent.
    Fill(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let i = 0..16_usize;
    let at = 0..SIZE + 2;
    let step = prop_oneof![
        3 => (0..6_usize).prop_map(Step::Alloc),
        3 => Just(Step::AllocRx),
        3 => i.clone().prop_map(Step::Drop),
        2 => (i.clone(), 0..225_usize, 0..33_usize).prop_map(|(i, n, h)| Step::Rewrite(i, n, h)),
        3 => (i.clone(), any::<bool>()).prop_map(|(i, rx)| Step::Post(i, rx)),
        3 => (i.clone(), at.clone(), at.clone()).prop_map(|(i, o, n)| Step::Reclaim(i, o, n)),
        1 => (0..CHUNKS + 2, any::<bool>(), at.clone(), at)
            .prop_map(|(chunk, rx, o, n)| Step::Stray(chunk, rx, o, n)),
        2 => i.clone().prop_map(Step::Detach),
        2 => i.clone().prop_map(Step::Attach),
        2 => (i.clone(), any::<bool>()).prop_map(|(i, far)| Step::DropDetached(i, far)),
        2 => (i.clone(), i.clone()).prop_map(|(i, j)| Step::Chain(i, j)),
        1 => i.clone().prop_map(Step::Split),
        3 => Just(Step::Lend),
        3 => (i, 0..SIZE + 2, 0..SIZE + 2, 0..4_u8).prop_map(|(i, o, n, what)| Step::Show(i, o, n, what)),
        1 => (0..SIZE).prop_map(Step::Fill),
    ];
    prop::collection::vec(step, 0..120)
}

/// A buffer and what its segments hold.
struct Held {
    buffer: PoolBuf<Numbered>,
    segments: Vec<Vec<u8>>,
}

struct Model {
    pool: Pool<Numbered>,
    held: Vec<Held>,
    posted: Vec<(Posted, Lent, Vec<u8>)>,
    detached: Vec<(Detached<Numbered>, Vec<u8>)>,
    /// Chunks that were lent without a buffer.
    plain: BTreeSet<u32>,
    stamp: u8,
}

fn direction(rx: bool) -> Lent {
    if rx { Lent::Rx } else { Lent::Tx }
}

fn pick<T>(all: &mut Vec<T>, i: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(i % all.len()))
}

impl Model {
    fn new() -> Self {
        let options = PoolOptions { chunks: CHUNKS, rx_reserve: RESERVE as u32, ..small() };
        let pool = Pool::new(&options).unwrap();
        assert_eq!(pool.arena().chunk_size(), SIZE);
        Self {
            pool,
            held: vec![],
            posted: vec![],
            detached: vec![],
            plain: BTreeSet::new(),
            stamp: 0,
        }
    }

    fn held_chunks(&self) -> usize {
        self.held.iter().map(|held| held.segments.len()).sum()
    }

    fn free(&self) -> usize {
        CHUNKS as usize - self.held_chunks() - self.posted.len() - self.detached.len()
    }

    fn stamp(&mut self) -> u8 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }

    /// Takes a fresh buffer over and fills it with bytes of its own.
    fn keep(&mut self, mut buffer: PoolBuf<Numbered>) {
        assert_eq!((buffer.data().len(), buffer.headroom(), buffer.meta()), (0, 32, 0));
        assert!(!buffer.is_chain());
        let stamp = self.stamp();
        let bytes = vec![stamp; 1 + usize::from(stamp) % 224];
        buffer.fill(&bytes).unwrap();
        buffer.set_meta(u64::from(stamp));
        self.held.push(Held { buffer, segments: vec![bytes] });
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Alloc(n) => {
                let mut burst = Burst::with_capacity(4);
                let most = self.free().saturating_sub(RESERVE);
                assert_eq!(self.pool.available(), most);
                assert_eq!(self.pool.alloc(&mut burst, n), n.min(4).min(most));
                while let Some(buffer) = burst.pop_front() {
                    self.keep(buffer);
                }
            }
            Step::AllocRx => {
                let free = self.free();
                let buffer = self.pool.alloc_rx();
                assert_eq!(buffer.is_some(), free > 0);
                buffer.into_iter().for_each(|buffer| self.keep(buffer));
            }
            Step::Drop(i) => drop(pick(&mut self.held, i)),
            Step::Rewrite(i, n, front) => {
                let stamp = self.stamp();
                if let Some(mut held) = pick(&mut self.held, i) {
                    let front = front.min(held.buffer.headroom());
                    held.buffer.prepend(front).unwrap();
                    let n = n.min(held.buffer.data().len() + held.buffer.tailroom());
                    held.segments[0] = vec![stamp; n];
                    held.buffer.fill(&held.segments[0]).unwrap();
                    self.held.push(held);
                }
            }
            Step::Post(i, rx) => {
                if let Some(mut held) = pick(&mut self.held, i) {
                    let first = held.segments.swap_remove(0);
                    let at = SIZE as usize - held.buffer.headroom();
                    let posted = held.buffer.post(direction(rx));
                    assert_eq!((posted.len as usize, posted.room as usize), (first.len(), at));
                    self.posted.push((posted, direction(rx), first));
                }
            }
            Step::Lend => {
                let (free, mut lent) = (self.free(), Vec::new());
                assert_eq!(self.pool.lend_rx(1, |chunk| lent.push(chunk)), free.min(1));
                for chunk in lent {
                    self.posted.push((self.lent(chunk, 0, 0), Lent::Rx, vec![]));
                    self.plain.insert(chunk);
                }
            }
            Step::Show(i, offset, len, what) => self.show(i, offset, len, what),
            Step::Fill(len) => {
                let (free, stamp) = (self.free(), self.stamp());
                let (pool, mut filled) = (&self.pool, None);
                let fill = |data: &mut [u8]| data.fill(stamp);
                let n = pool.ledger(0).fill(1, len, fill, |told| filled = Some(told));
                assert_eq!(n == 1, free > 0 && len <= SIZE - 32);
                assert_eq!(filled.is_some(), n == 1);
                if let Some(Filled { chunk, offset }) = filled {
                    let bytes = vec![stamp; len as usize];
                    self.posted.push((self.lent(chunk, offset, len), Lent::Tx, bytes));
                }
            }
            Step::Reclaim(i, offset, len) => self.reclaim(i, offset, len),
            Step::Stray(chunk, rx, offset, len) => {
                let from = direction(rx);
                let lent = |(posted, to, _): &(Posted, Lent, Vec<u8>)| {
                    posted.chunk == chunk && *to == from && offset + len <= SIZE
                };
                if !self.posted.iter().any(lent) {
                    // SAFETY: there is no kernel.
                    let answer = unsafe { self.pool.reclaim(chunk, from, offset, len) };
                    assert_eq!(answer.map(|_| ()), Err(StrayChunk { chunk }));
                }
            }
            Step::Detach(i) => {
                if let Some(Held { buffer, mut segments }) = pick(&mut self.held, i) {
                    match buffer.detach() {
                        Ok(detached) => {
                            assert_eq!(segments.len(), 1);
                            self.detached.push((detached, segments.remove(0)));
                        }
                        Err(buffer) => {
                            assert!(segments.len() > 1);
                            self.held.push(Held { buffer, segments });
                        }
                    }
                }
            }
            Step::Attach(i) => {
                if let Some((mut detached, bytes)) = pick(&mut self.detached, i) {
                    assert_eq!(detached.data_mut(), bytes);
                    let meta = detached.meta();
                    let buffer = self.pool.attach(detached).unwrap();
                    assert_eq!(buffer.meta(), meta);
                    self.held.push(Held { buffer, segments: vec![bytes] });
                }
            }
            Step::DropDetached(i, far) => {
                let gone = pick(&mut self.detached, i).map(|(detached, _)| detached);
                if far { thread::spawn(|| drop(gone)).join().unwrap() } else { drop(gone) }
            }
            Step::Chain(i, j) => {
                if let Some(mut head) = pick(&mut self.held, i) {
                    if let Some(tail) = pick(&mut self.held, j) {
                        head.buffer.chain(tail.buffer).unwrap();
                        head.segments.extend(tail.segments);
                    }
                    self.held.push(head);
                }
            }
            Step::Split(i) => {
                if let Some(mut held) = pick(&mut self.held, i) {
                    let rest = held.buffer.split_next();
                    assert_eq!(rest.is_some(), held.segments.len() > 1);
                    if let Some(buffer) = rest {
                        let segments = held.segments.split_off(1);
                        self.held.push(Held { buffer, segments });
                    }
                    self.held.push(held);
                }
            }
        }
    }

    fn lent(&self, chunk: u32, offset: u32, len: u32) -> Posted {
        let at = chunk as usize * SIZE as usize + offset as usize;
        let data = self.pool.arena().base().wrapping_add(at);
        Posted { chunk, data, len, offset, room: SIZE - offset }
    }

    fn show(&mut self, i: usize, offset: u32, len: u32, what: u8) {
        let stamp = self.stamp();
        let Some((posted, from, bytes)) = pick(&mut self.posted, i) else { return };
        let chunk = posted.chunk;
        // One that was lent as a buffer may be refused for what is beside it.
        let may = from == Lent::Rx && offset + len <= SIZE;
        let must = may && self.plain.contains(&chunk);
        let shown = catch_unwind(AssertUnwindSafe(|| {
            let mut ledger = self.pool.ledger(usize::from(what));
            let f = |data: &mut [u8]| {
                data.fill(stamp);
                match what {
                    0 => Some(Lent::Rx),
                    1 => Some(Lent::Tx),
                    2 => None,
                    _ => std::panic::resume_unwind(Box::new(())),
                }
            };
            // SAFETY: there is no kernel.
            unsafe { ledger.show(chunk as usize, offset, len, f) }
        }));
        let is_shown = !matches!(shown, Ok(Err(_)));
        assert!(may || !is_shown);
        assert!(!must || is_shown);
        let filled = vec![stamp; len as usize];
        match shown {
            Ok(Err(_)) => return self.posted.push((posted, from, bytes)),
            Ok(Ok(Shown::Again)) => {
                // SAFETY: the chunk is lent to the test, which only reads it here.
                let now = unsafe { std::slice::from_raw_parts(posted.data, posted.len as usize) };
                return self.posted.push((posted, from, now.to_vec()));
            }
            Ok(Ok(Shown::Sent)) => {
                self.posted.push((self.lent(chunk, offset, len), Lent::Tx, filled));
            }
            Ok(Ok(Shown::Kept(buffer))) => {
                self.held.push(Held { buffer, segments: vec![filled] });
            }
            // It is free.
            Err(_) => {}
        }
        self.plain.remove(&chunk);
    }

    fn reclaim(&mut self, i: usize, offset: u32, len: u32) {
        let stamp = self.stamp();
        let Some((posted, from, first)) = pick(&mut self.posted, i) else { return };
        let start = SIZE - posted.room;
        let (at, n) = match from {
            Lent::Rx => (offset, len),
            Lent::Tx => (start, posted.len),
        };
        if from == Lent::Rx {
            // SAFETY: the room is lent to the kernel, which is this line.
            unsafe { posted.data.write_bytes(stamp, posted.room as usize) };
        }
        // SAFETY: the kernel, that is the line above, is done with it.
        match unsafe { self.pool.reclaim(posted.chunk, from, at, n) } {
            Ok(buffer) => {
                assert!(at + n <= SIZE);
                assert_eq!(buffer.data().len(), n as usize);
                // What lies before the room is what was there; the test looks at the room only.
                let bytes = match from {
                    Lent::Tx => first,
                    Lent::Rx if at >= start => vec![stamp; n as usize],
                    Lent::Rx => buffer.data().to_vec(),
                };
                self.held.push(Held { buffer, segments: vec![bytes] });
                self.plain.remove(&posted.chunk);
                // SAFETY: there is no kernel.
                let twice = unsafe { self.pool.reclaim(posted.chunk, from, at, n) };
                assert_eq!(twice.map(|_| ()), Err(StrayChunk { chunk: posted.chunk }));
            }
            Err(stray) => {
                assert_eq!((stray.chunk, at + n > SIZE), (posted.chunk, true));
                let bytes = if from == Lent::Rx { vec![stamp; first.len()] } else { first };
                self.posted.push((posted, from, bytes));
            }
        }
    }

    /// Everything is where the model says, with the bytes that the model says.
    fn check(&self) {
        let census = self.pool.census();
        let lent = |to| self.posted.iter().filter(|(_, at, _)| *at == to).count() as u64;
        let held = self.held_chunks() + self.detached.len();
        assert!(census.adds_up(), "{census:?}");
        assert_eq!(
            (census.total, census.free, census.held, census.rx_posted, census.tx_in_flight),
            (u64::from(CHUNKS), self.free() as u64, held as u64, lent(Lent::Rx), lent(Lent::Tx))
        );
        let base = self.pool.arena().base() as usize;
        let mut chunks = BTreeSet::new();
        let mut alone = |data: *const u8, len: usize| {
            let (first, end) = (data as usize - base, data as usize - base + len);
            assert!(end <= self.pool.arena().len(), "outside of the arena");
            // An empty piece may end where its chunk does.
            let chunk = if len == 0 { first.saturating_sub(1) } else { first } / SIZE as usize;
            assert!(end <= (chunk + 1) * SIZE as usize, "outside of its chunk");
            assert!(len == 0 || chunks.insert(chunk), "chunk {chunk} is in two places");
        };
        for Held { buffer, segments } in &self.held {
            assert!(buffer.segments().eq(segments.iter().map(Vec::as_slice)), "bytes changed");
            assert_eq!(buffer.is_chain(), segments.len() > 1);
            buffer.segments().for_each(|segment| alone(segment.as_ptr(), segment.len()));
        }
        for (detached, bytes) in &self.detached {
            assert_eq!(detached.data(), bytes);
            alone(detached.data().as_ptr(), bytes.len());
        }
        for (posted, _, bytes) in &self.posted {
            // SAFETY: the chunk is lent to the test, which only reads it here.
            let data = unsafe { std::slice::from_raw_parts(posted.data, posted.len as usize) };
            assert_eq!(data, bytes);
            alone(posted.data, bytes.len());
        }
    }
}

proptest! {
    #[test]
    fn each_chunk_is_in_one_place(steps in steps(), pool_goes_first in any::<bool>()) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
            model.check();
        }
        let Model { pool, held, detached, posted, .. } = model;
        if pool_goes_first {
            drop(pool);
            drop((detached, held));
        } else {
            drop((held, detached));
            let census = pool.census();
            prop_assert_eq!((census.held, census.free), (0, u64::from(CHUNKS) - posted.len() as u64));
        }
    }
}
