//! The stack on a real interface against the kernel's stack and third-party programs: on side `b`
//! of a veth pair the kernel has no address, the stack has; side `a` is an ordinary Linux host.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bypass_core::backend::packet::{PacketOptions, PacketPort};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::udp::neighbours::Resolver;
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{
    Buffer, Burst, Datagram, DatagramIo, DatagramIoExt, DropCause, Endpoint, Interest, Stats,
};

type Stack = UdpOverL2<PacketPort, Resolver>;

const PORT: u16 = 4000;
const STACK_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Veth::IPV4[1]), PORT);
const STACK_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Veth::IPV6[1]), PORT);

/// A pair whose side `b` has no kernel address left.
fn veth() -> Veth {
    let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
    veth.b.sysctl(&format!("net.ipv6.conf.{}.disable_ipv6", Veth::NAME), "1").unwrap();
    veth.b.ip(&format!("address flush dev {}", Veth::NAME)).unwrap();
    veth
}

fn config() -> Config {
    Config::new(Veth::MAC[1], PORT)
        .address(format!("{}/24", Veth::IPV4[1]).parse().unwrap())
        .address(format!("{}/64", Veth::IPV6[1]).parse().unwrap())
        .echo(true)
}

fn open(veth: &Veth, config: Config) -> Stack {
    let _inside = veth.b.enter().unwrap();
    UdpOverL2::new(PacketOptions::new(Veth::NAME).open().unwrap(), config).unwrap()
}

/// Runs an echo server on side `b` while `client` does its work. Answers the server's counters.
fn echo(veth: &Veth, config: Config, prepare: fn(&mut Stack), client: impl FnOnce()) -> Stats {
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let mut stack = open(veth, config);
            prepare(&mut stack);
            ready.store(true, Ordering::Release);
            let mut burst = Burst::with_capacity(32);
            while !stop.load(Ordering::Acquire) {
                stack.wait(Interest::RX, Some(Duration::from_millis(5))).unwrap();
                stack.recv(&mut burst).unwrap();
                burst.iter_mut().for_each(Datagram::reply);
                stack.send(&mut burst).unwrap();
                stack.flush().unwrap();
            }
            stack.stats()
        });
        while !ready.load(Ordering::Acquire) && !server.is_finished() {
            thread::yield_now();
        }
        // However the client ends, the server ends too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let end = Stop(&stop);
        client();
        drop(end);
        server.join().unwrap()
    })
}

