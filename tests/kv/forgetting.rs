//! What the store forgets, and when.

use bypass_core::testing::needs::{Need, skip};

use super::server::{Scratch, Server};

/// A flush with a delay comes once, whether or not the server was killed meanwhile, and takes what was
/// there before it.
#[test]
fn kv_flushes_when_it_was_told_to() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let scratch = Scratch::new("flush");
    let log = ["--log", scratch.path()];
    for killed in [false, true] {
        let mut server = Server::kv(&log);
        let there = "STORED\r\nOK\r\nVALUE a 0 1\r\nx\r\nEND\r\n";
        let asked = "set a 0 0 1\r\nx\r\nflush_all 2\r\nget a\r\n";
        assert_eq!(server.connect().ask_until(asked, "END\r\n"), there);
        if killed {
            server.kill();
            server = Server::kv(&log);
        }
        let mut connection = server.connect();
        while connection.ask_until("get a\r\n", "END\r\n") != "END\r\n" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        connection.ask_until("set b 0 0 1\r\ny\r\n", "STORED\r\n");
        server.kill();
        let there = "VALUE b 0 1\r\ny\r\nEND\r\n";
        assert_eq!(Server::kv(&log).connect().ask_until("get a b\r\n", "END\r\n"), there);
    }
}

/// More than there is memory for: the oldest go, and the log does not bring them back.
#[test]
fn kv_evicts_what_was_used_least_recently() {
    const ITEMS: usize = 100;
    if skip(&[Need::IoUring]) {
        return;
    }
    let scratch = Scratch::new("evictions");
    for log in [&[][..], &["--log", scratch.path()]] {
        let memory = [&["--memory", "4"], log].concat();
        let mut server = Server::kv(&memory);
        let mut connection = server.connect();
        let value = "v".repeat(100_000);
        for number in 0..ITEMS {
            connection.ask_until(&format!("set k{number} 0 0 100000\r\n{value}\r\n"), "STORED\r\n");
        }
        assert_eq!(server.stat("limit_maxbytes"), 4 << 20);
        let (items, evicted) = (server.stat("curr_items"), server.stat("evictions"));
        assert_eq!(items + evicted, ITEMS as u64);
        assert!((20..=41).contains(&items), "{items} items of 100 kB in 4 MiB");
        if !log.is_empty() {
            server.kill();
            server = Server::kv(&memory);
            assert_eq!(server.stat("curr_items"), items);
        }
        let mut connection = server.connect();
        for number in 0..ITEMS {
            let there = connection.ask_until(&format!("get k{number}\r\n"), "END\r\n") != "END\r\n";
            assert_eq!(there, number >= ITEMS - items as usize, "k{number}");
        }
    }
}
