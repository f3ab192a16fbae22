//! Sockets from their making to their end, each operation with what it does and how it fails.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown as How, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use common::{SOON, until};
use io_uring_ext::op::{
    Accept, Bind, Connect, GetSockOpt, Listen, MessageBuf, Read, Recv, RecvFlags, RecvFrom,
    RecvMsg, Send, SendFlags, SetSockOpt, Shutdown, Socket, SocketOption,
};
use io_uring_ext::{Fd, Ring};

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn local_address(socket: &impl AsFd) -> SocketAddr {
    socket2::SockRef::from(socket).local_addr().unwrap().as_socket().unwrap()
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn a_connection_is_made_used_and_ended_by_operations_alone() {
    let ring = Ring::local().unwrap();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let address: SocketAddr = address.parse().unwrap();
        let listener =
            Fd::new(ring.push(Socket::tcp(&address)).unwrap().wait(SOON).unwrap().unwrap());
        ring.push(Bind::new(&listener, address)).unwrap().wait(SOON).unwrap().unwrap();
        ring.push(Listen::new(&listener, 16)).unwrap().wait(SOON).unwrap().unwrap();
        let address = local_address(&listener);

        let accept = ring.push(Accept::new(&listener).poll_first()).unwrap();
        let client =
            Fd::new(ring.push(Socket::tcp(&address)).unwrap().wait(SOON).unwrap().unwrap());
        ring.push(Connect::new(&client, address)).unwrap().wait(SOON).unwrap().unwrap();
        let accepted = accept.wait(SOON).unwrap().unwrap();
        assert_eq!(accepted.peer, Some(local_address(&client)));
        let server = Fd::new(accepted.socket);

        let recv = ring.push(Recv::new(&server, vec![0; 100]).poll_first()).unwrap();
        let sent = ring.push(Send::new(&client, "question").poll_first()).unwrap();
        assert_eq!(sent.wait(SOON).unwrap().result.unwrap(), 8);
        assert_eq!(recv.wait(SOON).unwrap().buf, b"question");

        ring.push(Shutdown::new(&client, How::Write)).unwrap().wait(SOON).unwrap().unwrap();
        let end = ring.push(Recv::new(&server, vec![0; 100])).unwrap().wait(SOON).unwrap();
        assert_eq!((end.result.unwrap(), end.buf.len()), (0, 0));
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn each_operation_fails_with_the_kernels_own_word() {
    let ring = Ring::local().unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();

    let made = ring.push(Socket::new(libc::AF_INET, 99, 0)).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(made), Some(libc::EINVAL));

    let taken = TcpListener::bind(address).unwrap();
    let socket = Fd::new(ring.push(Socket::tcp(&address)).unwrap().wait(SOON).unwrap().unwrap());
    let bound = ring.push(Bind::new(&socket, taken.local_addr().unwrap())).unwrap();
    assert_eq!(errno(bound.wait(SOON).unwrap()), Some(libc::EADDRINUSE));

    let (unix, _other) = UnixStream::pair().unwrap();
    let listened = ring.push(Listen::new(&Fd::new(unix), 1)).unwrap();
    assert_eq!(errno(listened.wait(SOON).unwrap()), Some(libc::EINVAL));

    let accepted = ring.push(Accept::new(&socket)).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(accepted), Some(libc::EINVAL), "it does not listen");

    let nobody = taken.local_addr().unwrap();
    drop(taken);
    let connected = ring.push(Connect::new(&socket, nobody)).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(connected), Some(libc::ECONNREFUSED));

    let shut = ring.push(Shutdown::new(&socket, How::Both)).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(shut), Some(libc::ENOTCONN));

    let (reader, _writer) = common::pipe();
    let received = ring.push(Recv::new(&Fd::new(reader), vec![7; 4])).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(received.result), Some(libc::ENOTSOCK));
    assert_eq!(received.buf, [7; 4], "a receive that failed changes nothing");
}

