//! TCP listeners and streams on rings of both kinds.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use common::SOON;
use common::task::drive;
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, EndReason};
use io_uring_ext::net::{TcpListener, TcpStream};
use io_uring_ext::op::{Message, MessageBuf};
use io_uring_ext::{Local, Mode, OwnedBy, Ring, Shared};

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn pair<M: Mode>(ring: &Ring<M>) -> (TcpStream<M>, TcpStream<M>) {
    let listener = TcpListener::bind(ring, any()).unwrap();
    let near = TcpStream::connect(ring, listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().wait(SOON).unwrap().unwrap();
    let (near, peer) = (near.wait(SOON).unwrap(), far.peer);
    assert_eq!(peer, Some(near.local_addr().unwrap()));
    (near, TcpStream::new(ring, far.socket))
}

fn talks<M: Mode>(ring: &Ring<M>)
where
    Vec<u8>: OwnedBy<M>,
    &'static str: OwnedBy<M>,
{
    let (near, far) = pair(ring);
    assert_eq!(near.peer_addr().unwrap(), far.local_addr().unwrap());
    near.set_nodelay(true).unwrap();
    assert!(near.nodelay().unwrap() && !far.nodelay().unwrap());

    // Both ways at once, through clones.
    let read = far.clone().read(vec![0; 10]).unwrap();
    let back = near.read(vec![0; 10]).unwrap();
    near.clone().write("there").unwrap().wait(SOON).unwrap().result.unwrap();
    far.write("back").unwrap().wait(SOON).unwrap().result.unwrap();
    assert_eq!(read.wait(SOON).unwrap().buf, b"there");
    assert_eq!(back.wait(SOON).unwrap().buf, b"back");

    let mut message = Message::with_capacity(2);
    message.push("in two ").unwrap();
    message.push("pieces").unwrap();
    near.write_vectored(message).unwrap().wait(SOON).unwrap().result.unwrap();
    let mut room = MessageBuf::with_capacity(2);
    room.push(Vec::with_capacity(3)).unwrap();
    room.push(Vec::with_capacity(100)).unwrap();
    let got = far.read_vectored(room).unwrap().wait(SOON).unwrap();
    assert_eq!(got.message.bufs(), [&b"in "[..], b"two pieces"]);

    near.shutdown(Shutdown::Write).unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(far.read(vec![0; 1]).unwrap().wait(SOON).unwrap().result.unwrap(), 0);
    far.write("still open this way").unwrap().wait(SOON).unwrap().result.unwrap();
    assert_eq!(near.read(vec![0; 99]).unwrap().wait(SOON).unwrap().result.unwrap(), 19);
}

#[test]
fn streams_talk_both_ways_on_rings_of_both_kinds() {
    talks::<Local>(&Ring::local().unwrap());
    talks::<Shared>(&Ring::shared().unwrap());
}

#[test]
fn a_write_is_of_everything() {
    const SIZE: usize = 4 << 20;
    let ring = Ring::local().unwrap();
    let (near, far) = pair(&ring);
    let data: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8).collect();
    let write = near.write(data.clone()).unwrap();
    let mut got = Vec::new();
    while got.len() < SIZE {
        let read = far.read(Vec::with_capacity(100_000)).unwrap().wait(SOON).unwrap();
        assert!(read.result.unwrap() > 0);
        got.extend(read.buf);
    }
    assert!(got == data);
    assert_eq!(write.wait(SOON).unwrap().result.unwrap(), SIZE);
}

#[test]
fn nobody_listens_and_nobody_answers() {
    let ring = Ring::local().unwrap();
    let closed = TcpListener::bind(&ring, any()).unwrap();
    let address = closed.local_addr().unwrap();
    let in_use = TcpListener::bind(&ring, address).unwrap_err();
    assert_eq!(in_use.raw_os_error(), Some(libc::EADDRINUSE));
    assert!(in_use.to_string().contains("listening for TCP connections"));
    drop(closed);
    let refused = TcpStream::connect(&ring, address).unwrap().wait(SOON).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
    assert!(refused.to_string().starts_with("connecting failed"), "{refused}");
    let refused = drive(&ring, TcpStream::connect(&ring, address).unwrap()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));

    // A backlog that is full answers nobody.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&any().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let briefly = Some(Duration::from_millis(50));
    let gave_up = (0..10).map(|_| TcpStream::connect(&ring, address).unwrap().wait(briefly));
    let connected: Vec<_> = gave_up.collect();
    let given_up = connected.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert_eq!(given_up.raw_os_error(), Some(libc::ETIMEDOUT));
}

#[test]
fn a_server_of_tasks_echoes_from_ring_buffers() {
    const CLIENTS: usize = 5;
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 8, BufPool::local(512, 16).unwrap()).unwrap();
    let std = std::net::TcpListener::bind(any()).unwrap();
    let listener = TcpListener::from_std(&ring, std);
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..CLIENTS as u8)
        .map(|n| {
            std::thread::spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                let mut back = vec![0; 10_000];
                stream.write_all(&vec![n; 10_000]).unwrap();
                stream.read_exact(&mut back).unwrap();
                back == vec![n; 10_000]
            })
        })
        .collect();
    drive(&ring, async {
        let mut incoming = listener.incoming();
        for _ in 0..CLIENTS {
            let stream = incoming.next().await.unwrap().unwrap();
            let mut receiver = stream.receiver(&buffers);
            while let Some(data) = receiver.recv().await.unwrap() {
                let len = data.len();
                let sent = stream.write(data).unwrap().await.unwrap();
                assert_eq!(sent.result.unwrap(), len);
            }
            assert_eq!(receiver.end_reason(), Some(EndReason::EndOfStream));
        }
        assert_eq!(incoming.get_mut().counters().taken, CLIENTS as u64);
    });
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
}

#[test]
fn a_stream_outlives_its_ring_and_says_so() {
    let ring = Ring::local().unwrap();
    let (near, far) = pair(&ring);
    let read = near.read(vec![0; 8]).unwrap();
    ring.submit().unwrap();
    drop(ring);
    assert_eq!(read.wait(SOON).unwrap().result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    let refused = near.write(b"late".to_vec()).unwrap_err();
    assert!(refused.to_string().contains("closed"), "{refused}");
    assert_eq!(refused.operation.into_buf(), b"late");
    drop(far);
}
