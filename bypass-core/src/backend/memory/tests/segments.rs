//! Frames of several segments.

use super::*;
use crate::Frame as _;

/// Frames of up to four segments of up to 224 bytes.
fn jumbo() -> LinkOptions {
    LinkOptions { max_segments: 4, max_len: 800, ..small() }
}

/// A frame whose segments are filled with `parts`.
fn chain(port: &MemoryPort, parts: &[&[u8]]) -> MemoryFrame {
    let segment = |part: &&[u8]| {
        let mut segment = port.pool().alloc_rx().unwrap();
        segment.fill(part).unwrap();
        segment
    };
    parts.iter().map(segment).fold(None, |frame, segment| Some(join(frame, segment))).unwrap()
}

fn burst(frame: MemoryFrame) -> Burst<MemoryFrame> {
    let mut burst = Burst::with_capacity(4);
    burst.push(frame).unwrap();
    burst
}

fn segments(frame: &MemoryFrame) -> Vec<&[u8]> {
    frame.segments().collect()
}

#[test]
fn a_frame_keeps_its_segments() {
    let (mut a, mut b) = open(&jumbo());
    let cases: [&[&[u8]]; 4] = [
        &[&[1; 224], &[2; 224], &[3; 224], &[4; 128]],
        &[b"", b"x"],
        &[b"a", b"", b"c"],
        &[b"one"],
    ];
    let mut bytes = 0;
    for (parts, n) in cases.into_iter().zip(1..) {
        let mut sent = burst(chain(&a, parts));
        bytes += sent[0].total_len() as u64;
        assert_eq!(a.send(&mut sent).unwrap(), 1);
        assert_eq!(b.recv(&mut sent).unwrap(), 1);
        assert_eq!(segments(&sent[0]), parts);
        assert_eq!(sent[0].rx_meta(), crate::RxMeta::default());
        let (sent, got) = (a.stats(), b.stats());
        assert_eq!((sent.tx_packets, sent.tx_bytes, got.rx_packets), (n, bytes, n));
        assert_eq!(got.rx_bytes, bytes);
        check(&sent, n);
    }
    assert_eq!((a.pool().census().free, b.pool().census().free), (16, 16));
}

#[test]
fn a_frame_that_does_not_fit_the_link_is_named_and_kept() {
    let (mut a, mut b) = open(&jumbo());
    let cause = |a: &mut MemoryPort, frame| {
        let mut frame = burst(frame);
        match (a.send(&mut frame), frame.len()) {
            (Err(Error::Frame { cause, .. }), 1) => cause,
            other => panic!("{other:?}"),
        }
    };
    let many = chain(&a, &[b"1", b"2", b"3", b"4", b"5"]);
    let text = cause(&mut a, many).to_string();
    assert!(text.contains("frame of 5 segments") && text.contains("is 4"), "{text}");
    let long = chain(&a, &[&[0; 224], &[0; 224], &[0; 224], &[0; 129]]);
    assert_eq!(cause(&mut a, long), FrameError::TooLong { len: 801, max: 800 });
    let empty = chain(&a, &[b"", b""]);
    assert_eq!(cause(&mut a, empty), FrameError::TooShort { len: 0, min: 1 });
    // It would not fit behind the headroom of the receiver's chunk.
    let mut grown = chain(&a, &[&[0; 224]]);
    grown.prepend(1).unwrap();
    assert_eq!(cause(&mut a, grown), FrameError::TooLong { len: 225, max: 224 });
    assert_eq!((a.stats().tx_packets, b.recv(&mut Burst::with_capacity(4)).unwrap()), (0, 0));
    assert_eq!(a.pool().census().free, 16);
}

#[test]
fn a_cable_with_room_for_a_part_refuses_the_whole() {
    let (mut a, mut b) = open(&LinkOptions { ring: 4, ..jumbo() });
    let mut two = burst(chain(&a, &[b"1", b"2", b"3"]));
    two.push(chain(&a, &[b"4", b"5"])).unwrap();
    assert_eq!((a.send(&mut two).unwrap(), segments(&two[0])), (1, vec![&b"4"[..], b"5"]));
    assert!(a.wait(Interest::TX, Some(Duration::ZERO)).unwrap().is_empty());
    b.recv(&mut Burst::with_capacity(4)).unwrap();
    assert_eq!(a.wait(Interest::TX, None).unwrap(), Ready::TX);
    assert_eq!(a.send(&mut two).unwrap(), 1);
}

