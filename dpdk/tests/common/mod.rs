//! One environment for all tests of a process, and pairs of queues on virtual devices.

#![allow(dead_code, reason = "not every test uses everything")]

pub(crate) mod huge_pages;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bypass_core::testing::rig::Namespace;
use bypass_core::{Buffer, Burst, Endpoint, PacketIo, Result};
use bypass_dpdk::{
    Eal, EalOptions, Level, Mbuf, Mempool, MempoolOptions, Port, PortOptions, QueuePair, Started,
    Vdev,
};

/// The environment: ordinary memory, no devices, no files that others could meet. It is started by a
/// thread of its own, which is gone then, so that no test has an lcore that the others have not.
pub(crate) fn eal() -> Eal {
    static EAL: LazyLock<Eal> = LazyLock::new(|| {
        // A `net_ring` that is made again under its name finds rings of the last, and says so each time.
        let options =
            EalOptions::new().memory_limit(2048).log_level_of("lib.ring", Level::Emergency);
        let start = move || options.start().unwrap();
        std::thread::spawn(start).join().unwrap()
    });
    EAL.clone()
}

/// One test at a time, for those that count what all share.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other device of this process has.
pub(crate) fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn pool(mbufs: u32) -> Mempool {
    Mempool::new(&eal(), &MempoolOptions::new(mbufs)).unwrap()
}

/// A device of its own, and its port, started.
pub(crate) fn started(
    driver: &str,
    arguments: &str,
    options: &PortOptions,
) -> Result<(Vdev, Port<Started>)> {
    let name = format!("{driver}{}", number());
    let device = Vdev::plug(&eal(), &name, arguments)?;
    let port = Port::open(&eal(), &name)?.start(options)?;
    Ok((device, port))
}

/// A tap in `namespace`, which the calling thread has entered; the kernel has 10.77.0.1 there.
pub(crate) fn tap(namespace: &Namespace, options: &PortOptions) -> (Vdev, Port<Started>) {
    let tap = started("net_tap", "iface=tap0", options).unwrap();
    namespace.ip("address add 10.77.0.1/24 dev tap0").unwrap();
    tap
}

/// Two ends of a cable: a `net_ring` with two queues, joined crosswise. Each of its queues is a ring, in
/// which its sending end's packets come to its receiving end. Each end has a pool of its own.
pub(crate) fn crossed(pools: &[Mempool; 2]) -> Result<(QueuePair, QueuePair)> {
    let options = PortOptions {
        pools: pools.to_vec(),
        rx_queues: 2,
        tx_queues: 2,
        ..PortOptions::new(&pools[0])
    };
    let (_device, port) = started("net_ring", "", &options)?;
    let a = QueuePair::new(port.rx_queue(0)?, port.tx_queue(1)?);
    let b = QueuePair::new(port.rx_queue(1)?, port.tx_queue(0)?);
    Ok((a, b))
}

/// A packet of these bytes.
pub(crate) fn packet(pool: &Mempool, bytes: &[u8]) -> Mbuf {
    let mut packet = pool.alloc_one().unwrap();
    packet.fill(bytes).unwrap();
    packet
}

/// A burst of these packets.
pub(crate) fn burst(packets: impl IntoIterator<Item = Mbuf>) -> Burst<Mbuf> {
    let mut burst = Burst::with_capacity(64);
    burst.fill_from(packets.into_iter());
    burst
}

/// All bytes of a packet.
pub(crate) fn bytes(packet: &Mbuf) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

/// Sends them all.
pub(crate) fn send_all(queue: &mut QueuePair, burst: &mut Burst<Mbuf>) {
    while !burst.is_empty() {
        queue.send(burst).unwrap();
    }
}

/// Sends until packets were refused three times, and checks at every step that those are neither sent nor lost
/// by the counters. Returns how many were taken.
pub(crate) fn refusals_count_nothing(queue: &mut QueuePair) -> u64 {
    let (before, mut burst) = (queue.stats(), Burst::with_capacity(32));
    let (mut taken, mut refusals) = (0, 0);
    while refusals < 3 {
        let room = burst.room();
        queue.alloc(&mut burst, room);
        burst.iter_mut().for_each(|packet| packet.fill(&[0xff; 60]).unwrap());
        assert!(!burst.is_empty(), "the pool is empty");
        taken += queue.send(&mut burst).unwrap() as u64;
        refusals += u32::from(!burst.is_empty());
        let now = queue.stats();
        assert_eq!(now.tx_packets - before.tx_packets, taken, "{now:?}");
        assert_eq!(now.drops, before.drops, "nothing was lost");
    }
    taken
}
