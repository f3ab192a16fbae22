//! Files through a ring: each operation does what its system call does, and says why it could not.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bypass_core::testing::needs::skip_because;
use common::{Part, directory, errno, lacks, run};
use io_uring_ext::buf::AlignedBuf;
use io_uring_ext::fixed::FileTable;
use io_uring_ext::op::{
    Advice, Advise, Allocate, AllocateMode, Close, DirectIo, Fsync, GetXattr, HardLink, MakeDir,
    Open, OpenOptions, PathAt, Read, Rename, RenameMode, Resolve, RwFlags, SetXattr, Statx,
    Symlink, SyncRange, SyncRangeMode, Truncate, Unlink, Write, XattrMode,
};
use io_uring_ext::{Error, Fd, Ring};

fn at(path: impl AsRef<Path>) -> PathAt {
    PathAt::new(path).unwrap()
}

fn open(ring: &Ring, path: impl AsRef<Path>, options: OpenOptions) -> std::io::Result<Fd> {
    run(ring, Open::new(at(path), options)).map(Fd::new)
}

/// An empty file, open for reading and writing.
fn new_file(ring: &Ring, path: impl AsRef<Path>) -> Fd {
    open(ring, path, OpenOptions::read_write().create_new(0o640)).unwrap()
}

#[test]
fn a_file_is_made_written_read_and_closed() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let file = new_file(&ring, &path);
    let done = run(&ring, Write::new(&file, b"hello, ring".to_vec(), 0));
    assert_eq!((done.result.unwrap(), done.buf), (11, b"hello, ring".to_vec()));
    assert_eq!(run(&ring, Write::new(&file, "RING", 7)).result.unwrap(), 4);
    assert_eq!(fs::read(&path).unwrap(), b"hello, RING");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o177, 0o040, "less the umask");

    let read = run(&ring, Read::new(&file, Vec::with_capacity(64), 7));
    assert_eq!((read.result.unwrap(), read.buf), (4, b"RING".to_vec()));
    let end = run(&ring, Read::new(&file, vec![9; 8], 11));
    assert_eq!((end.result.unwrap(), end.buf), (0, vec![]), "zero is the end");

    run(&ring, Close::new(file.try_into_owned().unwrap())).unwrap();
    let read_only = open(&ring, &path, OpenOptions::read_only()).unwrap();
    assert_eq!(errno(run(&ring, Write::new(&read_only, "x", 0)).result), libc::EBADF);
    let write_only = open(&ring, &path, OpenOptions::write_only()).unwrap();
    assert_eq!(errno(run(&ring, Read::new(&write_only, vec![0; 1], 0)).result), libc::EBADF);
}

#[test]
fn opening_follows_its_options() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let read = OpenOptions::read_only();
    assert_eq!(errno(open(&ring, &path, read)), libc::ENOENT);
    fs::write(&path, "contents").unwrap();
    let write = OpenOptions::write_only();
    assert_eq!(errno(open(&ring, &path, write.create_new(0o600))), libc::EEXIST);
    assert_eq!(errno(open(&ring, &path, read.directory())), libc::ENOTDIR);
    assert_eq!(errno(open(&ring, dir.path(), write)), libc::EISDIR);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(open(&ring, &link, read).is_ok());
    assert_eq!(errno(open(&ring, &link, read.no_follow())), libc::ELOOP);

    let kept = open(&ring, &path, write.create(0o600)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"contents");
    drop(kept);
    open(&ring, &path, write.truncate()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");

    let flags = fdinfo_flags(&open(&ring, &path, read.data_sync()).unwrap());
    assert_eq!(flags & libc::O_DSYNC, libc::O_DSYNC);
    assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);

    let zero_byte = PathAt::new("a\0b").unwrap_err();
    assert!(matches!(zero_byte, Error::Config { .. }), "{zero_byte}");
}

/// The flags with which a descriptor was opened, as `proc(5)` has them.
fn fdinfo_flags(fd: &Fd) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    i32::from_str_radix(flags.trim(), 8).unwrap()
}

#[test]
fn a_path_starts_in_a_directory_and_stays_beneath() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    fs::create_dir(dir.path().join("inner")).unwrap();
    fs::write(dir.path().join("outside"), "o").unwrap();
    fs::write(dir.path().join("inner/inside"), "i").unwrap();
    let options = OpenOptions::read_only();
    let inner = open(&ring, dir.path().join("inner"), options.directory()).unwrap();
    let under = |path, options| {
        run(&ring, Open::new(PathAt::under(&inner, path).unwrap(), options)).map(Fd::new)
    };
    let file = under("inside", options).unwrap();
    assert_eq!(run(&ring, Read::new(&file, vec![0; 8], 0)).buf, b"i");
    assert!(under("../outside", options).is_ok());
    assert_eq!(errno(under("../outside", options.resolve(Resolve::BENEATH))), libc::EXDEV);
    std::os::unix::fs::symlink("inside", dir.path().join("inner/link")).unwrap();
    assert_eq!(errno(under("link", options.resolve(Resolve::NO_SYMLINKS))), libc::ELOOP);
}

