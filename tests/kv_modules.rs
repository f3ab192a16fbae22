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
mod requests {
    use std::net::SocketAddr;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use bypass_core::backend::memory::{LinkOptions, MemoryEnd, MemoryPort, link};
    use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
    use bypass_core::testing::needs::{Need, skip};
    use bypass_core::udp::{Config, UdpOverL2};
    use bypass_core::{Buffer, Burst, Datagram, DatagramIo, Endpoint, MacAddr};
    use bypass_io::io_uring::Ring;

    use crate::protocol::How;
    use crate::server::budget::{ANSWERS, REQUESTS};
    use crate::server::handover::{self, ENVELOPES, Handover};
    use crate::server::udp::UdpServer;
    use crate::server::{Back, Core};
    use crate::shard::Shard;
    use crate::stats::{Figure, Stats};
    use crate::store::{LEAST_MEMORY, Store, Written};

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

    type Socket = UdpOverL2<MemoryPort>;
    type Sent = <Socket as DatagramIo>::Datagram;

    /// Two shards, the first of which has a client, on one thread.
    struct Pair {
        client: Socket,
        /// Where the client finds the first.
        server: SocketAddr,
        cores: [Core; 2],
        servers: [UdpServer<Socket>; 2],
        handovers: Vec<Handover<Back>>,
        stats: Arc<Stats>,
        out: Burst<Sent>,
        /// What the second is reached by.
        _cut: MemoryEnd,
    }

    impl Pair {
        fn new() -> Self {
            let (near, far) = link(&LinkOptions::default()).unwrap();
            let (idle, cut) = link(&LinkOptions::default()).unwrap();
            let bind = |end: MemoryEnd, host: u8| {
                let net = format!("10.0.0.{host}/24").parse().unwrap();
                let config = Config::new(MacAddr([2, 0, 0, 0, 0, host]), 11211).address(net);
                UdpOverL2::new(end.open().unwrap(), config).unwrap()
            };
            let client = bind(near, 1);
            let ring = Rc::new(Ring::local().unwrap());
            let stats = Arc::new(Stats::new(2, 0));
            let core = |index| {
                let store = Store::new(LEAST_MEMORY / 8, 1_000_000).unwrap();
                Core::new(Shard { index, store, stats: Arc::clone(&stats) }, None, Rc::clone(&ring))
            };
            let cores = [core(0), core(1)];
            let (handovers, out) = (handover::between(2).unwrap(), Burst::with_capacity(32));
            let serve = |at: usize, end, host| {
                UdpServer::new(bind(end, host), &handovers[at], Duration::from_secs(600))
            };
            let servers = [serve(0, far, 2), serve(1, idle, 3)];
            let server = servers[0].socket.local_addr();
            Self { client, server, cores, servers, handovers, stats, out, _cut: cut }
        }

        /// One whose client knows its neighbour: nothing waits or is lost from here on.
        fn acquainted() -> Self {
            let (mut pair, mut back) = (Self::new(), Burst::with_capacity(128));
            let version = b"\0\x07\0\0\0\x01\0\0version\r\n";
            while pair.answers(&mut back) < 32 {
                pair.ask(|datagram| datagram.fill(version).unwrap());
                pair.turn(0);
            }
            // What had to wait for that.
            while {
                pair.turn(0);
                pair.answers(&mut back) > 0
            } {}
            pair
        }

        /// A key that a shard has, and a request for it.
        fn get_from(&self, shard: usize) -> (String, Vec<u8>) {
            let keys = (0..).map(|number| format!("key{number}"));
            let mut keys = keys.filter(|key| self.cores[0].shard.of(key.as_bytes()) == shard);
            let key = keys.next().unwrap();
            let text = format!("\0\x07\0\0\0\x01\0\0get {key}\r\n").into_bytes();
            (key, text)
        }

        /// Sends requests to the first.
        fn ask(&mut self, mut fill: impl FnMut(&mut Sent)) {
            assert_eq!(self.client.alloc(&mut self.out, 32), 32);
            for datagram in self.out.iter_mut() {
                fill(datagram);
                datagram.send_to(self.server);
            }
            assert_eq!(self.client.send(&mut self.out).unwrap(), 32);
            self.client.flush().unwrap();
        }

        /// A turn of one of them.
        fn turn(&mut self, at: usize) {
            let (core, handover) = (&mut self.cores[at], &mut self.handovers[at]);
            self.servers[at].turn(core, handover).unwrap();
            while let Some(envelope) = handover.receive() {
                let no_connection = &mut |_, _| panic!("no connection");
                self.servers[at].open(envelope, core, handover, no_connection);
            }
        }

