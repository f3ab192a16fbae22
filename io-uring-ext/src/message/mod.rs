//! Messages between rings (`IORING_OP_MSG_RING`, Linux 5.18): a number or a fixed file goes from one
//! ring to another and wakes whoever waits there, without descriptors, locks or system calls of their own.
//!
//! ```
//! use io_uring_ext::message::{Inbox, Mail};
//! use io_uring_ext::Ring;
//! use std::time::Duration;
//!
//! let ring = Ring::local()?;
//! let inbox = Inbox::new(&ring, 64)?;
//! let messenger = inbox.messenger(); // can be sent to any thread
//!
//! let worker = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!     let ring = Ring::local()?;
//!     let posted = ring.push(messenger.post(42)?)?.wait(None);
//!     posted.map_err(|error| error.to_string())?.result?;
//!     Ok(())
//! });
//! let mail = inbox.wait(Some(Duration::from_secs(5)))?;
//! assert!(matches!(mail, Some(Mail::Value(42))));
//! worker.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Bounded, and nothing lost
//!
//! The kernel's queue of completions has no bound: what does not fit the ring waits in kernel memory. So
//! an [`Inbox`] has a capacity, which counts what is on its way as well as what lies there, and a full one
//! refuses before anything is sent ([`PostError::Full`]). A message whose operation fails or is cancelled
//! gives its place back. What arrives for an inbox that has been dropped is counted
//! ([`Counters::stray_messages`](crate::Counters::stray_messages)), and a file among it is closed.

mod messenger;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub(crate) use messenger::Places;
pub use messenger::{Messenger, Post, PostDone, PostError, PostFile};

use crate::error::{Error, Result};
use crate::fixed::{FixedFd, KernelSlots};
use crate::mode::{Local, Mode};
use crate::ring::{Inner, Ring};

/// What has arrived in an [`Inbox`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Mail {
    /// A number.
    Value(u64),
    /// A fixed file, which now has a slot of this ring's table too.
    File {
        /// The slot.
        fd: FixedFd,
        /// What the sender wrote on it.
        tag: u32,
    },
}

/// Where messages to a ring arrive. A ring has one at a time.
///
/// It belongs to the ring's owner; others send through its [`messenger`](Self::messenger). Dropping it
/// closes it for them.
pub struct Inbox<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    messenger: Messenger,
    id: u32,
    /// Keeps the table in which files arrive.
    files: Option<KernelSlots>,
}

impl<M: Mode> Inbox<M> {
    /// An inbox for `capacity` numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a capacity of none or more than 16777216, or a second inbox.
    pub fn new(ring: &Ring<M>, capacity: u32) -> Result<Self> {
        Self::open(ring, capacity, None)
    }

    /// An inbox for numbers and for fixed files (Linux 6.0), which get slots that the kernel chooses
    /// among these.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`Error::ForeignRing`] for slots of another ring, and [`Error::Config`] for a
    /// table without slots that the kernel may choose.
    pub fn with_files(ring: &Ring<M>, capacity: u32, slots: &KernelSlots) -> Result<Self> {
        Self::open(ring, capacity, Some(slots.clone()))
    }

    fn open(ring: &Ring<M>, capacity: u32, files: Option<KernelSlots>) -> Result<Self> {
        if !(1..=1 << 24).contains(&capacity) {
            return Err(Error::config("capacity of an inbox", capacity, "take 1 to 16777216"));
        }
        let ring = ring.inner.clone();
        let takes_files = files.is_some();
        // First what may fail: an inbox that is open and that nobody has could not be closed.
        let fd = ring.duplicate()?;
        let (id, messenger) = ring.with(|state| {
            if let Some(files) = &files {
                state.check_arriving_files(files)?;
            }
            let places = Arc::new(Places::new(capacity, takes_files));
            let id = state.open_inbox(&places)?;
            Ok::<_, Error>((id, places))
        })??;
        let messenger = Messenger::new(fd, ring.fork_sentinel(), messenger, id);
        Ok(Self { ring, messenger, id, files })
    }

    /// Sends to this inbox; any number of them, from any thread of this process.
    ///
    /// It keeps the ring's descriptor open, and with it the kernel's memory of a ring that has been
    /// dropped.
    pub fn messenger(&self) -> Messenger {
        self.messenger.clone()
    }

    /// The next message, if one is there. Does not look for new completions;
    /// [`Ring::submit`](crate::Ring::submit) does.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] in a child process.
    pub fn try_recv(&self) -> Result<Option<Mail>> {
        self.ring.with(|state| state.next_mail(self.id))
    }

    /// Submits, and sleeps until a message is there; `None` when the time is over before.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the ring is closed and nothing is left; as
    /// [`Ring::submit`](crate::Ring::submit).
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<Mail>> {
        let mail = self.ring.wait_until(timeout, |state| match state.next_mail(self.id) {
            Some(mail) => Some(Ok(mail)),
            None => state.is_closed().then_some(Err(Error::Closed)),
        })?;
        mail.transpose()
    }

    /// The next message, without sleeping, as long as somebody drives the ring as for
    /// [`Pending`](crate::Pending).
    pub fn recv(&self) -> Recv<'_, M> {
        Recv { inbox: self }
    }

    /// Messages that lie here or are on their way.
    pub fn len(&self) -> usize {
        self.messenger.places().taken()
    }

    /// Whether there are none, nor on their way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether fixed files can arrive.
    pub fn takes_files(&self) -> bool {
        self.files.is_some()
    }
}

impl<M: Mode> Drop for Inbox<M> {
    fn drop(&mut self) {
        self.messenger.places().close();
        // In a forked child there is nothing to close.
        let _ = self.ring.with(|state| state.close_inbox(self.id));
    }
}

impl<M: Mode> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Of [`Inbox::recv`]. One task at a time can wait for an inbox.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Recv<'a, M: Mode> {
    inbox: &'a Inbox<M>,
}

impl<M: Mode> Future for Recv<'_, M> {
    type Output = Result<Mail>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Mail>> {
        // Cloned before the lock is taken: a waker is foreign code.
        let waker = context.waker().clone();
        self.inbox.ring.with(|state| match state.next_mail(self.inbox.id) {
            Some(mail) => Poll::Ready(Ok(mail)),
            None if state.is_closed() => Poll::Ready(Err(Error::Closed)),
            None => {
                state.watch_inbox(waker);
                Poll::Pending
            }
        })?
    }
}
