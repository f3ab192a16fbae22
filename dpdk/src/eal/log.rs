//! What DPDK says: [`Record`]s, and the [`Sink`] that takes them.

use std::fmt;
use std::sync::Arc;

/// How much a message matters.
///
/// Source: `RTE_LOG_*` in `rte_log.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// The system cannot be used.
    Emergency = 1,
    /// Something has to be done at once.
    Alert = 2,
    /// A critical condition.
    Critical = 3,
    /// An error.
    Error = 4,
    /// A warning.
    Warning = 5,
    /// Normal, but worth a look.
    Notice = 6,
    /// Information.
    Info = 7,
    /// For those who look for a fault.
    Debug = 8,
}

impl Level {
    pub(super) const fn number(self) -> u32 {
        self as u32
    }

    /// From DPDK's number; what it does not define counts as `Debug`.
    pub(super) const fn from_number(number: u32) -> Self {
        match number {
            0 | 1 => Self::Emergency,
            2 => Self::Alert,
            3 => Self::Critical,
            4 => Self::Error,
            5 => Self::Warning,
            6 => Self::Notice,
            7 => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// A message of DPDK's or of a driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// The message, one line, with its origin in front (`EAL: …`).
    pub message: &'a str,
}

/// Takes messages, on whatever thread says them.
#[derive(Clone)]
pub struct Sink(Arc<dyn Fn(&Record<'_>) + Send + Sync>);

impl Sink {
    /// Calls `take` with every message. A panic in it is caught and the message lost; it must not call
    /// DPDK.
    pub fn new(take: impl Fn(&Record<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// The crate `tracing`, with `dpdk` as the target.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn tracing() -> Self {
        Self::new(|Record { level, message }| match level {
            Level::Emergency | Level::Alert | Level::Critical | Level::Error => {
                tracing::error!(target: "dpdk", "{message}");
            }
            Level::Warning => tracing::warn!(target: "dpdk", "{message}"),
            Level::Notice | Level::Info => tracing::info!(target: "dpdk", "{message}"),
            Level::Debug => tracing::debug!(target: "dpdk", "{message}"),
        })
    }

    /// The crate `log`, with `dpdk` as the target.
    #[cfg(feature = "log")]
    #[must_use]
    pub fn log() -> Self {
        Self::new(|Record { level, message }| {
            let level = match level {
                Level::Emergency | Level::Alert | Level::Critical | Level::Error => {
                    log::Level::Error
                }
                Level::Warning => log::Level::Warn,
                Level::Notice | Level::Info => log::Level::Info,
                Level::Debug => log::Level::Debug,
            };
            log::log!(target: "dpdk", level, "{message}");
        })
    }

    /// Where messages go when nobody says.
    pub(super) fn by_feature() -> Option<Self> {
        #[cfg(feature = "tracing")]
        return Some(Self::tracing());
        #[cfg(all(feature = "log", not(feature = "tracing")))]
        return Some(Self::log());
        #[cfg(not(any(feature = "log", feature = "tracing")))]
        None
    }

    pub(super) fn take(&self, record: &Record<'_>) {
        (self.0)(record);
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink(..)")
    }
}
