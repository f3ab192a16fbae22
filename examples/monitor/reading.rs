//! What an application shows, as it is in the JSON of its exporter.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Result;

/// Seconds after which a worker that shows nothing new is said to be silent.
const SILENT: f64 = 1.0;

#[derive(Clone, Debug, Deserialize)]
pub struct Reading {
    pub application: String,
    pub pid: u32,
    /// Seconds.
    pub uptime: f64,
    pub workers: Vec<Worker>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Worker {
    pub worker: String,
    pub core: Option<usize>,
    pub backend: String,
    pub running: bool,
    /// Seconds since its figures were taken.
    pub age: f64,
    /// Seconds that its figures are about.
    pub elapsed: f64,
    pub stats: Stats,
    pub usage: Usage,
    pub rings: BTreeMap<String, Ring>,
    pub latency: Latency,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub drops: BTreeMap<String, u64>,
    pub frames: Option<Frames>,
    pub syscalls: Option<u64>,
    pub wakeups: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Frames {
    pub total: u64,
    pub free: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Usage {
    /// Seconds.
    pub user: f64,
    pub system: f64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Ring {
    pub used: u64,
    pub size: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Latency {
    /// The longest time of a step in nanoseconds, and how many were in it.
    pub buckets: Vec<(u64, u64)>,
}

impl Reading {
    /// Asks the application.
    pub fn fetch(address: &str) -> Result<Self> {
        let json = crate::client::fetch(address)?;
        serde_json::from_str(&json)
            .map_err(|error| format!("{address} shows something else: {error}").into())
    }
}

impl Worker {
    /// Whether it is there, and answers.
    pub fn state(&self) -> &'static str {
        match (self.running, self.age) {
            (false, _) => "ended",
            (true, age) if age > SILENT => "silent",
            (true, _) => "running",
        }
    }
}

impl Latency {
    /// The times that have come since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before: BTreeMap<_, _> = earlier.buckets.iter().copied().collect();
        let new = self.buckets.iter().map(|&(bound, count)| {
            (bound, count.saturating_sub(before.get(&bound).copied().unwrap_or(0)))
        });
        Self { buckets: new.filter(|&(_, count)| count > 0).collect() }
    }

    pub fn add(&mut self, other: &Self) {
        let mut all: BTreeMap<_, _> = self.buckets.iter().copied().collect();
        other.buckets.iter().for_each(|&(bound, count)| *all.entry(bound).or_insert(0) += count);
        self.buckets = all.into_iter().collect();
    }

    /// Nanoseconds that a share of the times do not exceed; none without any.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let all: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        let wanted = (all as f64 * percent / 100.0).ceil() as u64;
        let mut sum = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            sum += count;
            sum >= wanted
        });
        found.map(|&(bound, _)| bound)
    }
}
