//! Frames that a program of the user's makes longer or shorter before they are received.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{Burst, Endpoint, PacketIo};
use bypass_xdp::program::{Attachment, XskMap};
use bypass_xdp::{Hook, Receive, Want, XdpPort};
use common::*;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder};

/// The program on side b, its maps, and a port that it redirects to.
struct Tail {
    port: XdpPort,
    map: MapHandle,
    _attached: Attachment,
    _program: Object,
}

impl Tail {
    fn new(rig: &Rig, hook: Hook) -> Self {
        let object = ObjectBuilder::default()
            .open_memory(include_bytes!("../bpf/tail.bpf.o"))
            .unwrap()
            .load()
            .unwrap();
        let map = |name| {
            let map = object.maps().find(|map| map.name() == name).unwrap();
            MapHandle::try_from(&map).unwrap()
        };
        let sockets = map("sockets").as_fd().try_clone_to_owned().unwrap();
        let attached = {
            let _inside = rig.veth.b.enter().unwrap();
            let program = object.progs().find(|program| program.name() == "bypass_tail").unwrap();
            Attachment::new(program.as_fd(), Veth::NAME, Want::Require(hook)).unwrap()
        };
        let port = open(&rig.veth.b, hook, |options| {
            options.receive = Receive::Map(Arc::new(XskMap::from_fd(sockets).unwrap()));
            options.multi_buffer = true;
        });
        Self { port, map: map("tail"), _attached: attached, _program: object }
    }

    /// Has each frame changed by so many bytes.
    fn change_by(&self, delta: i32) {
        let value = [delta.to_ne_bytes(), [0; 4]].concat();
        self.map.update(&[0; 4], &value, MapFlags::ANY).unwrap();
    }

    /// Frames that the kernel would not change since then.
    fn refused(&self) -> usize {
        let value = self.map.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
        u32::from_ne_bytes(*value.last_chunk().unwrap()) as usize
    }

    /// What comes of so many frames: those that were received, as bytes; the others were refused.
    fn collect(&mut self, frames: usize) -> Vec<Vec<u8>> {
        let (mut seen, mut burst) = (Vec::new(), Burst::with_capacity(64));
        let deadline = Instant::now() + Duration::from_secs(5);
        while seen.len() + self.refused() < frames {
            assert!(
                Instant::now() < deadline,
                "{} of {frames}, {:?}",
                seen.len(),
                self.port.stats()
            );
            self.port.recv(&mut burst).unwrap();
            seen.extend(burst.iter().filter(|frame| is_ours(*frame)).map(bytes));
            burst.clear();
        }
        seen
    }
}

/// Sends frames of this length, in as many segments as they need.
fn send_long(port: &mut XdpPort, len: usize, frames: u16) -> Vec<Vec<u8>> {
    let all: Vec<_> = (0..frames).map(|n| numbered(n, len)).collect();
    for whole in &all {
        let pieces: Vec<_> = whole.chunks(1800).map(<[u8]>::to_vec).collect();
        let mut burst = compose(port, &pieces);
        let mut head = burst.pop_front().unwrap();
        while let Some(piece) = burst.pop_front() {
            assert!(head.chain(piece).is_ok());
        }
        assert!(burst.push(head).is_ok());
        send_burst(port, &mut burst);
    }
    all
}

#[test]
fn frames_arrive_as_long_as_the_program_left_them() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |options| {
            options.receive = Receive::Nothing;
            options.multi_buffer = true;
        });
        let (mut tail, mut grown) = (Tail::new(rig, hook), 0);
        for (len, delta) in [
            (60, 0),
            (60, -4),
            (1514, -1450),
            (60, 16),
            (1400, 64),
            (5000, -1),
            // Whole fragments go with it.
            (9000, -4000),
            (9014, -8900),
            // Beyond the frame's own length.
            (60, -60),
            (9000, -9000),
            (5000, 16),
            (9000, 32),
        ] {
            tail.change_by(delta);
            let sent = send_long(&mut a, len, 20);
            let seen = tail.collect(20);
            let after = len.checked_add_signed(delta as isize).unwrap();
            // What is made longer needs room behind it, of which the kernel has some or has not, frame
            // by frame.
            let came = match delta {
                _ if after < 14 => 0..=0,
                ..=0 => 20..=20,
                _ => 0..=20,
            };
            grown += if delta > 0 { seen.len() } else { 0 };
            assert!(came.contains(&seen.len()), "{hook} {len} {delta}: {} came", seen.len());
            for seen in seen {
                let number = u16::from_be_bytes([seen[14], seen[15]]);
                let mut expected = sent[usize::from(number)].clone();
                // What is new is zero.
                expected.resize(after, 0);
                assert_eq!(seen, expected, "{hook} {len} {delta}");
            }
        }
        assert!(grown > 0, "{hook}: nothing was ever made longer");
        let stats = tail.port.stats();
        assert_eq!(stats.drops.total(), 0, "{stats:?}");
        assert!(stats.frames.unwrap().adds_up() && stats.frames.unwrap().held == 0);
    });
}
