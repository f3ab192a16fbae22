//! Operations on sockets.

mod message;
mod send;
mod zero_copy;

pub use message::Message;
pub(crate) use message::empty_header;
pub use send::{Send, SendMsg, Sent, SentMsg};
pub use zero_copy::{SendMsgZc, SendZc, ZC_THRESHOLD, ZcSent, ZcSentMsg};
