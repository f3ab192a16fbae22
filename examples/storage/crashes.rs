//! Kills the writer again and again on the same log, and judges what is found there.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::log::{End, recover};
use super::page::{HEADER as PAGE_HEADER, PAGE, Page};
use super::writer::{Writer, verify};
use super::{Result, Scratch, chance};

/// Above the rows of the table.
pub const HEADER: &str = "\
| round | commits | acknowledged | recovered | lost | torn page: accepted |
|--:|--:|--:|--:|--:|--:|";

/// What one kill has led to.
#[derive(Serialize)]
pub struct Round {
    round: u32,
    commits: u64,
    /// Records that the writers have acknowledged so far, and those that are in the log.
    acknowledged: u64,
    recovered: u64,
    lost: u64,
    /// Records that were accepted of pages that were torn.
    accepted: u64,
    #[serde(skip)]
    end: End,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, commits, acknowledged, recovered, lost, accepted, .. } = self;
        write!(f, "| {round} | {commits} | {acknowledged} | {recovered} | {lost} | {accepted} |")
    }
}

impl Round {
    /// Where the log ends now, if it has everything that it had and that was acknowledged.
    pub fn keeps_its_promise(&self, before: End) -> Result<End> {
        if self.lost > 0 || self.accepted > 0 || self.recovered < before.record {
            return Err("the log does not keep its promise".into());
        }
        Ok(self.end)
    }
}

/// One round on a log that ended there before.
pub fn crash(path: &Path, round: u32, before: End) -> Result<Round> {
    let (commits, acknowledged) = kill_a_writer(path)?;
    let acknowledged = acknowledged.max(before.record);
    // Fails where a record is not the one that was written.
    let end = recover(path, verify)?;
    let lost = acknowledged.saturating_sub(end.record);
    let accepted = tear(path, end)?;
    Ok(Round { round, commits, acknowledged, recovered: end.record, lost, accepted, end })
}

/// Lets a writer write and kills it; returns how often it has committed and what it had acknowledged.
fn kill_a_writer(path: &Path) -> Result<(u64, u64)> {
    let mut writer = Writer::start(path)?;
    let output = writer.0.stdout.take().ok_or("the writer has no output")?;
    let lines = BufReader::new(output).lines();
    let (mut commits, mut acknowledged) = (0, 0);
    // A moment after that many commits, at which nobody knows what the writer is doing.
    let (enough, moment) = (1 + chance() % 50, Duration::from_micros(chance() % 5000));
    for line in lines {
        // A line goes into the pipe whole or not at all.
        acknowledged = line?.parse()?;
        commits += 1;
        if commits == enough {
            std::thread::sleep(moment);
            writer.0.kill()?;
        }
    }
    let status = writer.0.wait()?;
    if commits < enough {
        return Err(format!("the writer ended by itself: {status}").into());
    }
    Ok((commits, acknowledged))
}

/// Damages the last page of copies of the log, as a write that was cut would: in one the file ends
/// inside the page, in one a part of it is what was there before. Returns how many records of it were
/// accepted nevertheless.
fn tear(path: &Path, end: End) -> Result<u64> {
    let mut whole = fs::read(path)?;
    whole.truncate(end.page as usize * PAGE);
    let Some(start) = whole.len().checked_sub(PAGE) else { return Ok(0) };
    let last = Page::open(&whole[start..]).ok_or("the last page is not whole")?;
    let (first, used) = (last.first, PAGE_HEADER + last.records.len());
    let cut = start + 1 + chance() as usize % (PAGE - 1);
    let hole = start + chance() as usize % used;
    let mut damaged = whole.clone();
    damaged[hole..whole.len().min(hole + 512)].iter_mut().for_each(|byte| *byte = !*byte);
    let copy = Scratch(path.with_extension("torn"));
    let mut accepted = 0;
    for bytes in [&whole[..cut], &damaged] {
        fs::write(&copy.0, bytes)?;
        let found = recover(&copy.0, verify)?.record;
        if found < first {
            return Err("a page was lost that was not torn".into());
        }
        accepted += found - first;
    }
    Ok(accepted)
}
