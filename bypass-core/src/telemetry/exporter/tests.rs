//! An exporter and its clients, friendly and not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::backend::memory::{LinkOptions, link};
use crate::{Buffer, Burst, DropCause, PacketIo};

/// Sends a request and answers with head and body.
fn exchange(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn connect(exporter: &Exporter) -> TcpStream {
    let stream = TcpStream::connect(exporter.address().to_string()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn get(exporter: &Exporter, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    let (head, body) = exchange(connect(exporter), &request);
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    body
}

/// The value of a sample in Prometheus' text.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim().parse().unwrap()
}

/// A board with what a worker has shown that sent a hundred packets and lost some, and is gone.
fn board() -> Board {
    let board = Board::new();
    let (a, b) = link(&LinkOptions::default()).unwrap();
    let (mut a, mut b) = (a.open().unwrap(), b.open().unwrap());
    let mut burst = Burst::with_capacity(100);
    let mut meter = board.meter("left \"and\" right", Some(3)).unwrap();
    assert_eq!(a.alloc(&mut burst, 100), 100);
    burst.iter_mut().for_each(|frame| frame.fill(&[0; 60]).unwrap());
    assert_eq!(a.send(&mut burst).unwrap(), 100);
    let mut other = Burst::with_capacity(70);
    assert_eq!(b.recv(&mut other).unwrap(), 70);
    meter.latency.record_n(1_500, 60);
    meter.latency.record_n(3_000_000, 40);
    // Asked while it shows something of its own.
    board.ask_for_tests();
    meter.show_with(&a, |showing| {
        showing.stats.drops[DropCause::TxError] = 7;
        showing.counter("hits", 12);
    });
    board
}

#[test]
fn what_a_worker_shows_is_served_in_every_format() {
    let board = board();
    let exporter = Exporter::start(&board, "127.0.0.1:0").unwrap();
    let text = get(&exporter, "/metrics");
    let labels = r#"worker="left \"and\" right",core="3",backend="memory""#;
    for (name, more, value) in [
        ("tx_packets_total", "", 100.0),
        ("tx_bytes_total", "", 6000.0),
        ("rx_packets_total", "", 0.0),
        ("drops_total", r#",cause="tx_error""#, 7.0),
        ("drops_total", r#",cause="rx_no_frame""#, 0.0),
        ("ring_used", r#",ring="tx""#, 30.0),
        ("value", r#",name="hits""#, 12.0),
        ("latency_seconds_count", "", 100.0),
        ("latency_seconds_sum", "", 0.12009),
        ("latency_seconds_bucket", r#",le="1e-06""#, 0.0),
        ("latency_seconds_bucket", r#",le="2e-06""#, 60.0),
        ("latency_seconds_bucket", r#",le="0.002""#, 60.0),
        ("latency_seconds_bucket", r#",le="0.005""#, 100.0),
        ("latency_seconds_bucket", r#",le="+Inf""#, 100.0),
        ("worker_running", "", 0.0),
    ] {
        let (first, second) = match more.strip_prefix(",le") {
            // The encoder puts it in front.
            Some(bound) => (format!("le{bound},{labels}"), format!("{labels},le{bound}")),
            None => (format!("{labels}{more}"), String::new()),
        };
        let name = format!("bypass_{name}");
        let (first, second) = (format!("{name}{{{first}}}"), format!("{name}{{{second}}}"));
        let found = if text.contains(&first) { first } else { second };
        assert!((sample(&text, &found) - value).abs() < 1e-9, "{found} in\n{text}");
    }
    let request = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
    let (head, text) = exchange(connect(&exporter), request);
    assert!(head.contains("application/openmetrics-text") && text.ends_with("# EOF\n"), "{head}");

    let json: Value = serde_json::from_str(&get(&exporter, "/json")).unwrap();
    let worker = &json["workers"][0];
    assert_eq!(worker["worker"], "left \"and\" right");
    assert_eq!((&worker["core"], &worker["running"]), (&3.into(), &false.into()));
    assert_eq!(worker["stats"]["tx_packets"], 100);
    assert_eq!(worker["stats"]["drops"]["tx_error"], 7);
    assert_eq!(
        (&worker["counters"]["hits"], &worker["rings"]["tx"]["used"]),
        (&12.into(), &30.into())
    );
    let buckets = worker["latency"]["buckets"].as_array().unwrap();
    let counts: Vec<_> = buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).collect();
    assert_eq!((counts, worker["latency"]["sum"].as_u64()), (vec![60, 40], Some(120_090_000)));
    assert_eq!(json["pid"], std::process::id());
}

#[test]
fn errors_have_the_right_status() {
    let exporter = Exporter::start(&Board::new(), "[::1]:0").unwrap();
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n", "404"),
        ("POST /json HTTP/1.1\r\n\r\n", "405"),
        ("\u{16}\u{3}\u{1}", "400"),
        ("HEAD /json HTTP/1.1\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\n\r\n", "200"),
    ] {
        let (head, _) = exchange(connect(&exporter), request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {head}");
    }
}

/// Clients that say nothing, say too much, or do not listen, and a worker that goes on.
#[test]
fn clients_can_hold_up_neither_workers_nor_each_other() {
    let board = Board::new();
    let exporter = Exporter::start(&board, "127.0.0.1:0").unwrap();
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (there, told) = std::sync::mpsc::channel();
        let (stop, turns) = (&stop, &turns);
        let worker = board.clone();
        scope.spawn(move || {
            let (end, _other) = link(&LinkOptions::default()).unwrap();
            let port = end.open().unwrap();
            let mut meter = worker.meter("0", None).unwrap();
            there.send(()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                meter.show(&port);
                std::thread::yield_now();
            }
        });
        told.recv().unwrap();
        let _ends = StopAtEnd(stop);
        // More that say nothing, or half of something, than there may be connections.
        let silent: Vec<_> = (0..40)
            .map(|n| {
                let mut stream = connect(&exporter);
                if n % 2 == 0 {
                    stream.write_all(b"GET /metr").unwrap();
                }
                stream
            })
            .collect();
        assert!(get(&exporter, "/metrics").contains("bypass_worker_running"));
        // The oldest have made room: they are told so, the youngest are not.
        let mut byte = [0];
        assert_eq!((&silent[0]).read(&mut byte).unwrap_or(0), 0);
        silent[39].set_nonblocking(true).unwrap();
        let last = (&silent[39]).read(&mut byte).unwrap_err();
        assert_eq!(last.kind(), std::io::ErrorKind::WouldBlock);
        // Those that ask and do not listen.
        let deaf: Vec<_> = (0..10)
            .map(|_| {
                let mut stream = connect(&exporter);
                stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
                stream
            })
            .collect();
        // One that talks without an end is told once, and not listened to for ever.
        let mut talker = connect(&exporter);
        let chatter = "GET /metrics HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(1000);
        talker.write_all(chatter.as_bytes()).unwrap();
        let mut told = [0; 12];
        talker.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 431");
        let before = turns.load(Ordering::Relaxed);
        for _ in 0..20 {
            let json: Value = serde_json::from_str(&get(&exporter, "/json")).unwrap();
            assert_eq!(json["workers"][0]["running"], true);
        }
        assert!(turns.load(Ordering::Relaxed) > before);
        drop(deaf);
    });
}

/// Ends the worker, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn when_it_is_dropped_nobody_listens_any_more() {
    let exporter = Exporter::start(&Board::new(), "127.0.0.1:0").unwrap();
    let (address, waiting) = (exporter.address().to_string(), connect(&exporter));
    drop(exporter);
    assert_eq!((&waiting).read(&mut [0]).unwrap_or(0), 0, "the connection is closed");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn addresses_that_cannot_be_had_are_errors_that_help() {
    let exporter = Exporter::start(&Board::new(), "127.0.0.1:0").unwrap();
    let taken = exporter.address().to_string();
    for (place, what) in [
        ("9100", "telemetry = 9100: it is an address"),
        ("unix:", "unix:PATH"),
        (&*taken, "another program listens there"),
        ("192.0.2.1:9100", "an address of this machine"),
        ("unix:/nowhere/at/all", "cannot listen at unix:/nowhere/at/all"),
    ] {
        let error = Exporter::start(&Board::new(), place).unwrap_err().to_string();
        assert!(error.contains(what), "{place}: {error}");
    }
}

#[test]
fn a_unix_socket_comes_and_goes_with_its_file() {
    let path = std::env::temp_dir().join(format!("bypass-exporter-{}", std::process::id()));
    let place = format!("unix:{}", path.display());
    let _gone = std::fs::remove_file(&path);
    // What is no socket stays.
    std::fs::write(&path, "precious").unwrap();
    assert!(Exporter::start(&Board::new(), &place).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    // What a program left behind makes room.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let exporter = Exporter::start(&Board::new(), &place).unwrap();
    assert_eq!(exporter.address(), &Address::Unix(PathBuf::from(&path)));
    let stream = UnixStream::connect(&path).unwrap();
    let (head, _) = exchange(stream, "GET /json HTTP/1.1\r\n\r\n");
    assert!(head.contains("application/json"), "{head}");
    // Who listens there is not pushed aside.
    let error = Exporter::start(&Board::new(), &place).unwrap_err().to_string();
    assert!(error.contains("another program listens there"), "{error}");
    drop(exporter);
    assert!(!path.exists());
}
