//! Drivers that share memory with another process, or another end of this one. Each test has a process of
//! its own: a driver that goes may close a descriptor that is another's by then.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bypass_core::testing::{conformance, process};
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, PacketIoExt, Result, Verdict};
use bypass_dpdk::{Features, Port, PortOptions, QueuePair, Started, TxOffload, Vdev};
use common::*;

const PATIENCE: Duration = Duration::from_secs(10);
const HEADER: &[u8] = b"to..tofromfr\x88\xb5";

/// Waits until both ends have found each other.
fn linked(ports: &[&Port<Started>]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for port in ports {
        while !port.link()?.is_up {
            assert!(Instant::now() < deadline, "{port:?} finds no peer");
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// One process has both ends of what `open` makes at a socket, each with a pool of its own.
fn conform(open: impl Fn(&str, [PortOptions; 2]) -> Result<[(Vdev, Port<Started>); 2]>) {
    let folder = tempfile::tempdir().unwrap();
    let pools = [pool(4095), pool(4095)];
    conformance::packets(|| {
        let socket = folder.path().join(format!("socket{}", number()));
        let options = pools.each_ref().map(PortOptions::new);
        let [(_a, a), (_b, b)] = open(socket.to_str().unwrap(), options)?;
        linked(&[&a, &b])?;
        let mut ends = (a.queue_pair(0)?, b.queue_pair(0)?);
        // A client of memif makes room for what comes when it receives, and for nothing before.
        ends.1.recv(&mut Burst::with_capacity(1))?;
        Ok::<(QueuePair, QueuePair), _>(ends)
    })
    .assert();
    for pool in pools {
        assert_eq!(pool.in_use(), 0, "every mbuf is home");
    }
}

/// A `net_vhost` that serves, and a `net_virtio_user` that is served.
fn vhost(rx_interrupts: bool) {
    conform(|socket, [serving, served]| {
        let serving = PortOptions { rx_interrupts, ..serving };
        let serving = started("net_vhost", &format!("iface={socket}"), &serving)?;
        Ok([serving, started("net_virtio_user", &format!("path={socket}"), &served)?])
    });
}

#[test]
fn both_ends_of_memif() {
    process::alone(|| {
        conform(|socket, [serving, served]| {
            let end = |role, options| {
                let arguments = format!("role={role},socket={socket},socket-abstract=no");
                started("net_memif", &arguments, options)
            };
            Ok([end("server", &serving)?, end("client", &served)?])
        });
    });
}

/// Drivers keep lists of their devices without locks: a port is closed when no device comes or goes.
#[test]
fn devices_come_while_ports_are_closed_on_other_threads() {
    process::alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let pool = pool(4095);
        let (folder, options) = (folder.path(), PortOptions::new(&pool));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let options = &options;
                scope.spawn(move || {
                    let socket = folder.join("socket");
                    let arguments = format!(
                        "role=server,id={thread},socket={},socket-abstract=no",
                        socket.display()
                    );
                    for _ in 0..8000 {
                        let (device, port) = started("net_memif", &arguments, options).unwrap();
                        drop(device);
                        drop(port);
                    }
                });
            }
        });
    });
}

#[test]
fn vhost_and_virtio_user() {
    process::alone(|| vhost(false));
}

#[test]
fn vhost_that_is_woken_and_virtio_user() {
    process::alone(|| vhost(true));
}

/// Nobody receives, so that the ring of a `net_vhost` is full, which its driver counts as errors.
#[test]
fn what_a_vhost_refuses_is_not_lost() {
    process::alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let pool = pool(4095);
        let options = PortOptions::new(&pool);
        let serving = format!("iface={}", socket.display());
        let (_serving, a) = started("net_vhost", &serving, &options).unwrap();
        let served = format!("path={}", socket.display());
        let (_served, b) = started("net_virtio_user", &served, &options).unwrap();
        linked(&[&a, &b]).unwrap();
        let (mut full, mut served) = (a.queue_pair(0).unwrap(), b.queue_pair(0).unwrap());
        let taken = refusals_count_nothing(&mut full);
        assert!(taken > 0);
        let (mut burst, mut received) = (Burst::with_capacity(32), 0);
        while served.recv(&mut burst).unwrap() > 0 {
            received += burst.len() as u64;
            burst.clear();
        }
        assert_eq!(received, taken, "what was taken has arrived");
    });
}

