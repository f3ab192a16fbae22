//! Contestants that are programs of their own: the loops in C, ours with DPDK linked in, `dpdk-testpmd`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::loops::{CACHE, CORE, IN_RING, Job, LEN, MBUFS, MEMORY, Outcome, Way};

/// The same loops in C.
pub(crate) const IN_C: &str = "C";
pub(crate) const IN_C_STATIC: &str = "C static";
/// The same, with a look at each packet's length before its first byte is changed, as ours takes it.
pub(crate) const LOOKING: &str = "C, looking";
pub(crate) const LOOKING_STATIC: &str = "C, looking, static";
/// DPDK's own test program.
pub(crate) const TESTPMD: &str = "testpmd";

/// What of DPDK the loops name, for the program that loads it.
const SHARED: [&str; 4] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_bus_vdev"];
const SHARED_TOO: [&str; 2] = ["rte_eal", "rte_ring"];
/// The drivers of the program that it is linked into.
const DRIVERS: [&str; 8] = [
    "bus_pci",
    "bus_vdev",
    "mempool_ring",
    "net_memif",
    "net_null",
    "net_ring",
    "net_vhost",
    "net_virtio",
];
/// What DPDK itself needs then.
const SYSTEM: [&str; 5] = ["numa", "bsd", "pthread", "dl", "m"];

/// Compiles the loops in C beside this program, both ways.
pub(crate) fn compile() -> Result<()> {
    let flags = pkg_config("--cflags")?;
    let shared = SHARED.iter().chain(&SHARED_TOO).map(|library| format!("-l{library}")).collect();
    link(IN_C, &flags, shared)?;
    let mut linked = vec!["-Wl,--whole-archive".to_owned()];
    linked.extend(DRIVERS.iter().map(|driver| format!("-l:librte_{driver}.a")));
    linked.extend(["-Wl,--no-whole-archive", "-Wl,--start-group"].map(str::to_owned));
    let libraries = pkg_config("--libs")?;
    let dpdk = libraries.iter().filter_map(|flag| flag.strip_prefix("-lrte_"));
    linked.extend(dpdk.map(|library| format!("-l:librte_{library}.a")));
    linked.push("-Wl,--end-group".to_owned());
    linked.extend(SYSTEM.iter().map(|library| format!("-l{library}")));
    link(IN_C_STATIC, &flags, linked)
}

fn pkg_config(what: &str) -> Result<Vec<String>> {
    let output = Command::new("pkg-config").args([what, "libdpdk"]).output();
    let output = output.context("cannot run pkg-config")?;
    ensure!(output.status.success(), "pkg-config knows no libdpdk");
    let flags = String::from_utf8(output.stdout)?;
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

fn link(name: &str, flags: &[String], libraries: Vec<String>) -> Result<()> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dpdk/loop.c");
    let output = Command::new("cc")
        .args(["-O3", "-Wall", "-Wno-deprecated-declarations", "-o"])
        .arg(program(name)?)
        .arg(source)
        .args(flags)
        .args(libraries)
        .output()
        .context("cannot run the C compiler `cc`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cannot compile the loops in C:\n{said}");
    Ok(())
}

fn beside(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program lies")?;
    Ok(here.with_file_name(name))
}

fn program(name: &str) -> Result<PathBuf> {
    beside(if [IN_C, LOOKING].contains(&name) { "dpdk-loop" } else { "dpdk-loop-static" })
}

/// Whether so many huge pages are free as the contestants take.
pub(crate) fn has_huge_pages() -> bool {
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    // Of 2 MiB, with some to spare.
    let wanted = MEMORY * 3 / 4;
    free.is_ok_and(|free| free.trim().parse().is_ok_and(|free: u32| free >= wanted))
}

pub(crate) fn in_c(name: &str, job: Job) -> Result<Outcome> {
    let way = match job.way {
        Way::Null => "null",
        Way::Ring => "ring",
        Way::Memif => "memif",
        Way::Virtio => "virtio",
    };
    let touch = match name {
        LOOKING | LOOKING_STATIC => 2,
        _ => u8::from(job.touch),
    };
    let mut command = Command::new(program(name)?);
    command
        .args([way, &job.burst.to_string(), &touch.to_string()])
        .arg(CORE.to_string())
        .args([job.warm_up, job.duration].map(|time| time.as_millis().to_string()))
        .args([LEN.to_string(), MBUFS.to_string(), CACHE.to_string()])
        .args([IN_RING.to_string(), MEMORY.to_string(), u8::from(job.huge).to_string()]);
    let said = answer(command)?;
    let numbers: Vec<&str> = said.split_whitespace().collect();
    let [packets, seconds, start_up] = numbers[..] else { bail!("{name} said {said:?}") };
    Ok(Outcome {
        packets: packets.parse()?,
        seconds: seconds.parse()?,
        start_up: start_up.parse()?,
    })
}

/// Ours in the other program.
pub(crate) fn linked(name: &str, job: Job) -> Result<Outcome> {
    let mut command = Command::new(beside("dpdk-static")?);
    command.args([name, &serde_json::to_string(&job)?]);
    serde_json::from_str(&answer(command)?).with_context(|| format!("{name} printed no outcome"))
}

fn answer(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output();
    let output =
        output.with_context(|| format!("cannot start {program}; `cargo xtask bench` builds it"))?;
    ensure!(output.status.success(), "{program} failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Packets per second that testpmd says it forwards, of a second behind one that does not count.
pub(crate) fn testpmd(job: Job) -> Result<f64> {
    let device =
        if job.way == Way::Null { format!("net_null0,size={LEN}") } else { "net_ring0".to_owned() };
    let child = Command::new("dpdk-testpmd")
        .args(["-l", &format!("0,{CORE}"), "--no-pci", "--no-telemetry", "-m", &MEMORY.to_string()])
        .args([if job.huge { "--in-memory" } else { "--no-huge" }, "--log-level=*:1"])
        .arg(format!("--file-prefix=bypass-testpmd-{}", std::process::id()))
        .arg(format!("--vdev={device}"))
        .args(["--", "--nb-cores=1", "--forward-mode=io", "--tx-first", "--stats-period=1"])
        .args([format!("--burst={}", job.burst), format!("--total-num-mbufs={MBUFS}")])
        .args([format!("--mbcache={CACHE}"), "--rxd=1024".to_owned(), "--txd=1024".to_owned()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run dpdk-testpmd; `cargo xtask setup` installs it")?;
    let mut child = Ending(child);
    let said = child.0.stdout.take().context("testpmd has no output")?;
    // The first two are of when it began.
    let rates = BufReader::new(said).lines().map_while(Result::ok).filter_map(|line| {
        let (_, rate) = line.split_once("Tx-pps:")?;
        rate.split_whitespace().next()?.parse::<f64>().ok()
    });
    rates.skip(2).find(|&rate| rate > 0.0).context("testpmd forwards nothing")
}

/// A process that ends with this.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}