#[test]
fn flags_say_how_to_receive() {
    let ring = Ring::local().unwrap();
    let (near, mut far) = tcp_pair();
    let near = Fd::new(near);
    let nothing = ring.push(Recv::new(&near, vec![0; 4]).flags(RecvFlags::DONT_WAIT)).unwrap();
    assert_eq!(errno(nothing.wait(SOON).unwrap().result), Some(libc::EAGAIN));

    far.write_all(b"twice").unwrap();
    for flags in [RecvFlags::PEEK, RecvFlags::empty()] {
        let got = ring.push(Recv::new(&near, vec![0; 10]).flags(flags)).unwrap();
        assert_eq!(got.wait(SOON).unwrap().buf, b"twice");
    }

    // Without the flag the first byte would complete it.
    let mut all = ring.push(Recv::new(&near, vec![0; 3000]).flags(RecvFlags::WAIT_ALL)).unwrap();
    for part in 0..3_u8 {
        all = match all.wait(Some(std::time::Duration::from_millis(5))) {
            Err(io_uring_ext::WaitError::TimedOut(all)) => all,
            other => panic!("it did not wait for all: {other:?}"),
        };
        far.write_all(&[part; 1000]).unwrap();
    }
    let got = all.wait(SOON).unwrap();
    assert_eq!(got.result.unwrap(), 3000);
    assert_eq!(got.buf, [[0; 1000], [1; 1000], [2; 1000]].concat());

    // Bits that the type does not name do not reach the kernel: this one would count bytes that it
    // never wrote.
    far.write_all(b"cut").unwrap();
    let sneaked = RecvFlags::from_bits_retain(libc::MSG_TRUNC);
    let got = ring.push(Recv::new(&near, vec![0; 10]).flags(sneaked)).unwrap();
    assert_eq!(got.wait(SOON).unwrap().buf, b"cut");
}

#[test]
fn a_send_that_waits_for_all_sends_all() {
    const SIZE: usize = 8 << 20;
    let ring = Ring::local().unwrap();
    let (near, mut far) = tcp_pair();
    let data: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let sent =
        ring.push(Send::new(&Fd::new(near), data.clone()).flags(SendFlags::WAIT_ALL)).unwrap();
    ring.submit().unwrap();
    assert!(!sent.is_done(), "more than any socket buffer holds");
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; SIZE];
        far.read_exact(&mut got).map(|()| got)
    });
    assert_eq!(sent.wait(SOON).unwrap().result.unwrap(), SIZE);
    assert!(reader.join().unwrap().unwrap() == data);
}

#[test]
fn a_datagram_says_where_it_is_from_and_whether_it_fits() {
    let ring = Ring::local().unwrap();
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let socket = UdpSocket::bind(local).unwrap();
        let client = UdpSocket::bind(local).unwrap();
        let (to, from) = (socket.local_addr().unwrap(), client.local_addr().unwrap());
        let socket = Fd::new(socket);
        client.send_to(b"fits", to).unwrap();
        let got = ring.push(RecvFrom::new(&socket, vec![0; 10])).unwrap().wait(SOON).unwrap();
        assert_eq!((got.result.unwrap(), got.from, got.truncated), (4, Some(from), false));
        assert_eq!(got.buf, b"fits");
        client.send_to(b"does not fit", to).unwrap();
        let got = ring.push(RecvFrom::new(&socket, got.buf)).unwrap().wait(SOON).unwrap();
        assert_eq!((got.result.unwrap(), got.truncated), (10, true));
        assert_eq!(got.buf, b"does not f");
        client.send_to(b"does not fit", to).unwrap();
        let got = ring.push(RecvFrom::new(&socket, Vec::with_capacity(8).into_boxed_slice()));
        let got = got.unwrap().wait(SOON).unwrap();
        assert_eq!((got.result.unwrap(), got.truncated), (0, true), "a boxed slice of nothing");
    }
    let (near, far) = UnixDatagram::pair().unwrap();
    far.send(b"nameless").unwrap();
    let got = ring.push(RecvFrom::new(&Fd::new(near), vec![0; 8])).unwrap().wait(SOON).unwrap();
    assert_eq!((got.result.unwrap(), got.from), (8, None));
}

