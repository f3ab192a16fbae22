//! The examples, run as a user runs them, against programs that others have written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

mod common;

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip, skip_because};
use bypass_core::testing::rig::{Veth, VethOptions};
use common::{Running, example, market_data, meatpy, socat, starve, without_direct_listings};

/// What the backends that the features chose need, beyond a namespace.
const DEFAULT_PORT: &[Need] = if cfg!(feature = "xdp") { &[Need::Bpf] } else { &[] };

/// Starts the echo at `place` and talks to it with socat; returns what it printed at the end.
fn echoes(place: &str, backend: &str, more: &[&str]) -> String {
    let mut echo = Running::start(example("echo").args([place, "--packets", "1"]).args(more));
    let greeting = echo.line();
    let (address, name) = greeting
        .trim()
        .strip_prefix("echo on ")
        .and_then(|rest| rest.split_once(", backend "))
        .unwrap_or_else(|| panic!("greeting {greeting:?}"));
    assert_eq!(name, backend);
    assert_eq!(socat(&format!("UDP:{address}"), "are you there?"), "are you there?");
    echo.finish()
}

/// In both families, and with both kinds of report.
fn echoes_anywhere(scheme: &str, backend: &str) {
    let report = echoes(&format!("{scheme}://127.0.0.1:0"), backend, &[]);
    assert!(report.contains("received 1") && report.contains("dropped 0"), "{report}");
    let report = echoes(&format!("{scheme}://[::1]:0"), backend, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let counts = ["rx_packets", "tx_packets"].map(|name| &report["stats"][name]);
    assert_eq!(counts, [1, 1], "{report}");
}

#[test]
fn echo_answers_socat_on_a_plain_socket() {
    if !skip(&[Need::Tool("socat")]) {
        echoes_anywhere("udp+socket", "socket");
    }
}

#[cfg(feature = "io-uring")]
#[test]
fn echo_answers_socat_on_io_uring() {
    if !skip(&[Need::Tool("socat"), Need::IoUring]) {
        echoes_anywhere("udp+uring", "uring");
    }
}

#[test]
fn echo_answers_socat_and_ping_from_user_space() {
    if !skip(&[Need::Namespaces, Need::Tool("socat"), Need::Tool("ping")]) {
        echoes_over_frames("packet");
    }
}

#[cfg(feature = "xdp")]
#[test]
fn echo_answers_socat_and_ping_over_af_xdp() {
    if !skip(&[
        Need::Namespaces,
        Need::Bpf,
        Need::Tool("ethtool"),
        Need::Tool("socat"),
        Need::Tool("ping"),
    ]) {
        echoes_over_frames("xdp");
    }
}

/// Starts the echo on a port of this backend and talks to it with socat and ping.
fn echoes_over_frames(backend: &str) {
    let veth = Veth::new(&VethOptions::default()).unwrap();
    if backend == "xdp" {
        // A veth pair leaves checksums to a device that is not there, and tells AF_XDP nothing.
        veth.b.run("ethtool", "-K veth0 tx off").unwrap();
    }
    let mut echo = {
        let _inside = veth.a.enter().unwrap();
        // An address that the kernel does not have, so nobody else answers for it.
        let settings = "interface=veth0&prefix=24&ping=true";
        let place = format!("udp+{backend}://10.66.0.9:7777?{settings}");
        Running::start(example("echo").args([&place, "--packets", "1"]))
    };
    let greeting = echo.line();
    assert_eq!(greeting, format!("echo on 10.66.0.9:7777, backend {backend}\n"));
    veth.b.run("ping", "-c 2 -i 0.2 -W 2 10.66.0.9").unwrap();
    let _inside = veth.b.enter().unwrap();
    assert_eq!(socat("UDP:10.66.0.9:7777", "from the kernel"), "from the kernel");
    echo.finish();
}

#[cfg(feature = "io-uring")]
#[test]
fn echo_tcp_answers_socat_until_it_is_interrupted() {
    if skip(&[Need::Tool("socat"), Need::Tool("kill"), Need::IoUring]) {
        return;
    }
    for place in ["127.0.0.1:0", "[::1]:0"] {
        let mut echo = Running::start(example("echo_tcp").args([place, "--json"]));
        let greeting = echo.line();
        let address = greeting.trim().strip_prefix("echo on ").unwrap().to_owned();
        let texts = ["are you there?".to_owned(), "more than one buffer ".repeat(10_000)];
        for text in &texts {
            assert!(socat(&format!("TCP:{address}"), text) == *text);
        }
        echo.interrupt();
        let report: serde_json::Value = serde_json::from_str(&echo.finish()).unwrap();
        let bytes = texts.iter().map(String::len).sum::<usize>();
        assert_eq!((&report["connections"], &report["bytes"]), (&2.into(), &bytes.into()));
    }
    let arguments = ["--connections", "2", "--messages", "1000000000", "--json"];
    let mut echo = Running::start(example("echo_tcp").args(arguments));
    assert!(echo.line().starts_with("echo on "));
    echo.interrupt();
    let report: serde_json::Value = serde_json::from_str(&echo.finish()).unwrap();
    // Each message has 42 bytes, on both connections; before the first they may still wait to be accepted.
    let messages = report["messages_each"].as_u64().unwrap();
    assert_eq!(report["bytes"], 2 * 42 * messages, "{report}");
    assert!(messages == 0 || report["connections"] == 2, "{report}");
}

#[cfg(feature = "io-uring")]
#[test]
fn echo_tcp_goes_on_without_descriptors() {
    if skip(&[Need::Tool("prlimit"), Need::Tool("kill"), Need::IoUring]) {
        return;
    }
    let address =
        |echo: &mut Running| echo.line().trim().strip_prefix("echo on ").unwrap().parse().unwrap();
    let echo = starve(example("echo_tcp").args(["127.0.0.1:0", "--json"]), address, |stream| {
        let mut back = [0; 5];
        stream.write_all(b"there").unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"there");
    });
    echo.interrupt();
    let report: serde_json::Value = serde_json::from_str(&echo.finish()).unwrap();
    assert_eq!((&report["connections"], &report["bytes"]), (&5.into(), &25.into()), "{report}");
    assert!(report["out_of_descriptors"].as_u64().unwrap() > 0, "{report}");
}

