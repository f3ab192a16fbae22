//! The loops of ours: the same in this program and in the one that DPDK is linked into.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bypass_core::worker::pin_to;
use bypass_core::{Buffer as _, Burst, PacketIo};
use bypass_dpdk::{
    Eal, EalOptions, Level, Mbuf, Memory, Mempool, MempoolOptions, Port, PortOptions, RxQueue,
    Started, TxQueue, Vdev,
};
use serde::{Deserialize, Serialize};

/// Calls of the queue, one after the other.
#[allow(dead_code, reason = "the other program is told so")]
pub(crate) const DIRECT: &str = "direct calls";
/// The same by code that is generic over [`PacketIo`].
pub(crate) const PACKET_IO: &str = "PacketIo";

/// The core that contestants run on.
pub(crate) const CORE: usize = 1;
/// Bytes in a packet without its checksum, the fewest that Ethernet has.
pub(crate) const LEN: usize = 60;
/// Packets in memory, in a thread's cache, and in a ring from the begin.
pub(crate) const MBUFS: u32 = 4095;
pub(crate) const CACHE: u32 = 250;
pub(crate) const IN_RING: usize = 512;
/// Megabytes of ordinary memory.
pub(crate) const MEMORY: u32 = 256;
/// How long two ends may take to find each other.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns between two looks at the clock.
pub(crate) const TURNS: u32 = 4096;

/// What packets go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// Made up by `net_null`, and freed by it.
    Null,
    /// Round and round in a `net_ring`.
    Ring,
    /// Made, sent through shared memory to the other end in this process, received, read and freed.
    Memif,
    /// The same between `net_virtio_user` and `net_vhost`.
    Virtio,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) way: Way,
    pub(crate) burst: usize,
    /// Whether one byte of each packet is changed on its way.
    pub(crate) touch: bool,
    /// Whether memory is in huge pages.
    pub(crate) huge: bool,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) packets: u64,
    pub(crate) seconds: f64,
    /// What it took to start DPDK.
    pub(crate) start_up: f64,
}

pub(crate) fn measure(name: &str, job: Job) -> Result<Outcome> {
    pin_to(CORE)?;
    let begun = Instant::now();
    let eal = EalOptions::new()
        .cores([CORE])
        .memory(if job.huge { Memory::InMemory } else { Memory::Ordinary })
        .memory_limit(MEMORY)
        .log_level(Level::Emergency)
        .start()
        .context("cannot start DPDK")?;
    let start_up = begun.elapsed().as_secs_f64();
    let pool = MempoolOptions { cache: CACHE, rx_reserve: 0, ..MempoolOptions::new(MBUFS) };
    let pool = Mempool::new(&eal, &pool)?;
    let bench = Bench { eal, pool, job };
    let (packets, seconds) = match (job.way, name) {
        (Way::Null | Way::Ring, PACKET_IO) => {
            let port = bench.loop_port()?;
            bench.forward(Generic(port.queue_pair(0)?))?
        }
        (Way::Null | Way::Ring, _) => {
            let port = bench.loop_port()?;
            bench.forward(Direct(port.rx_queue(0)?, port.tx_queue(0)?))?
        }
        (Way::Memif | Way::Virtio, _) => bench.through()?,
    };
    ensure!(packets > 0, "{name} moved no packet");
    Ok(Outcome { packets, seconds, start_up })
}

struct Bench {
    eal: Eal,
    pool: Mempool,
    job: Job,
}

impl Bench {
    fn open(&self, name: &str, arguments: &str) -> Result<Port<Started>> {
        let _device = Vdev::plug(&self.eal, name, arguments)?;
        let port = Port::open(&self.eal, name)?.start(&PortOptions::new(&self.pool));
        Ok(port.map_err(bypass_core::Error::from)?)
    }

    /// A port that is its own other end.
    fn loop_port(&self) -> Result<Port<Started>> {
        if self.job.way == Way::Null {
            return self.open("net_null0", &format!("size={LEN}"));
        }
        let port = self.open("net_ring0", "")?;
        let mut queue = port.tx_queue(0)?;
        let mut packets = Burst::with_capacity(IN_RING);
        self.pool.alloc(&mut packets, IN_RING);
        packets.iter_mut().try_for_each(|packet| packet.fill(&[0; LEN]))?;
        while !packets.is_empty() {
            queue.send(&mut packets)?;
        }
        drop(queue);
        Ok(port)
    }

