//! Registered buffers: that operations use them, on which rings, and until when.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write as _;
use std::net::UdpSocket;

use bypass_core::testing::needs::skip_because;
use common::SOON;
use common::fixed::{PAGE, direct_file, file, is_fixed, noise, protect};
use io_uring::opcode;
use io_uring_ext::buf::{BufPool, IoBufMut, PoolBuf};
use io_uring_ext::fixed::BufferTable;
use io_uring_ext::op::{Read, ReadVectored, SendZc, Vectored, Write, WriteVectored};
use io_uring_ext::probe::Refusal;
use io_uring_ext::{Error, Fd, Ring};

/// Whether the kernel has the operation.
fn knows(code: u8) -> bool {
    let (ring, mut probe) = (io_uring::IoUring::new(1).unwrap(), io_uring::Probe::new());
    ring.submitter().register_probe(&mut probe).unwrap();
    probe.is_supported(code)
}

#[test]
fn reads_into_a_registered_pool_use_the_registration() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    let (registered, plain) = (BufPool::local(PAGE, 4).unwrap(), BufPool::local(PAGE, 4).unwrap());
    table.register(&registered).unwrap();
    table.register(&registered).unwrap();
    assert_eq!(table.available(), 1, "once is enough");
    assert!(is_fixed(&ring, &registered));
    assert!(!is_fixed(&ring, &plain));

    let ring = Ring::shared().unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    let pool = BufPool::shared(PAGE, 4).unwrap();
    table.register(&pool).unwrap();
    assert!(is_fixed(&ring, &pool));
}

