//! DPDK by URI: a device of its own, and the echo example on an interface of the kernel's, with a client of
//! others in another network namespace.

#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

mod common;

use std::process::Command;

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::process::alone;
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_io::any::{open_port, open_socket};
use bypass_io::dpdk::DpdkSocket;
use bypass_io::prelude::*;
use bypass_io::{Bind as _, DefaultSocket, Share, UdpOptions};
use common::{Running, example, feed_and_orders_run_on, socat};

#[test]
fn a_ring_brings_back_what_was_sent() {
    alone(|| {
        let mut ring = open_port("dpdk:net_ring0?frames=511&ring=256").unwrap();
        let mut burst = Burst::with_capacity(64);
        for round in 0..100u8 {
            assert_eq!(ring.alloc(&mut burst, 64), 64);
            burst.iter_mut().for_each(|frame| frame.fill(&[round; 60]).unwrap());
            assert_eq!(ring.send(&mut burst).unwrap(), 64);
            assert_eq!(ring.recv(&mut burst).unwrap(), 64);
            assert!(burst.iter().all(|frame| frame.data() == [round; 60]));
            burst.clear();
        }
        let stats = ring.stats();
        assert_eq!((stats.rx_packets, stats.tx_packets), (6400, 6400), "{stats:?}");
    });
}

#[test]
fn what_dpdk_cannot_open_is_named() {
    alone(|| {
        for (uri, said) in [
            ("dpdk:net_nonsense0", "net_nonsense0"),
            ("dpdk:no-such-if", "no-such-if"),
            ("dpdk:net_ring1?send_buffer=4096", "send_buffer"),
            ("dpdk:net_ring1?colour=red", "colour"),
            ("dpdk:net_ring1?share=2/2", "counts from 0"),
        ] {
            let error = open_port(uri).map(drop).unwrap_err().to_string();
            assert!(error.contains(said), "{uri}: {error}");
        }
        // Nothing of it is left in the way.
        open_port("dpdk:net_ring1").map(drop).unwrap();
        let error = open_socket("udp+dpdk://127.0.0.1:0").map(drop).unwrap_err().to_string();
        assert!(error.contains("Ethernet"), "{error}");
        let own =
            "udp+dpdk://10.66.0.9:1?interface=net_ring1&mac=02:00:00:00:00:09&prefix=24&share=0/2";
        let error = open_socket(own).map(drop).unwrap_err().to_string();
        assert!(error.contains("an address of its own"), "{error}");
    });
}

#[test]
fn ports_are_shared_by_uri() {
    alone(|| {
        let open = |share| open_port(&format!("dpdk:net_ring2?frames=511&share={share}")).unwrap();
        let mut burst = Burst::with_capacity(64);
        for (byte, mut ring) in (0u8..).zip(["0/2", "1/2"].map(open)) {
            assert_eq!(ring.alloc(&mut burst, 32), 32);
            burst.iter_mut().for_each(|frame| frame.fill(&[byte; 60]).unwrap());
            assert_eq!(ring.send(&mut burst).unwrap(), 32);
            assert_eq!(ring.recv(&mut burst).unwrap(), 32);
            assert!(burst.iter().all(|frame| frame.data() == [byte; 60]));
            burst.clear();
        }
    });
}

/// Each has a queue of the interface's port, and the flows that the kernel gives it.
#[test]
fn sockets_share_an_address() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    alone(|| {
        let veth = Veth::new(&VethOptions::default()).unwrap();
        let bind = |index| {
            let _inside = veth.a.enter().unwrap();
            let mut options = UdpOptions::new("10.66.0.1:7777".parse().unwrap());
            options.share = Share { index, count: 2 };
            DpdkSocket::bind(&options)
        };
        let mut sockets = [0, 1].map(|index| bind(index).unwrap());
        let error = bind(1).map(drop).unwrap_err().to_string();
        assert!(error.contains("it is in use"), "{error}");
        let mut burst = Burst::with_capacity(32);
        // 24 coins do not all fall on one side.
        for client in 0..24u8 {
            let theirs = {
                let _inside = veth.b.enter().unwrap();
                std::net::UdpSocket::bind("10.66.0.2:0").unwrap()
            };
            theirs.send_to(&[client; 9], "10.66.0.1:7777").unwrap();
            theirs.set_nonblocking(true).unwrap();
            let mut answer = [0; 64];
            let (len, from) = loop {
                for socket in &mut sockets {
                    socket.recv(&mut burst).unwrap();
                    burst.iter_mut().for_each(|datagram| datagram.reply());
                    while !burst.is_empty() {
                        socket.send(&mut burst).unwrap();
                    }
                    socket.flush().unwrap();
                }
                if let Ok(came) = theirs.recv_from(&mut answer) {
                    break came;
                }
            };
            assert_eq!(
                (&answer[..len], from.to_string()),
                (&[client; 9][..], "10.66.0.1:7777".into())
            );
        }
        let received = sockets.map(|socket| socket.stats().rx_packets);
        assert_eq!(received[0] + received[1], 24, "{received:?}");
        assert!(received.iter().all(|&n| n > 0), "{received:?}");
    });
}

#[test]
fn threads_are_as_free_as_before() {
    alone(|| {
        let before = bypass_io::worker::available_cores().unwrap();
        let _ring = open_port("dpdk:net_ring0").unwrap();
        assert_eq!(bypass_io::worker::available_cores().unwrap(), before);
    });
}

/// Whether the examples were built for DPDK: other features come before it.
fn on_dpdk() -> bool {
    std::any::type_name::<DefaultSocket>().contains("dpdk")
}

#[test]
fn echo_serves_socat_over_both_families() {
    if skip(&[Need::Namespaces, Need::Tool("socat"), Need::Tool("kill")]) {
        return;
    }
    let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
    for place in ["10.66.0.1:7777", "[fd66::1]:7777"] {
        // As a user has it, with the address alone, where DPDK is what the features chose.
        let whole = format!("udp+dpdk://{place}");
        let mut echo = {
            let _inside = veth.a.enter().unwrap();
            Running::start(example("echo").arg(if on_dpdk() { place } else { &whole }))
        };
        assert_eq!(echo.line(), format!("echo on {place}, backend dpdk\n"));
        {
            let _inside = veth.b.enter().unwrap();
            assert_eq!(socat(&format!("UDP:{place}"), "are you there?"), "are you there?");
        }
        let id = echo.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let report = echo.finish();
        assert!(report.contains("received 1") && report.contains("sent 1"), "{report}");
    }
}

#[test]
fn times_that_the_driver_does_not_tell_are_refused() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let _inside = veth.a.enter().unwrap();
    let refused = |settings: &str| {
        let place = format!("udp+dpdk://10.66.0.1:0?{settings}");
        open_socket(&place).map(drop).unwrap_err().to_string()
    };
    let error = refused("timestamps=true");
    assert!(error.contains("`timestamps`") && error.contains("dpdk"), "{error}");
}

/// Under CI `cargo xtask` runs them on DPDK, copied, as it does all examples.
#[test]
fn market_data_and_order_sender_name_the_backend_that_they_ran_on() {
    if skip(&[Need::Namespaces]) || !on_dpdk() {
        return;
    }
    feed_and_orders_run_on("dpdk");
}