#[test]
fn a_file_without_a_name_is_made() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let unnamed = open(&ring, dir.path(), OpenOptions::read_write().unnamed(0o600));
    if let Err(error) = &unnamed
        && error.raw_os_error() == Some(libc::EOPNOTSUPP)
    {
        return skip_because("the file system has no O_TMPFILE");
    }
    let unnamed = unnamed.unwrap();
    assert_eq!(run(&ring, Write::new(&unnamed, "data", 0)).result.unwrap(), 4);
    assert_eq!(run(&ring, Statx::fd(&unnamed)).unwrap().links(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn opening_a_fifo_does_not_wait() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert_eq!(errno(open(&ring, &path, OpenOptions::write_only())), libc::ENXIO);
    let reader = open(&ring, &path, OpenOptions::read_only()).unwrap();
    assert_eq!(fdinfo_flags(&reader) & libc::O_NONBLOCK, 0, "reading waits as always");
    let writer = open(&ring, &path, OpenOptions::write_only()).unwrap();
    assert_eq!(run(&ring, Write::new(&writer, "x", 0)).result.unwrap(), 1);
    assert_eq!(run(&ring, Read::new(&reader, vec![0; 8], 0)).buf, b"x");
}

#[test]
fn a_file_is_opened_in_a_slot_and_closed_there() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let table = FileTable::with_kernel_slots(&ring, 2, 1).unwrap();
    let slot = table.reserve().unwrap();
    let options = OpenOptions::read_write().create_new(0o600);
    let file = run(&ring, Open::into_slot(at(&path), options, &slot)).unwrap();
    assert_eq!(run(&ring, Write::new(&file, "in a slot", 0)).result.unwrap(), 9);
    run(&ring, Fsync::all(&slot)).unwrap();
    run(&ring, Truncate::new(&file, 4)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"in a");
    assert!(links_to(&path).is_empty(), "the process has no descriptor of it");

    run(&ring, Close::slot(&file).unwrap()).unwrap();
    assert_eq!(errno(run(&ring, Write::new(&slot, "x", 0)).result), libc::EBADF);
    assert_eq!(errno(run(&ring, Close::slot(&slot).unwrap())), libc::EBADF);
    let again = Open::into_slot(at(&path), options, &slot);
    assert_eq!(errno(run(&ring, again)), libc::EEXIST);
    drop((slot, file));

    // Where the kernel chooses: one slot, which nobody closes but the last handle.
    let read = OpenOptions::read_only();
    let chosen = run(&ring, Open::into_slot(at(&path), read, &table.kernel_slots())).unwrap();
    assert_eq!(run(&ring, Read::new(&chosen, vec![0; 8], 0)).buf, b"in a");
    assert!(matches!(Close::slot(&chosen).unwrap_err(), Error::Config { .. }));
    let full = Open::into_slot(at(&path), read, &table.kernel_slots());
    assert_eq!(errno(run(&ring, full)), libc::ENFILE);
    drop(chosen);
    // Abandoned, it leaves its slot free.
    for _ in 0..10 {
        common::until("the slot to be free", || {
            run(&ring, Open::into_slot(at(&path), read, &table.kernel_slots())).is_ok()
        });
        drop(ring.push(Open::into_slot(at(&path), read, &table.kernel_slots())).unwrap());
    }

    let foreign = FileTable::new(&Ring::local().unwrap(), 1).unwrap().reserve().unwrap();
    let refused = ring.push(Open::into_slot(at(&path), read, &foreign)).unwrap_err();
    assert!(refused.to_string().contains("another ring"), "{refused}");
    assert!(ring.push(Close::slot(&foreign).unwrap()).is_err());
}

/// The descriptors of this process that lead to `path`.
fn links_to(path: &Path) -> Vec<std::path::PathBuf> {
    let links = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    links.filter(|link| fs::read_link(link).is_ok_and(|target| target == path)).collect()
}

