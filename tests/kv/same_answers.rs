//! The same requests to memcached and to ours: the same answers.

use bypass_core::testing::needs::{Need, skip};

use super::server::{Connection, Server, lacks_cores};

/// The answer to this marks the end of the answers before it.
const MARK: &str = "get the-mark\r\n";
const MARKED: &str = "VALUE the-mark 0 3\r\n@@@\r\nEND\r\n";

/// Requests in groups; the answers of each are compared.
fn script() -> Vec<String> {
    let long = "k".repeat(251);
    let longest = "k".repeat(250);
    let big = "v".repeat(1_000_000);
    let too_big = "v".repeat(1 << 20);
    let mut script: Vec<String> = [
        "get nothing\r\n",
        "set a 5 0 3\r\nabc\r\n",
        "get a\r\n",
        "gets a a nothing a\r\n",
        "get  a   a \r\n",
        "get a\n",
        "add a 0 0 1\r\nx\r\n",
        "add b 1 0 1\r\nx\r\n",
        "replace b 2 0 2\r\nyy\r\n",
        "replace nothing 2 0 2\r\nyy\r\n",
        "append b 9 9 2\r\nzz\r\n",
        "prepend b 9 9 2\r\nxx\r\n",
        "append nothing 0 0 1\r\nx\r\n",
        "prepend nothing 0 0 1\r\nx\r\n",
        "gets b\r\n",
        "cas b 0 0 1 1\r\nx\r\n",
        "cas nothing 0 0 1 1\r\nx\r\n",
        "cas b 0 0 1\r\n",
        "cas b 0 0 1 word\r\n",
        "set empty 0 0 0\r\n\r\n",
        "get empty\r\n",
        "incr empty 1\r\n",
        // When a number gets shorter, memcached fills it up with spaces, or does not, as the threads go: it is
        // not looked at then, but by `incr`.
        "set n 3 0 2\r\n10\r\n",
        "incr n 5\r\n",
        "get n\r\n",
        "gets n\r\n",
        "decr n 6\r\n",
        "decr n 100\r\n",
        "incr n 18446744073709551615\r\n",
        "get n\r\n",
        "incr n 1\r\n",
        "incr n 18446744073709551616\r\n",
        "incr n -1\r\n",
        "incr n word\r\n",
        "incr nothing 1\r\n",
        "decr a 1\r\n",
        "incr n\r\n",
        "incr n 1 noreply\r\nincr n 0\r\n",
        "set t 0 0 2\r\n7 \r\nincr t 1\r\n",
        "set t 0 0 21\r\n000000000000000000001\r\nincr t 1\r\n",
        "set t 0 0 20\r\n18446744073709551616\r\nincr t 1\r\nget t\r\n",
        "set t 0 0 5\r\n12abc\r\nincr t 1\r\nget t\r\n",
        "touch a 0\r\n",
        "touch a 100\r\nget a\r\n",
        "touch nothing 0\r\n",
        "touch a word\r\n",
        "touch a\r\n",
        "touch a -1\r\nget a\r\n",
        "set a 0 -1 1\r\nx\r\nget a\r\n",
        "set a 0 1 1\r\nx\r\nset a2 0 2000000000 1\r\nx\r\n",
        "set a 0 1000000000 1\r\nx\r\nget a\r\n",
        "delete b\r\n",
        "delete b\r\n",
        "delete b 0\r\n",
        "delete b 1\r\n",
        "delete b 0 noreply\r\nget b\r\n",
        "delete b noreply\r\nget b\r\n",
        "delete b 1 noreply more\r\n",
        "delete\r\n",
        "set c 0 0 1 noreply\r\nx\r\nget c\r\n",
        "set c 0 0 1 word\r\ny\r\nget c\r\n",
        "set c 4294967295 0 1\r\nz\r\nget c\r\n",
        "set c 4294967296 0 1\r\n",
        "set c -1 0 1\r\n",
        "set c 0 word 1\r\n",
        "set c 0 0 -1\r\n",
        "set c 0 0 word\r\n",
        "set c 0 0\r\n",
        "set\r\n",
        "get\r\n",
        "gets\r\n",
        "\r\n",
        "nonsense\r\n",
        "GET a\r\n",
        "verbosity 1\r\n",
        "verbosity 0 noreply\r\nget c\r\n",
        "verbosity\r\n",
        "flush_all 0 noreply\r\nget c\r\n",
        "set c 0 0 1\r\nx\r\nflush_all 100\r\nget c\r\n",
        "flush_all\r\nget c\r\n",
        "flush_all word\r\n",
        "flush_all noreply\r\nget c\r\n",
        "set c 0 0 1\r\nx\r\nget c\r\n",
        "flush_all -1\r\nget c\r\n",
        "stats reset\r\n",
        "stats nonsense\r\n",
    ]
    .map(str::to_owned)
    .to_vec();
    script.extend([
        format!("get {long}\r\n"),
        format!("set {longest} 0 0 1\r\nx\r\nget {longest}\r\n"),
        format!("delete {long}\r\n"),
        format!("incr {long} 1\r\n"),
        format!("touch {long} 1\r\n"),
        format!("set big 0 0 {}\r\n{big}\r\nget big\r\n", big.len()),
        format!("append big 0 0 {}\r\n{big}\r\n", big.len()),
        format!("set big 0 0 {}\r\n{too_big}\r\nget big\r\n", too_big.len()),
        format!("set c 0 0 {}\r\n{too_big}\r\nget c\r\n", too_big.len()),
        format!("get {}\r\n", "a b c n t nothing ".repeat(100)),
    ]);
    script
}

