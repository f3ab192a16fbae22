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

mod clock;
mod latency;
mod snapshot;
mod usage;

pub use clock::Clock;
pub use latency::{Latency, LatencySummary};
pub use snapshot::{Meter, Snapshot};
pub use usage::Usage;
