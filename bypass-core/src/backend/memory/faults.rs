//! [`Faults`]: what goes wrong on a memory link, on purpose and repeatably.

use super::{MemoryFrame, join};
use crate::pool::Pool;
use crate::{Buffer, Error, Result};

/// How often each thing goes wrong with a frame that an end sends, from 0.0 (never) to 1.0.
///
/// The same seed gives the same faults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The frame is lost; counted as [`DropCause::Injected`](crate::DropCause::Injected).
    pub loss: f64,
    /// The frame arrives twice; the second is not counted as sent. It needs a chunk of the sender's
    /// pool for each segment, and does not happen while there are none to spare.
    pub duplication: f64,
    /// The frame changes places with the next one, if that comes before the next `flush`.
    pub reordering: f64,
    /// One bit of the frame (of its first segment) is wrong.
    pub corruption: f64,
    /// `send` refuses the frame, as a full queue does.
    pub refusal: f64,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Faults {
    pub(super) fn check(&self) -> Result<()> {
        for (setting, odds) in self.odds() {
            if !(0.0..=1.0).contains(&odds) {
                let why = "a probability is from 0.0 (never) to 1.0 (always)";
                return Err(Error::config(setting, odds, why));
            }
        }
        Ok(())
    }

    fn odds(&self) -> [(&'static str, f64); 5] {
        [
            ("loss", self.loss),
            ("duplication", self.duplication),
            ("reordering", self.reordering),
            ("corruption", self.corruption),
            ("refusal", self.refusal),
        ]
    }

    fn any(&self) -> bool {
        self.odds().iter().any(|&(_, odds)| odds > 0.0)
    }

    /// The most frames that one frame can put on the cable: itself, its twin, and one that was held
    /// back.
    pub(super) fn most_frames(&self) -> usize {
        if self.any() { 3 } else { 1 }
    }
}

/// Draws the faults of one end.
#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
    /// `None` when nothing goes wrong: the data path then tests one word.
    random: Option<fastrand::Rng>,
    held: Option<MemoryFrame>,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    refused: u64,
}

/// What becomes of a frame.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) lost: bool,
    pub(super) frame: Option<MemoryFrame>,
    /// Sent as well, though nobody asked for it.
    pub(super) twin: Option<MemoryFrame>,
    /// An earlier frame that was held back until now.
    pub(super) late: Option<MemoryFrame>,
}

impl Injector {
    pub(super) fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            random: faults.any().then(|| fastrand::Rng::with_seed(seed)),
            held: None,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            refused: 0,
        }
    }

    pub(super) fn most_frames(&self) -> usize {
        if self.random.is_some() { self.faults.most_frames() } else { 1 }
    }

    pub(super) fn refuses(&mut self) -> bool {
        let refuses = self.draw(|faults| faults.refusal);
        self.refused += u64::from(refuses);
        refuses
    }

    pub(super) fn decide(&mut self, mut frame: MemoryFrame, pool: &Pool<super::Memory>) -> Fate {
        if self.random.is_none() {
            return Fate { frame: Some(frame), ..Fate::default() };
        }
        if self.draw(|faults| faults.loss) {
            return Fate { lost: true, ..Fate::default() };
        }
        if self.draw(|faults| faults.corruption) {
            self.corrupt(frame.data_mut());
        }
        let twin = if self.draw(|faults| faults.duplication) { copy(&frame, pool) } else { None };
        self.duplicated += u64::from(twin.is_some());
        if self.held.is_none() && twin.is_none() && self.draw(|faults| faults.reordering) {
            self.held = Some(frame);
            return Fate::default();
        }
        let late = self.held.take();
        self.reordered += u64::from(late.is_some());
        Fate { lost: false, frame: Some(frame), twin, late }
    }

    pub(super) fn held(&self) -> Option<&MemoryFrame> {
        self.held.as_ref()
    }

    pub(super) fn take_held(&mut self) -> Option<MemoryFrame> {
        self.held.take()
    }

    pub(super) fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("injected_duplicates", self.duplicated);
        visit("injected_reorders", self.reordered);
        visit("injected_corruptions", self.corrupted);
        visit("injected_refusals", self.refused);
    }

    fn corrupt(&mut self, data: &mut [u8]) {
        // The first segment of a frame may be empty.
        if let Some(random) = &mut self.random
            && !data.is_empty()
        {
            data[random.usize(..data.len())] ^= 1 << random.u8(..8);
            self.corrupted += 1;
        }
    }

    fn draw(&mut self, odds: impl FnOnce(&Faults) -> f64) -> bool {
        let odds = odds(&self.faults);
        self.random.as_mut().is_some_and(|random| odds > 0.0 && random.f64() < odds)
    }
}

/// A second frame with the same segments; `None` when the pool has none to spare for it.
fn copy(frame: &MemoryFrame, pool: &Pool<super::Memory>) -> Option<MemoryFrame> {
    if pool.available() < frame.segments().count() {
        return None;
    }
    let mut twin = None;
    for bytes in frame.segments() {
        let mut segment = pool.alloc_rx()?;
        segment.fill(bytes).ok()?;
        twin = Some(join(twin, segment));
    }
    twin
}
