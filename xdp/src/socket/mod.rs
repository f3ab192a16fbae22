//! How a queue is opened.

mod mode;

pub use mode::{Hook, Want};
