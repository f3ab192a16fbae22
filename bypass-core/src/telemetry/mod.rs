//! What a worker did: counters, drops by cause, latency, CPU time, context switches.
//!
//! ```
//! use bypass_core::telemetry::{Clock, Meter};
//!
//! let clock = Clock::new();
//! let mut meter = Meter::start(clock);
//! let sent_at = meter.clock().now();
//! // ... a packet comes back ...
//! meter.latency.record(meter.clock().now() - sent_at);
//! let snapshot = meter.snapshot(bypass_core::Stats::default());
//! println!("{snapshot}");
//! assert!(snapshot.to_json().contains("\"latency\""));
//! ```
//!
//! On a [`Board`], others see it while it happens: see there, and `Exporter` (feature `exporter`).

mod board;
mod clock;
#[cfg(feature = "exporter")]
mod exporter;
mod latency;
mod reading;
mod snapshot;
mod usage;

pub use board::{Board, Showing};
pub use clock::Clock;
#[cfg(feature = "exporter")]
pub use exporter::{Address, Exporter, Listening};
pub use latency::{Latency, LatencySummary};
pub use reading::Reading;
pub use snapshot::{Meter, Snapshot};
pub use usage::Usage;
