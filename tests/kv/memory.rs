//! Clients that would have the server keep more than it has, over TCP.

use std::time::Instant;

use bypass_core::testing::needs::{Need, skip};

use super::server::{Connection, PATIENCE, Server};

/// Bytes that a shard keeps for its connections, and what it may take beside: their own, memory that lies between.
const BUDGET: u64 = 64 << 20;
const BESIDE: u64 = 32 << 20;

const TOKIO: &[&str] = &["--front", "tokio"];

/// Many clients that hold on to memory, and one with short requests, who is served all the time: until some of the
/// others have been shut out, and then until none is left.
fn held_by(front: &[&str], clients: usize, request: &[u8]) {
    // Those who have kept it for as long as this are shut out.
    let server = Server::kv(&[front, &["--patience", "0.5"]].concat());
    let mut honest = server.connect();
    let value = "v".repeat(1_000_000);
    honest.ask_until(&format!("set big 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    honest.ask_until("set small 0 0 1\r\nx\r\n", "STORED\r\n");
    let before = server.peak_memory();
    let mut holders: Vec<_> =
        (0..clients).map(|_| (server.connect().without_blocking(), 0)).collect();
    while server.stat("connections_shut_out") == 0 {
        for (holder, sent) in &mut holders {
            *sent += holder.send_some(&request[*sent..]);
        }
        let answer = honest.ask_until("get small\r\n", "END\r\n");
        assert_eq!(answer, "VALUE small 0 1\r\nx\r\nEND\r\n");
        assert!(server.stat("connection_bytes") <= BUDGET + (8 << 20));
    }
    let sent: usize = holders.iter().map(|(_, sent)| sent).sum();
    let taken = server.peak_memory() - before;
    assert!(taken < BUDGET + BESIDE, "{taken} bytes for {sent} of {clients} clients");
    // Those who have sent everything and are shut out hear why.
    let told = b"SERVER_ERROR out of memory reading request\r\n";
    let mut heard = !request.starts_with(b"set");
    let begin = Instant::now();
    while !heard {
        assert!(begin.elapsed() < PATIENCE, "nobody hears why");
        for (holder, sent) in &mut holders {
            *sent += holder.send_some(&request[*sent..]);
            heard |= *sent == request.len() && holder.read_what_is_there() == told;
        }
        honest.ask_until("get small\r\n", "END\r\n");
    }
    drop(holders);
    server.await_stat("connection_bytes", |bytes| bytes == 0);
    let again = honest.ask_until("get big\r\n", "END\r\n");
    assert_eq!(again, format!("VALUE big 0 1000000\r\n{value}\r\nEND\r\n"));
}

#[test]
fn kv_bounds_what_values_in_pieces_keep() {
    if !skip(&[Need::IoUring]) {
        values_in_pieces(&[]);
    }
}

#[test]
fn kv_behind_tokio_bounds_what_values_in_pieces_keep() {
    values_in_pieces(TOKIO);
}

fn values_in_pieces(front: &[&str]) {
    // The last thousand bytes never come.
    let request = [b"set piece 0 0 1000000\r\n".as_slice(), &vec![b'v'; 999_000]].concat();
    held_by(front, 300, &request);
}

#[test]
fn kv_bounds_what_answers_that_nobody_reads_keep() {
    if !skip(&[Need::IoUring]) {
        held_by(&[], 150, &b"get big\r\n".repeat(20));
    }
}

#[test]
fn kv_behind_tokio_bounds_what_answers_that_nobody_reads_keep() {
    held_by(TOKIO, 150, &b"get big\r\n".repeat(20));
}

/// Requests of a few bytes, each of which has an answer of thousands.
#[test]
fn kv_bounds_what_many_short_requests_ask_for() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let server = Server::kv(&[]);
    let mut connection = server.connect();
    connection.ask_until("version\r\n", "\r\n");
    let before = server.peak_memory();
    let (mut reading, requests) = (connection.clone_for_reading(), 20_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            connection.send(&[b"stats\r\n".repeat(requests), b"quit\r\n".into()].concat())
        });
        let mut text = Vec::new();
        while reading.try_read_some(&mut text) {}
        let answers = text.windows(5).filter(|window| window == b"END\r\n").count();
        assert_eq!(answers, requests);
    });
    let taken = server.peak_memory() - before;
    assert!(taken < 16 << 20, "{taken} bytes");
}

#[test]
fn kv_turns_away_more_connections_than_it_takes() {
    if !skip(&[Need::IoUring]) {
        turns_away(&[]);
    }
}

#[test]
fn kv_behind_tokio_turns_away_more_connections_than_it_takes() {
    turns_away(TOKIO);
}

fn turns_away(front: &[&str]) {
    let server = Server::kv(&[front, &["--connections", "3"]].concat());
    let mut connections: Vec<Connection> = (0..3).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.ask_until("version\r\n", "\r\n");
    }
    let (mut text, mut fourth) = (Vec::new(), server.connect());
    while fourth.try_read_some(&mut text) {}
    assert_eq!(text, b"ERROR Too many open connections\r\n");
    let stats = connections[0].ask_until("stats\r\n", "END\r\n");
    assert!(stats.contains("STAT rejected_connections 1\r\n"), "{stats}");
    // When one has gone there is room for another.
    connections.truncate(2);
    connections[0].until_stats_say("STAT curr_connections 2\r\n");
    server.connect().ask_until("version\r\n", "\r\n");
}

/// Without descriptors nobody is accepted, and those who are there are served.
#[test]
fn kv_goes_on_without_descriptors() {
    if !skip(&[Need::IoUring, Need::Tool("prlimit")]) {
        goes_on_without_descriptors(&[]);
    }
}

#[test]
fn kv_behind_tokio_goes_on_without_descriptors() {
    if !skip(&[Need::Tool("prlimit")]) {
        goes_on_without_descriptors(TOKIO);
    }
}

fn goes_on_without_descriptors(front: &[&str]) {
    // As many as it has, and two connections.
    let most = Server::kv(front).descriptors_for(2);
    let server = Server::kv_with_descriptors(most, front);
    let mut others: Vec<Connection> = (0..12).map(|_| server.connect()).collect();
    let mut there = others.remove(0);
    there.until_stats_say("STAT curr_connections 2\r\n");
    // Each that goes makes room for one that waits.
    while !others.is_empty() {
        others[0].ask_until("version\r\n", "\r\n");
        others.remove(0);
    }
    there.ask_until("version\r\n", "\r\n");
    there.until_stats_say("STAT curr_connections 1\r\n");
}
