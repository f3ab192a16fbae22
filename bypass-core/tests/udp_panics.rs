//! Neighbours of a user's own that panic: whoever catches it goes on, and nothing is lost uncounted.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod udp;

use std::cell::Cell;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use bypass_core::udp::neighbours::{Heard, Lookup, Neighbours, Resolver, Solicitation};
use bypass_core::{
    Buffer, Burst, Datagram, DatagramIo, DropCause, Endpoint, Interest, MacAddr, Occupancy, Result,
};
use udp::*;

/// The call that panics: of this method, after so many others of it.
type Fuse = Rc<Cell<Option<(&'static str, usize)>>>;

/// A resolver that panics once.
struct Brittle(Resolver, Fuse);

impl Brittle {
    fn called(&self, method: &str) {
        match self.1.get() {
            Some((armed, 0)) if armed == method => {
                self.1.set(None);
                // Without a report on standard error, which the test would be full of.
                std::panic::resume_unwind(Box::new("as it was told"));
            }
            Some((armed, calls)) if armed == method => self.1.set(Some((armed, calls - 1))),
            _ => {}
        }
    }
}

impl Neighbours for Brittle {
    fn lookup(&mut self, host: IpAddr, now: Duration) -> Lookup {
        self.called("lookup");
        self.0.lookup(host, now)
    }

    fn generation(&self) -> u64 {
        self.called("generation");
        self.0.generation()
    }

    fn observe(&mut self, host: IpAddr, station: MacAddr) {
        self.called("observe");
        self.0.observe(host, station);
    }

    fn heard(&mut self, heard: Heard, now: Duration) {
        self.called("heard");
        self.0.heard(heard, now);
    }

    fn solicit(&mut self, now: Duration) -> Option<Solicitation> {
        self.called("solicit");
        self.0.solicit(now)
    }

    fn deadline(&self) -> Option<Duration> {
        self.called("deadline");
        self.0.deadline()
    }

    fn service(&mut self, now: Duration) -> Result<()> {
        self.called("service");
        self.0.service(now)
    }

    fn stack_answers(&self) -> bool {
        self.called("stack_answers");
        self.0.stack_answers()
    }
}

const METHODS: [&str; 8] =
    ["lookup", "generation", "observe", "heard", "solicit", "deadline", "service", "stack_answers"];

/// Runs a step as an application that survives panics, and says whether there was one.
fn survive<T>(step: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(step)).is_err()
}

#[test]
fn traffic_goes_on_after_a_panic_and_nothing_is_lost() {
    let mut seen = [0; METHODS.len()];
    for (method, seen) in METHODS.into_iter().zip(&mut seen) {
        for calls in 0..24 {
            *seen += usize::from(round(method, calls));
        }
    }
    assert!(seen.iter().all(|&panics| panics > 0), "each method has its turn: {seen:?}");
}

/// One life of a stack with a panic in it. Answers whether it came.
fn round(method: &'static str, calls: usize) -> bool {
    let fuse = Fuse::default();
    let brittle = Brittle(Resolver::default(), Rc::clone(&fuse));
    let (mut stack, wire) = stack(|config| config.neighbours(brittle));
    let (mut got, mut sent, mut panics) = (Vec::new(), 0, 0);
    let mut out = Burst::with_capacity(64);
    fuse.set(Some((method, calls)));

    let mut send = |stack: &mut Stack<Brittle>, to: &str, panics: &mut usize| {
        let mut burst = Burst::with_capacity(1);
        assert_eq!(stack.alloc(&mut burst, 1), 1);
        burst[0].fill(b"question").unwrap();
        burst[0].send_to(to.parse().unwrap());
        *panics += usize::from(survive(|| stack.send(&mut burst).unwrap()));
        sent += u64::from(burst.is_empty());
    };
    // What waits for a neighbour; what comes meanwhile; the neighbour's answer in its midst.
    send(&mut stack, "10.0.0.2:9", &mut panics);
    for number in 0..3u8 {
        wire.arrive(&v4(&[number, 0]));
        wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
        wire.arrive(&v4(&[number, 1]));
        match number {
            0 => send(&mut stack, "10.0.0.3:9", &mut panics),
            1 => {
                let wait = || stack.wait(Interest::RX, Some(Duration::ZERO)).unwrap();
                panics += usize::from(survive(wait));
            }
            _ => panics += usize::from(survive(|| stack.flush().unwrap())),
        }
        panics += usize::from(survive(|| stack.recv(&mut out).unwrap()));
    }
    let armed = fuse.take();
    for _ in 0..4 {
        stack.recv(&mut out).unwrap();
    }
    got.extend(out.iter().map(|datagram| datagram.data().to_vec()));
    let all: Vec<_> = (0..3).flat_map(|number| [vec![number, 0], vec![number, 1]]).collect();
    assert_eq!(got, all, "{method} {calls}");
    assert_eq!(stack.stats().rx_packets, 6, "{method} {calls}");
    assert_eq!(stack.stats().rx_bytes, 12, "{method} {calls}");
    assert_accounted(&stack);

    // It still sends what waited, and counts right.
    stack.flush().unwrap();
    let stats = stack.stats();
    let dropped = stats.drops[DropCause::NeighbourTimeout] + stats.drops[DropCause::TxError];
    assert_eq!(
        stats.tx_packets + stats.tx_in_flight + dropped,
        sent,
        "{method} {calls}: {stats:?}"
    );
    assert_eq!(occupancy(&stack, "udp_parked").used, stats.tx_in_flight, "{method} {calls}");
    drop(out);
    assert!(stack.stats().frames.unwrap().adds_up());
    assert_eq!(panics, usize::from(armed.is_none()), "{method} {calls}");
    panics > 0
}

fn occupancy(stack: &Stack<Brittle>, name: &str) -> Occupancy {
    let mut found = None;
    stack.visit_rings(&mut |this, ring| {
        if this == name {
            found = Some(ring);
        }
    });
    found.unwrap_or_else(|| panic!("no queue {name}"))
}
