//! [`RecvBatch`]: messages for `recvmmsg(2)`, allocated once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use super::fixed::Fixed;
use super::{CONTROL_ROOM, ControlBuffer, Name};

/// Slots into which a socket receives: each a piece of memory for data, given by the owner of the
/// batch, with room for the sender's name and for control messages.
pub struct RecvBatch {
    headers: Fixed<libc::mmsghdr>,
    names: Fixed<Name>,
    controls: Fixed<ControlBuffer>,
    data: Fixed<libc::iovec>,
}

/// What was received into a slot.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Bytes of data in the slot.
    pub len: usize,
    /// `MSG_TRUNC`: there was more data. `MSG_CTRUNC`: there were more control messages.
    pub flags: i32,
    /// The sender's name.
    pub name: &'a Name,
    /// Bytes in it.
    pub name_len: u32,
    /// The control messages; see [`decode`](super::decode).
    pub control: &'a [u8],
}

impl Message<'_> {
    /// Whether the packet was longer than the slot, or what was said beside it did not fit: among
    /// that could be the size of the segments, without which a train is not to be understood.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
    }
}

impl RecvBatch {
    /// A batch of `slots` slots, without memory for data yet.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let mut batch = Self {
            headers: Fixed::new(super::EMPTY_HEADER, slots),
            names: Fixed::new(Name::default(), slots),
            controls: Fixed::new(ControlBuffer::default(), slots),
            data: Fixed::new(libc::iovec { iov_base: null_mut(), iov_len: 0 }, slots),
        };
        for slot in 0..slots {
            let header = &mut batch.headers[slot].msg_hdr;
            header.msg_name = batch.names.address(slot).cast();
            header.msg_control = batch.controls.address(slot).cast();
            header.msg_iov = batch.data.address(slot);
            header.msg_iovlen = 1;
            batch.rewind(slot);
        }
        batch
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Makes `len` bytes at `data` the memory of `slot`, to be written by the next
    /// [`recv`](Self::recv) that covers it.
    ///
    /// # Safety
    ///
    /// At every later [`recv`](Self::recv) that covers the slot, until other memory is posted there,
    /// the bytes must be valid for writes and used by nobody else.
    #[inline]
    pub unsafe fn post(&mut self, slot: usize, data: *mut u8, len: usize) {
        self.data[slot] = libc::iovec { iov_base: data.cast(), iov_len: len };
        self.rewind(slot);
    }

    /// Receives into up to `n` slots from `first` on, without blocking, and returns how many were
    /// filled.
    ///
    /// # Errors
    ///
    /// The kernel's (`EAGAIN`: there is nothing).
    ///
    /// # Panics
    ///
    /// When there are no such slots.
    pub fn recv(&mut self, socket: BorrowedFd<'_>, first: usize, n: usize) -> io::Result<usize> {
        let end = first.checked_add(n).filter(|end| first < *end && *end <= self.slots());
        assert!(end.is_some(), "slots {first} to {first}+{n} of {}", self.slots());
        let headers = self.headers.address(first);
        let (fd, n) = (socket.as_raw_fd(), n as u32);
        // SAFETY: `n` headers from here on are in bounds. Their names and controls lie in the batch
        // and are borrowed mutably with it, and no header tells of more room than there is (see
        // below); the data is free to write by the contract of `post`, or of length zero where
        // nothing was posted.
        let n = unsafe { libc::recvmmsg(fd, headers, n, libc::MSG_DONTWAIT as _, null_mut()) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        for slot in first..first + n {
            // The kernel tells the length that a longer name would have had (`recvmsg(2)`), which
            // the next call would take for the room that there is.
            let len = &mut self.headers[slot].msg_hdr.msg_namelen;
            *len = Name::ROOM.min(*len);
        }
        Ok(n)
    }

    /// What the last [`recv`](Self::recv) filled `slot` with; meaningless if it did not.
    #[must_use]
    #[inline]
    pub fn message(&self, slot: usize) -> Message<'_> {
        let header = &self.headers[slot];
        let control_len = CONTROL_ROOM.min(header.msg_hdr.msg_controllen as _);
        Message {
            len: header.msg_len as usize,
            flags: header.msg_hdr.msg_flags,
            name: &self.names[slot],
            name_len: header.msg_hdr.msg_namelen,
            control: &self.controls[slot].0[..control_len],
        }
    }

    /// Sets what the kernel overwrites.
    fn rewind(&mut self, slot: usize) {
        let header = &mut self.headers[slot];
        header.msg_len = 0;
        header.msg_hdr.msg_namelen = Name::ROOM;
        header.msg_hdr.msg_controllen = CONTROL_ROOM as _;
        header.msg_hdr.msg_flags = 0;
    }
}

impl std::fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecvBatch").field("slots", &self.slots()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn what_did_not_fit_is_told_and_the_next_message_is_unharmed() {
        let (from, to) = UnixDatagram::pair().unwrap();
        // More descriptors than fit in the room for control messages.
        let descriptors = [from.as_fd(); 100];
        let mut space = [MaybeUninit::uninit(); 1024];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&from, &[IoSlice::new(b"many")], &mut control, SendFlags::empty()).unwrap();
        from.send(b"longer than the slot").unwrap();
        from.send(b"fits").unwrap();

        let mut batch = RecvBatch::new(3);
        let mut memory = [[0u8; 8]; 3];
        for (slot, memory) in memory.iter_mut().enumerate() {
            // SAFETY: the memory outlives the batch, and nobody looks at it before `recv` is done.
            unsafe { batch.post(slot, memory.as_mut_ptr(), memory.len()) };
        }
        assert_eq!(batch.recv(to.as_fd(), 0, 3).unwrap(), 3);
        let truncated = [0, 1, 2].map(|slot| batch.message(slot).is_truncated());
        assert_eq!(truncated, [true, true, false]);
        assert_eq!([0, 1, 2].map(|slot| batch.message(slot).len), [4, 8, 4]);
        assert_eq!(batch.recv(to.as_fd(), 0, 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(&memory[2][..4], b"fits");
    }

    #[test]
    fn a_name_longer_than_its_room_never_leaves_it() {
        // Abstract names, which no file system holds.
        let name = format!("{:x>90}", std::process::id());
        let from =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let here = SocketAddr::from_abstract_name(format!("{name}+")).unwrap();
        let to = UnixDatagram::bind_addr(&here).unwrap();
        let mut batch = RecvBatch::new(2);
        for _ in 0..3 {
            from.send_to_addr(b"x", &here).unwrap();
            assert_eq!(batch.recv(to.as_fd(), 0, 1).unwrap(), 1);
            assert_eq!(batch.message(0).name_len, Name::ROOM);
            let neighbour = Name::default();
            assert_eq!(format!("{:?}", batch.names[1]), format!("{neighbour:?}"), "overwritten");
        }
    }

    #[test]
    fn slots_that_wrap_around_are_none() {
        let socket = UnixDatagram::unbound().unwrap();
        let mut batch = RecvBatch::new(4);
        for (first, n) in [(4, 1), (1, 4), (0, 0), (1, usize::MAX), (usize::MAX, 2)] {
            let receive = std::panic::AssertUnwindSafe(|| batch.recv(socket.as_fd(), first, n));
            assert!(std::panic::catch_unwind(receive).is_err(), "{first} {n}");
        }
    }
}
