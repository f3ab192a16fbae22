//! [`SendBatch`]: messages for `sendmmsg(2)`, allocated once.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use super::fixed::Fixed;
use super::{ControlBuffer, Family, Name, Train, encode};

/// Memory for a batch of outgoing messages.
///
/// ```
/// use std::net::UdpSocket;
/// use std::os::fd::AsFd;
///
/// use bypass_core::sys::SendBatch;
///
/// let receiver = UdpSocket::bind("127.0.0.1:0")?;
/// let sender = UdpSocket::bind("127.0.0.1:0")?;
/// sender.connect(receiver.local_addr()?)?;
/// let (mut batch, data) = (SendBatch::new(8, 8), [1, 2, 3]);
/// let mut outgoing = batch.fill();
/// outgoing.push([&data[..1]]);
/// outgoing.push([&data[1..]]);
/// assert_eq!(outgoing.send(sender.as_fd())?, 2);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SendBatch {
    headers: Fixed<libc::mmsghdr>,
    names: Fixed<Name>,
    controls: Fixed<ControlBuffer>,
    parts: Fixed<libc::iovec>,
}

impl SendBatch {
    /// Room for `messages` messages of `parts` parts together.
    #[must_use]
    pub fn new(messages: usize, parts: usize) -> Self {
        let mut batch = Self {
            headers: Fixed::new(super::EMPTY_HEADER, messages),
            names: Fixed::new(Name::default(), messages),
            controls: Fixed::new(ControlBuffer::default(), messages),
            parts: Fixed::new(libc::iovec { iov_base: null_mut(), iov_len: 0 }, parts),
        };
        for i in 0..messages {
            // Those of length zero are none.
            let header = &mut batch.headers[i].msg_hdr;
            header.msg_name = batch.names.address(i).cast();
            header.msg_control = batch.controls.address(i).cast();
        }
        batch
    }

    /// Begins a batch of messages whose data lives as long as `'data`.
    pub fn fill<'data>(&mut self) -> Outgoing<'_, 'data> {
        Outgoing { batch: self, messages: 0, sent: 0, parts: 0, data: PhantomData }
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (messages, parts) = (self.headers.len(), self.parts.len());
        f.debug_struct("SendBatch").field("messages", &messages).field("parts", &parts).finish()
    }
}

/// A [`SendBatch`] being filled and sent.
#[derive(Debug)]
pub struct Outgoing<'batch, 'data> {
    batch: &'batch mut SendBatch,
    messages: usize,
    sent: usize,
    parts: usize,
    data: PhantomData<&'data [u8]>,
}

impl<'data> Outgoing<'_, 'data> {
    /// Appends a message that goes where the socket is bound or connected to. Answers false, and
    /// appends nothing, when the batch has no room for it.
    pub fn push(&mut self, parts: impl IntoIterator<Item = &'data [u8]>) -> bool {
        self.push_with(parts, |_, _| Some((0, 0)))
    }

    /// Appends a message that goes where `train` says, or where the socket is connected to when
    /// `named` is false. Answers false, and appends nothing, when the batch has no room for it or
    /// a socket of `family` cannot name the destination.
    #[inline]
    pub fn push_train(
        &mut self,
        train: &Train,
        family: Family,
        named: bool,
        parts: impl IntoIterator<Item = &'data [u8]>,
    ) -> bool {
        self.push_with(parts, |name, control| {
            let name = match train.transmit.destination {
                Some(destination) if named => name.set_inet(destination, family)?,
                _ => 0,
            };
            Some((name, encode(control, &train.transmit, train.segment_size)))
        })
    }

    /// How many messages wait to be sent.
    #[must_use]
    pub fn left(&self) -> usize {
        self.messages - self.sent
    }

    /// Sends what is left, without blocking (`MSG_DONTWAIT`), and returns how many messages the
    /// kernel took; those that it did not take are left.
    ///
    /// # Errors
    ///
    /// What the kernel says of the first message that is left (`EAGAIN`: no room now).
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        if self.left() == 0 {
            return Ok(0);
        }
        let headers = self.batch.headers.address(self.sent);
        let (fd, n) = (socket.as_raw_fd(), self.left() as u32);
        // SAFETY: `push_with` has filled the `n` headers from here on. Their names, controls and
        // parts lie in the batch, which is borrowed; the data that the parts point to is borrowed
        // for `'data`, which `self` does not outlive. The kernel only reads it, and only now.
        let sent =
            unsafe { libc::sendmmsg(fd, headers, n, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        self.sent += sent;
        Ok(sent)
    }

    /// `address` writes name and control and answers their lengths, or `None` to refuse.
    #[inline]
    fn push_with(
        &mut self,
        parts: impl IntoIterator<Item = &'data [u8]>,
        address: impl FnOnce(&mut Name, &mut ControlBuffer) -> Option<(u32, usize)>,
    ) -> bool {
        let (i, first) = (self.messages, self.parts);
        if i == self.batch.headers.len() {
            return false;
        }
        let mut end = first;
        for part in parts {
            if end == self.batch.parts.len() {
                return false;
            }
            let iov_base = part.as_ptr().cast_mut().cast();
            self.batch.parts[end] = libc::iovec { iov_base, iov_len: part.len() };
            end += 1;
        }
        let (name, control) = (&mut self.batch.names[i], &mut self.batch.controls[i]);
        let Some((name_len, control_len)) = address(name, control) else { return false };
        let header = &mut self.batch.headers[i].msg_hdr;
        header.msg_namelen = name_len;
        header.msg_controllen = control_len as _;
        header.msg_iovlen = (end - first) as _;
        if end > first {
            header.msg_iov = self.batch.parts.address(first);
        }
        self.messages += 1;
        self.parts = end;
        true
    }
}
