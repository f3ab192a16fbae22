//! Ports on veth pairs, and frames to send.

#![allow(dead_code, unused_imports, reason = "not every test uses everything")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
pub(crate) use bypass_core::testing::veth::tools::{PATIENCE, compose, is_ours, numbered, receive};
use bypass_core::{Buffer, Burst, Endpoint, Error, PacketIo};
use bypass_xdp::{Hook, Want, XdpError, XdpFrame, XdpOptions, XdpPort};

pub(crate) const HOOKS: [Hook; 2] = [Hook::Generic, Hook::Native];

/// One pair at a time: a program that one test starts holds, until it runs, copies of the descriptors
/// that another test closes.
static ALONE: Mutex<()> = Mutex::new(());

/// A veth pair of a test's own.
pub(crate) struct Rig {
    pub(crate) veth: Veth,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    /// Nothing, where the test must be skipped.
    pub(crate) fn new(options: &VethOptions) -> Option<Self> {
        if skip(&[Need::Namespaces, Need::Bpf]) {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self { veth: Veth::new(options).unwrap(), _alone: alone })
    }

    pub(crate) fn pair(&self, hook: Hook, change: impl Fn(&mut XdpOptions)) -> (XdpPort, XdpPort) {
        (open(&self.veth.a, hook, &change), open(&self.veth.b, hook, &change))
    }

    /// Checks that no program is on either side, whose interface a test may have removed.
    pub(crate) fn assert_clean(&self) {
        for side in [&self.veth.a, &self.veth.b] {
            let shown = side.ip("-d link show").unwrap();
            assert!(!shown.contains("xdp"), "{shown}");
        }
    }
}

/// Runs a case with its programs in generic mode and in native mode, on a fresh pair each time, and checks
/// that nothing stays behind. Nothing, where the test must be skipped.
#[expect(clippy::print_stdout, reason = "shown where a case fails")]
pub(crate) fn in_both_modes(options: &VethOptions, case: impl Fn(&Rig, Hook)) {
    for hook in HOOKS {
        let Some(rig) = Rig::new(options) else { return };
        println!("in {hook} mode");
        case(&rig, hook);
        rig.assert_clean();
    }
}

/// The queue that frames from this queue of the other side arrive at: where the kernel's stack takes them,
/// a veth pair delivers them to the queue before it.
pub(crate) fn arrives_at(hook: Hook, queue: u32) -> u32 {
    match hook {
        Hook::Generic => queue.saturating_sub(1),
        Hook::Native => queue,
    }
}

pub(crate) fn options(hook: Hook) -> XdpOptions {
    let mut options = XdpOptions::new(Veth::NAME);
    options.hook = Want::Require(hook);
    options
}

pub(crate) fn try_open(
    namespace: &Namespace,
    hook: Hook,
    change: impl FnOnce(&mut XdpOptions),
) -> bypass_core::Result<XdpPort> {
    let _inside = namespace.enter()?;
    let mut options = options(hook);
    change(&mut options);
    options.open()
}

pub(crate) fn open(
    namespace: &Namespace,
    hook: Hook,
    change: impl FnOnce(&mut XdpOptions),
) -> XdpPort {
    try_open(namespace, hook, change).unwrap()
}

/// Sends these frames.
pub(crate) fn send(port: &mut XdpPort, frames: &[Vec<u8>]) {
    let mut burst = compose(port, frames);
    send_burst(port, &mut burst);
}

pub(crate) fn send_burst(port: &mut XdpPort, burst: &mut Burst<XdpFrame>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !burst.is_empty() {
        port.send(burst).unwrap();
        port.flush().unwrap();
        assert!(Instant::now() < deadline, "{} frames are refused for good", burst.len());
    }
    settle(port);
}

/// Waits until nothing is in flight.
pub(crate) fn settle(port: &mut XdpPort) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while port.stats().tx_in_flight > 0 {
        port.flush().unwrap();
        assert!(Instant::now() < deadline, "{:?}", port.stats());
    }
}

/// Receives what is there already.
pub(crate) fn drain(port: &mut XdpPort) -> Vec<XdpFrame> {
    let (mut burst, mut all) = (Burst::with_capacity(64), Vec::new());
    while port.recv(&mut burst).unwrap() > 0 {
        all.extend(std::iter::from_fn(|| burst.pop_front()));
    }
    all.retain(is_ours);
    all
}

/// All bytes of a frame.
pub(crate) fn bytes(frame: &XdpFrame) -> Vec<u8> {
    frame.segments().flatten().copied().collect()
}

/// The error of AF_XDP inside.
pub(crate) fn xdp_error(error: &Error) -> &XdpError {
    match error {
        Error::Backend { source, .. } => source.downcast_ref().expect("an error of AF_XDP"),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn counter(port: &XdpPort, wanted: &str) -> u64 {
    let mut found = None;
    port.visit_counters(&mut |name, value| {
        if name == wanted {
            found = Some(value);
        }
    });
    found.expect("a counter of this name")
}
