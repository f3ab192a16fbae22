//! The program's tables, as `traffic.bpf.c` lays them out.

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use libbpf_rs::{Map, MapCore as _, MapFlags};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

/// Bytes of all frames, and of the longest one.
pub(super) const FRAMES: usize = 8 << 20;
pub(super) const FRAME: usize = 1514;
/// Ethernet, IP without options, UDP.
pub(super) const HEADERS: usize = 42;
pub(super) const PATCH: usize = 16;
/// Bits of a fraction of a nanosecond.
pub(super) const FRACTION: u32 = 16;
/// Ports that answers are sent to, of which each stretch has another. The kernel gives none of them to sockets
/// that ask for any.
pub(super) const PORTS: std::ops::Range<u16> = 1 << 14..(1 << 14) + (1 << 12);
/// Bytes of the times at which requests under way were due.
pub(super) const DUE: usize = 8 << 16;

const PRECISION: u32 = 7;
const BUCKETS: usize = (34 - PRECISION as usize + 1) << PRECISION;

/// What is sent and what comes back. Offsets are those in a frame, 0 for none.
#[derive(Debug, Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Plan {
    pub(super) duration: u64,
    /// In units of 2^-[`FRACTION`] ns.
    pub(super) interval: u64,
    pub(super) gap: u64,
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) mask: [u8; 8],
    pub(super) expected: [[u8; 8]; 2],
    pub(super) interface: u32,
    pub(super) requests: u32,
    pub(super) number_at: u16,
    pub(super) sequence_at: u16,
    pub(super) due_at: u16,
    pub(super) answer_at: u16,
    pub(super) port: u16,
    pub(super) _unused: [u16; 3],
}

#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Progress {
    pub(super) begin: u64,
    next: u64,
    last: u64,
    pub(super) sent: u64,
    /// In nanoseconds.
    pub(super) late: u64,
    place: u32,
    pub(super) failed: u32,
    pub(super) over: u32,
    _unused: u32,
}

/// An entry of `order`.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Request {
    pub(super) at: u32,
    pub(super) length: u16,
    pub(super) patch_at: u16,
    pub(super) patch: [u8; PATCH],
}

/// What one CPU has counted.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Seen {
    pub(super) answered: u64,
    pub(super) unexpected: u64,
    /// To requests of an earlier stretch.
    pub(super) late: u64,
    pub(super) text: [u8; 16],
    latency: [u64; BUCKETS],
}

impl Seen {
    /// Of all CPUs.
    pub(super) fn read(map: &Map<'_>) -> Result<Self> {
        let values = map.lookup_percpu(&[0; 4], MapFlags::ANY)?.context("it has one entry")?;
        let mut all = Self::new_zeroed();
        for value in values {
            // The kernel rounds sizes up.
            let (seen, _) = Self::read_from_prefix(&value).ok().context("it is too short")?;
            all.answered += seen.answered;
            all.late += seen.late;
            if seen.unexpected > 0 {
                all.unexpected += seen.unexpected;
                all.text = seen.text;
            }
            all.latency.iter_mut().zip(seen.latency).for_each(|(sum, count)| *sum += count);
        }
        Ok(all)
    }

    pub(super) fn reset(map: &Map<'_>) -> Result<()> {
        let none = vec![0; size_of::<Self>()];
        let cpus = libbpf_rs::num_possible_cpus()?;
        Ok(map.update_percpu(&[0; 4], &vec![none; cpus], MapFlags::ANY)?)
    }

    pub(super) fn add_to(&self, histogram: &mut Histogram<u64>) -> Result<()> {
        for (bucket, &count) in self.latency.iter().enumerate().filter(|(_, count)| **count > 0) {
            histogram.record_n(middle(bucket), count)?;
        }
        Ok(())
    }
}

/// Nanoseconds in the middle of a bucket: 1 ns wide up to 256, then 128 buckets for each power of two.
fn middle(bucket: usize) -> u64 {
    let shift = (bucket >> PRECISION).saturating_sub(1);
    let low = ((bucket - (shift << PRECISION)) as u64) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_a_hundredth_wide() {
        assert_eq!((middle(0), middle(255), middle(256)), (0, 255, 257));
        for bucket in 256..BUCKETS {
            let (before, here) = (middle(bucket - 1) as f64, middle(bucket) as f64);
            assert!(here > before && here / before < 1.01, "{before} {here}");
        }
        assert!(middle(BUCKETS - 1) < 1 << 34);
    }
}
