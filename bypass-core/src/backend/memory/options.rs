//! [`LinkOptions`]: how a link is made.

use super::Faults;
use crate::pool::PoolOptions;
use crate::{Error, Result};

/// How a link is made; both ends are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkOptions {
    /// Segments that the cable holds in each direction before `send` refuses: at least one frame,
    /// three where [`faults`](Self::faults) may put a twin and a late frame beside it.
    pub ring: usize,
    /// The pool of each end: at least a chunk for each segment of a frame.
    pub pool: PoolOptions,
    /// The longest frame in bytes, over all its segments, each of which fits behind the headroom of
    /// a chunk.
    pub max_len: usize,
    /// The most segments in a frame.
    pub max_segments: usize,
    /// What goes wrong, on purpose, with what each end sends.
    pub faults: Faults,
}

impl Default for LinkOptions {
    /// 256 frames on the cable, 1 024 in each pool, frames up to 1 518 bytes in one segment, no
    /// faults.
    fn default() -> Self {
        Self {
            ring: 256,
            pool: PoolOptions::new(1024),
            max_len: 1518,
            max_segments: 1,
            faults: Faults::default(),
        }
    }
}

impl LinkOptions {
    pub(super) fn check(&self) -> Result<()> {
        self.pool.check()?;
        self.faults.check()?;
        if self.max_segments == 0 || self.max_segments > self.pool.chunks as usize {
            let why = "a frame has at least one segment, and its receiver a chunk for each";
            return Err(Error::config("max_segments", self.max_segments, why));
        }
        let least = self.faults.most_frames().saturating_mul(self.max_segments);
        if self.ring < least {
            let why = format!(
                "the cable must hold {least} segments: {} frames of `max_segments`",
                self.faults.most_frames()
            );
            return Err(Error::config("ring", self.ring, why));
        }
        let room = (self.pool.chunk_size - self.pool.headroom) as usize;
        let most = room.saturating_mul(self.max_segments);
        if self.max_len == 0 || self.max_len > most {
            let why = format!("`max_segments` chunks of the pool hold 1 to {most} bytes");
            return Err(Error::config("max_len", self.max_len, why));
        }
        Ok(())
    }
}
