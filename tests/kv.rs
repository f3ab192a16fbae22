//! The key-value store, against programs that others have written: the clients pymemcache and libmemcached,
//! and memcached itself, which is asked the same.

#![cfg(feature = "io-uring")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

mod common;

mod kv {
    pub(crate) mod clients;
    pub(crate) mod crashes;
    pub(crate) mod forgetting;
    pub(crate) mod memory;
    pub(crate) mod same_answers;
    pub(crate) mod server;
    pub(crate) mod udp;
}
