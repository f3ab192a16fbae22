//! [`Row`]: what one backend did, and whether it adds up.

use bypass_io::telemetry::{LatencySummary, Snapshot};

use super::book::{Book, Books, NOBODY, Oddity};
use super::exchange::Published;
use super::itch::{self, Side};
use super::mold;
use super::sequence::Counts;

/// The books as JSON: for each security the levels of both sides, the best first, as price in
/// 1/10 000 dollars, shares and orders.
pub fn books(books: &Books) -> serde_json::Value {
    let levels = |book: &Book, side| -> serde_json::Value {
        let levels = book.levels(side);
        levels.map(|level| serde_json::json!([level.price, level.shares, level.orders])).collect()
    };
    let listed = books.iter().filter(|book| book.symbol != NOBODY);
    let books = listed.map(|book| {
        let symbol = String::from_utf8_lossy(&book.symbol).trim_end().to_owned();
        let sides = [("bids", Side::Buy), ("asks", Side::Sell)];
        let sides: serde_json::Map<String, serde_json::Value> =
            sides.map(|(name, side)| (name.to_owned(), levels(book, side))).into_iter().collect();
        (symbol, serde_json::Value::from(sides))
    });
    books.collect()
}

pub struct Row {
    pub backend: &'static str,
    pub notes: Vec<String>,
    pub published: Published,
    pub counts: Counts,
    pub malformed: [u64; itch::Malformed::ALL.len()],
    pub oddities: [u64; Oddity::ALL.len()],
    pub tick_to_trade: LatencySummary,
    /// Orders that were sent, that were given up, that the cable to the exchange dropped.
    pub orders: u64,
    pub forgone: u64,
    pub orders_dropped: u64,
    pub snapshot: Snapshot,
}

impl Row {
    pub const HEADER: &'static str = "backend      sent received  gaps asked recovered   lost  packets lost (by cause)  \
         p50 µs  p90 µs  p99 µs p99.9 µs  CPU % switches/s calls/msg  orders  tick-to-trade p50, p99 µs";

    fn received(&self) -> u64 {
        self.counts.live + self.counts.recovered
    }

    /// Packets that were dropped on their way to the receiver, by cause.
    fn dropped(&self) -> Vec<(&'static str, u64)> {
        let Published { dropped, withheld, .. } = self.published;
        let drops = self.snapshot.stats.drops.iter().map(|(cause, n)| (cause.name(), n));
        let ours = [("cable", dropped), ("withheld", withheld)];
        drops.chain(ours).filter(|(_, count)| *count > 0).collect()
    }

    /// Every message came, was recovered, or is counted as lost; every packet came, or a counter says
    /// why not. Only those beside the feed may still have been under way at the end: heartbeats, and
    /// what was asked for twice.
    pub fn adds_up(&self) -> bool {
        let Self { published, counts, .. } = self;
        let sent =
            published.packets + published.withheld + published.retransmitted + published.idle;
        let dropped: u64 = self.dropped().iter().map(|(_, count)| count).sum();
        let beside = published.retransmitted + published.idle;
        published.messages == self.received() + counts.lost
            && (sent - beside..=sent).contains(&(counts.packets + dropped))
            && (counts.lost == 0 || dropped > 0)
            && self.wrong().is_empty()
            && self.orders_add_up()
    }

    /// Every order reached the exchange, or was dropped on the way.
    fn orders_add_up(&self) -> bool {
        let Published { orders, refused, orders_dropped, .. } = self.published;
        let dropped = orders_dropped + self.orders_dropped;
        refused == 0 && orders <= self.orders && self.orders <= orders + dropped
    }

    /// What was wrong with packets and messages, by cause. A book that misses messages has oddities;
    /// they are wrong where none was lost.
    fn wrong(&self) -> Vec<(&'static str, u64)> {
        let packets =
            mold::Malformed::ALL.map(mold::Malformed::name).into_iter().zip(self.counts.malformed);
        let messages =
            itch::Malformed::ALL.map(itch::Malformed::name).into_iter().zip(self.malformed);
        let oddities = Oddity::ALL.map(Oddity::name).into_iter().zip(self.oddities);
        let oddities = oddities.filter(|_| self.counts.lost == 0);
        let all = packets.chain(messages).chain(oddities);
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// What is compared, for when it does not add up.
    pub fn account(&self) -> String {
        format!(
            "{}: {:?}, {:?}, dropped {:?}, wrong {:?}, {} orders, of which the cable dropped {}",
            self.backend,
            self.published,
            self.counts,
            self.dropped(),
            self.wrong(),
            self.orders,
            self.orders_dropped,
        )
    }

    fn cpu(&self) -> f64 {
        100.0 * self.snapshot.usage.cpu().as_secs_f64() / self.snapshot.elapsed.as_secs_f64()
    }

    fn switches(&self) -> u64 {
        self.snapshot.usage.voluntary_switches + self.snapshot.usage.involuntary_switches
    }

    fn calls(&self) -> Option<f64> {
        let calls = self.snapshot.stats.syscalls? as f64;
        Some(calls / self.received().max(1) as f64)
    }

    pub fn table(&self) -> String {
        let Self { backend, published, counts, snapshot, .. } = self;
        let causes: Vec<_> =
            self.dropped().iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        let causes = if causes.is_empty() { "none".to_owned() } else { causes.join(", ") };
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let latency = snapshot.latency;
        let calls = self.calls().map_or("unknown".to_owned(), |calls| format!("{calls:.3}"));
        let trade = format!("{:.1}, {:.1}", us(self.tick_to_trade.p50), us(self.tick_to_trade.p99));
        format!(
            "{backend:<8} {:>8} {:>8} {:>5} {:>5} {:>9} {:>6}  {causes:<23} {:>8.1} {:>7.1} {:>7.1} \
             {:>8.1} {:>6.1} {:>10.0} {calls:>9} {:>7}  {trade}",
            published.messages,
            self.received(),
            counts.gaps,
            counts.requests,
            counts.recovered,
            counts.lost,
            us(latency.p50),
            us(latency.p90),
            us(latency.p99),
            us(latency.p999),
            self.cpu(),
            snapshot.rate(self.switches()),
            self.orders,
        )
    }

    pub fn json(&self) -> serde_json::Value {
        let Self { published, counts, .. } = self;
        let named = |counts: Vec<(&'static str, u64)>| -> serde_json::Value {
            let counts = counts.into_iter();
            counts.map(|(cause, count)| (cause, serde_json::Value::from(count))).collect()
        };
        // It is valid JSON: the library made it.
        let telemetry: serde_json::Value =
            serde_json::from_str(&self.snapshot.to_json()).unwrap_or_default();
        serde_json::json!({
            "backend": self.backend,
            "sent": published.messages,
            "received": self.received(),
            "gaps": counts.gaps,
            "missing": counts.missing,
            "re_requested": counts.requests,
            "retransmitted": published.retransmitted,
            "recovered": counts.recovered,
            "lost": counts.lost,
            "duplicates": counts.duplicates,
            "packets_sent": published.packets,
            "packets_received": counts.packets,
            "packets_lost": named(self.dropped()),
            "wrong": named(self.wrong()),
            "adds_up": self.adds_up(),
            "orders": self.orders,
            "orders_forgone": self.forgone,
            "orders_at_exchange": published.orders,
            "tick_to_trade": self.tick_to_trade,
            "cpu_percent": self.cpu(),
            "system_calls_per_message": self.calls(),
            "telemetry": telemetry,
        })
    }
}
