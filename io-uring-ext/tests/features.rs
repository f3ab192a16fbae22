//! What a ring can be told to do better.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use common::{SOON, Tracked, count, counter, lacks, pipe};
use io_uring_ext::chain::{Broken, Chain, Why};
use io_uring_ext::op::{Clock, Nop, Read, Timeout, TimeoutEnd};
use io_uring_ext::probe::{Opcode, Refusal, RegisterCall};
use io_uring_ext::{
    EntryFlags, Error, Fd, IoPoll, NapiBusyPoll, Restrictions, Ring, SqPoll, WorkerLimits,
};

const MOMENT: Duration = Duration::from_millis(20);

/// Waits of every kind end when they should.
fn waits_work(ring: &Ring) {
    // What came before is not waited for.
    ring.wait(0, None).unwrap();
    let began = Instant::now();
    assert_eq!(ring.wait(1, Some(MOMENT)).unwrap(), 0);
    assert!(began.elapsed() >= MOMENT && began.elapsed() < Duration::from_secs(5));
    assert_eq!(ring.wait(1, Some(Duration::ZERO)).unwrap(), 0);
    let timer = ring.push(Timeout::after(MOMENT)).unwrap();
    assert_eq!(ring.wait(1, Some(Duration::MAX)).unwrap(), 1);
    assert!(matches!(timer.wait(SOON).unwrap(), TimeoutEnd::Expired));
    ring.push(Nop::new()).unwrap().wait(None).unwrap().unwrap();
}

#[test]
fn registered_waits_end_in_time() {
    if lacks("IORING_REGISTER_MEM_REGION") {
        return;
    }
    for sqpoll in [None, Some(SqPoll::default())] {
        let mut builder = Ring::builder().registered_wait();
        if let Some(sqpoll) = sqpoll {
            builder = builder.sqpoll(sqpoll);
        }
        let ring = builder.build_local().unwrap();
        assert!(ring.setup().registered_wait);
        waits_work(&ring);
        // Handed over to another thread, too.
        let disabled = builder.build_disabled().unwrap();
        std::thread::spawn(move || waits_work(&disabled.enable().unwrap())).join().unwrap();
    }
    let refused = Ring::builder().registered_wait().build_shared().unwrap_err();
    assert!(matches!(refused, Error::Config { .. }), "{refused}");
}

#[test]
fn a_ring_is_found_by_its_registered_descriptor() {
    if lacks("IORING_REGISTER_RING_FDS") {
        return;
    }
    let ring = Ring::local().unwrap();
    ring.register_fd().unwrap();
    ring.register_fd().unwrap(); // twice is once
    waits_work(&ring);
    // A thread can have sixteen, and a dropped ring gives its place back.
    for _ in 0..3 {
        let mut rings = Vec::new();
        let refused = loop {
            let ring = Ring::builder().entries(4).build_local().unwrap();
            match ring.register_fd() {
                Ok(()) => rings.push(ring),
                Err(error) => break error,
            }
        };
        assert_eq!(rings.len(), 15, "with the one above");
        assert_eq!(refused.raw_os_error(), Some(libc::EBUSY), "{refused}");
        rings.iter().for_each(waits_work);
    }
    waits_work(&ring);
}

