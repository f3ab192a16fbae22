//! Several buffers in one operation.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::fs;
use std::io::Write as _;

use common::{Tracked, count, counter, directory, errno, pipe, run};
use io_uring_ext::buf::{AlignedBuf, BufPool};
use io_uring_ext::op::{ReadVectored, RwFlags, Vectored, WriteVectored};
use io_uring_ext::{Fd, Ring};

fn room(sizes: &[usize]) -> Vectored<Vec<u8>> {
    sizes.iter().map(|size| Vec::with_capacity(*size)).collect()
}

#[test]
fn buffers_are_written_one_behind_the_other_and_read_back() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    let file = Fd::new(file);
    let bufs: Vectored<_> = ["head|", "", "the body|", "tail"].into_iter().collect();
    let done = run(&ring, WriteVectored::new(&file, bufs, 3));
    assert_eq!((done.result.unwrap(), done.buf.total_len()), (18, 18));
    assert_eq!(fs::read(&path).unwrap(), b"\0\0\0head|the body|tail");

    // The same list again, changed, at the end of the file.
    let mut bufs = done.buf;
    bufs.bufs_mut()[0] = "|more";
    assert_eq!(bufs.drain().len(), 4);
    bufs.push("+").unwrap();
    assert_eq!(run(&ring, WriteVectored::append(&file, bufs)).result.unwrap(), 1);

    let done = run(&ring, ReadVectored::new(&file, room(&[5, 9, 4, 100]), 3));
    assert_eq!(done.result.unwrap(), 19);
    let read: Vec<_> = done.buf.into_iter().collect();
    assert_eq!(read, [&b"head|"[..], b"the body|", b"tail", b"+"]);
}

#[test]
fn a_short_read_ends_in_the_middle_of_a_buffer() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    fs::File::from(writer).write_all(b"seven b").unwrap();
    // What was in the buffers before is not taken for what was read.
    let bufs = [vec![1; 4], vec![2; 4], vec![3; 4]].into_iter().collect();
    let reader = Fd::new(reader);
    let done = run(&ring, ReadVectored::new(&reader, bufs, 0));
    assert_eq!(done.result.unwrap(), 7);
    assert_eq!(done.buf.bufs(), [&b"seve"[..], b"n b", b""]);
    let end = run(&ring, ReadVectored::new(&reader, done.buf, 0));
    assert_eq!(end.result.unwrap(), 0);
    assert!(end.buf.bufs().iter().all(Vec::is_empty));
}

#[test]
fn a_short_write_ends_in_the_middle_of_a_buffer() {
    let ring = Ring::local().unwrap();
    let (_reader, writer) = pipe();
    let bufs: Vectored<_> = (0..3).map(|n| vec![n; 30_000]).collect();
    let write = WriteVectored::new(&Fd::new(writer), bufs, 0).flags(RwFlags::NOWAIT);
    let done = run(&ring, write);
    // A pipe holds 16 pages, and no page holds the end of one write and the beginning of another.
    let written = done.result.unwrap();
    assert!((1 << 15..90_000).contains(&written), "{written}");
    assert_eq!(done.buf.total_len(), 90_000);
}

#[test]
fn a_failed_operation_gives_its_buffers_back() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let write_only = Fd::new(fs::File::create(dir.path().join("file")).unwrap());
    let read = run(&ring, ReadVectored::new(&write_only, room(&[4, 4]), 0));
    assert_eq!(errno(read.result), libc::EBADF);
    assert_eq!(read.buf.bufs().len(), 2);
    let read_only = Fd::new(fs::File::open(dir.path().join("file")).unwrap());
    let bufs: Vectored<_> = ["a", "b"].into_iter().collect();
    let write = run(&ring, WriteVectored::new(&read_only, bufs, 0));
    assert_eq!((errno(write.result), write.buf.total_len()), (libc::EBADF, 2));
}

#[test]
fn as_many_buffers_as_the_kernel_takes_and_no_more() {
    const MAX: usize = Vectored::<&str>::MAX_BUFFERS;
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let file = Fd::new(fs::File::create(&path).unwrap());
    let mut bufs: Vectored<_> = std::iter::repeat_n("x", MAX + 5).collect();
    assert_eq!(bufs.bufs().len(), MAX);
    assert_eq!(bufs.push("y"), Err("y"));
    assert_eq!(run(&ring, WriteVectored::new(&file, bufs, 0)).result.unwrap(), MAX);
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; MAX]);
    let none = run(&ring, WriteVectored::new(&file, Vectored::<&str>::with_capacity(4), 0));
    assert_eq!(none.result.unwrap(), 0);
}

#[test]
fn buffers_of_every_kind() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    fs::File::from(writer).write_all(&[5; 100]).unwrap();
    let reader = Fd::new(reader);
    let pool = BufPool::local(20, 2).unwrap();
    let bufs: Vectored<_> = (0..2).map(|_| pool.take().unwrap()).collect();
    let done = run(&ring, ReadVectored::new(&reader, bufs, 0));
    assert_eq!(done.result.unwrap(), 40);
    assert!(done.buf.bufs().iter().all(|buf| buf[..] == [5; 20]));
    drop(done.buf);
    assert_eq!(pool.available(), 2);

    let bufs: Vectored<_> = [AlignedBuf::new(4096).unwrap()].into_iter().collect();
    let done = run(&ring, ReadVectored::new(&reader, bufs, 0));
    assert_eq!((done.result.unwrap(), &done.buf.bufs()[0][..]), (60, &[5; 60][..]));
}

#[test]
fn buffers_of_abandoned_operations_are_freed_once() {
    let (ring, freed) = (Ring::local().unwrap(), counter());
    let (reader, _writer) = pipe();
    let bufs = (0..10).map(|_| Tracked::new(64, &freed)).collect();
    let read = ring.push(ReadVectored::new(&Fd::new(reader), bufs, 0)).unwrap();
    ring.submit().unwrap();
    assert_eq!(count(&freed), 0);
    drop(read);
    common::until("the buffers to be freed", || {
        ring.submit().unwrap();
        count(&freed) == 10
    });
}
