//! The servers, each in a process of its own on core 0.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bypass_core::backend::socket::UdpOptions;
use bypass_core::telemetry::Board;
use bypass_core::udp::{Config, IpNet, UdpOverL2};
use bypass_core::worker::{Stop, Workers};
use bypass_core::{DatagramIo, sys};
use bypass_io::Bind as _;
use bypass_io::xdp::XdpSocket;
use bypass_xdp::XdpOptions;
use io_uring_ext::packet::{UringOptions, UringSocket};

use super::responder::Responder;
use super::responder::zone::Zone;
use super::rig::{KERNEL, Rig, USER_SPACE, ZONE};
use super::udp;
use crate::cable::Receiver;
use crate::child;

/// The hidden command of this program that becomes a server: name, zone file, and its address; or, for one that has
/// a cable's end for itself, the interface.
pub(crate) const COMMAND: &str = "serve-dns";

const PORT: u16 = 53;
/// Bytes of the receive queue of a socket.
pub(super) const RECV_BUFFER: usize = 4 << 20;

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// The example's, over this family's backends.
    Ours,
    /// The same answers on another runtime.
    #[cfg_attr(not(feature = "peers"), expect(dead_code, reason = "it needs the peers"))]
    Tokio,
    Nsd,
    Knot,
}

/// A server by name.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: &'static str,
    program: Program,
}

const AF_XDP: &str = "AF_XDP";
const IO_URING: &str = "io_uring";
const SOCKET: &str = "socket";

pub(super) const CONTESTANTS: &[Contestant] = &[
    Contestant { name: AF_XDP, program: Program::Ours },
    Contestant { name: IO_URING, program: Program::Ours },
    Contestant { name: SOCKET, program: Program::Ours },
    #[cfg(feature = "peers")]
    Contestant { name: "tokio", program: Program::Tokio },
    Contestant { name: "nsd", program: Program::Nsd },
    Contestant { name: "knot", program: Program::Knot },
];

impl Contestant {
    pub(super) fn find(name: &str) -> Result<&'static Self> {
        let found = CONTESTANTS.iter().find(|contestant| contestant.name == name);
        found.with_context(|| format!("there is no server `{name}`"))
    }

    pub(super) fn is_ours(&self) -> bool {
        self.program == Program::Ours
    }

    /// Where it answers on a cable.
    pub(super) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(if self.name == AF_XDP { USER_SPACE } else { KERNEL }, PORT)
    }

    /// Where it answers on an interface with this address.
    pub(super) fn address_at(at: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(at, PORT)
    }
}

/// A running server.
pub(super) struct Server {
    process: Child,
}

impl Server {
    /// Starts it on the cable.
    pub(super) fn start(contestant: &Contestant, rig: &Rig) -> Result<Self> {
        let place = match contestant.name {
            AF_XDP => rig.cable.host.ends[0].name.clone(),
            _ => KERNEL.to_string(),
        };
        Self::start_at(contestant, KERNEL, &place, &rig.questions.folder)
    }

    /// Starts it at an address that the kernel has.
    pub(super) fn start_on_interface(
        contestant: &Contestant,
        at: Ipv4Addr,
        folder: &Path,
    ) -> Result<Self> {
        Self::start_at(contestant, at, &at.to_string(), folder)
    }

    /// Servers of others are at `at`, those of this program at `place`.
    fn start_at(contestant: &Contestant, at: Ipv4Addr, place: &str, folder: &Path) -> Result<Self> {
        let (name, zone) = (contestant.name, folder.join("zone"));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "--cpu-list", "0"]);
        match contestant.program {
            Program::Nsd => {
                command.args(["nsd", "-d", "-c"]).arg(nsd(folder, at)?);
            }
            Program::Knot => {
                command.args(["knotd", "-c"]).arg(knot(folder, at)?);
            }
            Program::Ours | Program::Tokio => {
                let program = std::env::current_exe().context("cannot tell what I am")?;
                command.arg(program).args([COMMAND, name]).arg(zone).arg(place);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        if let Program::Nsd | Program::Knot = contestant.program {
            // They are asked until they answer, and talk a lot.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { process };
        if let Some(output) = server.process.stdout.take() {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            ensure!(line.trim_end() == READY, "{name} did not start: {line:?}");
        }
        Ok(server)
    }

    /// CPU time of it, its children, and receiving on its end of a cable, kernel included.
    pub(super) fn cpu_ns(&self, receiver: Option<&Receiver>) -> Result<u64> {
        let receiving = receiver.map_or(Ok(0), Receiver::cpu_ns)?;
        let mut sum = child::schedule(self.process.id())?.0 + receiving;
        // nsd answers in a child of its child.
        for of_children in children(self.process.id())? {
            sum += child::schedule(of_children)?.0;
            for grandchild in children(of_children)? {
                sum += child::schedule(grandchild)?.0;
            }
        }
        Ok(sum)
    }
}

fn children(process: u32) -> Result<Vec<u32>> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    Ok(list.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Servers of this program end with their input; nsd ends its children only when it is asked to.
        drop(self.process.stdin.take());
        let id = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        if let Err(error) = asked.and_then(|_| self.process.wait()) {
            eprintln!("a server cannot be ended: {error}");
        }
    }
}

