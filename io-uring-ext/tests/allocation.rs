//! Receiving and sending allocate nothing once they are warm.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::net::UdpSocket;
use std::task::Waker;

use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
use common::SOON;
use common::task::{Woken, poll};
use io_uring_ext::buf::{BufPool, IoBufMut};
use io_uring_ext::buf_ring::{BufRing, MessageLayout};
use io_uring_ext::fixed::{BufferTable, FileTable};
use io_uring_ext::op::{
    Fsync, Message, Nop, Read, ReadVectored, Send, SendMsg, SendZc, Vectored, Write, WriteVectored,
};
use io_uring_ext::{DatagramFd, Fd, Ring};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn allocations(mut round: impl FnMut()) -> u64 {
    (0..100).for_each(|_| round());
    let before = on_this_thread();
    (0..1000).for_each(|_| round());
    on_this_thread() - before
}

#[test]
fn nothing_is_allocated_per_packet() {
    let ring = Ring::local().unwrap();
    let pool = BufPool::local(2048, 64).unwrap();
    let buffers = BufRing::new(&ring, 32, pool.clone()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, to) = (socket.local_addr().unwrap(), client.local_addr().unwrap());
    let socket = DatagramFd::new(socket).unwrap();
    let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(28, 64));
    let mut bytes = [0; 64];

    // The message and the buffers inside it go back and forth.
    let mut spare = Some(Message::with_capacity(4));
    let echo = allocations(|| {
        client.send_to(b"ping", address).unwrap();
        let received = receiver.wait(SOON).unwrap().unwrap();
        let mut message = spare.take().unwrap();
        message.set_destination(received.source());
        message.push(received.into_buf()).unwrap();
        let pending = ring.push_datagram(&socket, message).unwrap();
        ring.submit().unwrap();
        let mut sent = pending.try_take().unwrap();
        sent.message.drain().for_each(drop);
        spare = Some(sent.message);
        client.recv(&mut bytes).unwrap();
    });
    assert_eq!(echo, 0, "multishot recvmsg and a datagram without completion");

    let send = allocations(|| {
        let mut buf = pool.take().unwrap();
        buf.set_len(100);
        let sent = ring.push(Send::to(socket.fd(), buf, to)).unwrap().wait(SOON).unwrap();
        assert_eq!(sent.result.unwrap(), 100);
        client.recv(&mut bytes).unwrap();
    });
    assert_eq!(send, 0, "send");

    let zero_copy = allocations(|| {
        let mut buf = pool.take().unwrap();
        buf.set_len(100);
        let sent = ring.push(SendZc::to(socket.fd(), buf, to)).unwrap().wait(SOON).unwrap();
        assert_eq!(sent.result.unwrap(), 100);
        client.recv(&mut bytes).unwrap();
    });
    assert_eq!(zero_copy, 0, "zero-copy send");

    let sendmsg = allocations(|| {
        let mut message = spare.take().unwrap();
        let mut buf = pool.take().unwrap();
        buf.set_len(100);
        message.set_destination(Some(to));
        message.push(buf).unwrap();
        let mut sent = ring.push(SendMsg::new(socket.fd(), message)).unwrap().wait(SOON).unwrap();
        sent.message.drain().for_each(drop);
        spare = Some(sent.message);
        client.recv(&mut bytes).unwrap();
    });
    assert_eq!(sendmsg, 0, "sendmsg");

    let zero = Fd::new(std::fs::File::open("/dev/zero").unwrap());
    let read = allocations(|| {
        let done =
            ring.push(Read::new(&zero, pool.take().unwrap(), 0)).unwrap().wait(SOON).unwrap();
        assert_eq!(done.buf.len(), 2048);
    });
    assert_eq!(read, 0, "read");

    let files = FileTable::new(&ring, 2).unwrap();
    let zero = files.install(&std::fs::File::open("/dev/zero").unwrap()).unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    table.register(&pool).unwrap();
    let fixed = allocations(|| {
        let part = pool.take().unwrap().slice_mut(..512).unwrap();
        let done = ring.push(Read::new(&zero, part, 0)).unwrap().wait(SOON).unwrap();
        assert_eq!(done.buf.len(), 512);
    });
    assert_eq!(fixed, 0, "read into a part of a registered buffer, from a fixed file");
    let another = std::fs::File::open("/dev/zero").unwrap();
    let replaced = allocations(|| {
        files.replace(&zero, &another).unwrap();
        ring.submit().unwrap();
    });
    assert_eq!(replaced, 0, "replacing a fixed file");

    let null = Fd::new(std::fs::File::create("/dev/null").unwrap());
    let mut bufs = Some((0..4).map(|_| pool.take().unwrap()).collect::<Vectored<_>>());
    let vectored = allocations(|| {
        let read = ReadVectored::new(&zero, bufs.take().unwrap(), 0);
        let done = ring.push(read).unwrap().wait(SOON).unwrap();
        // Of a busy processor /dev/zero gives a page.
        let read = done.result.unwrap();
        assert!(read >= 4096);
        let write = WriteVectored::new(&null, done.buf, 0);
        let done = ring.push(write).unwrap().wait(SOON).unwrap();
        assert_eq!(done.result.unwrap(), read);
        bufs = Some(done.buf);
    });
    assert_eq!(vectored, 0, "vectored");

    let write = allocations(|| {
        let done = ring.push(Write::new(&null, "bytes", 0)).unwrap().wait(SOON).unwrap();
        assert_eq!(done.result.unwrap(), 5);
        ring.push(Fsync::data(&zero)).unwrap().wait(SOON).unwrap().unwrap_err();
    });
    assert_eq!(write, 0, "write and sync");

    let (mut awaited, waker) = (Vec::with_capacity(8), Waker::from(Woken::new()));
    let wakes = allocations(|| {
        for _ in 0..8 {
            let mut nop = ring.push(Nop::new()).unwrap();
            assert!(poll(&mut nop, &waker).is_pending());
            awaited.push(nop);
        }
        ring.wait(8, SOON).unwrap();
        awaited.drain(..).for_each(|mut nop| assert!(poll(&mut nop, &waker).is_ready()));
    });
    assert_eq!(wakes, 0, "waking tasks");
}

#[cfg(feature = "packet")]
#[test]
fn the_udp_endpoint_allocates_nothing_per_datagram() {
    use bypass_core::backend::socket::UdpOptions;
    use bypass_core::{Burst, Datagram as _, DatagramIo as _, Endpoint as _, Interest};
    use io_uring_ext::packet::{UringOptions, UringSocket};

    let options = UdpOptions::new(([127, 0, 0, 1], 0).into());
    let mut server = UringSocket::open(&options, &UringOptions::new()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.local_addr()).unwrap();
    let mut burst = Burst::with_capacity(64);
    let mut bytes = [0; 64];
    // Bursts of one length are one message through the ring, others several with `sendmmsg`.
    for lengths in [[64; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
        let echo = allocations(|| {
            for length in lengths {
                client.send(&bytes[..length]).unwrap();
            }
            while burst.len() < 8 {
                server.wait(Interest::RX, SOON).unwrap();
                server.recv(&mut burst).unwrap();
            }
            burst.iter_mut().for_each(|datagram| datagram.reply());
            assert_eq!(server.send(&mut burst).unwrap(), 8);
            for length in lengths {
                assert_eq!(client.recv(&mut bytes).unwrap(), length);
            }
        });
        assert_eq!(echo, 0, "{lengths:?}");
    }
}
