//! A forked child cannot touch its parent's ring. Alone in its binary: `fork` and other tests' threads
//! do not go together.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "fork")]

mod common;

use std::io::Write;
use std::ops::Range;

use common::{SOON, pipe};
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::BufRing;
use io_uring_ext::chain::Chain;
use io_uring_ext::fixed::{BufferTable, FileTable};
use io_uring_ext::message::Inbox;
use io_uring_ext::op::{Nop, Read};
use io_uring_ext::{Error, Fd, Ring, StartError};

/// Addresses that this process has mapped, joined where they touch.
fn mapped() -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).unwrap_or(0));
        match all.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => all.push(start..end),
        }
    }
    all
}

/// What of `before` is not mapped now.
fn gone(before: &[Range<usize>]) -> Vec<Range<usize>> {
    let now = mapped();
    let mut gone = Vec::new();
    for range in before {
        let mut start = range.start;
        for there in now.iter().filter(|there| there.start < range.end && there.end > range.start) {
            if there.start > start {
                gone.push(start..there.start);
            }
            start = there.end;
        }
        if start < range.end {
            gone.push(start..range.end);
        }
    }
    gone
}

/// Maps something at exactly these addresses, if nothing is there.
fn map_at(range: &Range<usize>) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let at = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: takes addresses at which nothing is.
    let answer = unsafe { libc::mmap(at, range.len(), libc::PROT_NONE, flags, -1, 0) };
    answer != libc::MAP_FAILED
}

#[test]
fn a_child_leaves_its_parents_ring_alone() {
    let ring = match Ring::builder().registered_wait().build_local() {
        Err(Error::Refused { .. }) => Ring::local(),
        ring => ring,
    }
    .unwrap();
    let chain = ring.push_chain(Chain::new(Nop::new()).then(Nop::new())).unwrap();
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
    let before = mapped();

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
        // The ring's memory is not there: something of the child's own is.
        let own = gone(&before);
        let taken = !own.is_empty() && own.iter().all(map_at);
        // All of these would end or change what the parent has in flight.
        drop((inbox, read, queued, chain, buffers, file, files, pool, table, ring));
        let kept = !own.iter().any(map_at);
        let code = if calls.contains(&false) {
            1
        } else if !taken {
            2
        } else if !kept {
            3
        } else {
            0
        };
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(code) };
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    let code = libc::WEXITSTATUS(status);
    assert!(libc::WIFEXITED(status), "the child did not crash");
    assert_ne!(code, 1, "the child was refused everywhere");
    assert_ne!(code, 2, "the ring's memory was not there, and its addresses could be used");
    assert_ne!(code, 3, "dropping the ring left the child's own memory alone");
    assert_eq!(code, 0);

    // The parent's operations are as they were.
    drop(post);
    assert!(inbox.is_empty());
    assert!(inbox.wait(Some(std::time::Duration::from_millis(1))).unwrap().is_none());
    queued.wait(SOON).unwrap().unwrap();
    assert!(matches!(chain.wait(SOON).unwrap().results, (Ok(()), Ok(()))));
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
