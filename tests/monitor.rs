//! What running examples show of themselves, judged by programs of other hands, and the example `monitor`
//! that looks at it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bypass_core::testing::needs::{Need, skip, skip_because};
use common::{Running, example};
use serde_json::Value;

/// An echo that shows its telemetry, and a client of it.
struct Echo {
    running: Running,
    telemetry: String,
    client: UdpSocket,
}

impl Echo {
    fn start(telemetry: &str) -> Self {
        let arguments = ["udp+socket://127.0.0.1:0", "--telemetry", telemetry];
        let mut running = Running::start(example("echo").args(arguments));
        let telemetry = running.line().trim().strip_prefix("telemetry at ").unwrap().to_owned();
        let greeting = running.line();
        let address = greeting.strip_prefix("echo on ").unwrap().split(',').next().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.connect(address).unwrap();
        Self { running, telemetry, client }
    }

    /// Sends datagrams of 100 bytes, one after the other, each of which comes back.
    fn exchange(&self, count: usize) {
        let mut bytes = [7; 200];
        for _ in 0..count {
            self.client.send(&bytes[..100]).unwrap();
            assert_eq!(self.client.recv(&mut bytes).unwrap(), 100);
        }
    }

    fn monitor(&self, option: &str) -> String {
        let output = example("monitor").args([&self.telemetry, option]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The body of an answer.
fn get(address: &str, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

#[test]
fn what_echo_shows_is_what_was_sent() {
    let echo = Echo::start("127.0.0.1:0");
    echo.exchange(300);
    let json: Value = serde_json::from_str(&echo.monitor("--json")).unwrap();
    let worker = &json["workers"][0];
    assert_eq!((&json["application"], &worker["backend"]), (&"echo".into(), &"socket".into()));
    for (name, count) in
        [("rx_packets", 300), ("rx_bytes", 30_000), ("tx_packets", 300), ("tx_bytes", 30_000)]
    {
        assert_eq!(worker["stats"][name], count, "{name} in {json:#}");
    }
    assert_eq!(worker["latency"]["count"], 300);
    assert!(worker["stats"]["syscalls"].as_u64() >= Some(600));
    let census = &worker["stats"]["frames"];
    let place = |name: &str| census[name].as_u64().unwrap();
    let places = ["free", "held", "rx_posted", "tx_in_flight"].map(place);
    assert_eq!(places.iter().sum::<u64>(), place("total"));

    let text = echo.monitor("--once");
    for line in [
        "worker echo core - backend socket running\n",
        "worker echo rx_packets 300 rx_bytes 30000 tx_packets 300 tx_bytes 30000 dropped 0\n",
        "total rx_packets 300 tx_packets 300 dropped 0\n",
        "total per second: rx_packets 0 tx_packets 0 dropped 0 ",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
}

#[test]
fn a_unix_socket_will_do() {
    let path = std::env::temp_dir().join(format!("bypass-monitor-{}", std::process::id()));
    let echo = Echo::start(&format!("unix:{}", path.display()));
    echo.exchange(5);
    assert!(echo.monitor("--once").contains("total rx_packets 5 tx_packets 5 dropped 0\n"));
    drop(echo);
    // It was killed, so its socket is still there; the next one takes its place.
    let echo = Echo::start(&format!("unix:{}", path.display()));
    assert!(echo.monitor("--once").contains("total rx_packets 0"));
    drop(echo);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_is_explained() {
    let output = example("monitor").args(["127.0.0.1:1", "--once"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--telemetry"), "{said}");
    let output = example("monitor").arg("nowhere").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("this is no terminal"));
    let output = example("echo").args(["127.0.0.1:0", "--telemetry", "9100"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("unix:PATH"), "{said}");
}

/// The system's, which has the system's packages; the first on the path may be another one.
const PYTHON: &str = "/usr/bin/python3";

/// Reads a page with the parsers of Prometheus' own client, and prints the samples as JSON.
const PARSE: &str = "
import sys, json
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
text = sys.stdin.read()
read = openmetrics if text.endswith('# EOF\\n') else parser
print(json.dumps([
    {'name': sample.name, 'type': family.type, 'labels': sample.labels, 'value': sample.value}
    for family in read.text_string_to_metric_families(text) for sample in family.samples]))
";

fn python_reads(page: &str) -> Vec<Value> {
    let mut python = Command::new(PYTHON)
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "it does not read\n{page}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn prometheus_reads_what_is_shown() {
    let there = Command::new(PYTHON).args(["-c", "import prometheus_client"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip_because("no python3-prometheus-client");
        return;
    }
    let echo = Echo::start("127.0.0.1:0");
    echo.exchange(250);
    for accept in ["text/plain", "application/openmetrics-text;version=1.0.0"] {
        let samples = python_reads(&get(&echo.telemetry, "/metrics", accept));
        let value = |name: &str, label: &str, text: &str| {
            let found = samples.iter().find(|sample| {
                sample["name"] == name && (label.is_empty() || sample["labels"][label] == text)
            });
            let found = found.unwrap_or_else(|| panic!("no {name} in {samples:#?}"));
            assert_eq!(found["labels"]["worker"], "echo");
            assert_eq!(found["labels"]["backend"], "socket");
            found["value"].as_f64().unwrap()
        };
        assert_eq!(value("bypass_rx_packets_total", "", ""), 250.0);
        assert_eq!(value("bypass_tx_bytes_total", "", ""), 25_000.0);
        assert_eq!(value("bypass_drops_total", "cause", "rx_queue_full"), 0.0);
        assert_eq!(value("bypass_latency_seconds_count", "", ""), 250.0);
        assert_eq!(value("bypass_latency_seconds_bucket", "le", "+Inf"), 250.0);
        assert!(value("bypass_latency_seconds_bucket", "le", "0.5") <= 250.0);
        assert!(value("bypass_cpu_seconds_total", "mode", "user") >= 0.0);
        assert!(value("bypass_context_switches_total", "kind", "voluntary") >= 0.0);
        assert!(value("bypass_frames", "place", "free") > 0.0);
        assert!(value("bypass_ring_size", "ring", "rx_queue_bytes") > 0.0);
        assert_eq!(value("bypass_worker_running", "", ""), 1.0);
        assert_eq!(value("bypass_value", "name", "recv_errors"), 0.0);
        let buckets = samples.iter().filter(|s| s["name"] == "bypass_latency_seconds_bucket");
        let counts: Vec<_> = buckets.map(|bucket| bucket["value"].as_f64().unwrap()).collect();
        assert!(counts.len() > 20 && counts.is_sorted(), "{counts:?}");
    }
}

#[cfg(feature = "io-uring")]
#[test]
fn the_key_value_store_and_the_dns_server_show_what_they_count() {
    if skip(&[Need::IoUring, Need::Tool("kill")]) {
        return;
    }
    // On the loopback interface, which only the kernel's sockets have.
    let shown = ["--telemetry", "127.0.0.1:0"];
    let udp = "udp+uring://127.0.0.1:{port}";
    let mut kv = example("kv");
    kv.args(["127.0.0.1:0", "--udp", udp, "--json"]).args(shown);
    let mut kv = Running::start(&mut kv);
    let telemetry = kv.line().trim().strip_prefix("telemetry at ").unwrap().to_owned();
    let greeting = kv.line();
    let address = greeting.split_once("kv on udp ").unwrap().1.split(',').next().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    let mut answer = [0; 500];
    for request in ["set a 0 0 1\r\n1\r\n", "get a\r\n", "get a\r\n", "get b\r\n"] {
        client.send(&[&[0, 1, 0, 0, 0, 1, 0, 0], request.as_bytes()].concat()).unwrap();
        client.recv(&mut answer).unwrap();
    }
    let json: Value = serde_json::from_str(&get(&telemetry, "/json", "*/*")).unwrap();
    let worker = &json["workers"][0];
    let counted = ["cmd_set", "get_hits", "get_misses"].map(|name| &worker["counters"][name]);
    assert_eq!(counted, [1, 2, 1], "{json:#}");
    assert_eq!(
        (&worker["stats"]["rx_packets"], &worker["latency"]["count"]),
        (&4.into(), &4.into())
    );
    // What is printed at the end is the same.
    kv.interrupt();
    let printed: Value = serde_json::from_str(&kv.finish()).unwrap();
    assert_eq!(printed["workers"][0]["stats"]["rx_packets"], 4, "{printed:#}");
    assert_eq!((&printed["kv"]["cmd_set"], &printed["kv"]["get_hits"]), (&1.into(), &2.into()));

    let mut dns = example("dns");
    dns.args(["udp+uring://127.0.0.1:0", "--tcp", "off"]).args(shown);
    let mut dns = Running::start(&mut dns);
    let telemetry = dns.line().trim().strip_prefix("telemetry at ").unwrap().to_owned();
    let greeting = dns.line();
    client.connect(greeting.split_once("dns on ").unwrap().1.split(',').next().unwrap()).unwrap();
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    client.send(query).unwrap();
    client.recv(&mut answer).unwrap();
    let text = get(&telemetry, "/metrics", "*/*");
    assert!(text.contains(r#",name="queries"} 1"#), "{text}");
}

/// It works in a network of its own, and is looked at from outside.
#[test]
fn market_data_shows_its_feed_while_it_runs() {
    if cfg!(feature = "xdp") && skip(&[Need::Bpf]) {
        return;
    }
    let arguments = ["--rate", "20000", "--seconds", "30", "--loss", "20", "--telemetry"];
    let mut running = Running::start(example("market_data").args(arguments).arg("127.0.0.1:0"));
    let telemetry = running.line().trim().strip_prefix("telemetry at ").unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(20);
    let worker = loop {
        let mut json: Value = serde_json::from_str(&get(&telemetry, "/json", "*/*")).unwrap();
        let worker = json["workers"].get_mut(0).map(Value::take).unwrap_or_default();
        let counted = ["messages", "recovered", "orders"].map(|name| &worker["counters"][name]);
        if counted.iter().all(|count| count.as_u64() > Some(100)) {
            break worker;
        }
        assert!(Instant::now() < deadline, "{json:#} {worker:#}");
    };
    assert_eq!((&worker["worker"], &worker["backend"]), (&"receiver".into(), &"socket".into()));
    let count = |value: &Value| value.as_u64().unwrap();
    // Each message has its time, and what was lost was asked for.
    assert_eq!(worker["latency"]["count"], worker["counters"]["messages"]);
    assert!(count(&worker["counters"]["re_requested"]) >= count(&worker["counters"]["gaps"]));
    assert!(count(&worker["stats"]["rx_packets"]) > 10);
    let output = example("monitor").args([&telemetry, "--once"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("worker receiver core ") && text.contains("backend socket running"),
        "{text}"
    );
    // Interrupted, it takes what has been published, says what that was, and that it adds up.
    running.interrupt();
    let table = running.finish();
    let row = table.lines().find_map(|line| line.strip_prefix("socket ")).unwrap();
    let numbers: Vec<u64> =
        row.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let &[sent, received, _, _, recovered, lost] = &numbers[..] else { panic!("{table}") };
    assert!(received >= count(&worker["counters"]["messages"]) && recovered > 100, "{table}");
    assert!(sent == received + lost && sent < 30 * 20_000, "{table}");
    // The other backend is not begun.
    assert!(table.ends_with("stopped before the end of the day\n"), "{table}");
    assert_eq!(table.lines().filter(|line| line.contains(" calls/msg ")).count(), 1);
    assert!(!table.contains("uring"), "{table}");
}

/// In a terminal of other hands: what is on the screen is what was sent, and `q` ends it.
#[test]
fn the_screen_shows_what_happens_until_q_is_pressed() {
    if skip(&[Need::Tool("tmux")]) {
        return;
    }
    let echo = Echo::start("127.0.0.1:0");
    let socket = format!("bypass-{}", std::process::id());
    let tmux = |arguments: &[&str]| {
        let output = Command::new("tmux").args(["-L", &socket]).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let program = example("monitor");
    let program = program.get_program().to_str().unwrap();
    // Word by word, so that no shell is called: the user's may be `nologin`.
    let command = [program, &echo.telemetry, "--interval", "200"];
    assert!(tmux(&[&["new-session", "-d", "-x", "140", "-y", "30"], &command[..]].concat()).0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = String::new();
    // A rate that is none comes before the traffic; then it is there.
    while !(seen.contains("total") && seen.contains(" k ") && seen.contains("µs")) {
        assert!(Instant::now() < deadline, "{seen}");
        echo.exchange(1000);
        seen = tmux(&["capture-pane", "-p"]).1;
    }
    for part in ["echo", &echo.telemetry, "drops by cause", "nothing was lost", "rx_queue_bytes"] {
        assert!(seen.contains(part), "{part} in\n{seen}");
    }
    assert!(tmux(&["send-keys", "q"]).0);
    while tmux(&["has-session"]).0 {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
    drop(echo.running);
}
