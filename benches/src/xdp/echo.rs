//! The same UDP echo on backends `socket`, `io_uring` and AF_XDP: the most datagrams a second of which
//! none is lost.
//!
//! Datagrams are sent from core 0. The server spins on core 1, which is also where the kernel takes them to
//! the AF_XDP socket, or through its stack to the UDP socket. Answers are counted at the far end, in the
//! driver.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bypass_core::backend::packet::PacketOptions;
use bypass_core::backend::socket::UdpOptions;
use bypass_core::udp::neighbours::Table;
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::worker::pin_to;
use bypass_core::{Burst, Datagram as _, DatagramIo};
#[cfg(feature = "dpdk")]
use bypass_dpdk::{EalOptions, Mempool, MempoolOptions, Port, PortOptions, Vdev};
use bypass_xdp::program::XskMap;
use bypass_xdp::{CopyMode, Receive, Want, XdpOptions};
use io_uring_ext::packet::{UringOptions, UringSocket};
use serde::{Deserialize, Serialize};

use super::rates::{CORE, SOURCE_CORE};
use super::rig::{Place, Rig};
use super::source::Sender;
use crate::cable::Receiver;
use crate::open_loop::{self, Point, Search, Stretch};

pub(crate) const AF_XDP: &str = "AF_XDP";
pub(crate) const SOCKET: &str = "socket";
pub(crate) const IO_URING: &str = "io_uring";
pub(crate) const PACKET: &str = "packet";
/// DPDK's drivers for interfaces of the kernel's.
#[cfg(feature = "dpdk")]
pub(crate) const DPDK_AF_PACKET: &str = "net_af_packet";
#[cfg(feature = "dpdk")]
pub(crate) const DPDK_AF_XDP: &str = "net_af_xdp";

const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PORT: u16 = 7;
const PEER_PORT: u16 = 20_000;
pub(crate) const PAYLOAD: usize = 64;
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;

/// Datagrams that arrive together.
const BATCH: u32 = 64;
/// Datagrams a second at which all are compared.
pub(crate) const COMMON_RATE: f64 = 20_000.0;
/// The most that is tried.
const CEILING: f64 = 4e6;
/// How long answers may take at the end of a run.
const SETTLING: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Of each run at one rate.
    pub(crate) duration: Duration,
    /// Around this rate load is swept, and nothing else is measured.
    pub(crate) sweep: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The highest rates in datagrams a second, where there are any.
    Highest {
        without_loss: Option<f64>,
        with_some_loss: Option<f64>,
    },
    Sweep(Vec<Point>),
}

pub(crate) fn measure(name: &str, job: Job) -> Result<Outcome> {
    let rig = Rig::enter()?;
    let _sink = rig.sink()?;
    let place = rig.near()?;
    let _receivers =
        [Receiver::pin(&rig.near.name, CORE)?, Receiver::pin(&rig.far.name, SOURCE_CORE)?];
    ip(&format!("addr add {HERE}/24 dev {}", place.interface))?;
    let to = format!("{THERE} lladdr {} dev {}", rig.far.mac, place.interface);
    ip(&format!("neigh replace {to} nud permanent"))?;
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin_to(CORE)?;
            serve(name, &rig, &place, &ready, &stop)
        });
        let outcome = pin_to(SOURCE_CORE).map_err(Into::into).and_then(|()| {
            while !ready.load(Ordering::Acquire) {
                ensure!(!server.is_finished(), "the server did not start");
                thread::yield_now();
            }
            // To the AF_XDP socket; or else up the kernel's stack.
            let _everything =
                if name == AF_XDP { Some(place.redirect.attach(place.index)?) } else { None };
            let sender = Sender::of(&rig, &datagram(&place.frame))?;
            Source { rig: &rig, sender }.measure(job)
        });
        stop.store(true, Ordering::Relaxed);
        server.join().map_err(|_| anyhow!("the server panicked"))??;
        outcome
    })
}

