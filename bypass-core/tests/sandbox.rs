//! A process in its own namespaces, with real traffic between two interfaces of its own.
//!
//! It moves the whole process, which must have one thread, so it runs without the test harness.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test without the harness reports by itself"
)]

use std::net::UdpSocket;

use bypass_core::Error;
use bypass_core::sandbox::Sandbox;

fn main() {
    let sandbox = match Sandbox::enter() {
        Ok(sandbox) => sandbox,
        Err(error) => {
            println!("SKIPPED sandbox: {error}");
            #[cfg(feature = "testing")]
            bypass_core::testing::needs::skip_because(&error.to_string());
            return;
        }
    };
    loopback_is_up();
    a_veth_pair_is_up_and_named(&sandbox);
    a_host_is_reached_over_a_cable(&sandbox);
    println!("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

fn loopback_is_up() {
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    a.send_to(b"hello", b.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 8];
    assert_eq!(b.recv(&mut bytes).unwrap(), 5);
    assert_eq!(&bytes[..5], b"hello");
}

fn a_veth_pair_is_up_and_named(sandbox: &Sandbox) {
    let ends = sandbox.veth("cable").unwrap();
    let names = ends.each_ref().map(|end| end.name.as_str());
    assert_eq!(names, ["cable0", "cable1"]);
    let interfaces = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(names.iter().all(|name| interfaces.contains(name)), "{interfaces}");
    let taken = sandbox.veth("cable").unwrap_err();
    assert!(taken.to_string().starts_with("cannot make the veth pair cable0"), "{taken}");
}

fn a_host_is_reached_over_a_cable(sandbox: &Sandbox) {
    let host = sandbox.host("far").unwrap();
    let socket = UdpSocket::bind((host.here, 0)).unwrap();
    let to = socket.local_addr().unwrap();
    let from = std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            host.enter().unwrap();
            assert!(UdpSocket::bind((host.here, 0)).is_err(), "that is the sandbox's address");
            let socket = UdpSocket::bind((host.there, 0)).unwrap();
            socket.send_to(b"from afar", to).unwrap();
            assert_eq!(host.dropped(1).unwrap(), 0);
            assert!(host.dropped(0).is_err(), "that end is not here");
            assert!(matches!(host.dropped(2), Err(Error::Config { .. })), "nor anywhere");
            socket.local_addr().unwrap()
        });
        there.join().unwrap()
    });
    let mut bytes = [0; 16];
    let (len, source) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], source), (&b"from afar"[..], from));
    // By way of the cable, not through the kernel's loopback.
    assert_ne!(host.ends[0].mac, host.ends[1].mac);
    assert!(sandbox.host("far").is_err(), "the name is taken");
}
