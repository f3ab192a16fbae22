//! The XDP program on interfaces of a veth pair: how it comes there, and that it goes.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_xdp::program::{Program, ProgramOptions};
use bypass_xdp::{Hook, Want};

fn veth(options: &VethOptions) -> Option<Veth> {
    (!skip(&[Need::Namespaces, Need::Bpf])).then(|| Veth::new(options).unwrap())
}

/// What `ip` says about the XDP program on side b's interface.
fn xdp_of(veth: &Veth) -> Option<&'static str> {
    let link = veth.b.ip(&format!("-d link show {}", Veth::NAME)).unwrap();
    let mode = |word| link.split_whitespace().any(|one| one == word);
    ["xdpgeneric", "xdp"].into_iter().find(|word| mode(*word))
}

fn attach(veth: &Veth, change: impl FnOnce(&mut ProgramOptions)) -> bypass_core::Result<Program> {
    let _inside = veth.b.enter().unwrap();
    let mut options = ProgramOptions::new(Veth::NAME);
    change(&mut options);
    options.attach()
}

#[test]
fn it_runs_where_it_should_and_goes_with_its_value() {
    let Some(veth) = veth(&VethOptions::default()) else { return };
    for (hook, shown) in [(Hook::Native, "xdp"), (Hook::Generic, "xdpgeneric")] {
        for want in [Want::Require(hook), Want::Prefer(hook)] {
            let program = attach(&veth, |options| options.hook = want).unwrap();
            assert_eq!(xdp_of(&veth), Some(shown));
            assert_eq!(program.attachment().hook(), hook);
            assert!(program.attachment().fallback().is_none());
            assert!(!program.has_frags());
            drop(program);
            assert_eq!(xdp_of(&veth), None);
        }
    }
}
