//! The frame of datagrams, and requests that arrive at the wrong shard.

use std::cell::Cell;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};

use super::server::{Scratch, Server, lacks_cores};

/// A request in one datagram.
pub(super) fn framed(request: u16, text: &[u8]) -> Vec<u8> {
    let [high, low] = request.to_be_bytes();
    [&[high, low, 0, 0, 0, 1, 0, 0], text].concat()
}

/// A request in datagrams with so many bytes of it each.
fn in_pieces(request: u16, text: &[u8], size: usize) -> Vec<Vec<u8>> {
    let total = text.len().div_ceil(size) as u16;
    let piece = |(number, piece): (u16, &[u8])| {
        let header = [request, number, total, 0].map(u16::to_be_bytes).concat();
        [&header, piece].concat()
    };
    (0..).zip(text.chunks(size)).map(piece).collect()
}

/// The datagrams that answer a request, whatever order they come in.
fn answer_datagrams(socket: &UdpSocket, request: u16) -> Vec<Vec<u8>> {
    let mut parts: Vec<Option<Vec<u8>>> = Vec::new();
    loop {
        let mut bytes = [0; 2000];
        let length = socket.recv(&mut bytes).unwrap();
        assert!(length <= 1400);
        let two = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if two(0) != request {
            continue;
        }
        let (sequence, total) = (usize::from(two(2)), usize::from(two(4)));
        parts.resize(total, None);
        assert!(parts[sequence].replace(bytes[..length].to_vec()).is_none());
        if parts.iter().all(Option::is_some) {
            return parts.into_iter().flatten().collect();
        }
    }
}

/// What datagrams carry.
fn carried(datagrams: &[Vec<u8>]) -> Vec<u8> {
    datagrams.iter().flat_map(|datagram| &datagram[8..]).copied().collect()
}

/// The answer to a request.
fn answer(socket: &UdpSocket, request: u16) -> Vec<u8> {
    carried(&answer_datagrams(socket, request))
}

fn ask(socket: &UdpSocket, request: u16, text: &str) -> String {
    socket.send(&framed(request, text.as_bytes())).unwrap();
    String::from_utf8(answer(socket, request)).unwrap()
}

/// Everything that a datagram can be, against a server that is there already.
fn talk(socket: &UdpSocket) {
    assert_eq!(ask(socket, 1, "set a 7 0 3\r\nabc\r\n"), "STORED\r\n");
    assert_eq!(ask(socket, 2, "get a\r\n"), "VALUE a 7 3\r\nabc\r\nEND\r\n");
    // Several requests in one datagram are answered in one message. Those that want no answer give none.
    assert_eq!(
        ask(socket, 3, "set b 0 0 1 noreply\r\nx\r\nget b\r\ndelete b\r\n"),
        "VALUE b 0 1\r\nx\r\nEND\r\nDELETED\r\n"
    );
    // An answer of many datagrams: 60 items of 1000 bytes, which lie on all shards.
    let mut expected = String::new();
    let mut keys = String::new();
    for n in 0..60_u16 {
        let value = format!("{n:04}").repeat(250);
        assert_eq!(
            ask(socket, 100 + n, &format!("set k{n} 0 0 1000\r\n{value}\r\n")),
            "STORED\r\n"
        );
        expected.push_str(&format!("VALUE k{n} 0 1000\r\n{value}\r\n"));
        keys.push_str(&format!(" k{n}"));
    }
    expected.push_str("END\r\n");
    assert!(ask(socket, 9, &format!("get{keys}\r\n")) == expected);
    assert_eq!(ask(socket, 10, "flush_all\r\n"), "OK\r\n");
    assert_eq!(ask(socket, 11, &format!("get{keys}\r\n")), "END\r\n");
    // What is no request at all is dropped, and the next one is served.
    socket.send(b"short").unwrap();
    socket.send(&framed(13, b"")).unwrap();
    assert_eq!(ask(socket, 14, "nonsense\r\n"), "ERROR\r\n");
    talk_in_pieces(socket);
}

