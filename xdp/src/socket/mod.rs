//! How queues are opened.

mod holder;
mod link;
mod mode;
mod options;
mod queue;

pub use holder::Holder;
pub(crate) use link::Link;
pub use mode::{CopyMode, Hook, Want};
pub use options::{BusyPoll, Receive, RingSizes, XdpOptions};
pub use queue::XdpQueue;
pub(crate) use queue::{Opened, Source};
