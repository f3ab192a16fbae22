//! The conveniences of [`PacketIoExt`], over memory links.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::backend::memory::{Faults, LinkOptions, MemoryFrame, MemoryPort, link};
use crate::pool::{FrameMeta, Kind, Pool, PoolBuf, PoolOptions};

/// A foreign backend.
struct Other;

impl Kind for Other {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "other";
}

fn open(options: &LinkOptions) -> (MemoryPort, MemoryPort) {
    let (a, b) = link(options).unwrap();
    (a.open().unwrap(), b.open().unwrap())
}

/// Sends a frame for each number, which is its last byte.
fn send(port: &mut MemoryPort, numbers: impl IntoIterator<Item = u8>) {
    let mut burst = Burst::with_capacity(1);
    for number in numbers {
        assert_eq!(port.alloc(&mut burst, 1), 1);
        burst[0].fill(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, number]).unwrap();
        assert_eq!(port.send(&mut burst).unwrap(), 1);
    }
}

fn number(frame: &MemoryFrame) -> u8 {
    *frame.data().last().unwrap()
}

fn numbers(burst: &Burst<MemoryFrame>) -> Vec<u8> {
    burst.iter().map(number).collect()
}

fn receive(port: &mut MemoryPort) -> Vec<u8> {
    let mut burst = Burst::with_capacity(64);
    port.recv(&mut burst).unwrap();
    numbers(&burst)
}

