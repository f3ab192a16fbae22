//! Messages between rings.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{SOON, pipe, until};
use io_uring_ext::chain::Chain;
use io_uring_ext::fixed::FileTable;
use io_uring_ext::message::{Inbox, Mail, PostError};
use io_uring_ext::op::{FilesUpdate, Nop, Read};
use io_uring_ext::{Error, Fd, Ring};

fn value(mail: Option<Mail>) -> u64 {
    match mail {
        Some(Mail::Value(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_bit_of_a_number_arrives() {
    let (here, there) = (Ring::local().unwrap(), Ring::local().unwrap());
    let inbox = Inbox::new(&there, 64).unwrap();
    let messenger = inbox.messenger();
    let numbers = (0..64).map(|bit| 1 << bit).chain([0, u64::MAX, 0x8000_0000_7fff_ffff]);
    for number in numbers {
        here.push(messenger.post(number).unwrap()).unwrap().wait(SOON).unwrap().result.unwrap();
        assert_eq!(value(inbox.wait(SOON).unwrap()), number);
        messenger.send(number).unwrap();
        assert_eq!(value(inbox.wait(SOON).unwrap()), number);
    }
    // To itself, too.
    there.push(messenger.post(7).unwrap()).unwrap().wait(SOON).unwrap().result.unwrap();
    assert_eq!(value(inbox.wait(SOON).unwrap()), 7);
    assert!(inbox.is_empty());
    assert!(matches!(inbox.try_recv(), Ok(None)));
}

#[test]
fn a_message_wakes_whoever_sleeps_on_the_other_ring() {
    // The other ring sleeps in `enter` (local) or polls its descriptor (shared).
    fn sleeper<M: io_uring_ext::Mode>(inbox: &Inbox<M>) {
        let began = Instant::now();
        assert_eq!(value(inbox.wait(Some(Duration::from_secs(100))).unwrap()), 1);
        assert!(began.elapsed() < Duration::from_secs(50), "it was woken");
    }
    for shared in [false, true] {
        let (send, receive) = std::sync::mpsc::channel();
        let sleeping = std::thread::spawn(move || {
            if shared {
                let ring = Ring::shared().unwrap();
                let inbox = Inbox::new(&ring, 1).unwrap();
                send.send(inbox.messenger()).unwrap();
                sleeper(&inbox);
            } else {
                let ring = Ring::local().unwrap();
                let inbox = Inbox::new(&ring, 1).unwrap();
                send.send(inbox.messenger()).unwrap();
                sleeper(&inbox);
            }
        });
        let messenger = receive.recv().unwrap();
        let ring = Ring::local().unwrap();
        ring.push(messenger.post(1).unwrap()).unwrap().wait(SOON).unwrap().result.unwrap();
        sleeping.join().unwrap();
        assert!(messenger.is_closed());
        assert!(matches!(messenger.post(2), Err(PostError::Closed)));
        assert!(matches!(messenger.send(2), Err(PostError::Closed)));
    }
}

#[test]
fn threads_flood_an_inbox_and_nothing_is_lost() {
    const EACH: u64 = 5_000;
    // A small completion queue, so that the kernel has to keep messages back.
    let ring = Ring::builder().entries(8).completions(16).build_local().unwrap();
    let inbox = Inbox::new(&ring, 500).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let messenger = inbox.messenger();
            scope.spawn(move || {
                let ring = Ring::builder().entries(32).build_local().unwrap();
                let mut full = 0;
                for n in 0..EACH {
                    let number = thread << 32 | n;
                    loop {
                        match messenger.post(number) {
                            Ok(post) if n % 2 == 0 => {
                                let sent = ring.push(post).unwrap().wait(SOON).unwrap();
                                sent.result.unwrap();
                                break;
                            }
                            // Given back: its place is free again for the call without a ring.
                            Ok(post) => {
                                drop(post);
                                match messenger.send(number) {
                                    Ok(()) => break,
                                    Err(PostError::Full { capacity: 500 }) => {}
                                    Err(error) => panic!("{error}"),
                                }
                            }
                            Err(PostError::Full { capacity: 500 }) => {}
                            Err(error) => panic!("{error}"),
                        }
                        full += 1;
                        std::thread::yield_now();
                    }
                }
                full
            });
        }
        let mut next = [0; 4];
        for _ in 0..4 * EACH {
            let number = value(inbox.wait(SOON).unwrap());
            let (thread, n) = ((number >> 32) as usize, number & 0xffff_ffff);
            assert_eq!(n, next[thread], "in the order of each thread");
            next[thread] += 1;
        }
        assert_eq!(next, [EACH; 4]);
    });
    assert!(inbox.is_empty());
    assert_eq!(ring.counters().stray_messages, 0);
}

#[test]
fn a_full_inbox_refuses_before_anything_is_sent() {
    let ring = Ring::local().unwrap();
    let inbox = Inbox::new(&ring, 2).unwrap();
    let messenger = inbox.messenger();
    let waiting = messenger.post(1).unwrap();
    messenger.send(2).unwrap();
    assert!(matches!(messenger.post(3), Err(PostError::Full { capacity: 2 })));
    assert!(matches!(messenger.send(3), Err(PostError::Full { capacity: 2 })));
    assert_eq!(inbox.len(), 2);
    // What is not sent gives its place back: dropped, or cancelled before its turn.
    drop(waiting);
    assert_eq!(inbox.len(), 1);
    let failing = Read::new(
        &Fd::new(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap()),
        vec![0; 8],
        0,
    );
    let chain = Chain::new(failing).then(messenger.post(4).unwrap());
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    assert!(done.results.1.result.is_err());
    assert_eq!(inbox.len(), 1);
    // Nobody has to look at the result of what is sent.
    ring.push(messenger.post(5).unwrap()).unwrap().detach();
    assert_eq!(value(inbox.wait(SOON).unwrap()), 2);
    assert_eq!(value(inbox.wait(SOON).unwrap()), 5);
    until("the place to come back", || inbox.is_empty());
}

#[test]
fn a_message_tells_that_a_chain_has_got_so_far() {
    let (here, there) = (Ring::local().unwrap(), Ring::local().unwrap());
    let inbox = Inbox::new(&there, 4).unwrap();
    let chain = Chain::new(Nop::new()).then(inbox.messenger().post(9).unwrap());
    assert!(here.push_chain(chain).unwrap().wait(SOON).unwrap().summary.is_whole());
    assert_eq!(value(inbox.wait(SOON).unwrap()), 9);
}

#[test]
fn a_ring_has_one_inbox_and_mail_for_an_earlier_one_is_counted() {
    let ring = Ring::local().unwrap();
    assert!(matches!(Inbox::new(&ring, 0), Err(Error::Config { .. })));
    let first = Inbox::new(&ring, 8).unwrap();
    assert!(matches!(Inbox::new(&ring, 8), Err(Error::Config { .. })));
    let old = first.messenger();
    let late = old.post(1).unwrap();
    old.send(2).unwrap();
    drop(first);
    assert!(matches!(old.post(3), Err(PostError::Closed)));
    let second = Inbox::new(&ring, 8).unwrap();
    // Made before the inbox was dropped, sent after.
    ring.push(late).unwrap().wait(SOON).unwrap().result.unwrap();
    second.messenger().send(4).unwrap();
    assert_eq!(value(second.wait(SOON).unwrap()), 4);
    assert_eq!(ring.counters().stray_messages, 2);
}

#[test]
fn an_inbox_outlives_its_ring() {
    let ring = Ring::local().unwrap();
    let inbox = Inbox::new(&ring, 8).unwrap();
    let messenger = inbox.messenger();
    messenger.send(1).unwrap();
    drop(ring);
    // What arrived before the ring was closed is still there.
    assert_eq!(value(inbox.wait(SOON).unwrap()), 1);
    assert!(matches!(inbox.wait(SOON), Err(Error::Closed)));
    assert!(messenger.is_closed());
}

#[test]
fn a_file_goes_from_one_table_to_another() {
    let (here, there) = (Ring::local().unwrap(), Ring::local().unwrap());
    let own = FileTable::new(&here, 2).unwrap();
    let table = FileTable::with_kernel_slots(&there, 3, 2).unwrap();
    let inbox = Inbox::with_files(&there, 8, &table.kernel_slots()).unwrap();
    assert!(inbox.takes_files());
    let messenger = inbox.messenger();

    let (reader, writer) = pipe();
    let slot = own.install(&reader).unwrap();
    drop(reader);
    let post = here.push(messenger.post_file(&slot, 77).unwrap()).unwrap();
    here.submit().unwrap();
    let Some(Mail::File { fd, tag: 77 }) = inbox.wait(SOON).unwrap() else {
        panic!("a file was sent")
    };
    post.wait(SOON).unwrap().result.unwrap();
    // The sender's slot can go; the file is the same.
    drop(slot);
    here.submit().unwrap();
    let mut writer = std::fs::File::from(writer);
    writer.write_all(b"through").unwrap();
    let read = there.push(Read::new(&fd, vec![0; 16], 0)).unwrap().wait(SOON).unwrap();
    assert_eq!(read.result.unwrap(), 7);
    // When its handle is gone so is the file: nobody reads the pipe any more.
    drop(fd);
    there.submit().unwrap();
    until("the pipe to have no reader", || writer.write_all(b"x").is_err());
}

#[test]
fn files_find_room_and_owners_or_are_closed() {
    let (here, there) = (Ring::local().unwrap(), Ring::local().unwrap());
    let own = FileTable::new(&here, 1).unwrap();
    let table = FileTable::with_kernel_slots(&there, 1, 1).unwrap();
    let plain = Inbox::new(&there, 8).unwrap();
    let (reader, writer) = pipe();
    let slot = own.install(&reader).unwrap();
    drop(reader);
    assert!(matches!(plain.messenger().post_file(&slot, 0), Err(PostError::NoFiles)));
    drop(plain);
    // Slots of another ring, or none to choose.
    let foreign = Inbox::with_files(&here, 8, &table.kernel_slots());
    assert!(matches!(foreign, Err(Error::ForeignRing)));
    let none = Inbox::with_files(&here, 8, &own.kernel_slots());
    assert!(matches!(none, Err(Error::Config { .. })));

    let inbox = Inbox::with_files(&there, 8, &table.kernel_slots()).unwrap();
    let messenger = inbox.messenger();
    let post = |tag| {
        let pending = here.push(messenger.post_file(&slot, tag).unwrap()).unwrap();
        here.submit().unwrap();
        until("the file to be installed", || {
            there.submit().unwrap();
            here.submit().unwrap();
            pending.is_done()
        });
        pending.wait(SOON).unwrap().result
    };
    post(1).unwrap();
    assert_eq!(post(2).unwrap_err().raw_os_error(), Some(libc::ENFILE), "the one slot is taken");
    assert_eq!(inbox.len(), 1);
    // A file of another ring's table is nothing here.
    let refused = there.push(messenger.post_file(&slot, 3).unwrap()).unwrap_err();
    assert!(matches!(refused.why, io_uring_ext::StartError::Ring(Error::ForeignRing)));
    drop(refused);

    // Dropped with a file that nobody took: it is closed, and the slot serves again.
    drop(inbox);
    assert_eq!(there.counters().stray_messages, 1);
    drop(slot);
    here.submit().unwrap();
    there.submit().unwrap();
    let mut writer = std::fs::File::from(writer);
    until("the pipe to have no reader", || writer.write_all(b"x").is_err());
}

#[test]
fn mail_is_awaited() {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let ring = Ring::local().unwrap();
    let inbox = Inbox::new(&ring, 8).unwrap();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Arc::clone(&woken).into();
    let mut context = Context::from_waker(&waker);
    let mut recv = pin!(inbox.recv());
    assert!(recv.as_mut().poll(&mut context).is_pending());
    assert!(recv.as_mut().poll(&mut context).is_pending());
    inbox.messenger().send(5).unwrap();
    until("the task to be woken", || {
        ring.submit().unwrap();
        woken.0.load(Ordering::SeqCst) == 1
    });
    let Poll::Ready(mail) = recv.as_mut().poll(&mut context) else { panic!("it was woken") };
    assert_eq!(value(Some(mail.unwrap())), 5);
    // Closing the ring wakes too.
    let mut recv = pin!(inbox.recv());
    assert!(recv.as_mut().poll(&mut context).is_pending());
    drop(ring);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert!(matches!(recv.as_mut().poll(&mut context), Poll::Ready(Err(Error::Closed))));
}

/// It came into a slot of a table that is gone; the slot of that number is another file's now.
#[test]
fn a_file_that_nobody_took_is_not_looked_for_in_the_next_table() {
    let (here, there) = (Ring::local().unwrap(), Ring::local().unwrap());
    let own = FileTable::new(&here, 1).unwrap();
    let sent = own.install(&std::fs::File::open("/dev/null").unwrap()).unwrap();
    let table = FileTable::with_kernel_slots(&there, 0, 1).unwrap();
    let inbox = Inbox::with_files(&there, 8, &table.kernel_slots()).unwrap();
    let post = inbox.messenger().post_file(&sent, 1).unwrap();
    here.push(post).unwrap().wait(SOON).unwrap().result.unwrap();
    drop((inbox, table));

    let table = FileTable::with_kernel_slots(&there, 0, 1).unwrap();
    let zero = Fd::new(std::fs::File::open("/dev/zero").unwrap());
    let update = there.push(FilesUpdate::new(&zero, &table.kernel_slots())).unwrap();
    let slot = update.wait(SOON).unwrap().unwrap();
    let read = there.push(Read::new(&slot, vec![1; 1], 0)).unwrap().wait(SOON).unwrap();
    assert_eq!((read.result.unwrap(), read.buf), (1, vec![0]));
    assert_eq!(there.counters().stray_messages, 1);
}

/// Alone in a process, because the limit is the process's.
#[test]
fn an_inbox_that_could_not_be_opened_is_not_open() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const CHILD: &str = "IO_URING_EXT_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let this = std::env::current_exe().unwrap();
        let name = "an_inbox_that_could_not_be_opened_is_not_open";
        let mut child = std::process::Command::new(this);
        child.args([name, "--exact"]).env(CHILD, "1");
        assert!(child.status().unwrap().success());
        return;
    }
    let ring = Ring::local().unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    let refused = Inbox::new(&ring, 1).unwrap_err();
    assert!(matches!(refused, Error::Os { .. }), "{refused}");
    setrlimit(Resource::Nofile, before).unwrap();
    Inbox::new(&ring, 1).unwrap();
}
