//! What happens when things go wrong around an open port.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bypass_core::testing::rig::VethOptions;
use bypass_core::{Buffer, Burst, DropCause, Endpoint, Error, Interest, PacketIo, Ready};
use bypass_xdp::{Hook, XdpError, XdpOptions, XdpPort};
use common::*;

#[test]
fn a_link_that_goes_down_is_reported_and_work_goes_on_when_it_is_up() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        rig.veth.b.ip("link set veth0 down").unwrap();
        let is_down = |error: &Error| {
            assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{error}");
            assert!(error.to_string().contains("ip link set veth0 up"), "{error}");
        };
        is_down(&recv_error(&mut b));
        assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0, "told once");
        let short = Some(Duration::from_millis(150));
        assert!(b.wait(Interest::RX, short).unwrap().is_empty());
        let mut burst = compose(&mut b, &[numbered(1, 60), numbered(2, 60)]);
        for _ in 0..2 {
            is_down(&b.send(&mut burst).unwrap_err());
            assert_eq!(burst.len(), 2, "the frames are still ours");
        }
        // What was put into the ring before it was known stays there.
        let mut early = compose(&mut a, &[numbered(3, 60)]);
        rig.veth.a.ip("link set veth0 down").unwrap();
        assert_eq!(a.send(&mut early).unwrap(), 1);
        for _ in 0..2 {
            is_down(&a.flush().unwrap_err());
            assert_eq!(a.stats().tx_in_flight, 1);
            // That was it; what is in the ring does not tell it again.
            assert!(a.wait(Interest::RX, Some(Duration::from_millis(1))).unwrap().is_empty());
            assert_eq!(a.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
        }

        rig.veth.a.ip("link set veth0 up").unwrap();
        rig.veth.b.ip("link set veth0 up").unwrap();
        until_carrier(rig);
        send_burst(&mut b, &mut burst);
        assert_eq!(receive(&mut a, 2, is_ours)[0].data(), numbered(1, 60));
        settle(&mut a);
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(3, 60));
        assert_eq!(a.stats().drops.total() + b.stats().drops.total(), 0);
    });
}

/// Looks without sleeping until there is an error.
fn recv_error(port: &mut XdpPort) -> Error {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match port.recv(&mut Burst::with_capacity(8)) {
            Ok(_) => assert!(Instant::now() < deadline, "it never heard of it"),
            Err(error) => break error,
        }
    }
}

fn until_carrier(rig: &Rig) {
    for side in [&rig.veth.a, &rig.veth.b] {
        while !side.ip("link show veth0").unwrap().contains("LOWER_UP") {
            std::thread::yield_now();
        }
    }
}

#[test]
fn an_interface_that_is_removed_is_reported_by_every_call() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        send(&mut a, &[numbered(0, 60)]);
        let kept = receive(&mut b, 1, is_ours);
        let mut burst = compose(&mut b, &[numbered(1, 60)]);
        rig.veth.a.ip("link delete veth0").unwrap();
        let gone = |error: Error| {
            assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
            assert!(error.to_string().contains("veth0"), "{error}");
        };
        // One end sleeps, the other looks without ever sleeping.
        gone(b.wait(Interest::RX, None).unwrap_err());
        gone(b.recv(&mut Burst::with_capacity(8)).unwrap_err());
        gone(b.recv(&mut Burst::with_capacity(8)).unwrap_err());
        gone(b.wait(Interest::RX, None).unwrap_err());
        gone(b.send(&mut burst).unwrap_err());
        gone(b.flush().unwrap_err());
        gone(recv_error(&mut a));
        assert_eq!((burst.len(), kept[0].data()), (1, &numbered(0, 60)[..]));
        assert!(b.stats().frames.unwrap().adds_up());
        drop(b);
        assert_eq!(burst[0].data(), numbered(1, 60), "frames outlive the port");
    });
}

