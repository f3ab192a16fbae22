//! AF_XDP: packets between a network device's queues and the application, without the kernel's stack.

mod error;
mod port;
pub mod program;
#[allow(unsafe_code, reason = "memory that is shared with the kernel, one side of which is ours")]
mod ring;
mod socket;
mod sys;
#[allow(unsafe_code, reason = "takes chunks back that the kernel is done with")]
mod umem;

pub use error::XdpError;
pub use port::XdpPort;
pub use socket::{
    BusyPoll, CopyMode, Holder, Hook, Interface, Receive, RingSizes, Want, XdpOptions, XdpQueue,
};
pub use umem::{Umem, UmemOptions, Xdp, XdpFrame};
