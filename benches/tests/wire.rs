//! Servers and generator in two network namespaces, over a cable that stands for network cards and a wire.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};

const SERVERS: &str = "10.66.0.1";

/// The program with arguments, to be started by a thread that is inside.
fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bypass-benches"));
    command.args(arguments.split_whitespace());
    command
}

fn output(inside: &Namespace, arguments: &str) -> Output {
    let _inside = inside.enter().unwrap();
    bench(arguments).output().unwrap()
}

fn said(inside: &Namespace, arguments: &str) -> String {
    let output = output(inside, arguments);
    assert!(!output.status.success(), "`{arguments}` was to be refused");
    String::from_utf8(output.stderr).unwrap()
}

/// Serves until it is dropped.
struct Serving {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Serving {
    fn start(inside: &Namespace, arguments: &str) -> Self {
        let _inside = inside.enter().unwrap();
        let mut process = bench(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    /// The command for the other machine.
    fn other_end(&mut self) -> String {
        let mut lines = self.said.by_ref().lines().map(Result::unwrap);
        let command = lines.find(|line| line.contains("--client")).expect("it names no command");
        command.trim().strip_prefix("cargo xtask bench ").unwrap().to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Measures some servers of a scenario at one end of a cable from the other, and returns the report.
fn measured(veth: &Veth, scenario: &str, only: &str) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut serving = Serving::start(&veth.a, &format!("{scenario} --nic veth0"));
    let command = serving.other_end().replace("<interface>", "veth0");
    assert_eq!(command, format!("{scenario} --client veth0 --server {SERVERS}"));
    let wrong = said(&veth.b, &format!("echo_tcp --client veth0 --server {SERVERS} --quick"));
    assert!(wrong.contains("not of `echo_tcp`"), "{wrong}");
    let run = format!("{command} --quick --rounds 1 --only {only} --json {}", file.display());
    let output = output(&veth.b, &run);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let network = report["environment"]["network"].as_str().unwrap();
    assert!(
        network.starts_with("generator on veth0") && network.contains("servers on"),
        "{network}"
    );
    report
}

/// A figure of a report.
fn fact(report: &serde_json::Value, contestant: &str, metric: &str) -> f64 {
    let mut facts = report["facts"].as_array().unwrap().iter();
    let fact = facts.find(|fact| fact["contestant"] == contestant && fact["metric"] == metric);
    fact.unwrap_or_else(|| panic!("no {metric} of {contestant}"))["value"].as_f64().unwrap()
}

/// Packets that have come to an end of the cable.
fn came(end: &Namespace) -> u64 {
    let crossed = end.ip("-s -j link show veth0").unwrap();
    let crossed: serde_json::Value = serde_json::from_str(&crossed).unwrap();
    crossed[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

#[test]
fn servers_on_an_interface_are_measured_from_another() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let report = measured(&veth, "echo", "socket,recvmmsg");
    for server in ["socket", "recvmmsg"] {
        assert!(fact(&report, server, "round trips per second") > 0.0, "{server}");
        // The counters came over the wire, too.
        assert!(fact(&report, server, "round trips per CPU second") > 0.0, "{server}");
    }
    // What crossed the cable is what was echoed.
    assert!(came(&veth.b) > 1000);
}

/// A veth pair leaves checksums to a device that is not there, and tells AF_XDP nothing; this one does not.
#[cfg(feature = "xdp")]
fn veth_with_checksums() -> Veth {
    let veth = Veth::new(&VethOptions::default()).unwrap();
    for end in [&veth.a, &veth.b] {
        end.run("ethtool", "-K veth0 tx off").unwrap();
    }
    veth
}

/// Queries are sent over AF_XDP then.
#[test]
#[cfg(feature = "xdp")]
fn a_dns_server_on_an_interface_is_asked_from_another() {
    if skip(&[Need::Namespaces, Need::Bpf, Need::IoUring, Need::Tool("ethtool")]) {
        return;
    }
    let veth = veth_with_checksums();
    let report = measured(&veth, "dns", "AF_XDP");
    assert!(fact(&report, "AF_XDP", "answers per second in a flood") > 0.0);
    // The counters came over the wire, too.
    assert!(fact(&report, "AF_XDP", "CPU µs per query at the common rate") > 0.0);
    assert!(came(&veth.b) > 1000);
}

/// Messages are sent over AF_XDP then, and counted at the other end.
#[test]
#[cfg(feature = "xdp")]
fn a_market_data_receiver_on_an_interface_is_fed_from_another() {
    if skip(&[Need::Namespaces, Need::Bpf, Need::IoUring, Need::Tool("ethtool")]) {
        return;
    }
    let veth = veth_with_checksums();
    let report = measured(&veth, "market", "recvmmsg");
    assert!(fact(&report, "recvmmsg", "messages per second without a loss") > 0.0);
    assert!(came(&veth.a) > 10_000);
}

/// The echo is all of `xdp` that has a wire.
#[test]
#[cfg(feature = "peers")]
fn an_echo_on_af_xdp_is_asked_from_another_interface() {
    if skip(&[Need::Namespaces, Need::Bpf, Need::Tool("ethtool")]) {
        return;
    }
    let veth = veth_with_checksums();
    let report = measured(&veth, "xdp", "AF_XDP");
    assert!(fact(&report, "AF_XDP", "echoes per second, none lost") > 0.0);
    assert!(report["notes"].to_string().contains("xdpsock"), "{report}");
    assert!(came(&veth.b) > 1000);
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let nobody = said(&veth.b, &format!("echo --client veth0 --server {SERVERS} --quick"));
    assert!(nobody.contains("nobody serves"), "{nobody}");
    let alone = said(&veth.a, "storage --nic veth0");
    assert!(alone.contains("`storage` cannot use a network card; echo"), "{alone}");
    veth.a.ip("route add default dev veth0").unwrap();
    let lifeline = said(&veth.a, "echo --nic veth0");
    assert!(lifeline.contains("default route") && lifeline.contains("--force"), "{lifeline}");
    // Unless it is wanted.
    assert!(Serving::start(&veth.a, "echo --nic veth0 --force").other_end().contains(SERVERS));
    veth.a.ip("link set veth0 down").unwrap();
    let down = said(&veth.a, "echo --nic veth0");
    assert!(down.contains("ip link set veth0 up"), "{down}");
}
