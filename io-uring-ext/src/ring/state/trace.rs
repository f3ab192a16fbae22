//! What happens to operations, told to `tracing` (feature `tracing`).
//!
//! A subscriber is foreign code: it is told after the ring's lock has been released, like tasks are
//! woken (see [`super::outbox`]). While it does not listen at this level, nothing is noted down.

use std::collections::VecDeque;

use tracing::{Level, Span, level_enabled};

use super::outbox::Deferred;
use super::{Outbox, State};
use crate::ring::Cqe;
use crate::ring::key::{self, Key, Kind};

/// Something that has happened to an operation.
#[derive(Debug)]
pub(crate) enum Record {
    /// It is in the submission queue.
    Started { key: Key, operation: &'static str },
    /// The kernel has taken it out of there.
    Submitted { key: Key },
    /// Somebody asked for its end.
    Cancelled { key: Key },
    /// A completion has come.
    Completed { key: Key, cqe: Cqe, span: Option<tracing::Id> },
    /// It has ended well inside its submission, without a completion.
    Settled { key: Key, span: Option<tracing::Id> },
    /// The kernel is done with it. The span is `None` where nobody listened when it began.
    Ended { span: Option<Span> },
}

/// Operations that were started and not seen to be submitted, by position in the submission queue.
pub(super) type Unsubmitted = VecDeque<(u32, Key)>;

/// Spans of operations that were started, on their way into the state.
pub(super) type Spans = Vec<(Key, Span)>;

fn user_data(key: Key) -> u64 {
    key::encode(Kind::Operation, key)
}

impl Record {
    /// Tells the subscriber. The span of an operation that has begun goes to `spans`.
    pub(super) fn tell(self, spans: &mut Spans) {
        match self {
            Self::Started { key, operation } => {
                let user_data = user_data(key);
                let span = tracing::trace_span!("operation", user_data, operation);
                tracing::trace!(parent: &span, user_data, operation, "started");
                if !span.is_disabled() {
                    spans.push((key, span));
                }
            }
            Self::Submitted { key } => tracing::trace!(user_data = user_data(key), "submitted"),
            Self::Cancelled { key } => {
                tracing::trace!(user_data = user_data(key), "cancel requested");
            }
            Self::Completed { key, cqe, span } => {
                let (user_data, result, more) = (user_data(key), cqe.result, cqe.more());
                match span {
                    Some(id) => {
                        tracing::trace!(parent: id, user_data, result, more, "completed");
                    }
                    None => tracing::trace!(user_data, result, more, "completed"),
                }
            }
            Self::Settled { key, span } => match span {
                Some(id) => tracing::trace!(parent: id, user_data = user_data(key), "settled"),
                None => tracing::trace!(user_data = user_data(key), "settled"),
            },
            Self::Ended { span } => drop(span),
        }
    }
}

impl Outbox {
    fn note(&mut self, record: Record) {
        self.push(Deferred::Tell(record));
    }
}

impl State {
    pub(super) fn trace_start<T>(&mut self, key: Key) {
        if level_enabled!(Level::TRACE) {
            let operation = std::any::type_name::<T>();
            self.outbox.note(Record::Started { key, operation });
            self.unsubmitted.push_back((self.uring.position(), key));
        }
    }

    pub(super) fn trace_submitted(&mut self) {
        while let Some((position, key)) = self.unsubmitted.front().copied()
            && self.uring.consumed(position)
        {
            self.unsubmitted.pop_front();
            self.outbox.note(Record::Submitted { key });
        }
    }

    pub(super) fn trace_cancel(&mut self, key: Key) {
        if level_enabled!(Level::TRACE) {
            self.outbox.note(Record::Cancelled { key });
        }
    }

    pub(super) fn trace_completion(&mut self, key: Key, cqe: Cqe) {
        if level_enabled!(Level::TRACE) {
            let span = self.span(key);
            self.outbox.note(Record::Completed { key, cqe, span });
        }
    }

    pub(super) fn trace_settled(&mut self, key: Key) {
        if level_enabled!(Level::TRACE) {
            let span = self.span(key);
            self.outbox.note(Record::Settled { key, span });
        }
    }

    fn span(&mut self, key: Key) -> Option<tracing::Id> {
        self.slab.get_mut(key)?.span.as_ref()?.id()
    }

    /// The operation has ended, and its span with it: also if nobody listens any more.
    pub(super) fn trace_end(&mut self, key: Key) {
        let span = self.slab.get_mut(key).and_then(|flight| flight.span.take());
        if span.is_some() {
            self.outbox.note(Record::Ended { span });
        }
    }

    /// Gives operations their spans. Those of operations that have ended meanwhile stay.
    pub(super) fn adopt_spans(&mut self, spans: &mut Spans) {
        for (key, span) in std::mem::take(spans) {
            match self.slab.get_mut(key) {
                Some(flight) if flight.in_flight => flight.span = Some(span),
                _ => spans.push((key, span)),
            }
        }
    }
}
