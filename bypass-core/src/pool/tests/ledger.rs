//! Chunks that are shown and filled where they lie.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::Burst;

fn lent(pool: &Pool<Numbered>, n: usize) -> Vec<usize> {
    let mut lent = Vec::new();
    assert_eq!(pool.lend_rx(n, |chunk| lent.push(chunk as usize)), n);
    lent
}

/// Where chunks are: free, held, lent to be received into, lent to be sent.
fn places(pool: &Pool<Numbered>) -> [u64; 4] {
    let census = pool.census();
    assert!(census.adds_up(), "{census:?}");
    [census.free, census.held, census.rx_posted, census.tx_in_flight]
}

#[test]
fn a_chunk_is_shown_and_lent_again_sent_or_kept() {
    let pool = pool();
    let chunks = lent(&pool, 3);
    let mut ledger = pool.ledger(1);
    let mut show = |chunk: usize, next: Option<Lent>| {
        // SAFETY: no kernel has seen any address of this pool.
        let shown = unsafe {
            ledger.show(chunk, 40, 10, |data| {
                data.copy_from_slice(b"0123456789");
                next
            })
        };
        shown.unwrap()
    };
    assert!(matches!(show(chunks[0], Some(Lent::Rx)), Shown::Again));
    assert!(matches!(show(chunks[0], Some(Lent::Rx)), Shown::Again), "it is lent as before");
    assert!(matches!(show(chunks[1], Some(Lent::Tx)), Shown::Sent));
    let Shown::Kept(kept) = show(chunks[2], None) else { panic!("it is the application's") };
    assert_eq!((kept.headroom(), kept.data(), kept.meta()), (40, &b"0123456789"[..], 0));
    for gone in [chunks[1], chunks[2], 7, 8, usize::MAX] {
        // SAFETY: as above.
        let again = unsafe { ledger.show(gone, 40, 10, |_| unreachable!("it is not shown")) };
        assert!(again.is_err(), "chunk {gone} is not lent");
    }
    drop(ledger);
    assert_eq!(places(&pool), [5, 1, 1, 1]);
    // SAFETY: as above.
    let back = unsafe { pool.reclaim_sent(chunks[1] as u32) }.unwrap();
    assert_eq!((back.headroom(), back.data()), (40, &b"0123456789"[..]));
    drop((back, kept));
    assert_eq!(places(&pool), [7, 0, 1, 0]);
}

#[test]
fn data_outside_of_the_chunk_is_not_shown() {
    let pool = pool();
    let chunks = lent(&pool, 1);
    let mut ledger = pool.ledger(0);
    for (offset, len) in [(0, 257), (256, 1), (250, 7), (u32::MAX, u32::MAX), (1, u32::MAX)] {
        // SAFETY: no kernel has seen any address of this pool.
        let shown = unsafe { ledger.show(chunks[0], offset, len, |_| unreachable!()) };
        assert!(shown.is_err());
        // SAFETY: as above.
        assert!(unsafe { ledger.received(chunks[0], offset, len) }.is_err());
    }
    // SAFETY: as above.
    let shown = unsafe {
        ledger.show(chunks[0], 256, 0, |data| Some(Lent::Rx).filter(|_| data.is_empty()))
    };
    assert!(matches!(shown, Ok(Shown::Again)));
}

#[test]
fn what_is_in_hand_is_nobody_else_s() {
    let pool = pool();
    let chunks = lent(&pool, 2);
    let mut ledger = pool.ledger(0);
    let look = |data: &mut [u8]| {
        data.fill(1);
        // A confused kernel names it again, to another queue over the same memory.
        let chunk = chunks[0] as u32;
        for from in [Lent::Rx, Lent::Tx] {
            // SAFETY: no kernel has seen any address of this pool.
            assert!(unsafe { pool.reclaim(chunk, from, 0, 64) }.is_err());
        }
        // SAFETY: as above.
        let released = unsafe { pool.release_sent([chunks[0]].into_iter()) };
        assert_eq!(released.strays, 1);
        // SAFETY: as above.
        let again = unsafe { pool.ledger(0).show(chunks[0], 0, 64, |_| unreachable!()) };
        assert!(again.is_err());
        // All that is free is somewhere else.
        let others: Vec<_> = std::iter::from_fn(|| pool.alloc_rx()).collect();
        assert!(others.len() == 6 && others.iter().all(|other| super::chunk(other) != chunk));
        assert!(data.iter().all(|&byte| byte == 1));
        Some(Lent::Rx)
    };
    // SAFETY: as above.
    let shown = unsafe { ledger.show(chunks[0], 0, 64, look) };
    assert!(matches!(shown, Ok(Shown::Again)));
    drop(ledger);
    assert_eq!(places(&pool), [6, 0, 2, 0]);
}

