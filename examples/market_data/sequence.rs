//! [`Sequencer`]: each message once and in order, whatever the network did to the packets.
//!
//! A packet that begins with the number that comes next is handed on at once, without a copy. One
//! that begins later shows a gap: it is kept, what is missing is asked for again, and what was kept
//! follows when that has come. A gap that stays open for too long is given up and counted as lost;
//! the books may be wrong from there on, but the feed goes on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::mold::{Blocks, Content, Header, Malformed, Packet, Session};

/// An unanswered request is repeated after so many nanoseconds.
pub const RETRY: u64 = 2_000_000;
/// A gap in which nothing has come for so many nanoseconds and requests is given up.
pub const PATIENCE: u64 = 100_000_000;
pub const TRIES: u32 = 10;
/// Packets that are kept at the most while a gap is open.
pub const WINDOW: usize = 8192;

/// What takes the messages.
pub trait Handler {
    fn message(&mut self, sequence: u64, message: &[u8]);
}

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Feed,
    Retransmission,
}

/// What became of packets and messages. `live + recovered + lost` are all messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets, the malformed ones and heartbeats among them.
    pub packets: u64,
    /// Messages that came with the feed.
    pub live: u64,
    /// Messages that came because they were asked for.
    pub recovered: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came again.
    pub duplicates: u64,
    pub gaps: u64,
    /// Requests, the repeated ones too.
    pub requests: u64,
    /// Messages in gaps, as they were found.
    pub missing: u64,
    /// Packets by what was wrong with them, as in [`Malformed::ALL`].
    pub malformed: [u64; Malformed::ALL.len()],
}

pub struct Sequencer {
    session: Option<Session>,
    /// The number that comes next.
    next: u64,
    /// All numbers below this one have been given out, as somebody has said.
    known: u64,
    /// The number after the last, when that is known.
    end: Option<u64>,
    kept: BTreeMap<u64, Kept>,
    /// Memory for packets that will be kept.
    spare: Vec<Vec<u8>>,
    /// What is missing, in order.
    gaps: VecDeque<Gap>,
    /// How many of the last gaps have still to be asked for.
    unasked: usize,
    pub counts: Counts,
}

/// A copy: frames that were held back would be missing where packets arrive.
struct Kept {
    origin: Origin,
    bytes: Vec<u8>,
}

/// Numbers that were passed over.
struct Gap {
    missing: Range<u64>,
    asked_at: u64,
    /// When it was found, or a part of it came; and requests since then.
    since: u64,
    tries: u32,
}

impl Sequencer {
    /// Expects the message of number `next` of whatever session comes.
    pub fn new(next: u64) -> Self {
        Self {
            session: None,
            next,
            known: next,
            end: None,
            kept: BTreeMap::new(),
            spare: Vec::new(),
            gaps: VecDeque::new(),
            unasked: 0,
            counts: Counts::default(),
        }
    }

