//! What no application can do: descriptors that are wrong, and answers of the kernel that are.

use std::os::fd::AsRawFd as _;

use bypass_core::pool::PoolOptions;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::testing::veth::tools::{compose, is_ours, numbered, receive};
use bypass_core::{Buffer, DropCause, Endpoint};

use super::*;
use crate::program::Filter;
use crate::ring::{Consumer, Layout, Mapped, Producer};
use crate::sys::{Desc, DescOptions};
use crate::{Hook, Receive, UmemOptions, Want, XdpOptions};

/// Chunks that are posted for receiving, fewer than the fill ring has places.
const POSTED: u32 = 16;

/// A port at each end of a veth pair, first with programs in generic mode, then in native mode; none, where
/// the test must be skipped.
fn pairs(change: impl Fn(&mut XdpOptions)) -> impl Iterator<Item = (Veth, XdpPort, XdpPort)> {
    let hooks = (!skip(&[Need::Namespaces, Need::Bpf])).then_some([Hook::Generic, Hook::Native]);
    hooks.into_iter().flatten().map(move |hook| {
        println!("in {hook} mode");
        let veth = Veth::new(&VethOptions::default()).unwrap();
        let open = |namespace: &Namespace| {
            let _inside = namespace.enter().unwrap();
            let mut options = XdpOptions::new(Veth::NAME);
            options.hook = Want::Require(hook);
            options.receive = Receive::Filter(Filter::new().ether_type(0x88b5));
            options.umem.pool.rx_reserve = POSTED;
            change(&mut options);
            options.open().unwrap()
        };
        let (a, b) = (open(&veth.a), open(&veth.b));
        (veth, a, b)
    })
}

fn kernel_counter(port: &XdpPort, wanted: &str) -> u64 {
    let mut found = None;
    port.visit_counters(&mut |name, value| {
        if name == wanted {
            found = Some(value);
        }
    });
    found.unwrap()
}

/// Frames that were sent and whose chunks were not taken back.
fn completed(port: &XdpPort) -> u64 {
    let mut completed = 0;
    port.visit_rings(&mut |name, occupancy| {
        if name == "completion" {
            completed = occupancy.used;
        }
    });
    completed
}

/// The kernel may have shown only some pieces of a frame when they are looked for.
#[test]
fn a_frame_whose_end_comes_in_a_later_turn_is_whole_then() {
    let layout = Layout { producer: 0, consumer: 64, flags: 128, entries: 192, size: 8 };
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let (len, file) = (layout.len::<Desc>(), rustix::fs::memfd_create("ring", flags).unwrap());
    rustix::fs::ftruncate(&file, len as u64).unwrap();
    let map = || memmap2::MmapOptions::new().len(len).map_raw(file.as_raw_fd()).unwrap();
    let mut kernel = Producer::new(Mapped::<Desc>::new(map(), &layout).unwrap());
    let ring = Consumer::new(Mapped::<Desc>::new(map(), &layout).unwrap());
    let nowhere = memmap2::MmapOptions::new().len(len).map_anon().unwrap();
    let fill = Producer::new(Mapped::<u64>::new(nowhere.into(), &layout).unwrap());

    let pool = PoolOptions { rx_reserve: 4, ..PoolOptions::new(8) };
    let umem = Umem::new(&UmemOptions { pool, ..UmemOptions::default() }).unwrap();
    assert!(umem.promise(4));
    let mut lent = Vec::new();
    umem.posted(umem.lend(4, |address| lent.push(address)));
    let mut rx = Rx::new(ring, fill, umem.clone(), 4, 4, 0, false);
    let mut show = |pieces: &[(usize, u32, DescOptions)]| {
        let mut places = kernel.reserve(8);
        for &(chunk, len, options) in pieces {
            assert!(places.push(Desc { addr: lent[chunk] + 384, len, options }));
        }
    };
    let (more, end) = (DescOptions::XDP_PKT_CONTD, DescOptions::empty());
    let mut out = Burst::with_capacity(4);
    show(&[(0, 100, more)]);
    assert_eq!(rx.take(&mut out), 0);
    show(&[(1, 50, more)]);
    assert_eq!((rx.take(&mut out), rx.take(&mut out)), (0, 0));
    show(&[(2, 7, end), (3, 60, end)]);
    assert_eq!(rx.take(&mut out), 2);
    let lens = |frame: &XdpFrame| frame.segments().map(<[u8]>::len).collect::<Vec<_>>();
    assert_eq!((lens(&out[0]), lens(&out[1])), (vec![100, 50, 7], vec![60]));
    let mut stats = bypass_core::Stats::default();
    rx.count(&mut stats);
    assert_eq!((stats.rx_packets, stats.rx_bytes, stats.drops.total()), (2, 217, 0));
}