/// The driver of `net_vhost` frees packets into which it cannot write a tag, and goes on with the rest as if it
/// had not: whoever sent them would free them again.
#[test]
fn a_tag_without_room_is_refused() {
    process::alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let pool = pool(4095);
        let options = PortOptions::new(&pool);
        let tagging = PortOptions { require: Features::TX_VLAN_INSERT, ..options.clone() };
        let serving = format!("iface={}", socket.display());
        let (_serving, a) = started("net_vhost", &serving, &tagging).unwrap();
        let served = format!("path={}", socket.display());
        let (_served, b) = started("net_virtio_user", &served, &options).unwrap();
        linked(&[&a, &b]).unwrap();
        let (mut from, mut to) = (a.tx_queue(0).unwrap(), b.queue_pair(0).unwrap());
        let tag = TxOffload { vlan: Some(5), ..TxOffload::default() };
        let asking = |headroom| {
            let mut asking = packet(&pool, &[0xff; 60]);
            asking.prepend(asking.headroom() - headroom).unwrap().fill(0xff);
            asking.offload(tag).unwrap();
            asking
        };
        let mut packets = burst([asking(4), asking(3), asking(4)]);
        assert_eq!(from.send(&mut packets).unwrap(), 1);
        let error = from.send(&mut packets).unwrap_err();
        assert!(error.to_string().contains("4 bytes of headroom"), "{error}");
        packets.pop_front();
        assert_eq!(from.send(&mut packets).unwrap(), 1);
        let (mut received, deadline) = (burst([]), Instant::now() + PATIENCE);
        while received.len() < 2 {
            assert!(Instant::now() < deadline, "{} came", received.len());
            to.recv(&mut received).unwrap();
        }
        assert!(received.iter().all(|packet| packet.data()[12..16] == [0x81, 0, 0, 5]));
    });
}

#[test]
fn interrupts_that_outlive_their_port_are_refused() {
    process::alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let pool = pool(1023);
        let serving = format!("iface={}", socket.display());
        let (_serving, _port) = started("net_vhost", &serving, &PortOptions::new(&pool)).unwrap();
        for options in [
            PortOptions { rx_interrupts: true, ..PortOptions::new(&pool) },
            PortOptions { link_interrupts: true, ..PortOptions::new(&pool) },
        ] {
            let path = format!("path={}", socket.display());
            let error = started("net_virtio_user", &path, &options).unwrap_err();
            assert!(matches!(error, bypass_core::Error::Unsupported(_)), "{error}");
        }
    });
}

/// Where the other process finds this one.
const SOCKET: &str = "BYPASS_TEST_MEMIF_SOCKET";

fn memif(role: &str, socket: &str) -> (Port<Started>, QueuePair) {
    let arguments = format!("role={role},socket={socket},socket-abstract=no");
    let (_device, port) = started("net_memif", &arguments, &PortOptions::new(&pool(4095))).unwrap();
    let queue = port.queue_pair(0).unwrap();
    (port, queue)
}

/// The other process: sends back what it gets, with its addresses swapped, until it is killed. It is no
/// test when nobody has started it for that.
#[test]
fn peer() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let (port, mut queue) = memif("client", &socket);
    linked(&[&port]).unwrap();
    let mut burst = Burst::with_capacity(32);
    loop {
        queue.wait(Interest::RX, Some(PATIENCE)).unwrap();
        queue
            .reflect(&mut burst, |packet| {
                bypass_core::swap_addresses(packet);
                Verdict::Send
            })
            .unwrap();
    }
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn packets_go_to_another_process_and_back() {
    if std::env::var_os(SOCKET).is_some() {
        return;
    }
    process::alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("memif");
        let socket = socket.to_str().unwrap();
        let (port, mut queue) = memif("server", socket);
        let myself = std::env::current_exe().unwrap();
        let start = || Command::new(&myself).args(["--exact", "peer"]).env(SOCKET, socket).spawn();
        let peer = Peer(start().unwrap());
        linked(&[&port]).unwrap();
        exchange(&mut queue, 10_000);
        // The other one dies without a word: nothing is received, nothing breaks, and the next one is found.
        drop(peer);
        let deadline = Instant::now() + PATIENCE;
        while port.link().unwrap().is_up {
            assert!(Instant::now() < deadline, "it does not notice");
            std::thread::yield_now();
        }
        let mut packets = burst([packet(queue.pool(), HEADER)]);
        assert_eq!(queue.send(&mut packets).unwrap(), 0, "refused, and still here");
        assert_eq!((packets.len(), queue.recv(&mut packets).unwrap()), (1, 0));
        let _peer = Peer(start().unwrap());
        linked(&[&port]).unwrap();
        exchange(&mut queue, 1000);
    });
}

/// Sends `n` numbered packets, and takes them back in order.
fn exchange(queue: &mut QueuePair, n: u32) {
    let (mut out, mut back) = (Burst::with_capacity(32), Burst::with_capacity(32));
    let (mut made, mut next, mut deadline) = (0u32, 0u32, Instant::now() + PATIENCE);
    while next < n {
        assert!(Instant::now() < deadline, "{made} made, {next} came back");
        if out.is_empty() && made < n && made - next < 256 {
            queue.alloc(&mut out, 32.min((n - made) as usize));
            for packet in out.iter_mut() {
                packet.fill(&[HEADER, &made.to_be_bytes()].concat()).unwrap();
                made += 1;
            }
        }
        queue.send(&mut out).unwrap();
        queue.recv(&mut back).unwrap();
        for packet in back.iter() {
            assert_eq!(packet.data(), [b"fromfrto..to\x88\xb5", &next.to_be_bytes()[..]].concat());
            next += 1;
            deadline = Instant::now() + PATIENCE;
        }
        back.clear();
    }
}
