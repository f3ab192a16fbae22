//! Killed at any moment, the store loses nothing that it has acknowledged and shows nothing that was not
//! written.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bypass_core::testing::needs::{Need, skip};

use super::server::{Connection, Scratch, Server, lacks_cores};
use super::udp::framed;

/// How often it is killed.
const KILLS: usize = 100;
/// Clients at the same time, each with keys of its own: on connections, and one that sends datagrams.
const CLIENTS: [&str; 4] = ["one", "two", "three", DATAGRAMS];
const DATAGRAMS: &str = "udp";
const KEYS: u64 = 40;
/// Requests of a client at the same time.
const UNDER_WAY: usize = 8;

/// What a client knows of one of its keys: the numbers of writes, 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The last that was acknowledged; `None` is a delete.
    acknowledged: Option<u64>,
    /// The one that was under way when the server was killed, if any.
    under_way: Option<Option<u64>>,
}

/// What a write puts there: everybody can say, so everybody can verify. A datagram takes 1 KiB.
fn value(key: &str, number: u64) -> Vec<u8> {
    let shift = if key.starts_with(DATAGRAMS) { 54 } else { 53 };
    let length = 8 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize;
    let seed = format!("{number} of {key};");
    seed.bytes().cycle().take(length.max(seed.len())).collect()
}

struct Client {
    name: &'static str,
    known: HashMap<String, Known>,
    next: u64,
    acknowledged: u64,
}

/// A write of a key, or its deletion.
struct Request {
    key: String,
    write: Option<u64>,
}

impl Request {
    fn text(&self) -> Vec<u8> {
        let Self { key, write } = self;
        let Some(number) = *write else { return format!("delete {key}\r\n").into_bytes() };
        let value = value(key, number);
        let line = format!("set {key} 0 0 {}\r\n", value.len());
        [line.as_bytes(), &value, b"\r\n"].concat()
    }
}

impl Client {
    fn new(name: &'static str) -> Self {
        Self { name, known: HashMap::new(), next: 0, acknowledged: 0 }
    }

    /// The next requests, each for another key. They are under way from now on.
    fn requests(&mut self) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        while requests.len() < UNDER_WAY {
            self.next += 1;
            let number = self.next;
            let key = format!("{}{}", self.name, (number * 7919) % KEYS);
            if requests.iter().any(|other| other.key == key) {
                continue;
            }
            let write = (!number.is_multiple_of(5)).then_some(number);
            self.known.entry(key.clone()).or_default().under_way = Some(write);
            requests.push(Request { key, write });
        }
        requests
    }

    /// Takes an answer.
    fn answered(&mut self, Request { key, write }: Request, line: &[u8]) {
        let right: &[&[u8]] = match write {
            Some(_) => &[b"STORED\r\n"],
            None => &[b"DELETED\r\n", b"NOT_FOUND\r\n"],
        };
        assert!(right.contains(&line), "{}", String::from_utf8_lossy(line));
        self.known.insert(key, Known { acknowledged: write, under_way: None });
        self.acknowledged += 1;
    }

    /// Writes until the server is gone, with several requests under way.
    fn write_until_killed(&mut self, mut connection: Connection) {
        loop {
            let requests = self.requests();
            let texts: Vec<_> = requests.iter().map(Request::text).collect();
            let mut answers = Vec::new();
            let mut alive = connection.try_send(&texts.concat()).is_ok();
            for request in requests {
                // Answers come one by one or together; each is one line.
                while alive && !answers.contains(&b'\n') {
                    alive = connection.try_read_some(&mut answers);
                }
                let Some(end) = answers.iter().position(|&byte| byte == b'\n') else { return };
                let line: Vec<u8> = answers.drain(..=end).collect();
                self.answered(request, &line);
            }
        }
    }

    /// The same in datagrams, whose answers come in any order.
    fn send_until_killed(&mut self, socket: &UdpSocket, killed: &AtomicBool) {
        // Nobody says that the server has gone to who only waits for an answer.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        loop {
            let mut requests: Vec<_> = self.requests().into_iter().map(Some).collect();
            for (number, request) in requests.iter().flatten().enumerate() {
                if socket.send(&framed(number as u16, &request.text())).is_err() {
                    return;
                }
            }
            while requests.iter().any(Option::is_some) {
                let mut answer = [0; 64];
                let Ok(length) = socket.recv(&mut answer) else {
                    if killed.load(Ordering::Relaxed) {
                        return;
                    }
                    continue;
                };
                let number = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
                let request = requests[number].take().unwrap();
                self.answered(request, &answer[8..length]);
            }
        }
    }

    /// Holds what the server has against what it acknowledged.
    fn verify(&mut self, connection: &mut Connection) {
        for (key, known) in &mut self.known {
            connection.send(format!("get {key}\r\n").as_bytes());
            let text = connection.read_until(b"END\r\n");
            let holds = |number: Option<u64>| match number {
                None => text == b"END\r\n",
                Some(number) => {
                    let value = value(key, number);
                    let line = format!("VALUE {key} 0 {}\r\n", value.len());
                    text == [line.as_bytes(), &value, b"\r\nEND\r\n"].concat()
                }
            };
            let under_way = known.under_way.take();
            let found =
                [Some(known.acknowledged), under_way].into_iter().flatten().find(|&n| holds(n));
            let Some(found) = found else {
                let text = String::from_utf8_lossy(&text);
                panic!(
                    "{key} is {text:?}; acknowledged {:?}, under way {under_way:?}",
                    known.acknowledged
                );
            };
            known.acknowledged = found;
        }
    }
}

