//! The XDP program: which frames go to the sockets, and which to the kernel.
//!
//! - [`ProgramOptions`] loads the program of this crate and attaches it; [`Program`] is the result.
//! - [`Filter`] names the frames that are taken; everything else goes to the kernel.
//! - [`XskMap`] says which socket serves which queue; one of another program will do as well.
//! - [`Attachment`] puts any XDP program on an interface, also one that is not from here.
//!
//! Nothing stays behind: the attachment is a `bpf_link`, which the kernel takes down with the last
//! descriptor, also after `kill -9`.
//!
//! One program at a time is on an interface, unless all of them come through libxdp's dispatcher:
//! `ProgramOptions::dispatcher`, with feature `libxdp`. The dispatcher is pinned in a BPF file system,
//! so **it stays behind after `kill -9`** (`xdp-loader unload` takes it off).
//!
//! # What is needed
//!
//! Linux 5.9 (`bpf_link` for XDP), and `CAP_BPF` with `CAP_NET_ADMIN` in the initial user namespace.
//! Sources: `Documentation/networking/af_xdp.rst`, `net/core/dev.c` (`bpf_xdp_link_attach`) and
//! `kernel/bpf/` of the kernel; `bpf(2)`.

mod attach;
mod counters;
#[cfg(feature = "libxdp")]
#[allow(unsafe_code, reason = "libxdp is a C library")]
mod dispatcher;
mod error;
mod filter;
mod hints;
mod load;
mod options;
mod owner;
mod routes;
mod running;
mod shared;
mod sockets;
#[allow(unsafe_code, reason = "what libbpf has and its safe wrapper has not")]
mod sys;
mod tables;
#[cfg(test)]
mod tests;
mod uppers;

pub use attach::Attachment;
pub use counters::Counters;
pub use error::ProgramError;
pub use filter::{Filter, Transport};
pub use hints::Hints;
pub(crate) use hints::{HINTS_LEN, take as take_hints};
pub use options::{Frags, ProgramOptions};
pub use owner::Owner;
pub use running::Program;
pub use sockets::XskMap;
