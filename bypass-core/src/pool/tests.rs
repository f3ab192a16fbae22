//! What a pool promises, case by case; [`reference`] tries the combinations.

mod ledger;
mod options;
mod reference;

use std::cell::RefCell;
use std::panic::catch_unwind;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::buffer::Room;
use crate::{Buffer, Frame, OutOfRoom, TxChecksum, TxMeta};

/// A kind whose meta is a number.
#[derive(Debug)]
struct Numbered;

impl Kind for Numbered {
    type Meta = u64;
    const BACKEND: &'static str = "numbered";
}

fn small() -> PoolOptions {
    PoolOptions { chunk_size: 256, headroom: 32, ..PoolOptions::new(8) }
}

fn pool() -> Pool<Numbered> {
    Pool::new(&small()).unwrap()
}

fn filled(pool: &Pool<Numbered>, bytes: &[u8]) -> PoolBuf<Numbered> {
    let mut buffer = pool.alloc_rx().unwrap();
    buffer.fill(bytes).unwrap();
    buffer
}

fn chunk(buffer: &PoolBuf<Numbered>) -> u32 {
    (buffer.arena_offset() / 256) as u32
}

fn segments(buffer: &PoolBuf<Numbered>) -> Vec<&[u8]> {
    buffer.segments().collect()
}

#[test]
fn room_ends_where_the_chunk_does() {
    let pool = pool();
    let mut buffer = pool.alloc_rx().unwrap();
    assert_eq!((buffer.headroom(), buffer.data().len(), buffer.tailroom()), (32, 0, 224));
    assert_eq!((pool.headroom(), pool.data_room()), (32, 224));
    buffer.append(224).unwrap().fill(7);
    buffer.prepend(32).unwrap().fill(9);
    assert_eq!((buffer.headroom(), buffer.data().len(), buffer.tailroom()), (0, 256, 0));
    assert_eq!((&buffer.data()[..32], &buffer.data()[32..]), (&[9; 32][..], &[7; 224][..]));

    let full = buffer.data().to_vec();
    for n in [1, u32::MAX as usize, u32::MAX as usize + 1, usize::MAX] {
        let out = |room, available| OutOfRoom { room, asked: n, available };
        assert_eq!(buffer.prepend(n).map(|new| new.len()), Err(out(Room::Headroom, 0)));
        assert_eq!(buffer.append(n).map(|new| new.len()), Err(out(Room::Tailroom, 0)));
        if n > 1 {
            assert_eq!(buffer.trim_front(n), Err(out(Room::Data, 256)));
            assert_eq!(buffer.set_len(n), Err(out(Room::Tailroom, 256)));
        }
    }
    assert_eq!(buffer.data(), full, "what fails changes nothing");

    buffer.trim_front(256).unwrap();
    assert_eq!((buffer.headroom(), buffer.data().len(), buffer.tailroom()), (256, 0, 0));
    buffer.prepend(256).unwrap();
    assert_eq!(buffer.data(), full, "trimming and prepending moves no byte");
}

#[test]
fn meta_is_fresh_when_a_chunk_is_allocated() {
    let pool =
        Pool::<Numbered>::new(&PoolOptions { rx_reserve: 0, ..PoolOptions::new(1) }).unwrap();
    for _ in 0..3 {
        let mut buffer = pool.alloc_rx().unwrap();
        assert_eq!(buffer.meta(), 0);
        buffer.set_meta(7);
        assert_eq!(buffer.meta(), 7);
    }
}

#[test]
fn the_reserve_is_for_receiving_alone() {
    let pool = pool();
    let mut burst = Burst::with_capacity(16);
    assert_eq!((pool.available(), pool.alloc(&mut burst, 100)), (6, 6));
    assert_eq!((pool.available(), pool.alloc(&mut burst, 1)), (0, 0));
    let received: Vec<_> = std::iter::from_fn(|| pool.alloc_rx()).collect();
    assert_eq!(received.len(), 2);
    assert_eq!((pool.census().free, pool.census().held), (0, 8));
    // The reserve is filled first.
    burst.truncate(4);
    assert_eq!((pool.available(), pool.alloc(&mut burst, 1)), (0, 0));
    drop(received);
    assert_eq!((pool.available(), pool.alloc(&mut burst, 100)), (2, 2));
}

