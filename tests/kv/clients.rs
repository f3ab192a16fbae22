//! Clients that others have written.

use std::process::Command;

use bypass_core::testing::needs::{Need, skip, skip_because};

use super::server::{Server, lacks_cores};

/// What pymemcache is made to do; an exception ends it with an error.
const PYMEMCACHE: &str = r#"
import sys
from pymemcache.client.base import Client
c = Client(("127.0.0.1", int(sys.argv[1])), default_noreply=False)
assert c.set("a", b"1") and c.get("a") == b"1"
assert c.add("a", b"2") is False and c.replace("a", b"10") is True
assert c.append("a", b"0") and c.prepend("a", b"1") and c.get("a") == b"1100"
assert c.incr("a", 5) == 1105 and c.decr("a", 2000) == 0 and c.incr("none", 1) is None
value, cas = c.gets("a")
assert c.cas("a", b"new", cas) is True and c.cas("a", b"newer", cas) is False
assert c.cas("none", b"x", b"1") is None
assert c.touch("a", 100) and not c.touch("none", 100)
assert c.delete("a") and not c.delete("a") and c.get("a") is None
many = {"key%d" % n: b"v" * n for n in range(0, 2000, 7)}
assert c.set_many(many) == []
assert c.get_many(list(many)) == many
assert c.get_many(["none1", "key7", "none2"]) == {"key7": b"v" * 7}
big = bytes(range(256)) * 3900
assert c.set("big", big) and c.get("big") == big
c.set("later", b"x", expire=1, noreply=True)
c.set_many(many, noreply=True)
c.delete_many(list(many), noreply=True)
assert c.get("key7") is None
try:
    c.set("huge", b"x" * (1 << 20))
    raise SystemExit("no error")
except Exception as error:
    assert "too large" in str(error), error
assert c.get("big") == big
assert c.stats()[b"threads"] == int(sys.argv[2])
assert c.version().startswith(b"0.")
import time
for _ in range(100):
    if c.get("later") is None: break
    time.sleep(0.05)
else:
    raise SystemExit("it never expires")
assert c.flush_all() and c.get("big") is None
c.quit()
print("fine")
"#;

fn pymemcache_works(arguments: &[&str], shards: &str) {
    // Debian's own interpreter has Debian's packages.
    let python = "/usr/bin/python3";
    let there = Command::new(python).args(["-c", "import pymemcache"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip_because("no pymemcache");
        return;
    }
    let server = Server::kv(arguments);
    let port = server.address.port().to_string();
    let output = Command::new(python).args(["-c", PYMEMCACHE, &port, shards]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"fine\n", "{said}");
}

#[test]
fn pymemcache_works_with_kv() {
    if !skip(&[Need::IoUring]) {
        pymemcache_works(&[], "1");
    }
}

#[test]
fn pymemcache_works_with_kv_of_two_shards_and_a_log() {
    if !skip(&[Need::IoUring]) && !lacks_cores(2) {
        let scratch = super::server::Scratch::new("pymemcache");
        pymemcache_works(&["--workers", "2", "--log", scratch.path()], "2");
    }
}

#[test]
fn pymemcache_works_with_kv_behind_tokio() {
    pymemcache_works(&["--front", "tokio"], "1");
}

/// libmemcached's load generator, over TCP and UDP; it fails when a value is missing.
#[test]
fn memcslap_works_with_kv() {
    if skip(&[Need::IoUring, Need::Tool("memcslap"), Need::Tool("memccat")]) || lacks_cores(2) {
        return;
    }
    let server = Server::kv(&["--workers", "2"]);
    let servers = format!("--servers={}", server.address);
    let load = ["--concurrency=4", "--execute-number=500", "--initial-load=500", &servers];
    for test in ["--test=set", "--test=get", "--test=mget"] {
        let output = Command::new("memcslap").args(load).arg(test).output().unwrap();
        assert!(output.status.success(), "{test}: {output:?}");
    }
    let udp = Command::new("memcslap").args(load).args(["--test=set", "--udp"]).output().unwrap();
    assert!(udp.status.success(), "{udp:?}");
    server.connect().ask_until("set shown 0 0 5\r\nhello\r\n", "STORED\r\n");
    let cat = Command::new("memccat").args([&servers, "shown"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&cat.stdout).trim(), "hello");
    assert!(server.stat("handed_over") > 0 && server.stat("cmd_set") >= 4 * 500);
}
