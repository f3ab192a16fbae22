//! TCP on a ring: [`TcpListener`] and [`TcpStream`].
//!
//! Thin: each method starts one operation of [`op`](crate::op) and returns its
//! [`Pending`](crate::Pending), to be waited for with `wait` or awaited. Buffers go in and come back
//! with the result.
//!
//! ```
//! use io_uring_ext::Ring;
//! use io_uring_ext::net::{TcpListener, TcpStream};
//!
//! let ring = Ring::local()?;
//! let listener = TcpListener::bind(&ring, "127.0.0.1:0".parse()?)?;
//! let mut incoming = listener.incoming();
//!
//! let client = TcpStream::connect(&ring, listener.local_addr()?)?.wait(None)?;
//! let server = incoming.wait(None)?.ok_or("nobody came")?;
//!
//! client.write(b"hello".to_vec())?.wait(None)?.result?;
//! let received = server.read(vec![0; 100])?.wait(None)?;
//! assert_eq!(received.buf, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod listener;
mod stream;

pub use listener::{TcpIncoming, TcpListener};
pub use stream::{Connecting, TcpStream};
