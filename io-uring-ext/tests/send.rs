//! Sends: plain, in messages, without waiting, without copying.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;

use common::{SOON, Tracked, count, counter};
use io_uring_ext::op::{ControlRefused, Message, Send, SendMsg, SendMsgZc, SendZc};
use io_uring_ext::{DatagramFd, Fd, Ring, SqPoll};

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let a = UdpSocket::bind("127.0.0.1:0").unwrap();
    let b = UdpSocket::bind("127.0.0.1:0").unwrap();
    a.set_read_timeout(SOON).unwrap();
    b.set_read_timeout(SOON).unwrap();
    (a, b)
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buf = vec![0; 65536];
    let len = loop {
        // A kernel thread of a ring that comes or goes interrupts a system call of its owner, which a
        // socket with a timeout tells.
        match socket.recv(&mut buf) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            answer => break answer.unwrap(),
        }
    };
    buf.truncate(len);
    buf
}

#[test]
fn sends_to_addresses_of_both_families() {
    let ring = Ring::local().unwrap();
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let sender = Fd::new(UdpSocket::bind(local).unwrap());
        let receiver = UdpSocket::bind(local).unwrap();
        let to = receiver.local_addr().unwrap();
        let sent =
            ring.push(Send::to(&sender, b"static".as_slice(), to)).unwrap().wait(SOON).unwrap();
        assert_eq!(sent.result.unwrap(), 6);
        assert_eq!(received(&receiver), b"static");
    }
}