/// The kernel skips what it cannot send and counts it; what is right goes on.
#[test]
fn invalid_descriptors_are_counted_by_the_kernel_and_harm_nobody() {
    let unaligned = |options: &mut XdpOptions| options.umem.unaligned = true;
    for (_veth, mut a, mut b) in pairs(|_| {}).chain(pairs(unaligned)) {
        let end = a.umem().arena().len() as u64;
        let wrong = |addr, len, options| Desc { addr, len, options };
        let none = DescOptions::empty();
        let invalid = [
            // Beyond the memory, across its end, with options that there are none of.
            wrong(end, 60, none),
            wrong(u64::MAX, 60, none),
            wrong(end - 60, 61, none),
            wrong(0, 60, DescOptions::from_bits_retain(1 << 7)),
        ];
        for (n, desc) in invalid.into_iter().enumerate() {
            let mut places = a.tx.ring_for_tests().reserve(1);
            assert!(places.push(desc));
            drop(places);
            let mut burst = compose(&mut a, &[numbered(n as u16, 60)]);
            assert_eq!(a.send(&mut burst).unwrap(), 1);
            a.flush().unwrap();
            assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(n as u16, 60));
            assert_eq!(kernel_counter(&a, "kernel_tx_invalid_descs"), n as u64 + 1);
        }
        let stats = a.stats();
        assert_eq!((stats.tx_packets, stats.tx_in_flight, stats.drops.total()), (4, 0, 0));
        assert!(stats.frames.unwrap().adds_up());
    }
}

/// A chunk that the port never lent is sent all the same, for the kernel believes what is in the ring:
/// its completion is a stray, and nobody gets the chunk.
#[test]
fn addresses_that_the_kernel_should_not_have_are_counted_and_refused() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        let mut burst = compose(&mut a, &[numbered(1, 60)]);
        let stolen = burst[0].arena_offset() as u64;
        let mut places = a.tx.ring_for_tests().reserve(2);
        for _ in 0..2 {
            assert!(places.push(Desc { addr: stolen, len: 60, options: DescOptions::empty() }));
        }
        drop(places);
        // Completions are looked at while something of ours is in flight.
        let mut own = compose(&mut a, &[numbered(2, 60)]);
        assert_eq!(a.send(&mut own).unwrap(), 1);
        while a.stats().tx_in_flight > 0 {
            a.flush().unwrap();
        }
        assert_eq!(receive(&mut b, 3, is_ours)[2].data(), numbered(2, 60));
        assert_eq!(kernel_counter(&a, "tx_strays"), 2);
        assert_eq!((a.stats().tx_packets, burst[0].data()), (1, &numbered(1, 60)[..]));
        // It is still its owner's, who can send it.
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        a.flush().unwrap();
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(1, 60));
        assert!(a.stats().frames.unwrap().adds_up());
    }
}

/// The same chunk twice in the fill ring, as confused drivers return it: the first frame in it is handed
/// out, the second is not.
#[test]
fn a_chunk_that_is_received_into_twice_is_handed_out_once() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        let fill = b.rx.fill_for_tests();
        let first = fill.written_before(1);
        assert!(fill.reserve(1).push(first));
        let mut kept = None;
        for n in 0..POSTED as u16 + 3 {
            let mut burst = compose(&mut a, &[numbered(n, 60)]);
            assert_eq!(a.send(&mut burst).unwrap(), 1);
            a.flush().unwrap();
            let mut burst = Burst::with_capacity(4);
            b.recv(&mut burst).unwrap();
            // The first chunk stays with the application.
            kept = kept.or(burst.pop_front());
        }
        assert_eq!(kept.map(|frame| frame.arena_offset() as u64 & !2047), Some(first));
        assert_eq!(kernel_counter(&b, "rx_strays"), 1);
        let stats = b.stats();
        assert_eq!((stats.drops[DropCause::RxInvalid], stats.drops.total()), (1, 1));
        assert_eq!(stats.rx_packets, u64::from(POSTED) + 2);
        assert!(stats.frames.unwrap().adds_up());
    }
}

/// The same, by who shows frames where they lie: what was sent on is not lent for receiving any more.
#[test]
fn a_chunk_that_is_received_into_twice_is_sent_back_once() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        let fill = b.rx.fill_for_tests();
        let first = fill.written_before(1);
        assert!(fill.reserve(1).push(first));
        let (mut waiting, mut shown) = (Burst::with_capacity(64), 0);
        for n in 0..POSTED as u16 + 1 {
            let mut burst = compose(&mut a, &[numbered(n, 60)]);
            assert_eq!(a.send(&mut burst).unwrap(), 1);
            a.flush().unwrap();
        }
        b.visit(&mut waiting, |data, _| {
            shown += 1;
            assert_eq!(data.len(), 60);
            Verdict::Send
        })
        .unwrap();
        assert_eq!((shown, waiting.len(), kernel_counter(&b, "rx_strays")), (POSTED, 0, 1));
        assert_eq!(receive(&mut a, POSTED as usize, is_ours).len(), POSTED as usize);
        let stats = b.stats();
        assert_eq!((stats.rx_packets, stats.drops[DropCause::RxInvalid]), (u64::from(POSTED), 1));
        assert!(stats.frames.unwrap().adds_up());
    }
}

