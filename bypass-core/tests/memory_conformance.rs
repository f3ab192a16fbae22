//! The memory link passes the conformance suite, and the suite catches every defect.

#![cfg(feature = "testing")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use bypass_core::backend::memory::{Faults, LinkOptions, MemoryFrame, MemoryPort, link};
use bypass_core::pool::PoolOptions;
use bypass_core::testing::broken::{Broken, Defect};
use bypass_core::testing::conformance;
use bypass_core::{Error, PacketIo, Result};

fn open(options: &LinkOptions) -> Result<(MemoryPort, MemoryPort)> {
    let (a, b) = link(options)?;
    Ok((a.open()?, b.open()?))
}

#[test]
fn the_memory_link_conforms() {
    conformance::packets(|| open(&LinkOptions::default())).assert();
}

#[test]
fn a_link_with_a_cable_of_one_frame_conforms() {
    let options = LinkOptions { ring: 1, pool: PoolOptions::new(64), ..LinkOptions::default() };
    conformance::packets(|| open(&options)).assert();
}

#[test]
fn a_link_that_refuses_now_and_then_conforms() {
    let faults = Faults { refusal: 0.3, seed: 7, ..Faults::default() };
    conformance::packets(|| open(&LinkOptions { faults, ..LinkOptions::default() })).assert();
}

#[test]
fn boxed_ports_conform() {
    type Boxed = Box<dyn PacketIo<Frame = MemoryFrame>>;
    conformance::packets(|| {
        let (a, b) = open(&LinkOptions::default())?;
        Ok((Box::new(a) as Boxed, Box::new(b) as Boxed))
    })
    .assert();
}

/// Every check must fail for at least one defect, or it checks nothing; and every defect must be
/// caught by at least one check.
#[test]
fn every_check_catches_a_defect_and_every_defect_is_caught() {
    let report = |defect| {
        let broken = || {
            let (a, b) = open(&LinkOptions { ring: 128, ..LinkOptions::default() })?;
            Ok((Broken::new(a, defect)?, Broken::new(b, defect)?))
        };
        conformance::with_patience(Duration::from_millis(200), || conformance::packets(broken))
    };
    // All at once: most of the time goes by while something does not happen.
    let reports = std::thread::scope(|scope| {
        let run = |&defect| (defect, scope.spawn(move || report(defect)));
        let running: Vec<_> = Defect::ALL.iter().map(run).collect();
        running.into_iter().map(|(defect, run)| (defect, run.join().unwrap())).collect::<Vec<_>>()
    });
    let mut caught: BTreeMap<&str, Vec<Defect>> = BTreeMap::new();
    for (defect, report) in reports {
        for (name, outcome) in report.outcomes() {
            let by = caught.entry(name).or_default();
            if outcome.is_err() {
                by.push(defect);
            }
        }
        assert!(caught.values().any(|by| by.contains(&defect)), "{defect:?} passes every check");
    }
    let useless: Vec<_> = caught.iter().filter(|(_, by)| by.is_empty()).collect();
    assert!(useless.is_empty(), "no defect fails {useless:?}");
}

#[test]
fn what_is_leaked_at_every_opening_shows_when_it_runs_out() {
    let left = Cell::new(25);
    let report = conformance::packets(|| {
        left.set(left.get() - 1);
        if left.get() < 0 {
            return Err(Error::config("queue", 0, "it is still in use"));
        }
        open(&LinkOptions::default())
    });
    let failed = |(name, outcome): (&str, &conformance::Outcome)| {
        name == "opens_again_after_every_teardown" && outcome.is_err()
    };
    assert!(report.outcomes().any(failed), "{report}");
}
