//! Workers on the cores of this machine.

use std::sync::Mutex;

use super::*;
use crate::backend::memory::{LinkOptions, MemoryEnd, link};
use crate::{Adaptive, Buffer, Burst, Endpoint, Interest, PacketIo, WaitStrategy};

#[test]
fn each_worker_runs_pinned_to_its_core() {
    let cores = available_cores().unwrap();
    let workers =
        Workers::spawn(&cores, |worker| Ok((worker.index(), worker.core(), available_cores()?)))
            .unwrap();
    for (i, (index, core, may_run_on)) in workers.join().unwrap().into_iter().enumerate() {
        assert_eq!((index, core, may_run_on), (i, cores[i], vec![cores[i]]));
    }
}

#[test]
fn cores_that_cannot_be_had_are_named() {
    let core = available_cores().unwrap()[0];
    for wrong in [vec![9999], vec![core, core]] {
        let error = Workers::spawn(&wrong, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains(&wrong[wrong.len() - 1].to_string()), "{error}");
    }
}

#[test]
fn a_panic_is_reported_with_its_core_and_stops_the_others() {
    let cores = available_cores().unwrap();
    let last = cores.len() - 1;
    let workers = Workers::spawn(&cores, move |worker| {
        assert!(worker.index() != last, "queue {last} is on fire");
        while !worker.stopping() {
            std::thread::yield_now();
        }
        Ok(())
    });
    let error = workers.unwrap().join().unwrap_err();
    let want = format!("the worker on core {} panicked: queue {last} is on fire", cores[last]);
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_failure_is_reported_with_its_core() {
    let core = available_cores().unwrap()[0];
    let workers =
        Workers::<()>::spawn(&[core], |_| Err(Error::config("queue", 7, "there is none")));
    let error = workers.unwrap().join().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the worker on core {core} failed: queue = 7: there is none")
    );
}

#[test]
fn a_signal_stops_the_workers() {
    let stop = Stop::on_signals().unwrap();
    let core = available_cores().unwrap()[0];
    let workers = Workers::spawn_until(&stop, &[core], |worker| {
        while !worker.stopping() {
            std::thread::yield_now();
        }
        Ok(())
    })
    .unwrap();
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    workers.join().unwrap();
}

/// Each end of a link in a worker of its own: real traffic, and counters that add up.
#[test]
fn workers_drive_queues_of_their_own_and_their_counters_merge() {
    const PACKETS: u64 = 10_000;
    let cores = available_cores().unwrap();
    let Some([first, second]) = cores.first_chunk() else {
        return;
    };
    let (a, b) = link(&LinkOptions::default()).unwrap();
    let ends = Mutex::new([Some(a), Some(b)]);
    let board = Board::new();
    let shown = board.clone();
    let workers = Workers::spawn(&[*first, *second], move |worker| {
        let end: Option<MemoryEnd> = ends.lock().unwrap()[worker.index()].take();
        let mut port = end.unwrap().open()?;
        let mut meter = worker.meter(&shown)?;
        let (mut burst, mut wait) = (Burst::with_capacity(32), Adaptive::default());
        let mut moved = 0;
        while moved < PACKETS {
            let n = if worker.index() == 0 {
                if burst.is_empty() {
                    port.alloc(&mut burst, 32);
                    burst.iter_mut().for_each(|frame| frame.fill(&[0; 60]).unwrap());
                }
                let n = if burst.is_empty() { 0 } else { port.send(&mut burst)? };
                wait.after(n, &mut port, Interest::TX)?;
                n
            } else {
                let n = port.recv(&mut burst)?;
                burst.clear();
                wait.after(n, &mut port, Interest::RX)?;
                n
            };
            moved += n as u64;
            meter.record(meter.clock().now(), n);
            meter.show(&port);
        }
        // The sender stays until the receiver has all: its end of the cable must not close.
        while worker.index() == 0 && port.stats().frames.is_some_and(|f| f.tx_in_flight > 0) {
            meter.show(&port);
            std::thread::yield_now();
        }
        meter.show_now(&port);
        Ok(meter.snapshot(port.stats()).latency.count)
    })
    .unwrap();
    let sum = |readings: &[crate::telemetry::Reading]| {
        let mut sum = crate::Stats::default();
        readings.iter().for_each(|reading| sum.merge(&reading.stats));
        sum
    };
    // Read while they work, and when they are done.
    let mut last = 0;
    while workers.running.iter().any(|worker| !worker.has_ended()) {
        let stats = sum(&board.read());
        assert!(stats.rx_packets >= last, "counters never run backwards");
        last = stats.rx_packets;
    }
    let timed = workers.join().unwrap();
    let (readings, stats) = (board.read(), sum(&board.read()));
    assert!(stats.tx_packets >= PACKETS && stats.rx_packets >= PACKETS, "{stats:?}");
    for (reading, timed) in readings.iter().zip(timed) {
        assert_eq!((reading.latency.count(), reading.running), (timed, false));
        assert!(timed >= PACKETS, "no time is lost between readings");
    }
    assert_eq!(readings.iter().map(|r| r.core).collect::<Vec<_>>(), [Some(*first), Some(*second)]);
}