/// A visitor that panics frees the frame that it sees, and the others come with the next call.
#[test]
fn a_visitor_that_panics_leaves_the_rest_on_the_ring() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        for round in 0..POSTED as u16 * 3 {
            let frames: Vec<_> = (0..8).map(|n| numbered(round + n, 60)).collect();
            bypass_core::testing::veth::tools::send(&mut a, &frames);
            let mut waiting = Burst::with_capacity(64);
            let visit = std::panic::AssertUnwindSafe(|| {
                b.visit(&mut waiting, |data, _| match data {
                    data if data == frames[5] => std::panic::resume_unwind(Box::new(())),
                    data => {
                        if data == frames[4] {
                            Verdict::Send
                        } else {
                            Verdict::Drop
                        }
                    }
                })
            });
            assert!(std::panic::catch_unwind(visit).is_err());
            let rest = receive(&mut b, 2, is_ours);
            assert!(rest.iter().zip(&frames[6..]).all(|(frame, sent)| frame.data() == sent));
            b.flush().unwrap();
            assert_eq!(receive(&mut a, 1, is_ours)[0].data(), frames[4]);
        }
        let stats = b.stats();
        assert_eq!((stats.rx_packets, stats.drops.total()), (u64::from(POSTED) * 24, 0));
        let frames = stats.frames.unwrap();
        assert_eq!((frames.rx_posted, frames.held), (u64::from(POSTED), 0), "{frames:?}");
    }
}

/// A generator that panics over the chunk of a frame that was sent loses neither that nor its bytes.
#[test]
fn what_was_sent_counts_also_when_a_generator_panics_over_it() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        let mut waiting = Burst::with_capacity(8);
        let fill = |data: &mut [u8]| data.copy_from_slice(&numbered(0, 60));
        assert_eq!(a.generate(&mut waiting, 4, 60, fill).unwrap(), 4);
        // Not by `flush`, which takes back what has come by then.
        a.kernel.kick(a.socket.as_fd()).unwrap();
        receive(&mut b, 4, is_ours);
        while completed(&a) < 4 {
            std::thread::yield_now();
        }
        let generate = std::panic::AssertUnwindSafe(|| {
            a.generate(&mut waiting, 4, 100, |_| std::panic::resume_unwind(Box::new(())))
        });
        assert!(std::panic::catch_unwind(generate).is_err());
        assert_eq!((a.stats().tx_packets, a.stats().tx_bytes, completed(&a)), (1, 60, 3));
        a.recv(&mut waiting).unwrap();
        assert_eq!((a.stats().tx_packets, a.stats().tx_bytes, a.umem().census().held), (4, 240, 0));
    }
}

/// A generator that panics frees the frame that it fills and those behind it, whether others wait or not.
#[test]
fn a_generator_that_panics_sends_nothing_that_it_has_not_filled() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        for waits in [false, true] {
            let mut waiting = Burst::with_capacity(8);
            if waits {
                waiting.append(&mut compose(&mut a, &[numbered(0, 60)]), 1);
            }
            let mut n = u16::from(waits);
            let generate = std::panic::AssertUnwindSafe(|| {
                a.generate(&mut waiting, 4, 60, |data| {
                    data.copy_from_slice(&numbered(n, 60));
                    if n == 2 {
                        std::panic::resume_unwind(Box::new(()));
                    }
                    n += 1;
                })
            });
            assert!(std::panic::catch_unwind(generate).is_err());
            assert_eq!(waiting.len(), if waits { 2 } else { 0 });
            a.generate(&mut waiting, 0, 60, |_| unreachable!("none is wanted")).unwrap();
            a.flush().unwrap();
            let came = receive(&mut b, 2, is_ours);
            assert!(came.iter().zip(0..).all(|(frame, n)| frame.data() == numbered(n, 60)));
            assert_eq!((waiting.len(), a.umem().census().held), (0, 0));
        }
    }
}

/// Has the kernel send what is in the TX ring to the other end, and waits until it is done with `n` frames,
/// which nobody takes back.
fn complete(port: &mut XdpPort, n: u64, other: &mut XdpPort, received: usize) {
    // Not by `flush`, which takes back what has come by then.
    while completed(port) < n {
        let _more_than_once = port.kernel.kick(port.socket.as_fd());
    }
    assert_eq!(receive(other, received, is_ours).len(), received);
}

