//! What has happened between two readings, and how that has gone for a while.

use std::collections::{BTreeMap, VecDeque};

use crate::reading::{Latency, Reading, Worker};

/// Readings that the curves remember.
const LENGTH: usize = 600;

#[derive(Debug)]
pub struct History {
    pub last: Option<Reading>,
    /// Of each worker, in the order of the reading.
    pub rates: Vec<Rates>,
    /// Of all together.
    pub total: Rates,
    /// Packets per second, received and sent, one entry for each reading.
    pub packets: VecDeque<u64>,
    /// The time that 99 % of the packets did not exceed, in nanoseconds.
    pub p99: VecDeque<u64>,
}

/// What happened per second.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    pub rx_packets: f64,
    pub tx_packets: f64,
    /// Bits.
    pub rx_bits: f64,
    pub tx_bits: f64,
    /// By cause.
    pub drops: BTreeMap<String, f64>,
    /// Seconds of CPU time per second.
    pub user: f64,
    pub system: f64,
    pub syscalls: Option<f64>,
    pub wakeups: Option<f64>,
    pub switches: f64,
    pub latency: Latency,
}

impl History {
    pub fn new() -> Self {
        Self {
            last: None,
            rates: Vec::new(),
            total: Rates::default(),
            packets: VecDeque::new(),
            p99: VecDeque::new(),
        }
    }

    pub fn add(&mut self, reading: Reading) {
        let earlier = self.last.take().filter(|last| last.pid == reading.pid);
        let before = |worker: &Worker| {
            let mut workers = earlier.iter().flat_map(|earlier| &earlier.workers);
            workers.find(|earlier| earlier.worker == worker.worker)
        };
        let rates = reading.workers.iter().map(|worker| Rates::of(worker, before(worker)));
        self.rates = rates.collect();
        self.total = Rates::default();
        self.rates.iter().for_each(|rates| self.total.add(rates));
        if earlier.is_some() {
            let packets = self.total.rx_packets + self.total.tx_packets;
            remember(&mut self.packets, packets as u64);
            remember(&mut self.p99, self.total.latency.percentile(99.0).unwrap_or(0));
        }
        self.last = Some(reading);
    }
}

fn remember(values: &mut VecDeque<u64>, value: u64) {
    if values.len() == LENGTH {
        values.pop_front();
    }
    values.push_back(value);
}

impl Rates {
    /// Nothing without an earlier reading, or when there is nothing newer.
    fn of(now: &Worker, before: Option<&Worker>) -> Self {
        let Some(before) = before.filter(|before| now.elapsed > before.elapsed) else {
            return Self::default();
        };
        let seconds = now.elapsed - before.elapsed;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let (new, old) = (&now.stats, &before.stats);
        let maybe = |now: Option<u64>, before: Option<u64>| Some(rate(now?, before.unwrap_or(0)));
        let drops = new.drops.iter().map(|(cause, count)| {
            (cause.clone(), rate(*count, old.drops.get(cause).copied().unwrap_or(0)))
        });
        let switches =
            |worker: &Worker| worker.usage.voluntary_switches + worker.usage.involuntary_switches;
        Self {
            rx_packets: rate(new.rx_packets, old.rx_packets),
            tx_packets: rate(new.tx_packets, old.tx_packets),
            rx_bits: 8.0 * rate(new.rx_bytes, old.rx_bytes),
            tx_bits: 8.0 * rate(new.tx_bytes, old.tx_bytes),
            drops: drops.collect(),
            user: (now.usage.user - before.usage.user) / seconds,
            system: (now.usage.system - before.usage.system) / seconds,
            syscalls: maybe(new.syscalls, old.syscalls),
            wakeups: maybe(new.wakeups, old.wakeups),
            switches: rate(switches(now), switches(before)),
            latency: now.latency.since(&before.latency),
        }
    }

    fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.tx_packets += other.tx_packets;
        self.rx_bits += other.rx_bits;
        self.tx_bits += other.tx_bits;
        for (cause, rate) in &other.drops {
            *self.drops.entry(cause.clone()).or_default() += rate;
        }
        self.user += other.user;
        self.system += other.system;
        for (sum, rate) in
            [(&mut self.syscalls, other.syscalls), (&mut self.wakeups, other.wakeups)]
        {
            *sum = rate.map(|rate| sum.unwrap_or(0.0) + rate).or(*sum);
        }
        self.switches += other.switches;
        self.latency.add(&other.latency);
    }

    /// All causes together.
    pub fn dropped(&self) -> f64 {
        self.drops.values().fold(0.0, |sum, rate| sum + rate)
    }

    /// System calls for each packet that came or went.
    pub fn calls_per_packet(&self) -> Option<f64> {
        let packets = self.rx_packets + self.tx_packets;
        self.syscalls.filter(|_| packets > 0.0).map(|calls| calls / packets)
    }
}
