//! [`Cable`]: a veth pair whose ends receive like network cards with interrupts of their own.
//!
//! On a veth pair without more, the kernel's work of receiving is done within the call of who sends. Here each
//! end is polled by a kernel thread (threaded NAPI, Linux 5.12) on the core of who receives there.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bypass_core::sandbox::{Host, Sandbox};

pub(super) const RECEIVER_CORE: usize = 0;
pub(super) const SOURCE_CORE: usize = 1;

/// What a report says of the rig.
pub(super) const ABOUT: &str =
    "Each end of the veth pair is polled by a kernel thread on the core of who receives there.";

/// Moves the process into a network of its own, with a cable to another host; no thread may have been started
/// yet.
pub(super) fn lay() -> Result<Host> {
    // The kernel's threads are called after interfaces, whichever network those are in.
    let host = Sandbox::enter()?.host(&format!("m{}-", std::process::id()))?;
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            host.enter()?;
            receive_on(&host.ends[1].name, SOURCE_CORE)
        });
        there.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    receive_on(&host.ends[0].name, RECEIVER_CORE)?;
    Ok(host)
}

/// Has an interface of the calling thread's network polled on `core`.
fn receive_on(interface: &str, core: usize) -> Result<()> {
    // A veth pair polls where it merges packets. Checksums are left to no device: this is a cable, and AF_XDP
    // at its other end is not told that there are none.
    run("ethtool", &["-K", interface, "gro", "on", "tx", "off"])?;
    // The files about another network are seen where they are mounted from inside it.
    let files = "mount -t sysfs sysfs /sys && echo 1 > /sys/class/net/$0/threaded";
    run("unshare", &["--mount", "sh", "-c", files, interface])?;
    let thread = thread_of(interface)?.to_string();
    run("taskset", &["-cp", &core.to_string(), &thread])?;
    // Ahead of all programs, as interrupts are.
    run("chrt", &["--fifo", "-p", "1", &thread])
}

fn thread_of(interface: &str) -> Result<u32> {
    let prefix = format!("napi/{interface}-");
    let processes = fs::read_dir("/proc").context("cannot list /proc")?;
    let mut ids = processes.filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok());
    let polls = |id: &u32| {
        // It may have ended meanwhile.
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with(&prefix))
    };
    ids.find(polls).with_context(|| format!("no kernel thread polls {interface}; it takes root"))
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(())
}
