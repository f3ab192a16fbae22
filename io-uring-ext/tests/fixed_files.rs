//! Fixed files: slots, who has them, and when they are free again.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};

use common::{SOON, errno, until};
use io_uring_ext::fixed::{FileTable, FixedFd};
use io_uring_ext::op::{FilesUpdate, FixedFdInstall, Read, Send};
use io_uring_ext::{Error, Fd, Mode, Ring, StartError};

/// A file with these contents that has no name any more.
fn file(contents: &[u8]) -> File {
    let (reader, writer) = std::io::pipe().unwrap();
    (&writer).write_all(contents).unwrap();
    std::os::fd::OwnedFd::from(reader).into()
}

fn read<M: Mode>(ring: &Ring<M>, fd: &FixedFd) -> std::io::Result<Vec<u8>>
where
    Read<Vec<u8>>: io_uring_ext::OwnedBy<M>,
{
    let done = ring.push(Read::new(fd, Vec::with_capacity(16), 0)).unwrap().wait(SOON).unwrap();
    done.result.map(|_| done.buf)
}

#[test]
fn a_slot_is_installed_read_replaced_and_cleared() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 4).unwrap();
    let slot = table.reserve().unwrap();
    assert_eq!(read(&ring, &slot).unwrap_err().raw_os_error(), Some(libc::EBADF), "it is empty");

    table.replace(&slot, &file(b"first")).unwrap();
    assert_eq!(read(&ring, &slot).unwrap(), b"first");
    table.replace(&slot, &file(b"second")).unwrap();
    assert_eq!(read(&ring, &slot).unwrap(), b"second");

    table.clear(&slot).unwrap();
    assert_eq!(read(&ring, &slot).unwrap_err().raw_os_error(), Some(libc::EBADF));
    drop(slot);
    assert_eq!(table.available(), 4);
}

#[test]
fn the_last_handle_closes_the_file_in_the_next_call() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 2).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let slot = table.install(&reader).unwrap();
    drop(reader);
    let other = slot.clone();
    drop(slot);
    ring.submit().unwrap();
    writer.write_all(b"x").unwrap();
    // From another thread, without the ring.
    std::thread::spawn(move || drop(other)).join().unwrap();
    writer.write_all(b"x").unwrap();
    ring.submit().unwrap();
    assert_eq!(writer.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_full_table_says_so_and_serves_again() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 3).unwrap();
    let mut slots: Vec<_> = (0..3).map(|_| table.install(&file(b"x")).unwrap()).collect();
    assert_eq!(table.available(), 0);
    assert!(matches!(table.reserve(), Err(Error::TableFull { what: "file", slots: 3 })));
    let error = table.install(&file(b"x")).unwrap_err().to_string();
    assert!(error.contains("all 3 slots of the file table"), "{error}");

    slots.swap_remove(1);
    slots.push(table.install(&file(b"again")).unwrap());
    assert_eq!(read(&ring, &slots[2]).unwrap(), b"again");
    assert_eq!(read(&ring, &slots[0]).unwrap(), b"x", "its neighbours are untouched");
    assert_eq!(read(&ring, &slots[1]).unwrap(), b"x");
}

#[test]
fn an_operation_in_flight_keeps_its_slot() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let slot = table.install(&reader).unwrap();
    drop(reader);
    let reading = ring.push(Read::new(&slot, Vec::with_capacity(8), 0)).unwrap();
    drop(slot);
    ring.submit().unwrap();
    assert!(matches!(table.reserve(), Err(Error::TableFull { .. })));
    writer.write_all(b"late").unwrap();
    assert_eq!(reading.wait(SOON).unwrap().buf, b"late");
    table.reserve().unwrap();
}

#[test]
fn a_queued_operation_works_on_what_its_slot_holds_when_it_begins() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let slot = table.install(&file(b"old")).unwrap();
    let reading = ring.push(Read::new(&slot, Vec::with_capacity(8), 0)).unwrap();
    table.replace(&slot, &file(b"new")).unwrap();
    assert_eq!(reading.wait(SOON).unwrap().buf, b"new");

    // One that has begun keeps the old file.
    let (reader, mut writer) = std::io::pipe().unwrap();
    table.replace(&slot, &reader).unwrap();
    let reading = ring.push(Read::new(&slot, Vec::with_capacity(8), 0)).unwrap();
    ring.submit().unwrap();
    table.replace(&slot, &file(b"newer")).unwrap();
    writer.write_all(b"begun").unwrap();
    assert_eq!(reading.wait(SOON).unwrap().buf, b"begun");
    assert_eq!(read(&ring, &slot).unwrap(), b"newer");
}