#[test]
fn what_came_before_the_interface_was_removed_comes_first() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        send(&mut a, &[numbered(0, 60), numbered(1, 60)]);
        assert_eq!(b.wait(Interest::RX, PATIENCE).unwrap(), Ready::RX);
        rig.veth.a.ip("link delete veth0").unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = loop {
            let mut burst = compose(&mut b, &[numbered(9, 60)]);
            match b.send(&mut burst).and_then(|_| b.flush()) {
                Ok(()) => assert!(Instant::now() < deadline, "it never heard of it"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
        assert_eq!(drain_until_error(&mut b).len(), 2);
        assert_eq!(b.stats().rx_packets, 2);
    });
}

/// However short each sleep is.
#[test]
fn an_interface_that_is_removed_is_found_out_by_waiting() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut b = open(&rig.veth.b, hook, |_| {});
        rig.veth.a.ip("link delete veth0").unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = loop {
            match b.wait(Interest::RX, Some(Duration::from_millis(1))) {
                Ok(_) => assert!(Instant::now() < deadline, "it never heard of it"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
    });
}

fn drain_until_error(port: &mut XdpPort) -> Vec<bypass_xdp::XdpFrame> {
    let (mut burst, mut all) = (Burst::with_capacity(1), Vec::new());
    while port.recv(&mut burst).is_ok() {
        all.extend(burst.pop_front());
    }
    all
}

/// Has the kernel take what is in the TX ring, behind the port's back: what it is done with then waits in
/// the completion ring, as it does when a device is slow.
fn send_behind_its_back(port: &XdpPort) {
    use rustix::net::{SendFlags, send};
    let fd = port.as_fd().unwrap();
    while send(fd, &[], SendFlags::DONTWAIT).is_err() {}
}

/// Nothing but waiting and allocating, which is what a sender does that has nothing to send yet.
#[test]
fn a_sender_that_waits_gets_back_what_was_sent() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let small = |options: &mut XdpOptions| {
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (64, 32);
        };
        let (mut a, _b) = rig.pair(hook, small);
        for by_waiting in [true, false] {
            let mut burst = compose(&mut a, &vec![numbered(1, 60); 32]);
            assert_eq!(a.alloc(&mut Burst::with_capacity(1), 1), 0, "that was all");
            assert_eq!(a.send(&mut burst).unwrap(), 32);
            send_behind_its_back(&a);
            if by_waiting {
                assert_eq!(a.wait(Interest::TX, PATIENCE).unwrap(), Ready::TX);
            }
            assert_eq!(a.alloc(&mut Burst::with_capacity(1), 1), 1);
            settle(&mut a);
        }
    });
}

/// All its memory was received into and is being sent: when that is done, it receives again.
#[test]
fn a_receiver_that_waits_posts_what_was_sent() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |_| {});
        let mut b = open(&rig.veth.b, hook, |options| {
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (32, 16);
        });
        let mut burst = Burst::with_capacity(64);
        for n in 0..64 {
            send(&mut a, &[numbered(n, 60)]);
            b.recv(&mut burst).unwrap();
        }
        assert_eq!((burst.len(), counter(&b, "rx_posted")), (32, 0));
        assert_eq!(b.send(&mut burst).unwrap(), 32);
        send_behind_its_back(&b);
        assert!(b.wait(Interest::RX, Some(Duration::ZERO)).unwrap().is_empty());
        send(&mut a, &[numbered(99, 60)]);
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(99, 60));
    });
}

