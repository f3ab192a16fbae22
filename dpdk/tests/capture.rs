//! DPDK's own program for it, `dpdk-pdump`, captures what goes through a port: a process of its own, which shares
//! this one's memory. So it takes huge pages, and root.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod common;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::process::{alone, alone_under};
use bypass_core::{Buffer as _, Burst, PacketIo as _};
use bypass_dpdk::{
    DpdkError, Eal, EalOptions, Mbuf, Memory, Mempool, MempoolOptions, Port, PortOptions,
    QueuePair, Vdev,
};
use common::huge_pages::{HugePages, Mount};

const PREFIX: &str = "bypass-test-capture";

/// The header of a capture without packets.
const EMPTY: u64 = 24;

/// Packets that are sent after the first that was captured.
const MORE: u64 = 2000;

const PATIENCE: Duration = Duration::from_secs(60);

/// A capture without shared memory would be one of nothing.
#[test]
fn memory_that_others_cannot_see_is_refused_with_what_to_do() {
    alone(|| {
        for memory in [Memory::Ordinary, Memory::InMemory] {
            let error = EalOptions::new().memory(memory).packet_capture(true).start().unwrap_err();
            assert!(
                matches!(error, DpdkError::Config { setting: "packet_capture", .. }),
                "{error}"
            );
            assert!(error.to_string().contains("take `Memory::Shared`"), "{error}");
        }
    });
}

#[test]
fn another_process_captures_exactly_what_goes_through_a_port() {
    if skip(&[Need::Tool("dpdk-pdump")]) {
        return;
    }
    let Ok(_pages) = HugePages::reserve(128) else { return };
    let mount = Mount::new();
    alone_under(&mount.runner().each_ref().map(String::as_str), || {
        let options = EalOptions::new().memory(Memory::Shared).huge_folder(mount.folder());
        let eal = options.file_prefix(PREFIX).packet_capture(true).start().unwrap();
        // DPDK would let no other process in after that.
        let inner = eal.clone();
        let refused = thread::spawn(move || inner.register_thread().map(drop)).join().unwrap();
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("either other processes or registered threads"), "{refused}");
        let pool = Mempool::new(&eal, &MempoolOptions::new(1023)).unwrap();
        let _device = Vdev::plug(&eal, "net_ring0", "").unwrap();
        let port = Port::open(&eal, "net_ring0").unwrap();
        let port = port.start(&PortOptions::new(&pool)).unwrap();
        let mut pair = port.queue_pair(0).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let (received, sent) = (folder.path().join("rx.pcap"), folder.path().join("tx.pcap"));
        let mut capture = Capture::start(port.id(), &received, &sent, mount.folder());
        let mut next = 0;
        // Both ends of the queue are seen, one a moment before the other.
        let is_begun = |file: &Path| fs::metadata(file).is_ok_and(|file| file.len() > EMPTY);
        let begun = Instant::now();
        while !(is_begun(&received) && is_begun(&sent)) {
            assert!(begun.elapsed() < PATIENCE, "nothing is captured");
            assert!(capture.is_running(), "{:?}", capture.stop());
            go_round(&mut pair, &mut next);
        }
        // Its devices are here, too, for as long as it is.
        let other = Port::open(&eal, "net_pcap_rx_0").unwrap_err();
        assert!(other.to_string().contains("nobody here made"), "{other}");
        let last = next + MORE;
        while next < last {
            go_round(&mut pair, &mut next);
        }
        let output = capture.stop();
        assert!(output.status.success(), "{output:?}");

        for file in [&received, &sent] {
            let first = are_consecutive(&eal, file, next);
            assert!(first + MORE <= next, "from {first} to {next}");
        }
        // What saw the packets is gone, and they go on.
        go_round(&mut pair, &mut next);
        drop((pair, port, _device, pool));
        let runtime = eal.runtime_folder();
        eal.cleanup().unwrap();
        fs::remove_dir_all(runtime).unwrap();
    });
}

/// The packet of this number: every length from the shortest, and no two alike.
fn content(number: u64) -> Vec<u8> {
    let len = 60 + number as usize % 1400;
    let mut bytes: Vec<_> = (0..len).map(|i| (i as u64 ^ number) as u8).collect();
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Sends some packets through the ring and receives them.
fn go_round(pair: &mut QueuePair, next: &mut u64) {
    let mut burst = Burst::with_capacity(8);
    assert_eq!(pair.alloc(&mut burst, 8), 8);
    for (packet, number) in burst.iter_mut().zip(*next..) {
        packet.fill(&content(number)).unwrap();
    }
    assert_eq!(pair.send(&mut burst).unwrap(), 8);
    assert_eq!(pair.recv(&mut burst).unwrap(), 8);
    for (packet, number) in burst.iter().zip(*next..) {
        assert_eq!(packet.data(), content(number), "{number}");
    }
    *next += 8;
}

/// Reads a capture, by DPDK's driver for that: it holds the packets before `end`, each once and in order.
/// Returns the number of the first.
fn are_consecutive(eal: &Eal, file: &Path, end: u64) -> u64 {
    let pool = Mempool::new(eal, &MempoolOptions::new(1023)).unwrap();
    let device = Vdev::plug(eal, "net_pcap0", &format!("rx_pcap={}", file.display())).unwrap();
    let port = Port::open(eal, "net_pcap0").unwrap();
    let port = port.start(&PortOptions { tx_queues: 0, ..PortOptions::new(&pool) }).unwrap();
    let mut queue = port.rx_queue(0).unwrap();
    let mut burst: Burst<Mbuf> = Burst::with_capacity(32);
    let mut seen: Option<Range<u64>> = None;
    while queue.recv(&mut burst) > 0 {
        for packet in burst.iter() {
            let number = u64::from_be_bytes(*packet.data().first_chunk().unwrap());
            let seen = seen.get_or_insert(number..number);
            assert_eq!(number, seen.end, "{}", file.display());
            assert_eq!(packet.data(), content(number), "{number} in {}", file.display());
            seen.end += 1;
        }
        burst.clear();
    }
    drop((queue, port));
    device.unplug().map_err(|(_, error)| error).unwrap();
    let seen = seen.unwrap();
    assert_eq!(seen.end, end, "{}", file.display());
    seen.start
}

/// `dpdk-pdump`, until it is stopped.
struct Capture(Option<Child>);

impl Capture {
    fn start(port: u16, received: &Path, sent: &Path, huge_pages: &Path) -> Self {
        let what = format!(
            "port={port},queue=0,rx-dev={},tx-dev={},ring-size=4096,total-num-mbufs=8191",
            received.display(),
            sent.display()
        );
        let child = Command::new("dpdk-pdump")
            .args(["--file-prefix", PREFIX, "--no-pci", "--huge-dir"])
            .arg(huge_pages)
            .args(["--", "--pdump", &what])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(Some(child))
    }

    fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Ends it as a user does; it writes what it has seen before.
    fn stop(&mut self) -> Output {
        let child = self.0.take().unwrap();
        let _gone_already =
            Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}
