//! Everything as plain text, one fact a line, for scripts.

use std::fmt::{self, Write};

use crate::history::{History, Rates};
use crate::numbers::or_dash;
use crate::reading::Worker;

pub fn page(history: &History) -> String {
    let mut page = String::new();
    // Writing into memory does not fail.
    let _written = write(&mut page, history);
    page
}

fn write(page: &mut String, history: &History) -> fmt::Result {
    let Some(reading) = &history.last else { return Ok(()) };
    writeln!(
        page,
        "application {} pid {} uptime {:.1} s",
        reading.application, reading.pid, reading.uptime
    )?;
    for (worker, rates) in reading.workers.iter().zip(&history.rates) {
        worker_lines(page, worker, rates)?;
    }
    let total = |count: fn(&Worker) -> u64| reading.workers.iter().map(count).sum::<u64>();
    let (rx, tx) = (total(|w| w.stats.rx_packets), total(|w| w.stats.tx_packets));
    let dropped = total(|w| w.stats.drops.values().sum());
    writeln!(page, "total rx_packets {rx} tx_packets {tx} dropped {dropped}")?;
    rate_line(page, "total", &history.total)
}

fn worker_lines(page: &mut String, worker: &Worker, rates: &Rates) -> fmt::Result {
    let Worker { worker: name, core, backend, stats, usage, rings, .. } = worker;
    let core = or_dash(*core, |core| core.to_string());
    writeln!(page, "worker {name} core {core} backend {backend} {}", worker.state())?;
    writeln!(
        page,
        "worker {name} rx_packets {} rx_bytes {} tx_packets {} tx_bytes {} dropped {}",
        stats.rx_packets,
        stats.rx_bytes,
        stats.tx_packets,
        stats.tx_bytes,
        stats.drops.values().sum::<u64>()
    )?;
    for (cause, count) in &stats.drops {
        writeln!(page, "worker {name} drop {cause} {count}")?;
    }
    for (ring, fill) in rings {
        writeln!(page, "worker {name} ring {ring} {} of {}", fill.used, fill.size)?;
    }
    if let Some(frames) = stats.frames {
        writeln!(page, "worker {name} frames {} free of {}", frames.free, frames.total)?;
    }
    writeln!(
        page,
        "worker {name} cpu user {:.3} s system {:.3} s, switches {} voluntary {} involuntary",
        usage.user, usage.system, usage.voluntary_switches, usage.involuntary_switches
    )?;
    rate_line(page, &format!("worker {name}"), rates)
}

fn rate_line(page: &mut String, who: &str, rates: &Rates) -> fmt::Result {
    let micros = |percent| {
        or_dash(rates.latency.percentile(percent), |nanos| format!("{:.1}", nanos as f64 / 1e3))
    };
    writeln!(
        page,
        "{who} per second: rx_packets {:.0} tx_packets {:.0} dropped {:.0} cpu {:.3} syscalls {} wakeups {} \
         switches {:.0} latency_us p50 {} p99 {}",
        rates.rx_packets,
        rates.tx_packets,
        rates.dropped(),
        rates.user + rates.system,
        or_dash(rates.syscalls, |rate| format!("{rate:.0}")),
        or_dash(rates.wakeups, |rate| format!("{rate:.0}")),
        rates.switches,
        micros(50.0),
        micros(99.0),
    )
}
