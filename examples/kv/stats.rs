//! What the shards have counted, where all of them can see it.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::store::Counters;

/// Declares the figures once: the enum and their names.
macro_rules! figures {
    ($($variant:ident = $name:literal,)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug)]
        pub enum Figure {
            $($variant,)+
        }

        /// The names, as memcached has them where it counts the same.
        const NAMES: &[&str] = &[$($name,)+];
    };
}

figures! {
    GetHits = "get_hits",
    GetMisses = "get_misses",
    Sets = "cmd_set",
    FlushAll = "cmd_flush",
    TouchHits = "touch_hits",
    TouchMisses = "touch_misses",
    DeleteHits = "delete_hits",
    DeleteMisses = "delete_misses",
    Items = "curr_items",
    TotalItems = "total_items",
    Evictions = "evictions",
    Expired = "reclaimed",
    // Requests that went on to the shard that has their key.
    HandedOver = "handed_over",
    // Those that were dropped because too many were under way, or too many bytes of them.
    HandoverFull = "handover_full",
    HandoverTooLarge = "handover_too_large",
    // What each datagram was: a whole request, a piece of one that was kept, one that came once more or of what
    // was too large, or malformed. The sum is `datagrams_received`.
    Whole = "datagrams_whole",
    PiecesTaken = "pieces_taken",
    PiecesTwice = "pieces_twice",
    PiecesSwallowed = "pieces_swallowed",
    // Datagrams that are no request: shorter than the header, or with a place beyond their message's end.
    Malformed = "malformed_datagrams",
    // Requests of several datagrams, and what has become of them: they were complete, longer than any may be,
    // not complete in time, the oldest where there was no more room, or their number was used again.
    PiecesBegun = "pieces_begun",
    PiecesWhole = "pieces_whole",
    PiecesTooLarge = "pieces_too_large",
    PiecesLate = "pieces_late",
    PiecesForgotten = "pieces_forgotten",
    PiecesReplaced = "pieces_replaced",
    // Answers that were dropped, because they had no end or there was no buffer for them.
    NoBuffer = "answers_dropped",
    LogCommits = "log_commits",
    LogBytes = "log_bytes",
    Snapshots = "log_snapshots",
    Connections = "curr_connections",
    // Those that were too many, and those that kept memory for too long while others waited for it.
    Rejected = "rejected_connections",
    ShutOut = "connections_shut_out",
    // Bytes that the others keep, beyond what each has of its own.
    ConnectionBytes = "connection_bytes",
    // Datagrams, and what the kernel was asked for, as of the last second.
    Received = "datagrams_received",
    Sent = "datagrams_sent",
    Dropped = "datagrams_dropped",
    SystemCalls = "system_calls",
}

impl Figure {
    /// As `stats` shows it.
    #[cfg(test)]
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

/// The figures that show a state; the others are counts since the start.
const STATES: &[Figure] = &[Figure::Items, Figure::Connections, Figure::ConnectionBytes];

/// The figures of one shard. Only its own thread writes them, but for a reset.
#[repr(align(128))]
struct Figures([AtomicU64; NAMES.len()]);

pub struct Stats {
    started: Instant,
    shards: Box<[Figures]>,
    memory: u64,
}

impl Stats {
    pub fn new(shards: usize, memory: u64) -> Self {
        let figures = || Figures(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { started: Instant::now(), shards: (0..shards).map(|_| figures()).collect(), memory }
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Adds to a figure of a shard. One thread does so for each shard: there is nothing to lock.
    pub fn add(&self, shard: usize, figure: Figure, n: u64) {
        let place = &self.shards[shard].0[figure as usize];
        place.store(place.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a figure of a shard.
    pub fn set(&self, shard: usize, figure: Figure, value: u64) {
        self.shards[shard].0[figure as usize].store(value, Ordering::Relaxed);
    }

    /// One connection less.
    pub fn disconnected(&self, shard: usize) {
        self.add(shard, Figure::Connections, u64::MAX);
    }

    /// Shows the counters of a store.
    pub fn show(&self, shard: usize, counters: &Counters) {
        let Counters { items, total_items, evictions, expired } = *counters;
        for (figure, value) in [
            (Figure::Items, items),
            (Figure::TotalItems, total_items),
            (Figure::Evictions, evictions),
            (Figure::Expired, expired),
        ] {
            self.set(shard, figure, value);
        }
    }

    /// The sum over all shards.
    pub fn total(&self, figure: Figure) -> u64 {
        let values =
            self.shards.iter().map(|shard| shard.0[figure as usize].load(Ordering::Relaxed));
        values.fold(0, u64::wrapping_add)
    }

    /// Shows the sum of each figure by name.
    pub fn each_total(&self, mut visit: impl FnMut(&'static str, u64)) {
        for (at, &name) in NAMES.iter().enumerate() {
            let values = self.shards.iter().map(|shard| shard.0[at].load(Ordering::Relaxed));
            visit(name, values.fold(0, u64::wrapping_add));
        }
    }

    /// Shows the figures of a shard by name.
    pub fn each(&self, shard: usize, mut visit: impl FnMut(&str, u64)) {
        for (name, place) in NAMES.iter().zip(&self.shards[shard].0) {
            visit(name, place.load(Ordering::Relaxed));
        }
    }

    /// Begins to count anew.
    pub fn reset(&self) {
        for shard in &self.shards {
            for (at, place) in shard.0.iter().enumerate() {
                if !STATES.iter().any(|&state| state as usize == at) {
                    place.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// The answer to `stats`.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing into memory does not fail.
        let mut stat = |name: &str, value: u64| {
            let _written = write!(out, "STAT {name} {value}\r\n");
        };
        stat("pid", std::process::id().into());
        stat("uptime", self.started.elapsed().as_secs());
        stat("pointer_size", u64::from(usize::BITS));
        stat("limit_maxbytes", self.memory);
        stat("threads", self.shards() as u64);
        let gets = self.total(Figure::GetHits) + self.total(Figure::GetMisses);
        stat("cmd_get", gets);
        stat("cmd_touch", self.total(Figure::TouchHits) + self.total(Figure::TouchMisses));
        self.each_total(&mut stat);
        let _written = write!(out, "STAT version {}\r\nEND\r\n", env!("CARGO_PKG_VERSION"));
    }
}
