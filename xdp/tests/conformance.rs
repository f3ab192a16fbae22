//! The conformance suite over veth pairs, in generic and in native mode. Each test has a process of its own:
//! a program that one starts holds, until it runs, copies of the descriptors that another closes.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::cell::Cell;

use bypass_core::TxOffloads;
use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::process::alone;
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::testing::veth;
use bypass_xdp::{Hook, NapiBusyPoll, Want, XdpOptions, XdpPort};

const HOOKS: [Hook; 2] = [Hook::Generic, Hook::Native];

/// Runs the suite in generic and in native mode, each time on one pair, on which ports come and go.
#[expect(clippy::print_stdout, reason = "shown where a check fails")]
fn conforms(change: impl Fn(&mut XdpOptions)) {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    for hook in HOOKS {
        println!("in {hook} mode");
        let veth = Veth::new(&VethOptions::default()).unwrap();
        let opened = Cell::new(0);
        let open = |namespace: &Namespace| {
            let _inside = namespace.enter()?;
            let mut options = XdpOptions::new(Veth::NAME);
            options.hook = Want::Require(hook);
            change(&mut options);
            let port = options.open()?;
            let obtained = port.program().unwrap().attachment().hook();
            assert_eq!(obtained, hook, "nothing else was allowed");
            opened.set(opened.get() + 1);
            Ok::<XdpPort, bypass_core::Error>(port)
        };
        conformance::packets(|| Ok((open(&veth.a)?, open(&veth.b)?))).assert();
        assert!(opened.get() > 20, "every check opens ports of its own");
        // Nothing stays behind.
        for side in [&veth.a, &veth.b] {
            let shown = side.ip("-d link show veth0").unwrap();
            assert!(!shown.contains("xdp"), "{shown}");
        }
    }
}

/// What every backend of whole frames owes on a veth pair, with the settings that all of them have.
#[test]
fn it_does_what_every_port_does_on_a_veth_pair() {
    alone(|| {
        if skip(&[Need::Namespaces, Need::Bpf]) {
            return;
        }
        for hook in HOOKS {
            let open = |options: &PacketOptions| {
                let mut options = XdpOptions::try_from(options)?;
                options.hook = Want::Require(hook);
                options.open()
            };
            veth::ports(open).assert();
        }
    });
}

#[test]
fn as_it_comes() {
    alone(|| {
        conforms(|_| {});
    });
}

#[test]
fn while_polling_the_device() {
    alone(|| {
        conforms(|options| options.busy_poll = Some(NapiBusyPoll::default()));
    });
}

#[test]
fn with_unaligned_memory() {
    alone(|| {
        conforms(|options| options.umem.unaligned = true);
    });
}

#[test]
fn with_frames_of_several_segments() {
    alone(|| {
        conforms(|options| options.multi_buffer = true);
    });
}

#[test]
fn with_room_for_metadata() {
    alone(|| {
        let offloads = TxOffloads::CHECKSUM | TxOffloads::TIMESTAMP;
        conforms(|options| options.umem.pool.tx_offloads = offloads);
    });
}

#[test]
fn with_small_rings_and_little_memory() {
    alone(|| {
        conforms(|options| {
            options.umem.pool.chunks = 256;
            options.umem.pool.rx_reserve = 64;
            (options.rings.rx, options.rings.fill) = (64, 64);
            (options.rings.tx, options.rings.completion) = (32, 32);
        });
    });
}
