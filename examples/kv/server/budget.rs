//! Memory that a shard gives to what clients ask for: so many bytes, and no more, whatever they send.
//!
//! Requests of several datagrams wait for their pieces, requests that arrived at the wrong shard and their
//! answers are on their way, long answers wait for the log and for buffers, and connections for whoever sends or
//! reads slowly. Other shards make part of that, so it is counted where all of them see it. Everything else has a
//! fixed size.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of requests: pieces that wait for others, and requests that have been handed over.
pub const REQUESTS: usize = 16 << 20;
/// Bytes of answers that do not fit the datagram that asked: a request of a few bytes may ask for megabytes.
pub const ANSWERS: usize = 64 << 20;
/// Bytes of requests and answers of connections, beyond what each has of [its own](super::seats::OWN).
pub const CONNECTIONS: usize = 64 << 20;

/// Bytes that may be taken.
pub struct Budget {
    limit: usize,
    taken: AtomicUsize,
}

/// Those of a shard.
pub struct Budgets {
    pub requests: Budget,
    pub answers: Budget,
    pub connections: Budget,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            requests: Budget::new(REQUESTS),
            answers: Budget::new(ANSWERS),
            connections: Budget::new(CONNECTIONS),
        }
    }
}

impl Budget {
    fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    /// Takes so many bytes, if as many are left.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        // Nothing else is published by it: only the sum counts.
        let fits = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Takes so many bytes whether they are left or not, for one who makes room then.
    pub fn overdraw(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether more is taken than may be.
    pub fn is_overdrawn(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.limit
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}
