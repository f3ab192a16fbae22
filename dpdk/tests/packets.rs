//! Packets: room, chains, sharing.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bypass_core::{Buffer, Burst, Frame, RxMeta, TxChecksum, TxMeta};
use bypass_dpdk::{
    ExternalBuffer, Mbuf, Mempool, MempoolOptions, PortOptions, SharedMbuf, TxOffload,
};
use common::*;
use proptest::prelude::*;

const HEADER: &[u8] = b"to..tofromfr\x88\xb5";

#[derive(Clone, Debug)]
enum Step {
    Prepend(usize),
    Append(usize),
    TrimFront(usize),
    SetLen(usize),
    Write(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..200usize).prop_map(Step::Prepend),
        (0..2500usize).prop_map(Step::Append),
        (0..300usize).prop_map(Step::TrimFront),
        (0..2400usize).prop_map(Step::SetLen),
        any::<u8>().prop_map(Step::Write),
    ]
}

proptest! {
    /// Against a plain array with a window: same answers, same bytes, and the rooms add up.
    #[test]
    fn room_is_where_the_reference_says(steps in proptest::collection::vec(step(), 1..40)) {
        let pool = pool(63);
        let mut packet = pool.alloc_one().unwrap();
        let total = packet.headroom() + packet.tailroom();
        packet.append(total - packet.headroom()).unwrap().fill(0);
        packet.set_len(0).unwrap();
        let (mut memory, mut from, mut to) = (vec![0u8; total], packet.headroom(), packet.headroom());
        let head = packet.headroom();
        packet.prepend(head).unwrap().fill(0);
        packet.trim_front(head).unwrap();
        for step in steps {
            match step {
                Step::Prepend(n) => {
                    prop_assert_eq!(packet.prepend(n).is_ok(), n <= from);
                    from -= if n <= from { n } else { 0 };
                }
                Step::Append(n) => {
                    prop_assert_eq!(packet.append(n).is_ok(), n <= total - to);
                    to += if n <= total - to { n } else { 0 };
                }
                Step::TrimFront(n) => {
                    prop_assert_eq!(packet.trim_front(n).is_ok(), n <= to - from);
                    from += if n <= to - from { n } else { 0 };
                }
                Step::SetLen(n) => {
                    prop_assert_eq!(packet.set_len(n).is_ok(), n <= total - from);
                    to = if n <= total - from { from + n } else { to };
                }
                Step::Write(byte) => {
                    packet.data_mut().fill(byte);
                    memory[from..to].fill(byte);
                }
            }
            prop_assert_eq!(packet.data(), &memory[from..to]);
            prop_assert_eq!((packet.headroom(), packet.tailroom()), (from, total - to));
            prop_assert_eq!(packet.total_len(), to - from);
        }
    }
}

fn three(pool: &Mempool) -> Mbuf {
    let mut chain = packet(pool, b"one");
    chain.chain(packet(pool, b"two+")).unwrap();
    chain.chain(packet(pool, b"three")).unwrap();
    chain
}

#[test]
fn chains_are_one_packet() {
    let pool = pool(63);
    let mut chain = three(&pool);
    assert_eq!((chain.segment_count(), chain.total_len()), (3, 12));
    assert_eq!(bytes(&chain), b"onetwo+three");
    for segment in chain.segments_mut() {
        segment.make_ascii_uppercase();
    }
    chain.append(1).unwrap()[0] = b'!';
    assert_eq!(bytes(&chain), b"ONE!TWO+THREE");
    assert_eq!(pool.in_use(), 3);
    // A chain behind a chain, cut again at every joint.
    let mut longer = packet(&pool, b"zero");
    longer.chain(chain).unwrap();
    assert_eq!((longer.segment_count(), longer.total_len()), (4, 17));
    let mut rest = longer.split_next().unwrap();
    assert_eq!((longer.segment_count(), longer.total_len()), (1, 4));
    assert_eq!((rest.segment_count(), rest.total_len()), (3, 13));
    let last = rest.split_next().unwrap().split_next().unwrap();
    assert_eq!((bytes(&rest).as_slice(), bytes(&last).as_slice()), (&b"ONE!"[..], &b"THREE"[..]));
    assert!(longer.split_next().is_none());
    drop((longer, rest, last));
    assert_eq!(pool.in_use(), 0, "the middle went with the rest of its chain");
}

