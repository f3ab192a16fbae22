//! Clients of other hands, over datagrams and connections, on every backend.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use serde_json::Value;

use crate::common::{Running, starve};
use crate::process::{Folder, dns, interrupt};
use crate::query::{Query, Response};

/// A client, and what it is to print: the data of the records, one per line.
const CLIENTS: &[&str] = &["dig", "kdig", "drill"];

/// Asks `host` and `port` with a client.
fn ask(client: &str, host: &str, port: &str, name: &str, rtype: &str, tcp: bool) -> Vec<String> {
    let mut command = Command::new(client);
    if client == "drill" {
        command.args(["-p", port]).args(tcp.then_some("-t"));
        command.args([name, &format!("@{host}"), rtype]);
    } else {
        command.args([&format!("@{host}"), "-p", port, "+time=5", "+retry=0", "+noall", "+answer"]);
        command.args(tcp.then_some("+tcp")).args([name, rtype]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{client} {name} {rtype}: {text}");
    // The records of the answer; what else drill prints comes behind it.
    let text = text.split(";; AUTHORITY").next().unwrap();
    let records = text.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let words = records.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    // This one does not print names as they came.
    words.map(|line| if client == "kdig" { line.replace("pages", "Pages") } else { line }).collect()
}

/// What every client must get, with these cases.
fn clients_are_served(host: &str, port: &str, tcp: bool) {
    for client in CLIENTS {
        let ask = |name, rtype| ask(client, host, port, name, rtype, tcp);
        assert_eq!(ask("example.com", "SOA").len(), 1, "{client}");
        assert_eq!(ask("www.example.com", "AAAA").len(), 2, "{client}");
        assert_eq!(
            ask("x.Pages.example.com", "MX"),
            ["x.Pages.example.com. 3600 IN MX 10 mail.example.com."],
            "{client}"
        );
        assert_eq!(ask("nobody.example.com", "A"), [""; 0], "{client}");
        assert_eq!(
            ask("10.in-addr.example.com", "PTR"),
            ["10.in-addr.example.com. 60 IN PTR www.example.com."],
            "{client}"
        );
    }
}

/// A loopback address on the default backend; AF_XDP and DPDK have none there, so the next one is named.
pub(crate) fn local(address: &str) -> String {
    let past = cfg!(any(feature = "xdp", feature = "dpdk"));
    if past { format!("udp+uring://{address}") } else { address.to_owned() }
}

/// The port in a line such as `tcp on 127.0.0.1:5353`.
fn port(line: &str) -> String {
    let rest = line.trim_end().rsplit_once(" on ").unwrap_or_else(|| panic!("{line}")).1;
    let address = rest.split(',').next().unwrap();
    address.rsplit_once(':').unwrap().1.to_owned()
}

const TOOLS: [Need; 5] =
    [Need::IoUring, Need::Tool("dig"), Need::Tool("kdig"), Need::Tool("drill"), Need::Tool("kill")];

/// Queries on connections go on when there are no more descriptors, and those on datagrams with them.
#[test]
fn it_goes_on_without_descriptors() {
    if skip(&[Need::IoUring, Need::Tool("prlimit"), Need::Tool("kill")]) {
        return;
    }
    let address = |server: &mut Running| {
        let place = port(&server.line());
        server.line();
        format!("127.0.0.1:{place}").parse().unwrap()
    };
    // The begin of the zone, by its number, with its length before it.
    let message = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x06\0\x01";
    let query = [&[0, message.len() as u8], &message[..]].concat();
    let server = starve(dns().args(["--json", &local("127.0.0.1:0")]), address, |stream| {
        stream.write_all(&query).unwrap();
        let mut begin = [0; 4];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(begin[2..], message[..2], "the answer to another query");
    });
    let report: Value = serde_json::from_str(&interrupt(server)).unwrap();
    let tcp = &report["tcp"];
    assert_eq!((&tcp["connections"], &tcp["dns"]["noerror"]), (&5.into(), &5.into()), "{report}");
    assert!(tcp["out_of_descriptors"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn clients_are_served_over_sockets_and_connections() {
    if skip(&TOOLS) {
        return;
    }
    for (place, host, backend) in [
        (local("127.0.0.1:0").as_str(), "127.0.0.1", "uring"),
        (&local("[::1]:0"), "::1", "uring"),
        ("udp+socket://127.0.0.1:0", "127.0.0.1", "socket"),
        ("udp+uring://127.0.0.1:0?batch=16", "127.0.0.1", "uring"),
    ] {
        let mut server = Running::start(dns().args(["--json", place]));
        let tcp = server.line();
        assert!(tcp.starts_with("tcp on "), "{tcp}");
        let udp = server.line();
        assert!(udp.contains(&format!("backend {backend}")), "{udp}");
        let port = port(&tcp);
        clients_are_served(host, &port, false);
        clients_are_served(host, &port, true);
        // Too long for a datagram: each client asks again on a connection.
        for client in CLIENTS {
            let many = ask(client, host, &port, "many.example.com", "TXT", *client == "drill");
            assert_eq!(many.len(), 12, "{client}");
        }
        let report: Value = serde_json::from_str(&interrupt(server)).unwrap();
        let udp = |name: &str| report["udp"][name].as_u64().unwrap();
        let tcp = |name: &str| report["tcp"]["dns"][name].as_u64().unwrap();
        let asked = 5 * CLIENTS.len() as u64;
        assert_eq!(udp("truncated"), 2, "dig and kdig: {report}");
        assert_eq!((udp("queries"), tcp("queries")), (asked + 2, asked + 3), "{report}");
        assert_eq!((udp("nxdomain"), tcp("nxdomain")), (3, 3), "{report}");
        assert_eq!(report["tcp"]["connections"], asked + 3, "{report}");
        let worker = &report["workers"][0];
        assert_eq!(worker["io"]["stats"]["rx_packets"], asked + 2, "{report}");
        assert_eq!(worker["io"]["stats"]["tx_packets"], asked + 2, "{report}");
    }
}

/// At an address of its own: there is no TCP.
#[test]
fn clients_are_served_from_user_space() {
    if skip(&TOOLS) || skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let place = "udp+packet://10.66.0.9:53?interface=veth0&prefix=24";
    let mut server = {
        let _inside = veth.a.enter().unwrap();
        Running::start(dns().args(["--json", place]))
    };
    assert!(server.line().contains("dns on 10.66.0.9:53, backend packet"));
    {
        let _inside = veth.b.enter().unwrap();
        clients_are_served("10.66.0.9", "53", false);
    }
    let report: Value = serde_json::from_str(&interrupt(server)).unwrap();
    assert_eq!(report["udp"]["queries"], 15, "{report}");
    assert_eq!(report["tcp"], Value::Null);
}

/// At an address of the kernel's, which takes the connections.
#[test]
fn clients_are_served_past_the_kernel() {
    if skip(&TOOLS) || skip(&[Need::Namespaces]) {
        return;
    }
    let mut places = Vec::new();
    if cfg!(feature = "xdp") && !skip(&[Need::Bpf]) {
        // The first is what the features choose.
        places.extend([("xdp", "10.66.0.1:53"), ("xdp", "udp+xdp://10.66.0.1:53")]);
    }
    if cfg!(feature = "dpdk") {
        places.push(("dpdk", "udp+dpdk://10.66.0.1:53"));
    }
    for (backend, place) in places {
        let veth = Veth::new(&VethOptions::default()).unwrap();
        let mut server = {
            let _inside = veth.a.enter().unwrap();
            Running::start(dns().args(["--json", place]))
        };
        assert_eq!(server.line(), "tcp on 10.66.0.1:53\n");
        assert!(server.line().contains(&format!("dns on 10.66.0.1:53, backend {backend}")));
        {
            let _inside = veth.b.enter().unwrap();
            clients_are_served("10.66.0.1", "53", false);
            clients_are_served("10.66.0.1", "53", true);
            let many = ask("dig", "10.66.0.1", "53", "many.example.com", "TXT", false);
            assert_eq!(many.len(), 12);
        }
        let report: Value = serde_json::from_str(&interrupt(server)).unwrap();
        assert_eq!(report["udp"]["queries"], 16, "{report}");
        assert_eq!(report["tcp"]["dns"]["queries"], 16, "{report}");
        assert_eq!(report["udp"]["truncated"], 1, "{report}");
    }
}

#[test]
fn workers_share_an_address() {
    let cores = bypass_core::worker::available_cores().unwrap();
    let [first, second, ..] = cores[..] else { return };
    if skip(&TOOLS) {
        return;
    }
    for place in [local("127.0.0.1:0").as_str(), "udp+socket://127.0.0.1:0"] {
        let cores = format!("{first},{second}");
        let mut server = Running::start(dns().args(["--json", "--cores", &cores, place]));
        let port = port(&server.line());
        let (one, other) = (server.line(), server.line());
        assert!(one.contains("dns on") && other.contains("dns on"), "{one} {other}");
        for _ in 0..5 {
            clients_are_served("127.0.0.1", &port, false);
        }
        let report: Value = serde_json::from_str(&interrupt(server)).unwrap();
        let workers = report["workers"].as_array().unwrap();
        let counts = workers.iter().map(|worker| worker["dns"]["queries"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), 75, "{report}");
        // The kernel chooses by the client's port: 75 coins do not all fall on one side.
        assert!(workers.iter().all(|worker| worker["dns"]["queries"] != 0), "{report}");
    }
}

/// Each has a queue of one port.
#[test]
#[cfg(feature = "dpdk")]
fn workers_share_a_port_of_dpdk() {
    let cores = bypass_core::worker::available_cores().unwrap();
    let [first, second, ..] = cores[..] else { return };
    if skip(&TOOLS) || skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let cores = format!("{first},{second}");
    let mut server = {
        let _inside = veth.a.enter().unwrap();
        Running::start(dns().args(["--json", "--cores", &cores, "udp+dpdk://10.66.0.1:53"]))
    };
    assert_eq!(server.line(), "tcp on 10.66.0.1:53\n");
    let greetings = [server.line(), server.line()];
    assert!(greetings.iter().all(|line| line.contains("backend dpdk")), "{greetings:?}");
    {
        let _inside = veth.b.enter().unwrap();
        for _ in 0..2 {
            clients_are_served("10.66.0.1", "53", false);
        }
    }
    let report: Value = serde_json::from_str(&interrupt(server)).unwrap();
    let workers = report["workers"].as_array().unwrap();
    let counts = workers.iter().map(|worker| worker["dns"]["queries"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 30, "{report}");
    // The kernel chooses by the client's port: 30 coins do not all fall on one side.
    assert!(workers.iter().all(|worker| worker["dns"]["queries"] != 0), "{report}");
}

/// A message as it is sent on a connection.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn read_one(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut message).unwrap();
    Some(message)
}

#[test]
fn connections_carry_many_queries_in_any_pieces() {
    if skip(&[Need::IoUring, Need::Tool("kill")]) {
        return;
    }
    let mut server = Running::start(dns().args(["--json", &local("127.0.0.1:0")]));
    let port = port(&server.line());
    let connect = || {
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    };
    // Many at once, more than any buffer takes, and long answers to them: in order.
    let mut stream = connect();
    let writer = {
        let mut stream = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            for id in 0..2000 {
                let query = Query::new("many.example.com", 16);
                stream.write_all(&framed(&query.message(id))).unwrap();
            }
        })
    };
    for id in 0..2000_u16 {
        let response = read_one(&mut stream).unwrap();
        assert_eq!(response[..2], id.to_be_bytes());
        assert_eq!(Response::read(&response).unwrap().answer().len(), 12);
    }
    writer.join().unwrap();
    // Byte by byte, and the other side of the connection closed: the answer still comes.
    let mut stream = connect();
    stream.set_nodelay(true).unwrap();
    for byte in framed(&Query::new("www.example.com", 1).message(9)) {
        stream.write_all(&[byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(Response::read(&read_one(&mut stream).unwrap()).unwrap().answer().len(), 2);
    assert_eq!(read_one(&mut stream), None, "it ends when the client has ended");
    // What is to be met with silence ends the connection; a malformed query does not.
    let mut stream = connect();
    let mut malformed = Query::new("www.example.com", 1).message(9);
    malformed[5] = 0;
    stream.write_all(&framed(&malformed)).unwrap();
    assert_eq!(read_one(&mut stream).unwrap()[3] & 0xf, 1, "FORMERR");
    malformed[2] |= 0x80;
    stream.write_all(&framed(&malformed)).unwrap();
    assert_eq!(read_one(&mut stream), None);
    // One that is left open does not keep the server from ending.
    let _open = connect();
    let report: Value = serde_json::from_str(interrupt(server).lines().last().unwrap()).unwrap();
    let tcp = &report["tcp"]["dns"];
    assert_eq!((&tcp["queries"], &tcp["noerror"]), (&2003.into(), &2001.into()), "{report}");
    assert_eq!((&tcp["formerr"], &tcp["silent_response"]), (&1.into(), &1.into()), "{report}");
}

#[test]
fn zones_of_ones_own_are_served_and_mistakes_are_explained() {
    if skip(&[Need::IoUring, Need::Tool("dig"), Need::Tool("kill")]) {
        return;
    }
    let folder = Folder::new("dns-zones");
    let part = folder.write("part.zone", "b A 192.0.2.9\n");
    let text =
        "$TTL 9\n@ SOA a b 1 2 3 4 5\n@ NS a\n$INCLUDE part.zone in.test.\n$INCLUDE part.zone\n";
    let zone = folder.write("test.zone", text);
    assert!(part.exists());
    let option = format!("test={}", zone.display());
    let mut server =
        Running::start(dns().args(["--zone", &option, "--queries", "2", &local("127.0.0.1:0")]));
    let port = port(&server.line());
    assert!(server.line().starts_with("dns on"));
    for name in ["b.in.test", "b.test"] {
        let records = ask("dig", "127.0.0.1", &port, name, "A", false);
        assert_eq!(records, [format!("{name}. 9 IN A 192.0.2.9")]);
    }
    let report = server.finish();
    assert!(report.contains("udp: 2 queries, 2 answered, noerror 2"), "{report}");

    let broken = folder.write("broken.zone", "a A 192.0.2.1\n");
    let broken = format!("test={}", broken.display());
    for (arguments, words) in [
        (&["--zone", "test=/there/is/none"][..], "cannot read zone file /there/is/none"),
        (&["--zone", &broken], "needs one SOA record"),
        (&["--zone", "test"], "NAME=FILE"),
        (&["--feathers"], "invalid option '--feathers'"),
        (&["--cores", "9999"], "9999"),
        (&["--tcp", "off", "udp+pigeon://127.0.0.1:1"], "no such backend"),
        (&["--cores", "0,1", "udp+packet://10.0.0.1:1"], "share an address of the kernel's"),
        (&["192.0.2.1:1"], "192.0.2.1:1"),
    ] {
        let output = dns().args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{arguments:?}: {text}");
    }
}