/// Generates four frames of `len` bytes; where they lie.
fn generate(port: &mut XdpPort, len: usize) -> Vec<*const u8> {
    let (mut at, mut waiting) = (Vec::new(), Burst::with_capacity(8));
    let fill = |data: &mut [u8]| {
        data.copy_from_slice(&numbered(at.len() as u16, len));
        at.push(data.as_ptr());
    };
    assert_eq!(port.generate(&mut waiting, 4, len, fill).unwrap(), 4);
    at
}

/// Chunks that come back are filled again at once, and what was sent in them counts with its own length.
#[test]
fn frames_are_generated_in_the_chunks_of_those_that_were_sent() {
    for (_veth, mut a, mut b) in pairs(|_| {}) {
        let first = generate(&mut a, 60);
        complete(&mut a, 4, &mut b, 4);
        assert_eq!(generate(&mut a, 100), first);
        let stats = a.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes, stats.tx_in_flight), (4, 240, 4));
        complete(&mut a, 4, &mut b, 4);
        // One that the kernel should not have is a stray, and its owner's as before.
        let own = compose(&mut a, &[numbered(9, 60)]);
        let stolen = own[0].arena_offset() as u64;
        let mut places = a.tx.ring_for_tests().reserve(1);
        assert!(places.push(Desc { addr: stolen, len: 60, options: DescOptions::empty() }));
        drop(places);
        complete(&mut a, 5, &mut b, 1);
        let again = generate(&mut a, 60);
        assert_eq!(again, first, "the stray comes last");
        assert_eq!((kernel_counter(&a, "tx_strays"), completed(&a)), (0, 1));
        complete(&mut a, 5, &mut b, 4);
        let again = generate(&mut a, 60);
        assert_eq!((kernel_counter(&a, "tx_strays"), &again[..3]), (1, &first[..3]));
        assert_eq!(own[0].data(), numbered(9, 60));
        complete(&mut a, 4, &mut b, 4);
        a.flush().unwrap();
        let stats = a.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes), (16, 12 * 60 + 400));
        assert!(stats.frames.unwrap().adds_up() && stats.frames.unwrap().held == 1, "{stats:?}");
    }
}

/// What is missing in the fill ring comes before what is to be sent: chunks that were sent go there.
#[test]
fn chunks_that_were_sent_are_received_into_where_there_are_no_others() {
    for (_veth, mut a, mut b) in pairs(|options| options.umem.pool.chunks = 2 * POSTED) {
        let mut held = Burst::with_capacity(2 * POSTED as usize);
        generate(&mut a, 60);
        complete(&mut a, 4, &mut b, 4);
        a.umem.alloc(&mut held, POSTED as usize);
        assert_eq!((held.len(), a.umem.census().free), (POSTED as usize - 4, 0));
        for n in 0..POSTED as u16 {
            let mut burst = compose(&mut b, &[numbered(n, 60)]);
            assert_eq!(b.send(&mut burst).unwrap(), 1);
            b.flush().unwrap();
        }
        assert_eq!(a.rx.take(&mut held), POSTED as usize);
        assert!(a.umem.is_owing());
        let mut waiting = Burst::with_capacity(8);
        let made = a.generate(&mut waiting, 4, 60, |_| unreachable!("there is nothing to spare"));
        assert_eq!((made.unwrap(), a.umem.census().free), (0, 4));
        a.flush().unwrap();
        assert_eq!(kernel_counter(&a, "rx_posted"), 4);
        held.clear();
        assert_eq!(generate(&mut a, 60).len(), 4);
    }
}

/// The kernel shows after each call how far it has come: by its budget, which was 32 before it could be set.
#[test]
fn a_call_takes_as_many_frames_as_its_budget_and_shows_it() {
    for (_veth, mut a, mut b) in pairs(|options| options.umem.pool.rx_reserve = 256) {
        let frames: Vec<_> = (0..200).map(|n| numbered(n, 60)).collect();
        let mut burst = compose(&mut a, &frames);
        assert_eq!(a.send(&mut burst).unwrap(), 200);
        let before = a.tx.ring_for_tests().consumed();
        let _budget_is_spent = a.kernel.kick(a.socket.as_fd());
        let taken = a.tx.ring_for_tests().consumed().wrapping_sub(before);
        assert!([32, 128].contains(&taken), "{taken}");
        let seen = receive(&mut b, taken as usize, is_ours);
        assert!(seen.iter().zip(&frames).all(|(frame, sent)| frame.data() == sent));
        assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0, "the others are not sent");
    }
}
