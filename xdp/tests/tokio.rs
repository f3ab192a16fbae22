//! A port in tokio: real traffic between tasks of one thread.

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bypass_core::testing::rig::{Namespace, VethOptions};
use bypass_core::{
    Buffer, Burst, DropCause, Endpoint, Error, Interest, PacketIo, Ready, swap_addresses,
};
use bypass_xdp::{Hook, TokioPort, XdpOptions};
use common::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::timeout;

/// What must come, comes within this.
const LONG: Duration = Duration::from_secs(20);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn in_tokio(namespace: &Namespace, hook: Hook, change: impl FnOnce(&mut XdpOptions)) -> TokioPort {
    TokioPort::new(open(namespace, hook, change)).unwrap()
}

fn pair(rig: &Rig, hook: Hook) -> (TokioPort, TokioPort) {
    (in_tokio(&rig.veth.a, hook, |_| {}), in_tokio(&rig.veth.b, hook, |_| {}))
}

/// The output of a future, and how often it was told to wait.
async fn counted<F: Future>(future: F) -> (F::Output, u32) {
    let (mut future, mut waits) = (pin!(future), 0);
    let output = poll_fn(|context| {
        let poll = future.as_mut().poll(context);
        waits += u32::from(poll.is_pending());
        poll
    });
    (output.await, waits)
}

/// Polls a future once and drops it.
async fn cut_short<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn two_tasks_of_one_thread_play_ping_pong() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let local = LocalSet::new();
        local.block_on(&runtime(), async {
            let (mut a, mut b) = pair(rig, hook);
            let echo = spawn_local(async move {
                let mut burst = Burst::with_capacity(64);
                loop {
                    b.recv(&mut burst).await.unwrap();
                    burst.iter_mut().for_each(swap_addresses);
                    b.send(&mut burst).await.unwrap();
                }
            });
            let mut burst = Burst::with_capacity(64);
            for round in 0..500 {
                let frames: Vec<_> =
                    (0..1 + round % 64).map(|n| numbered(round ^ n, 60 + n as usize)).collect();
                let mut sent = compose(a.port_mut(), &frames);
                a.send(&mut sent).await.unwrap();
                let mut back = Vec::new();
                while back.len() < frames.len() {
                    assert_ne!(timeout(LONG, a.recv(&mut burst)).await.unwrap().unwrap(), 0);
                    back.extend(burst.iter().map(|frame| frame.data().to_vec()));
                    burst.clear();
                }
                for (back, mut sent) in back.into_iter().zip(frames) {
                    sent[..12].rotate_left(6);
                    assert_eq!(back, sent, "in order, and whole");
                }
            }
            a.sent().await.unwrap();
            echo.abort();
            assert!(echo.await.unwrap_err().is_cancelled());
            let stats = a.port().stats();
            assert_eq!((stats.tx_in_flight, stats.drops.total()), (0, 0));
            let census = stats.frames.unwrap();
            assert!(census.adds_up() && census.held == 0, "{census:?}");
        });
    });
}

#[test]
fn a_wait_that_is_given_up_loses_nothing() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        runtime().block_on(async {
            let (mut a, mut b) = pair(rig, hook);
            let (mut burst, mut next) = (Burst::with_capacity(8), 0);
            assert!(cut_short(b.recv(&mut burst)).await.is_none(), "there is nothing yet");
            for round in 0..100u16 {
                let frames: Vec<_> = (0..10).map(|n| numbered(10 * round + n, 60)).collect();
                let mut sent = compose(a.port_mut(), &frames);
                a.send(&mut sent).await.unwrap();
                // Ten come in bursts of eight, and each wait is given up after one look.
                for _ in 0..3 {
                    if let Some(outcome) = cut_short(b.recv(&mut burst)).await {
                        assert_eq!(outcome.unwrap(), burst.len());
                    }
                    for frame in burst.iter() {
                        assert_eq!(frame.data(), numbered(next, 60));
                        next += 1;
                    }
                    burst.clear();
                }
            }
            while next < 1000 {
                timeout(LONG, b.recv(&mut burst)).await.unwrap().unwrap();
                next += burst.len() as u16;
                burst.clear();
            }
            let outcome = timeout(Duration::from_millis(5), b.recv(&mut burst)).await;
            assert!(outcome.is_err() && burst.is_empty());
            assert_eq!((b.port().stats().rx_packets, b.port().stats().drops.total()), (1000, 0));
        });
    });
}

