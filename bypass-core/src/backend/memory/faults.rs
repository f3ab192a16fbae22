//! [`Faults`]: what goes wrong on a memory link, on purpose and repeatably.

use super::MemoryFrame;
use crate::Buffer;
use crate::pool::Pool;

/// How often each thing goes wrong with a frame that an end sends, from 0.0 (never) to 1.0.
///
/// The same seed gives the same faults.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The frame is lost; counted as [`DropCause::Injected`](crate::DropCause::Injected).
    pub loss: f64,
    /// The frame arrives twice.
    pub duplication: f64,
    /// The frame changes places with the next one.
    pub reordering: f64,
    /// One bit of the frame is wrong.
    pub corruption: f64,
    /// `send` refuses the frame, as a full queue does.
    pub refusal: f64,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Faults {
    fn any(&self) -> bool {
        self.loss + self.duplication + self.reordering + self.corruption + self.refusal > 0.0
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
    pub(super) send: [Option<MemoryFrame>; 3],
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

    /// How many frames a single `decide` may send beyond the one that it was given.
    pub(super) fn extra_frames(&self) -> usize {
        if self.random.is_some() { 2 } else { 0 }
    }

    pub(super) fn refuses(&mut self) -> bool {
        let refuses = self.draw(|faults| faults.refusal);
        self.refused += u64::from(refuses);
        refuses
    }

    pub(super) fn decide(&mut self, mut frame: MemoryFrame, pool: &Pool<super::Memory>) -> Fate {
        if self.random.is_none() {
            return Fate { send: [Some(frame), None, None], ..Fate::default() };
        }
        if self.draw(|faults| faults.loss) {
            return Fate { lost: true, ..Fate::default() };
        }
        if self.draw(|faults| faults.corruption)
            && let Some(random) = &mut self.random
        {
            let (byte, bit) = (random.usize(..frame.data().len()), random.u8(..8));
            frame.data_mut()[byte] ^= 1 << bit;
            self.corrupted += 1;
        }
        let twin = if self.draw(|faults| faults.duplication) { copy(&frame, pool) } else { None };
        self.duplicated += u64::from(twin.is_some());
        if self.held.is_none() && twin.is_none() && self.draw(|faults| faults.reordering) {
            self.reordered += 1;
            self.held = Some(frame);
            return Fate::default();
        }
        Fate { lost: false, send: [Some(frame), twin, self.held.take()] }
    }

    pub(super) fn take_held(&mut self) -> Option<MemoryFrame> {
        self.held.take()
    }

    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("injected_duplicates", self.duplicated);
        visit("injected_reorders", self.reordered);
        visit("injected_corruptions", self.corrupted);
        visit("injected_refusals", self.refused);
    }

    fn draw(&mut self, odds: impl FnOnce(&Faults) -> f64) -> bool {
        let odds = odds(&self.faults);
        self.random.as_mut().is_some_and(|random| odds > 0.0 && random.f64() < odds)
    }
}

/// A second frame with the same first segment; `None` when the pool is empty.
fn copy(frame: &MemoryFrame, pool: &Pool<super::Memory>) -> Option<MemoryFrame> {
    let mut twin = pool.alloc_rx()?;
    twin.fill(frame.data()).ok()?;
    Some(twin)
}
