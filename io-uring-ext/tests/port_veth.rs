//! The AF_PACKET endpoint on veth pairs in namespaces, against the kernel's own stack.
#![cfg(feature = "packet")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::time::Duration;

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::testing::veth;
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo};
use io_uring_ext::packet::{UringFrame, UringOptions, UringPort};

#[test]
fn it_does_what_every_port_does_on_a_veth_pair() {
    if !skip(&[Need::IoUring, Need::Namespaces]) {
        veth::ports(|options| UringPort::open(options, &UringOptions::new())).assert();
    }
}

#[test]
fn a_third_party_sees_what_is_sent() {
    if skip(&[Need::IoUring, Need::Namespaces, Need::Tool("arping")]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    // Side b's own address is taken away, so nobody but the port can answer.
    veth.b.ip("address flush dev veth0").unwrap();
    let mut port = {
        let _inside = veth.b.enter().unwrap();
        UringPort::open(&PacketOptions::new(Veth::NAME), &UringOptions::new()).unwrap()
    };
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let said = veth.a.run("arping", "-c 3 -w 5 -I veth0 10.66.0.2");
            drop(stop);
            said
        });
        let mut burst = Burst::with_capacity(8);
        while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            port.wait(Interest::RX, Some(Duration::from_millis(20))).unwrap();
            port.recv(&mut burst).unwrap();
            burst.retain(|frame| frame.data()[12..14] == [8, 6] && frame.data()[21] == 1);
            burst.iter_mut().for_each(answer_arp);
            port.send(&mut burst).unwrap();
        }
        asking.join().unwrap()
    });
    let said = said.unwrap();
    assert!(said.to_lowercase().contains("02:00:00:00:66:02"), "{said}");
}

/// Turns the question who has 10.66.0.2 into the answer (RFC 826).
fn answer_arp(frame: &mut UringFrame) {
    let data = frame.data_mut();
    let asker: [u8; 10] = data[22..32].try_into().unwrap();
    data[..6].copy_from_slice(&asker[..6]);
    data[6..12].copy_from_slice(&Veth::MAC[1].0);
    data[21] = 2;
    data[22..28].copy_from_slice(&Veth::MAC[1].0);
    data[28..32].copy_from_slice(&Veth::IPV4[1].octets());
    data[32..42].copy_from_slice(&asker);
}
