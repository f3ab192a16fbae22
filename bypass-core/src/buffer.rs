//! [`Buffer`]: packet memory with headroom, common to frames and datagrams.

use crate::burst::Drain;

/// An owned piece of packet memory: bytes in use, with room before and behind them.
///
/// ```text
/// |<- headroom ->|<---- data ---->|<- tailroom ->|
/// ```
///
/// A buffer has exactly one owner. Dropping it gives its memory back to the pool it came from and
/// keeps that pool alive until then; forgetting it leaks the memory and corrupts nothing. The
/// bytes of fresh room are whatever the memory last held.
///
/// A buffer may be a chain of several pieces (a jumbo frame): [`data`](Self::data) and the methods
/// that change it work on the first piece, [`segments`](Self::segments) shows all of them, and the
/// owner of the buffer owns the whole chain.
pub trait Buffer: Sized {
    /// Bytes that [`data`](Self::data) has at least when a device [hands it out](crate::Burst::receive): whoever looks
    /// for no more than these in [`Burst::data_mut`](crate::Burst::data_mut) need not be told how many there are.
    const SHORTEST_RECEIVED: usize = 0;

    /// The bytes in use (of the first segment).
    fn data(&self) -> &[u8];

    /// The bytes in use (of the first segment), to change in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Bytes free before the data.
    fn headroom(&self) -> usize;

    /// Bytes free behind the data (in the first segment).
    fn tailroom(&self) -> usize;

    /// Grows the data by `n` bytes at the front, into the headroom, and returns the new bytes.
    /// The data is never moved.
    ///
    /// # Errors
    ///
    /// [`OutOfRoom`] when the headroom is smaller than `n`; nothing changes.
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom>;

    /// Grows the data by `n` bytes at the back, into the tailroom, and returns the new bytes.
    ///
    /// # Errors
    ///
    /// [`OutOfRoom`] when the tailroom is smaller than `n`; nothing changes.
    fn append(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom>;

    /// Removes `n` bytes from the front; they become headroom.
    ///
    /// # Errors
    ///
    /// [`OutOfRoom`] when there are fewer than `n`; nothing changes.
    fn trim_front(&mut self, n: usize) -> Result<(), OutOfRoom>;

    /// Makes the data `n` bytes long, by cutting it or by growing it into the tailroom.
    ///
    /// # Errors
    ///
    /// [`OutOfRoom`] when `n` is more than data and tailroom together; nothing changes.
    fn set_len(&mut self, n: usize) -> Result<(), OutOfRoom>;

    /// The pieces of the buffer in order; the first is [`data`](Self::data).
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.data())
    }

    /// Bytes in all segments together.
    fn total_len(&self) -> usize {
        self.segments().map(<[u8]>::len).sum()
    }

    /// Drops many buffers at once.
    ///
    /// Backends whose pool takes memory back in bulk override this; a [`Burst`](crate::Burst) that
    /// is dropped or cleared comes here.
    fn free_bulk(buffers: Drain<'_, Self>) {
        drop(buffers);
    }

    /// Replaces the data by `bytes`.
    ///
    /// # Errors
    ///
    /// [`OutOfRoom`] when they are more than data and tailroom together; nothing changes.
    fn fill(&mut self, bytes: &[u8]) -> Result<(), OutOfRoom> {
        self.set_len(bytes.len())?;
        self.data_mut().copy_from_slice(bytes);
        Ok(())
    }
}

/// A buffer has less room than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "asked for {asked} bytes of {room} in a packet buffer, there are {available}; \
     take a larger chunk or more headroom when the pool is made"
)]
pub struct OutOfRoom {
    /// Which room was asked for.
    pub room: Room,
    /// Bytes asked for.
    pub asked: usize,
    /// Bytes there are.
    pub available: usize,
}

/// The parts of a buffer that can run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Room {
    /// Before the data.
    Headroom,
    /// Behind the data.
    Tailroom,
    /// The data itself.
    Data,
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Headroom => "headroom",
            Self::Tailroom => "tailroom",
            Self::Data => "data",
        })
    }
}
