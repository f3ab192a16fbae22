//! The steering of a veth pair, which has channels, and says that it has nothing else.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use bypass_core::Error;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_xdp::program::Transport;
use bypass_xdp::steer::{FlowRule, Steering};
use bypass_xdp::{Receive, XdpOptions};

#[test]
fn the_number_of_queues_changes_what_is_opened() {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    let veth = Veth::new(&VethOptions { queues: 4, ..VethOptions::default() }).unwrap();
    let _inside = veth.b.enter().unwrap();
    let device = Steering::of(Veth::NAME).unwrap();
    let mut channels = device.channels().unwrap();
    assert_eq!((channels.rx_queues(), channels.max), (4, [4, 4, 0]));
    let mut options = XdpOptions::new(Veth::NAME);
    options.receive = Receive::Nothing;
    assert_eq!(options.queues().unwrap().len(), 4);

    (channels.rx, channels.tx) = (2, 2);
    device.set_channels(&channels).unwrap();
    assert_eq!(device.channels().unwrap(), channels);
    assert_eq!(options.queues().unwrap().len(), 2);

    channels.rx = 5;
    let error = device.set_channels(&channels).unwrap_err();
    assert_eq!(error.to_string(), "rx = 5: veth0 has 4 at most");
    channels.rx = 0;
    let error = device.set_channels(&channels).unwrap_err();
    assert!(error.to_string().contains("change the number of queues of veth0"), "{error}");
}

#[test]
fn what_the_driver_has_not_is_reported_with_its_name() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let _inside = veth.b.enter().unwrap();
    let device = Steering::of(Veth::NAME).unwrap();
    let rule = FlowRule::new(Transport::Udp, 4000, 0);
    for error in [
        device.indirection().unwrap_err(),
        device.spread(0..1).unwrap_err(),
        device.spread_evenly().unwrap_err(),
        device.rules().unwrap_err(),
        device.add_rule(&rule).unwrap_err(),
        device.remove_rule(0).unwrap_err(),
        Steering::of("lo").unwrap().channels().unwrap_err(),
    ] {
        assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("veth0 (veth)") || text.contains("lo ("), "{text}");
    }
    let error = Steering::of("nosuch0").unwrap_err();
    assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
}

#[test]
fn without_privileges_the_capability_is_named() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions { queues: 2, ..VethOptions::default() }).unwrap();
    let error = std::thread::scope(|scope| {
        let without = || {
            use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
            // The thread ends inside: it may not go home any more.
            let _inside = std::mem::ManuallyDrop::new(veth.b.enter().unwrap());
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, sets).unwrap();
            let device = Steering::of(Veth::NAME).unwrap();
            let mut channels = device.channels().unwrap();
            channels.rx = 1;
            device.set_channels(&channels).unwrap_err()
        };
        scope.spawn(without).join().unwrap()
    });
    let named = matches!(error, Error::MissingCapability { capability: "CAP_NET_ADMIN", .. });
    assert!(named, "{error:?}");
}