/// Requests of several datagrams, which may take as long as they do.
fn talk_in_pieces(socket: &UdpSocket) {
    let names = [
        "begun",
        "whole",
        "too_large",
        "late",
        "forgotten",
        "replaced",
        "taken",
        "twice",
        "swallowed",
    ];
    let counted = || {
        let text = ask(socket, 1, "stats\r\n");
        let value = |name| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(&format!("STAT pieces_{name} ")));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<u64>().unwrap()
        };
        names.map(value)
    };
    let before = counted();
    let sent = Cell::new(0);
    let send = |pieces: &[Vec<u8>]| {
        sent.set(sent.get() + pieces.len() as u64);
        send_in_turn(socket, pieces);
    };
    let value =
        |with: char| (0..80_000).map(|n| if n % 7 == 0 { with } else { 'v' }).collect::<String>();
    let set = |key: &str, with: char| format!("set {key} 3 0 80000\r\n{}\r\n", value(with));
    let stored = |key: &str, request: u16, with: char| {
        assert!(answer(socket, request) == b"STORED\r\n");
        let found = ask(socket, 3, &format!("get {key}\r\n"));
        assert!(found == format!("VALUE {key} 3 80000\r\n{}\r\nEND\r\n", value(with)));
    };
    // In order, on whichever shards the keys are.
    for key in ["p1", "p2", "p3", "p4"] {
        send(&in_pieces(20, set(key, 'a').as_bytes(), 1392));
        stored(key, 20, 'a');
    }
    // From the last to the first.
    let mut pieces = in_pieces(21, set("p1", 'b').as_bytes(), 1300);
    pieces.reverse();
    send(&pieces);
    stored("p1", 21, 'b');
    // Each twice but for the last, which completes it.
    let pieces = in_pieces(22, set("p2", 'c').as_bytes(), 1200);
    let twice = pieces.iter().flat_map(|piece| [piece.clone(), piece.clone()]).collect::<Vec<_>>();
    send(&twice[..twice.len() - 1]);
    stored("p2", 22, 'c');
    // One is missing, and the client begins anew with the same number.
    let pieces = in_pieces(23, set("p3", 'd').as_bytes(), 1392);
    send(&[&pieces[..10], &pieces[11..]].concat());
    send(&in_pieces(23, set("p3", 'e').as_bytes(), 1391));
    stored("p3", 23, 'e');
    // Several requests, parted anywhere, about several keys; and one that is whole in between.
    let text = "touch p1 0\r\nset q 0 0 2\r\nab\r\ngets no p9\r\nappend q 0 0 1\r\nc\r\nget p8 q\r\nincr z 1\r\n";
    let pieces = in_pieces(24, text.as_bytes(), 9);
    send(&pieces[..4]);
    assert_eq!(ask(socket, 24, "delete q\r\n"), "NOT_FOUND\r\n");
    send(&pieces[4..]);
    let expected =
        "TOUCHED\r\nSTORED\r\nEND\r\nSTORED\r\nVALUE q 0 3\r\nabc\r\nEND\r\nNOT_FOUND\r\n";
    assert_eq!(String::from_utf8(answer(socket, 24)).unwrap(), expected);
    // Longer than any may be: that is said once, and nothing of it is done.
    send(&in_pieces(25, &b"delete q\r\n".repeat(500), 1)[..3]);
    assert_eq!(answer(socket, 25), b"SERVER_ERROR object too large for cache\r\n");
    assert_eq!(
        ask(socket, 26, "get q\r\ndelete q\r\n"),
        "VALUE q 0 3\r\nabc\r\nEND\r\nDELETED\r\n"
    );
    // What has become of all these.
    let now = counted();
    let since: Vec<_> = (0..names.len()).map(|at| now[at] - before[at]).collect();
    let twice = (twice.len() / 2 - 1) as u64;
    let taken = sent.get() - twice - 2;
    assert_eq!(since, [10, 8, 1, 0, 0, 1, taken, twice, 2], "{names:?}");
}

