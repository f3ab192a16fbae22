//! [`Counters`]: what the program did with the frames of a queue.

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

use super::error::ProgramError;

/// What the program did with the frames that it saw, each of which is counted once.
///
/// Populated by: the program of this crate ([`Program`](super::Program)), since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Handed to a socket, which may yet refuse them: its own statistics say.
    pub redirected: u64,
    /// Named by the filter, but without a socket on their queue; they went to the kernel.
    pub no_socket: u64,
    /// Not named by the filter; they went to the kernel.
    pub passed: u64,
    /// Fragments, which no rule about ports can judge; they went to the kernel.
    pub fragments: u64,
    /// With headers that are cut short or contradict themselves; they went to the kernel.
    pub malformed: u64,
    /// Of those redirected, the ones that had no room for the hints of the device.
    pub no_hints: u64,
}

impl Counters {
    /// The size of `struct counters` in `bpf/steer.bpf.c`.
    const SIZE: usize = 6 * size_of::<u64>();

    /// All frames that the program saw.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.redirected + self.no_socket + self.passed + self.fragments + self.malformed
    }

    /// Adds the numbers of another queue.
    pub fn merge(&mut self, other: &Self) {
        self.redirected += other.redirected;
        self.no_socket += other.no_socket;
        self.passed += other.passed;
        self.fragments += other.fragments;
        self.malformed += other.malformed;
        self.no_hints += other.no_hints;
    }

    /// Reads a queue's numbers, over all processors; nothing for a queue that the map has not.
    pub(super) fn read(map: &MapHandle, queue: u32) -> Result<Self, ProgramError> {
        let each = map.lookup_percpu(&queue.to_ne_bytes(), MapFlags::ANY).map_err(
            ProgramError::map(format!("read the XDP program's counters of queue {queue}")),
        )?;
        let mut sum = Self::default();
        for cpu in each.unwrap_or_default() {
            sum.merge(&Self::parse(&cpu));
        }
        Ok(sum)
    }

    fn parse(value: &[u8]) -> Self {
        let mut numbers = value[..Self::SIZE.min(value.len())]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u64::from_ne_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        Self {
            redirected: next(),
            no_socket: next(),
            passed: next(),
            fragments: next(),
            malformed: next(),
            no_hints: next(),
        }
    }
}
