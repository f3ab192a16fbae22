//! What a subscriber hears about operations.
#![cfg(feature = "tracing")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::collections::HashMap;
use std::fmt;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{SOON, pipe};
use io_uring_ext::op::{Message, Nop, Read};
use io_uring_ext::{DatagramFd, Fd, Ring};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, with_default};
use tracing::{Event, Metadata, Subscriber};

/// One thing that was heard: what, of which operation, inside which span.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    what: String,
    fields: HashMap<&'static str, String>,
    span: Option<u64>,
}

#[derive(Clone, Default)]
struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    spans: Arc<AtomicU64>,
    /// Called for each event, to do what a subscriber should not.
    meddle: Option<fn()>,
}

#[derive(Default)]
struct Fields(HashMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Listener {
    fn note(&self, what: String, fields: Fields, span: Option<u64>) {
        self.heard.lock().unwrap().push(Heard { what, fields: fields.0, span });
    }
}

impl Subscriber for Listener {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes() // one listener per test
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("io_uring_ext")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::SeqCst) + 1;
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.note(format!("span {}", span.metadata().name()), fields, Some(id));
        Id::from_u64(id)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let what = fields.0.remove("message").unwrap();
        self.note(what, fields, event.parent().map(Id::into_u64));
        if let Some(meddle) = self.meddle {
            meddle();
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn try_close(&self, id: Id) -> bool {
        self.note("close".to_owned(), Fields::default(), Some(id.into_u64()));
        true
    }
}

impl Listener {
    fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

fn whats(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.what.as_str()).collect()
}

#[test]
fn an_operation_is_followed_from_start_to_end() {
    let listener = Listener::default();
    with_default(listener.clone(), || {
        let ring = Ring::local().unwrap();
        ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
        let heard = listener.take();
        assert_eq!(whats(&heard), ["span operation", "started", "submitted", "completed", "close"],);
        let user_data = &heard[0].fields["user_data"];
        assert!(heard[..4].iter().all(|heard| heard.fields["user_data"] == *user_data));
        assert!(heard[0].fields["operation"].ends_with("Nop\""), "{:?}", heard[0]);
        assert_eq!((&*heard[3].fields["result"], &*heard[3].fields["more"]), ("0", "false"));
        let spans: Vec<_> = heard.iter().map(|heard| heard.span).collect();
        assert_eq!(spans, [Some(1), Some(1), None, Some(1), Some(1)]);

        ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
        let next = listener.take();
        assert_ne!(
            next[0].fields["user_data"], *user_data,
            "the place is the same, the use is not"
        );
    });
}

#[test]
fn cancels_and_errors_are_heard() {
    let listener = Listener::default();
    with_default(listener.clone(), || {
        let ring = Ring::local().unwrap();
        let (reader, _writer) = pipe();
        let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
        ring.submit().unwrap();
        listener.take();
        drop(read);
        drop(ring);
        let heard = listener.take();
        assert_eq!(whats(&heard), ["cancel requested", "completed", "close"]);
        let canceled = (-rustix::io::Errno::CANCELED.raw_os_error()).to_string();
        assert_eq!(heard[1].fields["result"], canceled);
    });
}

#[test]
fn a_datagram_without_a_completion_is_followed_too() {
    let listener = Listener::default();
    with_default(listener.clone(), || {
        let ring = Ring::local().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut message = Message::with_capacity(1);
        message.set_destination(Some(socket.local_addr().unwrap()));
        message.push(b"x".to_vec()).unwrap();
        let socket = DatagramFd::new(socket).unwrap();
        let sent = ring.push_datagram(&socket, message).unwrap();
        ring.submit().unwrap();
        assert!(sent.is_done());
        let heard = listener.take();
        assert_eq!(whats(&heard), ["span operation", "started", "submitted", "settled", "close"]);
    });
}

#[test]
fn a_subscriber_may_use_the_ring() {
    thread_local! {
        static RING: Ring = Ring::local().unwrap();
    }
    let meddle = || {
        RING.with(|ring| {
            ring.submit().unwrap();
            ring.push(Nop::new()).unwrap().detach();
            ring.wait(1, SOON).unwrap();
        });
    };
    with_default(Listener { meddle: Some(meddle), ..Listener::default() }, || {
        RING.with(|ring| {
            for _ in 0..10 {
                ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
            }
        });
    });
}

#[test]
fn nobody_is_told_what_he_does_not_listen_to() {
    struct Deaf;
    impl Subscriber for Deaf {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            false
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            panic!("a span")
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            panic!("an event")
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    with_default(Deaf, || {
        let ring = Ring::local().unwrap();
        ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
    });
}

/// Threads share a ring: whoever takes a completion ends the span that another one began.
#[test]
fn spans_of_a_shared_ring_are_all_closed() {
    let listener = Listener::default();
    let dispatch = tracing::Dispatch::new(listener.clone());
    let ring = Ring::shared().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                tracing::dispatcher::with_default(&dispatch, || {
                    for _ in 0..200 {
                        ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
                    }
                });
            });
        }
    });
    drop(ring);
    let heard = listener.take();
    let count = |what| heard.iter().filter(|heard| heard.what == what).count();
    let ways = ["span operation", "started", "submitted", "completed", "close"];
    assert_eq!(ways.map(count), [800; 5]);
}