/// Sends not more at once than a socket's memory holds.
fn send_in_turn(socket: &UdpSocket, datagrams: &[Vec<u8>]) {
    for (at, datagrams) in datagrams.chunks(32).enumerate() {
        if at > 0 {
            ask(socket, 2, "version\r\n");
        }
        datagrams
            .iter()
            .for_each(|datagram| assert_eq!(socket.send(datagram).unwrap(), datagram.len()));
    }
}

#[test]
fn kv_talks_memcacheds_udp_protocol() {
    if skip(&[Need::IoUring]) {
        return;
    }
    for place in ["udp+uring://127.0.0.1:0", "udp+socket://127.0.0.1:0"] {
        speaks_udp(&["--udp", place]);
    }
}

#[test]
fn kv_behind_tokio_talks_memcacheds_udp_protocol() {
    speaks_udp(&["--front", "tokio"]);
}

/// Everything about datagrams, of one front end.
fn speaks_udp(front: &[&str]) {
    let server = Server::kv(front);
    let udp = server.greeting.split_once("udp ").unwrap().1.split_once(',').unwrap().0;
    let socket = server.datagrams();
    socket.connect(udp).unwrap();
    talk(&socket);
    server.await_stat("malformed_datagrams", |n| n == 1);
    only_so_many_are_kept(&server, &socket);
    only_so_many_bytes_are_kept(&server, &socket);
    let names = ["datagrams_whole", "pieces_taken", "pieces_twice", "pieces_swallowed"];
    let named = names.map(|name| server.stat(name)).iter().sum::<u64>();
    let malformed = server.stat("malformed_datagrams");
    server.await_stat("datagrams_received", |received| received == named + malformed);

    let server = Server::kv(&[front, &["--patience", "0.2"]].concat());
    let udp = server.greeting.split_once("udp ").unwrap().1.split_once(',').unwrap().0;
    socket.connect(udp).unwrap();
    pieces_are_late_whatever_else_comes(&server, &socket);
}

/// Requests that are begun and not ended: so many are kept. And the largest there is.
fn only_so_many_are_kept(server: &Server, socket: &UdpSocket) {
    const KEPT: u64 = 64;
    let begun: Vec<_> =
        (0..KEPT as u16 + 6).map(|n| in_pieces(n, b"version\r\n", 7).swap_remove(0)).collect();
    let forgotten = server.stat("pieces_forgotten");
    send_in_turn(socket, &begun);
    ask(socket, 999, "version\r\n");
    assert_eq!(server.stat("pieces_forgotten") - forgotten, 6);
    // One of those that are kept.
    socket.send(&in_pieces(6, b"version\r\n", 7)[1]).unwrap();
    assert!(answer(socket, 6).starts_with(b"VERSION "));
    let (text, length) = largest();
    send_in_turn(socket, &in_pieces(1000, text.as_bytes(), 1392));
    assert_eq!(answer(socket, 1000), b"STORED\r\n");
    let found = server.connect().ask_until("get huge\r\n", "END\r\n");
    assert!(found == format!("VALUE huge 0 {length}\r\n{}\r\nEND\r\n", "h".repeat(length)));
}

/// The largest request, and the length of its value.
fn largest() -> (String, usize) {
    let length = (1 << 20) - 59 - 4;
    (format!("set huge 0 0 {length}\r\n{}\r\n", "h".repeat(length)), length)
}

/// The same of so many bytes, however few requests they belong to: the oldest makes way.
fn only_so_many_bytes_are_kept(server: &Server, socket: &UdpSocket) {
    // 16 MiB, and 64 bytes for each piece beside its own.
    const KEPT: usize = 16 << 20;
    let (text, _) = largest();
    let pieces = |request| in_pieces(request, text.as_bytes(), 1392);
    let last = pieces(0).len() - 1;
    let kept = KEPT / (last * (1392 + 64));
    let begin = |request| {
        send_in_turn(socket, &pieces(request)[..last]);
        ask(socket, 999, "version\r\n");
    };
    // Those that are there already make way with the first; then all that are kept are large.
    (0..=kept as u16).for_each(|n| begin(2000 + n));
    let forgotten = server.stat("pieces_forgotten");
    (1..=2).for_each(|n| begin(2000 + kept as u16 + n));
    assert_eq!(server.stat("pieces_forgotten") - forgotten, 2);
    // The third of them made way, the fourth is there.
    let whole = server.stat("pieces_whole");
    socket.send(&pieces(2002)[last]).unwrap();
    ask(socket, 999, "version\r\n");
    assert_eq!(server.stat("pieces_whole"), whole);
    socket.send(&pieces(2003)[last]).unwrap();
    assert_eq!(answer(socket, 2003), b"STORED\r\n");
}

