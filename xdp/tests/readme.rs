//! The README's program is the example, and does what the README says.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bypass_core::testing::rig::{Veth, VethOptions};
use common::Rig;

/// The first program of the README.
fn program() -> &'static str {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```rust,no_run\n").unwrap();
    rest.split_once("```\n").unwrap().0
}

#[test]
fn the_readme_shows_the_example() {
    assert!(include_str!("../examples/receive.rs").ends_with(program()));
    assert!(program().lines().count() < 25, "{}", program());
}

/// It is ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn it_receives_its_port_and_leaves_the_rest_and_itself_nowhere() {
    let Some(rig) = Rig::new(&VethOptions::default()) else { return };
    // The interface that it names.
    rig.veth.a.ip("link set veth0 down").unwrap();
    rig.veth.a.ip("link set veth0 name eth1").unwrap();
    rig.veth.a.ip("link set eth1 up").unwrap();
    let test = std::env::current_exe().unwrap();
    let folder: &Path = test.ancestors().nth(2).unwrap();
    let (mut running, kernels) = {
        let _inside = rig.veth.a.enter().unwrap();
        let program = folder.join("examples/receive");
        let running = Command::new(program).stdout(Stdio::piped()).spawn().unwrap();
        (Running(running), UdpSocket::bind((Veth::IPV4[0], 4001)).unwrap())
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !rig.veth.a.ip("-d link show eth1").unwrap().contains("xdp") {
        assert!(running.0.try_wait().unwrap().is_none(), "it has ended");
        assert!(Instant::now() < deadline, "it does not start");
    }
    let peer = {
        let _inside = rig.veth.b.enter().unwrap();
        UdpSocket::bind((Veth::IPV4[1], 0)).unwrap()
    };
    // The program is attached before the socket is bound: until then the kernel gets what comes.
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let (done, sender) = (std::sync::atomic::AtomicBool::new(false), &peer);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire) && Instant::now() < deadline {
                // Refused while nobody has the port.
                let _refused = sender.send_to(b"hello", (Veth::IPV4[0], 4000));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let line = lines.next();
        done.store(true, std::sync::atomic::Ordering::Release);
        line
    });
    // Ethernet, IPv4 and UDP headers, and what was sent.
    assert_eq!(line.unwrap().unwrap(), "47 bytes");
    peer.send_to(b"others", (Veth::IPV4[0], 4001)).unwrap();
    kernels.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(kernels.recv(&mut [0; 16]).unwrap(), 6);
    drop(running);
    assert!(!rig.veth.a.ip("-d link show eth1").unwrap().contains("xdp"));
}
