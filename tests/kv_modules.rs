//! The tests that stand in the modules of the key-value store. Built as a test itself, the example would not be
//! there as the program that other tests run.

#![cfg(feature = "io-uring")]
#![allow(clippy::print_stderr, reason = "an example talks to its user")]
#![allow(dead_code, reason = "what only the program uses")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

#[path = "../examples/kv/log/mod.rs"]
mod log;
#[path = "../examples/kv/protocol/mod.rs"]
mod protocol;
#[path = "../examples/kv/server/mod.rs"]
mod server;
#[path = "../examples/kv/shard.rs"]
mod shard;
#[path = "../examples/kv/stats.rs"]
mod stats;
#[path = "../examples/kv/store/mod.rs"]
mod store;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]
mod allocations {
    use std::rc::Rc;
    use std::sync::Arc;

    use bypass_core::backend::memory::{LinkOptions, MemoryEnd, link};
    use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
    use bypass_core::testing::needs::{Need, skip};
    use bypass_core::udp::{Config, UdpOverL2};
    use bypass_core::{Buffer, Burst, Datagram, DatagramIo, Endpoint, MacAddr};
    use bypass_io::io_uring::Ring;

    use crate::server::udp::UdpServer;
    use crate::server::{Core, handover};
    use crate::shard::Shard;
    use crate::stats::{Figure, Stats};
    use crate::store::{LEAST_MEMORY, Store};

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    const KEYS: usize = 4000;

    /// The request of this number, in its frame: all kinds, half of them about keys of the other shard.
    fn request(number: usize, datagram: &mut impl Datagram) {
        let [high, low] = (number as u16).to_be_bytes();
        let mut text = [0; 1200];
        text[..8].copy_from_slice(&[high, low, 0, 0, 0, 1, 0, 0]);
        let mut rest = &mut text[8..];
        let key = number % KEYS;
        let written = match number % 7 {
            0 => std::io::Write::write_fmt(
                &mut rest,
                format_args!("set k{key} 0 0 800\r\n{key:800}\r\n"),
            ),
            1 => std::io::Write::write_fmt(&mut rest, format_args!("set n{key} 0 100 2\r\n10\r\n")),
            2 => std::io::Write::write_fmt(&mut rest, format_args!("incr n{key} 5\r\n")),
            3 => std::io::Write::write_fmt(&mut rest, format_args!("append n{key} 0 0 1\r\n7\r\n")),
            4 => std::io::Write::write_fmt(&mut rest, format_args!("touch k{key} 50\r\n")),
            5 => std::io::Write::write_fmt(&mut rest, format_args!("delete n{key}\r\n")),
            _ => {
                let other = (key * 7) % KEYS;
                std::io::Write::write_fmt(
                    &mut rest,
                    format_args!("gets k{key} k{other} n{key}\r\n"),
                )
            }
        };
        written.unwrap();
        let length = 1200 - rest.len();
        datagram.fill(&text[..length]).unwrap();
    }

    /// Two shards; requests arrive at the first of them. Evictions go on all the time.
    #[test]
    fn a_request_allocates_nothing_wherever_it_arrives() {
        const ROUNDS: usize = 400;
        if skip(&[Need::IoUring]) {
            return;
        }
        let (near, far) = link(&LinkOptions::default()).unwrap();
        let (idle, _cut) = link(&LinkOptions::default()).unwrap();
        let bind = |end: MemoryEnd, host: u8| {
            let net = format!("10.0.0.{host}/24").parse().unwrap();
            let config = Config::new(MacAddr([2, 0, 0, 0, 0, host]), 11211).address(net);
            UdpOverL2::new(end.open().unwrap(), config).unwrap()
        };
        let mut client = bind(near, 1);
        let ring = Rc::new(Ring::local().unwrap());
        let stats = Arc::new(Stats::new(2, 0));
        let core = |index| {
            let store = Store::new(LEAST_MEMORY / 8, 1_000_000);
            Core::new(Shard { index, store, stats: Arc::clone(&stats) }, None, Rc::clone(&ring))
        };
        let mut cores = [core(0), core(1)];
        let mut servers = [UdpServer::new(bind(far, 2)), UdpServer::new(bind(idle, 3))];
        let mut handovers = handover::between(2).unwrap();
        let server = servers[0].socket.local_addr();

        let (mut out, mut back) = (Burst::with_capacity(32), Burst::with_capacity(128));
        let (mut number, mut answers, mut before) = (0, 0, 0);
        for round in 0..ROUNDS {
            // The first rounds ask for the neighbour, and fill the spare answers.
            if round == ROUNDS / 2 {
                (before, answers) = (on_this_thread(), 0);
            }
            client.alloc(&mut out, 32);
            for datagram in out.iter_mut() {
                request(number, datagram);
                datagram.send_to(server);
                number += 1;
            }
            assert_eq!(client.send(&mut out).unwrap(), 32);
            client.flush().unwrap();
            // There, to the other shard, back, and out.
            for turn in 0..6 {
                let at = turn % 2;
                let (core, handover) = (&mut cores[at], &mut handovers[at]);
                servers[at].turn(core, handover).unwrap();
                while let Some(envelope) = handover.receive() {
                    servers[at].open(envelope, core, handover, &mut |_, _| panic!("no connection"));
                }
            }
            client.recv(&mut back).unwrap();
            // First datagrams of answers.
            answers += back.iter().filter(|datagram| datagram.data()[2..4] == [0, 0]).count();
            back.clear();
        }
        assert_eq!(on_this_thread() - before, 0);
        // But for what was under way at the beginning and at the end.
        assert!(answers.abs_diff(32 * ROUNDS / 2) <= 64, "{answers}");
        assert!(stats.total(Figure::HandedOver) > 32 * ROUNDS as u64 / 3);
        cores.iter().for_each(|core| core.shard.publish());
        assert!(stats.total(Figure::Evictions) > 0);
    }
}