#[test]
fn kv_loses_nothing_acknowledged_in_a_hundred_kills() {
    if skip(&[Need::IoUring]) || lacks_cores(2) {
        return;
    }
    let scratch = Scratch::new("kills");
    // So small a limit that most lives make a snapshot.
    let log = ["--log", scratch.path(), "--compact", "0.3", "--memory", "16", "--workers", "2"];
    let mut clients = CLIENTS.map(Client::new);
    let (mut chance, mut snapshots) = (0x2545_f491_4f6c_dd1d_u64, 0);
    for _ in 0..KILLS {
        let server = Server::kv(&log);
        let mut connection = server.connect();
        clients.iter_mut().for_each(|client| client.verify(&mut connection));
        // xorshift64
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let life = Duration::from_micros(10_000 + chance % 150_000);
        let killed = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in &mut clients {
                if client.name == DATAGRAMS {
                    let socket = server.datagrams();
                    scope.spawn(move || client.send_until_killed(&socket, killed));
                } else {
                    let connection = server.connect();
                    scope.spawn(move || client.write_until_killed(connection));
                }
            }
            std::thread::sleep(life);
            server.kill();
            killed.store(true, Ordering::Relaxed);
            let shard = std::fs::read_dir(scratch.0.join("shard-0-of-2")).unwrap();
            let names = shard.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            snapshots += usize::from(names.into_iter().any(|name| name.starts_with("snapshot-")));
        });
    }
    for Client { name, acknowledged, .. } in clients {
        assert!(acknowledged > KILLS as u64 * 3, "only {acknowledged} writes of {name} are there");
    }
    assert!(snapshots > 5, "only {snapshots} lives ended with a snapshot");
}

/// What is acknowledged within the interval may go; what is older may not.
#[test]
fn kv_loses_no_more_than_the_interval() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let scratch = Scratch::new("interval");
    let log = ["--log", scratch.path(), "--sync", "interval", "--interval", "50"];
    let server = Server::kv(&log);
    let mut connection = server.connect();
    for number in 0..1000 {
        connection.ask_until(&format!("set old{number} 0 0 3\r\nold\r\n"), "STORED\r\n");
    }
    server.await_commit(&mut connection);
    server.kill();
    let server = Server::kv(&log);
    let mut connection = server.connect();
    for number in 0..1000 {
        connection.ask_until(&format!("get old{number}\r\n"), "old\r\nEND\r\n");
    }
}

/// A snapshot is made while requests are served, and the next start reads it and what came after.
#[test]
fn kv_makes_snapshots_under_load() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let scratch = Scratch::new("snapshots");
    let log = ["--log", scratch.path(), "--sync", "interval", "--interval", "5", "--compact", "2"];
    let server = Server::kv(&log);
    let mut connection = server.connect();
    let begin = Instant::now();
    let mut number = 0_u64;
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.await_stat("log_snapshots", |n| n >= 3);
            enough.store(true, Ordering::Relaxed);
        });
        while !enough.load(Ordering::Relaxed) {
            assert!(begin.elapsed() < Duration::from_secs(30), "no snapshot is made");
            let batch: String = (0..100)
                .map(|_| {
                    number += 1;
                    let key = number % 5000;
                    format!("set k{key} 0 0 200\r\n{number:0200}\r\n")
                })
                .collect();
            connection.ask_until(&batch, &"STORED\r\n".repeat(100));
        }
    });
    server.await_commit(&mut connection);
    server.kill();
    let server = Server::kv(&log);
    let mut connection = server.connect();
    for last in number.saturating_sub(4999).max(1)..=number {
        let expected = format!("VALUE k{} 0 200\r\n{last:0200}\r\nEND\r\n", last % 5000);
        assert_eq!(connection.ask_until(&format!("get k{}\r\n", last % 5000), "END\r\n"), expected);
    }
}
