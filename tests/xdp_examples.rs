//! The examples on AF_XDP, run as a user runs them, at addresses that the kernel keeps; clients of
//! others in another network namespace, and the kernel's own traffic beside them.

#![cfg(feature = "xdp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_io::DefaultSocket;
use common::{Running, example, feed_and_orders_run_on, socat};

const PORT: u16 = 7777;
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the examples were built for AF_XDP: the features may be overridden.
fn on_xdp() -> bool {
    std::any::type_name::<DefaultSocket>().contains("Xdp")
}

fn rig(tools: &[Need]) -> Option<Veth> {
    if skip(&[Need::Namespaces, Need::Bpf]) || skip(tools) || !on_xdp() {
        return None;
    }
    Some(Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap())
}

/// Starts the echo in a namespace, with no more than its address.
fn echo(namespace: &Namespace, arguments: &[&str]) -> Running {
    let mut echo = {
        let _inside = namespace.enter().unwrap();
        Running::start(example("echo").args(arguments))
    };
    let greeting = echo.line();
    assert_eq!(greeting, format!("echo on {}, backend xdp\n", arguments[0]));
    echo
}

/// Ends it as a user does, and returns its report.
fn interrupt(echo: Running) -> String {
    let id = echo.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    echo.finish()
}

fn client(namespace: &Namespace, place: &str) -> UdpSocket {
    let _inside = namespace.enter().unwrap();
    let socket = UdpSocket::bind(if place.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(place).unwrap();
    socket
}

#[test]
fn echo_serves_socat_and_dig_over_both_families() {
    let tools = [Need::Tool("socat"), Need::Tool("dig"), Need::Tool("kill")];
    let Some(veth) = rig(&tools) else { return };
    for place in ["10.66.0.1:7777", "[fd66::1]:7777"] {
        let echo = echo(&veth.a, &[place]);
        {
            let _inside = veth.b.enter().unwrap();
            assert_eq!(socat(&format!("UDP:{place}"), "are you there?"), "are you there?");
        }
        let (host, port) = place.rsplit_once(':').unwrap();
        let host = host.trim_matches(['[', ']']);
        let asked = format!("+tries=1 +timeout=5 @{host} -p {port} example.org");
        // Its own question comes back, which is no answer, but whole and from the right place.
        let said = veth.b.run("dig", &asked).unwrap();
        assert!(said.contains("QUERY: 1, ANSWER: 0") && said.contains("(echoed)"), "{said}");
        let report = interrupt(echo);
        assert!(report.contains("received 2") && report.contains("dropped 0"), "{report}");
    }
}

/// What `dig +short A example.org` sends.
const QUERY: &[u8] = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x07example\x03org\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";

#[test]
fn echo_serves_what_looks_like_names_and_datagrams_of_every_size() {
    const EACH: usize = 300;
    let Some(veth) = rig(&[]) else { return };
    for place in ["10.66.0.1:7777", "[fd66::1]:7777"] {
        let longest = if place.starts_with('[') { 1452 } else { 1472 };
        let total = (2 * EACH).to_string();
        let echo = echo(&veth.a, &[place, "--packets", &total]);
        let client = client(&veth.b, place);
        let mut answer = [0; 2048];
        let mut ask = |question: &[u8]| {
            client.send(question).unwrap();
            let len = client.recv(&mut answer).unwrap();
            assert_eq!(&answer[..len], question);
        };
        for n in 0..EACH {
            ask(QUERY);
            ask(&vec![n as u8; if n == 0 { longest } else { n * 4 }]);
        }
        // What came back was counted here; this is the other side's count.
        let report = echo.finish();
        assert!(report.contains(&format!("received {total}")), "{report}");
        assert!(report.contains(&format!("sent {total}")), "{report}");
        assert!(report.contains("dropped 0"), "{report}");
    }
}

#[test]
fn tcp_ping_and_other_ports_go_on_while_echo_has_its_port() {
    const CHUNK: usize = 64 << 10;
    let Some(veth) = rig(&[Need::Tool("ping"), Need::Tool("kill")]) else { return };
    let (listener, other) = {
        let _inside = veth.a.enter().unwrap();
        (TcpListener::bind("10.66.0.1:0").unwrap(), UdpSocket::bind("10.66.0.1:7778").unwrap())
    };
    let stream = {
        let _inside = veth.b.enter().unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    };
    let (accepted, _) = listener.accept().unwrap();
    // It flows before the program comes, while it is there, and after it has gone.
    let ends = AtomicBool::new(false);
    let (sent, received) = thread::scope(|scope| {
        let ends = &ends;
        let pump = scope.spawn(move || pump(stream, ends, CHUNK));
        let sink = scope.spawn(move || drain(accepted));
        // However the rest goes, the stream ends.
        let rest = scope.spawn(|| {
            for _ in 0..3 {
                let echo = echo(&veth.a, &["10.66.0.1:7777"]);
                veth.b.run("ping", "-c 20 -i 0.01 -W 5 10.66.0.1").unwrap();
                let (ours, kernels) =
                    (client(&veth.b, "10.66.0.1:7777"), client(&veth.b, "10.66.0.1:7778"));
                let again: u32 = (0..200)
                    .map(|n| {
                        send_until(&ours, &ours, &[n; 10]) + send_until(&kernels, &other, &[n; 20])
                    })
                    .sum();
                // The stream fills the cable, which drops some of the rest; it does not drop many.
                assert!(again < 40, "{again} datagrams were lost");
                let report = interrupt(echo);
                assert!(report.contains("dropped 0"), "{report}");
            }
        });
        let outcome = rest.join();
        ends.store(true, Ordering::Release);
        let counts = (pump.join().unwrap(), sink.join().unwrap());
        outcome.unwrap();
        counts
    });
    assert_eq!(sent, received, "the stream came whole");
    assert!(sent > 100 * CHUNK as u64, "it hardly moved: {sent} bytes");
}

/// Sends a datagram until it arrives, which it must, and tells how often it did not.
fn send_until(from: &UdpSocket, to: &UdpSocket, datagram: &[u8]) -> u32 {
    to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut bytes = [0; 64];
    for lost in 0..50 {
        from.send(datagram).unwrap();
        while let Ok(length) = to.recv(&mut bytes) {
            // What was taken for lost may come later.
            if &bytes[..length] == datagram {
                return lost;
            }
        }
    }
    panic!("{datagram:?} never arrives");
}

/// Sends until it is told to end, and tells how many bytes.
fn pump(mut stream: TcpStream, ends: &AtomicBool, chunk: usize) -> u64 {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let (bytes, mut sent) = (vec![0x5a; chunk], 0);
    while !ends.load(Ordering::Acquire) {
        stream.write_all(&bytes).unwrap();
        sent += chunk as u64;
    }
    sent
}

fn drain(mut stream: TcpStream) -> u64 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut bytes, mut received) = (vec![0; 64 << 10], 0);
    loop {
        match stream.read(&mut bytes).unwrap() {
            0 => return received,
            n => {
                assert!(bytes[..n].iter().all(|&byte| byte == 0x5a));
                received += n as u64;
            }
        }
    }
}