/// Requests that are begun and not ended are not kept for ever, by a server that is never without work either.
fn pieces_are_late_whatever_else_comes(server: &Server, socket: &UdpSocket) {
    let pieces = in_pieces(1, b"version\r\n", 7);
    for request in 0..5 {
        socket.send(&in_pieces(request, b"version\r\n", 7)[0]).unwrap();
    }
    server.await_stat("pieces_late", |late| {
        (0..100).for_each(|_| drop(ask(socket, 999, "version\r\n")));
        late == 5
    });
    assert_eq!(server.stat("pieces_begun"), 5);
    // What comes of one now is the beginning of another.
    socket.send(&pieces[1]).unwrap();
    ask(socket, 999, "version\r\n");
    assert_eq!(["pieces_begun", "pieces_whole"].map(|name| server.stat(name)), [6, 0]);
}

/// Datagrams arrive at the shard that the kernel chooses, so some of them arrive at the wrong one.
#[test]
fn kv_answers_whichever_shard_a_datagram_reaches() {
    if skip(&[Need::IoUring]) || lacks_cores(2) {
        return;
    }
    let scratch = Scratch::new("shards");
    for arguments in [&["--workers", "2"][..], &["--workers", "2", "--log", scratch.path()]] {
        let server = Server::kv(arguments);
        for _ in 0..4 {
            talk(&server.datagrams());
        }
        assert!(server.stat("handed_over") > 100, "{}", server.stat("handed_over"));
        assert_eq!(server.stat("handover_full"), 0);
    }
}

/// Past the kernel's sockets, at an address of its own or of the kernel's; and what was acknowledged there is
/// on the disk.
#[test]
fn kv_is_served_from_user_space() {
    if skip(&[Need::IoUring, Need::Namespaces]) {
        return;
    }
    let own = "10.66.0.9:11211?interface=veth0&prefix=24";
    let mut places = vec![("packet", Some(format!("udp+packet://{own}")))];
    if cfg!(feature = "xdp") && !skip(&[Need::Bpf, Need::Tool("ethtool")]) {
        // The second is what the features choose.
        places.extend([("xdp", Some(format!("udp+xdp://{own}"))), ("xdp", None)]);
    }
    if cfg!(feature = "dpdk") {
        places.push(("dpdk", Some("udp+dpdk://10.66.0.1:{port}".to_owned())));
    }
    for (backend, udp) in places {
        let scratch = Scratch::new("user-space");
        let veth = Veth::new(&VethOptions::default()).unwrap();
        if backend == "xdp" {
            // A veth pair leaves checksums to a device that is not there, and tells AF_XDP nothing.
            veth.b.run("ethtool", "-K veth0 tx off").unwrap();
        }
        let start = || {
            let _inside = veth.a.enter().unwrap();
            let udp = udp.iter().flat_map(|udp| ["--udp", udp]);
            let arguments: Vec<&str> = udp.chain(["--log", scratch.path()]).collect();
            let server = Server::kv_at("10.66.0.1:11211", &arguments);
            let greeting = &server.greeting;
            assert!(greeting.contains(&format!("backend {backend}")), "{greeting}");
            server
        };
        let socket = {
            let _inside = veth.b.enter().unwrap();
            UdpSocket::bind("10.66.0.2:0").unwrap()
        };
        let server = start();
        let address = server.greeting.split_once("udp ").unwrap().1.split_once(',').unwrap().0;
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        talk(&socket);
        assert_eq!(ask(&socket, 1, "set kept 0 0 4\r\nhere\r\n"), "STORED\r\n");
        server.kill();
        let _again = start();
        assert_eq!(ask(&socket, 2, "get kept\r\n"), "VALUE kept 0 4\r\nhere\r\nEND\r\n");
    }
}

