//! Several programs on one interface, through libxdp's dispatcher.

#![cfg(feature = "libxdp")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip, skip_because};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{Burst, Endpoint as _, Interest, PacketIo as _};
use bypass_xdp::program::{Filter, Hints, Program, ProgramError, ProgramOptions};
use bypass_xdp::{Hook, Receive, Want, XdpOptions};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// Gives the calling thread mounts of its own, in which there is a BPF file system or none.
fn own_mounts(bpf: bool) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    let kind = if bpf { "bpf" } else { "tmpfs" };
    mount(kind, "/sys/fs/bpf", kind, MountFlags::empty(), None).unwrap();
}

fn options(port: u16, priority: u32, hook: Hook) -> ProgramOptions {
    let mut options = ProgramOptions::new(Veth::NAME);
    options.filter = Filter::new().udp([port]);
    options.hook = Want::Require(hook);
    options.dispatcher = Some(priority);
    options
}

fn shown(namespace: &Namespace) -> bool {
    namespace.ip(&format!("-d link show {}", Veth::NAME)).unwrap().contains("prog/xdp")
}

/// What a program named, and what it did not.
fn counts(program: &Program) -> (u64, u64) {
    let counters = program.counters().unwrap();
    (counters.redirected + counters.no_socket, counters.passed)
}

#[test]
fn two_programs_share_an_interface_and_each_goes_alone() {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let sender = {
        let _inside = veth.a.enter().unwrap();
        UdpSocket::bind("10.66.0.1:0").unwrap()
    };
    let send = |port: u16| sender.send_to(b"x", ("10.66.0.2", port)).unwrap();
    std::thread::scope(|scope| {
        let test = || {
            own_mounts(true);
            let _inside = veth.b.enter().unwrap();
            for hook in [Hook::Native, Hook::Generic] {
                let first = match options(4000, 10, hook).attach() {
                    Ok(first) => Arc::new(first),
                    Err(error) if error.to_string().contains("dispatcher needs Linux 5.10") => {
                        return Some("this kernel refuses programs that replace functions");
                    }
                    Err(error) => panic!("{error}"),
                };
                let second = options(4001, 20, hook).attach().unwrap();
                let kernel = UdpSocket::bind("10.66.0.2:4001").unwrap();
                kernel.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut port = {
                    let mut options = XdpOptions::new(Veth::NAME);
                    options.receive = Receive::Program(Arc::clone(&first));
                    options.open().unwrap()
                };

                send(4000);
                send(4001);
                assert!(!port.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap().is_empty());
                assert_eq!(port.recv(&mut Burst::with_capacity(4)).unwrap(), 1);
                // No socket has joined the second program, so the kernel gets what it names.
                kernel.recv(&mut [0; 4]).unwrap();
                assert_eq!(counts(&first).0, 1, "{hook}");
                assert_eq!(counts(&second).0, 1, "{hook}");
                assert_eq!(counts(&first).1, counts(&second).1 + 1, "the second sees the rest");

                let error = {
                    let mut alone = options(1, 1, hook);
                    alone.dispatcher = None;
                    alone.attach().unwrap_err().to_string()
                };
                assert!(error.contains("xdp_dispatcher"), "{error}");
                assert!(error.contains("join them through the dispatcher"), "{error}");

                drop((port, first));
                send(4001);
                kernel.recv(&mut [0; 4]).unwrap();
                assert_eq!(counts(&second).0, 2, "it goes on alone");
                drop(second);
                assert!(!shown(&veth.b), "the dispatcher goes with the last");
            }
            None
        };
        if let Some(reason) = scope.spawn(test).join().unwrap() {
            skip_because(reason);
        }
    });
}

#[test]
fn what_the_dispatcher_cannot_do_is_an_error_and_leaves_nothing() {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    std::thread::scope(|scope| {
        let test = || {
            own_mounts(false);
            let _inside = veth.b.enter().unwrap();
            let cause = |options: ProgramOptions| {
                let error = options.attach().unwrap_err();
                assert!(!shown(&veth.b), "{error}");
                let bypass_core::Error::Backend { source, .. } = &error else {
                    panic!("{error:?}")
                };
                assert!(matches!(source.downcast_ref(), Some(ProgramError::Refused { .. })));
                error.to_string()
            };
            let error = cause(options(1, 50, Hook::Native));
            assert!(error.contains("`mount -t bpf bpf /sys/fs/bpf`"), "{error}");
            let mut hints = options(1, 50, Hook::Native);
            hints.hints = Hints::Require;
            let error = cause(hints);
            assert!(error.contains("cannot ask the device"), "{error}");
        };
        scope.spawn(test).join().unwrap();
    });
}