fn answer(connection: &mut Connection, requests: &str) -> String {
    // The mark may have been flushed.
    let all = format!("{requests}set the-mark 0 0 3 noreply\r\n@@@\r\n{MARK}");
    connection.ask_until(&all, MARKED)
}

fn compare(arguments: &[&str]) {
    let (memcached, ours) = (Server::memcached(), Server::kv(arguments));
    let (mut theirs, mut mine) = (memcached.connect(), ours.connect());
    // Numbers of items are not comparable where each shard has its own.
    let strip =
        |text: String| if ours.greeting.contains(" 1 shards") { text } else { without_cas(&text) };
    let mut different = String::new();
    for requests in script() {
        let (expected, found) = (answer(&mut theirs, &requests), answer(&mut mine, &requests));
        let shown = requests.chars().take(200).collect::<String>();
        let (expected, found) = (strip(expected), strip(found));
        if found != expected {
            let cut = |text: String| text.chars().take(200).collect::<String>();
            let (expected, found) = (cut(expected), cut(found));
            different.push_str(&format!("{shown:?}: {found:?} for {expected:?}\n"));
        }
    }
    assert!(different.is_empty(), "{different}");
}

/// The text without the fourth number of the lines that have one.
fn without_cas(text: &str) -> String {
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["VALUE", key, flags, length, _cas] => format!("VALUE {key} {flags} {length}\r\n"),
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

#[test]
fn kv_answers_as_memcached_does() {
    if !skip(&[Need::IoUring, Need::Tool("memcached")]) {
        compare(&[]);
    }
}

#[test]
fn kv_of_two_shards_answers_as_memcached_does() {
    if !skip(&[Need::IoUring, Need::Tool("memcached")]) && !lacks_cores(2) {
        compare(&["--workers", "2"]);
    }
}

#[test]
fn kv_behind_tokio_answers_as_memcached_does() {
    if !skip(&[Need::Tool("memcached")]) {
        compare(&["--front", "tokio"]);
    }
}

#[test]
fn kv_with_a_log_answers_as_memcached_does() {
    if !skip(&[Need::IoUring, Need::Tool("memcached")]) {
        let scratch = super::server::Scratch::new("same");
        compare(&["--log", scratch.path()]);
    }
}

#[test]
fn kv_reads_a_request_in_any_pieces() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let server = Server::kv(&[]);
    let mut connection = server.connect();
    let text = "set pieces 1 0 12\r\nhello\r\nthere\r\nget pieces\r\n";
    for byte in text.as_bytes().chunks(1) {
        connection.send(byte);
    }
    connection.read_until(b"STORED\r\nVALUE pieces 1 12\r\nhello\r\nthere\r\nEND\r\n");
    // Many at once, answered in order.
    let many: String = (0..10_000).map(|n| format!("set n 0 0 5\r\n{n:05}\r\nget n\r\n")).collect();
    let expected: String =
        (0..10_000).map(|n| format!("STORED\r\nVALUE n 0 5\r\n{n:05}\r\nEND\r\n")).collect();
    let mut writer = server.connect();
    std::thread::scope(|scope| {
        let mut reader = writer.clone_for_reading();
        scope.spawn(move || writer.send(many.as_bytes()));
        let mut text = Vec::new();
        while text.len() < expected.len() {
            text.extend_from_slice(&reader.read_some());
        }
        assert!(text == expected.as_bytes());
    });
}
