//! The UDP socket passes the conformance suite, with each of its ways to receive and send.

#![cfg(feature = "testing")]

use bypass_core::backend::socket::{UdpOptions, UdpSocket};
use bypass_core::pool::PoolOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{DatagramIo, Result};

fn loopback(change: impl Fn(&mut UdpOptions)) -> impl Fn() -> Result<(UdpSocket, UdpSocket)> {
    move || {
        let mut options = UdpOptions::new(([127, 0, 0, 1], 0).into());
        change(&mut options);
        Ok((options.open()?, options.open()?))
    }
}

#[test]
fn it_conforms_over_loopback() {
    conformance::datagrams(loopback(|_| {})).assert();
}

#[test]
fn it_conforms_without_coalescing() {
    conformance::datagrams(loopback(|options| options.coalesce = false)).assert();
}

#[test]
fn it_conforms_with_small_batches_and_a_small_pool() {
    conformance::datagrams(loopback(|options| {
        options.batch = 3;
        options.pool = PoolOptions::new(64);
    }))
    .assert();
}

#[test]
fn it_conforms_over_ipv6() {
    let open = || {
        let options = UdpOptions::new("[::1]:0".parse().unwrap());
        Ok((options.open()?, options.open()?))
    };
    conformance::datagrams(open).assert();
}

#[test]
fn connected_sockets_conform() {
    let open = || {
        let mut options = UdpOptions::new(([127, 0, 0, 1], 0).into());
        let a = options.open()?;
        options.peer = Some(a.local_addr());
        let b = options.open()?;
        Ok((a, b))
    };
    conformance::datagrams(open).assert();
}

#[test]
fn it_conforms_between_namespaces() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
    let open = || {
        let on = |namespace: &bypass_core::testing::rig::Namespace, address: std::net::IpAddr| {
            let _inside = namespace.enter()?;
            UdpOptions::new((address, 0).into()).open()
        };
        Ok((on(&veth.a, Veth::IPV4[0].into())?, on(&veth.b, Veth::IPV4[1].into())?))
    };
    conformance::datagrams(open).assert();
}
