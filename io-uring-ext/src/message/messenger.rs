//! [`Messenger`] and its operations: the sending end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use io_uring::{opcode, squeue, types};

use crate::error::Error;
use crate::fixed::FixedFd;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Fd, Operation, Target};
use crate::probe::Refusal;
use crate::ring::key::{Key, Kind, encode};
use crate::ring::{Cqe, RingId};
use crate::sys::control;
use crate::sys::fork::ForkSentinel;

/// The places of an inbox.
#[derive(Debug)]
pub(crate) struct Places {
    capacity: usize,
    taken: AtomicUsize,
    closed: AtomicBool,
    files: bool,
}

impl Places {
    pub(super) fn new(capacity: u32, files: bool) -> Self {
        let (taken, closed) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { capacity: capacity as usize, taken, closed, files }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Gives back the place of a message that has been taken out, or never came.
    pub(crate) fn release(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// The place of a message that is not sent yet.
#[derive(Debug)]
struct Place(Option<Arc<Places>>);

impl Place {
    fn take(places: &Arc<Places>) -> Result<Self, PostError> {
        if places.closed.load(Ordering::Acquire) {
            return Err(PostError::Closed);
        }
        let capacity = places.capacity;
        let more = |taken| (taken < capacity).then_some(taken + 1);
        match places.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self(Some(Arc::clone(places)))),
            Err(_) => Err(PostError::Full { capacity }),
        }
    }

    /// The message has been sent: its place is taken until it is taken out.
    fn sent(&mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = &self.0 {
            places.release();
        }
    }
}

/// Sends to an [`Inbox`](super::Inbox) from any ring and any thread of the process.
#[derive(Clone, Debug)]
pub struct Messenger {
    ring: Target,
    fd: Fd,
    fork: Arc<ForkSentinel>,
    places: Arc<Places>,
    inbox: u32,
}

/// A message could not be made; nothing has been sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// As many messages as it may hold lie in the inbox or are on their way.
    #[error("the inbox is full: {capacity} messages are there or on their way; try again later")]
    Full {
        /// The inbox's capacity.
        capacity: usize,
    },
    /// The inbox has been dropped, or its ring closed.
    #[error("the inbox is closed")]
    Closed,
    /// The inbox was made for numbers only.
    #[error("the inbox takes no files; make it with `Inbox::with_files`")]
    NoFiles,
    /// Something else does not work.
    #[error(transparent)]
    Other(#[from] Error),
}

impl Messenger {
    pub(super) fn new(
        ring: OwnedFd,
        fork: Arc<ForkSentinel>,
        places: Arc<Places>,
        inbox: u32,
    ) -> Self {
        let fd = Fd::new(ring);
        Self { ring: Target::from(&fd), fd, fork, places, inbox }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the inbox has been dropped, or its ring closed.
    pub fn is_closed(&self) -> bool {
        self.places.closed.load(Ordering::Acquire)
    }

    /// A number to be sent: to be [pushed](crate::Ring::push) to any ring, of which it may be a member of
    /// a chain too.
    ///
    /// # Errors
    ///
    /// [`PostError::Full`], [`PostError::Closed`], and [`Error::Forked`] in a child process.
    pub fn post(&self, value: u64) -> Result<Post, PostError> {
        Ok(Post { place: self.place()?, to: self.clone(), value })
    }

    /// Sends a number at once, from a thread that has no ring (`IORING_REGISTER_SEND_MSG_RING`, Linux
    /// 6.13): one system call.
    ///
    /// # Errors
    ///
    /// As [`post`](Self::post); [`Error::Refused`] on older kernels.
    pub fn send(&self, value: u64) -> Result<(), PostError> {
        let mut place = self.place()?;
        let sent = control::send_message(&self.entry(value, self.fd.as_fd()));
        sent.map_err(|error| Error::Refused {
            what: "a message without a ring",
            refusal: Refusal::of_register(error, (6, 13)),
        })?;
        place.sent();
        Ok(())
    }

    /// A fixed file to be sent (`IORING_MSG_SEND_FD`, Linux 6.0): to be pushed to the ring whose table it
    /// is in. It stays there, and gets a slot in the other ring's table too.
    ///
    /// # Errors
    ///
    /// As [`post`](Self::post); [`PostError::NoFiles`].
    pub fn post_file(&self, fd: &FixedFd, tag: u32) -> Result<PostFile, PostError> {
        if !self.places.files {
            return Err(PostError::NoFiles);
        }
        Ok(PostFile { place: self.place()?, to: self.clone(), fd: fd.clone(), tag })
    }

    fn place(&self) -> Result<Place, PostError> {
        if self.fork.in_child() {
            return Err(Error::Forked.into());
        }
        Place::take(&self.places)
    }

    /// The upper half of the number travels in the completion's `user_data`, the lower in its result.
    fn entry(&self, value: u64, ring: impl AsFd) -> squeue::Entry {
        use std::os::fd::AsRawFd;
        let key = Key { index: self.inbox, generation: (value >> 32) as u32 };
        let user_data = encode(Kind::Message, key);
        let ring = types::Fd(ring.as_fd().as_raw_fd());
        opcode::MsgRingData::new(ring, value as u32 as i32, user_data, None).build()
    }
}

/// A number on its way to an inbox. Made by [`Messenger::post`].
#[derive(Debug)]
pub struct Post {
    place: Place,
    to: Messenger,
    value: u64,
}

/// A message that has been sent, or not.
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct PostDone {
    /// Whether the kernel has delivered it: `EOVERFLOW` when it had no memory to (a file is then in the
    /// other table all the same, and stays there as long as that: `io_msg_install_complete` in
    /// `io_uring/msg_ring.c`), `EOWNERDEAD` when the other ring's thread is gone.
    pub result: io::Result<()>,
}

// SAFETY: the entry points to nothing; the operation owns the other ring's descriptor.
unsafe impl Prepare for Post {
    fn target(&self) -> Option<&Target> {
        Some(&self.to.ring)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.to.entry(self.value, self.to.fd.as_fd())
    }

