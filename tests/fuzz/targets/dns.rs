//! Queries for the DNS server of the examples: whatever comes, it says something well formed, or nothing.

#![no_main]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

#[path = "../../../examples/dns/responder/mod.rs"]
#[allow(dead_code, reason = "the program counts and prints what is of no use here")]
mod responder;

use std::sync::OnceLock;

use domain::base::Message;
use libfuzzer_sys::fuzz_target;
use responder::Responder;
use responder::query::Transport;
use responder::zone::Zone;

/// The zone that the example comes with.
const ZONE: &str = include_str!("../../../examples/dns/example.zone");

static RESPONDER: OnceLock<Responder> = OnceLock::new();

fuzz_target!(|query: &[u8]| {
    let responder = RESPONDER.get_or_init(|| {
        let zone = Zone::parse("example.com.", ZONE).expect("the example's zone is right");
        Responder::new(&[zone]).expect("it can be served")
    });
    for transport in [Transport::Udp { room: 1232 }, Transport::Tcp] {
        let Ok(reply) = responder.reply(query, transport) else { continue };
        let mut response = query.to_vec();
        response.resize(reply.len().max(query.len()), 0);
        reply.write(&mut response[..reply.len()]);
        let response = Message::from_octets(&response[..reply.len()]).expect("it has a header");
        assert!(response.header().qr() && response.header().id().to_be_bytes() == query[..2]);
        // To its end, by the parser of other hands.
        for record in response.answer().into_iter().flatten() {
            record.expect("a record can be read");
        }
        response.additional().expect("so can what is before it").for_each(|record| {
            record.expect("a record can be read");
        });
    }
});