#[test]
fn vectored_operations_on_parts_of_one_registered_buffer_use_the_registration() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    let pool = BufPool::local(PAGE, 4).unwrap();
    let other = BufPool::local(PAGE, 1).unwrap();
    table.register(&pool).unwrap();
    table.register(&other).unwrap();
    let fixed = knows(opcode::ReadvFixed::CODE);
    let file = direct_file(&[]);
    let contents = noise(3 * PAGE, 7);

    let protect_all = |bufs: &Vectored<PoolBuf>, protection| {
        bufs.bufs().iter().for_each(|buf| protect(buf, protection));
    };
    let filled = contents.chunks(PAGE).map(|bytes| {
        let mut buf = pool.take().unwrap();
        buf.set_len(PAGE);
        buf.copy_from_slice(bytes);
        buf
    });
    let bufs: Vectored<_> = filled.collect();
    if fixed {
        protect_all(&bufs, libc::PROT_NONE);
    }
    let done = ring.push(WriteVectored::new(&file, bufs, 0)).unwrap().wait(SOON).unwrap();
    protect_all(&done.buf, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(done.result.unwrap(), 3 * PAGE);
    drop(done.buf);

    let bufs: Vectored<_> = (0..3).map(|_| pool.take().unwrap()).collect();
    bufs.bufs().iter().for_each(|buf| assert!(buf.is_empty()));
    if fixed {
        protect_all(&bufs, libc::PROT_NONE);
    }
    let done = ring.push(ReadVectored::new(&file, bufs, 0)).unwrap().wait(SOON).unwrap();
    protect_all(&done.buf, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(done.result.unwrap(), 3 * PAGE);
    assert!(done.buf.bufs().iter().flat_map(|buf| buf.iter()).eq(&contents));
    drop(done.buf);

    // Parts of two buffers, or of no bytes: as ordinary memory.
    let two: Vectored<_> = [pool.take().unwrap(), other.take().unwrap()].into_iter().collect();
    let done = ring.push(ReadVectored::new(&file, two, 0)).unwrap().wait(SOON).unwrap();
    assert_eq!(done.result.unwrap(), 2 * PAGE);
    assert!(done.buf.bufs().iter().flat_map(|buf| buf.iter()).eq(&contents[..2 * PAGE]));
    let mut bufs = done.buf;
    bufs.bufs_mut()[0].set_len(0);
    let done = ring.push(WriteVectored::new(&file, bufs, 0)).unwrap().wait(SOON).unwrap();
    assert_eq!(done.result.unwrap(), PAGE);
}

#[test]
fn writes_from_a_registered_pool_use_the_registration() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    let pool = BufPool::local(PAGE, 2).unwrap();
    table.register(&pool).unwrap();
    let file = direct_file(&[]);
    let contents = noise(PAGE, 1);
    let mut buf = pool.take().unwrap();
    buf.set_len(PAGE);
    buf.copy_from_slice(&contents);
    protect(&buf, libc::PROT_NONE);
    let done = ring.push(Write::new(&file, buf, 0)).unwrap().wait(SOON).unwrap();
    protect(&done.buf, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(done.result.unwrap(), PAGE);
    let read = ring.push(Read::new(&file, pool.take().unwrap(), 0)).unwrap().wait(SOON).unwrap();
    assert!(read.buf[..] == contents);
}

#[test]
fn every_buffer_of_a_pool_reads_its_part_of_a_direct_file() {
    const BUFFERS: usize = 64;
    let contents = noise(BUFFERS * PAGE, 3);
    let direct = direct_file(&contents);
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    let pool = BufPool::local(PAGE, BUFFERS).unwrap();
    table.register(&pool).unwrap();
    for _ in 0..3 {
        let reads: Vec<_> = (0..BUFFERS)
            .map(|n| {
                let offset = (n * PAGE) as u64;
                ring.push(Read::new(&direct, pool.take().unwrap(), offset)).unwrap()
            })
            .collect();
        assert_eq!(pool.available(), 0);
        for (read, expected) in reads.into_iter().zip(contents.chunks(PAGE)) {
            let done = read.wait(SOON).unwrap();
            assert_eq!(done.result.unwrap(), PAGE);
            assert!(done.buf[..] == *expected);
        }
        assert_eq!(pool.available(), BUFFERS, "they are back");
    }
}

#[test]
fn a_zero_copy_send_uses_the_registration() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    let pool = BufPool::local(PAGE, 2).unwrap();
    table.register(&pool).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(SOON).unwrap();
    let sender = Fd::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut buf = pool.take().unwrap();
    buf.set_len(6);
    buf.copy_from_slice(b"pinned");
    protect(&buf, libc::PROT_NONE);
    let send = SendZc::to(&sender, buf, receiver.local_addr().unwrap());
    let sent = ring.push(send).unwrap().wait(SOON).unwrap();
    protect(&sent.buf, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(sent.result.unwrap(), 6);
    let mut bytes = [0; 16];
    assert_eq!(receiver.recv(&mut bytes).unwrap(), 6);
    assert_eq!(&bytes[..6], b"pinned");
}

#[test]
fn a_part_of_a_registered_buffer_is_registered() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    let pool = BufPool::local(PAGE, 1).unwrap();
    table.register(&pool).unwrap();
    let mut buf = pool.take().unwrap();
    buf.set_len(PAGE);
    protect(&buf, libc::PROT_NONE);
    let part = buf.slice_mut(1000..1003).unwrap();
    let done = ring.push(Read::new(&file(b"pinned"), part, 0)).unwrap().wait(SOON).unwrap();
    let (read, buf) = (done.result.unwrap(), done.buf.into_inner());
    protect(&buf, libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!((read, &buf[999..1004]), (3, &b"\0pin\0"[..]));
}

#[test]
fn on_another_ring_a_fixed_buffer_is_ordinary_memory() {
    let (ring, other) = (Ring::local().unwrap(), Ring::local().unwrap());
    let table = BufferTable::new(&ring, 2).unwrap();
    let others = BufferTable::new(&other, 2).unwrap();
    let pool = BufPool::local(PAGE, 1).unwrap();
    table.register(&pool).unwrap();
    assert!(!is_fixed(&other, &pool));
    let read = Read::new(&file(b"plain"), pool.take().unwrap(), 0);
    assert_eq!(other.push(read).unwrap().wait(SOON).unwrap().buf[..], *b"plain");

    // It can be registered with both.
    others.register(&pool).unwrap();
    assert!(is_fixed(&other, &pool) && is_fixed(&ring, &pool));
    drop((pool, ring, table));
    assert_eq!(others.available(), 2);
}

#[test]
fn a_clone_is_registered_with_both_rings_and_outlives_the_first() {
    let ring = Ring::shared().unwrap();
    let table = BufferTable::new(&ring, 4).unwrap();
    let pools: Vec<_> = (0..3).map(|_| BufPool::shared(PAGE, 2).unwrap()).collect();
    pools.iter().for_each(|pool| table.register(pool).unwrap());

    let second = Ring::local().unwrap();
    let clone = match table.clone_to(&second) {
        Err(Error::Refused { refusal: refusal @ Refusal::OldKernel { .. }, .. }) => {
            return skip_because(&refusal.to_string());
        }
        clone => clone.unwrap(),
    };
    assert_eq!((table.available(), clone.available()), (1, 1));
    assert!(pools.iter().all(|pool| is_fixed(&ring, pool) && is_fixed(&second, pool)));

    // From now on the tables go their own ways.
    let later = BufPool::shared(PAGE, 1).unwrap();
    clone.register(&later).unwrap();
    assert!(is_fixed(&second, &later) && !is_fixed(&ring, &later));
    assert!(matches!(table.clone_to(&second), Err(Error::Config { .. })), "it has a table");
    assert!(matches!(table.clone_to(&ring), Err(Error::Config { .. })), "to itself");

    drop((table, ring));
    assert!(pools.iter().all(|pool| is_fixed(&second, pool)));
    drop(pools);
    assert_eq!(clone.available(), 3);

    let closed = Ring::local().unwrap();
    let table = BufferTable::new(&closed, 1).unwrap();
    drop(closed);
    assert!(matches!(table.clone_to(&second), Err(Error::Closed)));
}

#[test]
fn clones_of_a_table_that_others_change_are_whole() {
    let ring = Ring::shared().unwrap();
    let table = BufferTable::new(&ring, 8).unwrap();
    let stays = BufPool::shared(PAGE, 1).unwrap();
    table.register(&stays).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let pool = BufPool::shared(PAGE, 1).unwrap();
                table.register(&pool).unwrap();
                drop(pool);
                ring.submit().unwrap();
            }
        });
        for _ in 0..100 {
            let second = Ring::local().unwrap();
            match table.clone_to(&second) {
                Ok(clone) => {
                    assert!(is_fixed(&second, &stays));
                    drop(clone);
                }
                // It changed each time: said, and nothing is left behind.
                Err(error) => assert!(matches!(error, Error::Config { .. }), "{error}"),
            }
            BufferTable::new(&Ring::local().unwrap(), 1).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        changing.join().unwrap();
    });
}

