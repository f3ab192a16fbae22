//! [`BufRing`]: buffers that the kernel picks from when data arrives.
//!
//! The ring is filled from a [`BufSource`]. A completion moves the buffer out to the application,
//! which owns it from then on; new ones are supplied in its stead, and the kernel learns of all of
//! them with one store per batch. With a [`BufPool`](crate::buf::BufPool) as the source, dropping a
//! received buffer is what brings it back.
//!
//! Each buffer is used whole, for one completion. Incremental rings (`IOU_PBUF_RING_INC`, Linux
//! 6.12), which cut several completions from one buffer, truncate datagrams silently when little is
//! left of a buffer and end a multishot `recvmsg` with `EFAULT`; they belong to streams, and there is
//! no way here to combine one with a datagram socket.
//!
//! The other way round, a [`BundleSender`] has a ring of its own, from which the kernel takes what it
//! sends down a stream.

mod bundle;
mod message;
mod multishot;
mod receiver;
mod sender;
mod source;

use std::fmt;
use std::sync::Arc;

use crate::buf::{Bell, IoBufMut};
use crate::error::{Error, Result};
use crate::mode::{Local, Lock, Mode, OwnedBy};
use crate::op::close_rights;
use crate::ring::{Inner, Ring};
use crate::sys::buf_ring::{BufRingMemory, MAX_ENTRIES};

pub use crate::multishot::EndReason;
pub use message::{MessageLayout, ReceivedMessage};
pub use receiver::{MessageReceiver, Receiver, ReceiverCounters};
pub use sender::{BundleCounters, BundleSender};
use source::clear_gaps;

/// Where a [`BufRing`] gets its buffers.
pub trait BufSource: 'static {
    /// What it supplies.
    type Buf: IoBufMut;

    /// The next free buffer. Its capacity is what one completion can hold; one of none counts as no buffer,
    /// because what it receives would look like the end of a stream.
    ///
    /// Called with the buffer ring's lock held: it must not use that buffer ring, which on a
    /// [`Local`] ring panics and on a [`Shared`](crate::Shared) one waits for itself.
    fn supply(&mut self) -> Option<Self::Buf>;

    /// What rings when another buffer can be supplied. `None` for a source that cannot tell: then a
    /// task that waits for data is not woken by buffers, but told that there are none.
    fn bell(&self) -> Option<&Arc<Bell>> {
        None
    }
}

/// A ring of provided buffers (Linux 5.19), registered with a [`Ring`].
///
/// Clones are handles to the same ring. It is unregistered when the last handle is gone and no
/// receive operation uses it any more.
///
/// ```
/// use io_uring_ext::buf::BufPool;
/// use io_uring_ext::buf_ring::BufRing;
/// use io_uring_ext::{Fd, Ring};
/// use std::net::UdpSocket;
/// use std::time::Duration;
///
/// let ring = Ring::local()?;
/// let buffers = BufRing::new(&ring, 16, BufPool::local(2048, 32)?)?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let address = socket.local_addr()?;
/// let mut receiver = buffers.receiver(&Fd::new(socket));
///
/// UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", address)?;
/// let received = receiver.wait(Some(Duration::from_secs(5)))?.unwrap();
/// assert_eq!(&received[..], b"hello"); // dropping it gives the buffer back
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BufRing<S: BufSource, M: Mode = Local> {
    shared: M::Ptr<Registered<S, M>>,
}

/// The registration, shared by the handles and the receives that use it.
struct Registered<S: BufSource, M: Mode> {
    ring: M::Ptr<Inner<M>>,
    group: u16,
    /// `None` only after it has been leaked or unregistered.
    slots: M::Lock<Option<Slots<S>>>,
}

/// The buffers that the kernel holds, by their identifiers.
struct Slots<S: BufSource> {
    memory: BufRingMemory,
    held: Box<[Option<S::Buf>]>,
    /// Identifiers without a buffer.
    vacant: Vec<u16>,
    /// Which identifier was written to the ring behind each. The buffers of a bundle lie behind each
    /// other in the ring, and its completion names the first.
    behind: Box<[u16]>,
    /// The identifier that was written last.
    last: u16,
    source: S,
}

impl<S: BufSource, M: Mode> BufRing<S, M> {
    /// Registers a ring of `entries` buffers and fills it from `source`, as far as that goes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] unless `entries` is a power of two up to 32768; [`Error::Os`] when the kernel
    /// refuses the registration (`EINVAL` before Linux 5.19).
    pub fn new(ring: &Ring<M>, entries: u16, source: S) -> Result<Self>
    where
        S: OwnedBy<M>,
        S::Buf: OwnedBy<M>,
    {
        if !entries.is_power_of_two() || entries > MAX_ENTRIES {
            return Err(Error::config(
                "buffer ring entries",
                entries,
                "take a power of two up to 32768",
            ));
        }
        let memory = BufRingMemory::new(entries)
            .map_err(|error| Error::os("mapping a buffer ring", error))?;
        let group = ring.inner.with(|state| state.register_buf_ring(&memory, entries))??;
        let slots = Slots {
            memory,
            held: std::iter::repeat_with(|| None).take(entries.into()).collect(),
            vacant: (0..entries).rev().collect(),
            behind: (0..entries).collect(),
            last: 0,
            source,
        };
        let shared: M::Ptr<_> =
            Registered { ring: ring.inner.clone(), group, slots: Some(slots).into() }.into();
        shared.refill();
        Ok(Self { shared })
    }

    /// Buffers that there are places for.
    pub fn entries(&self) -> usize {
        self.shared.with(|slots| slots.held.len()).unwrap_or(0)
    }

