//! [`Usage`]: what a thread or process has cost.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Serialize, Serializer};

use crate::{Error, Result};

/// CPU time and context switches, from getrusage(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time in the program, in seconds when printed as JSON.
    #[serde(serialize_with = "seconds")]
    pub user: Duration,
    /// CPU time in the kernel, likewise.
    #[serde(serialize_with = "seconds")]
    pub system: Duration,
    /// Times that it went to sleep.
    pub voluntary_switches: u64,
    /// Times that the kernel took the core from it.
    pub involuntary_switches: u64,
}

impl Usage {
    /// What the calling thread has cost since it began.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to tell.
    pub fn of_thread() -> Result<Self> {
        Self::of(UsageWho::RUSAGE_THREAD)
    }

    /// What the process has cost since it began.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to tell.
    pub fn of_process() -> Result<Self> {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    fn of(whom: UsageWho) -> Result<Self> {
        let usage = getrusage(whom)
            .map_err(|error| Error::os("ask for the CPU time used", std::io::Error::from(error)))?;
        let time = |value: nix::sys::time::TimeVal| {
            let micros = value.tv_sec() * 1_000_000 + value.tv_usec();
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        };
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(Self {
            user: time(usage.user_time()),
            system: time(usage.system_time()),
            voluntary_switches: count(usage.voluntary_context_switches()),
            involuntary_switches: count(usage.involuntary_context_switches()),
        })
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
        }
    }

    /// The sum of two threads'.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
        }
    }

    /// CPU time in program and kernel together.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

pub(super) fn seconds<S: Serializer>(
    time: &Duration,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_cpu_time_and_sleep_costs_switches() {
        let begin = Usage::of_thread().unwrap();
        let mut x = 1u64;
        while Usage::of_thread().unwrap().since(&begin).cpu() < Duration::from_millis(5) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let worked = Usage::of_thread().unwrap();
        std::thread::sleep(Duration::from_millis(1));
        let slept = Usage::of_thread().unwrap().since(&worked);
        assert!(slept.voluntary_switches >= 1, "{slept:?}");
        let process = Usage::of_process().unwrap();
        assert!(process.cpu() >= Duration::from_millis(5), "{process:?}");
        assert_eq!(worked.plus(&slept).since(&slept), worked);
    }
}
