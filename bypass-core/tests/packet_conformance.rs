//! The AF_PACKET port passes the conformance suite on a real interface.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use bypass_core::Result;
use bypass_core::backend::packet::{PacketOptions, PacketPort};
use bypass_core::pool::PoolOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};

fn open(veth: &Veth, change: impl Fn(&mut PacketOptions)) -> Result<(PacketPort, PacketPort)> {
    let side = |namespace: &Namespace| {
        let _inside = namespace.enter()?;
        let mut options = PacketOptions::new(Veth::NAME);
        change(&mut options);
        options.open()
    };
    Ok((side(&veth.a)?, side(&veth.b)?))
}

fn conforms(veth: &VethOptions, change: impl Fn(&mut PacketOptions)) {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(veth).unwrap();
    conformance::packets(|| open(&veth, &change)).assert();
}

#[test]
fn it_conforms_on_a_veth_pair() {
    conforms(&VethOptions::default(), |_| {});
}

#[test]
fn it_conforms_with_jumbo_frames() {
    conforms(&VethOptions { mtu: 9000, ..VethOptions::default() }, |_| {});
}

#[test]
fn it_conforms_with_a_small_ring_and_a_small_pool() {
    conforms(&VethOptions::default(), |options| {
        options.ring = Some(64);
        options.pool = PoolOptions::new(64);
        options.batch = 5;
    });
}

#[test]
fn it_conforms_past_the_queueing_discipline() {
    conforms(&VethOptions::default(), |options| options.qdisc_bypass = true);
}