#[test]
fn a_chain_has_one_owner() {
    let pool = pool();
    let mut head = filled(&pool, b"head");
    let mut tail = filled(&pool, b"tail");
    tail.chain(filled(&pool, b"end")).unwrap();
    assert!(!head.is_chain() && tail.is_chain());
    head.chain(tail).unwrap();
    head.chain(filled(&pool, b"behind")).unwrap();
    assert_eq!(segments(&head), [&b"head"[..], b"tail", b"end", b"behind"]);
    assert_eq!((head.total_len(), head.data()), (17, &b"head"[..]));
    assert_eq!((pool.census().held, pool.census().free), (4, 4));

    let mut head = head.detach().map(|_| ()).expect_err("a chain cannot cross threads");
    let rest = head.split_next().unwrap();
    assert_eq!((segments(&head).len(), segments(&rest).len()), (1, 3));
    assert!(head.split_next().is_none());
    drop(rest);
    assert_eq!(pool.census().held, 1);

    head.chain(filled(&pool, b"lost when the first is lent")).unwrap();
    let posted = head.post(Lent::Tx);
    assert_eq!((pool.census().tx_in_flight, pool.census().free), (1, 7));
    // SAFETY: no kernel has seen the address.
    let back = unsafe { pool.reclaim(posted.chunk, Lent::Tx, 32, 4) }.unwrap();
    assert_eq!(segments(&back), [b"head"]);
}

#[test]
fn buffers_of_two_pools_do_not_mix() {
    let (one, two) = (pool(), pool());
    let mut mine = filled(&one, b"mine");
    let yours = mine.chain(filled(&two, b"yours")).expect_err("of another pool");
    assert_eq!((segments(&mine).len(), yours.data()), (1, &b"yours"[..]));
    assert!(one.owns(&mine) && !one.owns(&yours) && two.owns(&yours));
    assert!(one.arena().id() != two.arena().id() && mine.arena().id() == one.arena().id());
    let detached = yours.detach().unwrap();
    let detached = one.attach(detached).map(|_| ()).expect_err("of another pool");
    assert_eq!(two.attach(detached).unwrap().data(), b"yours");
    drop(mine);
    assert_eq!((one.census().free, two.census().free), (8, 8));
}

#[test]
fn what_the_kernel_never_had_is_not_taken_back() {
    let pool = pool();
    let held = filled(&pool, b"held");
    let posted = pool.alloc_rx().unwrap().post(Lent::Rx);
    let free = (0..8).find(|&chunk| chunk != posted.chunk && chunk != self::chunk(&held)).unwrap();
    let before = pool.census();
    for (chunk, from, offset, len) in [
        (posted.chunk, Lent::Tx, 0, 0),
        (chunk(&held), Lent::Rx, 0, 0),
        (free, Lent::Rx, 0, 0),
        (8, Lent::Rx, 0, 0),
        (u32::MAX, Lent::Rx, 0, 0),
        // The chunk is there, the data is not inside.
        (posted.chunk, Lent::Rx, 0, 257),
        (posted.chunk, Lent::Rx, 257, 0),
        (posted.chunk, Lent::Rx, 200, 57),
        (posted.chunk, Lent::Rx, u32::MAX, 1),
        (posted.chunk, Lent::Rx, 1, u32::MAX),
    ] {
        // SAFETY: no kernel has seen any address of this pool.
        let answer = unsafe { pool.reclaim(chunk, from, offset, len) };
        assert_eq!(
            answer.map(|_| ()),
            Err(StrayChunk { chunk }),
            "{chunk} {from:?} {offset} {len}"
        );
        assert_eq!(pool.census(), before);
    }
    // SAFETY: as above.
    let back = unsafe { pool.reclaim(posted.chunk, Lent::Rx, 256, 0) }.unwrap();
    assert_eq!((back.headroom(), back.tailroom()), (256, 0));
    // SAFETY: as above.
    let twice = unsafe { pool.reclaim(posted.chunk, Lent::Rx, 0, 0) }.map(|_| ());
    let error = twice.expect_err("it was taken back before");
    assert!(error.to_string().contains(&format!("chunk {},", posted.chunk)), "{error}");
}

#[test]
fn a_chunk_is_lent_without_a_buffer() {
    let pool = pool();
    let mut used = pool.alloc_rx().unwrap();
    used.set_meta(7);
    let used = chunk(&{ used });
    let mut lent = Vec::new();
    assert_eq!(pool.lend_rx(1, |chunk| lent.push(chunk)), 1);
    assert_eq!(lent, [used], "the last that was freed");
    assert_eq!((pool.census().rx_posted, pool.census().free), (1, 7));
    // SAFETY: no kernel has seen any address of this pool.
    let back = unsafe { pool.reclaim(used, Lent::Rx, 100, 3) }.unwrap();
    assert_eq!((back.headroom(), back.data().len(), back.meta()), (100, 3, 0));
    assert_eq!(pool.lend_rx(8, |chunk| lent.push(chunk)), 7, "there are no more");
    assert_eq!((pool.census().rx_posted, pool.census().held), (7, 1));
}