#[cfg(feature = "io-uring")]
#[test]
fn echo_tcp_talks_to_itself_and_explains_what_it_cannot_do() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let arguments = ["--connections", "30", "--messages", "50"];
    let output = example("echo_tcp").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("all of them came back"), "{text}");
    let output = example("echo_tcp").arg("192.0.2.1:1").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("listening for TCP"), "{text}");
}

#[test]
fn orders_leave_with_checksums_that_tcpdump_finds_right() {
    const ORDERS: usize = 50;
    if skip(&[Need::Namespaces, Need::Tool("tcpdump")]) || skip(DEFAULT_PORT) {
        return;
    }
    let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
    for (from, to, place) in [
        ("10.66.0.9/24:5000", "10.66.0.2:6000", "0.0.0.0:6000"),
        ("fd66::9/64:5000", "[fd66::2]:6000", "[::]:6000"),
    ] {
        let (mut tcpdump, receiver) = {
            let _inside = veth.b.enter().unwrap();
            let count = ORDERS.to_string();
            let arguments = ["-i", "veth0", "-n", "-vv", "-l", "-c", &count, "udp port 6000"];
            let mut tcpdump = Command::new("tcpdump")
                .args(arguments)
                .stderr(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // It says so when it listens.
            let mut said = BufReader::new(tcpdump.stderr.take().unwrap());
            let mut line = String::new();
            while !line.contains("listening on") {
                line.clear();
                assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not listen");
            }
            (tcpdump, UdpSocket::bind(place).unwrap())
        };
        {
            let _inside = veth.a.enter().unwrap();
            let count = ORDERS.to_string();
            let arguments = ["--interface", "veth0", "--from", from, "--to", to];
            let output = example("order_sender")
                .args(arguments)
                .args(["--orders", &count])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(&format!("{ORDERS} orders sent")), "{output:?}");
        }
        // The kernel at the other end verifies them too, and delivers.
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for number in 0..ORDERS as u64 {
            let mut bytes = [0; 100];
            // An OUCH order with its token.
            assert_eq!(receiver.recv(&mut bytes).unwrap(), 49);
            assert_eq!(bytes[..15], *format!("O{number:014}").as_bytes());
        }
        let mut seen = String::new();
        tcpdump.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
        tcpdump.wait().unwrap();
        assert_eq!(seen.matches("udp sum ok").count(), ORDERS, "{seen}");
        assert!(!seen.contains("bad"), "{seen}");
    }
}

