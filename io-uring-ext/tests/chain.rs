//! Operations that the kernel starts one after the other.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{SOON, Tracked, count, counter, pipe, until};
use io_uring_ext::chain::{Broken, Chain, Why};
use io_uring_ext::fixed::FileTable;
use io_uring_ext::op::{
    Close, Fsync, Nop, Open, OpenOptions, PathAt, Read, ReadDone, Send, Timeout, Write,
};
use io_uring_ext::{Error, Fd, Ring, StartError};
use proptest::prelude::*;

const NEVER: Duration = Duration::from_secs(1000);
const MOMENT: Duration = Duration::from_millis(10);

fn read(fd: &Fd) -> Read<Vec<u8>> {
    Read::new(fd, Vec::with_capacity(8), 0)
}

/// A descriptor from which a read gives four bytes, then the end.
fn short() -> Fd {
    let path = std::env::temp_dir().join(format!(
        "io-uring-ext-chain-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, b"four").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    Fd::new(file)
}

/// A descriptor from which no read succeeds.
fn unreadable() -> Fd {
    Fd::new(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap())
}

fn zeros() -> Fd {
    Fd::new(std::fs::File::open("/dev/zero").unwrap())
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn members_run_one_after_the_other() {
    let ring = Ring::local().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let (a, b) = (Fd::new(a), Fd::new(b));
    // Each read can only succeed after the write before it. The rooms fit what comes: less would break
    // a soft link.
    let chain = Chain::new(Send::new(&a, b"one".to_vec()))
        .then(Read::new(&b, Vec::with_capacity(3), 0))
        .then(Send::new(&b, b"two".to_vec()))
        .then(Read::new(&a, Vec::with_capacity(3), 0));
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    assert!(done.summary.is_whole(), "{:?}", done.summary);
    done.summary.to_result().unwrap();
    let (one, at_b, two, at_a) = done.results;
    assert_eq!((one.result.unwrap(), two.result.unwrap()), (3, 3));
    assert_eq!((at_b.buf.as_slice(), at_a.buf.as_slice()), (&b"one"[..], &b"two"[..]));
}

#[test]
fn a_failed_member_cancels_what_is_behind_soft_links() {
    let ring = Ring::local().unwrap();
    let chain =
        Chain::new(Nop::new()).then(read(&unreadable())).then(read(&zeros())).then(Nop::new());
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    let broken = Broken { member: 1, why: Why::Failed(libc::EBADF) };
    assert_eq!(done.summary.broken(), Some(broken));
    assert_eq!(done.summary.cancelled(), [2, 3]);
    assert_eq!(done.summary.members(), 4);
    assert_eq!(errno(done.summary.to_result()), Some(libc::EBADF));
    let (first, failed, cancelled, last) = done.results;
    first.unwrap();
    assert_eq!(errno(failed.result), Some(libc::EBADF));
    assert_eq!(errno(cancelled.result), Some(libc::ECANCELED));
    assert_eq!(cancelled.buf.capacity(), 8, "the buffer comes back");
    assert_eq!(errno(last), Some(libc::ECANCELED));
}

#[test]
fn a_hard_link_goes_on_after_a_failure() {
    let ring = Ring::local().unwrap();
    let chain = Chain::new(read(&unreadable())).then_always(read(&zeros())).then(Nop::new());
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    let broken = Broken { member: 0, why: Why::Failed(libc::EBADF) };
    assert_eq!(done.summary.broken(), Some(broken));
    assert!(done.summary.cancelled().is_empty());
    let (_, zeros, nop) = done.results;
    assert_eq!(zeros.result.unwrap(), 8);
    nop.unwrap();
}

#[test]
fn a_short_read_breaks_a_soft_link_and_not_a_hard_one() {
    let ring = Ring::local().unwrap();
    let done = ring.push_chain(Chain::new(read(&short())).then(Nop::new())).unwrap();
    let done = done.wait(SOON).unwrap();
    assert_eq!(done.summary.broken(), Some(Broken { member: 0, why: Why::Short }));
    assert_eq!(done.summary.cancelled(), [1]);
    assert_eq!(done.summary.to_result().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(done.results.0.result.unwrap(), 4);
    assert_eq!(done.results.0.buf, b"four");

    let done = ring.push_chain(Chain::new(read(&short())).then_always(Nop::new())).unwrap();
    let done = done.wait(SOON).unwrap();
    assert!(done.summary.is_whole());
    done.results.1.unwrap();
}

#[test]
fn a_time_limit_ends_its_member() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);

    let chain = Chain::new(Nop::new()).then(read(&reader)).within(MOMENT).then(Nop::new());
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    assert_eq!(done.summary.broken(), Some(Broken { member: 1, why: Why::TimedOut }));
    assert_eq!(done.summary.cancelled(), [2]);
    assert_eq!(done.summary.to_result().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(errno(done.results.1.result), Some(libc::ECANCELED));

    let chain = Chain::new(read(&reader)).within(MOMENT).then_always(Nop::new());
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    assert_eq!(done.summary.broken(), Some(Broken { member: 0, why: Why::TimedOut }));
    assert!(done.summary.cancelled().is_empty());
    done.results.1.unwrap();
    assert_eq!(ring.in_flight(), 0, "the limits have ended too");
}

#[test]
fn a_time_limit_that_is_not_reached_does_nothing() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
    let chain = Chain::new(Read::new(&reader, Vec::with_capacity(1), 0))
        .within(NEVER)
        .then(Read::new(&reader, Vec::with_capacity(1), 0))
        .within(NEVER);
    let pending = ring.push_chain(chain).unwrap();
    ring.submit().unwrap();
    writer.write_all(b"ab").unwrap();
    let done = pending.wait(SOON).unwrap();
    assert!(done.summary.is_whole());
    let (a, b) = done.results;
    assert_eq!((a.buf.as_slice(), b.buf.as_slice()), (&b"a"[..], &b"b"[..]));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn an_expired_timeout_breaks_a_soft_link_unless_told_otherwise() {
    let ring = Ring::local().unwrap();
    let timeout = Timeout::after(Duration::from_millis(1));
    let done = ring.push_chain(Chain::new(timeout).then(Nop::new())).unwrap().wait(SOON).unwrap();
    assert_eq!(done.summary.broken(), Some(Broken { member: 0, why: Why::Failed(libc::ETIME) }));
    assert_eq!(done.summary.cancelled(), [1]);

    let chain = Chain::new(timeout.expiry_is_success()).then(Nop::new());
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    done.results.1.unwrap();
}

#[test]
fn a_chain_without_room_comes_back_whole() {
    let freed = counter();
    let ring = Ring::builder().entries(4).operations(6).build_local().unwrap();
    let zeros = zeros();
    let reads = |n| Chain::each((0..n).map(|_| Read::new(&zeros, Tracked::new(8, &freed), 0)));

    // Longer than the queue, with members alone or with their limits.
    let refused = ring.push_chain(reads(5)).unwrap_err();
    let length = StartError::Ring(Error::ChainLength { entries: 5, capacity: 4 });
    assert_eq!(refused.why.to_string(), length.to_string());
    assert_eq!(refused.operation.into_operations().0.len(), 5);
    let refused = ring.push_chain(reads(3).within(NEVER)).unwrap_err();
    assert!(matches!(
        refused.why,
        StartError::Ring(Error::ChainLength { entries: 6, capacity: 4 })
    ));
    // No members at all.
    let refused = ring.push_chain(Chain::each(Vec::<Nop>::new())).unwrap_err();
    assert!(matches!(
        refused.why,
        StartError::Ring(Error::ChainLength { entries: 0, capacity: 4 })
    ));
    // No places.
    let taken: Vec<_> = (0..4).map(|_| ring.push(Timeout::after(NEVER)).unwrap()).collect();
    drop(refused);
    let freed_before = count(&freed);
    let refused = ring.push_chain(reads(3)).unwrap_err();
    assert!(matches!(refused.why, StartError::TooMany { capacity: 6 }), "{:?}", refused.why);
    assert_eq!(
        (ring.in_flight(), count(&freed)),
        (4, freed_before),
        "nothing began, nothing is lost"
    );
    drop(taken);
    until("the places to become free", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    // The same chain, now that there is room; and one that fills the queue.
    let done = ring.push_chain(refused.operation).unwrap().wait(SOON).unwrap();
    assert_eq!(done.results.0.len(), 3);
    assert!(ring.push_chain(reads(4)).unwrap().wait(SOON).unwrap().summary.is_whole());
}

#[test]
fn a_queue_with_less_room_than_the_chain_is_submitted_first() {
    let ring = Ring::builder().entries(4).completions(64).build_local().unwrap();
    let nops: Vec<_> = (0..3).map(|_| ring.push(Nop::new()).unwrap()).collect();
    let chain = ring.push_chain(Chain::each((0..3).map(|_| Nop::new()))).unwrap();
    assert!(nops.iter().all(|nop| nop.is_done()), "they had to make room");
    assert!(!chain.is_done());
    assert!(chain.wait(SOON).unwrap().summary.is_whole());
}

#[test]
fn many_members_of_one_type_and_one_of_another() {
    let ring = Ring::local().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let (a, b) = (Fd::new(a), Fd::new(b));
    let sends = (0..10_u8).map(|n| Send::new(&a, vec![n; 2]));
    let chain = Chain::each(sends).then(Read::new(&b, Vec::with_capacity(20), 0));
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    let (sent, received): (Vec<_>, ReadDone<_>) = done.results;
    assert_eq!(sent.len(), 10);
    let expected: Vec<u8> = (0..10).flat_map(|n| [n; 2]).collect();
    assert_eq!(received.buf, expected, "in order");
    assert_eq!(done.summary.members(), 11);
}

#[test]
fn a_file_is_opened_read_and_closed_in_one_submission() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, b"contents").unwrap();
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let read_all = |path: &std::path::Path, room| {
        let slot = table.reserve().unwrap();
        let path = PathAt::new(path).unwrap();
        let chain = Chain::new(Open::into_slot(path, OpenOptions::read_only(), &slot))
            .then(Read::new(&slot, Vec::with_capacity(room), 0))
            // Whether the read was good, short or bad.
            .then_always(Close::slot(&slot).unwrap());
        let enters = ring.counters().enters;
        let pending = ring.push_chain(chain).unwrap();
        ring.submit().unwrap();
        assert_eq!(ring.counters().enters, enters + 1);
        let done = pending.wait(SOON).unwrap();
        let (opened, read, closed) = done.results;
        drop((opened, slot));
        ring.submit().unwrap();
        assert_eq!(table.available(), 1, "nothing is in the slot, and nobody has it");
        (done.summary, read, closed)
    };
    let (summary, read, closed) = read_all(path.path(), 8);
    assert!(summary.is_whole(), "{summary:?}");
    assert_eq!(read.buf, b"contents");
    closed.unwrap();

    // A short read does not keep the file open.
    let (summary, read, closed) = read_all(path.path(), 100);
    assert!(summary.is_whole(), "short, before a hard link: {summary:?}");
    assert_eq!(read.buf, b"contents");
    closed.unwrap();

    // What could not be opened is not read; then there is nothing to close.
    let (summary, _, _) = read_all(std::path::Path::new("/no/such/file"), 8);
    let broken = Broken { member: 0, why: Why::Failed(libc::ENOENT) };
    assert_eq!(summary.broken(), Some(broken));
    assert_eq!(summary.cancelled(), [1, 2]);
}

#[test]
fn a_log_syncs_what_it_has_written_and_nothing_less() {
    let file = tempfile::tempfile().unwrap();
    let fd = Fd::new(file.try_clone().unwrap());
    let ring = Ring::local().unwrap();
    let records = |first: u8| (first..first + 4).map(|n| vec![n; 512]);
    let writes = |fd: &Fd, first: u8| {
        let fd = fd.clone();
        records(first).zip(0..).map(move |(record, n)| Write::new(&fd, record, n * 512))
    };
    let chain = Chain::each(writes(&fd, 1)).then(Fsync::data(&fd)).within(NEVER);
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    assert!(done.summary.is_whole(), "{:?}", done.summary);
    assert!(done.results.0.into_iter().all(|write| write.result.unwrap() == 512));
    done.results.1.unwrap();
    let mut written = vec![0; 2048];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut written, 0).unwrap();
    assert_eq!(written, records(1).flatten().collect::<Vec<u8>>());

    // A write that fails leaves nothing acknowledged: no write behind it, and no sync.
    let read_only = Fd::new(std::fs::File::open("/dev/null").unwrap());
    let bad = Write::new(&read_only, vec![0; 512], 0);
    let chain = Chain::new(bad).then_each(writes(&fd, 5)).then(Fsync::data(&fd));
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    let broken = Broken { member: 0, why: Why::Failed(libc::EBADF) };
    assert_eq!(done.summary.broken(), Some(broken));
    assert_eq!(done.summary.cancelled(), [1, 2, 3, 4, 5]);
    assert_eq!(errno(done.results.2), Some(libc::ECANCELED));
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut written, 0).unwrap();
    assert_eq!(written, records(1).flatten().collect::<Vec<u8>>(), "as it was");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Will {
    Succeed,
    Fail,
    FallShort,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Which members run, against what the links promise.
    #[test]
    fn links_decide_who_runs(
        wills in proptest::array::uniform5(prop_oneof![
            3 => Just(Will::Succeed), 1 => Just(Will::Fail), 1 => Just(Will::FallShort),
        ]),
        hard in proptest::array::uniform4(any::<bool>()),
    ) {
        let ring = Ring::local().unwrap();
        let (zeros, short, unreadable) = (zeros(), short(), unreadable());
        let member = |n: usize| match wills[n] {
            Will::Succeed => read(&zeros),
            Will::Fail => read(&unreadable),
            Will::FallShort => read(&short),
        };
        let chain = Chain::new(member(0));
        let chain = if hard[0] { chain.then_always(member(1)) } else { chain.then(member(1)) };
        let chain = if hard[1] { chain.then_always(member(2)) } else { chain.then(member(2)) };
        let chain = if hard[2] { chain.then_always(member(3)) } else { chain.then(member(3)) };
        let chain = if hard[3] { chain.then_always(member(4)) } else { chain.then(member(4)) };
        let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();

        let mut runs = true;
        let mut broken = None;
        let mut cancelled = Vec::new();
        let results = <[ReadDone<_>; 5]>::from(done.results);
        for (n, result) in results.into_iter().enumerate() {
            let expected = match wills[n] {
                _ if !runs => Err(Some(libc::ECANCELED)),
                Will::Succeed => Ok(8),
                Will::Fail => Err(Some(libc::EBADF)),
                Will::FallShort => Ok(4),
            };
            let got = result.result.map_err(|error| error.raw_os_error());
            prop_assert_eq!(got, expected, "member {}", n);
            let soft = n < 4 && !hard[n];
            if !runs {
                cancelled.push(n);
            } else if wills[n] == Will::Fail {
                broken.get_or_insert(Broken { member: n, why: Why::Failed(libc::EBADF) });
            } else if wills[n] == Will::FallShort && soft {
                broken.get_or_insert(Broken { member: n, why: Why::Short });
            }
            // A broken chain stays broken: the kernel fails all that is behind.
            runs &= !(soft && wills[n] != Will::Succeed);
        }
        prop_assert_eq!(done.summary.broken(), broken);
        prop_assert_eq!(done.summary.cancelled(), cancelled);
        prop_assert_eq!(ring.in_flight(), 0);
    }
}
