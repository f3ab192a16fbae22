//! A process in its own namespaces, with real traffic between two interfaces of its own.
//!
//! It moves the whole process, which must have one thread, so it runs without the test harness.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test without the harness reports by itself"
)]

use std::net::UdpSocket;

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
    println!("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
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