/// What a datagram holds is answered by the same bytes. memcached sends a message for each request, and for
/// each item of a `get`, all of them with the number of the datagram; here it is one message.
#[test]
fn kv_answers_datagrams_as_memcached_does_but_in_one_message() {
    if skip(&[Need::IoUring, Need::Tool("memcached")]) {
        return;
    }
    let (memcached, ours) = (Server::memcached(), Server::kv(&[]));
    let (theirs, mine) = (memcached.datagrams(), ours.datagrams());
    // Of this length it comes by a connection only.
    let long = format!("set long 0 0 5000\r\n{}\r\n", "0123456789".repeat(500));
    memcached.connect().ask_until(&long, "STORED\r\n");
    ours.connect().ask_until(&long, "STORED\r\n");
    let short = format!("set short 5 0 1000\r\n{}\r\n", "s".repeat(1000));
    // Datagrams of one request, with how many memcached answers.
    let one = [
        ("set a 1 0 3\r\nabc\r\n", 1),
        ("get a\r\n", 1),
        ("gets nothing\r\n", 1),
        ("nonsense\r\n", 1),
        (&short, 1),
        ("get short\r\n", 1),
        ("get long\r\n", 4),
        ("set a 1 0 3 noreply\r\nabc\r\nincr a 1\r\n", 1),
    ];
    // Of several.
    let several = [
        ("set a 1 0 1\r\n7\r\nget a\r\nincr a 1\r\ndelete a\r\nget a\r\n", 5),
        ("set a 1 0 1\r\n7\r\nnonsense\r\nget a\r\n", 3),
        ("get a nothing a short a\r\n", 4),
        (&"get short\r\n".repeat(6), 6),
    ];
    for (request, (text, datagrams)) in (1_u16..).zip(one.iter().chain(&several)) {
        theirs.send(&framed(request, text.as_bytes())).unwrap();
        theirs.send(&framed(0, b"verbosity 0\r\n")).unwrap();
        let received = || {
            let mut bytes = [0; 2000];
            let length = theirs.recv(&mut bytes).unwrap();
            Some(bytes[..length].to_vec()).filter(|datagram| datagram[..2] == request.to_be_bytes())
        };
        let expected: Vec<_> = std::iter::from_fn(received).collect();
        assert_eq!(expected.len(), *datagrams, "{text}");
        mine.send(&framed(request, text.as_bytes())).unwrap();
        let found = answer_datagrams(&mine, request);
        assert!(carried(&found) == carried(&expected), "{text}");
        if usize::from(request) <= one.len() {
            assert!(found == expected, "{text}");
        } else {
            assert!(expected.iter().all(|datagram| datagram[2..8] == [0, 0, 0, 1, 0, 0]), "{text}");
        }
    }
}

