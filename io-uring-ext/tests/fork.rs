//! A forked child cannot touch its parent's ring. Alone in its binary: `fork` and other tests' threads
//! do not go together.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "fork")]

mod common;

use std::io::Write;

use common::{SOON, pipe};
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::BufRing;
use io_uring_ext::fixed::{BufferTable, FileTable};
use io_uring_ext::message::Inbox;
use io_uring_ext::op::{Nop, Read};
use io_uring_ext::{Error, Fd, Ring, StartError};

#[test]
fn a_child_leaves_its_parents_ring_alone() {
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 4, BufPool::local(64, 4).unwrap()).unwrap();
    let (reader, writer) = pipe();
    let read = ring.push(Read::new(&Fd::new(reader), Vec::with_capacity(8), 0)).unwrap();
    ring.submit().unwrap();
    let queued = ring.push(Nop::new()).unwrap();
    let files = FileTable::new(&ring, 2).unwrap();
    let file = files.install(&std::fs::File::open("/dev/zero").unwrap()).unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    let pool = BufPool::local(4096, 1).unwrap();
    table.register(&pool).unwrap();
    let disabled = Ring::builder().build_disabled().unwrap();
    let inbox = Inbox::new(&ring, 1).unwrap();
    let post = inbox.messenger().post(7).unwrap();

    // SAFETY: the child uses only this crate, which takes no lock that another thread may hold, and
    // leaves with `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let calls = [
            matches!(ring.submit(), Err(Error::Forked)),
            matches!(ring.wait(1, None), Err(Error::Forked)),
            matches!(ring.push(Nop::new()).unwrap_err().why, StartError::Ring(Error::Forked)),
            matches!(read.cancel(), Err(Error::Forked)),
            matches!(disabled.enable(), Err(Error::Forked)),
            matches!(files.reserve(), Err(Error::Forked)),
            matches!(files.clear(&file), Err(Error::Forked)),
            matches!(table.register(&pool), Err(Error::Forked)),
            !pool.is_registered(&ring),
            matches!(
                Ring::local().unwrap().push(post).unwrap_err().why,
                StartError::Ring(Error::ForeignRing)
            ),
        ];
        // All of these would end or change what the parent has in flight.
        drop((inbox, read, queued, buffers, file, files, pool, table, ring));
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(if calls.contains(&false) { 1 } else { 0 }) };
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child was refused everywhere and did not crash");

    // The parent's operations are as they were.
    drop(post);
    assert!(inbox.is_empty());
    assert!(inbox.wait(Some(std::time::Duration::from_millis(1))).unwrap().is_none());
    queued.wait(SOON).unwrap().unwrap();
    assert!(!read.is_done());
    std::fs::File::from(writer).write_all(b"alive").unwrap();
    assert_eq!(read.wait(SOON).unwrap().buf, b"alive");
    assert_eq!(buffers.available(), 4);
    disabled.enable().unwrap().submit().unwrap();
    assert_eq!((files.available(), table.available()), (1, 1));
    let mut buf = pool.take().unwrap();
    buf.set_len(4096);
    buf.fill(1);
    let read = ring.push(Read::new(&file, buf, 0)).unwrap().wait(SOON).unwrap();
    assert_eq!(read.buf[..], [0; 4096], "file, slot and memory are as they were");
}