#[test]
fn a_message_is_received_into_several_buffers_again_and_again() {
    let ring = Ring::local().unwrap();
    let (near, far) = UnixDatagram::pair().unwrap();
    let near = Fd::new(near);
    let mut room = MessageBuf::with_capacity(3);
    for _ in 0..3 {
        room.push(Vec::with_capacity(4)).unwrap();
    }
    assert_eq!(room.push(vec![1]).unwrap_err(), [1], "it was made for three");
    for text in [&b"0123456789"[..], b"01", b"", b"0123456789abcdef"] {
        far.send(text).unwrap();
        let got = ring.push(RecvMsg::new(&near, room).poll_first()).unwrap().wait(SOON).unwrap();
        room = got.message;
        assert_eq!(got.result.unwrap(), text.len().min(12));
        assert_eq!(room.bufs().concat(), text[..text.len().min(12)]);
        assert_eq!((room.is_truncated(), room.control()), (text.len() > 12, &[][..]));
    }
    let refused = RecvMsg::new(&near, room).flags(RecvFlags::DONT_WAIT);
    let refused = ring.push(refused).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(refused.result), Some(libc::EAGAIN));
    assert_eq!(refused.message.bufs().concat(), b"0123456789ab", "unchanged");
}

/// Sends a descriptor with one byte.
fn send_descriptor(over: &UnixStream, fd: &impl AsFd) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); 64];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let piece = [std::io::IoSlice::new(b"!")];
    sendmsg(over, &piece, &mut control, SendFlags::empty()).unwrap();
}

/// Whether the other end of a pipe is gone: every copy of the write end has been closed.
fn ended(reader: &mut std::io::PipeReader) -> bool {
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    match reader.read(&mut [0; 1]) {
        Ok(0) => true,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn descriptors_in_control_data_come_when_asked_for_and_are_closed_when_abandoned() {
    let ring = Ring::local().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let near = Fd::new(near);
    let message = |room: usize| {
        let mut message = MessageBuf::with_capacity(1);
        message.push(Vec::with_capacity(8)).unwrap();
        message.set_control_room(room);
        RecvMsg::new(&near, message)
    };
    for room in [0, 64] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        send_descriptor(&far, &writer);
        drop(writer);
        let got = ring.push(message(room)).unwrap().wait(SOON).unwrap();
        assert_eq!(got.result.unwrap(), 1);
        assert_eq!(ended(&mut reader), room == 0);
        // `cmsghdr` of 16 bytes, one descriptor, padding.
        assert_eq!(got.message.control().len(), room.min(24));
        assert_eq!(got.message.is_control_truncated(), room == 0);
        if let Some(fd) = got.message.control().get(16..20) {
            rustix_close(i32::from_ne_bytes(fd.try_into().unwrap()));
            assert!(ended(&mut reader));
        }
    }
    // Done, but nobody takes the result; and dropped before it is done.
    for done_first in [true, false] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let pending = ring.push(message(64)).unwrap();
        ring.submit().unwrap();
        if done_first {
            send_descriptor(&far, &writer);
            drop(writer);
            until("the message", || {
                ring.submit().unwrap();
                pending.is_done()
            });
            assert!(!ended(&mut reader));
            drop(pending);
        } else {
            pending.detach();
            send_descriptor(&far, &writer);
            drop(writer);
            until("the message", || {
                ring.submit().unwrap();
                ring.in_flight() == 0
            });
        }
        assert!(ended(&mut reader), "the descriptor was closed");
    }
}

#[allow(unsafe_code, reason = "takes a descriptor out of control data, as a user would")]
fn rustix_close(fd: i32) {
    use std::os::fd::FromRawFd;
    // SAFETY: it came with the message, and nobody else has it.
    drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) });
}