#[test]
fn what_was_sent_is_freed_once_and_tells_its_length() {
    let pool = pool();
    let (held, posted) = (filled(&pool, b"held"), pool.alloc_rx().unwrap().post(Lent::Rx));
    let sent = filled(&pool, b"0123456789").post(Lent::Tx);
    let before = pool.census();
    for other in [chunk(&held), posted.chunk, 8, u32::MAX] {
        // SAFETY: no kernel has seen any address of this pool.
        let answer = unsafe { pool.release_sent([other as usize].into_iter()) };
        assert_eq!((answer.chunks, answer.strays, pool.census()), (0, 1, before));
    }
    // SAFETY: as above.
    let released = unsafe { pool.release_sent([sent.chunk as usize; 2].into_iter()) };
    assert_eq!(
        released,
        Released { chunks: 1, strays: 1, bytes: 10 },
        "the second time it is free"
    );
    assert_eq!((pool.census().free, pool.census().tx_in_flight), (6, 0));
}

#[test]
fn what_was_sent_comes_back_as_it_was_for_who_wants_it() {
    let pool = pool();
    let mut buffer = filled(&pool, b"0123456789");
    buffer.trim_front(3).unwrap();
    buffer.set_meta(7);
    let headroom = buffer.headroom();
    let (sent, posted) = (buffer.post(Lent::Tx), pool.alloc_rx().unwrap().post(Lent::Rx));
    for other in [posted.chunk, 7, 8, u32::MAX] {
        // SAFETY: no kernel has seen any address of this pool.
        let answer = unsafe { pool.reclaim_sent(other) };
        assert_eq!(answer.err(), Some(StrayChunk { chunk: other }));
    }
    // SAFETY: as above.
    let back = unsafe { pool.reclaim_sent(sent.chunk) }.unwrap();
    assert_eq!((back.headroom(), back.data(), back.meta()), (headroom, &b"3456789"[..], 7));
    // SAFETY: as above.
    assert!(unsafe { pool.reclaim_sent(sent.chunk) }.is_err(), "it has an owner");
    assert_eq!((pool.census().held, pool.census().tx_in_flight), (1, 0));
}

#[test]
fn a_lent_chunk_is_told_by_address_and_room() {
    let pool = pool();
    let mut buffer = filled(&pool, b"0123456789");
    buffer.trim_front(2).unwrap();
    let (chunk, data) = (chunk(&buffer), buffer.data().as_ptr());
    let at = chunk as usize * 256 + 34;
    assert_eq!(
        (buffer.arena_offset(), pool.arena().base().wrapping_add(at)),
        (at, data.cast_mut())
    );
    let posted = buffer.post(Lent::Tx);
    assert_eq!(posted, Posted { chunk, data: data.cast_mut(), len: 8, offset: 34, room: 222 });
}

#[test]
fn memory_outlives_the_pool_for_whoever_holds_a_piece() {
    let pool = pool();
    let (mut buffer, arena) = (filled(&pool, b"held"), Arc::clone(pool.arena()));
    let detached = filled(&pool, b"detached").detach().unwrap();
    let posted = filled(&pool, b"posted").post(Lent::Rx);
    drop(pool);
    buffer.append(3).unwrap().copy_from_slice(b" on");
    assert_eq!(buffer.data(), b"held on");
    drop(buffer);
    thread::spawn(move || assert_eq!(detached.data(), b"detached")).join().unwrap();
    // SAFETY: the arena that `posted` lies in is held above.
    unsafe { posted.data.write_bytes(0xee, posted.room as usize) };
    drop(arena);
}

#[test]
fn a_buffer_may_be_the_last_of_its_pool() {
    for fate in 0..3 {
        let pool = pool();
        let mut buffer = filled(&pool, b"first");
        buffer.chain(filled(&pool, b"second")).unwrap();
        drop(pool);
        match fate {
            0 => drop(buffer),
            1 => drop(buffer.split_next().unwrap().detach().unwrap()),
            // The memory is gone with it, since nobody holds the arena; the address is not used.
            _ => assert_eq!(buffer.post(Lent::Rx).len, 5),
        }
    }
}