/// A link that takes frames only as fast as a kernel thread at the other end, and says so: a queueing
/// discipline on this end, and receive work in a thread on the other.
fn with_back_pressure(rig: &Rig) {
    use rustix::mount::*;

    rig.veth.a.run("tc", "qdisc add dev veth0 root pfifo").unwrap();
    let _inside = rig.veth.b.enter().unwrap();
    let fs = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(fs.as_fd()).unwrap();
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    let mount = mount.unwrap();
    let file = format!("/proc/self/fd/{}/class/net/veth0/threaded", mount.as_raw_fd());
    std::fs::write(file, "1").unwrap();
}

/// In native mode only: a queue that fills, and a thread that takes from it, a veth pair has where a native
/// program runs; to others it hands each frame over at once.
#[test]
fn a_sender_waits_for_room_and_nothing_is_lost() {
    const FRAMES: u16 = 16_000;
    let Some(rig) = Rig::new(&VethOptions::default()) else { return };
    let local = LocalSet::new();
    local.block_on(&runtime(), async {
        let mut a = in_tokio(&rig.veth.a, Hook::Native, |options| {
            (options.rings.tx, options.rings.completion) = (64, 64);
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (512, 64);
        });
        // However late the other task gets its turn, there is room.
        let mut b = in_tokio(&rig.veth.b, Hook::Native, |options| {
            (options.rings.rx, options.rings.fill) = (1 << 14, 1 << 14);
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (1 << 15, 1 << 14);
        });
        // The receiving half of the pair is there from here on.
        with_back_pressure(&rig);
        let sink = spawn_local(async move {
            let (mut burst, mut next) = (Burst::with_capacity(64), 0);
            while next < FRAMES {
                b.recv(&mut burst).await.unwrap();
                for frame in burst.iter() {
                    assert_eq!(frame.data(), numbered(next, 60));
                    next += 1;
                }
                burst.clear();
            }
            b.port().stats()
        });
        let (mut waits, mut next, mut given_up) = (0, 0, 0);
        while next < FRAMES {
            // As many frames as there are, more than the ring has places for.
            let (ready, more) = counted(timeout(LONG, a.ready(Interest::TX))).await;
            assert_eq!(ready.unwrap().unwrap(), Ready::TX);
            let mut burst = Burst::with_capacity(200);
            let n = a.port_mut().alloc(&mut burst, usize::from((FRAMES - next).min(200)));
            assert_ne!(n, 0, "one was promised");
            for frame in burst.iter_mut() {
                frame.fill(&numbered(next, 60)).unwrap();
                next += 1;
            }
            // What is taken before a wait is given up is taken; the others are still here.
            let before = a.port().stats();
            if cut_short(a.send(&mut burst)).await.is_none() {
                let after = a.port().stats();
                let count = |stats: &bypass_core::Stats| stats.tx_packets + stats.tx_in_flight;
                assert_eq!(count(&after) - count(&before), (n - burst.len()) as u64);
                given_up += 1;
            }
            let (outcome, yet_more) = counted(timeout(LONG, a.send(&mut burst))).await;
            outcome.unwrap().unwrap();
            assert!(burst.is_empty());
            waits += more + yet_more;
        }
        timeout(LONG, a.sent()).await.unwrap().unwrap();
        let (there, here) = (sink.await.unwrap(), a.port().stats());
        assert!(waits > 0 && given_up > 0, "{waits} {given_up}: the link was never full");
        assert_eq!((there.rx_packets, there.drops.total()), (FRAMES.into(), 0));
        assert_eq!((here.tx_packets, here.tx_in_flight), (FRAMES.into(), 0));
        assert_eq!(here.drops[DropCause::TxError], 0);
    });
}

