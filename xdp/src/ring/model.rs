//! Both sides of a ring under every interleaving and every reordering that the memory model allows:
//! `RUSTFLAGS="--cfg model" cargo test -p bypass-xdp --lib model`.

use loom::sync::Arc;
use loom::thread;

use super::words::Words;
use super::*;

/// Two threads pass `n` entries through a ring of `size`, across the end of the cursors; the producer
/// writes up to `batch` at a time.
fn pass(size: usize, n: u64, batch: u32) {
    loom::model(move || {
        let words = Words::new(size, u32::MAX);
        let theirs = Arc::clone(&words);
        let producing = thread::spawn(move || {
            let (mut producer, mut next) = (Producer::new(theirs), 0);
            while next < n {
                let mut reserved = producer.reserve(batch);
                for _ in 0..batch {
                    if next < n && reserved.push(next) {
                        next += 1;
                    }
                }
                drop(reserved);
                thread::yield_now();
            }
        });
        let (mut consumer, mut next) = (Consumer::new(words), 0);
        while next < n {
            for entry in consumer.entries(1) {
                assert_eq!(entry, next);
                next += 1;
            }
            thread::yield_now();
        }
        producing.join().unwrap();
        assert!(consumer.is_empty());
    });
}

#[test]
fn entries_arrive_whole_and_in_order() {
    pass(2, 3, 1);
}

#[test]
fn places_are_written_again_only_when_they_were_read() {
    pass(1, 3, 1);
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    pass(2, 4, 2);
}

/// One thread has both rings' other ends, as the kernel has: what it writes into one comes back by the other,
/// which has room for one at a time. Every way in which each is interrupted up to four times: without that
/// bound it would take minutes.
#[test]
fn what_goes_from_ring_to_ring_arrives_whole_and_in_order() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let (first, second) = (Words::new(2, u32::MAX), Words::new(1, 0));
        let (theirs, ours) = (Arc::clone(&first), Arc::clone(&second));
        let kernel = thread::spawn(move || {
            let (mut source, mut sink) = (Producer::new(theirs), Consumer::new(ours));
            let (mut sent, mut came) = (0, 0);
            while came < 2 {
                sent += u64::from(sent < 2 && source.reserve(1).push(sent));
                for entry in sink.entries(1) {
                    assert_eq!(entry, came);
                    came += 1;
                }
                thread::yield_now();
            }
        });
        let (mut from, mut into) = (Consumer::new(first), Producer::new(second));
        let mut given = 0;
        while given < 2 {
            let mut exchange = Exchange::new(&mut from, &mut into, 2);
            exchange.each(Step::Give);
            given += exchange.written();
            drop(exchange);
            thread::yield_now();
        }
        kernel.join().unwrap();
    });
}

/// What is written and not published by a guard that is still alive is nobody else's business.
#[test]
fn what_a_guard_still_holds_is_not_seen() {
    loom::model(|| {
        let words = Words::new(2, 0);
        let theirs = Arc::clone(&words);
        let consuming = thread::spawn(move || Consumer::new(theirs).entries(2).count());
        let mut producer = Producer::new(words);
        let mut reserved = producer.reserve(2);
        assert!(reserved.push(1) && reserved.push(2));
        drop(reserved);
        let seen = consuming.join().unwrap();
        assert!(seen == 0 || seen == 2, "{seen} of a batch of 2");
    });
}
