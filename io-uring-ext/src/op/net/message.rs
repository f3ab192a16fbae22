//! [`Message`]: what `sendmsg` sends.

use std::fmt;
use std::net::SocketAddr;

use crate::buf::IoBuf;
use crate::sys::socket_address::RawAddress;

/// Bytes of control data in a message, at most.
const CONTROL: usize = 128;

/// A message of several buffers, with an address and control data (`sendmsg(2)`).
///
/// It is made once with its capacity, travels as a `Box` into the operation, comes back with the
/// result and is filled again, so sending allocates nothing.
///
/// ```
/// use io_uring_ext::op::{Message, SendMsg};
/// use io_uring_ext::{Fd, Ring};
/// use std::net::UdpSocket;
///
/// let receiver = UdpSocket::bind("127.0.0.1:0")?;
/// let sender = Fd::new(UdpSocket::bind("127.0.0.1:0")?);
/// let mut message = Message::with_capacity(2);
/// message.set_destination(Some(receiver.local_addr()?));
/// message.push(&b"two "[..]).unwrap();
/// message.push(&b"pieces"[..]).unwrap();
///
/// let ring = Ring::local()?;
/// let sent = ring.push(SendMsg::new(&sender, message))?.wait(None)?;
/// assert_eq!(sent.result?, 10);
/// let mut buf = [0; 16];
/// assert_eq!(receiver.recv(&mut buf)?, 10);
/// assert_eq!(&buf[..10], b"two pieces");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Message<B> {
    header: Header,
    pieces: Vec<libc::iovec>,
    bufs: Vec<B>,
    destination: RawAddress,
    control: [u64; CONTROL / 8],
    control_len: usize,
}

// SAFETY: the pointers inside lead into the message's own memory, and are only followed by the
// kernel, after `prepare` has written them.
unsafe impl<B: Send> Send for Message<B> {}

impl<B: IoBuf> Message<B> {
    /// Buffers in a message, at most: `UIO_MAXIOV`.
    pub const MAX_BUFFERS: usize = 1024;

    /// An empty message for up to `buffers` buffers, at most [`MAX_BUFFERS`](Self::MAX_BUFFERS).
    pub fn with_capacity(buffers: usize) -> Box<Self> {
        let buffers = buffers.clamp(1, Self::MAX_BUFFERS);
        Box::new(Self {
            header: Header::empty(),
            pieces: Vec::with_capacity(buffers),
            bufs: Vec::with_capacity(buffers),
            destination: RawAddress::NONE,
            control: [0; CONTROL / 8],
            control_len: 0,
        })
    }

    /// Appends a buffer.
    ///
    /// # Errors
    ///
    /// Gives it back when the message has as many as it was made for.
    pub fn push(&mut self, buf: B) -> Result<(), B> {
        if self.bufs.len() == self.bufs.capacity() {
            return Err(buf);
        }
        self.bufs.push(buf);
        Ok(())
    }

    /// The buffers, in order.
    pub fn bufs(&self) -> &[B] {
        &self.bufs
    }

    /// Takes the buffers out, in order. The capacity stays.
    pub fn drain(&mut self) -> std::vec::Drain<'_, B> {
        self.bufs.drain(..)
    }

    /// Bytes in all buffers together.
    pub fn total_len(&self) -> usize {
        self.bufs.iter().map(IoBuf::init_len).sum()
    }

    /// Where the message goes; `None` for a connected socket.
    pub fn set_destination(&mut self, destination: Option<SocketAddr>) {
        self.destination = destination.map_or(RawAddress::NONE, RawAddress::new);
    }

    /// Sets the control data: whole `cmsghdr`s as `cmsg(3)` lays them out, in at most 128 bytes.
    ///
    /// # Errors
    ///
    /// [`ControlRefused`], with what was set before left as it is.
    pub fn set_control(&mut self, control: &[u8]) -> Result<(), ControlRefused> {
        if control.len() > CONTROL {
            return Err(ControlRefused::TooLong { len: control.len(), room: CONTROL });
        }
        if carries_descriptors(control) {
            return Err(ControlRefused::Descriptors);
        }
        for (word, bytes) in self.control.iter_mut().zip(control.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        self.control_len = control.len();
        Ok(())
    }

    /// Points the header at everything, now that the message is where it stays.
    pub(super) fn prepare(&mut self) -> *const libc::msghdr {
        self.pieces.clear();
        // The capacity is that of `bufs`, so this does not allocate.
        self.pieces.extend(self.bufs.iter().map(|buf| libc::iovec {
            iov_base: buf.stable_ptr().cast_mut().cast(),
            iov_len: buf.init_len(),
        }));
        let header = &mut self.header.0;
        header.msg_name = self.destination.as_ptr().cast_mut().cast();
        header.msg_namelen = self.destination.len();
        header.msg_iov = self.pieces.as_mut_ptr();
        header.msg_iovlen = self.pieces.len() as _;
        header.msg_controllen = self.control_len as _;
        header.msg_control = match self.control_len {
            0 => std::ptr::null_mut(),
            _ => self.control.as_mut_ptr().cast(),
        };
        &raw const *header
    }
}

/// What the kernel is told of a message.
#[derive(Clone, Copy)]
pub(crate) struct Header(pub(crate) libc::msghdr);

// SAFETY: the pointers inside are followed by the kernel only.
unsafe impl Send for Header {}

impl Header {
    /// Null pointers and no lengths.
    pub(crate) const fn empty() -> Self {
        // SAFETY: all zeros is the empty header.
        Self(unsafe { std::mem::zeroed() })
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").finish_non_exhaustive()
    }
}

impl<B: IoBuf> fmt::Debug for Message<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("bufs", &self.bufs.len())
            .field("total_len", &self.total_len())
            .field("destination", &self.destination)
            .field("control_len", &self.control_len)
            .finish_non_exhaustive()
    }
}
/// Why [`Message::set_control`] did not take control data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlRefused {
    /// There is no room for so much.
    #[error("{len} bytes of control data do not fit into {room}")]
    TooLong {
        /// Bytes that were given.
        len: usize,
        /// Bytes that fit.
        room: usize,
    },
    /// It has descriptors by number (`SCM_RIGHTS`), which the message would not own: the numbers could
    /// mean other files when the kernel looks. Send them with `sendmsg(2)`, or to another ring as a
    /// message.
    #[error(
        "control data with descriptors (SCM_RIGHTS) does not own them; send them with sendmsg(2)"
    )]
    Descriptors,
}

/// Whether one of the `cmsghdr`s is `SCM_RIGHTS`, found as the kernel finds them (`CMSG_NXTHDR`).
fn carries_descriptors(mut control: &[u8]) -> bool {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const WORD: usize = size_of::<usize>();

    while let Some((len, rest)) = control.split_first_chunk::<WORD>()
        && let Some((level, rest)) = rest.split_first_chunk::<4>()
        && let Some((kind, _)) = rest.split_first_chunk::<4>()
    {
        let [level, kind] = [level, kind].map(|bytes| i32::from_ne_bytes(*bytes));
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            return true;
        }
        let len = usize::from_ne_bytes(*len);
        let next = len.max(HEADER).checked_next_multiple_of(WORD);
        let Some(next) = next.and_then(|next| control.get(next..)) else { return false };
        control = next;
    }
    false
}
