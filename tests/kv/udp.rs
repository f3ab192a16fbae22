//! The frame of datagrams, and requests that arrive at the wrong shard.

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

/// The answer to a request, from however many datagrams in whatever order.
fn answer(socket: &UdpSocket, request: u16) -> Vec<u8> {
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
        assert!(parts[sequence].replace(bytes[8..length].to_vec()).is_none());
        if parts.iter().all(Option::is_some) {
            return parts.into_iter().flatten().flatten().collect();
        }
    }
}

fn ask(socket: &UdpSocket, request: u16, text: &str) -> String {
    socket.send(&framed(request, text.as_bytes())).unwrap();
    String::from_utf8(answer(socket, request)).unwrap()
}

/// Everything that a datagram can be, against a server that is there already.
fn talk(socket: &UdpSocket) {
    assert_eq!(ask(socket, 1, "set a 7 0 3\r\nabc\r\n"), "STORED\r\n");
    assert_eq!(ask(socket, 2, "get a\r\n"), "VALUE a 7 3\r\nabc\r\nEND\r\n");
    // Several requests in one datagram are answered in one message; memcached sends a message each. Those
    // that want no answer give none.
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
    // A request of two datagrams is refused, as by memcached.
    socket.send(&[0, 12, 0, 0, 0, 2, 0, 0, b'g', b'e', b't']).unwrap();
    assert_eq!(answer(socket, 12), b"SERVER_ERROR multi-packet request not supported\r\n");
    // What is no request at all is dropped, and the next one is served.
    socket.send(b"short").unwrap();
    socket.send(&framed(13, b"")).unwrap();
    assert_eq!(ask(socket, 14, "nonsense\r\n"), "ERROR\r\n");
}

#[test]
fn kv_talks_memcacheds_udp_protocol() {
    if skip(&[Need::IoUring]) {
        return;
    }
    for place in ["udp+uring://127.0.0.1:0", "udp+socket://127.0.0.1:0"] {
        let server = Server::kv(&["--udp", place]);
        let udp = server.greeting.split_once("udp ").unwrap().1.split_once(',').unwrap().0;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(udp).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        talk(&socket);
        server.await_stat("malformed_datagrams", |n| n == 1);
    }
}

#[test]
fn kv_behind_tokio_talks_memcacheds_udp_protocol() {
    talk(&Server::kv(&["--front", "tokio"]).datagrams());
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

#[test]
fn kv_says_what_it_cannot_do() {
    for (arguments, words) in [
        (&["192.0.2.1:1"][..], "cannot listen on 192.0.2.1:1"),
        (&["127.0.0.1:0", "--memory", "1"], "--memory"),
        (&["127.0.0.1:0", "--udp", "udp+pigeon://1.2.3.4:5"], "there is no such backend"),
        (&["127.0.0.1:0", "--workers", "9999"], "9999 workers"),
        (&["127.0.0.1:0", "--front", "tokio", "--log", "/tmp"], "--front tokio has no log"),
        (&["127.0.0.1:0", "--udp", "udp+uring://127.0.0.1:0", "--log", "/proc/none"], "/proc/none"),
        (&["--help"], "usage: kv"),
    ] {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("examples/kv");
        let mut child = Command::new(program);
        let output = child.args(arguments).stdin(Stdio::null()).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && why.contains(words), "{arguments:?}: {why}");
    }
}