#[test]
fn a_queue_in_use_is_refused_with_the_process_that_has_it() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let busy = |error: Error| {
            let XdpError::QueueInUse { queue: 0, holder, .. } = xdp_error(&error) else {
                panic!("{error}");
            };
            (holder.clone(), error.to_string())
        };
        let quick = |options: &mut XdpOptions| {
            options.receive = bypass_xdp::Receive::Nothing;
            options.bind_timeout = Duration::from_millis(20);
        };
        let mine = open(&rig.veth.a, hook, quick);
        let (holder, text) = busy(try_open(&rig.veth.a, hook, quick).unwrap_err());
        // A kernel that cannot list AF_XDP sockets knows nobody.
        if let Some(holder) = &holder {
            assert_eq!(holder.pid, std::process::id());
            assert!(text.contains(&format!("in use by process {}", holder.pid)), "{text}");
        }
        let shared = {
            let _inside = rig.veth.a.enter().unwrap();
            let mut options = options(hook);
            quick(&mut options);
            options.single_queue().unwrap().open_on(mine.umem()).unwrap_err()
        };
        assert!(matches!(xdp_error(&shared), XdpError::QueueInUse { .. }), "{shared}");
        assert_eq!(mine.umem().census().rx_posted, 2048, "what failed has posted nothing");
        drop(mine);

        let mut child = Holder::start(rig, hook);
        let (of_child, _) = busy(try_open(&rig.veth.a, hook, quick).unwrap_err());
        assert_eq!(of_child.map(|holder| holder.pid), holder.map(|_| child.0.id()));
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        open(&rig.veth.a, hook, |options| options.bind_timeout = Duration::from_secs(5));
    });
}

#[test]
fn a_process_that_is_killed_leaves_nothing_behind() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut b = open(&rig.veth.b, hook, |_| {});
        for _ in 0..5 {
            let mut child = Holder::start(rig, hook);
            // In the middle of traffic.
            receive(&mut b, 100, is_ours);
            child.0.kill().unwrap();
            child.0.wait().unwrap();
            let mut a = open(&rig.veth.a, hook, |_| {});
            drain(&mut b);
            send(&mut a, &[numbered(u16::MAX, 60)]);
            receive(&mut b, 1, |frame| frame.data() == numbered(u16::MAX, 60));
        }
    });
}

/// A process of its own that holds queue 0 of side a, and sends without end.
struct Holder(Child);

/// Says that the test binary is to be that process, and in which mode.
const HOLD: &str = "BYPASS_XDP_HOLD_QUEUE";

impl Holder {
    fn start(rig: &Rig, hook: Hook) -> Self {
        let _inside = rig.veth.a.enter().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_holds_the_queue", "--nocapture"])
            .env(HOLD, hook.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("holding")), "it has the queue");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _it_may_be_gone = self.0.kill();
        let _it_may_be_gone = self.0.wait();
    }
}

#[test]
fn the_process_that_holds_the_queue() {
    let Ok(mode) = std::env::var(HOLD) else { return };
    let hook = HOOKS.into_iter().find(|hook| hook.to_string() == mode).unwrap();
    let mut port = options(hook).open().unwrap();
    println!("holding");
    let mut n = 0;
    loop {
        send(&mut port, &[numbered(n, 60)]);
        n = n.wrapping_add(1);
    }
}

#[test]
fn a_receiver_without_buffers_counts_what_it_misses() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |_| {});
        let mut b = open(&rig.veth.b, hook, |options| {
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (96, 64);
        });
        let (mut held, mut burst) = (Vec::new(), Burst::with_capacity(64));
        for n in 0..200 {
            send(&mut a, &[numbered(n, 60)]);
            b.recv(&mut burst).unwrap();
            held.extend(std::iter::from_fn(|| burst.pop_front()));
        }
        assert_eq!(held.len(), 96, "all that there are");
        let stats = b.stats();
        assert_eq!(stats.rx_packets + stats.drops[DropCause::RxNoFrame], 200, "{stats:?}");
        assert_eq!(stats.drops.total(), 104);
        assert!(counter(&b, "rx_dry") > 0);
        assert!(held.iter().zip(0..).all(|(frame, n)| frame.data() == numbered(n, 60)));
        held.clear();
        b.flush().unwrap();
        send(&mut a, &[numbered(200, 60)]);
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(200, 60));
    });
}

