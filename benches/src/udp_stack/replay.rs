//! A port that receives the same frame over and over and forgets what it sends: what is left of a
//! packet's way when the kernel and the device cost nothing.

use std::hint::black_box;
use std::time::Duration;

use bypass_core::pool::{FrameMeta, Kind, Pool, PoolBuf, PoolOptions};
use bypass_core::{Buffer, Burst, Caps, Endpoint, Error, Interest, PacketIo, Ready, Result, Stats};

/// Marks the pool and the frames of this port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay;

impl Kind for Replay {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "replay";
}

/// Frames that a call of `recv` brings at the most: as many as a busy network card.
pub(crate) const BURST: usize = 32;

#[derive(Debug)]
pub(crate) struct ReplayPort {
    pool: Pool<Replay>,
    frame: Vec<u8>,
    caps: Caps,
    /// The last frame that was sent, for those who check.
    #[cfg(test)]
    pub(crate) sent: Vec<u8>,
}

impl ReplayPort {
    pub(crate) fn new(frame: Vec<u8>) -> Result<Self> {
        let options = PoolOptions::new(1024);
        let caps = Caps::new(Replay::BACKEND, 1514, options.headroom as usize);
        Ok(Self {
            pool: Pool::new(&options)?,
            frame,
            caps,
            #[cfg(test)]
            sent: Vec::new(),
        })
    }
}

impl PacketIo for ReplayPort {
    type Frame = PoolBuf<Replay>;

    fn recv(&mut self, out: &mut Burst<Self::Frame>) -> Result<usize> {
        let count = out.room().min(BURST);
        for received in 0..count {
            let Some(mut frame) = self.pool.alloc_rx() else { return Ok(received) };
            frame
                .fill(&self.frame)
                .map_err(|room| Error::frame("replay a frame", Replay::BACKEND, room))?;
            let _there_is_room = out.push(frame);
        }
        Ok(count)
    }

    fn alloc(&mut self, out: &mut Burst<Self::Frame>, n: usize) -> usize {
        self.pool.alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<Self::Frame>) -> Result<usize> {
        let count = frames.len();
        if let Some(last) = frames.last() {
            black_box(last.data());
            #[cfg(test)]
            last.data().clone_into(&mut self.sent);
        }
        frames.clear();
        Ok(count)
    }
}

impl Endpoint for ReplayPort {
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, _: Interest, _: Option<Duration>) -> Result<Ready> {
        Ok(Ready::all())
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}
