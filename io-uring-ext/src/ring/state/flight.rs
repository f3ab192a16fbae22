//! [`Flight`]: an operation and what is known of it.

use std::collections::VecDeque;

use super::chain::Linked;
use super::watch::Watcher;
use crate::ring::Cqe;
use crate::sys::payload::Payload;

/// What a place of the slab holds.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) payload: Payload,
    /// Completions that the owner has not taken yet.
    pub(super) results: VecDeque<Cqe>,
    /// The kernel may use the operation's memory: its terminal completion has not come.
    pub(super) in_flight: bool,
    /// Nobody will take the result; the place is vacated with the terminal completion.
    pub(super) abandoned: bool,
    /// A cancel of it has been asked for.
    pub(super) cancelling: bool,
    /// How often a cancel of everything had been asked for when it was started.
    pub(super) began_after: u64,
    /// The task that waits for it.
    pub(super) watcher: Option<Watcher>,
    #[cfg(feature = "tracing")]
    pub(super) span: Option<tracing::Span>,
    /// Its place in a chain.
    pub(super) linked: Option<Linked>,
    /// The kernel took its chain without it; its entry is a nop now.
    pub(super) cut: bool,
}

impl Flight {
    pub(super) fn new() -> Self {
        // Four completions are more than a single-shot operation has; taken now, so that starting
        // one allocates nothing.
        let results = VecDeque::with_capacity(4);
        Self {
            payload: Payload::empty(),
            results,
            in_flight: false,
            abandoned: false,
            cancelling: false,
            began_after: 0,
            watcher: None,
            #[cfg(feature = "tracing")]
            span: None,
            linked: None,
            cut: false,
        }
    }
}

/// When the kernel is done with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// With a completion that has no `MORE` flag.
    WithCompletion,
    /// Inside the submission that consumes its entry: success posts no completion (`SKIP_SUCCESS`),
    /// failure does. Only for operations that cannot be deferred; see [`crate::op::Send`].
    InSubmission,
}
