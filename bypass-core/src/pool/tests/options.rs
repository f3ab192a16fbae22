//! Options that are refused, and memory that is not to be had.

use super::{Numbered, small};
use crate::pool::{HugePages, Pool, PoolOptions};
use crate::{Error, Result};

fn refused(options: &PoolOptions) -> Error {
    Pool::<Numbered>::new(options).map(|_| ()).expect_err("options out of range")
}

#[test]
fn options_out_of_range_are_named() {
    let all = [
        ("chunks", PoolOptions { chunks: 0, rx_reserve: 0, ..small() }),
        ("chunks", PoolOptions { chunks: u32::MAX, ..small() }),
        ("chunk_size", PoolOptions { chunk_size: 0, ..small() }),
        ("chunk_size", PoolOptions { chunk_size: 64, ..small() }),
        ("chunk_size", PoolOptions { chunk_size: 300, ..small() }),
        ("chunk_size", PoolOptions { chunk_size: 262_144, ..small() }),
        ("headroom", PoolOptions { headroom: 256, ..small() }),
        ("headroom", PoolOptions { headroom: u32::MAX, ..small() }),
        ("rx_reserve", PoolOptions { rx_reserve: 8, ..small() }),
        ("rx_reserve", PoolOptions { rx_reserve: u32::MAX, ..small() }),
    ];
    for (setting, options) in &all {
        let error = refused(options);
        assert!(matches!(&error, Error::Config { setting: s, .. } if s == setting), "{error}");
        assert!(error.to_string().starts_with(&format!("{setting} = ")), "{error}");
    }
}

#[test]
fn the_least_and_the_largest_chunks_work() {
    let least =
        PoolOptions { chunk_size: 128, headroom: 127, rx_reserve: 0, ..PoolOptions::new(1) };
    let largest = PoolOptions { chunk_size: 131_072, headroom: 0, ..least.clone() };
    for (options, room) in [(least, 1), (largest, 131_072)] {
        let pool = Pool::<Numbered>::new(&options).unwrap();
        let mut buffer = pool.alloc_rx().unwrap();
        crate::Buffer::append(&mut buffer, room).unwrap().fill(1);
        assert!(crate::Buffer::append(&mut buffer, 1).is_err() && pool.alloc_rx().is_none());
        assert_eq!(pool.arena().len(), options.chunk_size as usize);
    }
}

#[test]
fn more_memory_than_there_can_be_is_an_error() {
    let error = refused(&PoolOptions { chunks: u32::MAX - 1, chunk_size: 131_072, ..small() });
    let text = error.to_string();
    // 2^49 bytes: more than a process can address.
    assert!(
        text.contains("bytes of packet memory") && text.contains("make the pool smaller"),
        "{text}"
    );
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
}

#[test]
fn huge_pages_that_are_required_and_missing_are_an_error_with_the_remedy() {
    // A tebibyte of them: no machine that runs this has so many.
    let huge_pages = HugePages::Require;
    let text =
        refused(&PoolOptions { chunks: 1 << 23, chunk_size: 131_072, huge_pages, ..small() })
            .to_string();
    assert!(text.starts_with("cannot map 524288 huge pages of 2 MiB"), "{text}");
    assert!(text.contains("sysctl vm.nr_hugepages=524288"), "{text}");
}

/// Whether or not this machine has huge pages to give just now: what the pool says is what it has.
#[test]
fn huge_pages_that_are_preferred_are_reported_as_they_were_obtained() -> Result<()> {
    let pool = Pool::<Numbered>::new(&PoolOptions { huge_pages: HugePages::Prefer, ..small() })?;
    let page = page_size_at(pool.arena().base() as usize);
    match pool.arena().fallback() {
        None => assert_eq!(page, 2 << 20),
        Some(why) => {
            assert!(page < 2 << 20 && why.contains("huge pages were preferred"), "{page}: {why}");
        }
    }
    let plain = Pool::<Numbered>::new(&small())?;
    assert!(page_size_at(plain.arena().base() as usize) < 2 << 20);
    assert_eq!(plain.arena().fallback(), None, "nothing else was preferred");
    Ok(())
}

#[test]
fn the_kernel_is_asked_for_transparent_huge_pages_where_there_is_memory_for_one() -> Result<()> {
    let transparent = "/sys/kernel/mm/transparent_hugepage/enabled";
    let is_there = std::fs::exists(transparent).unwrap();
    // `hg`: the advice was taken (proc_pid_smaps(5)).
    let is_advised = |pool: &Pool<Numbered>| {
        smaps_at(pool.arena().base() as usize, "VmFlags:").split_whitespace().any(|is| is == "hg")
    };
    // Three huge pages and a half.
    let large = PoolOptions { chunks: 1792, chunk_size: 4096, headroom: 0, ..small() };
    let pool = Pool::<Numbered>::new(&large)?;
    assert_eq!(is_advised(&pool), is_there);
    assert_eq!((pool.arena().len(), pool.arena().fallback()), (7 << 20, None));
    assert!(!is_advised(&Pool::new(&small())?));
    Ok(())
}

/// The size in bytes of the pages that the kernel maps at `address`.
fn page_size_at(address: usize) -> usize {
    let size = smaps_at(address, "KernelPageSize:");
    size.trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
}

/// What proc_pid_smaps(5) says of the mapping at `address`.
fn smaps_at(address: usize, field: &str) -> String {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((from, to)) = first.split_once('-') {
            let bound = |hex| usize::from_str_radix(hex, 16).unwrap();
            inside = (bound(from)..bound(to)).contains(&address);
        } else if inside && first == field {
            return rest.trim().to_owned();
        }
    }
    panic!("nothing is mapped at {address:#x}, or its {field} is not told");
}
