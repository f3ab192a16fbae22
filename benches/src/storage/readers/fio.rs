//! fio with its io_uring engine, registered buffers and files.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::Job;
use super::super::file::BLOCK;
use crate::child::Outcome;

/// As it is by default: each read is submitted by itself, one completion is waited for.
pub(super) fn one_by_one(job: Job) -> Result<Outcome> {
    run(&job, &[])
}

/// Submits as many as are free at once, and takes as many completions as are there.
pub(super) fn in_batches(job: Job) -> Result<Outcome> {
    let depth = job.depth;
    run(
        &job,
        &[
            format!("--iodepth_batch_submit={depth}"),
            "--iodepth_batch_complete_min=1".to_owned(),
            format!("--iodepth_batch_complete_max={depth}"),
        ],
    )
}

fn run(job: &Job, more: &[String]) -> Result<Outcome> {
    let mut fio = Command::new("fio");
    fio.args(["--name=random-reads", "--rw=randread", "--direct=1", "--norandommap"])
        .args(["--ioengine=io_uring", "--fixedbufs", "--registerfiles", "--time_based"])
        .args([
            "--output-format=json",
            "--percentile_list=50:99",
            "--clat_percentiles=0",
            "--lat_percentiles=1",
        ])
        .arg(format!("--filename={}", job.file.display()))
        .arg(format!("--size={}", job.blocks * BLOCK as u64))
        .arg(format!("--bs={BLOCK}"))
        .arg(format!("--iodepth={}", job.depth))
        .arg(format!("--randseed={}", job.seed))
        .arg(format!("--ramp_time={}ms", job.window.warm_up.as_millis()))
        .arg(format!("--runtime={}ms", job.window.duration.as_millis()))
        .args(more);
    let output = fio.output().context("cannot run fio; install the package fio")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio failed ({}): {}", output.status, said.trim());
    let report: Value =
        serde_json::from_slice(&output.stdout).context("what fio printed is not JSON")?;
    outcome(&report["jobs"][0])
}

/// What fio says about its only job.
fn outcome(job: &Value) -> Result<Outcome> {
    let number = |value: &Value, what: &str| {
        value.as_f64().with_context(|| format!("fio's report has no {what}"))
    };
    let read = &job["read"];
    let seconds = number(&read["runtime"], "runtime")? / 1000.0;
    let percentiles = &read["lat_ns"]["percentile"];
    let busy = number(&job["usr_cpu"], "usr_cpu")? + number(&job["sys_cpu"], "sys_cpu")?;
    Ok(Outcome {
        operations: number(&read["total_ios"], "total_ios")? as u64,
        seconds,
        cpu_seconds: busy / 100.0 * seconds,
        switches: number(&job["ctx"], "ctx")? as u64,
        p50_ns: number(&percentiles["50.000000"], "p50")? as u64,
        p99_ns: number(&percentiles["99.000000"], "p99")? as u64,
        allocations: None,
        system_calls: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_read() {
        let report = json!({
            "usr_cpu": 4.0, "sys_cpu": 21.0, "ctx": 77,
            "read": {
                "runtime": 2000, "total_ios": 1000,
                "lat_ns": { "percentile": { "50.000000": 264_192, "99.000000": 464_896 } },
            },
        });
        let outcome = outcome(&report).unwrap();
        assert_eq!((outcome.operations, outcome.switches), (1000, 77));
        assert!((outcome.cpu_seconds - 0.5).abs() < 1e-9, "{outcome:?}");
        assert_eq!((outcome.p50_ns, outcome.p99_ns), (264_192, 464_896));
        assert!(super::outcome(&json!({})).is_err());
    }
}
