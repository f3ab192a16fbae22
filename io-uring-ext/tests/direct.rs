//! Sockets straight in slots of the ring's file table.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{SOON, until};
use io_uring_ext::fixed::{FileTable, FixedFd};
use io_uring_ext::multishot::{EndReason, IncomingFixed};
use io_uring_ext::op::{AcceptFixed, Connect, FixedFdInstall, Recv, Send, Socket, SocketFixed};
use io_uring_ext::{Error, Fd, Ring, StartError};

fn listener() -> (Fd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Fd::new(listener), address)
}

/// Sends through a slot and receives at the other end.
fn speaks(ring: &Ring, slot: &FixedFd, client: &mut TcpStream) {
    assert_eq!(ring.push(Send::new(slot, "slot")).unwrap().wait(SOON).unwrap().result.unwrap(), 4);
    let mut said = [0; 4];
    client.set_read_timeout(SOON).unwrap();
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"slot");
}

#[track_caller]
fn closed_by_peer(client: &mut TcpStream) {
    client.set_read_timeout(SOON).unwrap();
    match client.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {}
        other => panic!("still open: {other:?}"),
    }
}

#[test]
fn a_connection_lives_in_slots_at_both_ends() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 1, 2).unwrap();
    let (listener, address) = listener();
    let accept = AcceptFixed::new(&listener, &table.kernel_slots());
    let accept = ring.push(accept).unwrap();
    let reserved = table.reserve().unwrap();
    let client = SocketFixed::new(Socket::tcp(&address), &reserved);
    let client = ring.push(client).unwrap().wait(SOON).unwrap().unwrap();
    ring.push(Connect::new(&client, address)).unwrap().wait(SOON).unwrap().unwrap();
    let server = accept.wait(SOON).unwrap().unwrap();

    let visible = ring.push(FixedFdInstall::new(&client)).unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(server.peer, Some(TcpStream::from(visible).local_addr().unwrap()));
    let recv = ring.push(Recv::new(&server.socket, vec![0; 10])).unwrap();
    ring.push(Send::new(&client, "direct")).unwrap().wait(SOON).unwrap().result.unwrap();
    assert_eq!(recv.wait(SOON).unwrap().buf, b"direct");

    // The connection ends with the last handle of its slot.
    let end = ring.push(Recv::new(&server.socket, vec![0; 10])).unwrap();
    drop((client, reserved));
    assert_eq!(end.wait(SOON).unwrap().result.unwrap(), 0);
    assert_eq!(table.available(), 1);
}

#[test]
fn slots_of_another_ring_are_refused() {
    let (ring, other) = (Ring::local().unwrap(), Ring::local().unwrap());
    let table = FileTable::with_kernel_slots(&other, 1, 1).unwrap();
    let (listener, address) = listener();
    let slot = table.reserve().unwrap();
    let refused = ring.push(AcceptFixed::new(&listener, &slot)).unwrap_err();
    assert!(matches!(refused.why, StartError::Ring(Error::ForeignRing)));
    let refused = ring.push(SocketFixed::new(Socket::tcp(&address), &slot)).unwrap_err();
    assert!(matches!(refused.why, StartError::Ring(Error::ForeignRing)));
    let mut incoming = IncomingFixed::new(&ring, &listener, table.kernel_slots());
    assert!(matches!(incoming.try_next(), Err(Error::ForeignRing)));
}

#[test]
fn failures_leave_the_slot_empty() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let slot = table.reserve().unwrap();
    let made = ring.push(SocketFixed::new(Socket::new(libc::AF_INET, 99, 0), &slot)).unwrap();
    assert_eq!(made.wait(SOON).unwrap().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let sent = ring.push(Send::new(&slot, "?")).unwrap().wait(SOON).unwrap();
    assert_eq!(sent.result.unwrap_err().raw_os_error(), Some(libc::EBADF));
    drop(slot);
    assert_eq!(table.available(), 1);
}