#[test]
fn appends_go_to_the_end_and_none_is_overwritten() {
    const LINES: usize = 64;
    let (ring, dir) = (Ring::local().unwrap(), directory());
    // However the file was opened, and however many appends are in flight together.
    for options in [OpenOptions::write_only(), OpenOptions::write_only().append()] {
        let path = dir.path().join("log");
        let file = open(&ring, &path, options.create(0o600).truncate()).unwrap();
        let line = |n: usize| format!("{n:07}\n").into_bytes();
        let pending: Vec<_> =
            (0..LINES).map(|n| ring.push(Write::append(&file, line(n))).unwrap()).collect();
        for write in pending {
            assert_eq!(write.wait(common::SOON).unwrap().result.unwrap(), 8);
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.lines().map(|line| line.parse::<usize>().unwrap()).collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..LINES).collect::<Vec<_>>());
    }
}

#[test]
fn the_files_own_position_moves() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    let file = new_file(&ring, &path);
    for piece in ["one ", "two ", "three"] {
        assert_eq!(run(&ring, Write::at_position(&file, piece)).result.unwrap(), piece.len());
    }
    assert_eq!(fs::read(&path).unwrap(), b"one two three");
}

#[test]
fn a_short_write_says_how_much_was_written() {
    let ring = Ring::local().unwrap();
    let (_reader, writer) = common::pipe();
    let writer = Fd::new(writer);
    // A pipe holds 64 KiB; the rest does not fit, and this write does not wait.
    let done = run(&ring, Write::new(&writer, vec![7; 1 << 20], 0).flags(RwFlags::NOWAIT));
    assert_eq!((done.result.unwrap(), done.buf.len()), (1 << 16, 1 << 20));
    let full = run(&ring, Write::new(&writer, "x", 0).flags(RwFlags::NOWAIT));
    assert_eq!(errno(full.result), libc::EAGAIN);
}

#[test]
fn files_are_brought_to_the_disk() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let file = new_file(&ring, dir.path().join("file"));
    let write = Write::new(&file, vec![1; 10_000], 0).flags(RwFlags::DSYNC);
    assert_eq!(run(&ring, write).result.unwrap(), 10_000);
    run(&ring, SyncRange::new(&file, 0, 0, SyncRangeMode::all())).unwrap();
    run(&ring, Fsync::data(&file)).unwrap();
    run(&ring, Fsync::all(&file)).unwrap();

    let pipe = Fd::new(common::pipe().0);
    assert_eq!(errno(run(&ring, Fsync::all(&pipe))), libc::EINVAL);
    assert_eq!(errno(run(&ring, Fsync::data(&pipe))), libc::EINVAL);
    let range = SyncRange::new(&pipe, 0, 0, SyncRangeMode::WRITE);
    assert_eq!(errno(run(&ring, range)), libc::ESPIPE);
}

#[test]
fn space_is_allocated_punched_and_cut() {
    if lacks("IORING_OP_FTRUNCATE") {
        return;
    }
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let file = new_file(&ring, dir.path().join("file"));
    let stat = || run(&ring, Statx::fd(&file)).unwrap();
    run(&ring, Allocate::new(&file, AllocateMode::KEEP_SIZE, 0, 1 << 20)).unwrap();
    assert_eq!((stat().len(), stat().allocated() >= 1 << 20), (0, true));
    run(&ring, Allocate::new(&file, AllocateMode::empty(), 0, 1 << 20)).unwrap();
    assert_eq!(stat().len(), 1 << 20);

    assert_eq!(run(&ring, Write::new(&file, vec![1; 1 << 20], 0)).result.unwrap(), 1 << 20);
    run(&ring, Fsync::data(&file)).unwrap();
    let before = stat().allocated();
    let punch = AllocateMode::PUNCH_HOLE | AllocateMode::KEEP_SIZE;
    run(&ring, Allocate::new(&file, punch, 4096, 1 << 19)).unwrap();
    assert!(stat().allocated() < before, "blocks were given back");
    let read = run(&ring, Read::new(&file, vec![9; 4097], 4095)).buf;
    assert_eq!((read[0], read[1..].iter().all(|byte| *byte == 0)), (1, true));

    run(&ring, Truncate::new(&file, 10)).unwrap();
    assert_eq!(stat().len(), 10);
    run(&ring, Truncate::new(&file, 20)).unwrap();
    assert_eq!(
        run(&ring, Read::new(&file, vec![9; 64], 8)).buf,
        [vec![1; 2], vec![0; 10]].concat()
    );

    assert_eq!(errno(run(&ring, Allocate::new(&file, punch, 0, 0))), libc::EINVAL);
    let read_only = open(&ring, dir.path().join("file"), OpenOptions::read_only()).unwrap();
    let allocate = Allocate::new(&read_only, AllocateMode::empty(), 0, 1);
    assert_eq!(errno(run(&ring, allocate)), libc::EBADF);
    assert_eq!(errno(run(&ring, Truncate::new(&read_only, 0))), libc::EINVAL);
}