#[test]
fn a_port_with_much_to_do_lets_others_work() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let local = LocalSet::new();
        local.block_on(&runtime(), async {
            let (mut a, mut b) = pair(rig, hook);
            let frames: Vec<_> = (0..2000).map(|n| numbered(n, 60)).collect();
            let mut sent = compose(a.port_mut(), &frames);
            a.send(&mut sent).await.unwrap();
            a.sent().await.unwrap();
            let turns = Rc::new(Cell::new(0));
            let mine = Rc::clone(&turns);
            let other = spawn_local(async move {
                loop {
                    mine.set(mine.get() + 1);
                    yield_now().await;
                }
            });
            let greedy = spawn_local(async move {
                // Everything is there already: it never has to wait.
                let mut burst = Burst::with_capacity(1);
                for n in 0..2000 {
                    assert_eq!(b.recv(&mut burst).await.unwrap(), 1);
                    assert_eq!(burst[0].data(), numbered(n, 60));
                    burst.clear();
                }
            });
            timeout(LONG, greedy).await.unwrap().unwrap();
            other.abort();
            assert!(turns.get() > 5, "{} turns", turns.get());
        });
    });
}

#[test]
fn a_task_that_waits_hears_of_the_link() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        runtime().block_on(async {
            let (mut a, mut b) = pair(rig, hook);
            let mut burst = Burst::with_capacity(8);
            assert!(cut_short(b.recv(&mut burst)).await.is_none());
            rig.veth.b.ip("link set veth0 down").unwrap();
            let error = timeout(LONG, b.recv(&mut burst)).await.unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{error}");
            rig.veth.b.ip("link set veth0 up").unwrap();
            while !rig.veth.a.ip("link show veth0").unwrap().contains("LOWER_UP") {
                yield_now().await;
            }
            let mut sent = compose(a.port_mut(), &[numbered(1, 60)]);
            a.send(&mut sent).await.unwrap();
            assert_eq!(timeout(LONG, b.recv(&mut burst)).await.unwrap().unwrap(), 1);
            assert_eq!(burst[0].data(), numbered(1, 60));
            burst.clear();

            rig.veth.b.ip("link delete veth0").unwrap();
            for _ in 0..2 {
                let error = timeout(LONG, b.ready(Interest::RX)).await.unwrap().unwrap_err();
                assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
            }
            let error = timeout(LONG, a.recv(&mut burst)).await.unwrap().unwrap_err();
            assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
        });
    });
}

#[test]
fn a_port_goes_into_tokio_and_out_again() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let port = open(&rig.veth.a, hook, |_| {});
        let error = TokioPort::new(port).unwrap_err().to_string();
        assert!(error.contains("no reactor"), "outside of a runtime: {error}");
        rig.assert_clean();
        let runtime = runtime();
        let (mut a, mut b) = {
            let _inside = runtime.enter();
            let (a, b) = pair(rig, hook);
            (a.into_inner(), b)
        };
        send(&mut a, &[numbered(1, 60)]);
        let mut burst = Burst::with_capacity(8);
        assert_eq!(runtime.block_on(b.recv(&mut burst)).unwrap(), 1);
        // Full: there is nothing to wait for.
        let mut full = Burst::with_capacity(1);
        assert!(full.push(burst.pop_front().unwrap()).is_ok());
        assert_eq!(runtime.block_on(b.recv(&mut full)).unwrap(), 0);
        assert_eq!(runtime.block_on(b.ready(Interest::all())).unwrap(), Ready::TX);
        // A port outlives its runtime.
        drop(runtime);
        let mut b = b.into_inner();
        send(&mut a, &[numbered(2, 60)]);
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(2, 60));
    });
}
