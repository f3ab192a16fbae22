//! The UDP endpoint over loopback, against the standard library's socket: no privileges needed.
#![cfg(feature = "packet")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::net::UdpSocket as StdSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use bypass_core::backend::socket::UdpOptions;
use bypass_core::pool::PoolOptions;
use bypass_core::sys::option;
use bypass_core::testing::loopback::{self, tools::*};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::{
    Buffer, Burst, Datagram, DatagramIo, DropCause, Endpoint, Error, Interest, Ready, Transmit,
};
use io_uring_ext::op::Send;
use io_uring_ext::packet::{UringOptions, UringSocket};
use io_uring_ext::{Fd, SqPoll};
use rustix::event::{PollFd, PollFlags, Timespec};

fn bound(local: &str, change: impl FnOnce(&mut UdpOptions, &mut UringOptions)) -> UringSocket {
    let mut udp = UdpOptions::new(local.parse().unwrap());
    let mut uring = UringOptions::new();
    change(&mut udp, &mut uring);
    UringSocket::open(&udp, &uring).unwrap()
}

fn open(change: impl FnOnce(&mut UdpOptions)) -> UringSocket {
    bound("127.0.0.1:0", |udp, _| change(udp))
}

fn readable(socket: &UringSocket, milliseconds: i64) -> bool {
    let limit = Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
    let fd = socket.as_fd().unwrap();
    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap() > 0
}

/// Skips the calling test where io_uring is refused.
macro_rules! needs_io_uring {
    () => {
        if skip(&[Need::IoUring]) {
            return;
        }
    };
}

#[test]
fn it_does_what_every_endpoint_does_on_loopback() {
    needs_io_uring!();
    loopback::sockets(|options| UringSocket::open(options, &UringOptions::new())).assert();
}

