//! What can go wrong, and what to do about it.

use std::io;

use crate::probe::Refusal;

/// A ring or an operation on it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel gives no such ring or refuses something that it needs.
    #[error("{what} is refused: {refusal}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Who refused it and why.
        #[source]
        refusal: Refusal,
    },
    /// What was asked for contradicts itself or a limit.
    #[error("{what} cannot be {value}: {why}")]
    Config {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it has to be.
        why: &'static str,
    },
    /// A system call failed.
    #[error("{what} failed: {source}")]
    Os {
        /// What was attempted.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ring has been dropped or closed.
    #[error("the ring is closed; the operation's memory is freed when its last completion came")]
    Closed,
    /// This process is a forked child and the ring belongs to its parent.
    #[error("the ring belongs to the parent process; make a new ring after fork")]
    Forked,
    /// A chain goes into the submission queue as a whole, so it has at least one member and at most
    /// as many entries as the queue.
    #[error(
        "the chain takes {entries} entries and the submission queue has {capacity}; build the ring \
         with more entries, or take another number of members"
    )]
    ChainLength {
        /// Entries that it takes: its members and their time limits.
        entries: usize,
        /// Entries of the submission queue.
        capacity: usize,
    },
    /// A slot of one ring's tables was given to another ring.
    #[error(
        "a registered file or buffer belongs to another ring; use it on the ring that it was registered with"
    )]
    ForeignRing,
    /// All slots of a table are taken, or the kernel still uses what was in them.
    #[error(
        "all {slots} slots of the {what} table are taken or still in use by the kernel; let go of \
         some, take completions, or register a larger table"
    )]
    TableFull {
        /// Of what: files or buffers.
        what: &'static str,
        /// The slots that there are to take.
        slots: u32,
    },
}

/// The answer of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn os(what: &'static str, source: io::Error) -> Self {
        Self::Os { what, source }
    }

    pub(crate) fn config(what: &'static str, value: impl ToString, why: &'static str) -> Self {
        Self::Config { what, value: value.to_string(), why }
    }

    /// The `errno` behind the error, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Os { source, .. } => source.raw_os_error(),
            Self::Refused { refusal, .. } => refusal.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the process (`EMFILE`) or the machine (`ENFILE`) has no descriptor left: whoever accepts
    /// connections goes on when one has been closed, because those who come wait in the listener's queue.
    ///
    /// ```
    /// use io_uring_ext::{Ring, net::TcpListener};
    /// use std::time::Duration;
    ///
    /// # let ring = Ring::local()?;
    /// # let listener = TcpListener::bind(&ring, ([127, 0, 0, 1], 0).into())?;
    /// # let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    /// # let serve = async {
    /// let mut incoming = listener.incoming();
    /// let stream = loop {
    ///     match incoming.next().await {
    ///         Err(error) if error.is_out_of_descriptors() => ring.sleep(Duration::from_millis(50)).await?,
    ///         accepted => break accepted?,
    ///     }
    /// };
    /// # assert!(stream.is_some());
    /// # Ok::<(), io_uring_ext::Error>(())
    /// # };
    /// # ring.block_on(serve)??;
    /// # Ok::<(), io_uring_ext::Error>(())
    /// ```
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }
}

/// An operation that was not started, given back whole.
#[derive(thiserror::Error)]
#[error("the operation was not started: {why}")]
pub struct NotStarted<T> {
    /// The operation, with its buffers.
    pub operation: T,
    /// Why it was not started.
    #[source]
    pub why: StartError,
}

impl<T> std::fmt::Debug for NotStarted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotStarted").field("why", &self.why).finish_non_exhaustive()
    }
}

/// Why an operation was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// All places for operations are taken. Take results, or build the ring with more operations.
    #[error("{capacity} operations are in flight or have results that nobody took")]
    TooMany {
        /// The places there are.
        capacity: usize,
    },
    /// The submission queue is full and the kernel takes nothing more from it until completions have
    /// been taken.
    #[error("the submission queue is full; take completions and try again")]
    QueueFull,
    /// The ring itself does not work.
    #[error(transparent)]
    Ring(#[from] Error),
}
