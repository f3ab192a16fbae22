//! The DNS server of the examples: its rules, its answers beside those of other servers, and what other
//! programs get from it.

#![allow(clippy::print_stdout, reason = "how much was tried")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod differential;
mod mutations;
mod process;
mod properties;
mod query;
#[path = "../../examples/dns/responder/mod.rs"]
#[allow(dead_code, reason = "the program counts and prints what a test has no need of")]
mod responder;

use responder::Responder;
use responder::zone::Zone;

#[global_allocator]
static ALLOCATOR: bypass_core::testing::allocations::CountingAllocator =
    bypass_core::testing::allocations::CountingAllocator;

/// The zone that the example comes with.
const EXAMPLE: &str = include_str!("../../examples/dns/example.zone");

fn example() -> Responder {
    Responder::new(&[Zone::parse("example.com.", EXAMPLE).unwrap()]).unwrap()
}
