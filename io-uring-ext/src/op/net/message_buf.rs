//! [`MessageBuf`]: what `recvmsg` receives into.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

use super::message::{Header, Message};
use crate::buf::IoBufMut;
use crate::sys::socket_address::AddressRoom;

/// Bytes of control data that fit.
const CONTROL: usize = 256;

/// Room for a message: several buffers, the sender's address, control data (`recvmsg(2)`).
///
/// It is made once with its capacity, travels as a `Box` into the operation, comes back with the
/// result and is used again.
///
/// ```
/// use io_uring_ext::op::{MessageBuf, RecvMsg};
/// use io_uring_ext::{Fd, Ring};
/// use std::net::UdpSocket;
///
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"head and body", socket.local_addr()?)?;
///
/// let mut room = MessageBuf::with_capacity(2);
/// room.push(Vec::with_capacity(4)).unwrap();
/// room.push(Vec::with_capacity(100)).unwrap();
/// let ring = Ring::local()?;
/// let received = ring.push(RecvMsg::new(&Fd::new(socket), room))?.wait(None)?;
/// assert_eq!(received.result?, 13);
/// assert_eq!(received.message.bufs(), [&b"head"[..], b" and body"]);
/// assert_eq!(received.message.source(), Some(client.local_addr()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MessageBuf<B> {
    header: Header,
    pieces: Vec<libc::iovec>,
    bufs: Vec<B>,
    source: AddressRoom,
    control: [u64; CONTROL / 8],
    control_room: usize,
}

// SAFETY: the pointers inside lead into the message's own memory, and are only followed by the
// kernel, after `prepare` has written them.
unsafe impl<B: Send> Send for MessageBuf<B> {}

impl<B: IoBufMut> MessageBuf<B> {
    /// No buffers yet, and room for up to `buffers` of them, at most
    /// [`MAX_BUFFERS`](Message::MAX_BUFFERS).
    pub fn with_capacity(buffers: usize) -> Box<Self> {
        let buffers = buffers.clamp(1, Message::<B>::MAX_BUFFERS);
        Box::new(Self {
            header: Header::empty(),
            pieces: Vec::with_capacity(buffers),
            bufs: Vec::with_capacity(buffers),
            source: AddressRoom::new(),
            control: [0; CONTROL / 8],
            control_room: 0,
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

    /// The sender of what was received last, if it has an internet address.
    pub fn source(&self) -> Option<SocketAddr> {
        self.source.get()
    }

    /// Asks for control data, up to `bytes` of it, at most 256; none is received unless asked for.
    ///
    /// A Unix socket's peer can put open descriptors there (`SCM_RIGHTS`), with close-on-exec set:
    /// whoever asks for control data has to take them out and close them. Those of a receive whose
    /// result nobody takes are closed.
    pub fn set_control_room(&mut self, bytes: usize) {
        self.control_room = bytes.min(CONTROL);
    }

    pub(super) fn has_control_room(&self) -> bool {
        self.control_room > 0
    }

    /// The control data that was received last: whole `cmsghdr`s as `cmsg(3)` lays them out.
    pub fn control(&self) -> &[u8] {
        let received: usize = self.header.0.msg_controllen as _;
        let len = received.min(self.control_room);
        // SAFETY: inside the array, which is initialised.
        unsafe { std::slice::from_raw_parts(self.control.as_ptr().cast(), len) }
    }

    /// Notes that nothing has come: what was there before is not received once more.
    pub(super) fn failed(&mut self) {
        self.header.0.msg_controllen = 0;
    }

    /// Whether the message did not fit the buffers (`MSG_TRUNC`).
    pub fn is_truncated(&self) -> bool {
        self.header.0.msg_flags & libc::MSG_TRUNC != 0
    }

    /// Whether the control data did not fit (`MSG_CTRUNC`).
    pub fn is_control_truncated(&self) -> bool {
        self.header.0.msg_flags & libc::MSG_CTRUNC != 0
    }

    /// Points the header at everything, now that the message is where it stays.
    pub(super) fn prepare(&mut self) -> *mut libc::msghdr {
        self.pieces.clear();
        // The capacity is that of `bufs`, so this does not allocate.
        self.pieces.extend(self.bufs.iter_mut().map(|buf| libc::iovec {
            iov_base: buf.stable_mut_ptr().cast(),
            iov_len: buf.capacity(),
        }));
        self.source = AddressRoom::new();
        let header = &mut self.header.0;
        header.msg_name = self.source.address_ptr().cast();
        header.msg_namelen = AddressRoom::SIZE;
        header.msg_iov = self.pieces.as_mut_ptr();
        header.msg_iovlen = self.pieces.len() as _;
        header.msg_control = match self.control_room {
            0 => std::ptr::null_mut(),
            _ => self.control.as_mut_ptr().cast(),
        };
        header.msg_controllen = self.control_room as _;
        header.msg_flags = 0;
        &raw mut *header
    }

    /// Notes that `len` bytes have come.
    ///
    /// # Safety
    ///
    /// The kernel has written so many bytes through the header of the last
    /// [`prepare`](Self::prepare), and the buffers are the same.
    pub(super) unsafe fn received(&mut self, len: usize) {
        self.source.set_len(self.header.0.msg_namelen);
        let mut left = len;
        for (buf, piece) in self.bufs.iter_mut().zip(&self.pieces) {
            let here = left.min(piece.iov_len);
            // SAFETY: the kernel fills one piece after the other.
            unsafe { buf.set_init(here) };
            left -= here;
        }
    }
}

/// Closes the descriptors among the control data of a message that nobody will take: those that the peer
/// has sent, and those of its process, for which the socket asks by `SO_PASSPIDFD`.
///
/// # Safety
///
/// The kernel has written the control data of one received message there, and they are given to this
/// once, and to nobody else.
pub(crate) unsafe fn close_rights(control: &[u8]) {
    /// `struct cmsghdr`: a length of the size of a word, level, type.
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = WORD + 8;
    /// `include/linux/socket.h`
    const SCM_PIDFD: i32 = 4;

    let mut rest = control;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let [level, kind] = [WORD, WORD + 4].map(|at| {
            header[at..].first_chunk().map_or(0, |bytes: &[u8; 4]| i32::from_ne_bytes(*bytes))
        });
        let len = header.first_chunk().map_or(0, |bytes| usize::from_ne_bytes(*bytes));
        let Some(data) = rest.get(HEADER..len) else { return };
        if level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD) {
            let fds = data.chunks_exact(4).filter_map(|fd| fd.first_chunk());
            // In the place of a process's descriptor there may be an error number.
            for fd in fds.map(|fd| i32::from_ne_bytes(*fd)).filter(|fd| *fd >= 0) {
                // SAFETY: the kernel has just made this descriptor for the message, and nobody else
                // has seen its number.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        rest = rest.get(len.next_multiple_of(WORD)..).unwrap_or_default();
    }
}

impl<B> fmt::Debug for MessageBuf<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBuf")
            .field("bufs", &self.bufs.len())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
