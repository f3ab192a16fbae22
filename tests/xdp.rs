//! AF_XDP through the facade: ports that a URI names.

#![cfg(feature = "xdp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::testing::veth::tools::{compose, is_ours, numbered, receive, send};
use bypass_io::any::{AnyPort, open_port};
use bypass_io::prelude::*;
use bypass_io::{DropCause, Error, swap_addresses};

const FRAMES: u16 = 50;

fn open(namespace: &Namespace, uri: &str) -> Result<AnyPort> {
    let _inside = namespace.enter()?;
    open_port(uri)
}

#[test]
fn frames_go_there_and_back_through_ports_that_a_uri_opened() {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    for settings in ["", "?hook=generic&mode=copy", "?hook=native&mode=copy&queue=0&ring=256"] {
        let veth = Veth::new(&VethOptions::default()).unwrap();
        let uri = format!("xdp:veth0{settings}");
        let (mut a, mut b) = (open(&veth.a, &uri).unwrap(), open(&veth.b, &uri).unwrap());
        assert_eq!(a.caps().backend, "xdp");
        // A mode that was not named may be another than the best one, but says so.
        assert_eq!(b.caps().fallbacks.is_empty(), !settings.is_empty(), "{:?}", b.caps());

        let there: Vec<_> = (0..FRAMES).map(|n| numbered(n, 60 + 20 * usize::from(n))).collect();
        send(&mut a, &there);
        a.flush().unwrap();
        let mut burst = Burst::with_capacity(there.len());
        for mut frame in receive(&mut b, there.len(), is_ours) {
            swap_addresses(&mut frame);
            burst.push(frame).unwrap();
        }
        assert_eq!(b.send(&mut burst).unwrap(), there.len());
        b.flush().unwrap();
        let back = receive(&mut a, there.len(), is_ours);
        for (sent, came) in there.iter().zip(&back) {
            assert_eq!((&sent[..6], &sent[6..12]), (&came.data()[6..12], &came.data()[..6]));
            assert_eq!(sent[12..], came.data()[12..], "{uri}");
        }
        for port in [&a, &b] {
            let stats = port.stats();
            assert!(stats.frames.unwrap().adds_up(), "{stats:?}");
            assert_eq!(stats.drops[DropCause::RxInvalid], 0, "{stats:?}");
        }
    }
}

#[test]
fn the_frame_of_another_backend_stays_with_its_sender() {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let mut port = open(&veth.a, "xdp:veth0").unwrap();
    let mut memory = open_port("memory:xdp").unwrap();
    let mut burst = compose(&mut memory, &[numbered(1, 60)]);
    assert!(matches!(port.send(&mut burst), Err(Error::Frame { .. })));
    assert_eq!(burst.len(), 1);
}

#[test]
fn what_a_uri_cannot_have_is_refused_by_name() {
    for (uri, words) in [
        ("xdp:nowhere0?mode=sideways", "zero-copy or copy"),
        ("xdp:nowhere0?hook=line", "native or generic"),
        ("xdp:nowhere0?colour=red", "it knows queue, hook, mode, force, unaligned"),
        ("xdp:nowhere0?promiscuous=true", "promiscuous"),
    ] {
        let error = open_port(uri).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{uri}: {error}");
    }
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    for (uri, words) in [
        ("xdp:nowhere0", "no interface \"nowhere0\""),
        ("xdp:veth0?queue=7", "7"),
        // A veth pair has no zero-copy mode.
        ("xdp:veth0?mode=zero-copy", "zero-copy"),
    ] {
        let error = open(&veth.a, uri).map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{uri}: {error}");
    }
}