#[test]
fn a_batch_is_waited_for_but_not_long() {
    if lacks("IORING_FEAT_MIN_TIMEOUT") {
        return;
    }
    for registered in [false, true] {
        let mut builder = Ring::builder();
        if registered {
            builder = builder.registered_wait();
        }
        let ring = builder.build_local().unwrap();
        // One of four is there, so after the minimum it is enough. (Not a timeout: one that expires ends
        // every wait, whatever it is for.)
        let nop = ring.push(Nop::new()).unwrap();
        let began = Instant::now();
        let came = ring.wait_batch(4, MOMENT, Some(Duration::from_secs(100))).unwrap();
        let took = began.elapsed();
        assert_eq!((came, nop.is_done()), (1, true));
        assert!(took >= MOMENT && took < Duration::from_secs(50), "{took:?}");
        // None comes in the minimum: the first that comes ends it.
        let timer = ring.push(Timeout::after(MOMENT)).unwrap();
        let came =
            ring.wait_batch(4, Duration::from_millis(1), Some(Duration::from_secs(100))).unwrap();
        assert_eq!((came, timer.is_done()), (1, true));
        // All come at once: no reason to wait.
        let nops: Vec<_> = (0..4).map(|_| ring.push(Nop::new()).unwrap()).collect();
        let began = Instant::now();
        assert_eq!(ring.wait_batch(4, Duration::from_secs(100), None).unwrap(), 4);
        assert!(began.elapsed() < Duration::from_secs(50));
        drop(nops);
    }
}

#[test]
fn waits_are_measured_by_another_clock() {
    if lacks("IORING_REGISTER_CLOCK") {
        return;
    }
    let ring = Ring::local().unwrap();
    for clock in [Clock::Boottime, Clock::Monotonic] {
        ring.measure_waits_by(clock).unwrap();
        waits_work(&ring);
    }
    let refused = ring.measure_waits_by(Clock::Realtime).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "{refused}");
}

#[test]
fn network_devices_are_polled_while_waiting() {
    if lacks("IORING_REGISTER_NAPI") {
        return;
    }
    let ring = Ring::local().unwrap();
    let poll = NapiBusyPoll { time: Duration::from_micros(50), prefer: true };
    assert_eq!(ring.busy_poll_network(poll).unwrap(), NapiBusyPoll::default(), "off before");
    waits_work(&ring);
    // A part of a microsecond would be none, and polls nothing.
    let part = NapiBusyPoll { time: Duration::from_nanos(999), prefer: true };
    let error = ring.busy_poll_network(part).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error}");
    assert_eq!(ring.busy_poll_network(NapiBusyPoll::default()).unwrap(), poll, "it was on");
    waits_work(&ring);
}

#[test]
fn workers_are_limited_and_bound() {
    if lacks("IORING_REGISTER_IOWQ_MAX_WORKERS") {
        return;
    }
    for ring in [Ring::local(), Ring::builder().sqpoll(SqPoll::default()).build_local()] {
        let ring = ring.unwrap();
        let limits = WorkerLimits { bounded: 3, unbounded: 5 };
        let before = ring.limit_workers(limits).unwrap();
        assert!(before.bounded > 0 && before.unbounded > 0, "{before:?}");
        assert_eq!(
            ring.limit_workers(WorkerLimits::default()).unwrap(),
            limits,
            "as they were set"
        );
        ring.limit_workers(before).unwrap();

        ring.bind_workers(&[0]).unwrap();
        for cpu in [1000, usize::MAX] {
            let refused = ring.bind_workers(&[0, cpu]).unwrap_err();
            assert!(matches!(refused, Error::Config { .. }), "{refused}");
        }
        ring.bind_workers(&[]).unwrap();
    }
}