#[test]
fn a_receive_ring_that_is_full_counts_what_it_misses() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |_| {});
        let mut b = open(&rig.veth.b, hook, |options| options.rings.rx = 64);
        for n in 0..100 {
            send(&mut a, &[numbered(n, 60)]);
        }
        assert_eq!(b.wait(Interest::RX, PATIENCE).unwrap(), Ready::RX);
        let seen = drain(&mut b);
        assert_eq!(seen.len(), 64);
        assert!(seen.iter().zip(0..).all(|(frame, n)| frame.data() == numbered(n, 60)));
        let stats = b.stats();
        assert_eq!((stats.drops[DropCause::RxQueueFull], stats.drops.total()), (36, 36));
        assert_eq!(stats.frames.unwrap().held, 64);
    });
}

#[test]
fn frames_longer_than_a_chunk_are_counted() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut b = open(&rig.veth.b, hook, |_| {});
        for side in [&rig.veth.a, &rig.veth.b] {
            side.ip("link set veth0 mtu 3000").unwrap();
        }
        let mut a = open(&rig.veth.a, hook, |options| {
            options.receive = bypass_xdp::Receive::Nothing;
            options.umem.pool.chunk_size = 4096;
        });
        send(&mut a, &[numbered(1, 1664), numbered(2, 1665), numbered(3, 3014), numbered(4, 60)]);
        let seen = receive(&mut b, 2, is_ours);
        assert_eq!((seen[0].data().len(), seen[1].data().len()), (1664, 60));
        let stats = b.stats();
        assert_eq!((stats.drops[DropCause::RxTruncated], stats.drops.total()), (2, 2));
    });
}

/// The other end's queue is 256 frames long, and nobody takes them out there.
#[test]
fn frames_that_the_link_drops_are_counted_as_not_sent() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |_| {});
        rig.veth.b.ip("link set veth0 down").unwrap();
        let frames: Vec<_> = (0..100).map(|n| numbered(n, 100 + n as usize)).collect();
        let mut burst = compose(&mut a, &frames);
        assert_eq!(a.send(&mut burst).unwrap(), 100);
        // Without a carrier the kernel drops what it is given.
        let deadline = Instant::now() + Duration::from_secs(5);
        while a.stats().tx_in_flight > 0 {
            a.flush().unwrap();
            assert!(Instant::now() < deadline, "{:?}", a.stats());
        }
        let stats = a.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes), (0, 0), "{stats:?}");
        assert_eq!((stats.drops[DropCause::TxError], stats.drops.total()), (100, 100));
        assert_eq!(stats.frames.unwrap().tx_in_flight, 0);
    });
}

#[test]
fn a_full_ring_takes_what_fits_and_room_is_found_by_waiting() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |options| {
            (options.rings.tx, options.rings.completion) = (64, 64);
        });
        let mut b = open(&rig.veth.b, hook, |_| {});
        let frames: Vec<_> = (0..200).map(|n| numbered(n, 60)).collect();
        let mut burst = compose(&mut a, &frames);
        while !burst.is_empty() {
            assert_eq!(a.wait(Interest::TX, PATIENCE).unwrap(), Ready::TX);
            let before = burst.len();
            assert_eq!(a.send(&mut burst).unwrap(), before - burst.len());
            assert!(burst.len() < before, "room was promised");
        }
        a.flush().unwrap();
        settle(&mut a);
        let seen = receive(&mut b, 200, is_ours);
        assert!(seen.iter().zip(0..).all(|(frame, n)| frame.data() == numbered(n, 60)));
        assert_eq!(a.stats().tx_packets, 200);
    });
}

#[test]
fn ports_open_again_at_once_in_whatever_state_they_were_closed() {
    let Some(rig) = Rig::new(&VethOptions::default()) else { return };
    for (round, hook) in HOOKS.into_iter().cycle().take(10).enumerate() {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        let mut burst = compose(&mut a, &[numbered(round as u16, 60), numbered(99, 60)]);
        assert_eq!(a.send(&mut burst).unwrap(), 2, "one round in two they are never flushed");
        if round % 2 == 0 {
            a.flush().unwrap();
            let seen = receive(&mut b, 1, is_ours);
            assert_eq!(seen[0].data(), numbered(round as u16, 60));
            std::mem::forget(seen);
        }
        std::mem::forget(burst);
    }
    rig.assert_clean();
}
