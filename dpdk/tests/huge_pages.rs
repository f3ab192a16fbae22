//! Packet memory in huge pages: with and without files, shared by mistake, and not there at all.
//!
//! It changes how many huge pages the machine has, so it needs root; one process does so at a time.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::fs::{self, File, OpenOptions};
use std::process::Command;
use std::time::{Duration, Instant};

use bypass_core::testing::needs::skip_because;
use bypass_core::testing::process::{alone, alone_under, is_alone};
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, Ready};
use bypass_dpdk::{
    DpdkError, EalOptions, Memory, Mempool, MempoolOptions, Port, PortOptions, Vdev,
};

const PATIENCE: Duration = Duration::from_secs(10);
const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// The machine's huge pages, as many as a test wants, for as long as this lives.
struct HugePages {
    before: String,
    _one_at_a_time: File,
}

impl HugePages {
    /// Nothing in the process that runs alone, whose parent has done it.
    fn reserve(count: u32) -> Result<Option<Self>, ()> {
        if is_alone() {
            return Ok(None);
        }
        if let Err(error) = OpenOptions::new().write(true).open(RESERVED) {
            skip_because(&format!("cannot change {RESERVED}: {error}"));
            return Err(());
        }
        let lock = File::create(std::env::temp_dir().join("bypass-huge-pages.lock")).unwrap();
        lock.lock().unwrap();
        let before = fs::read_to_string(RESERVED).unwrap();
        let pages = Self { before, _one_at_a_time: lock };
        fs::write(RESERVED, count.to_string()).unwrap();
        let have: u32 = fs::read_to_string(RESERVED).unwrap().trim().parse().unwrap();
        if have != count {
            skip_because(&format!("the kernel has {have} huge pages to give, not {count}"));
            return Err(());
        }
        Ok(Some(pages))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        fs::write(RESERVED, &self.before).unwrap();
    }
}

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
    let folder = std::env::temp_dir().join("bypass-huge-pages");
    fs::create_dir_all(&folder).unwrap();
    let mount = format!("mount -t hugetlbfs nodev {} && exec \"$0\" \"$@\"", folder.display());
    // The mount is in a namespace of its own, and gone with the process.
    alone_under(&["unshare", "--mount", "sh", "-c", &mount], || {
        let options = EalOptions::new().memory(Memory::Shared).memory_limit(64);
        let options = options.huge_folder(&folder).file_prefix("bypass-test-prefix");
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
    if !is_alone() {
        fs::remove_dir(folder).unwrap();
    }
}