#[test]
fn a_failed_send_gives_its_buffer_back() {
    let ring = Ring::local().unwrap();
    let (unconnected, _) = udp_pair();
    let sent = ring
        .push(Send::new(&Fd::new(unconnected), b"where to?".to_vec()))
        .unwrap()
        .wait(SOON)
        .unwrap();
    assert_eq!(sent.result.unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
    assert_eq!(sent.buf, b"where to?");
}

#[test]
fn a_message_is_sent_again_and_again() {
    let ring = Ring::local().unwrap();
    let (a, b) = udp_pair();
    let a = Fd::new(a);
    let mut message = Message::with_capacity(3);
    message.set_destination(Some(b.local_addr().unwrap()));
    for round in 0..10_u8 {
        for piece in 0..3 {
            message.push(vec![round, piece]).unwrap();
        }
        assert!(message.push(vec![]).unwrap_err().is_empty(), "it was made for three");
        let sent = ring.push(SendMsg::new(&a, message)).unwrap().wait(SOON).unwrap();
        assert_eq!(sent.result.unwrap(), 6);
        assert_eq!(received(&b), [round, 0, round, 1, round, 2]);
        message = sent.message;
        assert_eq!(message.drain().count(), 3);
    }
}

#[test]
fn control_data_reaches_the_socket() {
    let ring = Ring::local().unwrap();
    let (a, b) = udp_pair();
    let mut message = Message::with_capacity(1);
    message.set_destination(Some(b.local_addr().unwrap()));
    message.push(b"abcdefgh".as_slice()).unwrap();
    // UDP_SEGMENT of 4: the message leaves as two datagrams.
    let mut control = Vec::new();
    control.extend(18_usize.to_ne_bytes());
    control.extend(libc::SOL_UDP.to_ne_bytes());
    control.extend(libc::UDP_SEGMENT.to_ne_bytes());
    control.extend([4, 0, 0, 0, 0, 0, 0, 0]);
    // Numbers of descriptors are nothing that a message owns, wherever they stand.
    let mut rights = control.clone();
    rights.extend(20_usize.to_ne_bytes());
    rights.extend(libc::SOL_SOCKET.to_ne_bytes());
    rights.extend(libc::SCM_RIGHTS.to_ne_bytes());
    rights.extend([0; 8]);
    assert_eq!(message.set_control(&rights), Err(ControlRefused::Descriptors));
    assert_eq!(message.set_control(&rights[24..]), Err(ControlRefused::Descriptors));
    message.set_control(&control).unwrap();
    assert_eq!(
        message.set_control(&[0; 200]),
        Err(ControlRefused::TooLong { len: 200, room: 128 })
    );
    let sent = ring.push(SendMsg::new(&Fd::new(a), message)).unwrap().wait(SOON).unwrap();
    assert_eq!(sent.result.unwrap(), 8);
    assert_eq!((received(&b), received(&b)), (b"abcd".to_vec(), b"efgh".to_vec()));
}

/// The claim behind `push_datagram`: when the submission is over, the kernel no longer reads the
/// buffer. Here it is overwritten at once, and the receiver sees what was there before.
#[test]
fn a_datagram_is_done_when_it_is_submitted() {
    let ring = Ring::local().unwrap();
    let (a, b) = udp_pair();
    let a = DatagramFd::new(a).unwrap();
    let completions = ring.counters().completions;
    for round in 0..200_u8 {
        let mut message = Message::with_capacity(1);
        message.set_destination(Some(b.local_addr().unwrap()));
        message.push(vec![round; 1400]).unwrap();
        let pending = ring.push_datagram(&a, message).unwrap();
        assert!(!pending.is_done(), "queued only");
        ring.submit().unwrap();
        let mut sent = pending.try_take().expect("done with the submission");
        assert_eq!(sent.result.unwrap(), 1400);
        sent.message.drain().for_each(|mut buf| buf.fill(0xa5));
        assert_eq!(received(&b), [round; 1400]);
    }
    assert_eq!(ring.counters().completions, completions, "success posts no completion");
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_datagram_that_does_not_go_says_why() {
    let ring = Ring::local().unwrap();
    let (a, b) = udp_pair();
    let a = DatagramFd::new(a).unwrap();
    let to = b.local_addr().unwrap();
    let send = |destination, len| {
        let mut message = Message::with_capacity(1);
        message.set_destination(destination);
        message.push(vec![1; len]).unwrap();
        ring.push_datagram(&a, message).unwrap()
    };
    // Failures between successes: each result belongs to its own datagram.
    let pending = [
        send(Some(to), 1),
        send(None, 2),
        send(Some(to), 3),
        send(Some(to), 70_000),
        send(Some(to), 5),
    ];
    ring.submit().unwrap();
    let results = pending.map(|pending| {
        let sent = pending.try_take().expect("done with the submission");
        sent.result.map_err(|error| error.raw_os_error().unwrap())
    });
    assert_eq!(results, [Ok(1), Err(libc::EDESTADDRREQ), Ok(3), Err(libc::EMSGSIZE), Ok(5)]);
    assert_eq!([received(&b).len(), received(&b).len(), received(&b).len()], [1, 3, 5]);
}

#[test]
fn a_datagram_that_would_wait_is_refused_instead() {
    let ring = Ring::local().unwrap();
    let (a, _b) = UnixDatagram::pair().unwrap();
    let a = DatagramFd::new(a).unwrap();
    let freed = counter();
    let mut sent = 0;
    // Nobody receives, so after some the socket's buffer is full.
    let refused = loop {
        let mut message = Message::with_capacity(1);
        message.push(Tracked::new(1000, &freed)).unwrap();
        let pending = ring.push_datagram(&a, message).unwrap();
        ring.submit().unwrap();
        let done = pending.try_take().expect("done with the submission");
        match done.result {
            Ok(_) => sent += 1,
            Err(error) => break (error, done.message),
        }
        assert!(sent < 100_000);
    };
    assert_eq!(refused.0.raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(count(&freed), sent, "the refused one is whole");
    assert_eq!(refused.1.bufs().len(), 1);
}

#[test]
fn under_sqpoll_a_datagram_has_its_completion() {
    let ring = Ring::builder().sqpoll(SqPoll::default()).build_local().unwrap();
    let (a, b) = udp_pair();
    let a = DatagramFd::new(a).unwrap();
    for round in 0..50_u8 {
        let mut message = Message::with_capacity(1);
        message.set_destination(Some(b.local_addr().unwrap()));
        message.push(vec![round; 100]).unwrap();
        let sent = ring.push_datagram(&a, message).unwrap().wait(SOON).unwrap();
        assert_eq!(sent.result.unwrap(), 100);
        assert_eq!(received(&b), [round; 100]);
    }
    assert_eq!(ring.counters().completions, 50);
}

#[test]
fn dropped_datagrams_are_freed_by_the_submission() {
    let ring = Ring::local().unwrap();
    let (a, b) = udp_pair();
    let a = DatagramFd::new(a).unwrap();
    let freed = counter();
    for _ in 0..10 {
        let mut message = Message::with_capacity(1);
        message.set_destination(Some(b.local_addr().unwrap()));
        message.push(Tracked::new(100, &freed)).unwrap();
        ring.push_datagram(&a, message).unwrap().detach();
    }
    assert_eq!(count(&freed), 0);
    ring.submit().unwrap();
    assert_eq!(count(&freed), 10);
    (0..10).for_each(|_| assert_eq!(received(&b).len(), 100));
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn a_lent_buffer_comes_back_with_the_notification() {
    let ring = Ring::local().unwrap();
    let (near, mut far) = tcp_pair();
    let near = Fd::new(near);
    let freed = counter();
    let size = 256 * 1024;
    let mut pending = ring.push(SendZc::new(&near, Tracked::new(size, &freed))).unwrap();
    // The data is not taken by the peer, so the stack keeps the pages: the result is known, the
    // buffer is still lent.
    common::until("the send's result", || {
        ring.submit().unwrap();
        pending.sent().is_some()
    });
    let sent = pending.sent().unwrap().unwrap();
    assert!(sent > 0);
    let early = pending.is_done();
    if !early {
        pending = pending.try_take().expect_err("lent");
        assert_eq!(count(&freed), 0);
    }
    let mut taken = vec![0; sent];
    far.read_exact(&mut taken).unwrap();
    let done = pending.wait(SOON).unwrap();
    assert_eq!(done.result.unwrap(), sent);
    // Loopback copies when the data reaches the receiver, and says so.
    assert_eq!(done.copied, Some(true));
    assert_eq!(count(&freed), 0);
    drop(done.buf);
    assert_eq!(count(&freed), 1);
}

#[test]
fn a_lease_dropped_early_is_freed_after_the_notification() {
    let ring = Ring::local().unwrap();
    let (near, mut far) = tcp_pair();
    let freed = counter();
    let pending = ring.push(SendZc::new(&Fd::new(near), Tracked::new(64 * 1024, &freed))).unwrap();
    common::until("the send's result", || {
        ring.submit().unwrap();
        pending.sent().is_some()
    });
    let sent = pending.sent().unwrap().unwrap();
    let lent = !pending.is_done();
    drop(pending);
    ring.submit().unwrap();
    if lent {
        assert_eq!(count(&freed), 0, "the stack still reads it");
    }
    far.read_exact(&mut vec![0; sent]).unwrap();
    common::until("the notification", || {
        ring.submit().unwrap();
        count(&freed) == 1
    });
}

#[test]
fn the_size_decides_whether_a_send_lends() {
    use io_uring_ext::op::{SendAuto, SendFlags, ZC_THRESHOLD};
    let ring = Ring::local().unwrap();
    let (near, mut far) = tcp_pair();
    let near = Fd::new(near);
    let freed = counter();
    let sends = [
        (ZC_THRESHOLD - 1, ZC_THRESHOLD, 1),
        (ZC_THRESHOLD, ZC_THRESHOLD, 2),
        (100, 100, 2),
        (100, 101, 1),
    ];
    for (freed_before, (len, threshold, completions)) in sends.into_iter().enumerate() {
        let before = ring.counters().completions;
        let send = SendAuto::new(&near, Tracked::new(len, &freed));
        let send = send.threshold(threshold).flags(SendFlags::WAIT_ALL);
        let pending = ring.push(send).unwrap();
        ring.submit().unwrap();
        far.read_exact(&mut vec![1; len]).unwrap();
        let sent = pending.wait(SOON).unwrap();
        assert_eq!((sent.result.unwrap(), sent.copied), (len, Some(true)), "loopback copies");
        assert_eq!(ring.counters().completions - before, completions, "{len} of {threshold}");
        assert_eq!(count(&freed), freed_before);
        drop(sent.buf);
    }
    // No silent fallback: a socket that cannot lend says so, for what is large enough alone.
    let (unix, _far) = UnixDatagram::pair().unwrap();
    let unix = Fd::new(unix);
    let small = ring.push(SendAuto::new(&unix, vec![0; 10])).unwrap().wait(SOON).unwrap();
    assert_eq!((small.result.unwrap(), small.copied), (10, Some(true)));
    let large = ring.push(SendAuto::new(&unix, vec![0; 9000])).unwrap().wait(SOON).unwrap();
    assert_eq!(large.result.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[test]
fn zero_copy_datagrams_and_messages() {
    let ring = Ring::local().unwrap();
    let (a, b) = udp_pair();
    let a = Fd::new(a);
    let to = b.local_addr().unwrap();
    for len in [1, 8192, 60_000] {
        let sent = ring.push(SendZc::to(&a, vec![7; len], to)).unwrap().wait(SOON).unwrap();
        assert_eq!((sent.result.unwrap(), sent.buf.len()), (len, len));
        assert!(sent.copied.is_some());
        assert_eq!(received(&b), vec![7; len]);
        let mut message = Message::with_capacity(2);
        message.set_destination(Some(to));
        message.push(vec![1; len / 2]).unwrap();
        message.push(vec![2; len / 2]).unwrap();
        let sent = ring.push(SendMsgZc::new(&a, message)).unwrap().wait(SOON).unwrap();
        assert_eq!(sent.result.unwrap(), len / 2 * 2);
        assert_eq!(sent.message.bufs()[0].len(), len / 2);
        assert_eq!(received(&b), [vec![1; len / 2], vec![2; len / 2]].concat());
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn failed_zero_copy_sends_take_their_notifications_too() {
    let ring = Ring::local().unwrap();
    let (unconnected, _) = udp_pair();
    let unconnected = Fd::new(unconnected);
    let (unix, _far) = UnixDatagram::pair().unwrap();
    let unix = Fd::new(unix);
    let freed = counter();
    for _ in 0..50 {
        let failed = ring.push(SendZc::new(&unconnected, Tracked::new(9000, &freed))).unwrap();
        let failed = failed.wait(SOON).unwrap();
        assert_eq!(failed.result.unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
        let refused = ring.push(SendZc::new(&unix, Tracked::new(9000, &freed))).unwrap();
        let refused = refused.wait(SOON).unwrap();
        assert_eq!(refused.result.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }
    assert_eq!((count(&freed), ring.in_flight(), ring.counters().stale), (100, 0, 0));
}