#[test]
fn for_each_shows_every_frame_once_and_frees_them() {
    let (mut a, mut b) = open(&LinkOptions::default());
    let mut scratch = Burst::with_capacity(4);
    let mut seen = Vec::new();
    send(&mut a, 0..6);
    for n in [4, 2, 0] {
        let counted = b.for_each(&mut scratch, |frame| seen.push(number(frame))).unwrap();
        assert_eq!((counted, scratch.len(), b.stats().frames.unwrap().held), (n, 0, 0));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    // What was there before is shown too.
    send(&mut a, 6..8);
    b.recv(&mut scratch).unwrap();
    send(&mut a, 8..9);
    assert_eq!(b.for_each(&mut scratch, |frame| seen.push(number(frame))).unwrap(), 3);
    assert_eq!(seen[6..], [6, 7, 8]);
}

#[test]
fn reflect_sends_back_what_it_is_told_to() {
    let (mut a, mut b) = open(&LinkOptions::default());
    let mut frames = Burst::with_capacity(16);
    send(&mut a, 0..10);
    let sent = b.reflect(&mut frames, |frame| {
        swap_addresses(frame);
        if number(frame).is_multiple_of(3) { Verdict::Drop } else { Verdict::Send }
    });
    assert_eq!((sent.unwrap(), frames.len(), b.stats().frames.unwrap().held), (6, 0, 0));
    let mut back = Burst::with_capacity(16);
    a.recv(&mut back).unwrap();
    assert_eq!(numbers(&back), [1, 2, 4, 5, 7, 8]);
    assert_eq!(back[0].data(), [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn reflect_keeps_what_is_refused_and_does_not_ask_twice() {
    let (mut a, mut b) = open(&LinkOptions { ring: 4, ..LinkOptions::default() });
    let mut frames = Burst::with_capacity(16);
    let (mut asked, mut came_back) = (Vec::new(), Vec::new());
    let mut turn = |b: &mut MemoryPort, frames: &mut Burst<MemoryFrame>| {
        b.reflect(frames, |frame| {
            asked.push(number(frame));
            if number(frame) == 5 { Verdict::Drop } else { Verdict::Send }
        })
        .unwrap()
    };
    send(&mut a, 0..4);
    assert_eq!((turn(&mut b, &mut frames), frames.len()), (4, 0));
    // The way back is full now.
    send(&mut a, 4..8);
    assert_eq!((turn(&mut b, &mut frames), numbers(&frames)), (0, vec![4, 6, 7]));
    came_back.extend(receive(&mut a));
    send(&mut a, 8..12);
    // The refused ones go first; of the new ones there is room for one.
    assert_eq!((turn(&mut b, &mut frames), numbers(&frames)), (4, vec![9, 10, 11]));
    came_back.extend(receive(&mut a));
    assert_eq!((turn(&mut b, &mut frames), frames.len()), (3, 0));
    came_back.extend(receive(&mut a));
    assert_eq!(asked, (0..12).collect::<Vec<_>>());
    assert_eq!(came_back, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn reflect_over_a_link_that_refuses_at_random_loses_nothing() {
    let faults = Faults { refusal: 0.4, seed: 3, ..Faults::default() };
    let (mut a, mut b) = open(&LinkOptions { faults, ..LinkOptions::default() });
    let (mut out, mut frames) = (Burst::with_capacity(1), Burst::with_capacity(8));
    let (mut asked, mut came_back) = (0, Vec::new());
    for n in 0..200 {
        a.alloc(&mut out, 1);
        out[0].fill(&[0; 14]).unwrap();
        out[0].data_mut()[13] = n;
        while a.send(&mut out).unwrap() == 0 {}
        b.reflect(&mut frames, |_| {
            asked += 1;
            Verdict::Send
        })
        .unwrap();
        came_back.extend(receive(&mut a));
    }
    while came_back.len() < 200 {
        b.reflect(&mut frames, |_| unreachable!("nothing new has come")).unwrap();
        came_back.extend(receive(&mut a));
    }
    assert_eq!((asked, came_back), (200, (0..200).collect()));
}

#[test]
fn reflect_leaves_what_can_never_be_sent_in_front() {
    let (mut a, mut b) = open(&LinkOptions { max_len: 20, ..LinkOptions::default() });
    let mut frames = Burst::with_capacity(4);
    send(&mut a, 0..2);
    let too_long = |frame: &mut MemoryFrame| {
        if number(frame) == 0 {
            frame.set_len(21).unwrap();
        }
        Verdict::Send
    };
    assert!(matches!(b.reflect(&mut frames, too_long), Err(Error::Frame { .. })));
    assert_eq!((frames.len(), frames[0].data().len()), (2, 21));
    drop(frames.pop_front());
    assert_eq!(b.reflect(&mut frames, |_| Verdict::Drop).unwrap(), 1);
    assert_eq!(receive(&mut a), [1]);
}

#[test]
fn reflect_sends_nothing_that_a_callback_has_not_decided_on_when_it_panics() {
    let (mut a, mut b) = open(&LinkOptions::default());
    let mut frames = Burst::with_capacity(8);
    send(&mut a, 0..5);
    let reflect = AssertUnwindSafe(|| {
        b.reflect(&mut frames, |frame| {
            assert!(number(frame) != 3, "no idea");
            if number(frame) == 1 { Verdict::Drop } else { Verdict::Send }
        })
    });
    assert!(catch_unwind(reflect).is_err());
    assert_eq!((numbers(&frames), b.stats().frames.unwrap().held), (vec![0, 2], 2));
    let sent = b.reflect(&mut frames, |_| unreachable!("nothing new has come")).unwrap();
    assert_eq!((sent, receive(&mut a)), (2, vec![0, 2]));
}

#[test]
fn import_copies_across_backends() {
    let foreign = Pool::<Other>::new(&PoolOptions::new(8)).unwrap();
    let segment = |bytes: &[u8]| {
        let mut segment: PoolBuf<Other> = foreign.alloc_rx().unwrap();
        segment.fill(bytes).unwrap();
        segment
    };
    let (mut a, mut b) = open(&LinkOptions { max_len: 300, ..LinkOptions::default() });
    let mut out = Burst::with_capacity(4);
    let mut jumbo = segment(&[1; 100]);
    for part in [&[2; 100][..], &[], &[3; 100]] {
        jumbo.chain(segment(part)).unwrap();
    }
    assert!(a.import(&segment(b"one piece"), &mut out).unwrap());
    assert!(a.import(&jumbo, &mut out).unwrap());
    assert_eq!((a.send(&mut out).unwrap(), b.recv(&mut out).unwrap()), (2, 2));
    assert_eq!(out[0].data(), b"one piece");
    assert_eq!(out[1].data(), [[1; 100], [2; 100], [3; 100]].concat());
    assert!(!out[1].is_chain());
    assert_eq!(jumbo.total_len(), 300, "the original is as it was");
}

#[test]
fn import_refuses_what_does_not_fit() {
    let (mut a, mut b) = open(&LinkOptions { max_len: 300, ..LinkOptions::default() });
    let mut out = Burst::with_capacity(2);
    let long = b.pool().alloc_rx().map(|mut frame| (frame.set_len(301).unwrap(), frame).1).unwrap();
    match a.import(&long, &mut out) {
        Err(Error::Frame { cause, .. }) => {
            assert_eq!(cause, FrameError::TooLong { len: 301, max: 300 });
        }
        other => panic!("{other:?}"),
    }
    // A link that takes long frames in several segments has no single buffer for one.
    let pool = PoolOptions { chunk_size: 256, headroom: 32, ..PoolOptions::new(8) };
    let jumbo = LinkOptions { max_len: 400, max_segments: 2, pool, ..LinkOptions::default() };
    let (mut c, _d) = open(&jumbo);
    match c.import(&long, &mut out) {
        Err(Error::Frame { cause: FrameError::Room(room), .. }) => {
            assert_eq!((room.asked, room.available), (301, 224));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((out.len(), a.pool().census().free, c.pool().census().free), (0, 1024, 8));
    assert_eq!(b.recv(&mut out).unwrap(), 0);
}

#[test]
fn import_waits_for_memory_and_room() {
    let pool = PoolOptions { rx_reserve: 3, ..PoolOptions::new(4) };
    let (mut a, b) = open(&LinkOptions { pool, ..LinkOptions::default() });
    let mut foreign = b.pool().alloc_rx().unwrap();
    foreign.fill(b"x").unwrap();
    let mut out = Burst::with_capacity(1);
    assert!(a.import(&foreign, &mut out).unwrap());
    let mut more = Burst::with_capacity(1);
    assert!(!a.import(&foreign, &mut more).unwrap(), "the pool has only its reserve left");
    drop(out.pop_front());
    assert!(a.import(&foreign, &mut more).unwrap());
    drop(more);
    assert!(!a.import(&foreign, &mut Burst::with_capacity(0)).unwrap(), "there is no room");
    assert_eq!(a.pool().census().free, 4);
}

#[test]
fn a_boxed_port_has_them_too() {
    let (mut a, b) = open(&LinkOptions::default());
    let mut b: Box<dyn PacketIo<Frame = MemoryFrame>> = Box::new(b);
    let mut frames = Burst::with_capacity(4);
    send(&mut a, 0..3);
    assert_eq!(b.reflect(&mut frames, |_| Verdict::Send).unwrap(), 3);
    assert_eq!(receive(&mut a), [0, 1, 2]);
    send(&mut a, 0..3);
    assert_eq!(b.for_each(&mut frames, |_| ()).unwrap(), 3);
}

#[test]
fn short_frames_keep_their_addresses() {
    let pool = Pool::<Other>::new(&PoolOptions::new(4)).unwrap();
    let mut frame = pool.alloc_rx().unwrap();
    let bytes: Vec<u8> = (0..13).collect();
    for n in 0..12 {
        frame.fill(&bytes[..n]).unwrap();
        swap_addresses(&mut frame);
        assert_eq!(frame.data(), &bytes[..n]);
    }
    frame.fill(&bytes).unwrap();
    swap_addresses(&mut frame);
    assert_eq!(frame.data(), [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12]);
}

#[test]
fn a_visitor_that_panics_sends_nothing_that_it_has_not_decided_on() {
    let (mut a, mut b) = open(&LinkOptions::default());
    send(&mut a, 0..6);
    let mut waiting = Burst::with_capacity(8);
    let visit = AssertUnwindSafe(|| {
        b.visit(&mut waiting, |frame, meta| {
            assert_eq!(meta.queue, 0);
            assert!(frame[12] < 3, "the fourth frame");
            if frame[12] == 1 { Verdict::Drop } else { Verdict::Send }
        })
    });
    assert!(catch_unwind(visit).is_err());
    assert_eq!(numbers(&waiting), [0, 2]);
    let visited = b.visit(&mut waiting, |_, _| unreachable!("nothing new has come")).unwrap();
    assert_eq!((visited, receive(&mut a)), (Visited { seen: 0, sent: 2 }, vec![0, 2]));
    assert_eq!(b.stats().frames.unwrap().held, 0);
}

#[test]
fn generated_frames_wait_when_the_queue_is_full() {
    let (mut a, mut b) = open(&LinkOptions { ring: 4, ..LinkOptions::default() });
    let (mut waiting, mut n) = (Burst::with_capacity(6), 0);
    let mut generate = |a: &mut MemoryPort, waiting: &mut Burst<MemoryFrame>, most| {
        let sent = a.generate(waiting, most, 14, |data| {
            data.fill(n);
            n += 1;
        });
        (sent.unwrap(), waiting.len())
    };
    assert_eq!(generate(&mut a, &mut waiting, 6), (4, 2));
    assert_eq!(generate(&mut a, &mut waiting, 9), (0, 6), "as many as there is room for");
    assert_eq!(receive(&mut b), [0, 1, 2, 3]);
    assert_eq!(generate(&mut a, &mut waiting, 0), (4, 2));
    assert_eq!(receive(&mut b), [4, 5, 6, 7]);
}
