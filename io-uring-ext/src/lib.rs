//! A sound, safe layer over Linux io_uring.
//!
//! ```
//! use io_uring_ext::buf::BufPool;
//! use io_uring_ext::buf_ring::{BufRing, MessageLayout};
//! use io_uring_ext::op::Send;
//! use io_uring_ext::{DatagramFd, Ring};
//! use std::net::UdpSocket;
//! use std::time::Duration;
//!
//! // A ring for this thread, and 256 buffers from which the kernel picks when a datagram comes.
//! let ring = Ring::local()?;
//! let buffers = BufRing::new(&ring, 256, BufPool::local(2048, 512)?)?;
//!
//! let socket = UdpSocket::bind("127.0.0.1:0")?;
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! client.send_to(b"ping", socket.local_addr()?)?;
//!
//! // One submission receives every datagram from now on.
//! let socket = DatagramFd::new(socket)?;
//! let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(28, 0));
//! let message = receiver.wait(Some(Duration::from_secs(5)))?.ok_or("nothing came")?;
//! assert_eq!(message.payload(), b"ping");
//!
//! // An operation owns its buffer, and gives it back with the result.
//! let from = message.source().ok_or("no source")?;
//! let sent = ring.push(Send::to(socket.fd(), b"pong".to_vec(), from))?.wait(None)?;
//! assert_eq!(sent.result?, 4);
//! let mut answer = [0; 16];
//! assert_eq!(client.recv(&mut answer)?, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does
//!
//! - **Memory is freed when the kernel is done with it, and never before**: whatever is dropped,
//!   forgotten, cancelled or closed, in whatever order. Closing a ring's descriptor does not stop its
//!   I/O, so a dropped [`Ring`] cancels and waits for the last completion; what does not end in time is
//!   leaked and counted.
//! - **Nothing is lost**: refused operations come back whole, cancels wait for room, a full completion
//!   queue or an empty buffer ring is counted and recovered from.
//! - **Nothing is allocated per packet**: operations live in fixed places, messages and buffers travel
//!   and come back.
//! - **Refusals have a name**: [`probe::Probe`] and every error say whether it was the kernel's age, its
//!   settings, a seccomp filter or a limit.
//!
//! # What it does not do
//!
//! It is no async runtime: operations are futures under any, and [`driver`] has what moves a ring there. It runs on Linux 6.1 and later ([`Local`] rings; [`Shared`] ones from 5.19).
//! It does not let an operation borrow memory: no signature could make that sound.
//!
//! # Map
//!
//! [`Ring`] starts operations ([`op`]), alone or one after the other ([`chain`]), over descriptors ([`Fd`]) and buffers ([`buf`]); [`buf_ring`]
//! receives many times per submission, and what else completes many times is in [`multishot`];
//! [`fixed`] has what the kernel knows by number: direct descriptors and registered buffers;
//! [`driver`] is for tasks that await operations; [`chain`] has operations started one after the other,
//! and [`message`] what goes from ring to ring; [`probe`] tells what the kernel can do. With the feature
//! `packet`, which is on by default, `packet` has the backends of the bypass-io family; without it the
//! crate is the ring alone and depends on nothing of the family.

#[cfg(any(feature = "tokio", feature = "futures-io"))]
pub mod adapter;
#[expect(unsafe_code, reason = "promises that memory is stable and owned")]
pub mod buf;
#[expect(unsafe_code, reason = "lends buffers to the kernel and takes them back")]
pub mod buf_ring;
pub mod chain;
pub mod driver;
mod error;
pub mod fixed;
#[expect(unsafe_code, reason = "passes on what the operation that opens a file promises")]
pub mod fs;
#[expect(unsafe_code, reason = "promises that operations own what their entries point to")]
pub mod message;
mod mode;
#[expect(unsafe_code, reason = "promises that operations own what their entries point to")]
pub mod multishot;
pub mod net;
#[expect(unsafe_code, reason = "promises that operations own what their entries point to")]
pub mod op;
#[cfg(feature = "packet")]
pub mod packet;
pub mod probe;
mod ring;
mod sys;

pub use error::{Error, NotStarted, Result, StartError};
pub use mode::{Local, Mode, OwnedBy, Shared};
pub use op::{DatagramFd, Fd, StreamFd, Target};
pub use ring::{
    Counters, DisabledRing, EntryFlags, IoPoll, NapiBusyPoll, Pending, Restrictions, Ring,
    RingBuilder, Setup, SqPoll, Started, WaitError, WorkerLimits, leaked_operations,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
