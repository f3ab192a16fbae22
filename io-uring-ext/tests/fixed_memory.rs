//! The memory behind registered buffers: when it is unmapped, what limits it, on which pages it lies.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::process::Command;
use std::time::Duration;

use bypass_core::testing::needs::skip_because;
use common::SOON;
use common::fixed::{PAGE, direct_file, file, is_fixed, noise};
use io_uring_ext::buf::{BufPool, HugePages, IoBuf};
use io_uring_ext::fixed::BufferTable;
use io_uring_ext::op::Read;
use io_uring_ext::probe::Refusal;
use io_uring_ext::{Error, Ring, leaked_operations};

/// The line of `/proc/self/maps` that has the address, if any.
fn mapping(address: *const u8) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let has = |line: &&str| {
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |hex| usize::from_str_radix(hex, 16).unwrap();
        (number(range.0)..number(range.1)).contains(&(address as usize))
    };
    maps.lines().find(has).map(str::to_owned)
}

#[test]
fn memory_is_unmapped_when_the_kernel_is_done_and_leaked_when_it_is_not() {
    // Alone in its process: other tests map memory where this one looks whether any is left.
    if alone("memory_is_unmapped_when_the_kernel_is_done_and_leaked_when_it_is_not") {
        return;
    }
    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 1).unwrap();
    let pool = BufPool::local(PAGE, 64).unwrap();
    table.register(&pool).unwrap();
    let address = pool.take().unwrap().stable_ptr();
    drop(pool);
    assert!(mapping(address).is_some(), "the kernel still has it");
    ring.submit().unwrap();
    assert!(mapping(address).is_none());

    // What does not end in time is leaked, with the memory of its table.
    let direct = direct_file(&noise(64 * PAGE, 9));
    for _ in 0..50 {
        let ring = Ring::builder().shutdown_deadline(Duration::ZERO).build_local().unwrap();
        let table = BufferTable::new(&ring, 2).unwrap();
        let (pool, idle) = (BufPool::local(PAGE, 64).unwrap(), BufPool::local(PAGE, 64).unwrap());
        table.register(&pool).unwrap();
        table.register(&idle).unwrap();
        let addresses = [pool.take().unwrap().stable_ptr(), idle.take().unwrap().stable_ptr()];
        for n in 0..64 {
            let read = Read::new(&direct, pool.take().unwrap(), n * PAGE as u64);
            ring.push(read).unwrap().detach();
        }
        ring.submit().unwrap();
        let leaked = ring.close();
        drop((pool, idle, table));
        if leaked > 0 {
            assert!(leaked_operations() >= leaked as u64);
            assert!(addresses.iter().all(|address| mapping(*address).is_some()));
            return;
        }
    }
    panic!("every read ended in no time, so this shows nothing");
}

/// Runs the test of this name in a process of its own; false inside that one.
fn alone(test: &str) -> bool {
    const INSIDE: &str = "IO_URING_EXT_ALONE";
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it ran: {said}");
    true
}

#[test]
fn too_little_lockable_memory_is_reported_and_the_pool_works_on() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    const LIMIT: u64 = 8 << 20;

    // The limit is the whole process's.
    if alone("too_little_lockable_memory_is_reported_and_the_pool_works_on") {
        return;
    }
    let hard = getrlimit(Resource::Memlock).maximum;
    setrlimit(Resource::Memlock, Rlimit { current: Some(LIMIT), maximum: hard }).unwrap();
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::IPC_LOCK;
    set_capabilities(None, sets).unwrap();

    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    let large = BufPool::local(1 << 20, 64).unwrap();
    let error = table.register(&large).unwrap_err();
    assert!(
        matches!(&error, Error::Refused { refusal: Refusal::Memlock { limit: LIMIT }, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("ulimit -l"), "says what to do: {error}");
    assert_eq!(table.available(), 2, "no slot is lost");
    assert!(!is_fixed(&ring, &large));
    let read = Read::new(&file(b"degraded"), large.take().unwrap(), 0);
    assert_eq!(ring.push(read).unwrap().wait(SOON).unwrap().buf[..], *b"degraded");

    // What fits is registered.
    let small = BufPool::local(PAGE, 4).unwrap();
    table.register(&small).unwrap();
    assert!(is_fixed(&ring, &small));
    // In place, both count; the old one stays.
    let (small, error) = table.replace(small, &large).unwrap_err();
    assert!(matches!(error, Error::Refused { refusal: Refusal::Memlock { .. }, .. }), "{error}");
    assert!(is_fixed(&ring, &small) && !is_fixed(&ring, &large));
}

/// The size of the pages at an address, in KiB.
fn page_size(address: *const u8) -> u64 {
    let start = mapping(address).unwrap().split('-').next().unwrap().to_owned();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let size = lines.find_map(|line| line.strip_prefix("KernelPageSize:")).unwrap();
    size.trim().trim_end_matches(" kB").parse().unwrap()
}

fn on_huge_pages(pool: &BufPool) -> bool {
    page_size(pool.take().unwrap().stable_ptr()) == 2048
}

#[test]
fn huge_pages_are_what_the_pool_says() {
    // Lets the kernel make huge pages when they are asked for, and no longer than this lives.
    struct Surplus(String);
    const SETTING: &str = "/proc/sys/vm/nr_overcommit_hugepages";
    impl Drop for Surplus {
        fn drop(&mut self) {
            std::fs::write(SETTING, &self.0).unwrap();
        }
    }

    let ring = Ring::local().unwrap();
    let table = BufferTable::new(&ring, 2).unwrap();
    assert!(!on_huge_pages(&BufPool::local_on(HugePages::No, PAGE, 1024).unwrap()));
    let check = |pool: BufPool| {
        assert_eq!(on_huge_pages(&pool), pool.is_on_huge_pages());
        assert_eq!(pool.is_on_huge_pages(), pool.huge_page_refusal().is_none());
        table.register(&pool).unwrap();
        let done = ring.push(Read::new(&file(b"huge?"), pool.take().unwrap(), 0)).unwrap();
        assert_eq!(done.wait(SOON).unwrap().buf[..], *b"huge?");
        pool.is_on_huge_pages()
    };
    let preferred = || BufPool::local_on(HugePages::Prefer, PAGE, 1024).unwrap();
    let required = || BufPool::local_on(HugePages::Require, PAGE, 1024);
    // More than any machine has.
    let error = BufPool::local_on(HugePages::Require, 1 << 30, 4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    // Whether or not this one has some just now.
    check(preferred());
    match required() {
        Ok(pool) => assert!(check(pool)),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOMEM)),
    }

    let before = std::fs::read_to_string(SETTING).unwrap();
    if let Err(error) = std::fs::write(SETTING, "8") {
        return skip_because(&format!("no right to make huge pages: {error}"));
    }
    let _surplus = Surplus(before);
    assert!(check(required().unwrap()));
    assert!(check(preferred()));
}
