//! The data path allocates nothing.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use bypass_core::testing::allocations::{CountingAllocator, none_per_packet};
use bypass_core::testing::rig::VethOptions;
use common::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sending_receiving_and_reflecting_allocate_nothing() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (a, b) = rig.pair(hook, |_| {});
        none_per_packet(a, b);
    });
}
