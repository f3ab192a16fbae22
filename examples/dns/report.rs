//! What happened, to print.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::responder::counts::Counts;
use crate::{tcp, udp};

/// What everybody did.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) workers: Vec<udp::Served>,
    pub(crate) tcp: Option<tcp::Served>,
}

impl Report {
    /// As one line of JSON.
    pub(crate) fn to_json(&self) -> String {
        let workers: Vec<Value> = self
            .workers
            .iter()
            .map(|worker| {
                let udp = named(&worker.counts);
                json!({ "dns": udp, "unsendable": worker.unsendable, "io": worker.snapshot })
            })
            .collect();
        let tcp = self.tcp.as_ref().map(|tcp| {
            json!({
                "dns": named(&tcp.counts),
                "connections": tcp.connections,
                "turned_away": tcp.turned_away,
                "out_of_descriptors": tcp.out_of_descriptors,
            })
        });
        json!({ "udp": named(&self.udp()), "workers": workers, "tcp": tcp }).to_string()
    }

    /// The sum over the workers.
    fn udp(&self) -> Counts {
        let mut sum = Counts::default();
        self.workers.iter().for_each(|worker| sum += worker.counts);
        sum
    }
}

fn named(counts: &Counts) -> Map<String, Value> {
    counts.iter().map(|(name, count)| (name.to_owned(), count.into())).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for udp::Served { snapshot, unsendable, .. } in &self.workers {
            writeln!(f, "{snapshot}")?;
            if *unsendable > 0 {
                writeln!(f, "unsendable {unsendable}")?;
            }
        }
        write!(f, "udp: {}", Line(&self.udp()))?;
        if let Some(tcp) = &self.tcp {
            let (connections, turned_away) = (tcp.connections, tcp.turned_away);
            write!(f, "\ntcp: {connections} connections, {turned_away} turned away, ")?;
            if tcp.out_of_descriptors > 0 {
                write!(f, "{} times no descriptor for one, ", tcp.out_of_descriptors)?;
            }
            write!(f, "{}", Line(&tcp.counts))?;
        }
        Ok(())
    }
}

/// Counters that have counted something.
struct Line<'c>(&'c Counts);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queries, {} answered", self.0.queries, self.0.answered())?;
        for (name, count) in self.0.iter().skip(1).filter(|(_, count)| *count > 0) {
            write!(f, ", {name} {count}")?;
        }
        Ok(())
    }
}
