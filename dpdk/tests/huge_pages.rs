//! Packet memory in huge pages: with and without files, shared by mistake, and not there at all.
//!
//! It changes how many huge pages the machine has, so it needs root; one process does so at a time.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use bypass_core::testing::process::{alone, alone_under};
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, Ready};
use bypass_dpdk::{
    DpdkError, EalOptions, Memory, Mempool, MempoolOptions, Port, PortOptions, Vdev,
};
use common::huge_pages::{HugePages, Mount};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn their_lack_is_told_and_costs_nothing() {
    let Ok(_pages) = HugePages::reserve(0) else { return };
    alone(|| {
        for memory in [Memory::InMemory, Memory::Shared] {
            let error = EalOptions::new().memory(memory).start().unwrap_err();
            assert!(matches!(error, DpdkError::Config { setting: "memory", .. }), "{error}");
            assert!(error.to_string().contains("sysctl vm.nr_hugepages"), "{error}");
        }
        assert!(!EalOptions::new().start().unwrap().has_huge_pages());
    });
}

#[test]
fn in_memory_needs_no_mount_and_leaves_nothing() {
    let Ok(_pages) = HugePages::reserve(32) else { return };
    alone(|| {
        let eal = EalOptions::new().memory(Memory::InMemory).start().unwrap();
        assert!(eal.has_huge_pages());
        assert!(!eal.runtime_folder().exists());
        assert_eq!(Vdev::plug(&eal, "net_ring0", "").unwrap().ports().len(), 1);
        eal.cleanup().unwrap();
    });
}

/// The peer maps each piece of the memory, and no more than eight.
#[test]
fn in_memory_is_shared_with_a_peer() {
    let Ok(_pages) = HugePages::reserve(64) else { return };
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let options = EalOptions::new().memory(Memory::InMemory).memory_limit(96);
        let eal = options.start().unwrap();
        let pool = Mempool::new(&eal, &MempoolOptions::new(1023)).unwrap();
        let open = |name, arguments: String| {
            let _device = Vdev::plug(&eal, name, &arguments).unwrap();
            Port::open(&eal, name).unwrap().start(&PortOptions::new(&pool)).unwrap()
        };
        let a = open("net_vhost0", format!("iface={}", socket.display()));
        let b = open("net_virtio_user0", format!("path={}", socket.display()));
        let begun = Instant::now();
        while !(a.link().unwrap().is_up && b.link().unwrap().is_up) {
            assert!(begun.elapsed() < PATIENCE, "they do not find each other");
            std::thread::yield_now();
        }
        let (mut a, mut b) = (a.queue_pair(0).unwrap(), b.queue_pair(0).unwrap());
        let mut packets = Burst::with_capacity(1);
        assert_eq!(b.alloc(&mut packets, 1), 1);
        packets[0].fill(&[0xff; 60]).unwrap();
        assert_eq!(b.send(&mut packets).unwrap(), 1);
        assert!(a.wait(Interest::RX, Some(PATIENCE)).unwrap().contains(Ready::RX));
        assert_eq!(a.recv(&mut packets).unwrap(), 1);
        assert_eq!(packets[0].data(), [0xff; 60]);
    });
}

#[test]
fn more_than_there_are_is_an_error_with_advice() {
    let Ok(_pages) = HugePages::reserve(4) else { return };
    alone(|| {
        let options = EalOptions::new().memory(Memory::InMemory).memory_limit(1024);
        let error = options.start().unwrap_err();
        let DpdkError::Init { .. } = error else { panic!("{error}") };
        assert!(error.to_string().contains("are enough huge pages free"), "{error}");
    });
}

#[test]
fn a_second_process_with_the_prefix_is_told_so() {
    const SECOND: &str = "BYPASS_TEST_SECOND";
    let Ok(_pages) = HugePages::reserve(64) else { return };
    let mount = Mount::new();
    alone_under(&mount.runner().each_ref().map(String::as_str), || {
        let options = EalOptions::new().memory(Memory::Shared).memory_limit(64);
        let options = options.huge_folder(mount.folder()).file_prefix("bypass-test-prefix");
        let options = options.packet_capture(true);
        if std::env::var_os(SECOND).is_some() {
            let error = options.start().unwrap_err();
            assert!(error.to_string().contains("choose another `file_prefix`"), "{error}");
            return;
        }
        let eal = options.start().unwrap();
        assert!(eal.runtime_folder().join("config").exists());
        let myself: Vec<_> = std::env::args().skip(1).collect();
        let second = Command::new(std::env::current_exe().unwrap())
            .args(myself)
            .env(SECOND, "1")
            .output()
            .unwrap();
        assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
        assert!(String::from_utf8_lossy(&second.stdout).contains("1 passed"));
        let runtime = eal.runtime_folder();
        eal.cleanup().unwrap();
        fs::remove_dir_all(runtime).unwrap();
    });
}
