//! What asks: a source of ours over AF_XDP, which sends on a schedule, and dnsperf, which waits.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bypass_core::udp::{Config, IpNet, RxChecksums, UdpDatagram, UdpOverL2};
use bypass_core::{Buffer as _, Burst, DatagramIo as _, DatagramIoExt as _, Endpoint as _, sys};
use bypass_xdp::{XdpFrame, XdpOptions, XdpPort};

use super::rig::{CLIENT, Rig, ZONE};
use crate::open_loop::{Source, Stretch};

const PORT: u16 = 20_000;
const BURST: usize = 64;
/// How long answers may take at the end of a run.
const SETTLING: Duration = Duration::from_millis(30);

/// A port that holds as much as a socket's receive queue does.
pub(super) fn deep_queues(interface: &str) -> XdpOptions {
    const RECEIVE: u32 = 8192;
    let mut options = XdpOptions::new(interface);
    (options.rings.rx, options.rings.fill) = (RECEIVE, RECEIVE);
    options.umem.pool.chunks = 2 * RECEIVE;
    options.umem.pool.rx_reserve = RECEIVE;
    options
}

/// Asks over AF_XDP from the client's side.
pub(super) struct Client<'r> {
    pub(super) rig: &'r Rig,
    socket: UdpOverL2<XdpPort>,
    sending: Burst<UdpDatagram<XdpFrame>>,
    received: Burst<UdpDatagram<XdpFrame>>,
    server: SocketAddr,
    next: usize,
    /// When the queries under way were due, by their numbers; `u64::MAX` for none.
    due: Vec<u64>,
}

impl Source for Client<'_> {
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let due = |number: u64| (number as f64 * 1e9 / rate) as u64;
        let (begin, mut stretch) = (Instant::now(), Stretch::new()?);
        self.due.fill(u64::MAX);
        loop {
            let elapsed = begin.elapsed();
            if elapsed >= duration {
                break;
            }
            let now = elapsed.as_nanos() as u64;
            let total = (elapsed.as_secs_f64() * rate).min(u64::MAX as f64) as u64;
            let made = stretch.sent + self.sending.len() as u64;
            let count = total.saturating_sub(made).min(self.sending.room() as u64);
            for number in made..made + count {
                if !self.compose(due(number))? {
                    break;
                }
            }
            if !self.sending.is_empty() {
                let first_due = due(stretch.sent);
                stretch.send(self.socket.send(&mut self.sending)? as u64, first_due, now);
            }
            self.socket.flush()?;
            self.receive(begin, &mut stretch)?;
        }
        // What was composed and not taken was not asked.
        self.sending.clear();
        stretch.seconds = begin.elapsed().as_secs_f64();
        // Until all have come, or none comes any more.
        let mut since = Instant::now();
        while stretch.answered < stretch.sent && since.elapsed() < SETTLING {
            if self.receive(begin, &mut stretch)? > 0 {
                since = Instant::now();
            }
        }
        Ok(stretch)
    }
}

impl<'r> Client<'r> {
    /// On a thread on the client's side.
    pub(super) fn open(rig: &'r Rig, server: SocketAddr) -> Result<Self> {
        let interface = &rig.cable.host.ends[1].name;
        let config = Config::new(sys::interface::mac(interface)?, PORT)
            .address(IpNet::new(CLIENT.parse()?, 24)?)
            .rx_checksums(RxChecksums::Ignore);
        let socket = UdpOverL2::new(deep_queues(interface).open()?, config)?;
        let (sending, received) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
        Ok(Self { rig, socket, sending, received, server, next: 0, due: vec![u64::MAX; 1 << 16] })
    }

    /// Waits for the server to start, and for the two to have found each other.
    pub(super) fn verify(&mut self) -> Result<()> {
        let begin = Instant::now();
        while self.offer(1000.0, Duration::from_millis(20))?.answered == 0 {
            ensure!(begin.elapsed() < Duration::from_secs(20), "{} does not answer", self.server);
        }
        Ok(())
    }

    /// Makes the next query, if there is a datagram for it.
    fn compose(&mut self, due: u64) -> Result<bool> {
        let query = &self.rig.queries[self.next % self.rig.queries.len()];
        if !self.socket.compose(query, self.server, &mut self.sending)? {
            return Ok(false);
        }
        let number = self.next as u16;
        if let Some(datagram) = self.sending.last_mut() {
            datagram.data_mut()[..2].copy_from_slice(&number.to_be_bytes());
        }
        self.due[usize::from(number)] = due;
        self.next += 1;
        Ok(true)
    }

    /// Books the answers that have come, and returns their number.
    fn receive(&mut self, begin: Instant, stretch: &mut Stretch) -> Result<usize> {
        /// The number of a response that is NOERROR or NXDOMAIN, not truncated, with the zone's word for it.
        fn number(message: &[u8]) -> Option<u16> {
            match message {
                [high, low, 0x84, 0 | 3, 0, 1, ..] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            }
        }
        self.socket.recv(&mut self.received)?;
        let (now, before) = (begin.elapsed().as_nanos() as u64, stretch.answered);
        for number in self.received.iter().filter_map(|datagram| number(datagram.data())) {
            let due = std::mem::replace(&mut self.due[usize::from(number)], u64::MAX);
            // Not what was asked for in an earlier stretch.
            if due != u64::MAX {
                stretch.answer(now.saturating_sub(due));
            }
        }
        self.received.clear();
        Ok((stretch.answered - before) as usize)
    }
}

/// What dnsperf found.
pub(super) struct Dnsperf {
    pub(super) rate: f64,
    pub(super) lost_percent: f64,
}

/// Runs dnsperf, if it is there, from a thread on the client's side.
pub(super) fn dnsperf(
    rig: &Rig,
    server: SocketAddr,
    duration: Duration,
) -> Result<Option<Dnsperf>> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let seconds = duration.as_secs_f64().ceil().to_string();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "1", "dnsperf", "-s", &host, "-p", &port, "-l", &seconds]);
    command.args(["-c", "8", "-T", "1", "-q", "500", "-d"]).arg(rig.folder.join("queries"));
    let Ok(output) = command.output() else { return Ok(None) };
    let said = String::from_utf8_lossy(&output.stdout);
    let number = |label: &str| {
        let line = said.lines().find(|line| line.trim_start().starts_with(label))?;
        let rest = line.split_once(':')?.1.trim();
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    let found = (number("Queries per second"), number("Queries sent"), number("Queries lost"));
    let (Some(rate), Some(sent), Some(lost)) = found else {
        return Err(anyhow::anyhow!("{}", String::from_utf8_lossy(&output.stderr)))
            .with_context(|| format!("dnsperf found nothing about {ZONE}: {said}"));
    };
    Ok(Some(Dnsperf { rate, lost_percent: 100.0 * lost / sent.max(1.0) }))
}