    fn forward(&self, mut queue: impl Forward) -> Result<(u64, f64)> {
        let mut packets = Burst::with_capacity(self.job.burst);
        self.window(|| queue.forward(&mut packets, &self.job))
    }

    /// Both ends of a way between processes, here in one thread by turns.
    fn through(&self) -> Result<(u64, f64)> {
        let folder = std::env::temp_dir().join(format!("bypass-bench-{}", std::process::id()));
        let socket = folder.display();
        let [serving, served] = match self.job.way {
            Way::Memif => ["server", "client"].map(|role| {
                let name = format!("net_memif{}", u8::from(role == "client"));
                (name, format!("role={role},socket={socket},socket-abstract=no"))
            }),
            _ => [
                ("net_vhost0".to_owned(), format!("iface={socket}")),
                ("net_virtio_user0".to_owned(), format!("path={socket}")),
            ],
        };
        let to = self.open(&serving.0, &serving.1)?;
        let from = self.open(&served.0, &served.1)?;
        let begun = Instant::now();
        while !(to.link()?.is_up && from.link()?.is_up) {
            ensure!(begun.elapsed() < PATIENCE, "the ends do not find each other");
            std::thread::yield_now();
        }
        let (mut from, mut to) = (from.queue_pair(0)?, to.queue_pair(0)?);
        let mut sending = Burst::with_capacity(self.job.burst);
        let mut received = Burst::with_capacity(self.job.burst);
        let (mut number, mut sum) = (0u64, 0u64);
        self.window(|| {
            let waiting = sending.len();
            from.alloc(&mut sending, self.job.burst);
            for packet in &mut sending[waiting..] {
                packet.set_len(LEN)?;
                if let Some(start) = packet.data_mut().first_chunk_mut() {
                    *start = number.to_ne_bytes();
                }
                number += 1;
            }
            from.send(&mut sending)?;
            let n = to.recv(&mut received)?;
            for packet in received.iter() {
                let (words, _) = packet.data().as_chunks();
                sum =
                    words.iter().fold(sum, |sum, &word| sum.wrapping_add(u64::from_ne_bytes(word)));
            }
            received.clear();
            Ok(n)
        })
        .inspect(|_| {
            std::hint::black_box(sum);
        })
    }

    /// Packets and seconds of a window, behind one that does not count.
    fn window(&self, mut turn: impl FnMut() -> Result<usize>) -> Result<(u64, f64)> {
        let mut until = |end: Instant| {
            let mut packets = 0;
            loop {
                for _ in 0..TURNS {
                    packets += turn()? as u64;
                }
                let now = Instant::now();
                if now >= end {
                    return Ok::<_, anyhow::Error>((packets, now));
                }
            }
        };
        let (_, begin) = until(Instant::now() + self.job.warm_up)?;
        let (packets, end) = until(begin + self.job.duration)?;
        Ok((packets, (end - begin).as_secs_f64()))
    }
}

/// Receives, touches, sends; returns how many were sent.
trait Forward {
    fn forward(&mut self, packets: &mut Burst<Mbuf>, job: &Job) -> Result<usize>;
}

struct Direct(RxQueue, TxQueue);

impl Forward for Direct {
    #[inline]
    fn forward(&mut self, packets: &mut Burst<Mbuf>, job: &Job) -> Result<usize> {
        if self.0.recv(packets) == 0 {
            return Ok(0);
        }
        if job.touch {
            packets.data_mut().for_each(change);
        }
        Ok(self.1.send(packets)?)
    }
}

struct Generic<P>(P);

impl<P: PacketIo<Frame = Mbuf>> Forward for Generic<P> {
    #[inline]
    fn forward(&mut self, packets: &mut Burst<Mbuf>, job: &Job) -> Result<usize> {
        if self.0.recv(packets)? == 0 {
            return Ok(0);
        }
        if job.touch {
            packets.data_mut().for_each(change);
        }
        let sent = self.0.send(packets)?;
        self.0.flush()?;
        Ok(sent)
    }
}

#[inline]
fn change(data: &mut [u8]) {
    if let Some(first) = data.first_mut() {
        *first = first.wrapping_add(1);
    }
}
