//! What packet memory promises, without a kernel.

use bypass_core::pool::{HugePages, PoolOptions};
use bypass_core::{Buffer, Error};
use proptest::prelude::*;

use super::*;

fn small() -> UmemOptions {
    let pool = PoolOptions { rx_reserve: 4, ..PoolOptions::new(8) };
    UmemOptions { pool, ..UmemOptions::default() }
}

fn received(umem: &Umem, addr: u64, len: u32) -> Result<XdpFrame, StrayChunk> {
    umem.hand(1).received(&Desc { addr, len, options: DescOptions::empty() })
}

#[test]
fn layouts_that_af_xdp_does_not_allow_are_named() {
    let with = |change: fn(&mut PoolOptions)| {
        let mut options = small();
        change(&mut options.pool);
        options
    };
    for (setting, options) in [
        ("chunk_size", with(|pool| pool.chunk_size = 1024)),
        ("chunk_size", with(|pool| pool.chunk_size = 8192)),
        ("headroom", with(|pool| pool.headroom = 2048 - 256)),
        ("headroom", with(|pool| pool.headroom = u32::MAX)),
        ("rx_reserve", with(|pool| pool.rx_reserve = 0)),
        ("chunks", with(|pool| pool.chunks = 0)),
    ] {
        let error = Umem::new(&options).map(|_| ()).expect_err(setting);
        assert!(matches!(&error, Error::Config { setting: s, .. } if s == setting), "{error}");
    }
}

#[test]
fn huge_pages_are_there_or_their_lack_is_told() {
    let mut options = small();
    options.pool.huge_pages = HugePages::Prefer;
    let umem = Umem::new(&options).unwrap();
    let told = umem.arena().fallback().map(str::to_owned);
    options.pool.huge_pages = HugePages::Require;
    match (Umem::new(&options), told) {
        (Ok(_), None) => {}
        (Err(error), Some(told)) => {
            assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
            assert!(told.contains("ordinary pages obtained"), "{told}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_owed_to_the_fill_rings_is_not_allocated() {
    let umem = Umem::new(&small()).unwrap();
    assert!(umem.promise(4) && !umem.promise(4), "of 8 chunks, one must be left");
    let mut burst = Burst::with_capacity(8);
    assert_eq!((umem.alloc(&mut burst, 8), umem.spare() > 0), (4, false));
    let mut lent = Vec::new();
    umem.posted(umem.lend(4, |address| lent.push(address)));
    assert_eq!((lent.len(), umem.alloc(&mut burst, 8)), (4, 0));
    let frame = received(&umem, lent[0] + 256 + 128, 60).unwrap();
    umem.owe(1);
    assert_eq!((frame.headroom(), frame.data().len()), (384, 60));
    drop(frame);
    assert_eq!(umem.alloc(&mut burst, 8), 0, "it is to be posted again");
    assert!(received(&umem, lent[0], 0).is_err(), "the kernel does not have it");
    umem.release(4, 1);
    assert_eq!(umem.alloc(&mut burst, 8), 1);
    // SAFETY: no kernel has seen the addresses.
    lent.iter().for_each(|&address| unsafe { umem.unlend(address) });
    assert_eq!((umem.census().rx_posted, umem.census().held), (0, 5));
}

#[test]
fn an_address_tells_chunk_and_offset() {
    let aligned = Addressing::new(2048, false);
    let unaligned = Addressing::new(2048, true);
    assert_eq!(aligned.locate(aligned.address(3) + 700), (3, 700));
    assert_eq!(unaligned.locate(unaligned.address(3) | 700 << 48), (3, 700));
    assert_eq!(unaligned.locate((5 * 2048 - 1) | 1 << 48), (5, 0));
    assert_eq!(aligned.locate(1 << 50).0, 1 << 39, "no umem has so many chunks");
}

proptest! {
    /// Whatever address and length the kernel shows, it is a chunk that was lent and lies inside, or it
    /// is refused and nothing has changed.
    #[test]
    fn no_address_is_trusted(address in any::<u64>(), near in 0..40_000u64, len in any::<u32>(), far in any::<bool>(), unaligned in any::<bool>()) {
        let umem = Umem::new(&UmemOptions { unaligned, ..small() }).unwrap();
        prop_assert!(umem.promise(4));
        let mut lent = Vec::new();
        umem.posted(umem.lend(4, |address| lent.push(address)));
        let (address, len) = if far { (address, len) } else { (near, len % 4096) };
        let before = umem.census();
        match received(&umem, address, len) {
            Ok(frame) => {
                prop_assert!(frame.headroom() + frame.data().len() <= 2048);
                let start = frame.arena_offset() as u64 & !2047;
                prop_assert!(lent.contains(&start));
            }
            Err(_) => prop_assert_eq!(umem.census(), before),
        }
        prop_assert_eq!(umem.sent(std::iter::once(address)).strays, 1);
    }
}