#[test]
fn the_kernel_chooses_slots_in_its_range() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 2, 2).unwrap();
    let install = |contents: &[u8]| {
        let fd = Fd::new(file(contents));
        ring.push(FilesUpdate::new(&fd, &table.kernel_slots())).unwrap().wait(SOON).unwrap()
    };
    let (a, b) = (install(b"a").unwrap(), install(b"b").unwrap());
    assert_eq!(install(b"c").unwrap_err().raw_os_error(), Some(libc::ENFILE), "both are taken");
    assert_eq!(table.available(), 2, "the others are not the kernel's to take");
    assert_eq!((read(&ring, &a).unwrap(), read(&ring, &b).unwrap()), (b"a".into(), b"b".into()));

    // It could come to mean another file while there are handles of it.
    assert!(matches!(table.clear(&b), Err(Error::Config { .. })));
    assert!(matches!(table.replace(&b, &file(b"x")), Err(Error::Config { .. })));

    drop(a);
    let c = install(b"c").unwrap();
    assert_eq!(read(&ring, &c).unwrap(), b"c");
    assert_eq!(read(&ring, &b).unwrap(), b"", "it is read to its end, and still there");
}

#[test]
fn without_slots_of_its_own_the_kernel_takes_none_of_the_others() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 2).unwrap();
    let reserved = table.reserve().unwrap();
    let update = FilesUpdate::new(&Fd::new(file(b"x")), &table.kernel_slots());
    let refused = ring.push(update).unwrap().wait(SOON).unwrap().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    assert_eq!(read(&ring, &reserved).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(table.available(), 1);
}

#[test]
fn what_a_discarded_completion_installed_is_closed() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 1, 1).unwrap();
    for _ in 0..3 {
        for submitted in [false, true] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let fd = Fd::new(reader);
            let update = ring.push(FilesUpdate::new(&fd, &table.kernel_slots())).unwrap();
            drop(fd);
            if submitted {
                ring.submit().unwrap();
            }
            update.detach();
            until("the pipe to have no reader", || {
                ring.submit().unwrap();
                writer.write_all(b"x").is_err()
            });
        }
    }
}

#[test]
fn a_reserved_slot_is_installed_into_by_an_operation() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let slot = table.reserve().unwrap();
    let update = FilesUpdate::new(&Fd::new(file(b"into")), &slot);
    let installed = ring.push(update).unwrap().wait(SOON).unwrap().unwrap();
    assert_eq!(read(&ring, &installed).unwrap(), b"into");
    drop(installed);
    assert_eq!(table.available(), 0, "the reservation is a handle too");
    drop(slot);
    assert_eq!(table.available(), 1);
}

#[test]
fn a_fixed_file_becomes_an_ordinary_one() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let slot = table.install(&file(b"back")).unwrap();
    let fd = ring.push(FixedFdInstall::new(&slot)).unwrap().wait(SOON).unwrap().unwrap();
    let flags = rustix::io::fcntl_getfd(&fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    drop((slot, table, ring));
    let mut bytes = [0; 4];
    File::from(fd).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"back");

    // One that nobody takes is closed.
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let slot = table.install(&reader).unwrap();
    drop(reader);
    ring.push(FixedFdInstall::new(&slot)).unwrap().detach();
    drop(slot);
    until("the pipe to have no reader", || {
        ring.submit().unwrap();
        writer.write_all(b"x").is_err()
    });
}

