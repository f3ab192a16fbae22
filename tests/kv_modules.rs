//! The tests that stand in the modules of the key-value store. Built as a test itself, the example would not be
//! there as the program that other tests run.

#![cfg(feature = "io-uring")]
#![allow(clippy::print_stderr, reason = "an example talks to its user")]
#![allow(dead_code, reason = "what only the program uses")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

#[path = "../examples/kv/log/mod.rs"]
mod log;
#[path = "../examples/kv/protocol/mod.rs"]
mod protocol;
#[path = "../examples/kv/server/mod.rs"]
mod server;
#[path = "../examples/kv/shard.rs"]
mod shard;
#[path = "../examples/kv/stats.rs"]
mod stats;
#[path = "../examples/kv/store/mod.rs"]
mod store;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
