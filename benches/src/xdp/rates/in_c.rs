//! The loop in C: compiled here, run as a process of its own in the same network.

use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::io::{FdFlags, fcntl_setfd};

use super::{CORE, Outcome, Run, Work};

pub(crate) const IN_C: &str = "libxdp in C";

/// Compiles it beside this program.
pub(crate) fn compile() -> Result<()> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/xdp/rates/loop.c");
    let output = Command::new("cc")
        .args(["-O3", "-march=native", "-Wall", "-o"])
        .arg(program()?)
        .args([source, "-lxdp", "-lbpf"])
        .output()
        .context("cannot run the C compiler `cc`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "cannot compile the loop in C; it takes libxdp-dev, which `cargo xtask setup` installs:\n{said}"
    );
    Ok(())
}

fn program() -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program lies")?;
    Ok(here.with_file_name("xdp-loop"))
}

pub(super) fn run(run: &Run<'_>) -> Result<Outcome> {
    let map = run.place.map.as_fd();
    fcntl_setfd(map, FdFlags::empty()).context("cannot pass a map on")?;
    let frame: String = run.place.frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let work = match run.job.work {
        Work::Drop => "drop",
        Work::Send => "send",
        Work::Forward => "forward",
    };
    let window = run.job.window;
    let mut child = Command::new(program()?)
        .args([&run.place.interface, work])
        .args([map.as_raw_fd().to_string(), CORE.to_string()])
        .args([window.warm_up, window.duration].map(|time| time.as_millis().to_string()))
        .arg(frame)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the loop in C")?;
    let said = child.stdout.take().context("the loop in C has no output")?;
    let (mut lines, mut mark) = (BufReader::new(said).lines(), None);
    let mut outcome = None;
    while let Some(line) = lines.next().transpose()? {
        let words: Vec<&str> = line.split(' ').collect();
        match (&words[..], mark.take()) {
            (["begin"], _) => mark = Some(run.mark()?),
            (["end", frames, calls], Some(begin)) => {
                let mut since = run.since(&begin)?;
                since.calls = calls.parse()?;
                if run.job.work == Work::Drop {
                    since.frames = frames.parse()?;
                }
                outcome = Some(since);
            }
            _ => {}
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "the loop in C failed: {status}");
    outcome.context("the loop in C did not end its window")
}