#[test]
fn a_panic_frees_what_is_shown_or_filled() {
    let pool = pool();
    let chunks = lent(&pool, 2);
    let shown = catch_unwind(AssertUnwindSafe(|| {
        let mut ledger = pool.ledger(2);
        // SAFETY: no kernel has seen any address of this pool.
        let first = unsafe { ledger.show(chunks[0], 0, 64, |_| Some(Lent::Tx)) };
        assert!(matches!(first, Ok(Shown::Sent)));
        // SAFETY: as above.
        unsafe { ledger.show(chunks[1], 0, 64, |_| panic!("while it is shown")) }.map(drop)
    }));
    assert!(shown.is_err());
    assert_eq!(places(&pool), [7, 0, 0, 1]);
    let filled = catch_unwind(AssertUnwindSafe(|| {
        let mut n = 0;
        let fill = |_: &mut [u8]| {
            n += 1;
            assert_eq!(places(&pool), [2, 5, 0, 1], "those to be filled are set aside");
            assert!(n < 3, "while it is filled");
        };
        pool.ledger(0).fill(5, 64, fill, |_| ())
    }));
    assert!(filled.is_err());
    // Two were sent before; the others are free, those that were not filled too.
    assert_eq!(places(&pool), [5, 0, 0, 3]);
}

#[test]
fn a_free_chunk_is_filled_and_sent() {
    let pool = pool();
    let mut used = pool.alloc_rx().unwrap();
    used.set_meta(7);
    drop(used);
    let mut ledger = pool.ledger(0);
    let mut sent = Vec::new();
    assert_eq!(ledger.fill(9, 225, |_| unreachable!(), |_| ()), 0, "there is no room for it");
    for (n, most) in [(3, 3), (5, 9), (0, 1)] {
        let filled = ledger.fill(
            most,
            224,
            |data| data.fill(9),
            |filled| {
                assert_eq!(filled.offset, 32);
                sent.push(filled.chunk);
            },
        );
        assert_eq!(filled, n);
    }
    assert_eq!(sent.len(), 8);
    drop(ledger);
    assert_eq!(places(&pool), [0, 0, 0, 8]);
    for chunk in sent {
        // SAFETY: no kernel has seen any address of this pool.
        let back = unsafe { pool.reclaim_sent(chunk) }.unwrap();
        assert_eq!((back.data(), back.meta()), (&[9; 224][..], 0));
    }
}

#[test]
fn a_chunk_that_was_sent_is_filled_and_sent_again() {
    let pool = pool();
    let mut first = filled(&pool, b"four");
    first.set_meta(7);
    let chunk = first.post(Lent::Tx).chunk as usize;
    let mut ledger = pool.ledger(0);
    let mut resend = |chunk: usize, len: u32, byte: u8| {
        let mut sent = 0;
        // SAFETY: no kernel has seen any address of this pool.
        let filled = unsafe {
            ledger.resend(chunk, len, |data, before| {
                data.fill(byte);
                sent = before;
            })
        };
        filled.map(|filled| (filled, sent))
    };
    let place = Filled { chunk: chunk as u32, offset: 32 };
    assert_eq!(resend(chunk, 224, 1), Ok((place, 4)));
    assert_eq!(resend(chunk, 9, 2), Ok((place, 224)));
    for (stray, len) in [(chunk, 225), (chunk + 1, 1), (8, 1), (usize::MAX, 1)] {
        assert!(resend(stray, len, 3).is_err(), "{stray}, {len} bytes");
    }
    drop(ledger);
    assert_eq!(places(&pool), [7, 0, 0, 1]);
    // SAFETY: as above.
    let back = unsafe { pool.reclaim_sent(chunk as u32) }.unwrap();
    assert_eq!((back.data(), back.meta()), (&[2; 9][..], 0));
    let chunk = back.post(Lent::Tx).chunk as usize;
    let filling = catch_unwind(AssertUnwindSafe(|| {
        let mut ledger = pool.ledger(0);
        // SAFETY: as above.
        unsafe { ledger.resend(chunk, 9, |_, _| panic!("while it is filled")) }.is_ok()
    }));
    assert!(filling.is_err());
    assert_eq!(places(&pool), [8, 0, 0, 0]);
}