#[test]
fn nothing_stays_after_kill_and_the_next_one_starts_at_once() {
    let Some(veth) = rig(&[]) else { return };
    for _ in 0..3 {
        let mut echo = echo(&veth.a, &["10.66.0.1:7777"]);
        let client = client(&veth.b, "10.66.0.1:7777");
        client.send(b"before").unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 6);
        assert!(veth.a.ip("-d link show veth0").unwrap().contains("xdp"));
        echo.child.kill().unwrap();
        echo.child.wait().unwrap();
        assert!(!veth.a.ip("-d link show veth0").unwrap().contains("xdp"));
    }
}

#[test]
fn market_data_and_order_sender_name_the_backend_that_they_ran_on() {
    if rig(&[]).is_none() {
        return;
    }
    feed_and_orders_run_on("xdp");
}

#[test]
fn without_privileges_the_capability_is_named() {
    let Some(veth) = rig(&[Need::Tool("setpriv")]) else { return };
    let _inside = veth.a.enter().unwrap();
    let echo = example("echo");
    for (lost, named) in
        [("-all", "CAP_NET_"), ("-bpf,-sys_admin", "CAP_BPF"), ("-net_raw", "CAP_NET_RAW")]
    {
        let output = Command::new("setpriv")
            .args(["--bounding-set", lost])
            .arg(echo.get_program())
            .arg(SocketAddr::from((Veth::IPV4[0], PORT)).to_string())
            .output()
            .unwrap();
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && why.contains(named), "{lost}: {why}");
    }
}