#[test]
fn a_chain_has_no_more_segments_than_it_can_count() {
    let options = MempoolOptions { data_room: 64, ..MempoolOptions::new(65_600) };
    let pool = Mempool::new(&eal(), &options).unwrap();
    // Blocks of 257 segments: 255 of them are 65 535.
    let block = || {
        let mut block = packet(&pool, b"x");
        (1..257).for_each(|_| block.chain(packet(&pool, b"x")).unwrap());
        block
    };
    let mut chain = block();
    for _ in 1..255 {
        chain.chain(block()).unwrap();
    }
    assert_eq!(chain.segment_count(), 65_535);
    let refused = chain.chain(packet(&pool, b"more")).unwrap_err();
    assert_eq!((refused.tail.data(), chain.segment_count()), (&b"more"[..], 65_535));
    drop((chain, refused));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_holder_of_shared_data_sees_it_unchanged_and_cannot_change_it() {
    let pool = pool(63);
    let shared = three(&pool).share();
    let clone = shared.try_clone(&pool).unwrap();
    assert_eq!(pool.in_use(), 6, "a clone has an mbuf for each segment");
    assert!(shared.segments().eq(clone.segments()));
    assert!(
        shared.segments().zip(clone.segments()).all(|(a, b)| a.as_ptr() == b.as_ptr()),
        "the same memory"
    );
    // As long as there is another holder, nobody gets to write.
    let shared = shared.try_into_mbuf().unwrap_err();
    let clone = clone.try_into_mbuf().unwrap_err();
    let copy = clone.copy(&pool).unwrap();
    assert_eq!(bytes(&copy), b"onetwo+three");
    let of_clone = clone.try_clone(&pool).unwrap();
    drop(shared);
    assert_eq!(clone.segments().collect::<Vec<_>>().concat(), b"onetwo+three");
    drop(clone);
    let of_clone = of_clone.try_into_mbuf().unwrap_err();
    assert_eq!(of_clone.segments().collect::<Vec<_>>().concat(), b"onetwo+three");
    drop((of_clone, copy));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn the_last_holder_of_a_packet_gets_it_back() {
    let pool = pool(63);
    let shared = packet(&pool, b"mine").share();
    let clone = shared.try_clone(&pool).unwrap();
    let shared = shared.try_into_mbuf().unwrap_err();
    drop(clone);
    let mut mine = shared.try_into_mbuf().unwrap();
    mine.data_mut().fill(b'x');
    assert_eq!(mine.data(), b"xxxx");
}

#[test]
fn headers_of_their_own_go_before_data_that_is_shared() {
    let pool = pool(63);
    let data = packet(&pool, b"payload").share();
    let fan_out: Vec<SharedMbuf> = (0..3u8)
        .map(|i| {
            let payload = data.try_clone(&pool).unwrap();
            payload.with_header(packet(&pool, &[b'0' + i])).unwrap()
        })
        .collect();
    drop(data);
    for (i, packet) in fan_out.iter().enumerate() {
        assert_eq!(
            packet.segments().collect::<Vec<_>>().concat(),
            format!("{i}payload").as_bytes()
        );
        assert_eq!(packet.total_len(), 8);
    }
    drop(fan_out);
    assert_eq!(pool.in_use(), 0);
}

/// Bytes that say when they are dropped.
struct Owner(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn memory_of_the_applications_is_dropped_once_after_the_last_packet() {
    let pool = pool(63);
    let drops = Arc::new(AtomicUsize::new(0));
    let dropped = || drops.load(Ordering::SeqCst);
    let buffer = ExternalBuffer::new(Owner(b"outside".to_vec(), Arc::clone(&drops)));
    let at = buffer.as_slice().as_ptr();
    let first = SharedMbuf::external(&pool, buffer).unwrap();
    assert!(first.is_external());
    assert_eq!(first.segments().next().unwrap().as_ptr(), at, "no copy was made");
    let second = first.try_clone(&pool).unwrap();
    let first = first.try_into_mbuf().unwrap_err();
    drop(first);
    assert_eq!(dropped(), 0, "another packet is there");
    let there = std::thread::spawn(move || {
        assert_eq!(second.segments().next().unwrap(), b"outside");
        drop(second);
    });
    there.join().unwrap();
    assert_eq!((dropped(), pool.in_use()), (1, 0));

    // What cannot be taken comes back, and is dropped where it should.
    let long = ExternalBuffer::new(Owner(vec![0; 65_536], Arc::clone(&drops)));
    let back = SharedMbuf::external(&pool, long).unwrap_err();
    assert_eq!((back.as_slice().len(), dropped()), (65_536, 1));
    drop(back);
    assert_eq!((dropped(), pool.in_use()), (2, 0));
}

/// Memory that is somewhere else, and less, each time that somebody asks.
struct Fickle(AtomicUsize, [Vec<u8>; 2]);

impl AsRef<[u8]> for Fickle {
    fn as_ref(&self) -> &[u8] {
        &self.1[self.0.fetch_add(1, Ordering::SeqCst).min(1)]
    }
}

#[test]
fn an_owner_is_asked_once_where_its_memory_is() {
    let pool = pool(63);
    let fickle = Fickle(AtomicUsize::new(0), [vec![7; 60_000], vec![1]]);
    let packet = SharedMbuf::external(&pool, ExternalBuffer::new(fickle)).unwrap();
    assert_eq!(packet.total_len(), 60_000);
    assert!(packet.segments().flatten().all(|&byte| byte == 7), "the memory of the other answer");
}

/// Panics when it is dropped.
struct Bomb(Vec<u8>);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as it should");
    }
}

#[test]
fn an_owner_that_panics_harms_nobody() {
    let pool = pool(63);
    drop(SharedMbuf::external(&pool, ExternalBuffer::new(Bomb(vec![0; 60]))).unwrap());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_is_cut_off_knows_nothing_of_an_earlier_packet() {
    let pool = pool(63);
    let mut head = packet(&pool, HEADER);
    let mut tail = packet(&pool, &udp(false, false));
    tail.offload(TxOffload { l4_checksum: true, vlan: Some(5), ..TxOffload::default() }).unwrap();
    head.chain(tail).unwrap();
    let rest = head.split_next().unwrap();
    assert_eq!(rest.offloads(), TxOffload::default());
    assert_eq!(bytes(&rest), udp(false, false));
}

#[test]
fn a_copy_has_no_more_segments_than_it_can_count() {
    let options = MempoolOptions { data_room: 40_000, ..MempoolOptions::new(7) };
    let large = Mempool::new(&eal(), &options).unwrap();
    let mut long = packet(&large, &vec![1; 40_000]);
    long.chain(packet(&large, &vec![2; 40_000])).unwrap();
    let tiny = MempoolOptions { data_room: 1, cache: 0, ..MempoolOptions::new(90_000) };
    let tiny = Mempool::new(&eal(), &tiny).unwrap();
    assert!(long.copy(&tiny).is_none(), "80 000 segments");
    assert_eq!(tiny.in_use(), 0);
    // One without data is one, too.
    let empty = large.alloc_one().unwrap();
    assert_eq!(empty.copy(&large).unwrap().total_len(), 0);
}

#[test]
fn mbufs_of_external_packets_are_plain_ones_again() {
    let pool = pool(3);
    for _ in 0..10 {
        let outside = ExternalBuffer::new(b"outside".to_vec());
        drop(SharedMbuf::external(&pool, outside).unwrap());
        let shared = packet(&pool, b"inside").share();
        drop((shared.try_clone(&pool).unwrap(), shared));
        let all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc_one()).collect();
        assert_eq!(all.len(), 3);
        for mut packet in all {
            assert_eq!((packet.headroom(), packet.tailroom()), (128, 2048));
            packet.append(2048).unwrap().fill(1);
        }
    }
}

#[test]
fn a_clone_that_comes_through_a_ring_is_a_copy() {
    let (sender, receiver) = (pool(63), pool(63));
    let options = PortOptions::new(&receiver);
    let (_device, port) = started("net_ring", "", &options).unwrap();
    let (mut rx, mut tx) = (port.rx_queue(0).unwrap(), port.tx_queue(0).unwrap());
    let original = packet(&sender, &[HEADER, b" shared"].concat()).share();
    let mut clones = vec![original.try_clone(&sender).unwrap()];
    assert_eq!(tx.send_shared(&mut clones).unwrap(), 1);
    assert!(clones.is_empty());
    let mut got = Burst::with_capacity(4);
    assert_eq!(rx.recv(&mut got), 1);
    let there = original.segments().next().unwrap().as_ptr();
    assert_ne!(got[0].data().as_ptr(), there);
    got[0].data_mut().fill(0);
    assert_eq!(original.segments().next().unwrap(), [HEADER, b" shared"].concat());
    got.clear();

    // Without an mbuf to copy to, the packet is lost, and counted.
    let hoard: Vec<Mbuf> = std::iter::from_fn(|| receiver.alloc_one()).collect();
    let mut clones = vec![original.try_clone(&sender).unwrap()];
    tx.send_shared(&mut clones).unwrap();
    assert_eq!((rx.recv(&mut got), rx.lost()), (0, 1));
    drop((hoard, original));
    assert_eq!((sender.in_use(), receiver.in_use()), (0, 0));

    // One that nobody else holds any more is handed out as it is.
    let mut alone = vec![packet(&sender, HEADER).share()];
    let at = alone[0].segments().next().unwrap().as_ptr();
    tx.send_shared(&mut alone).unwrap();
    rx.recv(&mut got);
    assert_eq!(got[0].data().as_ptr(), at);
}

#[test]
fn the_private_area_is_as_large_as_asked_and_the_packets_own() {
    let options = MempoolOptions { private_size: 24, ..MempoolOptions::new(63) };
    let pool = Mempool::new(&eal(), &options).unwrap();
    let (mut one, mut other) = (packet(&pool, b"1"), packet(&pool, b"2"));
    one.private_mut().fill(7);
    other.private_mut().fill(8);
    one.prepend(128).unwrap().fill(0xff);
    assert_eq!((one.private(), other.private()), (&[7; 24][..], &[8; 24][..]));
    // A clone's data lies behind the private area of the packet that it was made of.
    let shared = one.share();
    let clone = shared.try_clone(&pool).unwrap();
    let of_clone = clone.try_clone(&pool).unwrap();
    drop((shared, clone));
    assert_eq!(of_clone.total_len(), 129);
}

#[test]
fn no_more_than_half_of_the_count_may_hold_a_segment() {
    let options = MempoolOptions { data_room: 0, rx_reserve: 0, ..MempoolOptions::new(40_000) };
    let (pool, holders) = (pool(7), Mempool::new(&eal(), &options).unwrap());
    for external in [false, true] {
        let shared = match external {
            true => SharedMbuf::external(&pool, ExternalBuffer::new(vec![1u8; 60])).unwrap(),
            false => packet(&pool, b"popular").share(),
        };
        let clones: Vec<_> = std::iter::from_fn(|| shared.try_clone(&holders)).collect();
        assert_eq!(clones.len(), 32_767, "refused long before the count of 16 bits turns over");
        assert!(clones[7].try_clone(&holders).is_none(), "whichever is cloned");
        assert!(holders.available() > 0);
        drop(clones);
        assert!(shared.try_clone(&holders).is_some());
    }
    assert_eq!((pool.in_use(), holders.in_use()), (0, 0));
}

fn udp(v6: bool, tagged: bool) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if tagged {
        packet.extend([0x81, 0, 0, 5]);
    }
    match v6 {
        false => {
            packet.extend([0x08, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
            packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        }
        true => {
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 12, 17, 64]);
            packet.extend([0xfe; 32]);
        }
    }
    packet.extend([0, 1, 0, 2, 0, 12, 0, 0, b'd', b'a', b't', b'a']);
    packet
}