#[test]
fn another_ring_refuses_the_slot_and_gives_the_operation_back() {
    let (ring, other) = (Ring::local().unwrap(), Ring::local().unwrap());
    let (table, others) = (FileTable::new(&ring, 1).unwrap(), FileTable::new(&other, 1).unwrap());
    let slot = table.install(&file(b"mine")).unwrap();
    let theirs = others.install(&file(b"theirs")).unwrap();

    let refused = other.push(Read::new(&slot, b"kept".to_vec(), 0)).unwrap_err();
    assert!(matches!(refused.why, StartError::Ring(Error::ForeignRing)));
    assert!(matches!(others.replace(&slot, &file(b"x")), Err(Error::ForeignRing)));
    assert!(matches!(others.clear(&slot), Err(Error::ForeignRing)));
    let update = FilesUpdate::new(&Fd::new(file(b"x")), &slot);
    assert!(matches!(other.push(update).unwrap_err().why, StartError::Ring(Error::ForeignRing)));
    let update = FilesUpdate::new(&Fd::new(file(b"x")), &table.kernel_slots());
    assert!(matches!(other.push(update).unwrap_err().why, StartError::Ring(Error::ForeignRing)));
    assert_eq!(read(&ring, &slot).unwrap(), b"mine");
    assert_eq!(read(&other, &theirs).unwrap(), b"theirs");
}

#[test]
fn everything_goes_in_any_order() {
    for order in 0..6 {
        let ring = Ring::local().unwrap();
        let table = FileTable::with_kernel_slots(&ring, 2, 2).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let slot = table.install(&reader).unwrap();
        drop(reader);
        let reading = ring.push(Read::new(&slot, Vec::with_capacity(8), 0)).unwrap();
        ring.submit().unwrap();
        match order {
            0 => drop((ring, table, slot, reading)),
            1 => drop((reading, slot, table, ring)),
            2 => drop((table, ring, reading, slot)),
            3 => drop((slot, ring, table, reading)),
            4 => drop((table, slot, reading, ring)),
            _ => {
                drop((ring, reading, slot));
                assert!(matches!(table.reserve(), Err(Error::Closed)));
                assert!(matches!(table.install(&file(b"x")), Err(Error::Closed)));
                assert_eq!(table.available(), 0);
            }
        }
        until("the file to close", || writer.write_all(b"x").is_err());
    }
}

#[test]
fn a_closed_ring_closes_its_files_though_handles_are_left() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let slot = table.install(&reader).unwrap();
    drop((reader, ring));
    until("the file to close", || writer.write_all(b"x").is_err());
    drop((slot, table));
}

#[test]
fn a_table_goes_with_its_last_user_and_makes_room_for_another() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let error = FileTable::new(&ring, 8).unwrap_err();
    assert!(matches!(error, Error::Config { what: "the second file table of a ring", .. }));

    let (reader, mut writer) = std::io::pipe().unwrap();
    let slot = table.install(&reader).unwrap();
    let reading = ring.push(Read::new(&slot, Vec::with_capacity(8), 0)).unwrap();
    ring.submit().unwrap();
    drop((table, slot));
    assert!(FileTable::new(&ring, 8).is_err(), "the read still uses it");
    writer.write_all(b"done").unwrap();
    assert_eq!(reading.wait(SOON).unwrap().buf, b"done");
    let table = FileTable::new(&ring, 8).unwrap();
    assert_eq!(table.available(), 8);
    assert_eq!(read(&ring, &table.install(&file(b"new table")).unwrap()).unwrap(), b"new table");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let ring = Ring::local().unwrap();
    assert!(matches!(FileTable::new(&ring, 0), Err(Error::Config { .. })));
    assert!(matches!(FileTable::new(&ring, u32::MAX), Err(Error::Config { .. })));
    assert!(matches!(FileTable::with_kernel_slots(&ring, 1, u32::MAX), Err(Error::Config { .. })));
    // More than may be open.
    let error = FileTable::new(&ring, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("ulimit -n"), "{error}");
    FileTable::new(&ring, 1).unwrap();
}

#[test]
fn a_ring_cannot_be_a_fixed_file() {
    let ring = Ring::shared().unwrap();
    let table = FileTable::new(&ring, 1).unwrap();
    let other = Ring::shared().unwrap();
    let error = table.install(&other.poll_fd().unwrap()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(table.available(), 1);
}

#[test]
fn threads_share_a_table() {
    let ring = Ring::builder().operations(64).build_shared().unwrap();
    let table = FileTable::new(&ring, 8).unwrap();
    // The kernel may cancel what a thread has submitted, also for others, when the thread exits.
    let end = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let (ring, table, end) = (&ring, table.clone(), &end);
            scope.spawn(move || {
                for round in 0..200_u8 {
                    let slot = table.install(&file(&[n, round])).unwrap();
                    assert_eq!(read(ring, &slot).unwrap(), [n, round]);
                }
                end.wait();
            });
        }
    });
    until("all slots", || table.available() == 8);
}