#[test]
fn a_pool_outlives_its_ledger_with_the_buffers_that_it_made() {
    let pool = pool();
    let chunks = lent(&pool, 3);
    let mut ledger = pool.ledger(1);
    let mut burst = Burst::with_capacity(4);
    for chunk in chunks {
        // SAFETY: no kernel has seen any address of this pool.
        let buffer = unsafe { ledger.received(chunk, 0, 5) }.unwrap();
        assert!(burst.push(buffer).is_ok());
    }
    drop(ledger);
    assert_eq!(places(&pool), [5, 3, 0, 0]);
    drop(pool);
    burst[2].fill(b"still").unwrap();
    assert_eq!(burst[2].data(), b"still");
}

/// However many buffers a ledger was to make, and whether it is closed or not.
#[test]
fn a_ledger_that_is_forgotten_keeps_the_pool() {
    let pool = pool();
    let [first, second] = [filled(&pool, b"first"), filled(&pool, b"second")];
    std::mem::forget(pool.ledger(usize::MAX));
    drop(pool.ledger(usize::MAX));
    drop((first, pool));
    // Nobody but the second buffer, and what was forgotten, holds the memory.
    assert_eq!(second.data(), b"second");
}

/// Who gets the chunks that are lent may use the pool meanwhile, and may panic.
#[test]
fn chunks_are_lent_while_others_come_and_go() {
    let pool = pool();
    let mut held = vec![pool.alloc_rx().unwrap(), pool.alloc_rx().unwrap()];
    let (mut taken, mut lent) = (pool.alloc_rx(), Vec::new());
    let n = pool.lend_rx(3, |lending| {
        lent.push(lending);
        held.pop();
        taken = pool.alloc_rx().filter(|taken| chunk(taken) != lending);
        assert!(taken.is_some());
    });
    assert_eq!((n, places(&pool)), (3, [4, 1, 3, 0]));
    held.extend(taken);
    held.extend(std::iter::from_fn(|| pool.alloc_rx()));
    let mut all: Vec<_> = held.iter().map(chunk).chain(lent).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7], "each is in one place");
    held.clear();
    let lending = AssertUnwindSafe(|| pool.lend_rx(3, |_| panic!("while it is lent")));
    assert!(catch_unwind(lending).is_err());
    assert_eq!(places(&pool), [4, 0, 4, 0], "the others are still free");
}

#[test]
fn buffers_are_lent_from_the_front_as_long_as_they_are_accepted() {
    let (pool, other) = (pool(), pool());
    let mut burst = Burst::with_capacity(8);
    for bytes in [&b"1"[..], b"22", b"333", b"4444"] {
        assert!(burst.push(filled(&pool, bytes)).is_ok());
    }
    let mut lens = Vec::new();
    let mut lend = |burst: &mut Burst<_>, pool: &Pool<Numbered>, most, max: usize| {
        let accept = |buffer: &PoolBuf<Numbered>| buffer.data().len() <= max;
        PoolBuf::post_front(burst, pool, Lent::Tx, most, accept, |posted| lens.push(posted.len))
    };
    assert_eq!(lend(&mut burst, &other, 8, 8), 0, "they are of another pool");
    assert_eq!((lend(&mut burst, &pool, 1, 8), burst.len()), (1, 3));
    assert_eq!((lend(&mut burst, &pool, 8, 3), burst.len()), (2, 1));
    burst[0].chain(filled(&pool, b"more")).unwrap();
    assert_eq!((lend(&mut burst, &pool, 8, 8), lens), (0, vec![1, 2, 3]));
    assert_eq!(places(&pool), [3, 2, 0, 3]);
    // A panic loses what was being lent, and nothing is in two places.
    let mut burst = Burst::with_capacity(8);
    for bytes in [b"1", b"2", b"3"] {
        assert!(burst.push(filled(&pool, bytes)).is_ok());
    }
    let lending = catch_unwind(AssertUnwindSafe(|| {
        let posted = |posted: Posted| assert_ne!(posted.len, 1, "while it is lent");
        PoolBuf::post_front(&mut burst, &pool, Lent::Tx, 8, |_| true, posted)
    }));
    assert_eq!((lending.is_err(), burst.len(), places(&pool)[3]), (true, 2, 4));
}