    /// The session has ended, and nothing of it is still to come.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Something is being asked for.
    pub fn has_gap(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Takes a packet, which came at this time in nanoseconds.
    pub fn take(&mut self, bytes: &[u8], origin: Origin, now: u64, handler: &mut impl Handler) {
        self.counts.packets += 1;
        let packet = match Packet::read(bytes) {
            Ok(packet) if *self.session.get_or_insert(packet.session) == packet.session => packet,
            Ok(_) => return self.count_malformed(Malformed::Session),
            Err(malformed) => return self.count_malformed(malformed),
        };
        match packet.content {
            Content::Heartbeat { next } => self.reveal(next, now),
            Content::End { next } => {
                self.reveal(next, now);
                self.end = Some(next);
            }
            Content::Messages(blocks) if blocks.first <= self.next => {
                self.hand_on(blocks, origin, handler);
                self.follow_up(handler);
            }
            Content::Messages(blocks) => {
                self.reveal(blocks.first, now);
                self.known = self.known.max(blocks.end());
                self.keep(blocks, bytes, origin, handler);
            }
        }
    }

    /// To be called after each burst until it returns `None`: the next request that has to be sent at
    /// this time. Gives up what took too long.
    pub fn request(&mut self, now: u64, handler: &mut impl Handler) -> Option<Header> {
        loop {
            self.forget_closed();
            if let Some(place) = self.gaps.len().checked_sub(self.unasked)
                && let Some(gap) = self.gaps.get(place)
            {
                self.unasked -= 1;
                // It may have come, and wait for one before it.
                if !self.kept.contains_key(&gap.missing.start) {
                    return self.ask(place, now);
                }
                continue;
            }
            let gap = self.gaps.front_mut()?;
            if gap.missing.start < self.next {
                (gap.missing.start, gap.since, gap.tries) = (self.next, now, 0);
                return self.ask(0, now);
            }
            if now < gap.asked_at.saturating_add(RETRY) {
                return None;
            }
            if now >= gap.since.saturating_add(PATIENCE) && gap.tries >= TRIES {
                self.give_up(handler);
            } else {
                self.unasked = self.gaps.len();
            }
        }
    }

    fn ask(&mut self, gap: usize, now: u64) -> Option<Header> {
        let gap = self.gaps.get_mut(gap)?;
        (gap.asked_at, gap.tries) = (now, gap.tries + 1);
        self.counts.requests += 1;
        // What does not fit into one answer is asked for in parts.
        let count = (gap.missing.end - gap.missing.start).min(u64::from(u16::MAX) - 1);
        Some(Header::new(self.session?, gap.missing.start, count as u16))
    }

    /// All numbers below `end` have been given out.
    fn reveal(&mut self, end: u64, now: u64) {
        let missing = self.known.max(self.next)..end;
        if missing.is_empty() {
            return;
        }
        self.known = end;
        self.counts.gaps += 1;
        self.counts.missing += missing.end - missing.start;
        self.gaps.push_back(Gap { missing, asked_at: now, since: now, tries: 0 });
        self.unasked += 1;
    }

    fn hand_on(&mut self, blocks: Blocks<'_>, origin: Origin, handler: &mut impl Handler) {
        let known = (self.next - blocks.first).min(blocks.count.into());
        self.counts.duplicates += known;
        for message in blocks.iter().skip(known as usize) {
            handler.message(self.next, message);
            self.next += 1;
        }
        *match origin {
            Origin::Feed => &mut self.counts.live,
            Origin::Retransmission => &mut self.counts.recovered,
        } += u64::from(blocks.count) - known;
    }

    fn keep(
        &mut self,
        blocks: Blocks<'_>,
        bytes: &[u8],
        origin: Origin,
        handler: &mut impl Handler,
    ) {
        if self.kept.len() == WINDOW {
            self.give_up(handler);
            if blocks.first <= self.next {
                self.hand_on(blocks, origin, handler);
                return self.follow_up(handler);
            }
        }
        if self.kept.contains_key(&blocks.first) {
            self.counts.duplicates += u64::from(blocks.count);
            return;
        }
        let mut memory = self.spare.pop().unwrap_or_default();
        memory.extend_from_slice(bytes);
        self.kept.insert(blocks.first, Kept { origin, bytes: memory });
    }

    /// Hands on what was kept and comes next.
    fn follow_up(&mut self, handler: &mut impl Handler) {
        while let Some(entry) = self.kept.first_entry().filter(|entry| *entry.key() <= self.next) {
            let Kept { origin, mut bytes } = entry.remove();
            // It was read before it was kept.
            if let Ok(Packet { content: Content::Messages(blocks), .. }) = Packet::read(&bytes) {
                self.hand_on(blocks, origin, handler);
            }
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Goes on behind the first gap, or with the first packet that is there.
    fn give_up(&mut self, handler: &mut impl Handler) {
        self.forget_closed();
        let Some(gap) = self.gaps.front() else { return };
        let kept = self.kept.first_key_value().map_or(u64::MAX, |(&first, _)| first);
        let there = gap.missing.end.min(kept);
        self.counts.lost += there.saturating_sub(self.next);
        self.next = self.next.max(there);
        self.follow_up(handler);
    }

    fn forget_closed(&mut self) {
        while self.gaps.front().is_some_and(|gap| gap.missing.end <= self.next) {
            self.gaps.pop_front();
        }
        self.unasked = self.unasked.min(self.gaps.len());
    }

    fn count_malformed(&mut self, malformed: Malformed) {
        self.counts.malformed[malformed as usize] += 1;
    }
}
