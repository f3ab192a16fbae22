//! What asks: a source of ours over AF_XDP, which sends on a schedule, and dnsperf, which waits.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bypass_core::udp::{Config, IpNet, RxChecksums, UdpDatagram, UdpOverL2};
use bypass_core::{Buffer as _, Burst, DatagramIo as _, DatagramIoExt as _, Endpoint as _, sys};
use bypass_xdp::{XdpFrame, XdpOptions, XdpPort};

use super::rig::{CLIENT, Rig, ZONE};

const PORT: u16 = 20_000;
const BURST: usize = 64;
/// Between these rates the highest is sought, in so many steps.
const SLOWEST: f64 = 10_000.0;
const FASTEST: f64 = 4e6;
const STEPS: usize = 10;
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
pub(super) struct Source<'r> {
    rig: &'r Rig,
    socket: UdpOverL2<XdpPort>,
    sending: Burst<UdpDatagram<XdpFrame>>,
    received: Burst<UdpDatagram<XdpFrame>>,
    server: SocketAddr,
    next: usize,
}

/// A run at one rate.
pub(super) struct Run {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) seconds: f64,
}

impl<'r> Source<'r> {
    pub(super) fn open(rig: &'r Rig, server: SocketAddr) -> Result<Self> {
        let _inside = rig.veth.b.enter()?;
        let config = Config::new(sys::interface::mac("veth0")?, PORT)
            .address(IpNet::new(CLIENT.parse()?, 24)?)
            .rx_checksums(RxChecksums::Ignore);
        let socket = UdpOverL2::new(deep_queues("veth0").open()?, config)?;
        let (sending, received) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
        Ok(Self { rig, socket, sending, received, server, next: 0 })
    }

    /// Waits for the server to start, and for the two to have found each other.
    pub(super) fn verify(&mut self) -> Result<()> {
        let begin = Instant::now();
        while self.run(1000.0, Duration::from_millis(20))?.answered == 0 {
            ensure!(begin.elapsed() < Duration::from_secs(20), "{} does not answer", self.server);
        }
        // Whatever is still under way.
        self.settle(0, u64::MAX)?;
        Ok(())
    }

    /// The highest rate at which all is answered, by halving.
    pub(super) fn highest_without_loss(&mut self, duration: Duration) -> Result<f64> {
        let (mut good, mut bad, mut best) = (SLOWEST, FASTEST, 0.0);
        for _ in 0..STEPS {
            let middle = f64::sqrt(good * bad);
            let mut run = self.run(middle, duration)?;
            if run.answered < run.sent {
                // Once more: one short pause of the machine is enough to lose some.
                run = self.run(middle, duration)?;
            }
            let rate = run.sent as f64 / run.seconds;
            if run.answered == run.sent {
                (good, best) = (middle, f64::max(best, rate));
            } else {
                bad = middle;
            }
            // Faster than the source can.
            if rate < 0.9 * middle {
                bad = middle;
                good = good.min(rate);
            }
        }
        Ok(best)
    }

    /// Asks `rate` questions per second on a fixed schedule, however the server fares.
    pub(super) fn run(&mut self, rate: f64, duration: Duration) -> Result<Run> {
        let begin = Instant::now();
        let (mut sent, mut answered) = (0_u64, 0);
        loop {
            let elapsed = begin.elapsed();
            if elapsed >= duration {
                break;
            }
            let due = (elapsed.as_secs_f64() * rate).min(u64::MAX as f64) as u64;
            let count = due.saturating_sub(sent).min(BURST as u64 - self.sending.len() as u64);
            for _ in 0..count {
                let query = &self.rig.queries[self.next % self.rig.queries.len()];
                if !self.socket.compose(query, self.server, &mut self.sending)? {
                    break;
                }
                if let Some(datagram) = self.sending.last_mut() {
                    datagram.data_mut()[..2].copy_from_slice(&(self.next as u16).to_be_bytes());
                }
                self.next += 1;
            }
            if !self.sending.is_empty() {
                sent += self.socket.send(&mut self.sending)? as u64;
            }
            self.socket.flush()?;
            answered += self.receive()?;
        }
        // What was composed and not taken was not asked.
        self.sending.clear();
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Run { sent, answered: self.settle(answered, sent)?, seconds })
    }

    /// Receives until all have come, or none comes any more.
    fn settle(&mut self, mut answered: u64, sent: u64) -> Result<u64> {
        let mut since = Instant::now();
        while answered < sent && since.elapsed() < SETTLING {
            let more = self.receive()?;
            if more > 0 {
                (answered, since) = (answered.saturating_add(more), Instant::now());
            }
        }
        Ok(answered)
    }

    /// Counts the responses that have come.
    fn receive(&mut self) -> Result<u64> {
        /// NOERROR or NXDOMAIN, not truncated, with the zone's word for it.
        fn is_answer(message: &[u8]) -> bool {
            matches!(message, [_, _, 0x84, 0 | 3, 0, 1, ..])
        }
        self.socket.recv(&mut self.received)?;
        let answers = self.received.iter().filter(|datagram| is_answer(datagram.data())).count();
        self.received.clear();
        Ok(answers as u64)
    }
}

/// What dnsperf found.
pub(super) struct Dnsperf {
    pub(super) rate: f64,
    pub(super) lost_percent: f64,
}

/// Runs dnsperf on the client's side, if it is there.
pub(super) fn dnsperf(
    rig: &Rig,
    server: SocketAddr,
    duration: Duration,
) -> Result<Option<Dnsperf>> {
    let _inside = rig.veth.b.enter()?;
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