#[test]
fn what_an_adopted_socket_tells_unasked_is_cut_only_beyond_the_spare_room() {
    needs_io_uring!();
    let raw = StdSocket::bind("127.0.0.1:0").unwrap();
    let set = raw.try_clone().unwrap();
    let options = UdpOptions::new(raw.local_addr().unwrap());
    let mut socket = UringSocket::adopt(raw, &options, &UringOptions::new()).unwrap();
    let also_tell = |level, name| option::set_int(set.as_fd(), level, name, 1).unwrap();
    let (client, _) = std_socket();
    also_tell(libc::IPPROTO_IP, libc::IP_PKTINFO);
    also_tell(libc::IPPROTO_IP, libc::IP_RECVTTL);
    client.send_to(b"fits", socket.local_addr()).unwrap();
    assert_eq!(receive(&mut socket, 1)[0].data(), b"fits");
    also_tell(libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR);
    also_tell(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    also_tell(libc::IPPROTO_IP, libc::IP_RECVTOS);
    client.send_to(b"cut", socket.local_addr()).unwrap();
    let mut burst = Burst::with_capacity(4);
    while socket.stats().drops[DropCause::RxTruncated] == 0 {
        assert_eq!(socket.wait(Interest::RX, PATIENCE).unwrap(), Ready::RX);
        socket.recv(&mut burst).unwrap();
    }
    assert!(burst.is_empty());
    assert_eq!(socket.stats().rx_packets, 1);
}

#[test]
fn of_a_chain_the_rings_own_send_takes_the_first_segment_and_gives_all_back() {
    needs_io_uring!();
    let mut socket = open(|_| {});
    let (server, to) = std_socket();
    let mut parts = compose(&mut socket, to, [&b"first"[..], b"second"]);
    let (mut first, second) = (parts.pop_front().unwrap(), parts.pop_front().unwrap());
    first.chain(second).unwrap();
    let from = Fd::new(StdSocket::bind("127.0.0.1:0").unwrap());
    let sent = socket.ring().push(Send::to(&from, first, to)).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(sent.result.unwrap(), 5);
    let mut buffer = [0; 16];
    assert_eq!(take(&server, &mut buffer).0, 5);
    assert_eq!(sent.buf.total_len(), 11);
}

#[test]
fn datagrams_that_are_never_handed_out_do_not_keep_a_call_for_ever() {
    needs_io_uring!();
    const MANY: u64 = 1200;
    let mut socket = open(|udp| {
        udp.recv_buffer = Some(8 << 20);
        udp.pool = PoolOptions { chunk_size: 256, ..PoolOptions::new(4096) };
    });
    let (client, _) = std_socket();
    for _ in 0..MANY {
        client.send_to(&[1; 512], socket.local_addr()).unwrap();
    }
    if socket.stats().drops[DropCause::RxQueueFull] > 0 {
        return eprintln!("skipped: without CAP_NET_ADMIN the receive queue is too short");
    }
    assert!(readable(&socket, 900));
    let mut burst = Burst::with_capacity(4);
    assert_eq!(socket.recv(&mut burst).unwrap(), 0);
    let first = socket.stats().drops[DropCause::RxTruncated];
    assert!((1..MANY).contains(&first), "{first} in one call");
    while socket.stats().drops[DropCause::RxTruncated] < MANY {
        assert!(readable(&socket, 900), "the descriptor says that there is more");
        socket.recv(&mut burst).unwrap();
    }
    assert!(burst.is_empty());
}

#[test]
fn a_datagram_that_can_never_be_sent_stays_first() {
    needs_io_uring!();
    for sqpoll in [None, Some(SqPoll::default())] {
        let mut socket = bound("127.0.0.1:0", |_, uring| uring.sqpoll = sqpoll);
        let (receiver, good) = std_socket();
        for (reason, transmit) in [
            ("no destination", Transmit::default()),
            ("the socket is bound to an IPv4", Transmit::to("[::1]:9".parse().unwrap())),
        ] {
            let mut burst = compose(&mut socket, good, [&b"bad"[..], b"good"]);
            burst[0].set_transmit(transmit);
            let error = socket.send(&mut burst).unwrap_err();
            assert!(matches!(error, Error::Frame { .. }), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().starts_with("uring"), "{error}");
            assert_eq!((burst.len(), burst[0].data()), (2, &b"bad"[..]));
            burst.pop_front();
            assert_eq!(socket.send(&mut burst).unwrap(), 1, "what is behind it is good");
            assert_eq!(take(&receiver, &mut [0; 16]).0, 4);
        }
    }
    // What only the kernel knows is found out alone in a burst, through the ring.
    let mut socket = open(|_| {});
    for to in ["127.0.0.1:0", "255.255.255.255:9"] {
        let mut burst = compose(&mut socket, to.parse().unwrap(), [&b"bad"[..]]);
        // It goes back whatever else there is room for.
        burst.set_limit(0);
        let error = socket.send(&mut burst).unwrap_err();
        assert!(matches!(error, Error::Frame { .. }), "{error:?}");
        assert_eq!((burst.len(), burst[0].data()), (1, &b"bad"[..]));
    }
}

#[test]
fn an_application_that_holds_every_buffer_receives_again_when_it_lets_go() {
    needs_io_uring!();
    let mut socket = bound("127.0.0.1:0", |udp, uring| {
        udp.pool = PoolOptions::new(16);
        uring.rx_buffers = Some(4);
    });
    let (client, _) = std_socket();
    let mut held = Burst::with_capacity(128);
    for n in 0..40_u8 {
        client.send_to(&[n], socket.local_addr()).unwrap();
    }
    while socket.recv(&mut held).unwrap() > 0 {}
    assert_eq!(held.len(), 16, "all there are");
    assert!(counter(&socket, "recv_dry") > 0);
    let brief = Some(Duration::from_millis(20));
    assert_eq!(socket.wait(Interest::RX, brief).unwrap(), Ready::empty());
    assert!(socket.stats().frames.unwrap().adds_up());
    // A detached buffer that is dropped on another thread wakes nobody, and is found all the same.
    let detached: Vec<_> = held.drain(8).map(|datagram| datagram.detach().unwrap()).collect();
    let dropper = std::thread::spawn(move || drop(detached));
    let mut seen: Vec<u8> =
        receive(&mut socket, 4).iter().map(|datagram| datagram.data()[0]).collect();
    dropper.join().unwrap();
    held.clear();
    while seen.len() < 24 {
        seen.extend(receive(&mut socket, 1).iter().map(|datagram| datagram.data()[0]));
    }
    assert!(seen.iter().copied().eq(16..40), "nothing was lost meanwhile: {seen:?}");
}

#[test]
fn the_descriptor_is_readable_while_there_is_something_and_no_longer() {
    needs_io_uring!();
    let mut socket = open(|_| {});
    let (client, _) = std_socket();
    let mut burst = Burst::with_capacity(4);
    for round in 0..20_u8 {
        // Until nothing comes any more; the first call may find it readable from before.
        while readable(&socket, 0) {
            assert_eq!(socket.recv(&mut burst).unwrap(), 0);
        }
        client.send_to(&[round], socket.local_addr()).unwrap();
        assert!(readable(&socket, 900), "round {round}");
        assert_eq!(socket.recv(&mut burst).unwrap(), 1);
        assert_eq!(burst.pop_front().unwrap().data(), [round]);
    }
}

#[test]
fn waiting_for_either_finds_what_is_there() {
    needs_io_uring!();
    let mut socket = open(|_| {});
    assert_eq!(socket.wait(Interest::all(), PATIENCE).unwrap(), Ready::TX);
    let (client, _) = std_socket();
    client.send_to(b"x", socket.local_addr()).unwrap();
    assert_eq!(socket.wait(Interest::all(), PATIENCE).unwrap(), Ready::all());
}

#[test]
fn awake_the_kernel_thread_leaves_no_system_call_to_make() {
    needs_io_uring!();
    let sqpoll = SqPoll { idle: Some(Duration::from_secs(10)), cpu: None };
    let mut socket = bound("127.0.0.1:0", |_, uring| uring.sqpoll = Some(sqpoll));
    let to = socket.local_addr();
    let mut back = Burst::with_capacity(8);
    let mut turn = |socket: &mut UringSocket| {
        let mut burst = compose(socket, to, [&b"to myself"[..]]);
        assert_eq!(socket.send(&mut burst).unwrap(), 1);
        while socket.recv(&mut back).unwrap() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(back.pop_front().unwrap().data(), b"to myself");
    };
    turn(&mut socket);
    let before = socket.stats().syscalls;
    (0..200).for_each(|_| turn(&mut socket));
    assert_eq!(socket.stats().syscalls, before);
    while socket.stats().tx_in_flight > 0 {
        socket.flush().unwrap();
    }
    let stats = socket.stats();
    assert_eq!((stats.tx_packets, stats.rx_packets, stats.drops.total()), (201, 201, 0));
}

#[test]
fn other_operations_run_on_the_same_ring() {
    needs_io_uring!();
    use io_uring_ext::Fd;
    use io_uring_ext::op::Read;
    let mut socket = open(|_| {});
    let zero = Fd::new(std::fs::File::open("/dev/zero").unwrap());
    let read = socket.ring().push(Read::new(&zero, vec![1; 64], 0)).unwrap();
    let (client, _) = std_socket();
    client.send_to(b"x", socket.local_addr()).unwrap();
    assert_eq!(receive(&mut socket, 1)[0].data(), b"x");
    assert_eq!(read.wait(PATIENCE).unwrap().buf, [0; 64]);
}

#[test]
fn bad_settings_are_refused_by_name() {
    for rx_buffers in [0, 3, 1024] {
        let uring = UringOptions { rx_buffers: Some(rx_buffers), ..UringOptions::new() };
        let error =
            UringSocket::open(&UdpOptions::new(([127, 0, 0, 1], 0).into()), &uring).unwrap_err();
        assert!(error.to_string().starts_with("rx_buffers"), "{error}");
    }
}