#[test]
fn slots_come_back_under_sqpoll_too() {
    let sqpoll = io_uring_ext::SqPoll::default();
    let ring = Ring::builder().sqpoll(sqpoll).build_local().unwrap();
    let table = FileTable::new(&ring, 2).unwrap();
    for round in 0..100_u8 {
        let slot = until_free(&ring, &table);
        table.replace(&slot, &file(&[round])).unwrap();
        assert_eq!(read(&ring, &slot).unwrap(), [round]);
    }
}

/// Under SQPOLL the kernel may let go of a file a moment after the operation's completion.
fn until_free(ring: &Ring, table: &FileTable) -> FixedFd {
    let mut slot = None;
    until("a free slot", || {
        ring.submit().unwrap();
        slot = table.reserve().ok();
        slot.is_some()
    });
    slot.unwrap()
}

#[test]
fn sends_go_through_a_fixed_socket() {
    let ring = Ring::local().unwrap();
    let table = FileTable::new(&ring, 2).unwrap();
    let (a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
    let slot = table.install(&a).unwrap();
    drop(a);
    let sent = ring.push(Send::new(&slot, b"fixed".to_vec())).unwrap().wait(SOON).unwrap();
    assert_eq!(sent.result.unwrap(), 5);
    let mut bytes = [0; 5];
    b.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"fixed");
    drop(slot);
    ring.submit().unwrap();
    assert_eq!(b.read(&mut bytes).unwrap(), 0, "the last handle has closed it");
}

/// The kernel may choose an empty slot of its own at once, and the handle would then be of something else.
#[test]
fn a_slot_that_the_kernel_chose_is_never_emptied_while_there_is_a_handle() {
    let ring = Ring::local().unwrap();
    let table = FileTable::with_kernel_slots(&ring, 1, 1).unwrap();
    let choose = |text| {
        let update = FilesUpdate::new(&Fd::new(file(text)), &table.kernel_slots());
        ring.push(update).unwrap().wait(SOON).unwrap()
    };
    let chosen = choose(b"mine").unwrap();
    // The kernel empties a slot before it refuses what is to be put there.
    let shared = Ring::shared().unwrap();
    assert!(matches!(
        table.replace(&chosen, &shared.poll_fd().unwrap()),
        Err(Error::Config { .. })
    ));
    let other = Fd::new(shared.poll_fd().unwrap().try_clone_to_owned().unwrap());
    let update = ring.push(FilesUpdate::new(&other, &chosen)).unwrap().wait(SOON).unwrap();
    assert_eq!(errno(update), libc::EINVAL);
    assert_eq!(errno(choose(b"theirs")), libc::ENFILE);
    assert_eq!(read(&ring, &chosen).unwrap(), b"mine");
}

/// Some kernels look for a free slot behind the one that was changed last, be it in their range or not.
#[test]
fn installing_and_emptying_does_not_lead_the_kernel_out_of_its_range() {
    let ring = Ring::local().unwrap();
    let table = match FileTable::with_kernel_slots(&ring, 4, 2) {
        Err(Error::Refused { refusal, .. }) => {
            return bypass_core::testing::needs::skip_because(&refusal.to_string());
        }
        table => table.unwrap(),
    };
    let reserved: Vec<_> = (0..3).map(|_| table.reserve().unwrap()).collect();
    for _ in 0..3 {
        table.replace(&reserved[0], &file(b"mine")).unwrap();
        for _ in 0..2 {
            let update = FilesUpdate::new(&Fd::new(file(b"x")), &table.kernel_slots());
            let chosen = ring.push(update).unwrap().wait(SOON).unwrap().unwrap();
            assert_eq!(read(&ring, &chosen).unwrap(), b"x");
            assert_eq!(errno(read(&ring, &reserved[1])), libc::EBADF);
            table.clear(&reserved[0]).unwrap();
        }
    }
    assert_eq!(table.available(), 1);
}
