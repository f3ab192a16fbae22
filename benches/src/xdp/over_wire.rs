//! The UDP echo over a wire: servers on an interface of one machine, datagrams from another.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, bail};
use bypass_core::backend::socket::{UdpOptions, UdpSocket};
use bypass_core::worker::pin_to;
use bypass_io::Bind;
use bypass_io::any::{AnyDatagram, open_socket};
use bypass_io::prelude::*;
use bypass_io::xdp::XdpSocket;
use io_uring_ext::packet::UringSocket;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::echo::{self, PAYLOAD, PORT};
use crate::cable::{CLIENT_CORE, SERVER_CORE};
use crate::over_xdp::{Dialogue, OverXdp};
use crate::wire::{Ends, Remote, Served};

/// What [the servers at the other end](Ends) belong to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Over {
    pub(crate) scenario: String,
    pub(crate) ends: Ends,
}

/// Starts a server for a generator elsewhere.
pub(crate) fn start(name: &str, at: Ipv4Addr, _job: &Value) -> Result<Box<dyn Served>> {
    let address = SocketAddrV4::new(at, PORT);
    let (stop, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let thread = {
        let (name, stop, ready) = (name.to_owned(), Arc::clone(&stop), Arc::clone(&ready));
        thread::spawn(move || {
            pin_to(SERVER_CORE)?;
            serve(&name, address, &ready, &stop)
        })
    };
    let mut server = Server { address, stop, thread: Some(thread) };
    while !ready.load(Ordering::Acquire) {
        if server.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            server.end()?;
            bail!("{name} did not start");
        }
        thread::yield_now();
    }
    Ok(Box::new(server))
}

struct Server {
    address: SocketAddrV4,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).map_err(|_| anyhow!("the server panicked"))?
    }
}

impl Served for Server {
    fn address(&self) -> SocketAddrV4 {
        self.address
    }

    fn counters(&mut self) -> Result<Value> {
        bail!("the echo is not counted here")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

fn serve(name: &str, at: SocketAddrV4, ready: &AtomicBool, stop: &AtomicBool) -> Result<()> {
    fn on<S: Bind>(at: SocketAddrV4, ready: &AtomicBool, stop: &AtomicBool) -> Result<()> {
        let mut options = UdpOptions::new(SocketAddr::from(at));
        options.recv_buffer = Some(4 << 20);
        echo::echo(S::bind(&options)?, ready, stop)
    }
    match name {
        echo::SOCKET => on::<UdpSocket>(at, ready, stop),
        echo::IO_URING => on::<UringSocket>(at, ready, stop),
        echo::AF_XDP => on::<XdpSocket>(at, ready, stop),
        echo::PACKET => echo::echo(open_socket(&format!("udp+packet://{at}"))?, ready, stop),
        #[cfg(feature = "dpdk")]
        echo::DPDK_AF_PACKET => on::<bypass_io::dpdk::DpdkSocket>(at, ready, stop),
        _ => bail!("`{name}` is measured on one machine only: leave --nic out"),
    }
}

/// Datagrams with a number each.
struct Echoes;

impl Dialogue for Echoes {
    fn ask(&mut self, number: u16, datagram: &mut AnyDatagram) -> Result<()> {
        let mut payload = [0; PAYLOAD];
        payload[..2].copy_from_slice(&number.to_be_bytes());
        Ok(datagram.fill(&payload)?)
    }

    fn number(&self, answer: &[u8]) -> Result<Option<u16>> {
        Ok(answer.first_chunk().map(|number| u16::from_be_bytes(*number)))
    }
}

/// Measures the server `name` at the other end.
pub(super) fn measure(name: &str, over: &Over, job: &echo::Job) -> Result<echo::Outcome> {
    let server = Remote::start(over.ends, &over.scenario, name, &())
        .with_context(|| format!("cannot start {name}"))?;
    pin_to(CLIENT_CORE)?;
    let mut source = OverXdp::open(over.ends.here, server.address.into(), Echoes)?;
    echo::offer(&mut source, job)
}
