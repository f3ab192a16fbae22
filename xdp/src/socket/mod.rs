//! How queues are opened.

mod convert;
mod holder;
mod interface;
mod mode;
mod options;
mod queue;
mod refusal;
mod udp;

pub use holder::Holder;
pub use interface::Interface;
pub use mode::{CopyMode, Hook, Want};
pub use options::{NapiBusyPoll, Receive, RingSizes, XdpOptions};
pub use queue::XdpQueue;
pub(crate) use queue::{Opened, Source};
