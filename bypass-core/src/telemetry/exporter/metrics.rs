//! Readings as Prometheus' metrics, written by the crate `prometheus-client`.

use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet, prometheus_text,
    text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::DropCause;
use crate::telemetry::{Latency, Reading};

/// Content types of the two formats.
pub(super) const TEXT: &str = prometheus_text::CONTENT_TYPE;
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the histogram's buckets in nanoseconds: 1, 2, 5 from 100 ns to 10 s.
const BOUNDS: [u64; 25] = {
    let (mut bounds, mut at, mut decade) = ([0; 25], 0, 100);
    while at < 25 {
        bounds[at] = decade * [1, 2, 5][at % 3];
        at += 1;
        if at % 3 == 0 {
            decade *= 10;
        }
    }
    bounds
};

/// In Prometheus' own text format.
pub(super) fn prometheus_text(workers: Vec<Reading>) -> String {
    written(workers, prometheus_text::encode)
}

/// In the OpenMetrics format.
pub(super) fn open_metrics(workers: Vec<Reading>) -> String {
    written(workers, text::encode)
}

fn written(
    workers: Vec<Reading>,
    encode: impl FnOnce(&mut String, &Registry) -> fmt::Result,
) -> String {
    let mut registry = Registry::with_prefix("bypass");
    registry.register_collector(Box::new(Metrics(workers)));
    let mut text = String::new();
    // Writing into memory does not fail.
    let _written = encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Metrics(Vec<Reading>);

/// The labels of a sample: whose it is, and what it is about beside that.
struct Labels<'l>(&'l Reading, Option<(&'static str, &'l str)>);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self(reading, more) = self;
        let core = reading.core.map_or_else(String::new, |core| core.to_string());
        let own = [("worker", &*reading.worker), ("core", &core), ("backend", reading.backend)];
        own.into_iter().chain(*more).try_for_each(|(name, value)| {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            key.write_str(name)?;
            let mut text = key.encode_label_value()?;
            text.write_str(value)?;
            text.finish()
        })
    }
}

/// One family of samples, while it is written.
struct Family<'e>(MetricEncoder<'e>);

impl Family<'_> {
    fn counter(&mut self, labels: &Labels<'_>, value: u64) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn seconds(&mut self, labels: &Labels<'_>, value: f64) -> fmt::Result {
        self.0.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, labels: &Labels<'_>, value: u64) -> fmt::Result {
        // Beyond 2⁵³ it is not exact, as anything in Prometheus.
        self.0.encode_family(labels)?.encode_gauge(&(value as f64))
    }

    fn histogram(&mut self, labels: &Labels<'_>, latency: &Latency) -> fmt::Result {
        let up_to = latency.up_to(&BOUNDS);
        let mut below = 0;
        let mut buckets: Vec<_> = BOUNDS
            .iter()
            .zip(&up_to)
            .map(|(&bound, &count)| {
                (in_seconds(bound), count - std::mem::replace(&mut below, count))
            })
            .collect();
        let (sum, count) = (in_seconds(latency.sum()), latency.count());
        // OpenMetrics wants this one, too, and the library writes it by itself in Prometheus' format only.
        buckets.push((f64::INFINITY, count - below));
        self.0.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn in_seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.packets(&mut encoder)?;
        self.memory(&mut encoder)?;
        self.cost(&mut encoder)?;
        self.state(&mut encoder)
    }
}

/// Begins a family.
fn family<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
    kind: MetricType,
) -> Result<Family<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, kind).map(Family)
}

