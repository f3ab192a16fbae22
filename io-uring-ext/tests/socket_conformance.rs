//! The UDP endpoint passes the conformance suite, in each of its ways to receive and send.
#![cfg(feature = "packet")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::time::Duration;

use bypass_core::backend::socket::UdpOptions;
use bypass_core::pool::PoolOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip, skip_because};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{DatagramIo, Endpoint, Result};
use io_uring_ext::SqPoll;
use io_uring_ext::packet::{UringOptions, UringSocket};

fn loopback(
    change: impl Fn(&mut UdpOptions, &mut UringOptions),
) -> impl Fn() -> Result<(UringSocket, UringSocket)> {
    move || {
        let mut udp = UdpOptions::new(([127, 0, 0, 1], 0).into());
        let mut uring = UringOptions::new();
        change(&mut udp, &mut uring);
        Ok((UringSocket::open(&udp, &uring)?, UringSocket::open(&udp, &uring)?))
    }
}

#[test]
fn it_conforms_over_loopback() {
    if skip(&[Need::IoUring]) {
        return;
    }
    conformance::datagrams(loopback(|_, _| {})).assert();
}

#[test]
fn it_conforms_without_coalescing() {
    if skip(&[Need::IoUring]) {
        return;
    }
    conformance::datagrams(loopback(|udp, _| udp.coalesce = false)).assert();
}

#[test]
fn it_conforms_with_a_small_pool_and_few_buffers() {
    if skip(&[Need::IoUring]) {
        return;
    }
    conformance::datagrams(loopback(|udp, uring| {
        udp.pool = PoolOptions::new(64);
        uring.rx_buffers = Some(4);
    }))
    .assert();
}

#[test]
fn it_conforms_with_a_polling_kernel_thread() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let open = loopback(|udp, uring| {
        // Sending no longer waits for the receiver's thread to run, so its queue must hold a check.
        udp.recv_buffer = Some(16 << 20);
        uring.sqpoll = Some(SqPoll { idle: Some(Duration::from_millis(2)), cpu: None });
    });
    if let Some(small) = open().unwrap().0.caps().fallbacks.first() {
        return skip_because(small);
    }
    conformance::datagrams(open).assert();
}

#[test]
fn it_conforms_over_ipv6_with_everything_told() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let open = || {
        let mut udp = UdpOptions::new("[::1]:0".parse().unwrap());
        udp.timestamps = true;
        let uring = UringOptions::new();
        Ok((UringSocket::open(&udp, &uring)?, UringSocket::open(&udp, &uring)?))
    };
    conformance::datagrams(open).assert();
}

#[test]
fn connected_sockets_conform() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let open = || {
        let mut udp = UdpOptions::new(([127, 0, 0, 1], 0).into());
        let a = UringSocket::open(&udp, &UringOptions::new())?;
        udp.peer = Some(a.local_addr());
        let b = UringSocket::open(&udp, &UringOptions::new())?;
        Ok((a, b))
    };
    conformance::datagrams(open).assert();
}

#[test]
fn it_conforms_between_namespaces() {
    if skip(&[Need::IoUring, Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let open = || {
        let side = |namespace: &bypass_core::testing::rig::Namespace, ip| {
            let _inside = namespace.enter()?;
            UringSocket::open(&UdpOptions::new((ip, 0).into()), &UringOptions::new())
        };
        Ok((side(&veth.a, Veth::IPV4[0])?, side(&veth.b, Veth::IPV4[1])?))
    };
    conformance::datagrams(open).assert();
}