#[test]
fn offloads_are_read_back_and_need_the_headers_they_are_about() {
    let pool = pool(63);
    for (v6, tagged) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut packet = packet(&pool, &udp(v6, tagged));
        let l4 = TxOffload { l4_checksum: true, ..TxOffload::default() };
        packet.offload(l4).unwrap();
        assert_eq!(packet.offloads(), l4);
        let start = 14 + if tagged { 4 } else { 0 } + if v6 { 40 } else { 20 };
        // The same by the family's words.
        packet.offload(TxOffload::default()).unwrap();
        let mut meta = TxMeta::default();
        meta.checksum = Some(TxChecksum { start, offset: 6 });
        packet.set_tx_meta(meta).unwrap();
        assert_eq!(packet.offloads(), l4);
        meta.checksum = Some(TxChecksum { start, offset: 16 });
        packet.set_tx_meta(meta).unwrap_err();
        assert_eq!(packet.offloads(), l4, "what is refused changes nothing");
        let ip = TxOffload { ip_checksum: true, vlan: Some(7), ..TxOffload::default() };
        assert_eq!(packet.offload(ip).is_ok(), !v6, "IPv6 headers have no checksum");
    }
    let all = TxOffload { l4_checksum: true, ..TxOffload::default() };
    for broken in [&b""[..], HEADER, &udp(false, false)[..33], &udp(false, false)[..41]] {
        let mut packet = packet(&pool, broken);
        packet.offload(all).unwrap_err();
        assert_eq!(packet.offloads(), TxOffload::default());
    }
    let mut short_header = udp(false, false);
    short_header[14] = 0x44;
    packet(&pool, &short_header).offload(all).unwrap_err();
}

#[test]
fn fresh_packets_know_nothing_of_earlier_ones() {
    let pool = pool(1);
    let mut used = packet(&pool, &udp(false, false));
    used.offload(TxOffload { vlan: Some(3), l4_checksum: true, ..TxOffload::default() }).unwrap();
    drop(used);
    let fresh = pool.alloc_one().unwrap();
    assert_eq!((fresh.offloads(), fresh.rx_meta()), (TxOffload::default(), RxMeta::default()));
    assert_eq!((fresh.port(), fresh.mark(), fresh.total_len()), (None, None, 0));
    assert_eq!(fresh.segment_count(), 1);
}