fn serve(
    name: &str,
    rig: &Rig,
    place: &Place,
    ready: &AtomicBool,
    stop: &AtomicBool,
) -> Result<()> {
    let address = SocketAddr::from((HERE, PORT));
    match name {
        SOCKET => {
            let socket = UdpSocket::bind(address)?;
            echo(UdpOptions::new(address).adopt(socket)?, ready, stop)
        }
        IO_URING => {
            let socket = UdpSocket::bind(address)?;
            let options = UdpOptions::new(address);
            echo(UringSocket::adopt(socket, &options, &UringOptions::new())?, ready, stop)
        }
        AF_XDP => {
            let mut options = XdpOptions::new(&*place.interface);
            let map = XskMap::from_fd(place.map.as_fd().try_clone_to_owned()?)?;
            options.receive = Receive::Map(Arc::new(map));
            options.copy = Want::Require(CopyMode::Copy);
            echo(UdpOverL2::new(options.open()?, config(rig)?)?, ready, stop)
        }
        PACKET => {
            // The kernel receives the datagrams too, and is to say nothing about them.
            let _kernels = UdpSocket::bind(address)?;
            let port = PacketOptions::new(&*place.interface).open()?;
            echo(UdpOverL2::new(port, config(rig)?)?, ready, stop)
        }
        #[cfg(feature = "dpdk")]
        DPDK_AF_PACKET | DPDK_AF_XDP => {
            let _kernels = UdpSocket::bind(address)?;
            let eal = EalOptions::new().unpinned().memory_limit(256).start()?;
            let _lcore = eal.register_thread()?;
            let packed = name == DPDK_AF_XDP;
            let pool = MempoolOptions { packed, ..MempoolOptions::new(16_383) };
            let pool = Mempool::new(&eal, &pool)?;
            let arguments = match name {
                DPDK_AF_XDP => format!("iface={}", place.interface),
                _ => format!("iface={},framecnt=4096,blocksz=4096,qdisc_bypass=1", place.interface),
            };
            let device = format!("{name}0");
            let _device = Vdev::plug(&eal, &device, &arguments)?;
            let port = Port::open(&eal, &device)?.start(&PortOptions::new(&pool));
            let port = port.map_err(bypass_core::Error::from)?.queue_pair(0)?;
            echo(UdpOverL2::new(port, config(rig)?)?, ready, stop)
        }
        _ => bail!("there is no backend `{name}`"),
    }
}

fn config(rig: &Rig) -> Result<Config<Table>> {
    Ok(Config::new(rig.near.mac, PORT)
        .address(format!("{HERE}/24").parse()?)
        .neighbours(Table::new().with(THERE.into(), rig.far.mac)))
}

fn echo(mut port: impl DatagramIo, ready: &AtomicBool, stop: &AtomicBool) -> Result<()> {
    let mut burst = Burst::with_capacity(64);
    ready.store(true, Ordering::Release);
    while !stop.load(Ordering::Relaxed) {
        // What was refused is still in front.
        let refused = burst.len();
        port.recv(&mut burst)?;
        burst[refused..].iter_mut().for_each(|datagram| datagram.reply());
        if !burst.is_empty() {
            port.send(&mut burst)?;
        }
        port.flush()?;
    }
    Ok(())
}

struct Source<'a> {
    rig: &'a Rig,
    sender: Sender,
}

impl open_loop::Source for Source<'_> {
    /// In batches. When answers come is not seen here, so there is no latency.
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let before = self.rig.delivered()?;
        let apart = Duration::from_secs_f64(f64::from(BATCH) / rate);
        let (begin, mut stretch) = (Instant::now(), Stretch::new()?);
        let mut due = begin;
        while begin.elapsed() < duration {
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            stretch.sent += self.sender.send(BATCH as usize)? as u64;
            due += apart;
        }
        stretch.seconds = begin.elapsed().as_secs_f64();
        stretch.answered = self.answers(before, stretch.sent)?;
        Ok(stretch)
    }
}

impl Source<'_> {
    fn measure(&mut self, job: Job) -> Result<Outcome> {
        if let Some(highest) = job.sweep {
            let points = open_loop::sweep(self, COMMON_RATE, highest, job.duration)?;
            return Ok(Outcome::Sweep(points));
        }
        let mut highest = |allowed_loss| {
            let (from, ceiling) = (COMMON_RATE, CEILING);
            Search { from, ceiling, duration: job.duration, allowed_loss }.highest(self)
        };
        Ok(Outcome::Highest { without_loss: highest(0.0)?, with_some_loss: highest(0.005)? })
    }

    /// Waits until all have come, or none comes any more.
    fn answers(&self, before: u64, sent: u64) -> Result<u64> {
        let (mut answered, mut since) = (0, Instant::now());
        while answered < sent && since.elapsed() < SETTLING {
            let now = self.rig.delivered()? - before;
            if now > answered {
                (answered, since) = (now, Instant::now());
            }
        }
        Ok(answered)
    }
}

/// A datagram from the far end, in a frame whose addresses are those of `outgoing`, swapped.
fn datagram(outgoing: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + IP + UDP + PAYLOAD];
    frame[..6].copy_from_slice(&outgoing[6..12]);
    frame[6..12].copy_from_slice(&outgoing[..6]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[ETHERNET..ETHERNET + IP];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IP + UDP + PAYLOAD) as u16).to_be_bytes());
    (ip[8], ip[9]) = (64, 17);
    ip[12..16].copy_from_slice(&THERE.octets());
    ip[16..20].copy_from_slice(&HERE.octets());
    let sum: u32 =
        ip.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // The checksum of UDP may be left out over IPv4.
    let udp = &mut frame[ETHERNET + IP..][..UDP];
    udp[..2].copy_from_slice(&PEER_PORT.to_be_bytes());
    udp[2..4].copy_from_slice(&PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&((UDP + PAYLOAD) as u16).to_be_bytes());
    frame
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("cannot run ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}
