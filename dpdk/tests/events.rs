//! Being told of what happens to a port, and rules for what it receives.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip, skip_because};
use bypass_core::testing::rig::Namespace;
use bypass_core::{Buffer, Burst, Endpoint, Error, Interest, PacketIo, Ready};
use bypass_dpdk::flow::{Action, Item, Rule};
use bypass_dpdk::{Event, PortOptions, Subscription};
use common::*;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn who_subscribes_is_told_of_the_link_until_he_goes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let socket = socket.to_str().unwrap();
    let pool = pool(4095);
    let options = PortOptions::new(&pool);
    let (_serving, port) = started("net_vhost", &format!("iface={socket}"), &options).unwrap();
    let (tell, told) = channel();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let subscription = port
        .on(Event::Link, move || {
            counter.fetch_add(1, Ordering::SeqCst);
            let _nobody_listens = tell.send(());
        })
        .unwrap();
    // One that panics does no harm, nor one that is not interested.
    let _panics = port.on(Event::Link, || panic!("caught")).unwrap();
    let never = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&never);
    let _reset = port
        .on(Event::Reset, move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    // One that unsubscribes from inside of itself.
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let inside = Arc::clone(&own);
    let ends_itself = port.on(Event::Link, move || drop(inside.lock().unwrap().take())).unwrap();
    *own.lock().unwrap() = Some(ends_itself);

    let peer = || started("net_virtio_user", &format!("path={socket}"), &options).unwrap();
    let first = peer();
    told.recv_timeout(PATIENCE).expect("the peer has come");
    while !port.link().unwrap().is_up {
        std::thread::yield_now();
    }
    drop(first);
    while port.link().unwrap().is_up {
        told.recv_timeout(PATIENCE).expect("the peer has gone");
    }
    drop(subscription);
    // A call that was under way ends.
    let last = std::iter::repeat_with(|| told.recv_timeout(PATIENCE)).find_map(Result::err);
    assert_eq!(last, Some(RecvTimeoutError::Disconnected));
    let before = calls.load(Ordering::SeqCst);
    let _second = peer();
    while !port.link().unwrap().is_up {
        std::thread::yield_now();
    }
    assert_eq!((calls.load(Ordering::SeqCst), never.load(Ordering::SeqCst)), (before, 0));
}

fn dns() -> Rule {
    Rule::new()
        .when(Item::Ethernet { destination: None, source: None, ether_type: None })
        .when(Item::Ipv4 {
            source: Some("10.0.0.0/8".parse().unwrap()),
            destination: None,
            protocol: None,
        })
        .when(Item::Udp { source: None, destination: Some(53) })
        .then(Action::Queue(0))
}

#[test]
fn a_rule_names_each_queue_once() {
    let pool = pool(255);
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    for queues in [vec![], vec![0, 0], vec![0; 1000]] {
        let error = port.validate_flow(&Rule::new().then(Action::Rss(queues))).unwrap_err();
        assert!(error.to_string().contains("named once"), "{error}");
    }
}

#[test]
fn a_driver_without_rules_says_so() {
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool(255))).unwrap();
    for error in [port.validate_flow(&dns()).unwrap_err(), port.create_flow(&dns()).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("flow rule") && text.contains("net_ring"), "{text}");
    }
    let missing = port.validate_flow(&Rule::new().then(Action::Rss(vec![0, 1]))).unwrap_err();
    assert!(matches!(missing, Error::Config { .. }), "{missing}");
}

/// `net_tap` follows rules where the kernel has the discipline `multiq` and the classifier `flower`.
#[test]
fn a_rule_is_followed_until_it_is_dropped() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let _inside = namespace.enter().unwrap();
    let (_device, port) = tap(&namespace, &PortOptions::new(&pool(4095)));
    let drop_dns = Rule { actions: vec![Action::Drop], ..dns() };
    port.validate_flow(&drop_dns).unwrap();
    match port.create_flow(&drop_dns) {
        Ok(rule) => drop(rule),
        // The driver's own words for a kernel without the classifier.
        Err(error) if error.to_string().contains("flower") => {
            return skip_because(&format!("no rules on taps without cls_flower: {error}"));
        }
        Err(error) => panic!("{error}"),
    }
    let mut queue = port.queue_pair(0).unwrap();
    let socket = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    // What is dropped comes before what is not; the latter says when to look.
    let mut sees_dns = || {
        socket.send_to(b"dns", "10.77.0.255:53").unwrap();
        socket.send_to(b"end", "10.77.0.255:54").unwrap();
        let (mut packets, mut seen) = (Burst::with_capacity(32), false);
        loop {
            assert!(queue.wait(Interest::RX, Some(PATIENCE)).unwrap().contains(Ready::RX));
            queue.recv(&mut packets).unwrap();
            seen |= packets.iter().any(|packet| packet.data().ends_with(b"dns"));
            if packets.iter().any(|packet| packet.data().ends_with(b"end")) {
                return seen;
            }
            packets.clear();
        }
    };
    assert!(sees_dns());
    let rule = port.create_flow(&drop_dns).unwrap();
    assert!(!sees_dns());
    drop(rule);
    assert!(sees_dns());
    drop(queue);
    let rule = port.create_flow(&drop_dns).unwrap();
    let refused = port.stop().unwrap_err();
    assert!(refused.to_string().contains("flow rules"), "{refused}");
    drop(rule);
    refused.port.stop().unwrap();
}
