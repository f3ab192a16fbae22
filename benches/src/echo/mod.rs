//! Echo over loopback, UDP and TCP: what a server costs per round trip, and how long an answer takes.

mod calls;
mod contestant;
mod generator;
mod process;
mod tcp;
mod udp;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bypass_core::worker::pin_to;
use serde_json::Value;

use crate::open_loop::{self, Search};
use crate::paired::{self, Plan, Sample};
use crate::report::Report;
use crate::scenario::Options;
use crate::wire::{Ends, Remote, Served};
use contestant::Contestant;
use generator::Generator;
use process::{CLIENT_CORE, Own, Server, Usage};

pub(crate) use process::COMMAND;

/// Servers of one kind, and what makes traffic for them.
struct Scenario {
    name: &'static str,
    /// Of those that spin and never sleep.
    spinning: &'static str,
    servers: &'static [Contestant],
    /// From an address of this machine to a server.
    connect: fn(Ipv4Addr, SocketAddrV4) -> Result<Box<dyn Generator>>,
    /// Whether messages can be lost, so that there is a highest rate without a loss.
    loses: bool,
    /// What the closed loop does, for the reader.
    traffic: &'static str,
    /// What it means that all of it is on one machine.
    loopback: &'static str,
}

/// Round trips per second of CPU time that the server's process took; higher is better.
const PER_CPU_SECOND: &str = "round trips per CPU second";
/// Round trips per second of time on the wall in the closed loop.
const PER_SECOND: &str = "round trips per second";
/// Of the server's core, in the closed loop.
const BUSY: &str = "server busy %";
const P50: &str = "p50 µs";
const P99: &str = "p99 µs";
/// Server CPU time per round trip at the common rate; lower is better.
const CPU_AT_RATE: &str = "CPU µs per round trip at the common rate";
const SWITCHES: &str = "context switches per 1000 round trips";
const ALLOCATIONS: &str = "allocations per round trip";
const SYSTEM_CALLS: &str = "system calls per round trip";
const LOST: &str = "lost % at the common rate";

/// Datagrams per second at which latency is taken: at this rate the slowest server still idles half
/// the time.
const RATE: f64 = 20_000.0;

/// In the open loop, where it is swept.
const WITHOUT_LOSS: &str = "round trips per second, none lost";

/// The most that is tried.
const CEILING: f64 = 4e6;

/// What is compared as ratios.
const COMPARED: [&str; 5] = [PER_CPU_SECOND, CPU_AT_RATE, P50, P99, WITHOUT_LOSS];
/// What is shown of every server.
const SHOWN: [&str; 11] = [
    PER_CPU_SECOND,
    PER_SECOND,
    WITHOUT_LOSS,
    BUSY,
    CPU_AT_RATE,
    P50,
    P99,
    LOST,
    SWITCHES,
    ALLOCATIONS,
    SYSTEM_CALLS,
];

pub(crate) fn run_udp(options: &Options) -> Result<Report> {
    run(&udp::SCENARIO, options)
}

pub(crate) fn run_tcp(options: &Options) -> Result<Report> {
    run(&tcp::SCENARIO, options)
}

/// Becomes the server `name` of a scenario.
pub(crate) fn serve(scenario: &str, name: &str, at: &str) -> Result<()> {
    let scenario = [udp::SCENARIO, tcp::SCENARIO].into_iter().find(|known| known.name == scenario);
    process::serve(scenario.context("that scenario has no servers")?.servers, name, at.parse()?)
}

/// Starts a server for a generator elsewhere.
pub(crate) fn start_udp(name: &str, at: Ipv4Addr, _job: &Value) -> Result<Box<dyn Served>> {
    start(&udp::SCENARIO, name, at)
}

/// As [`start_udp`].
pub(crate) fn start_tcp(name: &str, at: Ipv4Addr, _job: &Value) -> Result<Box<dyn Served>> {
    start(&tcp::SCENARIO, name, at)
}

fn start(scenario: &Scenario, name: &str, at: Ipv4Addr) -> Result<Box<dyn Served>> {
    let contestant = Contestant::find(scenario.servers, name)?;
    Ok(Box::new(Server::start(scenario.name, contestant, at)?))
}

impl Served for Server {
    fn address(&self) -> SocketAddrV4 {
        self.address
    }

    fn counters(&mut self) -> Result<Value> {
        Ok(serde_json::to_value(self.usage()?)?)
    }
}

/// A server here or at the other end of a wire.
enum Counted {
    Here(Server),
    There(Remote),
}

impl Counted {
    fn usage(&mut self) -> Result<Usage> {
        match self {
            Self::Here(server) => server.usage(),
            Self::There(remote) => remote.counters(),
        }
    }
}