#[test]
fn a_restricted_ring_does_nothing_else() {
    let disabled = Ring::builder().build_disabled().unwrap();
    let restrictions = Restrictions::none()
        .opcode(Opcode::READ)
        .register(RegisterCall::REGISTER_EVENTFD)
        .flags(EntryFlags::IO_LINK);
    disabled.restrict(&restrictions).unwrap();
    let twice = disabled.restrict(&restrictions).unwrap_err();
    assert_eq!(twice.raw_os_error(), Some(libc::EBUSY), "{twice}");
    let ring = disabled.enable().unwrap();
    let zeros = Fd::new(std::fs::File::open("/dev/zero").unwrap());
    let read = || Read::new(&zeros, Vec::with_capacity(8), 0);

    let done = ring.push(read()).unwrap().wait(SOON).unwrap();
    assert_eq!(done.result.unwrap(), 8);
    ring.poll_fd().unwrap();
    let refused = ring.push(Timeout::after(MOMENT)).unwrap().wait(SOON).unwrap();
    let TimeoutEnd::Failed(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    let refused = ring.limit_workers(WorkerLimits::default()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "{refused}");

    // Links are flags too. An entry that is refused cancels its whole chain, before and behind.
    assert!(
        ring.push_chain(Chain::new(read()).then(read()))
            .unwrap()
            .wait(SOON)
            .unwrap()
            .summary
            .is_whole()
    );
    let hard = Chain::new(read()).then_always(read());
    let done = ring.push_chain(hard).unwrap().wait(SOON).unwrap();
    let refused = Why::Failed(libc::EACCES);
    assert_eq!(done.summary.broken(), Some(Broken { member: 0, why: refused }));
    let middle = Chain::new(read()).then(Timeout::after(MOMENT)).then(read());
    let done = ring.push_chain(middle).unwrap().wait(SOON).unwrap();
    assert_eq!(done.summary.broken(), Some(Broken { member: 1, why: refused }));
    assert_eq!(done.summary.cancelled(), [0, 2]);

    // The ring can always end what is in flight.
    let (reader, _writer) = pipe();
    let freed = counter();
    let hanging = ring.push(Read::new(&Fd::new(reader), Tracked::new(8, &freed), 0)).unwrap();
    ring.submit().unwrap();
    drop(hanging);
    assert_eq!(ring.close(), 0);
    assert_eq!(count(&freed), 1);
}

#[test]
fn queues_get_other_sizes_with_operations_in_flight() {
    if lacks("IORING_REGISTER_RESIZE_RINGS") {
        return;
    }
    let ring = Ring::builder().entries(4).completions(8).operations(512).build_local().unwrap();
    let (reader, writer) = pipe();
    let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
    let freed = counter();
    let sizes = [(64, 256), (4, 4), (8, 64), (128, 512), (1, 1), (16, 32)];
    for (round, (entries, completions)) in (1..).zip(sizes) {
        let read = ring.push(Read::new(&reader, Tracked::new(1, &freed), 0)).unwrap();
        ring.submit().unwrap();
        let queued = ring.push(Nop::new()).unwrap(); // not submitted yet
        ring.resize(entries, completions).unwrap();
        writer.write_all(b"x").unwrap();
        assert_eq!(read.wait(SOON).unwrap().result.unwrap(), 1);
        queued.wait(SOON).unwrap().unwrap();
        assert_eq!(count(&freed), round);
        // More than either size before, and chains as long as the queue is now.
        let nops: Vec<_> = (0..200).map(|_| ring.push(Nop::new()).unwrap()).collect();
        for nop in nops {
            nop.wait(SOON).unwrap().unwrap();
        }
        for _ in 0..3 {
            let chain = Chain::each((0..entries).map(|_| Nop::new()));
            assert!(ring.push_chain(chain).unwrap().wait(SOON).unwrap().summary.is_whole());
        }
    }
    assert!(matches!(ring.resize(0, 8), Err(Error::Config { .. })));
    assert!(matches!(ring.resize(64, 32), Err(Error::Config { .. })));
    assert_eq!((ring.counters().stale, ring.in_flight(), ring.close()), (0, 0, 0));

    let polled = Ring::builder().sqpoll(SqPoll::default()).build_local().unwrap();
    assert!(matches!(polled.resize(8, 16), Err(Error::Refused { .. })));
}

/// A file of zeros, opened past the page cache, and removed from its directory.
fn direct_file() -> Option<Fd> {
    let path = std::env::temp_dir().join(format!("io-uring-ext-iopoll-{}", std::process::id()));
    std::fs::write(&path, vec![0; 64 * 4096]).unwrap();
    let direct = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    std::fs::remove_file(&path).unwrap();
    direct.ok().map(Fd::new)
}

#[test]
fn a_ring_that_polls_its_device_reads_or_says_that_it_cannot() {
    let Some(file) = direct_file() else {
        return bypass_core::testing::needs::skip_because(
            "the temporary directory's file system has no O_DIRECT",
        );
    };
    for (iopoll, flag) in
        [(IoPoll::Busy, "IORING_SETUP_IOPOLL"), (IoPoll::Hybrid, "IORING_SETUP_HYBRID_IOPOLL")]
    {
        if lacks(flag) {
            continue;
        }
        let ring = Ring::builder().iopoll(iopoll).build_local().unwrap();
        assert_eq!(ring.setup().iopoll, Some(iopoll));
        // Nops need no device; waits without anything end in time.
        ring.push(Nop::new()).unwrap().wait(SOON).unwrap().unwrap();
        assert_eq!(ring.wait(0, None).unwrap(), 1);
        let began = Instant::now();
        assert_eq!(ring.wait(1, Some(MOMENT)).unwrap(), 0);
        assert!(began.elapsed() >= MOMENT);
        // What cannot be polled is refused.
        let timeout = ring.push(Timeout::after(MOMENT)).unwrap().wait(SOON).unwrap();
        assert!(matches!(timeout, TimeoutEnd::Failed(_)), "{timeout:?}");
        assert!(matches!(ring.poll_fd(), Err(Error::Config { .. })));
        let buf = |_| io_uring_ext::buf::AlignedBuf::new(4096).unwrap();
        let reads: Vec<_> =
            (0..32).map(|n| ring.push(Read::new(&file, buf(n), n * 4096)).unwrap()).collect();
        let mut served = 0;
        for read in reads {
            match read.wait(SOON).unwrap().result {
                Ok(4096) => served += 1,
                // The device, or its file system, has no queues to poll.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(served == 0 || served == 32, "all or none: {served}");
        if served == 0 {
            eprintln!("the device has no queues to poll: refused with EOPNOTSUPP");
        }
        // Dropping the ring takes the completions of what is in flight, which only polling brings.
        let freed = counter();
        let buffers = (0..8).map(|n| Read::new(&file, Held(buf(n), Tracked::new(0, &freed)), 0));
        buffers.for_each(|read| ring.push(read).unwrap().detach());
        ring.submit().unwrap();
        assert_eq!(ring.close(), 0);
        assert_eq!(count(&freed), 8);
    }
    let refused = Ring::builder().iopoll(IoPoll::Busy).build_shared().unwrap_err();
    assert!(matches!(refused, Error::Config { .. }), "{refused}");
}

/// A buffer that counts when it is freed.
struct Held(
    io_uring_ext::buf::AlignedBuf,
    #[expect(dead_code, reason = "counts when it is dropped")] Tracked,
);

#[allow(unsafe_code, reason = "a buffer type of the tests' own")]
mod held {
    use super::Held;
    use io_uring_ext::buf::{IoBuf, IoBufMut};

    // SAFETY: the buffer's own.
    unsafe impl IoBuf for Held {
        fn stable_ptr(&self) -> *const u8 {
            self.0.stable_ptr()
        }
        fn init_len(&self) -> usize {
            self.0.init_len()
        }
    }

    // SAFETY: the buffer's own.
    unsafe impl IoBufMut for Held {
        fn stable_mut_ptr(&mut self) -> *mut u8 {
            self.0.stable_mut_ptr()
        }
        fn capacity(&self) -> usize {
            self.0.capacity()
        }
        unsafe fn set_init(&mut self, len: usize) {
            // SAFETY: passed on to the caller.
            unsafe { self.0.set_init(len) };
        }
    }
}

#[test]
fn what_the_kernel_does_not_have_is_refused_by_name() {
    let ring = Ring::shared().unwrap();
    // No kernel measures waits by this clock.
    let refused = ring.measure_waits_by(Clock::Realtime).unwrap_err();
    let Error::Refused { what, refusal } = &refused else { panic!("{refused}") };
    assert!(matches!(refusal, Refusal::Other { .. } | Refusal::OldKernel { .. }));
    assert!(refused.to_string().contains(what), "{refused}");
}