/// Each worker has a queue of the interface, and what arrives at the wrong one is handed over.
#[test]
#[cfg(feature = "xdp")]
fn kv_has_a_worker_for_each_queue_of_an_interface() {
    let needed = [Need::IoUring, Need::Namespaces, Need::Bpf, Need::Tool("ethtool")];
    if skip(&needed) || lacks_cores(2) {
        return;
    }
    let veth = Veth::new(&VethOptions { queues: 2, ..VethOptions::default() }).unwrap();
    // A veth pair leaves checksums to a device that is not there, and tells AF_XDP nothing.
    veth.b.run("ethtool", "-K veth0 tx off").unwrap();
    let server = {
        let _inside = veth.a.enter().unwrap();
        let udp = "udp+xdp://10.66.0.1:{port}?hook=native&share={worker}/{workers}";
        Server::kv_at("10.66.0.1:11211", &["--workers", "2", "--udp", udp])
    };
    assert!(server.greeting.contains("backend xdp, 2 shards"), "{}", server.greeting);
    let from_queue = |queue: u32| {
        let counters = veth.a.run("ethtool", "-S veth0").unwrap();
        let name = format!("rx_queue_{queue}_xdp_redirect: ");
        let line = counters.lines().find_map(|line| line.trim().strip_prefix(&*name)?.parse().ok());
        line.unwrap_or(0_u64)
    };
    // The device chooses the queue by the flow, so there will be one for each before long.
    for _ in 0..64 {
        let socket = {
            let _inside = veth.b.enter().unwrap();
            UdpSocket::bind("10.66.0.2:0").unwrap()
        };
        socket.connect("10.66.0.1:11211").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        talk(&socket);
        if from_queue(0) > 0 && from_queue(1) > 0 {
            break;
        }
    }
    assert!(from_queue(0) > 0 && from_queue(1) > 0);
    let figure = |name: &str| {
        let _inside = veth.b.enter().unwrap();
        server.stat(name)
    };
    assert!(figure("handed_over") > 20, "{}", figure("handed_over"));
    assert_eq!(figure("handover_full"), 0);
}

/// The same on DPDK, where each worker has a queue of the port.
#[test]
#[cfg(feature = "dpdk")]
fn kv_has_a_worker_for_each_queue_of_a_port() {
    let needed = [Need::IoUring, Need::Namespaces, Need::Tool("kill")];
    if skip(&needed) || lacks_cores(2) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let server = {
        let _inside = veth.a.enter().unwrap();
        let udp = "udp+dpdk://10.66.0.1:{port}?share={worker}/{workers}";
        Server::kv_at("10.66.0.1:11211", &["--json", "--workers", "2", "--udp", udp])
    };
    assert!(server.greeting.contains("backend dpdk, 2 shards"), "{}", server.greeting);
    // The kernel chooses the queue by the flow: 24 coins do not all fall on one side.
    for client in 0..24 {
        let socket = {
            let _inside = veth.b.enter().unwrap();
            UdpSocket::bind("10.66.0.2:0").unwrap()
        };
        socket.connect("10.66.0.1:11211").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        if client == 0 {
            talk(&socket);
        }
        assert_eq!(ask(&socket, 1, &format!("set c{client} 0 0 1\r\nx\r\n")), "STORED\r\n");
        let found = format!("VALUE c{client} 0 1\r\nx\r\nEND\r\n");
        assert_eq!(ask(&socket, 2, &format!("get c{client}\r\n")), found);
    }
    let report = server.report();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    for worker in [0, 1] {
        let stats = &report["workers"][worker]["stats"];
        assert!(stats["rx_packets"].as_u64() > Some(1), "{report}");
        assert!(stats["tx_packets"].as_u64() > Some(1), "{report}");
    }
    assert!(report["kv"]["handed_over"].as_u64() > Some(20), "{report}");
    assert_eq!(report["kv"]["handover_full"], 0, "{report}");
}

#[test]
fn kv_says_what_it_cannot_do() {
    for (arguments, words) in [
        (&["192.0.2.1:1"][..], "cannot listen on 192.0.2.1:1"),
        (&["127.0.0.1:0", "--memory", "1"], "--memory"),
        (&["127.0.0.1:0", "--udp", "udp+pigeon://1.2.3.4:5"], "there is no such backend"),
        (&["127.0.0.1:0", "--workers", "9999"], "9999 workers"),
        (&["127.0.0.1:0", "--front", "tokio", "--log", "/tmp"], "--front tokio has no log"),
        (&["127.0.0.1:0", "--udp", "udp+uring://127.0.0.1:0", "--log", "/proc/none"], "/proc/none"),
        (&["--log-everything"], "usage: kv"),
        (&["--workers", "many"], "\"many\""),
    ] {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("examples/kv");
        let mut child = Command::new(program);
        let output = child.args(arguments).stdin(Stdio::null()).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && why.contains(words), "{arguments:?}: {why}");
    }
}
