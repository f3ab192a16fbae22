//! Operations on sockets.

mod accept;
mod connect;
mod direct;
mod flags;
mod message;
mod message_buf;
mod option;
mod recv;
mod send;
mod zero_copy;

pub(crate) use accept::take_fd;
pub use accept::{Accept, Accepted, Socket};
pub use connect::{Bind, Connect, Listen, Shutdown};
pub use direct::{AcceptFixed, AcceptedFixed, SocketFixed};
pub use flags::{RecvFlags, SendFlags};
pub(crate) use message::Header;
pub use message::{ControlRefused, Message};
pub use message_buf::MessageBuf;
pub(crate) use message_buf::close_rights;
pub use option::{GetSockOpt, SetSockOpt, SocketOption};
pub use recv::{Received, ReceivedFrom, ReceivedMsg, Recv, RecvFrom, RecvMsg};
pub use send::{Send, SendMsg, Sent, SentMsg};
pub use zero_copy::{SendAuto, SendMsgZc, SendZc, ZC_THRESHOLD, ZcSent, ZcSentMsg};