fn run(scenario: &Scenario, options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    report.environment.network = Some("loopback".to_owned());
    let duration = if options.quick { Duration::from_millis(100) } else { Duration::from_secs(1) };
    pin_to(CLIENT_CORE)?;
    for spins in [false, true] {
        let wanted = |ours| {
            let servers = scenario.servers.iter().filter(move |server| {
                server.spins == spins && server.ours == ours && options.wants(server.name)
            });
            servers.map(|server| server.name).collect()
        };
        let plan = Plan {
            scenario: if spins { scenario.spinning } else { scenario.name },
            subjects: wanted(true),
            peers: wanted(false),
            rounds: options.rounds,
        };
        if plan.subjects.is_empty() && plan.peers.is_empty() {
            continue;
        }
        let sweeps = if scenario.loses { options.sweeps() } else { 0 };
        let runs =
            paired::run(&plan, |name| measure(scenario, name, options.ends, duration, sweeps > 0))?;
        // What spins costs all of its core at any rate.
        let compared = COMPARED.iter().filter(|metric| !(spins && **metric == CPU_AT_RATE));
        report.rows.extend(compared.flat_map(|metric| runs.rows(&plan, metric)));
        report.facts.extend(runs.facts(&plan, &SHOWN));
        report.curves.extend(open_loop::curves(
            &plan,
            ("round trips", RATE),
            sweeps,
            |name| runs.median(name, WITHOUT_LOSS),
            |name, highest| {
                let (_server, mut client) = connect(scenario, name, options.ends)?;
                open_loop::sweep(&mut *client, RATE, highest, duration)
            },
        )?);
    }
    report.notes.push(format!(
        "Server on core 0, client on core 1, {duration:?} each of a closed loop (rates, switches, \
         allocations, system calls) and an open loop at {RATE}/s (p50, p99, lost). Closed loop: {}",
        scenario.traffic,
    ));
    if options.ends.is_none() {
        report.notes.push(scenario.loopback.to_owned());
    }
    Ok(report)
}

/// A server in a fresh process, and a client that has seen it answer.
fn connect(
    scenario: &Scenario,
    name: &str,
    ends: Option<Ends>,
) -> Result<(Counted, Box<dyn Generator>)> {
    let (server, here, address) = match ends {
        None => {
            let contestant = Contestant::find(scenario.servers, name)?;
            let server = Server::start(scenario.name, contestant, Ipv4Addr::LOCALHOST)?;
            let address = server.address;
            (Counted::Here(server), Ipv4Addr::LOCALHOST, address)
        }
        Some(ends) => {
            let remote = Remote::start(ends, scenario.name, name, &())?;
            let address = remote.address;
            (Counted::There(remote), ends.here, address)
        }
    };
    let mut client = (scenario.connect)(here, address)?;
    client.verify().with_context(|| format!("server {name} is no echo"))?;
    Ok((server, client))
}

/// One run of one server; with a search for the highest rate without a loss, if it is wanted.
fn measure(
    scenario: &Scenario,
    name: &str,
    ends: Option<Ends>,
    duration: Duration,
    search: bool,
) -> Result<Sample> {
    let (mut server, mut client) = connect(scenario, name, ends)?;
    client.closed_loop(duration / 5)?;

    let before = server.usage()?;
    let round_trips = client.closed_loop(duration)? as f64;
    let closed = server.usage()?.since(before);
    ensure!(round_trips > 0.0, "server {name} answered nothing");
    let mut sample = Sample::from([
        (PER_CPU_SECOND, round_trips / closed.cpu_seconds()),
        (PER_SECOND, round_trips / duration.as_secs_f64()),
        (BUSY, 100.0 * closed.cpu_seconds() / duration.as_secs_f64()),
        (SWITCHES, 1000.0 * closed.switches as f64 / round_trips),
    ]);
    let counts = [(ALLOCATIONS, closed.own.allocations), (SYSTEM_CALLS, closed.own.system_calls)];
    for (metric, count) in counts {
        sample.extend(count.map(|count| (metric, count as f64 / round_trips)));
    }

    client.offer(RATE, duration / 5)?;
    let before = server.usage()?;
    let open = client.offer(RATE, duration)?;
    let usage = server.usage()?.since(before);
    ensure!(open.answered > 0, "server {name} answered nothing at {RATE}/s");
    sample.insert(P50, open.latency.value_at_quantile(0.5) as f64 / 1000.0);
    sample.insert(P99, open.latency.value_at_quantile(0.99) as f64 / 1000.0);
    sample.insert(LOST, 100.0 * open.lost());
    sample.insert(CPU_AT_RATE, 1e6 * usage.cpu_seconds() / open.answered as f64);
    if search {
        let search = Search { from: RATE, ceiling: CEILING, duration, allowed_loss: 0.0 };
        sample.extend(search.highest(&mut *client)?.map(|highest| (WITHOUT_LOSS, highest.rate)));
    }
    Ok(sample)
}

impl Usage {
    /// What was added since `before`.
    fn since(self, before: Self) -> Self {
        let added = |now: Option<u64>, before: Option<u64>| Some(now? - before.unwrap_or(0));
        Self {
            cpu_ns: self.cpu_ns - before.cpu_ns,
            switches: self.switches - before.switches,
            own: Own {
                allocations: added(self.own.allocations, before.own.allocations),
                system_calls: added(self.own.system_calls, before.own.system_calls),
            },
        }
    }

    fn cpu_seconds(self) -> f64 {
        self.cpu_ns as f64 / 1e9
    }
}
