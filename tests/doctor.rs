//! What the example `doctor` says, and the module under it, on machines made for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

use std::path::PathBuf;
#[cfg(feature = "xdp")]
use std::process::Stdio;
use std::process::{Command, Output};

use bypass_io::probe::{self, ProbeOptions, Verdict};
use serde_json::Value;

fn doctor(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let profile: PathBuf = test.ancestors().nth(2).unwrap().to_owned();
    Command::new(profile.join("examples/doctor")).args(arguments).output().unwrap()
}

/// The verdict on a subject, in the JSON report.
fn verdict<'a>(report: &'a Value, section: &str, subject: &str) -> Option<&'a str> {
    let named = |key: &'static str, name: &str| {
        let name = name.to_owned();
        move |value: &&Value| value[key] == *name
    };
    let sections = report["sections"].as_array()?;
    let findings = sections.iter().find(named("name", section))?["findings"].as_array()?;
    findings.iter().find(named("subject", subject))?["verdict"].as_str()
}

#[test]
fn the_report_agrees_with_what_can_be_opened() {
    let report = probe::run(&ProbeOptions::default());
    let raw =
        rustix::net::socket(rustix::net::AddressFamily::PACKET, rustix::net::SocketType::RAW, None);
    assert_eq!(report.meets("packet").is_ok(), raw.is_ok(), "{report}");
    #[cfg(feature = "io-uring")]
    assert_eq!(report.meets("io_uring").is_ok(), bypass_io::io_uring::Ring::local().is_ok());
    // No finding is empty, and whatever is missing says what to do, by itself or by its error.
    for section in &report.sections {
        assert!(!section.findings.is_empty(), "{}", section.name);
        for finding in &section.findings {
            assert!(!finding.subject.is_empty(), "{}: {finding}", section.name);
            let helps = finding.remedy.is_some() || finding.detail.len() > 10;
            assert!(finding.verdict == Verdict::Good || helps, "{}: {finding}", section.name);
        }
    }
}

#[test]
fn the_exit_status_says_whether_requirements_are_met() {
    assert!(doctor(&[]).status.success());
    assert!(doctor(&["--require", "machine"]).status.success());
    let output = doctor(&["--json", "--require", "xdp:nowhere0", "--require", "machine"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict(&report, "machine", "kernel"), Some("good"));
    let unmet = report["unmet"].as_array().unwrap();
    assert_eq!((unmet.len(), unmet[0]["requirement"].as_str()), (1, Some("xdp:nowhere0")));
    let output = doctor(&["--sideways"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--require"));
}

#[cfg(feature = "xdp")]
mod xdp {
    use bypass_core::testing::needs::{Need, skip};
    use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
    use bypass_io::xdp::XdpOptions;

    use super::*;

    fn veth() -> Option<Veth> {
        let needs = [Need::Namespaces, Need::Bpf];
        (!skip(&needs)).then(|| Veth::new(&VethOptions::default()).unwrap())
    }

    fn report(namespace: &Namespace, arguments: &[&str]) -> (Value, Option<i32>) {
        let _inside = namespace.enter().unwrap();
        let output = doctor(&[&["--json"], arguments].concat());
        (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
    }

    #[test]
    fn an_interface_is_tried_when_asked_for() {
        let Some(veth) = veth() else { return };
        let section = "xdp:veth0";
        let (said, code) = report(&veth.a, &["--require", section]);
        assert_eq!(verdict(&said, section, "trial"), Some("limited"));
        assert_eq!((verdict(&said, section, "driver"), code), (Some("good"), Some(0)));

        let (said, code) = report(&veth.a, &["--try", "--require", section, "veth0"]);
        let verdicts = ["generic mode", "native mode", "zero-copy"]
            .map(|subject| verdict(&said, section, subject));
        assert_eq!(verdicts, [Some("good"), Some("good"), Some("limited")], "{said:#}");
        assert_eq!((verdict(&said, section, "XDP program"), code), (Some("good"), Some(0)));
        assert_eq!(verdict(&said, section, "queues"), Some("good"), "{said:#}");
        // What a veth pair has none of is said, with the reason.
        assert_eq!(verdict(&said, section, "ring sizes"), Some("limited"), "{said:#}");
        assert_eq!(verdict(&said, section, "NUMA node"), Some("good"), "{said:#}");
        let link = veth.a.ip("-d link show veth0").unwrap();
        assert!(!link.contains("xdp"), "nothing stays: {link}");
    }

    #[test]
    fn the_interface_of_a_default_route_is_left_alone_unless_forced() {
        let Some(veth) = veth() else { return };
        veth.a.ip("route add default via 10.66.0.2").unwrap();
        let (said, _) = report(&veth.a, &["--try"]);
        assert_eq!(verdict(&said, "xdp:veth0", "trial"), Some("limited"));
        assert_eq!(verdict(&said, "xdp:veth0", "generic mode"), None);
        let (said, _) = report(&veth.a, &["--try", "--force"]);
        assert_eq!(verdict(&said, "xdp:veth0", "generic mode"), Some("good"));
    }

    /// `doctor --clean`, which is told `answer` when it asks.
    fn clean(answer: &str) -> String {
        use std::io::Write as _;
        let test = std::env::current_exe().unwrap();
        let mut doctor = Command::new(test.ancestors().nth(2).unwrap().join("examples/doctor"))
            .args(["--clean", "veth0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        doctor.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = doctor.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_program_that_nobody_holds_is_taken_off_by_those_who_say_yes() {
        let Some(veth) = veth() else { return };
        // Attached by a program that has ended since.
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/xdp/bpf/steer.bpf.o");
        veth.a.ip(&format!("link set dev veth0 xdpgeneric obj {object} sec xdp")).unwrap();
        let is_there = || veth.a.ip("-d link show veth0").unwrap().contains("xdpgeneric");
        let _inside = veth.a.enter().unwrap();
        for answer in ["", "n\n", "perhaps\n"] {
            let said = clean(answer);
            assert!(said.contains("take") && said.contains("[y/N]") && is_there(), "{said}");
        }
        let said = clean("y\n");
        assert!(said.contains("is off") && !is_there(), "{said}");
    }

    #[test]
    fn a_program_that_is_in_the_way_is_missing_room() {
        let Some(veth) = veth() else { return };
        let port = {
            let _inside = veth.a.enter().unwrap();
            XdpOptions::new("veth0").open().unwrap()
        };
        let (said, code) = report(&veth.a, &["--try", "--require", "xdp:veth0"]);
        assert_eq!(verdict(&said, "xdp:veth0", "XDP program"), Some("missing"));
        assert_eq!((verdict(&said, "xdp:veth0", "trial"), code), (Some("limited"), Some(1)));
        let _inside = veth.a.enter().unwrap();
        let cleaned = doctor(&["--clean", "--yes"]);
        let text = String::from_utf8(cleaned.stdout).unwrap();
        assert!(cleaned.status.success() && text.contains("has a holder"), "{text}");
        assert!(veth.a.ip("-d link show veth0").unwrap().contains("xdp"));
        drop(port);
        let text = String::from_utf8(doctor(&["--clean"]).stdout).unwrap();
        assert!(text.contains("veth0: no XDP program"), "{text}");
    }
}