        /// First datagrams of the answers that have come.
        fn answers(&mut self, back: &mut Burst<Sent>) -> usize {
            self.client.recv(back).unwrap();
            let first = back.iter().filter(|datagram| datagram.data()[2..4] == [0, 0]).count();
            back.clear();
            first
        }
    }

    /// Evictions go on all the time.
    #[test]
    fn a_request_allocates_nothing_wherever_it_arrives() {
        const ROUNDS: usize = 400;
        if skip(&[Need::IoUring]) {
            return;
        }
        let (mut pair, mut back) = (Pair::new(), Burst::with_capacity(128));
        let (mut number, mut answers, mut before) = (0, 0, 0);
        for round in 0..ROUNDS {
            // The first rounds ask for the neighbour, and fill the spare answers.
            if round == ROUNDS / 2 {
                (before, answers) = (on_this_thread(), 0);
            }
            pair.ask(|datagram| {
                request(number, datagram);
                number += 1;
            });
            // There, to the other shard, back, and out.
            (0..6).for_each(|turn| pair.turn(turn % 2));
            answers += pair.answers(&mut back);
        }
        assert_eq!(on_this_thread() - before, 0);
        // But for what was under way at the beginning and at the end.
        assert!(answers.abs_diff(32 * ROUNDS / 2) <= 64, "{answers}");
        assert!(pair.stats.total(Figure::HandedOver) > 32 * ROUNDS as u64 / 3);
        pair.cores.iter().for_each(|core| core.shard.publish());
        assert!(pair.stats.total(Figure::Evictions) > 0);
    }

    /// Small requests for much: what is on its way out is bounded, and what is beyond is counted.
    #[test]
    fn long_answers_take_no_more_memory_than_they_may() {
        const VALUE: usize = 300_000;
        if skip(&[Need::IoUring]) {
            return;
        }
        let (mut pair, mut back) = (Pair::acquainted(), Burst::with_capacity(128));
        let (key, text) = pair.get_from(0);
        let store = &mut pair.cores[0].shard.store;
        assert_eq!(store.write(How::Set, key.as_bytes(), 0, 0, &[7; VALUE]), Written::Stored);
        let (mut asked, mut answers) = (0, 0);
        while asked * VALUE < 2 * ANSWERS {
            pair.ask(|datagram| datagram.fill(&text).unwrap());
            asked += 32;
            pair.turn(0);
            answers += pair.answers(&mut back);
        }
        while !pair.servers[0].may_sleep() {
            pair.turn(0);
            answers += pair.answers(&mut back);
        }
        answers += pair.answers(&mut back);
        let refused = pair.stats.total(Figure::NoBuffer) as usize;
        assert_eq!(answers + refused, asked);
        assert!(answers >= ANSWERS / VALUE - 1 && refused >= asked / 3, "{answers} of {asked}");
    }

    /// What another shard has no time for is dropped where it arrived, and counted.
    #[test]
    fn a_shard_that_falls_behind_is_waited_for_so_long() {
        const ROUNDS: u64 = 40;
        if skip(&[Need::IoUring]) {
            return;
        }
        let (mut pair, mut back) = (Pair::acquainted(), Burst::with_capacity(128));
        let (_, text) = pair.get_from(1);
        for _ in 0..ROUNDS {
            pair.ask(|datagram| datagram.fill(&text).unwrap());
            pair.turn(0);
        }
        let total = |figure| pair.stats.total(figure);
        let (handed_over, full) = (total(Figure::HandedOver), total(Figure::HandoverFull));
        assert_eq!((handed_over, full), (ENVELOPES as u64, 32 * ROUNDS - ENVELOPES as u64));
        assert_eq!(pair.answers(&mut back), 0);
        // It catches up: all that was handed over is answered, and there is room again.
        let mut answers = 0;
        for _ in 0..ENVELOPES {
            (0..2).for_each(|turn| pair.turn(1 - turn));
            answers += pair.answers(&mut back);
        }
        assert_eq!(answers, ENVELOPES);
        pair.ask(|datagram| datagram.fill(&text).unwrap());
        (0..6).for_each(|turn| pair.turn(turn % 2));
        assert_eq!(pair.answers(&mut back), 32);
        assert_eq!(pair.stats.total(Figure::HandoverFull), full);
    }