/// A kernel socket on side `a`.
fn socket(veth: &Veth, local: impl Into<IpAddr>) -> UdpSocket {
    let _inside = veth.a.enter().unwrap();
    let socket = UdpSocket::bind((local.into(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// A program on side `a` that says on standard error when it is ready.
fn start(veth: &Veth, program: &str, arguments: &str, ready: &str) -> Child {
    let mut child = {
        let _inside = veth.a.enter().unwrap();
        Command::new(program)
            .args(arguments.split_whitespace())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(ready) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "{program} ended");
    }
    // Read on, or it would stop when the pipe is full.
    thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    child
}

/// Where a test keeps what it has captured.
fn capture_file(test: &str) -> String {
    let file = format!("udp-veth-{test}-{}.pcap", std::process::id());
    std::env::temp_dir().join(file).to_str().unwrap().to_owned()
}

/// What tshark reads in these fields of a capture, checksums verified: a line for each packet. The
/// file is removed.
fn tshark(path: &str, fields: &[&str]) -> String {
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", path, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    tshark.args(["-T", "fields", "-E", "separator=,"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().unwrap();
    std::fs::remove_file(path).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ping_and_arping_get_their_answers() {
    let needs = [Need::Namespaces, Need::Tool("ping"), Need::Tool("arping")];
    if skip(&needs) {
        return;
    }
    let veth = veth();
    let [v4, v6] = [STACK_V4, STACK_V6].map(|address| address.ip());
    let stats = echo(
        &veth,
        config(),
        |_| {},
        || {
            let run = |program, arguments: String| veth.a.run(program, &arguments).unwrap();
            for arguments in [
                format!("-c 3 -i 0.01 -W 2 {v4}"),
                format!("-c 3 -i 0.01 -W 2 -s 1472 {v4}"),
                format!("-c 3 -i 0.01 -W 2 -s 0 {v4}"),
                format!("-c 3 -i 0.01 -W 2 {v6}"),
                format!("-c 3 -i 0.01 -W 2 -s 1452 {v6}"),
            ] {
                let said = run("ping", arguments);
                assert!(said.contains("3 received, 0% packet loss"), "{said}");
            }
            let said = run("arping", format!("-c 3 -w 5 -I {} {v4}", Veth::NAME));
            assert!(said.contains(&Veth::MAC[1].to_string()), "{said}");
            // What the other side believes now was said by the stack.
            let table = veth.a.ip("neighbour show").unwrap();
            for ip in [v4, v6] {
                let line = table.lines().find(|line| line.starts_with(&ip.to_string())).unwrap();
                assert!(line.contains(&format!("lladdr {}", Veth::MAC[1])), "{line}");
            }
        },
    );
    assert_eq!(stats.drops[DropCause::IcmpChecksum], 0);
    assert_eq!(stats.drops[DropCause::ReplyNoFrame], 0);
    assert_eq!(stats.rx_packets, 0, "none of it was for the application");
}

#[test]
fn every_length_comes_back_from_the_echo() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = veth();
    let mut sent = 0;
    let stats = echo(
        &veth,
        config(),
        |_| {},
        || {
            for (local, server, most) in [
                (IpAddr::from(Veth::IPV4[0]), STACK_V4, 1472),
                (Veth::IPV6[0].into(), STACK_V6, 1452),
            ] {
                let client = socket(&veth, local);
                client.connect(server).unwrap();
                for len in (0..64).chain((64..most).step_by(29)).chain([most]) {
                    let payload: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
                    client.send(&payload).unwrap();
                    let mut answer = [0; 2000];
                    let n = client.recv(&mut answer).unwrap();
                    assert_eq!(answer[..n], payload, "{len} bytes");
                    sent += 1;
                }
            }
        },
    );
    assert_eq!((stats.rx_packets, stats.tx_packets, stats.tx_in_flight), (sent, sent, 0));
}

#[test]
fn socat_talks_to_the_echo() {
    if skip(&[Need::Namespaces, Need::Tool("socat")]) {
        return;
    }
    let veth = veth();
    echo(
        &veth,
        config(),
        |_| {},
        || {
            for address in [format!("UDP4:{STACK_V4}"), format!("UDP6:{STACK_V6}")] {
                let mut socat = {
                    let _inside = veth.a.enter().unwrap();
                    Command::new("socat")
                        .args(["-T", "5", "-t", "5", "STDIO", &address])
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()
                        .unwrap()
                };
                let (mut to, from) = (socat.stdin.take().unwrap(), socat.stdout.take().unwrap());
                to.write_all(b"how are you?\n").unwrap();
                let mut line = String::new();
                BufReader::new(from).read_line(&mut line).unwrap();
                assert_eq!(line, "how are you?\n");
                socat.kill().unwrap();
                socat.wait().unwrap();
            }
        },
    );
}

#[test]
fn wireshark_finds_every_checksum_right() {
    let needs = [Need::Namespaces, Need::Tool("tcpdump"), Need::Tool("tshark"), Need::Tool("ping")];
    if skip(&needs) {
        return;
    }
    let veth = veth();
    let path = capture_file("checksums");
    // What the stack answers, twice 3 pings and 20 datagrams; not what the kernel asks in between.
    let from = format!("ether src {} and (udp or icmp or ip6[40] == 129)", Veth::MAC[1]);
    let capture = format!("-i {} -c 46 -U -w {path} {from}", Veth::NAME);
    let mut tcpdump = start(&veth, "tcpdump", &capture, "listening on");
    echo(
        &veth,
        config(),
        |_| {},
        || {
            for (local, server) in
                [(IpAddr::from(Veth::IPV4[0]), STACK_V4), (Veth::IPV6[0].into(), STACK_V6)]
            {
                veth.a.run("ping", &format!("-c 3 -i 0.01 -W 2 {}", server.ip())).unwrap();
                let client = socket(&veth, local);
                for len in 0..20 {
                    client.send_to(&[len; 100][..usize::from(len) * 5], server).unwrap();
                    client.recv(&mut [0; 200]).unwrap();
                }
            }
            assert!(tcpdump.wait().unwrap().success());
        },
    );
    let judged = tshark(
        &path,
        &[
            "ip.checksum.status",
            "udp.checksum.status",
            "icmp.checksum.status",
            "icmpv6.checksum.status",
            "_ws.malformed",
        ],
    );
    // 1 is "good"; nothing else may be there.
    assert!(judged.lines().count() == 46, "{judged}");
    assert!(judged.chars().all(|c| matches!(c, '1' | ',' | '\n')), "{judged}");
    assert_eq!(judged.matches('1').count(), 20 * 2 + 20 + 3 * 2 + 3, "{judged}");
}

#[test]
fn the_kernel_believes_what_the_stack_sends() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = veth();
    let mut stack = open(&veth, config());
    for local in [IpAddr::from(Veth::IPV4[0]), Veth::IPV6[0].into()] {
        let server = socket(&veth, local);
        let to = server.local_addr().unwrap();
        let payloads: Vec<Vec<u8>> = (0..100).map(|i| vec![i; usize::from(i) * 14]).collect();
        let mut burst = Burst::with_capacity(32);
        for payload in &payloads {
            while !stack.compose(payload, to, &mut burst).unwrap() {
                stack.send(&mut burst).unwrap();
                stack.flush().unwrap();
            }
        }
        // The first ones wait for ARP or NDP, which `flush` hears.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !burst.is_empty() || stack.stats().tx_in_flight > 0 {
            stack.send(&mut burst).unwrap();
            stack.flush().unwrap();
            assert!(Instant::now() < deadline, "{:?}", stack.stats());
        }
        for payload in &payloads {
            let mut got = [0; 2000];
            let (n, from) = server.recv_from(&mut got).unwrap();
            assert_eq!(got[..n], payload[..]);
            assert_eq!(from.ip(), if local.is_ipv4() { STACK_V4.ip() } else { STACK_V6.ip() });
        }
    }
    // Of what it sent. What the kernel says unasked, looking for a router, is dropped.
    let drops = stack.stats().drops;
    let sent = [DropCause::TxError, DropCause::NeighbourQueueFull, DropCause::NeighbourTimeout];
    assert!(sent.iter().all(|cause| drops[*cause] == 0), "{drops:?}");
}

#[test]
fn tags_go_over_a_real_interface() {
    let needs = [Need::Namespaces, Need::Tool("tcpdump"), Need::Tool("tshark")];
    if skip(&needs) {
        return;
    }
    let veth = veth();
    let path = capture_file("vlan");
    let capture = format!("-i {} -c 4 -U -w {path} udp or vlan", Veth::NAME);
    let mut tcpdump = start(&veth, "tcpdump", &capture, "listening on");
    let config = |i: usize| {
        let net = format!("10.77.0.{}/24", i + 1).parse().unwrap();
        Config::new(Veth::MAC[i], PORT).address(net).vlan(77)
    };
    let stats = echo(
        &veth,
        config(1),
        |_| {},
        || {
            let mut client = {
                let _inside = veth.a.enter().unwrap();
                let port = PacketOptions::new(Veth::NAME).open().unwrap();
                UdpOverL2::new(port, config(0)).unwrap()
            };
            let mut burst = Burst::with_capacity(8);
            client.compose(b"payload", "10.77.0.2:4000".parse().unwrap(), &mut burst).unwrap();
            client.send(&mut burst).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            while burst.is_empty() {
                client.wait(Interest::RX, Some(Duration::from_millis(100))).unwrap();
                client.recv(&mut burst).unwrap();
                assert!(Instant::now() < deadline, "{:?}", client.stats());
            }
            assert_eq!(burst[0].data(), b"payload");
            // The same station outside of the VLAN is not there.
            let untagged = socket(&veth, Veth::IPV4[0]);
            let neighbour = format!("neighbour add 10.66.0.2 lladdr {}", Veth::MAC[1]);
            veth.a.ip(&format!("{neighbour} dev {}", Veth::NAME)).unwrap();
            untagged.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            untagged.send_to(b"payload", "10.66.0.2:4000").unwrap();
            assert!(untagged.recv(&mut [0; 100]).is_err());
        },
    );
    assert_eq!(stats.rx_packets, 1);
    assert!(stats.drops[DropCause::VlanOther] >= 1, "{:?}", stats.drops);
    // Question, answer, datagram, echo: each with its tag.
    assert!(tcpdump.wait().unwrap().success());
    let judged = tshark(&path, &["vlan.id", "arp.opcode", "udp.length", "udp.checksum.status"]);
    assert_eq!(judged, "77,1,,\n77,2,,\n77,,15,1\n77,,15,1\n");
}

#[test]
fn market_data_arrives_where_a_switch_looks_at_membership() {
    if skip(&[Need::Namespaces, Need::Tool("bridge")]) {
        return;
    }
    // A bridge of the kernel that forwards groups only to those who have reported themselves.
    let veth = veth();
    let name = Veth::NAME;
    veth.a.ip("link add switch type bridge mcast_snooping 1 mcast_querier 1").unwrap();
    veth.a.ip(&format!("address flush dev {name}")).unwrap();
    veth.a.ip(&format!("link set {name} master switch")).unwrap();
    veth.a.ip("address add 10.66.0.1/24 dev switch").unwrap();
    veth.a.ip("address add fd66::1/64 dev switch nodad").unwrap();
    veth.a.ip("link set switch up").unwrap();
    let groups = ["239.66.1.2", "ff05::6612"];
    let join = |stack: &mut Stack| {
        stack.join("239.66.1.2".parse().unwrap()).unwrap();
        stack.join("ff05::6612".parse().unwrap()).unwrap();
    };
    let stats = echo(&veth, config(), join, || {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let known = veth.a.run("bridge", "mdb show").unwrap();
            let here = |group: &&str| known.contains(&format!("port {name} grp {group}"));
            if groups.iter().all(here) {
                break;
            }
            assert!(Instant::now() < deadline, "the bridge has not heard of us:\n{known}");
        }
        for (group, local) in
            [(groups[0], IpAddr::from(Veth::IPV4[0])), (groups[1], Veth::IPV6[0].into())]
        {
            let _inside = veth.a.enter().unwrap();
            let socket = socket2::Socket::from(socket(&veth, local));
            if local.is_ipv4() {
                socket.set_multicast_if_v4(&Veth::IPV4[0]).unwrap();
            } else {
                socket.set_multicast_if_v6(interface_index(&veth, "switch")).unwrap();
            }
            let socket = UdpSocket::from(socket);
            let to = SocketAddr::new(group.parse().unwrap(), PORT);
            socket.send_to(b"bid 101.25", to).unwrap();
            let (n, from) = socket.recv_from(&mut [0; 100]).unwrap();
            assert_eq!((n, from.port()), (10, PORT));
            assert!(!from.ip().is_multicast(), "the reply comes from a host");
        }
    });
    assert_eq!(stats.rx_packets, 2);
}

fn interface_index(veth: &Veth, name: &str) -> u32 {
    let line = veth.a.ip(&format!("-o link show {name}")).unwrap();
    line.split(':').next().unwrap().parse().unwrap()
}