#[test]
fn an_abandoned_accept_gives_its_slot_back() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 1, 1).unwrap();
    let (listener, address) = listener();
    for round in 0..10 {
        let accept = if round % 2 == 0 {
            AcceptFixed::new(&listener, &table.kernel_slots())
        } else {
            AcceptFixed::new(&listener, &table.reserve().unwrap())
        };
        let pending = ring.push(accept).unwrap();
        ring.submit().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        if round < 5 {
            pending.detach();
            until("the accept", || {
                ring.submit().unwrap();
                ring.in_flight() == 0
            });
        } else {
            until("the accept", || {
                ring.submit().unwrap();
                pending.is_done()
            });
            drop(pending);
        }
        ring.submit().unwrap();
        closed_by_peer(&mut client);
        assert_eq!(table.available(), 1);
    }
}

#[test]
fn connections_come_into_slots_with_one_submission() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 0, 8).unwrap();
    let (listener, address) = listener();
    let mut incoming = IncomingFixed::new(&ring, &listener, table.kernel_slots());
    for _ in 0..5 {
        // More than there are slots, one after the other: they come back.
        let mut pairs: Vec<_> = (0..8)
            .map(|_| {
                let client = TcpStream::connect(address).unwrap();
                (incoming.wait(SOON).unwrap().unwrap(), client)
            })
            .collect();
        for (slot, client) in &mut pairs {
            speaks(&ring, slot, client);
        }
        let (slots, clients): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        drop(slots);
        ring.submit().unwrap();
        clients.into_iter().for_each(|mut client| closed_by_peer(&mut client));
    }
    let counters = incoming.counters();
    assert_eq!((counters.taken, counters.armed, counters.no_slot), (40, 1, 0));
}

#[test]
fn without_a_slot_a_connection_is_closed_and_counted() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 0, 2).unwrap();
    let (listener, address) = listener();
    let mut incoming = IncomingFixed::new(&ring, &listener, table.kernel_slots());
    assert!(incoming.try_next().unwrap().is_none());
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let held = [incoming.wait(SOON).unwrap().unwrap(), incoming.wait(SOON).unwrap().unwrap()];
    assert_eq!(incoming.wait(SOON).unwrap_err().raw_os_error(), Some(libc::ENFILE));
    assert_eq!(incoming.end_reason(), Some(EndReason::Error(libc::ENFILE)));
    assert_eq!((incoming.counters().taken, incoming.counters().no_slot), (2, 1));
    closed_by_peer(&mut clients[2]);
    drop(held);
    let mut client = TcpStream::connect(address).unwrap();
    let slot = incoming.wait(SOON).unwrap().unwrap();
    speaks(&ring, &slot, &mut client);
}

/// Some kernels would choose among the slots of the application's.
#[test]
fn a_table_without_slots_for_the_kernel_takes_no_connections() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 2).unwrap();
    let (listener, _) = listener();
    let mut incoming = IncomingFixed::new(&ring, &listener, table.kernel_slots());
    assert_eq!(incoming.wait(SOON).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!((incoming.counters().taken, incoming.counters().closed), (0, 0));
}

#[test]
fn connections_in_slots_that_nobody_takes_are_closed_and_counted() {
    for ring_first in [false, true] {
        let ring = Ring::local().unwrap();
        let table = FileTable::with_kernel_slots(&ring, 0, 16).unwrap();
        let (listener, address) = listener();
        let mut incoming = IncomingFixed::new(&ring, &listener, table.kernel_slots());
        assert!(incoming.try_next().unwrap().is_none());
        let mut clients: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut clients {
            client.write_all(b"hello").unwrap();
        }
        let first = incoming.wait(SOON).unwrap().unwrap();
        let tally = incoming.tally();
        if ring_first {
            assert_eq!(ring.close(), 0);
            drop((incoming, first, table));
        } else {
            drop((incoming, first));
            ring.submit().unwrap();
            drop(ring);
        }
        assert_eq!((tally.taken(), tally.closed()), (1, 9), "ring first: {ring_first}");
        clients.into_iter().for_each(|mut client| closed_by_peer(&mut client));
    }
}