#[test]
fn advice_is_taken() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let file = new_file(&ring, dir.path().join("file"));
    for advice in [Advice::SEQUENTIAL, Advice::RANDOM, Advice::WILL_NEED, Advice::DONT_NEED] {
        run(&ring, Advise::new(&file, advice, 0, 0)).unwrap();
    }
    let pipe = Fd::new(common::pipe().0);
    assert_eq!(errno(run(&ring, Advise::new(&pipe, Advice::NORMAL, 0, 0))), libc::ESPIPE);
}

#[test]
fn what_statx_says_is_what_the_standard_library_says() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    fs::write(&path, "twelve bytes").unwrap();
    fs::hard_link(&path, dir.path().join("again")).unwrap();
    let expected = fs::metadata(&path).unwrap();
    let file = open(&ring, &path, OpenOptions::read_only()).unwrap();
    for found in [run(&ring, Statx::path(at(&path))), run(&ring, Statx::fd(&file))] {
        let found = found.unwrap();
        assert_eq!((found.len(), found.links(), found.inode()), (12, 2, expected.ino()));
        assert_eq!(
            (found.mode(), found.owner()),
            (expected.mode(), (expected.uid(), expected.gid()))
        );
        let (major, minor) = found.device();
        assert_eq!(libc::makedev(major, minor), expected.dev());
        assert_eq!(found.allocated(), expected.blocks() * 512);
        assert_eq!(found.modified(), expected.modified().ok());
        assert_eq!(found.accessed(), expected.accessed().ok());
        assert_eq!(found.created(), expected.created().ok());
        let changed = Duration::new(expected.ctime() as u64, expected.ctime_nsec() as u32);
        assert_eq!(found.changed(), Some(SystemTime::UNIX_EPOCH + changed));
        assert!(found.is_file() && !found.is_dir() && !found.is_symlink() && !found.is_empty());
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(run(&ring, Statx::path(at(&link))).unwrap().is_file());
    assert!(run(&ring, Statx::link(at(&link))).unwrap().is_symlink());
    assert!(run(&ring, Statx::path(at(dir.path()))).unwrap().is_dir());
    assert_eq!(errno(run(&ring, Statx::path(at(dir.path().join("none"))))), libc::ENOENT);
}