    /// Large requests for a shard that falls behind: they take no more memory than they may, and give it back.
    #[test]
    fn requests_on_their_way_take_no_more_memory_than_they_may() {
        const VALUE: usize = 1_040_000;
        if skip(&[Need::IoUring]) {
            return;
        }
        let (mut pair, mut back) = (Pair::acquainted(), Burst::with_capacity(128));
        let (key, _) = pair.get_from(1);
        let frame = |numbers: [u16; 3], part: &[u8]| {
            [&numbers.map(u16::to_be_bytes).concat(), &[0, 0][..], part].concat()
        };
        let large = format!("set {key} 0 0 {VALUE}\r\n{}\r\n", "v".repeat(VALUE)).into_bytes();
        let total = large.len().div_ceil(1392) as u16;
        let pieces = |request| {
            let parts = (0..).zip(large.chunks(1392));
            parts.map(move |(sequence, part)| frame([request, sequence, total], part))
        };
        let small = format!("set {key} 0 0 1300\r\n{}\r\n", "s".repeat(1300)).into_bytes();
        // As many as there is room for, and one more that is forgotten when it has come in part.
        let fit = REQUESTS / large.len();
        let mut datagrams: Vec<_> = (0..=fit as u16).flat_map(pieces).collect();
        let singles = 256;
        datagrams.extend((0..singles).map(|request| frame([100 + request, 0, 1], &small)));
        // The rig sends 32 at a time.
        datagrams.resize(datagrams.len().next_multiple_of(32), b"short".to_vec());
        for datagrams in datagrams.chunks(32) {
            let mut datagrams = datagrams.iter();
            pair.ask(|datagram| datagram.fill(datagrams.next().unwrap()).unwrap());
            pair.turn(0);
        }
        let requests = |pair: &Pair| pair.handovers[0].budgets().requests.taken();
        let total = |figure| pair.stats.total(figure);
        let handed_over = total(Figure::HandedOver) as usize;
        let refused = total(Figure::HandoverTooLarge) as usize;
        assert_eq!(handed_over + refused, fit + usize::from(singles));
        assert!(total(Figure::PiecesForgotten) >= 1);
        // Pieces make way for what is whole.
        assert_eq!(requests(&pair), fit * large.len() + (handed_over - fit) * small.len());
        assert!(refused > 0 && requests(&pair) + small.len() > REQUESTS);
        let mut answers = 0;
        for _ in 0..handed_over {
            (0..2).for_each(|turn| pair.turn(1 - turn));
            answers += pair.answers(&mut back);
        }
        assert_eq!((answers, requests(&pair)), (handed_over, 0));
    }

    /// Small requests for much that another shard has: what it answers is bounded before it is on its way.
    #[test]
    fn answers_on_their_way_take_no_more_memory_than_they_may() {
        const VALUE: usize = 300_000;
        if skip(&[Need::IoUring]) {
            return;
        }
        let (mut pair, mut back) = (Pair::acquainted(), Burst::with_capacity(128));
        let (key, text) = pair.get_from(1);
        let store = &mut pair.cores[1].shard.store;
        assert_eq!(store.write(How::Set, key.as_bytes(), 0, 0, &[7; VALUE]), Written::Stored);
        for _ in 0..ENVELOPES / 32 {
            pair.ask(|datagram| datagram.fill(&text).unwrap());
            pair.turn(0);
        }
        pair.turn(1);
        let answers = |pair: &Pair| pair.handovers[0].budgets().answers.taken();
        assert!(answers(&pair) <= ANSWERS && answers(&pair) + VALUE > ANSWERS);
        let refused = pair.stats.total(Figure::NoBuffer) as usize;
        assert!((ENVELOPES / 2..ENVELOPES - 200).contains(&refused), "{refused}");
        let (mut long, mut short) = (0, 0);
        while {
            pair.turn(0);
            pair.client.recv(&mut back).unwrap() > 0 || !pair.servers[0].may_sleep()
        } {
            for datagram in back.iter().filter(|datagram| datagram.data()[2..4] == [0, 0]) {
                match datagram.data().get(8..14) {
                    Some(b"SERVER") => short += 1,
                    _ => long += 1,
                }
            }
            back.clear();
        }
        // Who is told that it is too much, and who is not because there is no room for what others are told.
        let dropped = pair.stats.total(Figure::NoBuffer) as usize - refused;
        assert_eq!((short, long + dropped), (refused, ENVELOPES - refused));
        assert!(dropped < 10, "{dropped}");
        assert_eq!(answers(&pair), 0);
    }
}