#[test]
fn detached_buffers_come_home_from_any_thread() {
    let pool = pool();
    let (to_threads, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel()).unzip();
    let (send_back, back) = mpsc::channel();
    let threads: Vec<_> = inboxes
        .into_iter()
        .map(|inbox: mpsc::Receiver<Detached<Numbered>>| {
            let send_back = send_back.clone();
            thread::spawn(move || {
                for mut detached in inbox {
                    let n = detached.meta();
                    assert!(detached.data().iter().all(|&byte| byte == n as u8));
                    detached.data_mut().fill(!n as u8);
                    if n % 2 == 0 {
                        send_back.send(detached).unwrap();
                    }
                }
            })
        })
        .collect();
    drop(send_back);
    for n in 0..20_000_u64 {
        // When all are under way, the next to come home is the next to go.
        let mut buffer = loop {
            if let Some(buffer) = pool.alloc_rx() {
                break buffer;
            }
            if let Ok(detached) = back.try_recv() {
                let buffer = pool.attach(detached).unwrap();
                assert!(buffer.data().iter().all(|&byte| byte == !buffer.meta() as u8));
            }
            thread::yield_now();
        };
        buffer.append(1 + n as usize % 200).unwrap().fill(n as u8);
        buffer.set_meta(n);
        to_threads[n as usize % 3].send(buffer.detach().unwrap()).unwrap();
        assert!(pool.census().adds_up());
    }
    drop(to_threads);
    back.iter().for_each(drop);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((pool.census().free, pool.available()), (8, 6));
    assert_eq!(std::iter::from_fn(|| pool.alloc_rx()).collect::<Vec<_>>().len(), 8);
}

#[test]
fn a_forgotten_buffer_stays_held() {
    let pool = pool();
    std::mem::forget(pool.alloc_rx());
    std::mem::forget(pool.alloc_rx().unwrap().detach());
    assert_eq!((pool.census().free, pool.census().held), (6, 2));
    let mut rest: Vec<_> = std::iter::from_fn(|| pool.alloc_rx()).collect();
    rest.iter_mut().for_each(|buffer| buffer.append(224).unwrap().fill(1));
    assert_eq!(rest.len(), 6);
    // Neither the pool nor its memory goes with the last that is dropped.
    drop(pool);
    drop(rest);
}

/// Meta whose default does what a test says.
#[derive(Clone, Copy, Debug)]
struct Wild;

thread_local! {
    static DEFAULT: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

impl Default for Wild {
    fn default() -> Self {
        // Taken out while it runs, so that what it does may come back here.
        if let Some(mut hook) = DEFAULT.take() {
            hook();
        }
        Self
    }
}

impl Kind for Wild {
    type Meta = Self;
    const BACKEND: &'static str = "wild";
}

#[test]
fn the_default_is_asked_once_and_never_while_chunks_change_hands() {
    DEFAULT.set(Some(Box::new(|| panic!("no default"))));
    assert!(catch_unwind(|| Pool::<Wild>::new(&small()).map(drop)).is_err());
    let pool = Pool::<Wild>::new(&small()).unwrap();
    let mut used: Vec<_> = std::iter::from_fn(|| pool.alloc_rx()).collect();
    used.iter_mut().for_each(|buffer| buffer.set_meta(Wild));
    drop(used);
    DEFAULT.set(Some(Box::new(|| panic!("asked again"))));
    let mut burst = Burst::with_capacity(8);
    assert_eq!((pool.alloc(&mut burst, 6), pool.lend_rx(8, drop)), (6, 2));
    drop(burst);
    assert_eq!((pool.census().free, pool.census().rx_posted), (6, 2));
    assert!(DEFAULT.take().is_some());
}

#[test]
fn offloads_that_are_not_to_be_had_are_refused() {
    use crate::backend::memory::Memory;
    let options = PoolOptions { tx_offloads: TxOffloads::CHECKSUM, ..small() };
    let mut frame = Pool::<Memory>::new(&options).unwrap().alloc_rx().unwrap();
    let checksum = Some(TxChecksum { start: 14, offset: 10 });
    frame.set_tx_meta(TxMeta { checksum, ..TxMeta::default() }).unwrap();
    let refused =
        frame.set_tx_meta(TxMeta { segment_size: Some(9), checksum, ..TxMeta::default() });
    let why = refused.expect_err("segmentation is not to be had").to_string();
    assert!(why.contains("memory has no send offload") && why.contains("SEGMENTATION"), "{why}");
    assert!(!why.contains("CHECKSUM"), "{why}");
    assert_eq!(frame.meta().tx.checksum, checksum, "it keeps what it had");
}

#[test]
fn buffers_of_several_pools_are_freed_together_also_when_they_outlive_them() {
    let (a, b) = (pool(), pool());
    let mut burst = Burst::with_capacity(8);
    for pool in [&a, &a, &b, &a] {
        burst.push(filled(pool, b"one")).unwrap();
    }
    burst[1].chain(filled(&a, b"behind")).unwrap();
    assert_eq!((a.census().held, b.census().held), (4, 1));
    drop(b);
    burst.clear();
    assert_eq!((a.census().held, a.census().free), (0, 8));
    // The last buffer takes the pool with it.
    a.alloc(&mut burst, 3);
    let kept = burst.pop_back();
    drop(a);
    drop(burst);
    assert_eq!(kept.map(|buffer| buffer.data().len()), Some(0));
}