#[test]
fn a_pool_that_runs_dry_within_a_frame_loses_nothing() {
    let (mut a, mut b) = open(&jumbo());
    let mut held: Vec<_> = std::iter::from_fn(|| b.pool().alloc_rx()).take(14).collect();
    let mut out = burst(chain(&a, &[b"1", b"2", b"3", b"4"]));
    out.push(chain(&a, &[b"5"])).unwrap();
    a.send(&mut out).unwrap();
    let mut inbox = Burst::with_capacity(4);
    for taken in [2, 3] {
        assert_eq!(b.recv(&mut inbox).unwrap(), 0);
        let census = b.stats().frames.unwrap();
        assert_eq!((census.rx_posted, census.held, census.free), (taken, 16 - taken, 0));
        assert_eq!(a.stats().frames.unwrap().tx_in_flight, 5 - taken);
        assert_eq!(counter(&b, "rx_waits_for_memory"), taken - 1);
        held.pop();
    }
    assert_eq!(b.recv(&mut inbox).unwrap(), 1);
    assert_eq!(segments(&inbox[0]), [b"1", b"2", b"3", b"4"]);
    held.clear();
    assert_eq!((b.recv(&mut inbox).unwrap(), segments(&inbox[1])), (1, vec![&b"5"[..]]));
    assert_eq!((b.stats().rx_packets, b.stats().drops.total()), (2, 0));
}

#[test]
fn a_port_may_be_closed_within_a_frame() {
    let (mut a, mut b) = open(&jumbo());
    let held: Vec<_> = std::iter::from_fn(|| b.pool().alloc_rx()).take(15).collect();
    let mut frame = burst(chain(&a, &[b"1", b"2", b"3"]));
    assert_eq!(a.send(&mut frame).unwrap(), 1);
    assert_eq!(b.recv(&mut Burst::with_capacity(4)).unwrap(), 0);
    assert_eq!(b.stats().frames.unwrap().rx_posted, 1);
    drop(b);
    assert_eq!(a.pool().census().free, 16);
    drop(held);
}

#[test]
fn a_twin_has_every_segment() {
    let faults = Faults { duplication: 1.0, ..Faults::default() };
    let (mut a, mut b) = open(&LinkOptions { ring: 12, faults, ..jumbo() });
    let mut frames = burst(chain(&a, &[&[1; 224], b"", &[3; 7]]));
    assert_eq!((a.send(&mut frames).unwrap(), b.recv(&mut frames).unwrap()), (1, 2));
    assert_eq!(segments(&frames[0]), [&[1; 224][..], b"", &[3; 7]]);
    assert_eq!(segments(&frames[0]), segments(&frames[1]));
    check(&a.stats(), 1);
}

#[test]
fn a_late_frame_counts_all_its_segments() {
    let faults = Faults { reordering: 1.0, ..Faults::default() };
    let (mut a, mut b) = open(&LinkOptions { ring: 12, faults, ..jumbo() });
    let mut frames = burst(chain(&a, &[b"1", b"2", b"3"]));
    assert_eq!(a.send(&mut frames).unwrap(), 1);
    let stats = a.stats();
    assert_eq!((stats.tx_in_flight, stats.frames.unwrap().tx_in_flight), (1, 3));
    a.flush().unwrap();
    assert_eq!(b.recv(&mut frames).unwrap(), 1);
    assert_eq!(segments(&frames[0]), [b"1", b"2", b"3"]);
}

#[test]
fn an_empty_first_segment_cannot_be_damaged() {
    let faults = Faults { corruption: 1.0, ..Faults::default() };
    let (mut a, mut b) = open(&LinkOptions { ring: 12, faults, ..jumbo() });
    let mut frames = burst(chain(&a, &[b"", b"whole"]));
    assert_eq!((a.send(&mut frames).unwrap(), b.recv(&mut frames).unwrap()), (1, 1));
    assert_eq!(
        (segments(&frames[0]), counter(&a, "injected_corruptions")),
        (vec![&b""[..], b"whole"], 0)
    );
}