#[test]
fn options_are_set_and_read() {
    let ring = Ring::local().unwrap();
    let (near, _far) = tcp_pair();
    near.set_nodelay(false).unwrap();
    let socket = Fd::new(near.try_clone().unwrap());
    let set = |option, value| {
        ring.push(SetSockOpt::new(&socket, option, value)).unwrap().wait(SOON).unwrap()
    };
    let get = |option| ring.push(GetSockOpt::new(&socket, option)).unwrap().wait(SOON).unwrap();

    set(SocketOption::NO_DELAY, 1).unwrap();
    assert!(near.nodelay().unwrap());
    assert_eq!(get(SocketOption::TYPE).unwrap(), libc::SOCK_STREAM);
    set(SocketOption::PRIORITY, 3).unwrap();
    assert_eq!(get(SocketOption::PRIORITY).unwrap(), 3);
    assert_eq!(get(SocketOption::ERROR).unwrap(), 0);

    assert_eq!(errno(set(SocketOption::TYPE, 1)), Some(libc::ENOPROTOOPT), "read-only");
    assert_eq!(errno(get(SocketOption::NO_DELAY)), Some(libc::EOPNOTSUPP), "not SOL_SOCKET");
    let (reader, _writer) = common::pipe();
    let no_socket = SetSockOpt::new(&Fd::new(reader), SocketOption::PRIORITY, 1);
    let refused = ring.push(no_socket).unwrap().wait(SOON).unwrap();
    assert!(refused.is_err());
}

/// Whether a peer's connection has been closed at the other end.
fn closed_by_peer(stream: &mut TcpStream) {
    stream.set_read_timeout(SOON).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {}
        other => panic!("still open: {other:?}"),
    }
}

#[test]
fn an_abandoned_accept_closes_what_it_brings() {
    let ring = Ring::local().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Fd::new(listener);

    // Let go of before a connection comes: it still runs, and its connection is closed.
    ring.push(Accept::new(&listener)).unwrap().detach();
    ring.submit().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    until("the accept", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    closed_by_peer(&mut client);

    // Dropped when it has been done already.
    let pending = ring.push(Accept::new(&listener)).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    until("the accept", || {
        ring.submit().unwrap();
        pending.is_done()
    });
    drop(pending);
    closed_by_peer(&mut client);

    // Cancelled in time: the connection stays with the listener.
    drop(ring.push(Accept::new(&listener)).unwrap());
    until("the cancel", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    let client = TcpStream::connect(address).unwrap();
    let accepted = ring.push(Accept::new(&listener)).unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(accepted.peer, Some(client.local_addr().unwrap()));
}

/// Descriptors are counted in a process of their own, where no other test opens any.
#[test]
fn abandoned_descriptors_do_not_pile_up() {
    const CHILD: &str = "COUNTS_ITS_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["abandoned_descriptors_do_not_pile_up", "--exact", "--test-threads=1"]);
        assert!(child.env(CHILD, "1").status().unwrap().success());
        return;
    }
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Fd::new(listener);
    let before = open();
    for round in 0..50 {
        let ring = Ring::local().unwrap();
        let accept = ring.push(Accept::new(&listener)).unwrap();
        let socket = ring.push(Socket::tcp(&address)).unwrap();
        let client = TcpStream::connect(address).unwrap();
        match round % 4 {
            // Submitted and dropped; dropped unsubmitted; the ring first; detached.
            0 => {
                ring.submit().unwrap();
                drop((accept, socket));
            }
            1 => drop((accept, socket)),
            2 => {
                assert_eq!(ring.close(), 0);
                drop((accept, socket, client));
                continue;
            }
            _ => {
                accept.detach();
                socket.detach();
            }
        }
        drop((ring, client));
    }
    // Connections that the listener still holds have no descriptor.
    assert_eq!(open(), before);
}

#[test]
fn a_read_of_a_socket_ends_with_a_shutdown_elsewhere() {
    let ring = Ring::local().unwrap();
    let (near, far) = tcp_pair();
    let near = Fd::new(near);
    let read = ring.push(Read::new(&near, vec![0; 8], 0)).unwrap();
    ring.push(Shutdown::new(&near, How::Read)).unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(read.wait(SOON).unwrap().result.unwrap(), 0);
    drop(far);
}
