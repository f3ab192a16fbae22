//! What the modules of `market_data` promise: formats, order books, gaps. Built as a test itself, the example
//! would not be there as the program that other tests run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]
#![allow(dead_code, reason = "what only the program uses")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

#[path = "../examples/market_data/book.rs"]
mod book;
#[path = "../examples/market_data/day/mod.rs"]
mod day;
#[path = "../examples/market_data/itch/mod.rs"]
mod itch;
#[path = "../examples/market_data/mold.rs"]
mod mold;
#[path = "../examples/market_data/ouch.rs"]
mod ouch;
#[path = "../examples/market_data/receiver.rs"]
mod receiver;
#[path = "../examples/market_data/sequence.rs"]
mod sequence;
#[path = "../examples/market_data/trader.rs"]
mod trader;

mod common;

#[path = "market/books.rs"]
mod books;
#[path = "market/decoded.rs"]
mod decoded;
#[path = "market/dissected.rs"]
mod dissected;
#[path = "market/formats.rs"]
mod formats;
#[path = "market/gaps.rs"]
mod gaps;
