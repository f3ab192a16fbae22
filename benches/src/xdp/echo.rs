//! The same UDP echo on backends `socket`, `io_uring` and AF_XDP: the most datagrams a second of which
//! none is lost.
//!
//! Datagrams are made on core 0. The server spins on core 1, which is also where the kernel takes them to
//! the AF_XDP socket, or through its stack to the UDP socket. Answers are counted at the far end.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

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

use super::over_wire::{self, Over};
use super::rates::{CORE, SOURCE_CORE};
use super::rig::{Place, Rig};
use crate::cable::Receiver;
use crate::generator::{Generator, Requests, Route};
use crate::open_loop::{self, Highest, Point, Search};

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
pub(super) const PORT: u16 = 7;
pub(crate) const PAYLOAD: usize = 64;

/// Datagrams a second at which all are compared.
pub(crate) const COMMON_RATE: f64 = 20_000.0;
/// The most that is tried.
const CEILING: f64 = 4e6;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Of each run at one rate.
    pub(crate) duration: Duration,
    /// Around this rate load is swept, and nothing else is measured.
    pub(crate) sweep: Option<f64>,
    /// Where the server is on another machine.
    pub(crate) over: Option<Over>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The highest rates in datagrams a second, where there are any.
    Highest {
        without_loss: Option<Highest>,
        with_some_loss: Option<Highest>,
    },
    Sweep(Vec<Point>),
}

pub(crate) fn measure(name: &str, job: &Job) -> Result<Outcome> {
    if let Some(over) = &job.over {
        return over_wire::measure(name, over, job);
    }
    let rig = Rig::enter()?;
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
            offer(&mut source(&rig)?, job)
        });
        stop.store(true, Ordering::Relaxed);
        server.join().map_err(|_| anyhow!("the server panicked"))??;
        outcome
    })
}

/// A socket whose queue holds what a ring of AF_XDP does: in the kernel a datagram takes the page in which it
/// arrived.
fn deep(address: SocketAddr) -> UdpOptions {
    let mut options = UdpOptions::new(address);
    options.recv_buffer = Some(4 << 20);
    options
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
            echo(deep(address).adopt(socket)?, ready, stop)
        }
        IO_URING => {
            let socket = UdpSocket::bind(address)?;
            echo(UringSocket::adopt(socket, &deep(address), &UringOptions::new())?, ready, stop)
        }
        AF_XDP => {
            let mut options = XdpOptions::new(&*place.interface);
            let map = XskMap::from_fd(place.map.as_fd().try_clone_to_owned()?)?;
            options.receive = Receive::Map(Arc::new(map));
            options.mode = Want::Require(CopyMode::Copy);
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

pub(super) fn echo(mut port: impl DatagramIo, ready: &AtomicBool, stop: &AtomicBool) -> Result<()> {
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

/// Datagrams from the far end, and their echoes.
fn source(rig: &Rig) -> Result<Generator> {
    let route =
        Route { macs: [rig.far.mac, rig.near.mac], from: THERE, to: SocketAddrV4::new(HERE, PORT) };
    let mut requests = Requests::new(route).answered(0, [0; 8], [[0; 8]; 2]);
    let datagram = requests.template(&[0; PAYLOAD])?;
    requests.push(datagram);
    Generator::open(&rig.far.name, &requests)
}

pub(super) fn offer(source: &mut dyn open_loop::Source, job: &Job) -> Result<Outcome> {
    if let Some(highest) = job.sweep {
        let points = open_loop::sweep(source, COMMON_RATE, highest, job.duration)?;
        return Ok(Outcome::Sweep(points));
    }
    let mut highest = |allowed_loss| {
        let (from, ceiling) = (COMMON_RATE, CEILING);
        Search { from, ceiling, duration: job.duration, allowed_loss }.highest(source)
    };
    Ok(Outcome::Highest { without_loss: highest(0.0)?, with_some_loss: highest(0.005)? })
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("cannot run ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}
