//! Files bound to a ring, waited for and awaited.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::fs;

use common::{SOON, directory, errno, lacks};
use io_uring_ext::buf::{BufPool, IoBuf, IoBufMut};
use io_uring_ext::driver::Runner;
use io_uring_ext::fixed::FileTable;
use io_uring_ext::fs::{CloseError, File};
use io_uring_ext::op::{AllocateMode, OpenOptions, PathAt, Vectored};
use io_uring_ext::{Error, Ring, StartError};

const NEW: OpenOptions = OpenOptions::read_write().create_new(0o600);

#[test]
fn a_file_is_used_by_waiting() {
    if lacks("IORING_OP_FTRUNCATE") {
        return;
    }
    let (ring, dir) = (Ring::shared().unwrap(), directory());
    let path = PathAt::new(dir.path().join("file")).unwrap();
    let file = File::open(&ring, path.clone(), NEW).unwrap().wait(SOON).unwrap().unwrap();
    let again = File::open(&ring, path, NEW).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(again), libc::EEXIST);

    file.allocate(AllocateMode::KEEP_SIZE, 0, 1 << 16).unwrap().wait(SOON).unwrap().unwrap();
    let pieces = ["vec", "tored"].into_iter().collect();
    assert_eq!(file.write_vectored_at(pieces, 0).unwrap().wait(SOON).unwrap().result.unwrap(), 8);
    assert_eq!(file.append(" end").unwrap().wait(SOON).unwrap().result.unwrap(), 4);
    file.sync_all().unwrap().wait(SOON).unwrap().unwrap();
    let found = file.metadata().unwrap().wait(SOON).unwrap().unwrap();
    assert!(found.len() == 12 && found.allocated() >= 1 << 16, "{found:?}");
    let bufs: Vectored<_> = [Vec::with_capacity(3), Vec::with_capacity(99)].into_iter().collect();
    let read = file.read_vectored_at(bufs, 0).unwrap().wait(SOON).unwrap();
    assert_eq!(read.buf.bufs(), [b"vec".to_vec(), b"tored end".to_vec()]);
    file.truncate(3).unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"vec");

    // What is in use elsewhere is not closed, and comes back.
    let elsewhere = file.fd().clone();
    let Err(CloseError::InUse(file)) = file.close() else { panic!("it is in use") };
    drop(elsewhere);
    file.close().unwrap().wait(SOON).unwrap().unwrap();
}

#[test]
fn a_file_is_used_by_awaiting() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let outcome = Runner::new(&ring).unwrap().block_on(async {
        let path = PathAt::new(&path)?;
        let file = File::open(&ring, path, NEW)?.await??;
        let first = file.write_at(b"first ".to_vec(), 0)?;
        let second = file.write_at(b"second".to_vec(), 6)?;
        assert_eq!((second.await?.result?, first.await?.result?), (6, 6));
        file.sync_data()?.await??;
        assert_eq!(file.read_at(vec![0; 64], 0)?.await?.buf, b"first second");
        file.close()?.await??;
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    outcome.unwrap().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first second");
}

#[test]
fn a_registered_file_is_used_through_its_slot() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let table = FileTable::new(&ring, 1).unwrap();
    let mut file = File::new(&ring, fs::File::create_new(&path).unwrap());
    file.register(&table).unwrap();
    assert_eq!(table.available(), 0);
    assert_eq!(file.write_at("by slot", 0).unwrap().wait(SOON).unwrap().result.unwrap(), 7);
    file.sync_data().unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(file.read_at(vec![0; 9], 3).unwrap().wait(SOON).unwrap().buf, b"slot");
    assert_eq!(file.metadata().unwrap().wait(SOON).unwrap().unwrap().len(), 7);

    let mut other = File::new(&ring, fs::File::open(&path).unwrap());
    assert!(matches!(other.register(&table).unwrap_err(), Error::TableFull { .. }));
    assert_eq!(other.read_at(vec![0; 9], 0).unwrap().wait(SOON).unwrap().buf, b"by slot");
    file.close().unwrap().wait(SOON).unwrap().unwrap();
    common::until("the slot to be free", || {
        ring.submit().unwrap();
        table.available() == 1
    });
    // Of the two descriptors of it the first is closed.
    drop(other);
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fs::read_link(fd.unwrap().path()));
    assert_eq!(open.filter(|link| link.as_ref().is_ok_and(|link| *link == path)).count(), 0);
}

#[test]
fn a_short_read_goes_on_in_the_rest_of_the_buffer() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = common::pipe();
    let (file, mut writer) = (File::new(&ring, reader), fs::File::from(writer));
    let (mut buf, mut rounds) = (Vec::with_capacity(20), 0);
    while buf.len() < 20 {
        std::io::Write::write_all(&mut writer, b"seven b").unwrap();
        let done = buf.len();
        let read = file.read_at(buf.slice_mut(done..20).unwrap(), 0).unwrap().wait(SOON).unwrap();
        assert_eq!(read.result.unwrap(), 7.min(20 - done));
        buf = read.buf.into_inner();
        rounds += 1;
    }
    assert_eq!((rounds, &buf[..]), (3, &b"seven bseven bseven "[..]));
    assert_eq!(buf.capacity(), 20, "never more than fits");

    // And a write from the middle of a buffer.
    let (reader, writer) = common::pipe();
    let file = File::new(&ring, writer);
    let pool = BufPool::local(8, 1).unwrap();
    let mut buf = pool.take().unwrap();
    buf.set_len(8);
    buf.copy_from_slice(b"abcdefgh");
    let sent = file.write_at(buf.slice(2..5).unwrap(), 0).unwrap().wait(SOON).unwrap();
    assert_eq!((sent.result.unwrap(), sent.buf.bytes()), (3, &b"cde"[..]));
    assert_eq!(sent.buf.into_inner()[..], *b"abcdefgh");
    let mut got = [0; 8];
    assert_eq!(std::io::Read::read(&mut fs::File::from(reader), &mut got).unwrap(), 3);
}

#[test]
fn a_file_of_a_ring_that_is_gone_says_so() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let opening = File::open(&ring, PathAt::new(&path).unwrap(), NEW).unwrap();
    ring.submit().unwrap();
    drop(ring);
    // It was opened, or cancelled before.
    if let Ok(file) = opening.wait(SOON).unwrap() {
        let refused = file.write_at(b"bytes".to_vec(), 0).unwrap_err();
        assert!(matches!(refused.why, StartError::Ring(Error::Closed)), "{refused}");
        assert_eq!(refused.operation.into_buf(), b"bytes");
        let Err(CloseError::NotStarted(refused)) = file.close() else { panic!("it is closed") };
        drop(refused);
    }
}