#[test]
fn orders_are_acknowledged_in_a_network_of_their_own() {
    if skip(DEFAULT_PORT) {
        return;
    }
    let output = example("order_sender").args(["--orders", "500"]).output().unwrap();
    let (text, why) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if why.contains("namespace of its own") {
        skip_because(why.trim());
        return;
    }
    assert!(text.starts_with("500 orders sent, 500 acknowledged"), "{text}{why}");
    assert!(text.contains("received 500 with good checksums, 0 out of order"), "{text}");
    let output = example("order_sender").args(["--orders", "50", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["orders", "out_of_order", "malformed"].map(|name| &report["exchange"][name]);
    assert_eq!(
        (&report["acknowledged"], counts),
        (&50.into(), [50, 0, 0].map(serde_json::Value::from).each_ref())
    );
}

/// Orders stop when they are told to, and all that have left are reported.
#[test]
fn orders_are_reported_when_they_are_interrupted() {
    if skip(&[Need::Namespaces, Need::Tool("kill"), Need::Tool("ethtool")]) || skip(DEFAULT_PORT) {
        return;
    }
    let orders = ["--orders", "1000000", "--rate", "1000", "--json"];
    let veth = Veth::new(&VethOptions::default()).unwrap();
    // A veth pair leaves checksums to a device that is not there, and tells AF_XDP nothing.
    veth.b.run("ethtool", "-K veth0 tx off").unwrap();
    let receiver = {
        let _inside = veth.b.enter().unwrap();
        UdpSocket::bind("10.66.0.2:6000").unwrap()
    };
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sender = {
        let _inside = veth.a.enter().unwrap();
        let place = ["--interface", "veth0", "--from", "10.66.0.9/24:5000"];
        let to = ["--to", "10.66.0.2:6000"];
        Running::start(example("order_sender").args(place).args(to).args(orders))
    };
    let mut order = [0; 100];
    for _ in 0..10 {
        receiver.recv(&mut order).unwrap();
    }
    // One acknowledgement, one of an order that was never sent, and something else.
    let (_, from) = receiver.recv_from(&mut order).unwrap();
    let accepted = |token: &str| [b"A".as_slice(), &[0; 8], token.as_bytes(), &[0; 43]].concat();
    for answer in [accepted("00000000000003"), accepted("99999999999999"), b"what?".to_vec()] {
        receiver.send_to(&answer, from).unwrap();
    }
    // Orders leave after the answers have come, and the sender takes all that came with each.
    for _ in 11..100 {
        receiver.recv(&mut order).unwrap();
    }
    sender.interrupt();
    let report: serde_json::Value = serde_json::from_str(&sender.finish()).unwrap();
    let sent = report["sent"].as_u64().unwrap();
    assert!((100..1_000_000).contains(&sent), "{report}");
    assert_eq!((&report["acknowledged"], &report["strays"]), (&1.into(), &2.into()), "{report}");
    for _ in 100..sent {
        receiver.recv(&mut order).unwrap();
    }
    // The last of them is the last that there is.
    assert_eq!(order[..15], *format!("O{:014}", sent - 1).as_bytes());
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut order).is_err());

    // In a network of its own, whenever it is interrupted.
    let mut sender = Running::start(example("order_sender").args(orders));
    sender.await_handler();
    sender.interrupt();
    let report: serde_json::Value = serde_json::from_str(&sender.finish()).unwrap();
    assert_eq!(report["sent"], report["exchange"]["orders"], "{report}");
    assert_eq!(report["sent"], report["acknowledged"], "{report}");
}

#[test]
fn the_market_is_reported_whenever_it_is_interrupted() {
    if skip(&[Need::Tool("kill")]) || skip(DEFAULT_PORT) {
        return;
    }
    let arguments = ["--rate", "20000", "--seconds", "30", "--json"];
    let mut market = Running::start(example("market_data").args(arguments));
    market.await_handler();
    market.interrupt();
    let text = market.finish();
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(row["sent"].as_u64() < Some(30 * 20_000), "{row}");
    assert_eq!((&row["backend"], &row["adds_up"]), (&"socket".into(), &true.into()), "{row}");
}

