//! DPDK on devices that need no hardware: ours beside the same loops in C, and `dpdk-testpmd`.

mod loops;
mod others;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::child;
use crate::paired::{self, Plan, Runs, Sample};
use crate::report::Report;
use crate::scenario::Options;
use crate::xdp;
use loops::{DIRECT, Job, Outcome, PACKET_IO, Way};
use others::{IN_C, IN_C_STATIC, LOOKING, LOOKING_STATIC, TESTPMD};

const NAME: &str = "dpdk";

const RATE: &str = "million packets per second";
const START_UP: &str = "start of DPDK, ms";

/// Ours, in a program that DPDK is linked into.
const DIRECT_STATIC: &str = "direct calls static";
const PACKET_IO_STATIC: &str = "PacketIo static";

/// The loops, by what the report calls them.
const LOOPS: [(&str, &str, Way, usize, bool); 6] = [
    ("net_null, burst 32", "net_null, burst 32, static", Way::Null, 32, false),
    ("net_null, burst 1", "net_null, burst 1, static", Way::Null, 1, false),
    ("net_ring, burst 32", "net_ring, burst 32, static", Way::Ring, 32, false),
    ("net_ring, burst 1", "net_ring, burst 1, static", Way::Ring, 1, false),
    ("net_null, burst 32, touched", "net_null, burst 32, touched, static", Way::Null, 32, true),
    ("net_ring, burst 32, touched", "net_ring, burst 32, touched, static", Way::Ring, 32, true),
];

/// Ways to another process or machine.
const WAYS: [(&str, Way); 2] = [("net_memif", Way::Memif), ("net_virtio_user", Way::Virtio)];

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new(options.environment());
    let ours = [xdp::echo::DPDK_AF_PACKET, xdp::echo::DPDK_AF_XDP];
    let others = [xdp::echo::PACKET, xdp::echo::AF_XDP];
    let echo = (NAME, "dpdk, UDP echo");
    if options.ends.is_some() {
        // The driver on AF_XDP takes a whole interface, and the orders come over it.
        xdp::echo_of(options, &mut report, echo, [&ours[..1], &others])?;
        report.notes.push(format!(
            "{} The loops are left out: `net_null`, `net_ring`, `net_memif` and `net_virtio_user` have no wire. A card \
             that DPDK drives itself has no interface that orders could come over; `dpdk-testpmd -a <PCI address> -- \
             --forward-mode=io --auto-start` forwards on it.",
            xdp::ECHO_OVER_WIRE,
        ));
        return Ok(report);
    }
    others::compile()?;
    let huge = others::has_huge_pages();
    for (shared, linked, way, burst, touch) in LOOPS {
        let job = job(options, way, burst, touch, huge);
        // testpmd has no mode in which it changes a byte and no more.
        let peers = if touch { [IN_C, LOOKING] } else { [IN_C, TESTPMD] };
        loops(options, &mut report, shared, [PACKET_IO, DIRECT], &peers, job)?;
        let ours = [PACKET_IO_STATIC, DIRECT_STATIC];
        let peers = if touch { vec![IN_C_STATIC, LOOKING_STATIC] } else { vec![IN_C_STATIC] };
        loops(options, &mut report, linked, ours, &peers, job)?;
    }
    for (scenario, way) in WAYS {
        let plan = plan(options, scenario, &[PACKET_IO], &[IN_C]);
        let runs = rounds(&plan, job(options, way, 32, true, huge))?;
        tell(&mut report, &plan, &runs, &[RATE]);
    }
    xdp::echo_of(options, &mut report, echo, [&ours, &others])?;
    report.notes.push(format!(
        "Packets of {} B, {} mbufs with caches of {}, memory in {} pages, one thread on core {}. `net_null` \
         makes packets up and frees them; in a `net_ring` {} go round. `touched`: the first byte of each \
         is changed; *looking* sees first whether there is one, as a slice in Rust does. Static: DPDK is linked into the program. `net_memif`, `net_virtio_user`: both ends in one \
         thread by turns; packets are allocated, written, sent, received, read whole and freed. testpmd \
         forwards in mode `io` from another thread. UDP echo: as in `cargo xtask bench xdp`.",
        loops::LEN,
        loops::MBUFS,
        loops::CACHE,
        if huge { "huge" } else { "ordinary" },
        loops::CORE,
        loops::IN_RING,
    ));
    Ok(report)
}

/// Becomes the contestant `name`.
pub(crate) fn measure(name: &str, job: &str) -> Result<()> {
    child::answer(&loops::measure(name, serde_json::from_str(job)?)?)
}

fn job(options: &Options, way: Way, burst: usize, touch: bool, huge: bool) -> Job {
    let duration = Duration::from_millis(if options.quick { 100 } else { 300 });
    Job { way, burst, touch, huge, warm_up: duration / 3, duration }
}

fn loops(
    options: &Options,
    report: &mut Report,
    scenario: &'static str,
    [packet_io, direct]: [&'static str; 2],
    peers: &[&'static str],
    job: Job,
) -> Result<()> {
    let plan = plan(options, scenario, &[direct, packet_io], peers);
    let runs = rounds(&plan, job)?;
    tell(report, &plan, &runs, &[RATE, START_UP]);
    let seam = self::plan(options, scenario, &[packet_io], &[direct]);
    report.rows.extend(runs.rows(&seam, RATE));
    Ok(())
}

fn plan(
    options: &Options,
    scenario: &'static str,
    subjects: &[&'static str],
    peers: &[&'static str],
) -> Plan {
    let wanted =
        |names: &[&'static str]| names.iter().copied().filter(|name| options.wants(name)).collect();
    Plan { scenario, subjects: wanted(subjects), peers: wanted(peers), rounds: options.rounds }
}

fn rounds(plan: &Plan, job: Job) -> Result<Runs> {
    if plan.subjects.is_empty() && plan.peers.is_empty() {
        return Ok(Runs::default());
    }
    paired::run(plan, |name| {
        let Outcome { packets, seconds, start_up } = match name {
            IN_C | IN_C_STATIC | LOOKING | LOOKING_STATIC => others::in_c(name, job)?,
            TESTPMD => return Ok(Sample::from([(RATE, others::testpmd(job)? / 1e6)])),
            DIRECT_STATIC => others::linked(DIRECT, job)?,
            PACKET_IO_STATIC => others::linked(PACKET_IO, job)?,
            _ => child::run(NAME, name, &job)?,
        };
        ensure!(packets > 0, "{name} moved no packet");
        Ok(Sample::from([(RATE, packets as f64 / seconds / 1e6), (START_UP, start_up * 1e3)]))
    })
}

/// Books the ratios of rates, and what is shown of every contestant.
fn tell(report: &mut Report, plan: &Plan, runs: &Runs, shown: &[&'static str]) {
    report.rows.extend(runs.rows(plan, RATE));
    report.facts.extend(runs.facts(plan, shown));
}