    fn belongs_to(&self, _ring: RingId) -> bool {
        // Its place is in the parent's memory, and so is that of the same message there.
        !self.to.fork.in_child()
    }

    fn discard(&mut self, cqe: Cqe) {
        if cqe.result >= 0 {
            self.place.sent();
        }
    }
}

impl Operation for Post {
    type Output = PostDone;

    fn complete(mut self, completions: Completions) -> PostDone {
        PostDone { result: settle(&mut self.place, completions) }
    }
}

/// A fixed file on its way to an inbox. Made by [`Messenger::post_file`].
#[derive(Debug)]
pub struct PostFile {
    place: Place,
    to: Messenger,
    fd: FixedFd,
    tag: u32,
}

// SAFETY: the entry points to nothing; the operation owns the other ring's descriptor and the slot.
unsafe impl Prepare for PostFile {
    fn target(&self) -> Option<&Target> {
        Some(&self.to.ring)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        use std::os::fd::AsRawFd;
        let key = Key { index: self.to.inbox, generation: self.tag };
        let ring = types::Fd(self.to.fd.as_fd().as_raw_fd());
        let from = types::Fixed(self.fd.slot());
        let to = types::DestinationSlot::auto_target();
        opcode::MsgRingSendFd::new(ring, from, to, encode(Kind::FileMessage, key)).build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.ring() == ring
    }

    fn discard(&mut self, cqe: Cqe) {
        if cqe.result >= 0 {
            self.place.sent();
        }
    }
}

impl Operation for PostFile {
    /// As for a number; `ENFILE` when no slot of the other table is free.
    type Output = PostDone;

    fn complete(mut self, completions: Completions) -> PostDone {
        PostDone { result: settle(&mut self.place, completions) }
    }
}

fn settle(place: &mut Place, completions: Completions) -> io::Result<()> {
    let result = completions.result_or(0).map(drop);
    if result.is_ok() {
        place.sent();
    }
    result
}
