//! Requests for the key-value store of the examples: datagrams with their frames, whole and in pieces, which are
//! carried out on a small store.

#![no_main]
#![allow(dead_code, reason = "what only the program uses")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

#[path = "../../../examples/kv/protocol/mod.rs"]
mod protocol;
mod server;
#[path = "../../../examples/kv/shard.rs"]
mod shard;
#[path = "../../../examples/kv/stats.rs"]
mod stats;
#[path = "../../../examples/kv/store/mod.rs"]
mod store;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use protocol::frame::Frame;
use protocol::{Parsed, Request, first_key, parse};
use server::assembly::{Assembly, Taken};
use shard::{FULL, Next, Shard};
use stats::Stats;
use store::{LEAST_MEMORY, Store};

/// What stays from one input to the next, as in a server.
static STORE: Mutex<Option<Shard>> = Mutex::new(None);

fuzz_target!(|input: &[u8]| {
    let mut place = STORE.lock().expect("nobody has failed before");
    let shard = place.get_or_insert_with(|| {
        let store = Store::new(LEAST_MEMORY / 16, 1_000_000).expect("memory for a small store");
        Shard { index: 0, store, stats: Arc::new(Stats::new(1, 0)) }
    });
    let mut assembly = Assembly::new(Arc::default(), Duration::from_secs(3));
    let (peer, mut now) = (([10, 0, 0, 1], 1).into(), Instant::now());
    // A datagram ends where the next header seems to begin.
    let mut rest = input;
    while !rest.is_empty() {
        let next = rest.iter().skip(8).position(|byte| *byte == 0).map_or(rest.len(), |at| at + 8);
        let (datagram, more) = rest.split_at(next);
        rest = more;
        now += Duration::from_millis(100);
        let Some((frame, part)) = Frame::split(datagram) else { continue };
        shard.store.foresee(first_key(part).into_iter());
        if frame.is_whole() {
            carry_out(shard, part);
        } else if let Taken::Whole(requests) = assembly.take(peer, frame, part, now, |_| {}) {
            carry_out(shard, &requests);
        }
    }
});

/// Carries out requests one after the other, as a worker does.
fn carry_out(shard: &mut Shard, bytes: &[u8]) {
    let (mut used, mut progress, mut out) = (0, 0, Vec::new());
    while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
        let Parsed::Request(request, length) = parse(rest) else { return };
        assert!(length > 0, "a request takes something");
        if request == Request::Quit {
            return;
        }
        match shard.carry_out(&request, &mut progress, (&mut out, FULL), &mut |_, _| {}) {
            Next::Done => (used, progress) = (used + length, 0),
            Next::Full => out.clear(),
            Next::Shard(_) => panic!("there is one shard"),
        }
    }
    assert!(out.is_empty() || out.ends_with(b"\r\n"), "an answer ends with a line");
}