#[test]
fn names_are_made_changed_and_removed() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = |name: &str| dir.path().join(name);
    let rename =
        |from: &str, to: &str, mode| run(&ring, Rename::new(at(path(from)), at(path(to)), mode));
    fs::write(path("a"), "A").unwrap();
    fs::write(path("b"), "B").unwrap();

    assert_eq!(errno(rename("a", "b", RenameMode::Keep)), libc::EEXIST);
    rename("a", "b", RenameMode::Exchange).unwrap();
    assert_eq!(
        (fs::read(path("a")).unwrap(), fs::read(path("b")).unwrap()),
        (b"B".to_vec(), b"A".to_vec())
    );
    assert_eq!(errno(rename("a", "none", RenameMode::Exchange)), libc::ENOENT);
    rename("a", "b", RenameMode::Replace).unwrap();
    assert_eq!((fs::read(path("b")).unwrap(), path("a").exists()), (b"B".to_vec(), false));

    run(&ring, HardLink::new(at(path("b")), at(path("c")))).unwrap();
    assert_eq!(fs::metadata(path("c")).unwrap().nlink(), 2);
    assert_eq!(errno(run(&ring, HardLink::new(at(path("none")), at(path("d"))))), libc::ENOENT);
    run(&ring, Symlink::new(at("b"), at(path("s")))).unwrap();
    assert_eq!(fs::read_link(path("s")).unwrap(), Path::new("b"));
    assert_eq!(errno(run(&ring, Symlink::new(at("b"), at(path("s"))))), libc::EEXIST);

    run(&ring, MakeDir::new(at(path("dir")), 0o700)).unwrap();
    assert_eq!(fs::metadata(path("dir")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(errno(run(&ring, MakeDir::new(at(path("dir")), 0o700))), libc::EEXIST);
    fs::write(path("dir/full"), "").unwrap();
    assert_eq!(errno(run(&ring, Unlink::dir(at(path("dir"))))), libc::ENOTEMPTY);
    assert_eq!(errno(run(&ring, Unlink::file(at(path("dir"))))), libc::EISDIR);
    let inside = open(&ring, path("dir"), OpenOptions::read_only().directory()).unwrap();
    run(&ring, Unlink::file(PathAt::under(&inside, "full").unwrap())).unwrap();
    run(&ring, Unlink::dir(at(path("dir")))).unwrap();
    assert_eq!(errno(run(&ring, Unlink::file(at(path("dir"))))), libc::ENOENT);
    for name in ["b", "c", "s"] {
        run(&ring, Unlink::file(at(path(name)))).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    run(&ring, Fsync::all(&open(&ring, dir.path(), OpenOptions::read_only()).unwrap())).unwrap();
}

#[test]
fn attributes_are_set_and_read() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let file = new_file(&ring, dir.path().join("file"));
    let set = |value: &'static str, mode| {
        run(&ring, SetXattr::new(&file, "user.comment", value, mode).unwrap()).result
    };
    let get =
        |room| run(&ring, GetXattr::new(&file, "user.comment", Vec::with_capacity(room)).unwrap());
    match set("first", XattrMode::Replace).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::EOPNOTSUPP)) => {
            return skip_because("the file system has no user attributes");
        }
        other => assert_eq!(other.unwrap_err(), Some(libc::ENODATA)),
    }
    assert_eq!(errno(get(16).result), libc::ENODATA);
    set("first", XattrMode::Create).unwrap();
    assert_eq!(errno(set("second", XattrMode::Create)), libc::EEXIST);
    assert_eq!(get(16).buf, b"first");
    set("second, longer", XattrMode::Set).unwrap();
    let done = get(14);
    assert_eq!((done.result.unwrap(), done.buf), (14, b"second, longer".to_vec()));
    assert_eq!(errno(get(13).result), libc::ERANGE);
    let length = get(0);
    assert_eq!((length.result.unwrap(), length.buf), (14, vec![]), "no room: the length alone");
    assert!(GetXattr::new(&file, "user.\0", vec![]).is_err());
    assert!(SetXattr::new(&file, "user.\0", "", XattrMode::Set).is_err());
}

#[test]
fn direct_io_asks_for_alignment() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let path = dir.path().join("file");
    new_file(&ring, &path);
    let found = run(&ring, Statx::path(at(&path))).unwrap().direct_io();
    let DirectIo::Aligned { memory, offset } = found else {
        return skip_because(&format!("O_DIRECT in {}: {found:?}", dir.path().display()));
    };
    let direct = open(&ring, &path, OpenOptions::read_write().direct()).unwrap();
    let mut buf = AlignedBuf::new(8192).unwrap();
    found.check(&buf, 0).unwrap();
    let refused = found.check(&buf, 1).unwrap_err().to_string();
    assert!(refused.contains("an offset") && refused.contains(&offset.to_string()), "{refused}");
    buf.truncate(offset as usize + 1);
    assert!(found.check(&buf, 0).unwrap_err().to_string().contains("a length"));
    let mut buf = AlignedBuf::new(8192).unwrap();
    assert!(memory.is_power_of_two() && offset.is_power_of_two() && offset <= 4096);
    buf.fill(7);
    buf[..5].copy_from_slice(b"begin");
    let done = run(&ring, Write::new(&direct, buf, 0));
    assert_eq!(done.result.unwrap(), 8192);
    assert_eq!(fs::read(&path).unwrap(), done.buf[..]);
    let read = run(&ring, Read::new(&direct, AlignedBuf::new(4096).unwrap(), 4096));
    assert_eq!((read.result.unwrap(), &read.buf[..]), (4096, &[7; 4096][..]));

    // An offset, a length and an address that are no multiples.
    let odd = run(&ring, Read::new(&direct, AlignedBuf::new(4096).unwrap(), 1));
    assert_eq!(errno(odd.result), libc::EINVAL);
    let mut short = AlignedBuf::new(4096).unwrap();
    short.truncate(offset as usize - 1);
    assert_eq!(errno(run(&ring, Write::new(&direct, short, 0)).result), libc::EINVAL);
    if memory > 1 {
        let bytes = vec![0; 8192];
        let from = bytes.as_ptr().align_offset(memory as usize) + 1;
        let odd = run(&ring, Read::new(&direct, Part { bytes, from, len: 4096 }, 0));
        assert_eq!(errno(odd.result), libc::EINVAL);
        assert!(found.check(&odd.buf, 0).unwrap_err().to_string().contains("the address"));
    }
    assert_eq!(fs::read(&path).unwrap().len(), 8192, "nothing else was written");
}
