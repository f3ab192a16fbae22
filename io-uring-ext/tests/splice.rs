//! Bytes that move between descriptors without coming here.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use common::{directory, errno, lacks, pipe, run};
use io_uring_ext::fixed::FileTable;
use io_uring_ext::op::{Pipe, Splice, SpliceFlags, Tee, Write};
use io_uring_ext::{Fd, Ring};

#[test]
fn a_file_goes_through_a_pipe_into_a_file_and_a_socket() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let bytes: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(dir.path().join("from"), &bytes).unwrap();
    let from = Fd::new(fs::File::open(dir.path().join("from")).unwrap());
    let to = Fd::new(fs::File::create(dir.path().join("to")).unwrap());
    let (reader, writer) = pipe();
    let (reader, writer) = (Fd::new(reader), Fd::new(writer));

    let mut moved = 0;
    while moved < bytes.len() {
        let fill = Splice::new(&from, &writer, 1 << 20).from_offset(moved as u64);
        let filled = run(&ring, fill).unwrap();
        assert!(filled > 0);
        let end = moved + filled;
        while moved < end {
            let empty = Splice::new(&reader, &to, (end - moved) as u32).to_offset(moved as u64);
            moved += run(&ring, empty).unwrap();
        }
    }
    assert_eq!(fs::read(dir.path().join("to")).unwrap(), bytes);
    let end = Splice::new(&from, &writer, 1).from_offset(bytes.len() as u64);
    assert_eq!(run(&ring, end).unwrap(), 0, "zero is the end");

    // At the file's own position, which moves.
    let (mut peer, socket) = UnixStream::pair().unwrap();
    let socket = Fd::new(socket);
    for _ in 0..2 {
        assert_eq!(run(&ring, Splice::new(&from, &writer, 100)).unwrap(), 100);
    }
    assert_eq!(run(&ring, Splice::new(&reader, &socket, 200)).unwrap(), 200);
    let mut got = vec![0; 200];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes[..200]);
}

#[test]
fn fixed_files_are_spliced() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    fs::write(dir.path().join("from"), "through slots").unwrap();
    let table = FileTable::new(&ring, 8).unwrap();
    // Their slots and their descriptors have different numbers.
    let _first = table.reserve().unwrap();
    let from = table.install(&fs::File::open(dir.path().join("from")).unwrap()).unwrap();
    let to = table.install(&fs::File::create(dir.path().join("to")).unwrap()).unwrap();
    let ((reader, writer), (copy, other)) = (pipe(), pipe());
    let (reader, writer) = (table.install(&reader).unwrap(), table.install(&writer).unwrap());
    let other = table.install(&other).unwrap();
    assert_eq!(run(&ring, Splice::new(&from, &writer, 100)).unwrap(), 13);
    assert_eq!(run(&ring, Tee::new(&reader, &other, 100)).unwrap(), 13);
    assert_eq!(run(&ring, Splice::new(&reader, &to, 100)).unwrap(), 13);
    assert_eq!(fs::read(dir.path().join("to")).unwrap(), b"through slots");
    let mut got = [0; 13];
    fs::File::from(copy).read_exact(&mut got).unwrap();
    assert_eq!(&got, b"through slots");

    let foreign = FileTable::new(&Ring::local().unwrap(), 1).unwrap().reserve().unwrap();
    assert!(ring.push(Splice::new(&foreign, &to, 1)).is_err());
    assert!(ring.push(Tee::new(&foreign, &other, 1)).is_err());
}

#[test]
fn splicing_is_refused_with_a_reason() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let file = Fd::new(fs::File::create(dir.path().join("file")).unwrap());
    let (reader, writer) = pipe();
    let (reader, writer) = (Fd::new(reader), Fd::new(writer));
    assert_eq!(errno(run(&ring, Splice::new(&file, &writer, 1))), libc::EBADF, "write-only");
    let read = Fd::new(fs::File::open(dir.path().join("file")).unwrap());
    assert_eq!(errno(run(&ring, Splice::new(&read, &file, 1))), libc::EINVAL, "no pipe");
    assert_eq!(errno(run(&ring, Splice::new(&reader, &file, 1).from_offset(1))), libc::ESPIPE);
    let now = Splice::new(&reader, &file, 1).flags(SpliceFlags::NONBLOCK);
    assert_eq!(errno(run(&ring, now)), libc::EAGAIN);
    assert_eq!(errno(run(&ring, Tee::new(&read, &writer, 1))), libc::EINVAL);
    drop(writer);
    assert_eq!(run(&ring, Splice::new(&reader, &file, 1)).unwrap(), 0, "nobody can write any more");
}

#[test]
fn a_splice_that_waits_is_cancelled() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let file = Fd::new(fs::File::create(dir.path().join("file")).unwrap());
    let (reader, _writer) = pipe();
    let splice = ring.push(Splice::new(&Fd::new(reader), &file, 1)).unwrap();
    ring.submit().unwrap();
    splice.cancel().unwrap();
    let errno = errno(splice.wait(common::SOON).unwrap());
    assert!(matches!(errno, libc::EINTR | libc::ECANCELED), "{errno}"); // begun, or not
}

#[test]
fn a_tee_leaves_the_bytes_where_they_are() {
    let ring = Ring::local().unwrap();
    let ((first, mut writer), (second, other)) =
        (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    writer.write_all(b"twice").unwrap();
    let (first, other) = (Fd::new(first), Fd::new(other));
    assert_eq!(run(&ring, Tee::new(&first, &other, 100)).unwrap(), 5);
    for pipe in [second.into(), first.try_into_owned().unwrap()] {
        let mut pipe = fs::File::from(pipe);
        let mut got = [0; 5];
        pipe.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"twice");
    }
}

#[test]
fn a_pipe_is_made() {
    if lacks("IORING_OP_PIPE") {
        return;
    }
    let ring = Ring::local().unwrap();
    let (reader, writer) = run(&ring, Pipe::new()).unwrap();
    assert_eq!(run(&ring, Write::new(&Fd::new(writer), "through", 0)).result.unwrap(), 7);
    let mut got = String::new();
    fs::File::from(reader).read_to_string(&mut got).unwrap();
    assert_eq!(got, "through");

    let (reader, _writer) = run(&ring, Pipe::nonblocking()).unwrap();
    assert_eq!(errno(fs::File::from(reader).read(&mut [0; 1])), libc::EAGAIN);
}

#[test]
fn flags_do_not_turn_a_descriptor_into_a_fixed_file() {
    let (ring, dir) = (Ring::local().unwrap(), directory());
    let table = FileTable::new(&ring, 64).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let secret = Fd::new(fs::File::open(secret).unwrap());
    let slots: Vec<_> = (0..64).map(|_| table.install(&secret).unwrap()).collect();

    let empty = Fd::new(fs::File::create_new(dir.path().join("empty")).unwrap());
    let (_reader, writer) = pipe();
    // `SPLICE_F_FD_IN_FIXED`, which says that the number is that of a slot.
    let flags = SpliceFlags::from_bits_retain(1 << 31);
    let splice = Splice::new(&empty, &Fd::new(writer), 6).flags(flags);
    assert_ne!(run(&ring, splice).ok(), Some(6), "the bytes of another file");
    drop(slots);
}
