//! [`Slice`]: a part of a buffer.

use std::fmt;
use std::ops::{Bound, Deref, DerefMut, RangeBounds};

use super::{IoBuf, IoBufMut};
use crate::ring::RingId;

/// An owned part of a buffer: what an operation reads or writes is this range of it.
///
/// Made by [`IoBuf::slice`] and [`IoBufMut::slice_mut`]; [`into_inner`](Self::into_inner) gives the
/// buffer back. A part of a registered buffer is registered.
///
/// ```
/// use io_uring_ext::buf::{IoBuf, IoBufMut, Slice};
/// use io_uring_ext::op::{Read, Send};
/// use io_uring_ext::{Fd, Ring};
/// use std::os::unix::net::UnixStream;
///
/// let ring = Ring::local()?;
/// let (a, b) = UnixStream::pair()?;
/// let (a, b) = (Fd::new(a), Fd::new(b));
/// let sent = ring.push(Send::new(&a, b"<hello>".to_vec().slice(1..6)?))?.wait(None)?;
/// assert_eq!(sent.result?, 5);
///
/// // Behind what is there already.
/// let mut buf = Vec::with_capacity(16);
/// buf.extend_from_slice(b"got ");
/// let read = ring.push(Read::new(&b, buf.slice_mut(4..)?, 0))?.wait(None)?;
/// assert_eq!(read.buf[..], *b"hello");
/// assert_eq!(read.buf.into_inner(), b"got hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Slice<B> {
    buf: B,
    start: usize,
    /// The end of the part, where nothing is read or written any more.
    end: usize,
    /// Bytes of the part that are in use, from its start; all of them are initialised.
    len: usize,
}

impl<B: IoBuf> Slice<B> {
    /// The part of the first `limit` bytes that `range` names; the first `init_len` are initialised.
    pub(super) fn new(
        buf: B,
        range: impl RangeBounds<usize>,
        limit: usize,
    ) -> Result<Self, OutOfRange<B>> {
        let initialised = buf.init_len();
        let start = match range.start_bound() {
            Bound::Included(start) => Some(*start),
            Bound::Excluded(before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => Some(limit),
        };
        match (start, end) {
            // Beyond the initialised bytes a gap would be left behind them.
            (Some(start), Some(end)) if start <= end && end <= limit && start <= initialised => {
                let len = initialised.min(end) - start;
                Ok(Self { buf, start, end, len })
            }
            _ => Err(OutOfRange { buf, limit, initialised }),
        }
    }

    /// The whole buffer.
    pub fn into_inner(self) -> B {
        self.buf
    }

    /// The whole buffer, to be looked at.
    pub fn get_ref(&self) -> &B {
        &self.buf
    }
}

impl<B: IoBuf> Deref for Slice<B> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

impl<B: IoBufMut> DerefMut for Slice<B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes are initialised (see below), and they belong to this value alone.
        unsafe { std::slice::from_raw_parts_mut(self.stable_mut_ptr(), self.len) }
    }
}

// SAFETY: a part of the buffer's initialised bytes, which have the properties that are asked for. That
// `start + len` of them are initialised holds from `new` and `set_init` on: the buffer is private, and
// nobody changes it meanwhile.
unsafe impl<B: IoBuf> IoBuf for Slice<B> {
    fn stable_ptr(&self) -> *const u8 {
        self.buf.stable_ptr().wrapping_add(self.start)
    }
    fn init_len(&self) -> usize {
        self.len
    }
    fn registered(&self, ring: RingId) -> Option<u16> {
        self.buf.registered(ring)
    }
}

// SAFETY: a part of the bytes that the buffer alone owns: `end` is at most its capacity, which does not
// change while it is private here.
unsafe impl<B: IoBufMut> IoBufMut for Slice<B> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.buf.stable_mut_ptr().wrapping_add(self.start)
    }
    fn capacity(&self) -> usize {
        // A slice of the contents alone may end beyond what a buffer can take.
        self.end.min(self.buf.capacity()).saturating_sub(self.start)
    }
    unsafe fn set_init(&mut self, len: usize) {
        self.len = len;
        // What lies behind the part stays.
        let initialised = self.buf.init_len().max(self.start + len);
        // SAFETY: the caller promises `len` bytes from `start`, up to which they were initialised
        // before; they fit, because the part does.
        unsafe { self.buf.set_init(initialised) };
    }
}

impl<B: IoBuf> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slice")
            .field("range", &(self.start..self.end))
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A buffer has no such part; here it is.
#[derive(thiserror::Error)]
#[error(
    "the range does not lie in the buffer's {limit} bytes, or begins behind the {initialised} that are \
     initialised"
)]
pub struct OutOfRange<B> {
    /// The buffer.
    pub buf: B,
    /// Bytes among which a part may be.
    pub limit: usize,
    /// Bytes that are initialised: a part may begin at their end at the latest.
    pub initialised: usize,
}

impl<B> fmt::Debug for OutOfRange<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutOfRange")
            .field("limit", &self.limit)
            .field("initialised", &self.initialised)
            .finish_non_exhaustive()
    }
}