    /// Buffers that the kernel can use now.
    pub fn available(&self) -> usize {
        self.shared.with(|slots| slots.available()).unwrap_or(0)
    }

    /// Supplies buffers for all that have been used, and shows them to the kernel at once. Returns
    /// how many it holds then. Receivers do this by themselves.
    pub fn refill(&self) -> usize {
        self.shared.refill()
    }

    /// Uses the source: to add buffers to it, or to look at it. As in [`BufSource::supply`], the buffer
    /// ring must not be used meanwhile.
    pub fn with_source<R>(&self, f: impl FnOnce(&mut S) -> R) -> Option<R> {
        self.shared.with(|slots| f(&mut slots.source))
    }
}

impl<S: BufSource, M: Mode> Clone for BufRing<S, M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S: BufSource, M: Mode> Registered<S, M> {
    fn with<R>(&self, f: impl FnOnce(&mut Slots<S>) -> R) -> Option<R> {
        self.slots.with(|slots| slots.as_mut().map(f))
    }

    fn refill(&self) -> usize {
        self.with(Slots::refill).unwrap_or(0)
    }
}

impl<S: BufSource> Slots<S> {
    fn available(&self) -> usize {
        self.held.len() - self.vacant.len()
    }

    /// The buffer that the kernel has used; from now on it is the application's.
    fn take(&mut self, id: u16) -> Option<S::Buf> {
        let buf = self.held.get_mut(usize::from(id))?.take()?;
        self.vacant.push(id);
        Some(buf)
    }

    fn refill(&mut self) -> usize {
        /// Shows the kernel what was written when it is dropped: also when the source panics.
        struct Filling<'a, S: BufSource> {
            slots: &'a mut Slots<S>,
            vacant: usize,
        }
        impl<S: BufSource> Drop for Filling<'_, S> {
            fn drop(&mut self) {
                if self.slots.vacant.len() < self.vacant {
                    self.slots.memory.publish();
                }
            }
        }
        let filling = Filling { vacant: self.vacant.len(), slots: self };
        while let Some(id) = filling.slots.vacant.last().copied()
            && let Some(buf) = filling.slots.source.supply().filter(|buf| buf.capacity() > 0)
        {
            filling.slots.held[usize::from(id)] = Some(buf);
            if !filling.slots.write(id) {
                break;
            }
            filling.slots.vacant.pop();
        }
        drop(filling);
        self.available()
    }

    /// Gives the buffers of a completion back to the kernel, their contents unread: the first, and
    /// those behind it as far as `bytes` reach. Nothing is dropped.
    fn put_back(&mut self, first: u16, bytes: usize) {
        let (mut next, mut left) = (Some(first), bytes);
        while let Some(id) = next {
            // Looked up before the identifier is written again, which changes what is behind it.
            next = self.next_in_bundle(id, &mut left);
            self.write(id);
        }
        self.memory.publish();
    }

    /// Closes the descriptors in the control data of a message of `len` bytes that nobody will take.
    fn close_rights(&mut self, id: u16, layout: MessageLayout, len: usize) {
        let Some(Some(buf)) = self.held.get_mut(usize::from(id)) else { return };
        let front = layout.payload_at();
        if !layout.has_control() || front > len.min(buf.capacity()) {
            return;
        }
        clear_gaps(buf, layout, len);
        // SAFETY: the kernel has written so many bytes to the start of this buffer, except for the gaps,
        // which were just written.
        let front = unsafe { std::slice::from_raw_parts(buf.stable_mut_ptr(), front) };
        if let Some(parsed) = layout.parse(front) {
            // SAFETY: the control data of one message, whose completion is discarded once.
            unsafe { close_rights(&front[parsed.control]) };
        }
    }

    /// Which buffer of a bundle comes behind `id`, with `left` bytes in this one and those behind.
    fn next_in_bundle(&self, id: u16, left: &mut usize) -> Option<u16> {
        let capacity = self.held.get(usize::from(id))?.as_ref()?.capacity();
        *left = left.saturating_sub(capacity);
        (*left > 0).then(|| self.behind[usize::from(id)])
    }

    /// Writes a held buffer to the ring, not yet shown to the kernel.
    fn write(&mut self, id: u16) -> bool {
        // Its address is asked for where it stays: moving a box would take the address back.
        let Some(Some(buf)) = self.held.get_mut(usize::from(id)) else { return false };
        let len = u32::try_from(buf.capacity()).unwrap_or(u32::MAX);
        let Some(address) = std::ptr::NonNull::new(buf.stable_mut_ptr()) else { return false };
        // SAFETY: the buffer owns `len` stable bytes (`IoBufMut`); it stays in `held` until a
        // completion names it, or until the ring was unregistered with nothing in flight. Each
        // identifier is in the ring at most once, so at most as many entries as the ring has: it is
        // written when it was vacant, or when the kernel has just used it up.
        unsafe { self.memory.write(address, len, id) };
        self.behind[usize::from(self.last)] = id;
        self.last = id;
        true
    }
}

impl<S: BufSource, M: Mode> Drop for Registered<S, M> {
    fn drop(&mut self) {
        // Every operation of the group owns a handle, so none is in flight. The kernel forgets the
        // ring inside the call; if it cannot be asked, what it may still read is leaked. In a forked
        // child the memory is a private copy, which nobody writes to.
        let unregistered = self.ring.with(|state| state.unregister_buf_ring(self.group));
        match unregistered {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => self.slots.with(|slots| std::mem::forget(slots.take())),
        }
    }
}

impl<S: BufSource, M: Mode> fmt::Debug for BufRing<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufRing")
            .field("group", &self.shared.group)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}