#[test]
fn memory_is_replaced_in_its_slot() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    let old = BufPool::local(PAGE, 1).unwrap();
    table.register(&old).unwrap();
    let new = BufPool::local(PAGE, 8).unwrap();
    assert!(matches!(table.register(&new), Err(Error::TableFull { what: "buffer", slots: 1 })));
    assert!(!new.is_registered(&ring));

    table.replace(old, &new).map_err(|(_, error)| error).unwrap();
    assert!(is_fixed(&ring, &new));
    assert_eq!(table.available(), 0);
    drop(new);
    assert_eq!(table.available(), 1);
}

#[test]
fn a_pool_in_use_is_not_replaced_and_comes_back() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    let old = BufPool::local(PAGE, 2).unwrap();
    table.register(&old).unwrap();
    let new = BufPool::local(PAGE, 1).unwrap();

    let (reader, mut writer) = std::io::pipe().unwrap();
    let read = ring.push(Read::new(&Fd::new(reader), old.take().unwrap(), 0)).unwrap();
    ring.submit().unwrap();
    let (old, error) = table.replace(old, &new).unwrap_err();
    assert!(error.to_string().contains("one with 1 out"), "{error}");
    writer.write_all(b"intact").unwrap();
    assert_eq!(read.wait(SOON).unwrap().buf[..], *b"intact");

    let handle = old.clone();
    let (old, error) = table.replace(old, &new).unwrap_err();
    assert!(matches!(error, Error::Config { .. }));
    drop(handle);

    let stranger = BufPool::local(PAGE, 1).unwrap();
    let (_, error) = table.replace(stranger, &new).unwrap_err();
    assert!(matches!(error, Error::ForeignRing));
    table.register(&new).unwrap();
    let (old, error) = table.replace(old, &new).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "it has a slot already");
    assert!(is_fixed(&ring, &old) && is_fixed(&ring, &new));
}

#[test]
fn everything_goes_in_any_order() {
    for order in 0..5 {
        let ring = Ring::local().unwrap();
        let table = BufferTable::new(&ring, 2).unwrap();
        let pool = BufPool::local(PAGE, 2).unwrap();
        table.register(&pool).unwrap();
        let buf = pool.take().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let read = ring.push(Read::new(&Fd::new(reader), pool.take().unwrap(), 0)).unwrap();
        ring.submit().unwrap();
        match order {
            0 => drop((ring, table, pool, buf, read)),
            1 => drop((read, buf, pool, table, ring)),
            2 => drop((pool, table, buf, ring, read)),
            3 => drop((table, read, ring, buf, pool)),
            _ => {
                drop((ring, read));
                assert!(matches!(table.register(&pool), Err(Error::Closed)));
                let error = table.replace(BufPool::local(1, 1).unwrap(), &pool).unwrap_err().1;
                assert!(matches!(error, Error::Closed));
                assert_eq!(table.available(), 0);
                // Another ring takes what the first one had.
                let ring = Ring::local().unwrap();
                drop(buf);
                assert!(!is_fixed(&ring, &pool));
                let table = BufferTable::new(&ring, 1).unwrap();
                table.register(&pool).unwrap();
                assert!(is_fixed(&ring, &pool));
            }
        }
    }
}

#[test]
fn a_table_goes_with_its_last_user_and_makes_room_for_another() {
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    assert!(matches!(BufferTable::new(&ring, 1), Err(Error::Config { .. })));
    let pool = BufPool::local(PAGE, 1).unwrap();
    table.register(&pool).unwrap();
    drop(table);
    assert!(is_fixed(&ring, &pool), "the pool keeps it");
    assert!(BufferTable::new(&ring, 1).is_err());
    let buf = pool.take().unwrap();
    drop(pool);
    assert!(BufferTable::new(&ring, 1).is_err(), "and so does a buffer");
    drop(buf);
    assert_eq!(BufferTable::new(&ring, 3).unwrap().available(), 3);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let ring = Ring::local().unwrap();
    assert!(matches!(BufferTable::new(&ring, 0), Err(Error::Config { .. })));
    assert!(matches!(BufferTable::new(&ring, 16385), Err(Error::Config { .. })));
    let table = BufferTable::new(&ring, 16384).unwrap();
    let large = BufPool::local(1 << 20, 1025).unwrap();
    let error = table.register(&large).unwrap_err().to_string();
    assert!(error.contains("at most 1 GiB"), "{error}");
    assert!(!large.is_registered(&ring));
}
