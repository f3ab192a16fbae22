//! The AF_PACKET endpoint passes the conformance suite on a real interface.
#![cfg(feature = "packet")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::time::Duration;

use bypass_core::Result;
use bypass_core::backend::packet::PacketOptions;
use bypass_core::pool::PoolOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use io_uring_ext::SqPoll;
use io_uring_ext::packet::{UringOptions, UringPort};

fn conforms(veth: &VethOptions, change: impl Fn(&mut PacketOptions, &mut UringOptions)) {
    if skip(&[Need::IoUring, Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(veth).unwrap();
    let side = |namespace: &Namespace| -> Result<UringPort> {
        let _inside = namespace.enter()?;
        let mut packet = PacketOptions::new(Veth::NAME);
        let mut uring = UringOptions::new();
        change(&mut packet, &mut uring);
        UringPort::open(&packet, &uring)
    };
    conformance::packets(|| Ok((side(&veth.a)?, side(&veth.b)?))).assert();
}

#[test]
fn it_conforms_on_a_veth_pair() {
    conforms(&VethOptions::default(), |_, _| {});
}

#[test]
fn it_conforms_with_jumbo_frames() {
    conforms(&VethOptions { mtu: 9000, ..VethOptions::default() }, |_, _| {});
}

#[test]
fn it_conforms_with_a_small_queue_and_a_small_pool() {
    conforms(&VethOptions::default(), |packet, uring| {
        packet.ring = Some(128);
        packet.pool = PoolOptions::new(64);
        packet.batch = 5;
        uring.rx_buffers = Some(4);
    });
}

#[test]
fn it_conforms_past_the_queueing_discipline() {
    conforms(&VethOptions::default(), |packet, _| packet.qdisc_bypass = true);
}

#[test]
fn it_conforms_with_a_polling_kernel_thread() {
    conforms(&VethOptions::default(), |_, uring| {
        uring.sqpoll = Some(SqPoll { idle: Some(Duration::from_millis(2)), cpu: None });
    });
}
