//! The checks that only datagram endpoints have to pass catch every defect that they are for.

#![cfg(feature = "testing")]

use std::collections::BTreeMap;
use std::time::Duration;

use bypass_core::backend::socket::UdpOptions;
use bypass_core::testing::broken::{BrokenSocket, DatagramDefect};
use bypass_core::testing::conformance;

/// The checks that hold for frames too are proved with broken packet queues.
const OURS: [&str; 5] = [
    "carries_an_empty_datagram",
    "carries_the_congestion_mark",
    "refuses_without_a_destination",
    "replies_reach_the_sender",
    "tells_who_sent_and_to_whom",
];

#[test]
fn every_datagram_check_catches_a_defect_and_every_defect_is_caught() {
    let mut caught: BTreeMap<&str, Vec<DatagramDefect>> = BTreeMap::new();
    for &defect in DatagramDefect::ALL {
        let open = || {
            let options = UdpOptions::new(([127, 0, 0, 1], 0).into());
            let broken = || options.open().map(|socket| BrokenSocket::new(socket, defect));
            Ok((broken()?, broken()?))
        };
        let report =
            conformance::with_patience(Duration::from_millis(300), || conformance::datagrams(open));
        for (name, outcome) in report.outcomes().filter(|(name, _)| OURS.contains(name)) {
            let by = caught.entry(name).or_default();
            if outcome.is_err() {
                by.push(defect);
            }
        }
        assert!(caught.values().any(|by| by.contains(&defect)), "{defect:?} passes every check");
    }
    assert!(caught.keys().eq(OURS.iter()), "{caught:?}");
    let useless: Vec<_> = caught.iter().filter(|(_, by)| by.is_empty()).collect();
    assert!(useless.is_empty(), "no defect fails {useless:?}");
}
