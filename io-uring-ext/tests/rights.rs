//! Descriptors that arrive in control data and that nobody takes are closed, once.
//!
//! One test, because it counts the descriptors of the process.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "a socket option by its number, and descriptors that were received")]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use common::{SOON, errno, run, until};
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, MessageLayout};
use io_uring_ext::op::{MessageBuf, RecvFlags, RecvMsg, SetSockOpt, SocketOption};
use io_uring_ext::{DatagramFd, Fd, Ring};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Open descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sends bytes and a duplicate of the socket itself.
fn send_right(socket: impl AsFd, bytes: &[u8]) {
    let fds = [socket.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let pieces = [std::io::IoSlice::new(bytes)];
    assert_eq!(sendmsg(&socket, &pieces, &mut control, SendFlags::empty()).unwrap(), bytes.len());
}

fn room() -> Box<MessageBuf<Vec<u8>>> {
    let mut room = MessageBuf::with_capacity(1);
    room.push(Vec::with_capacity(6)).unwrap();
    room.set_control_room(64);
    room
}

/// The descriptors among control data.
fn rights(mut control: &[u8]) -> Vec<OwnedFd> {
    let mut rights = Vec::new();
    while control.len() >= 16 {
        let len = usize::from_ne_bytes(*control.first_chunk().unwrap());
        for fd in control[16..len].chunks_exact(4) {
            let fd = i32::from_ne_bytes(*fd.first_chunk().unwrap());
            // SAFETY: the kernel has made it for this message.
            rights.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        control = control.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    rights
}

fn ended(ring: &Ring) {
    until("everything to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
}

#[test]
fn every_right_is_closed_or_handed_out() {
    let ring = Ring::local().unwrap();
    let before = descriptors();
    abandoned_receives(&ring);
    assert_eq!(descriptors(), before, "abandoned receives");
    abandoned_process(&ring);
    assert_eq!(descriptors(), before, "abandoned process descriptors");
    messages_in_parts(&ring);
    assert_eq!(descriptors(), before, "messages in parts");
    errors_bring_none(&ring);
    assert_eq!(descriptors(), before, "errors");
    abandoned_receivers(&ring);
    ended(&ring);
    assert_eq!(descriptors(), before, "abandoned receivers");
}

fn abandoned_receives(ring: &Ring) {
    let (a, b) = UnixStream::pair().unwrap();
    let fd = Fd::new(b);
    for _ in 0..10 {
        send_right(&a, b"right");
        let receive = ring.push(RecvMsg::new(&fd, room())).unwrap();
        until("the message", || {
            ring.submit().unwrap();
            receive.is_done()
        });
        drop(receive);
    }
}

/// `SO_PASSPIDFD` (Linux 6.5): every message brings a descriptor of its sender.
fn abandoned_process(ring: &Ring) {
    const SO_PASSPIDFD: i32 = 76;

    let (a, b) = UnixDatagram::pair().unwrap();
    let fd = Fd::new(b);
    // SAFETY: an `int`.
    let pass = unsafe { SocketOption::from_raw(libc::SOL_SOCKET, SO_PASSPIDFD) };
    if let Err(error) = run(ring, SetSockOpt::new(&fd, pass, 1)) {
        bypass_core::testing::needs::skip_because(&format!("SO_PASSPIDFD: {error}"));
        return;
    }
    for _ in 0..10 {
        a.send(b"who").unwrap();
        let receive = ring.push(RecvMsg::new(&fd, room())).unwrap();
        until("the message", || {
            ring.submit().unwrap();
            receive.is_done()
        });
        drop(receive);
    }
}

/// The kernel does not go on with a receive that has brought control data, though it was told to wait for
/// all (`io_recvmsg` in `io_uring/net.c`): the rights of a second part would hide those of the first.
fn messages_in_parts(ring: &Ring) {
    for taken in [true, false] {
        let (mut a, b) = UnixStream::pair().unwrap();
        let receive = RecvMsg::new(&Fd::new(b), room()).flags(RecvFlags::WAIT_ALL);
        send_right(&a, b"one");
        let receive = ring.push(receive).unwrap();
        ring.submit().unwrap();
        a.write_all(b"two").unwrap();
        until("the message", || {
            ring.submit().unwrap();
            receive.is_done()
        });
        if taken {
            let received = receive.wait(SOON).unwrap();
            assert_eq!(rights(received.message.control()).len(), 1, "{:?}", received.result);
        }
    }
}

/// After an error there is no control data, and not that of the message before either.
fn errors_bring_none(ring: &Ring) {
    let (a, b) = UnixStream::pair().unwrap();
    let fd = Fd::new(b);
    send_right(&a, b"right");
    let received = run(ring, RecvMsg::new(&fd, room()));
    assert_eq!(received.result.unwrap(), 5);
    assert_eq!(rights(received.message.control()).len(), 1);
    let again = RecvMsg::new(&fd, received.message).flags(RecvFlags::DONT_WAIT);
    let received = run(ring, again);
    assert_eq!(errno(received.result), libc::EAGAIN);
    assert!(received.message.control().is_empty());
}

fn abandoned_receivers(ring: &Ring) {
    let (a, b) = UnixDatagram::pair().unwrap();
    let socket = DatagramFd::new(b).unwrap();
    let buffers = BufRing::new(ring, 8, BufPool::local(256, 8).unwrap()).unwrap();
    let layout = MessageLayout::new(0, 64);
    for fetched in [false, true] {
        let mut receiver = buffers.message_receiver(&socket, layout);
        assert!(receiver.try_recv().unwrap().is_none());
        for _ in 0..4 {
            send_right(&a, b"right");
        }
        if fetched {
            // One is handed out, the others are behind it.
            let message = receiver.wait(SOON).unwrap().unwrap();
            let rights = rights(message.control());
            assert_eq!(rights.len(), 1);
            let flags = rustix::io::fcntl_getfd(&rights[0]).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        } else {
            ring.submit().unwrap();
        }
        drop(receiver);
        ended(ring);
    }
}