#[cfg(feature = "io-uring")]
#[test]
fn a_file_is_read_whole_and_in_order() {
    if skip(&[Need::IoUring]) {
        return;
    }
    // A part of the last read, one whole read, none.
    for (name, len) in [("part", 1_000_003), ("whole", 128 << 10), ("empty", 0_usize)] {
        let bytes: Vec<u8> = (0..len).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("file_read-{name}-{}", std::process::id()));
        let path = if std::fs::write(&path, &bytes).is_ok() {
            path
        } else {
            let elsewhere = std::env::temp_dir().join(path.file_name().unwrap());
            std::fs::write(&elsewhere, &bytes).unwrap();
            elsewhere
        };
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in &bytes {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        for depth in ["1", "3", "64"] {
            let output = example("file_read").arg(&path).arg(depth).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let expected = format!("{len} bytes, Adler-32 {:08x}", b << 16 | a);
            assert!(text.contains(&expected), "{expected}: {output:?}");
        }
        let output = example("file_read").arg(&path).arg("--json").output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["adler32"], format!("{:08x}", b << 16 | a), "{report}");
        std::fs::remove_file(path).unwrap();
    }
    let output = example("file_read").arg("/there/is/none").output().unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains("/there/is/none: No such file"), "{why}");
}

#[test]
fn what_cannot_be_opened_is_explained() {
    for (place, words) in [
        ("udp+pigeon://127.0.0.1:1", "there is no such backend"),
        ("udp+socket://127.0.0.1:1?feathers=2", "no such setting"),
        ("udp+socket://192.0.2.1:1", "192.0.2.1:1"),
        (
            "udp+dpdk://127.0.0.1:1",
            if cfg!(feature = "dpdk") { "an Ethernet interface" } else { "feature `dpdk`" },
        ),
        (
            "udp+xdp://127.0.0.1:1",
            if cfg!(feature = "xdp") { "an Ethernet interface" } else { "feature `xdp`" },
        ),
    ] {
        let output = example("echo").arg(place).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{place}: {text}");
    }
}

#[test]
fn market_data_accounts_for_every_message() {
    if skip(DEFAULT_PORT) {
        return;
    }
    let rows = market_data(&[]);
    assert!(!rows.is_empty());
    for row in rows {
        let number = |key: &str| row[key].as_u64().unwrap();
        assert_eq!(number("sent"), 20_000, "{row}");
        assert_eq!(number("received") + number("lost"), 20_000, "{row}");
        assert_eq!(row["adds_up"], true, "{row}");
        assert!(number("orders") > 0 && number("orders_at_exchange") > 0, "{row}");
        assert_eq!(row["tick_to_trade"]["count"], row["orders"], "{row}");
    }
}

/// Runs `market_data` over a network that loses 2 % of the packets, and returns its rows.
fn market_data_with_losses(more: &[&str]) -> Vec<serde_json::Value> {
    market_data(&[&["--loss", "20"], more].concat())
}

#[test]
fn market_data_recovers_what_it_can_and_counts_the_rest() {
    if skip(DEFAULT_PORT) {
        return;
    }
    for (retain, recovers) in [("1000000", true), ("0", false)] {
        for row in market_data_with_losses(&["--retain", retain]) {
            let number = |key: &str| row[key].as_u64().unwrap();
            let missing = if recovers { number("recovered") } else { number("lost") };
            assert_eq!(number("received") + number("lost"), 20_000, "{row}");
            assert!(number("gaps") > 0 && number("re_requested") > 0 && missing > 0, "{row}");
            assert_eq!(number("recovered") > 0, recovers, "{row}");
            assert!(number("missing") >= missing, "{row}");
        }
    }
}

