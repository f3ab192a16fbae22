//! The process that is killed: it writes records of which everyone can say what they are.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::Result;
use super::log::{Commit, Log, recover};

/// The option by which the program knows that it shall write.
pub const OPTION: &str = "write-until-killed";

/// What record `number` is: everyone can say, so everyone can verify.
fn record(number: u64, bytes: &mut Vec<u8>) {
    let length = 8 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize;
    bytes.clear();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend((8..length).map(|at| (number as usize).wrapping_mul(31).wrapping_add(at) as u8));
}

pub fn verify(number: u64, found: &[u8]) -> Result {
    let mut expected = Vec::new();
    record(number, &mut expected);
    if found == expected {
        Ok(())
    } else {
        Err(format!("record {number} is not what it was").into())
    }
}

/// Appends record after record, and prints how many are in the log for good after every commit.
pub fn write_until_killed(path: &Path) -> Result {
    let mut log = Log::open(path, recover(path, verify)?)?;
    let (mut number, mut bytes) = (log.end.record, Vec::new());
    let mut under_way: Option<Commit> = None;
    let mut acknowledge = std::io::stdout().lock();
    loop {
        let mut group = log.group()?;
        // As many as come while the last group is committed.
        loop {
            record(number, &mut bytes);
            if !group.append(&bytes) {
                break;
            }
            number += 1;
            log.ring.submit()?;
            if under_way.as_ref().is_none_or(|commit| commit.chain.is_done()) {
                break;
            }
        }
        if let Some(commit) = under_way.take() {
            commit.chain.wait(None)?.summary.to_result()?;
            writeln!(acknowledge, "{}", commit.end.record)?;
            acknowledge.flush()?;
        }
        under_way = Some(log.commit(group)?);
    }
}

/// The writer's process, which does not outlive this value.
pub struct Writer(pub Child);

impl Writer {
    pub fn start(path: &Path) -> Result<Self> {
        let mut writer = Command::new(std::env::current_exe()?);
        // What ends this program from a terminal does not reach it: it is killed, and nothing else.
        writer.arg(format!("--{OPTION}")).arg(path).process_group(0);
        Ok(Self(writer.stdout(Stdio::piped()).spawn()?))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It has ended already, but for errors.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}
