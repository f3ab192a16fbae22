//! Who submits and takes completions while tasks wait for them.
//!
//! A [`Pending`](crate::Pending) is a future under any executor, but a future does not move a ring:
//! somebody has to submit what tasks have pushed, once per turn of the scheduler rather than once per
//! push, and to take completions, which wakes the tasks.
//!
//! - [`Runner`]: one thread, one [`Local`](crate::Local) ring, no runtime. It polls a future, say an
//!   executor with all its tasks, and sleeps inside `io_uring_enter`: one system call submits what was
//!   pushed, sleeps, and brings the completions.
//! - `TokioDriver` (feature `tokio`): a task beside others in tokio, which sleeps in tokio's `epoll`.
//!
//! Any other event loop drives a ring too: poll [`Ring::poll_fd`](crate::Ring::poll_fd), and call
//! [`Ring::acknowledge`](crate::Ring::acknowledge) when it is readable and
//! [`Ring::submit`](crate::Ring::submit) at the end of each turn.
//!
//! A ring that nobody drives hangs the tasks that wait for it, and nothing else: dropping them, or the
//! ring, ends their operations as always.

mod alarm;
mod runner;
mod time;
#[cfg(feature = "tokio")]
#[expect(unsafe_code, reason = "registers the ring's descriptor with tokio by its number")]
mod tokio;

/// Tasks for one thread, which a [`Runner`] runs; async-executor's.
#[cfg(feature = "executor")]
pub use async_executor::LocalExecutor;
pub use runner::Runner;
pub use time::{Sleep, TimeoutError};
#[cfg(feature = "tokio")]
pub use tokio::TokioDriver;
