//! The raw layer that the socket backends share, io_uring's among them.
//!
//! [`Coalescer`] plans which datagrams leave as one message.

mod coalesce;

pub use coalesce::{Coalescer, Train, segments};
