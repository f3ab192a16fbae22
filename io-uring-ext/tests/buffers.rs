//! Buffers of all types travel through operations and come back as they should.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{Read as _, Write as _};

use common::SOON;
use io_uring_ext::buf::{AlignedBuf, BufPool, IoBuf, IoBufMut};
use io_uring_ext::op::{Read, Send};
use io_uring_ext::{Fd, Ring};
use proptest::prelude::*;

/// Sends the buffer, and gives it back with what came out at the other end.
fn send<B: IoBuf>(buf: B) -> (B, Vec<u8>) {
    let ring = Ring::local().unwrap();
    let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
    let sent = ring.push(Send::new(&Fd::new(near), buf)).unwrap().wait(SOON).unwrap();
    let mut out = Vec::new();
    far.read_to_end(&mut out).unwrap();
    assert_eq!(sent.result.unwrap(), out.len());
    (sent.buf, out)
}

/// Reads these bytes into the buffer, as far as they fit.
fn read<B: IoBufMut>(buf: B, bytes: &[u8]) -> (B, usize) {
    let ring = Ring::local().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(bytes).unwrap();
    drop(writer);
    let done = ring.push(Read::new(&Fd::new(reader), buf, 0)).unwrap().wait(SOON).unwrap();
    (done.buf, done.result.unwrap())
}

#[test]
fn every_type_is_sent_and_comes_back() {
    assert_eq!(send(b"vector".to_vec()).1, b"vector");
    assert_eq!(send(b"box".to_vec().into_boxed_slice()).1, b"box");
    assert_eq!(send(&b"static"[..]).1, b"static");
    assert_eq!(send("text").1, b"text");
    let mut aligned = AlignedBuf::new(4096).unwrap();
    aligned.truncate(7);
    aligned.copy_from_slice(b"aligned");
    assert_eq!(send(aligned).1, b"aligned");
    let mut pooled = BufPool::local(64, 1).unwrap().take().unwrap();
    pooled.set_len(6);
    pooled.copy_from_slice(b"pooled");
    let (pooled, out) = send(pooled);
    assert_eq!((&pooled[..], &out[..]), (&b"pooled"[..], &b"pooled"[..]));
}

#[test]
fn every_type_is_read_into() {
    assert_eq!(read(Vec::with_capacity(8), b"vector").0, b"vector");
    let (boxed, len) = read(vec![b'.'; 5].into_boxed_slice(), b"box");
    assert_eq!((&boxed[..], len), (&b"box.."[..], 3), "a box has no length to set");
    assert_eq!(read(AlignedBuf::new(4096).unwrap(), b"aligned").0[..], *b"aligned");
    let pool = BufPool::local(4, 1).unwrap();
    assert_eq!(read(pool.take().unwrap(), b"pooled").0[..], *b"pool");
}

#[test]
fn a_range_that_is_not_there_gives_the_buffer_back() {
    let refused = |buf: Vec<u8>, range| {
        let refused = buf.slice(range).unwrap_err();
        assert_eq!(refused.buf, b"five.");
        assert_eq!((refused.limit, refused.initialised), (5, 5));
        refused.buf
    };
    let buf = refused(b"five.".to_vec(), 0..6);
    let buf = refused(buf, 6..6);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let mut buf = refused(buf, 3..2);
    assert!(buf.clone().slice(..=usize::MAX).is_err());
    buf.reserve_exact(11);
    let refused = buf.slice_mut(6..).unwrap_err();
    assert!(refused.to_string().contains("behind the 5"), "{refused}");
    assert_eq!(refused.buf.slice_mut(5..).unwrap().len(), 0);
}

#[test]
fn slices_are_cut_from_slices() {
    let slice = b"0123456789".to_vec().slice(2..8).unwrap().slice(1..=3).unwrap();
    assert_eq!(slice[..], *b"345");
    let (slice, out) = send(slice);
    assert_eq!(out, b"345");
    let (mut slice, len) = read(slice, b"abcdef");
    assert_eq!((&slice[..], len), (&b"abc"[..], 3), "no more than fits the part");
    slice[0] = b'A';
    assert_eq!(slice.into_inner().into_inner(), b"012Abc6789");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What is read into a part of a buffer, against the same done to a plain array.
    #[test]
    fn reading_changes_the_part_and_nothing_else(
        contents in 0..32_usize, spare in 0..16_usize,
        start in 0..50_usize, length in 0..50_usize,
        data in proptest::collection::vec(any::<u8>(), 1..64),
        again in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut buf = Vec::with_capacity(contents + spare);
        buf.extend((0..contents).map(|n| n as u8));
        let (capacity, mut model) = (buf.capacity(), buf.clone());
        let end = start + length;
        match buf.slice_mut(start..end) {
            Err(refused) => {
                prop_assert!(end > capacity || start > contents);
                prop_assert_eq!(refused.buf, model);
            }
            Ok(mut slice) => {
                prop_assert!(end <= capacity && start <= contents);
                prop_assert_eq!(&slice[..], &model[start..end.min(contents)]);
                for data in [data, again] {
                    let (back, len) = read(slice, &data);
                    slice = back;
                    prop_assert_eq!(len, data.len().min(length));
                    prop_assert_eq!(&slice[..], &data[..len]);
                    let new = model.len().max(start + len);
                    model.resize(new, 0);
                    model[start..start + len].copy_from_slice(&data[..len]);
                }
                prop_assert_eq!(slice.into_inner(), model);
            }
        }
    }
}

#[cfg(feature = "bytes")]
#[test]
fn bytes_travel_through_operations() {
    use bytes::{Bytes, BytesMut};

    let bytes = Bytes::from(b"shared bytes".to_vec());
    let handle = bytes.clone();
    let (part, out) = send(bytes.slice(7..).unwrap());
    assert_eq!(out, b"bytes");
    assert_eq!(part.into_inner(), handle);
    assert_eq!(send(Bytes::from_static(b"static")).1, b"static");
    assert_eq!(send(BytesMut::from(&b"mine"[..])).1, b"mine");

    let mut whole = BytesMut::with_capacity(16);
    whole.extend_from_slice(b"head|tail");
    let tail = whole.split_off(5);
    let (head, len) = read(whole, b"xyzzy and more than fits");
    assert_eq!((&head[..], len), (&b"xyzzy"[..], 5), "the tail is another handle's");
    assert_eq!(tail, b"tail"[..]);
    let mut rest = BytesMut::with_capacity(64);
    rest.extend_from_slice(b"so far, ");
    let rest = read(rest.slice_mut(8..).unwrap(), b"so good").0.into_inner();
    assert_eq!(rest, b"so far, so good"[..]);
}
