//! The records of all clients that wait, as they go to the disk, the same for every writer.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use anyhow::Result;

use super::Job;
use crate::child::{Clock, Recorder};
use crate::storage::file::BLOCK;

/// Bytes of a record.
pub(super) const RECORD: usize = 256;

/// Checksum and number of the group.
const HEADER: usize = 16;

/// Bytes of a group on the disk: whole blocks.
pub(super) fn size(job: &Job) -> usize {
    (HEADER + job.clients * RECORD).next_multiple_of(BLOCK)
}

/// The file, for direct writes.
pub(super) fn open(job: &Job) -> std::io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&job.file)
}

/// The clients, and where their next group goes.
pub(super) struct Clients {
    count: usize,
    size: u64,
    places: u64,
    groups: u64,
    begun: Instant,
    recorder: Recorder,
}

impl Clients {
    pub(super) fn new(job: &Job, clock: Clock) -> Result<Self> {
        let size = size(job) as u64;
        Ok(Self {
            count: job.clients,
            size,
            places: job.bytes / size,
            groups: 0,
            begun: Instant::now(),
            recorder: Recorder::new(clock)?,
        })
    }

    /// Every client hands over a record; returns where the group goes.
    pub(super) fn fill(&mut self, group: &mut [u8]) -> u64 {
        let number = self.groups;
        self.groups += 1;
        self.begun = Instant::now();
        group[8..HEADER].copy_from_slice(&number.to_le_bytes());
        for record in group[HEADER..].chunks_exact_mut(RECORD).take(self.count) {
            record.fill(number as u8);
        }
        let checksum = crc32fast::hash(&group[8..]);
        group[..4].copy_from_slice(&checksum.to_le_bytes());
        number % self.places * self.size
    }

    /// The group is on the disk: every client is told. Returns whether the run goes on.
    pub(super) fn acknowledge(&mut self) -> bool {
        let ended = Instant::now();
        (0..self.count).fold(true, |_, _| self.recorder.record(self.begun, ended))
    }

    /// What was recorded, and the number of groups.
    pub(super) fn finish(self) -> (Recorder, u64) {
        (self.recorder, self.groups)
    }
}