fn nsd(folder: &Path, at: Ipv4Addr) -> Result<std::path::PathBuf> {
    let (dir, file) = (folder.display(), folder.join("nsd.conf"));
    let settings = format!(
        "server:\n ip-address: {at}@{PORT}\n username: \"\"\n zonesdir: \"{dir}\"\n \
         database: \"\"\n pidfile: \"{dir}/nsd.pid\"\n xfrdfile: \"{dir}/xfrd.state\"\n \
         xfrdir: \"{dir}\"\n zonelistfile: \"{dir}/zone.list\"\n logfile: \"{dir}/nsd.log\"\n \
         server-count: 1\n rrl-ratelimit: 0\n minimal-responses: yes\n \
         receive-buffer-size: {RECV_BUFFER}\nremote-control:\n control-enable: no\nzone:\n \
         name: {ZONE}\n zonefile: zone\n"
    );
    fs::write(&file, settings)?;
    Ok(file)
}

fn knot(folder: &Path, at: Ipv4Addr) -> Result<std::path::PathBuf> {
    let (dir, file) = (folder.display(), folder.join("knot.conf"));
    let settings = format!(
        "server:\n    rundir: \"{dir}\"\n    listen: {at}@{PORT}\n    udp-workers: 1\n    \
         tcp-workers: 1\n    background-workers: 1\n    socket-affinity: off\ndatabase:\n    \
         storage: \"{dir}\"\nzone:\n  - domain: {ZONE}\n    storage: \"{dir}\"\n    file: zone\n    \
         zonefile-sync: -1\n    journal-content: none\n"
    );
    fs::write(&file, settings)?;
    Ok(file)
}

/// A port that holds as much as a socket's receive queue does.
fn deep_queues(interface: &str) -> XdpOptions {
    const RECEIVE: u32 = 8192;
    let mut options = XdpOptions::new(interface);
    (options.rings.rx, options.rings.fill) = (RECEIVE, RECEIVE);
    options.umem.pool.chunks = 2 * RECEIVE;
    options.umem.pool.rx_reserve = RECEIVE;
    options
}

/// What a server of this program prints when it answers.
const READY: &str = "ready";

/// Becomes the server `name` of this program, at an address, or on an interface that it has for itself.
pub(crate) fn serve(name: &str, zone: &str, place: &str) -> Result<()> {
    let responder = Arc::new(Responder::new(&[Zone::load(ZONE, Path::new(zone))?])?);
    let at = place.parse().ok();
    let address = match at {
        Some(at) => Contestant::address_at(at),
        None => Contestant::find(name)?.address(),
    };
    let stop = Stop::new();
    match name {
        #[cfg(feature = "peers")]
        "tokio" => {
            return super::tokio_server::serve(&responder, address.into(), || println!("{READY}"));
        }
        AF_XDP | IO_URING | SOCKET => {}
        _ => bail!("{name} is another program"),
    }
    let (name, interface) = (name.to_owned(), place.to_owned());
    let workers = Workers::spawn_until(&stop, &[0], move |worker| {
        let mut options = UdpOptions::new(address.into());
        options.recv_buffer = Some(RECV_BUFFER);
        let responder = &*responder;
        match name.as_str() {
            AF_XDP if at.is_some() => answer(XdpSocket::bind(&options)?, responder, worker),
            AF_XDP => {
                let config = Config::new(sys::interface::mac(&interface)?, PORT)
                    .address(IpNet::new((*address.ip()).into(), 24).unwrap_or_default());
                let port = deep_queues(&interface).open()?;
                answer(UdpOverL2::new(port, config)?, responder, worker)
            }
            IO_URING => {
                let socket = UringSocket::open(&options, &UringOptions::new())?;
                answer(socket, responder, worker)
            }
            _ => answer(options.open()?, responder, worker),
        }
    })?;
    // The benchmark ends, or has had enough.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    workers.stop();
    workers.join()?;
    Ok(())
}

fn answer<S: DatagramIo>(
    socket: S,
    responder: &Responder,
    worker: &bypass_core::worker::Worker,
) -> bypass_core::Result<()> {
    println!("{READY}");
    let meter = worker.meter(&Board::new())?;
    udp::serve(socket, responder, worker, meter, u64::MAX).map(drop)
}
