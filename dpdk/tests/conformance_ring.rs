//! The conformance suite on `net_ring`, in ordinary memory: needs no privilege.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use bypass_core::testing::conformance;
use common::*;

fn conform() {
    let pools = [pool(4095), pool(4095)];
    conformance::packets(|| crossed(&pools)).assert();
    for pool in pools {
        assert_eq!(pool.in_use(), 0, "every mbuf is home");
    }
}

#[test]
fn queues_conform() {
    conform();
}

#[test]
fn queues_of_a_registered_thread_conform() {
    let _registration = eal().register_thread().unwrap();
    conform();
}