impl Metrics {
    fn packets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Count = fn(&Reading) -> u64;
        let counts: [(&str, &str, Count); 4] = [
            ("rx_packets", "Packets handed to the application", |r| r.stats.rx_packets),
            ("rx_bytes", "Their bytes", |r| r.stats.rx_bytes),
            ("tx_packets", "Packets that have left", |r| r.stats.tx_packets),
            ("tx_bytes", "Their bytes", |r| r.stats.tx_bytes),
        ];
        for (name, help, count) in counts {
            let mut family = family(encoder, name, help, MetricType::Counter)?;
            self.each(|reading| family.counter(&Labels(reading, None), count(reading)))?;
        }
        let help = "Packets lost, by cause";
        let mut drops = family(encoder, "drops", help, MetricType::Counter)?;
        self.each(|reading| {
            DropCause::ALL.iter().try_for_each(|&cause| {
                let labels = Labels(reading, Some(("cause", cause.name())));
                drops.counter(&labels, reading.stats.drops[cause])
            })
        })?;
        let help = "Packets taken for sending that have neither left nor been dropped";
        let mut in_flight = family(encoder, "tx_in_flight", help, MetricType::Gauge)?;
        self.each(|reading| in_flight.gauge(&Labels(reading, None), reading.stats.tx_in_flight))
    }

    fn memory(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Buffers of the packet memory, by where they are";
        let mut frames = family(encoder, "frames", help, MetricType::Gauge)?;
        self.each(|reading| {
            let Some(census) = reading.stats.frames else { return Ok(()) };
            let places = [
                ("free", census.free),
                ("held", census.held),
                ("rx_posted", census.rx_posted),
                ("tx_in_flight", census.tx_in_flight),
            ];
            places.into_iter().try_for_each(|(place, count)| {
                frames.gauge(&Labels(reading, Some(("place", place))), count)
            })
        })?;
        let help = "What is in a ring or queue: entries, or bytes where its name says so";
        let mut used = family(encoder, "ring_used", help, MetricType::Gauge)?;
        self.each(|reading| {
            reading.rings.iter().try_for_each(|(name, ring)| {
                used.gauge(&Labels(reading, Some(("ring", name))), ring.used)
            })
        })?;
        let help = "What a ring or queue has room for";
        let mut size = family(encoder, "ring_size", help, MetricType::Gauge)?;
        self.each(|reading| {
            reading.rings.iter().try_for_each(|(name, ring)| {
                size.gauge(&Labels(reading, Some(("ring", name))), ring.size)
            })
        })
    }

    fn cost(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Count = fn(&Reading) -> Option<u64>;
        let counts: [(&str, &str, Count); 2] = [
            ("syscalls", "System calls made on the data path", |r| r.stats.syscalls),
            ("wakeups", "Times that the worker slept", |r| r.stats.wakeups),
        ];
        for (name, help, count) in counts {
            let mut family = family(encoder, name, help, MetricType::Counter)?;
            self.each(|reading| match count(reading) {
                Some(count) => family.counter(&Labels(reading, None), count),
                None => Ok(()),
            })?;
        }
        let mut cpu =
            family(encoder, "cpu_seconds", "CPU time of the worker", MetricType::Counter)?;
        self.each(|reading| {
            let (user, system) = (reading.usage.user, reading.usage.system);
            [("user", user), ("system", system)].into_iter().try_for_each(|(mode, time)| {
                cpu.seconds(&Labels(reading, Some(("mode", mode))), time.as_secs_f64())
            })
        })?;
        let help = "Times that the worker went to sleep, and that the kernel took the core from it";
        let mut switches = family(encoder, "context_switches", help, MetricType::Counter)?;
        self.each(|reading| {
            let usage = &reading.usage;
            let kinds = [
                ("voluntary", usage.voluntary_switches),
                ("involuntary", usage.involuntary_switches),
            ];
            kinds.into_iter().try_for_each(|(kind, count)| {
                switches.counter(&Labels(reading, Some(("kind", kind))), count)
            })
        })?;
        let help = "Times that the application has recorded";
        let mut latency = family(encoder, "latency_seconds", help, MetricType::Histogram)?;
        self.each(|reading| latency.histogram(&Labels(reading, None), &reading.latency))
    }

    fn state(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What backend and application count by themselves, by name";
        let mut values = family(encoder, "value", help, MetricType::Unknown)?;
        self.each(|reading| {
            reading.counters.iter().try_for_each(|(name, value)| {
                values.gauge(&Labels(reading, Some(("name", name))), *value)
            })
        })?;
        let help = "Whether the worker is there";
        let mut running = family(encoder, "worker_running", help, MetricType::Gauge)?;
        self.each(|reading| running.gauge(&Labels(reading, None), reading.running.into()))?;
        let help = "How old the worker's figures are";
        let mut age = family(encoder, "worker_age_seconds", help, MetricType::Gauge)?;
        self.each(|reading| {
            let labels = Labels(reading, None);
            age.0.encode_family(&labels)?.encode_gauge(&reading.age.as_secs_f64())
        })
    }

    fn each(&self, write: impl FnMut(&Reading) -> fmt::Result) -> fmt::Result {
        self.0.iter().try_for_each(write)
    }
}