/// The day and the books of a run with losses, which `meatpy`, a reader of ITCH that others have written, is
/// then asked about.
#[test]
fn books_after_losses_are_those_that_meatpy_reads_from_the_day() {
    if skip(DEFAULT_PORT) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("market-books-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (day, books) = (place("day.itch"), place("books.json"));
    // On a busy machine more may be lost than can be recovered; such books are not complete.
    let mut rows = market_data_with_losses(&["--save", &day, "--books", &books]);
    for _ in 0..5 {
        if rows.last().unwrap()["lost"] == 0 {
            break;
        }
        rows = market_data_with_losses(&["--save", &day, "--books", &books]);
    }
    assert_eq!(rows.last().unwrap()["lost"], 0, "{rows:?}");
    let whole = std::fs::read(&day).unwrap();
    let kept = without_direct_listings(&whole);
    let count = kept.len();
    std::fs::write(&day, kept.concat()).unwrap();
    let said = meatpy("replay.py", Path::new(&day));
    let ours = std::fs::read(&books).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let Some(said) = said else { return };
    let theirs: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let ours: serde_json::Value = serde_json::from_slice(&ours).unwrap();
    assert!(count > 19_900, "{count}");
    assert_eq!(theirs["messages"], count);
    assert_eq!(theirs["books"], ours);
    let levels = ours["AAPL"]["bids"].as_array().unwrap();
    assert!(levels.len() > 3, "{levels:?}");
}

/// A day that was written to a file is what is published from it, packed or not.
#[test]
fn market_data_takes_a_file_for_its_day() {
    if skip(DEFAULT_PORT) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("market-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (day, packed) = (folder.join("day.itch"), folder.join("day.itch.gz"));
    let run = |file: &[&Path], books: &str, more: &[&str]| -> (u64, Vec<u8>) {
        let books = folder.join(books);
        let mut market = example("market_data");
        market.args(file).args(["--rate", "5000", "--json", "--books"]).arg(&books).args(more);
        let output = market.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let row: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(row["lost"], 0, "{row}");
        (row["sent"].as_u64().unwrap(), std::fs::read(books).unwrap())
    };
    let saved = ["--seconds", "1", "--seed", "9", "--save", day.to_str().unwrap()];
    let (sent, made_up) = run(&[], "made-up", &saved);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &std::fs::read(&day).unwrap()).unwrap();
    std::fs::write(&packed, encoder.finish().unwrap()).unwrap();
    assert_eq!(sent, 5_000);
    for file in [&day, &packed] {
        // All of it, though there is time for more.
        assert!(run(&[file], "read", &[]) == (sent, made_up.clone()));
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let output = example("market_data").arg(&day).output().unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && why.contains("day.itch"), "{why}");
}

/// The table of the storage example: one row for each time that its writer was killed.
#[cfg(feature = "io-uring")]
#[test]
fn the_log_survives_twenty_kills() {
    const KILLS: usize = 20;
    if skip(&[Need::IoUring]) {
        return;
    }
    // A folder in which anybody may write.
    let folder = std::env::temp_dir();
    let mut storage = example("storage");
    let storage = storage.args(["--rounds", &KILLS.to_string()]).arg("--dir").arg(folder);
    let output = storage.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{why}");
    let rows = text.lines().filter_map(|line| {
        let cells = line.split('|').map(|cell| cell.trim().parse().ok());
        let numbers: Option<Vec<u64>> = cells.skip(1).take(6).collect();
        numbers
    });
    let rows: Vec<Vec<u64>> = rows.filter(|numbers| numbers.len() == 6).collect();
    assert_eq!(rows.len(), KILLS, "{text}");
    let mut before = 0;
    for row in &rows {
        let &[_, commits, acknowledged, recovered, lost, torn] = &row[..] else {
            panic!("{row:?}");
        };
        assert!(commits > 0 && acknowledged > before, "nothing was written: {row:?}");
        assert!(recovered >= acknowledged && lost == 0 && torn == 0, "{row:?}");
        before = acknowledged;
    }
    assert!(text.contains("random reads") && text.contains("all verified"), "{text}");
}

/// What it has told by then is what it tells as JSON, and its log goes with it.
#[cfg(feature = "io-uring")]
#[test]
fn the_log_is_reported_and_removed_when_it_is_interrupted() {
    if skip(&[Need::IoUring, Need::Tool("kill")]) {
        return;
    }
    let folder = std::env::temp_dir();
    let mut storage = example("storage");
    storage.args(["--rounds", "1000000", "--json", "--dir"]).arg(&folder);
    let mut storage = Running::start(&mut storage);
    let log = folder.join(format!("storage-example-{}.log", storage.child.id()));
    // A writer has begun.
    while !log.exists() {
        assert!(storage.child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    storage.interrupt();
    let report: serde_json::Value = serde_json::from_str(&storage.finish()).unwrap();
    let rounds = report["rounds"].as_array().unwrap();
    assert!((1..1_000_000).contains(&rounds.len()), "{report}");
    assert_eq!(rounds.last().unwrap()["recovered"], report["records"], "{report}");
    assert!(rounds.iter().all(|round| round["lost"] == 0 && round["accepted"] == 0), "{report}");
    assert!(!log.exists());
}
