//! Requests that come in several datagrams, put together.
//!
//! memcached refuses them, though its protocol has the numbers for them. Here pieces may come in any order
//! and more than once. What is not complete in time is forgotten, and so is the oldest where there is no more
//! room; whatever becomes of a request is counted, under one name each, and so is every piece.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budgets;
use crate::protocol::frame::Frame;
use crate::protocol::{MAX_ITEM, MAX_LINE};
use crate::stats::Figure;

/// Bytes of the longest request: the largest item, and the line before it.
pub const MAX_REQUEST: usize = MAX_ITEM + MAX_LINE;
/// Datagrams of a request.
pub const MAX_PIECES: u16 = 4096;
/// Requests that are put together at a time.
pub const MAX_REQUESTS: usize = 64;
/// Bytes that a piece takes beside its own: its place in the map, and what the allocator adds.
const PIECE: usize = 64;

/// The requests of a worker that are not complete.
pub struct Assembly {
    /// In the order of their beginning.
    requests: VecDeque<Partial>,
    /// Where the bytes of all of them are taken from.
    budgets: Arc<Budgets>,
    /// How long a request may take, from its first piece on. A number that a client uses again much later begins
    /// another request; within that time it must not be used again for a request of as many datagrams.
    patience: Duration,
}

struct Partial {
    peer: SocketAddr,
    request: u16,
    total: u16,
    began: Instant,
    pieces: BTreeMap<u16, Box<[u8]>>,
    /// Of the request, as far as it has come.
    bytes: usize,
    /// It was, and has been answered: what still comes of it is swallowed.
    too_large: bool,
}

/// What a piece has led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Others are missing, or it is of no use.
    Piece,
    /// It was the last one: this is the request.
    Whole(Vec<u8>),
    /// The request is longer than any may be. This is said once.
    TooLarge,
}

impl Assembly {
    pub fn new(budgets: Arc<Budgets>, patience: Duration) -> Self {
        Self { requests: VecDeque::new(), budgets, patience }
    }

    /// When the oldest will have taken too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.requests.front()?.began.checked_add(self.patience)
    }

    /// Takes a piece that came at `now`, and counts.
    #[cold]
    pub fn take(
        &mut self,
        peer: SocketAddr,
        frame: Frame,
        piece: &[u8],
        now: Instant,
        mut count: impl FnMut(Figure),
    ) -> Taken {
        let Frame { request, sequence, total } = frame;
        if sequence >= total {
            count(Figure::Malformed);
            return Taken::Piece;
        }
        self.expire(now, &mut count);
        let mut at = self.find(peer, request);
        // The number of a request that was given up, used again.
        if let Some(old) = at.filter(|&at| self.requests[at].is_another(frame, piece)) {
            self.forget(old, Figure::PiecesReplaced, &mut count);
            at = None;
        }
        let at = at.unwrap_or_else(|| {
            count(Figure::PiecesBegun);
            self.requests.push_back(Partial {
                peer,
                request,
                total,
                began: now,
                pieces: BTreeMap::new(),
                bytes: 0,
                too_large: false,
            });
            self.requests.len() - 1
        });
        let partial = &mut self.requests[at];
        if partial.too_large {
            count(Figure::PiecesSwallowed);
            return Taken::Piece;
        }
        match partial.pieces.entry(sequence) {
            Entry::Occupied(_) => {
                count(Figure::PiecesTwice);
                return Taken::Piece;
            }
            Entry::Vacant(place) => place.insert(piece.into()),
        };
        count(Figure::PiecesTaken);
        partial.bytes += piece.len();
        self.budgets.requests.overdraw(piece.len() + PIECE);
        if partial.bytes > MAX_REQUEST || total > MAX_PIECES {
            self.budgets.requests.give(partial.cost());
            partial.pieces.clear();
            (partial.bytes, partial.too_large) = (0, true);
            count(Figure::PiecesTooLarge);
            self.forget_the_oldest(&mut count);
            return Taken::TooLarge;
        }
        if partial.pieces.len() == usize::from(total) {
            count(Figure::PiecesWhole);
            let pieces = self.remove(at).map(|partial| partial.pieces).unwrap_or_default();
            return Taken::Whole(pieces.into_values().collect::<Vec<_>>().concat());
        }
        self.forget_the_oldest(&mut count);
        Taken::Piece
    }

    /// Takes room for a whole request, for which the oldest of others make way; false when there is not so much
    /// without them either.
    #[must_use]
    pub fn make_room(&mut self, bytes: usize, mut count: impl FnMut(Figure)) -> bool {
        while !self.budgets.requests.take(bytes) {
            if self.requests.is_empty() {
                return false;
            }
            self.forget(0, Figure::PiecesForgotten, &mut count);
        }
        true
    }

    /// Forgets what has taken too long.
    pub fn expire(&mut self, now: Instant, mut count: impl FnMut(Figure)) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.forget(0, Figure::PiecesLate, &mut count);
        }
    }

    /// Forgets the oldest ones where there are too many, or too large ones.
    fn forget_the_oldest(&mut self, count: &mut impl FnMut(Figure)) {
        while self.requests.len() > MAX_REQUESTS || self.budgets.requests.is_overdrawn() {
            self.forget(0, Figure::PiecesForgotten, count);
        }
    }

    fn forget(&mut self, at: usize, why: Figure, count: &mut impl FnMut(Figure)) {
        // What was too large has been counted as that.
        if self.remove(at).is_some_and(|partial| !partial.too_large) {
            count(why);
        }
    }

    fn find(&self, peer: SocketAddr, request: u16) -> Option<usize> {
        self.requests.iter().position(|partial| (partial.peer, partial.request) == (peer, request))
    }

    fn remove(&mut self, at: usize) -> Option<Partial> {
        let partial = self.requests.remove(at)?;
        self.budgets.requests.give(partial.cost());
        Some(partial)
    }
}

impl Partial {
    /// Bytes that it takes.
    fn cost(&self) -> usize {
        self.bytes + self.pieces.len() * PIECE
    }

    /// Whether a piece with its number belongs to another request: one of another length, or with something
    /// else in the same place.
    fn is_another(&self, frame: Frame, piece: &[u8]) -> bool {
        let there = self.pieces.get(&frame.sequence);
        self.total != frame.total || there.is_some_and(|there| **there != *piece)
    }
}

#[cfg(test)]
#[path = "assembly/tests.rs"]
mod tests;
