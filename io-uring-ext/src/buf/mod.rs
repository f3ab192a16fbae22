//! Buffers that an operation can own.
//!
//! The kernel reads and writes a buffer long after the call that started the operation, so an
//! operation takes its buffer by value and gives it back with the result. Borrowed buffers are
//! impossible, whatever is dropped or forgotten:
//!
//! ```compile_fail,E0597
//! use io_uring_ext::{Fd, Ring, op::Send};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ring = Ring::local()?;
//! let (a, _b) = std::os::unix::net::UnixStream::pair()?;
//! let bytes = vec![0; 64];
//! ring.push(Send::new(&Fd::new(a), &bytes[..]))?; // `bytes` does not live for ever
//! # Ok(()) }
//! ```
//!
//! ```compile_fail,E0277
//! use io_uring_ext::{Fd, Ring, op::Read};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ring = Ring::local()?;
//! let mut bytes = [0; 64];
//! let file = Fd::new(std::fs::File::open("/dev/zero")?);
//! ring.push(Read::new(&file, &mut bytes[..], 0))?; // `&mut [u8]` is not an `IoBufMut`
//! # Ok(()) }
//! ```
#![cfg_attr(
    feature = "bytes",
    doc = r#"
`bytes::Bytes` may be shared, so nothing is read into it; `BytesMut` is for that:

```compile_fail,E0277
use io_uring_ext::{Fd, Ring, op::Read};
# fn main() -> Result<(), Box<dyn std::error::Error>> {
let ring = Ring::local()?;
let file = Fd::new(std::fs::File::open("/dev/zero")?);
ring.push(Read::new(&file, bytes::Bytes::from(vec![0; 64]), 0))?; // not an `IoBufMut`
# Ok(()) }
```
"#
)]

mod aligned;
mod bell;
#[cfg(feature = "bytes")]
mod bytes;
mod pool;
mod slice;

pub use aligned::AlignedBuf;
pub use bell::Bell;
pub use pool::{BufPool, PoolBuf};
pub use slice::{OutOfRange, Slice};

use std::ops::RangeBounds;

use crate::ring::RingId;

/// Whether memory lies on huge pages of 2 MiB (`MAP_HUGETLB` in `mmap(2)`): fewer pages to pin and to
/// look up. They have to be reserved, with `sysctl vm.nr_hugepages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// Ordinary pages.
    #[default]
    No,
    /// Huge pages where there are enough; [`BufPool::huge_page_refusal`] says why not.
    Prefer,
    /// Huge pages or an error.
    Require,
}

/// Owned memory that the kernel may read.
///
/// Implemented for `Vec<u8>`, `Box<[u8]>`, `&'static [u8]`, `&'static str`, [`AlignedBuf`], [`PoolBuf`],
/// a [`Slice`] of any of them, and with the feature `bytes` for `bytes::Bytes` and `bytes::BytesMut`.
///
/// # Safety
///
/// - [`stable_ptr`](Self::stable_ptr) points to [`init_len`](Self::init_len) initialised bytes and
///   stays the same when the value is moved, until the value is changed through `&mut` or dropped.
/// - Nobody else writes to those bytes while the value lives.
/// - No method panics after it has changed something, or calls into a ring.
#[diagnostic::on_unimplemented(
    message = "the kernel cannot read from `{Self}` after the call that started the operation",
    note = "operations own their buffers: use `Vec<u8>`, `Box<[u8]>`, `&'static [u8]`, \
            `AlignedBuf`, `PoolBuf`, or implement `IoBuf` for a type of your own"
)]
pub unsafe trait IoBuf: 'static {
    /// Where the bytes are.
    fn stable_ptr(&self) -> *const u8;

    /// How many bytes are initialised: what a send sends.
    fn init_len(&self) -> usize;

    /// The registered buffer of this ring that the bytes are part of, if any, by its index.
    /// Operations on that ring name it, so that the kernel need not look the memory up.
    ///
    /// What implements this makes sure that the index stays that buffer's while the value lives.
    #[doc(hidden)]
    fn registered(&self, ring: RingId) -> Option<u16> {
        let _ = ring;
        None
    }

    /// A part of the initialised bytes, as a buffer of its own.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when it has no such part.
    fn slice(self, range: impl RangeBounds<usize>) -> Result<Slice<Self>, OutOfRange<Self>>
    where
        Self: Sized,
    {
        let limit = self.init_len();
        Slice::new(self, range, limit)
    }

    /// The initialised bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: initialised, stable and not written to, by the trait's contract.
        unsafe { std::slice::from_raw_parts(self.stable_ptr(), self.init_len()) }
    }
}

/// Owned memory that the kernel may write.
///
/// # Safety
///
/// [`stable_mut_ptr`](Self::stable_mut_ptr) points to [`capacity`](Self::capacity) bytes that this
/// value alone owns, with the same stability as [`IoBuf::stable_ptr`].
#[diagnostic::on_unimplemented(
    message = "the kernel cannot write to `{Self}` after the call that started the operation",
    note = "operations own their buffers: use `Vec<u8>`, `Box<[u8]>`, `AlignedBuf`, `PoolBuf`, or \
            implement `IoBufMut` for a type of your own"
)]
pub unsafe trait IoBufMut: IoBuf {
    /// Where the bytes go.
    fn stable_mut_ptr(&mut self) -> *mut u8;

    /// How many fit.
    fn capacity(&self) -> usize;

    /// Tells the buffer that its first `len` bytes have been written. Types with a length take it
    /// as their length.
    ///
    /// # Safety
    ///
    /// The first `len` bytes are initialised, and `len` is at most the capacity.
    unsafe fn set_init(&mut self, len: usize);

    /// A part of the capacity, as a buffer of its own: what is read goes there. It begins among the
    /// initialised bytes, or right behind them.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when it has no such part.
    fn slice_mut(self, range: impl RangeBounds<usize>) -> Result<Slice<Self>, OutOfRange<Self>>
    where
        Self: Sized,
    {
        let limit = self.capacity();
        Slice::new(self, range, limit)
    }
}

// SAFETY: a vector's heap block does not move with the vector.
unsafe impl IoBuf for Vec<u8> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the block of `capacity` bytes belongs to the vector alone.
unsafe impl IoBufMut for Vec<u8> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_init(&mut self, len: usize) {
        // SAFETY: the caller promises that so many bytes are initialised and fit.
        unsafe { self.set_len(len) };
    }
}

// SAFETY: a boxed slice's heap block does not move with the box.
unsafe impl IoBuf for Box<[u8]> {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the block belongs to the box alone.
unsafe impl IoBufMut for Box<[u8]> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.len()
    }
    unsafe fn set_init(&mut self, _len: usize) {}
}

// SAFETY: static memory never moves and is never written.
unsafe impl IoBuf for &'static [u8] {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: static memory never moves and is never written.
unsafe impl IoBuf for &'static str {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len()
    }
}
