//! Opening: what is refused, with which words, and what was obtained.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::os::fd::AsFd;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{Buffer, Burst, Endpoint, Error, Frame, PacketIo};
use bypass_xdp::program::{Filter, Program, ProgramOptions, XskMap};
use bypass_xdp::{
    CopyMode, Hook, Interface, NapiBusyPoll, Receive, Umem, UmemOptions, Want, XdpError,
    XdpOptions, XdpQueue,
};
use common::*;

#[test]
fn settings_that_make_no_sense_are_named() {
    type Change = fn(&mut XdpOptions);
    fn polls(micros: u32, budget: u32) -> Option<NapiBusyPoll> {
        Some(NapiBusyPoll { micros, budget })
    }
    let cases: [(&str, Change); 14] = [
        ("rings.rx", |options| options.rings.rx = 0),
        ("rings.tx", |options| options.rings.tx = 511),
        ("rings.fill", |options| options.rings.fill = 3000),
        ("rings.rx", |options| options.rings.rx = 1 << 31),
        ("rings.completion", |options| options.rings.completion = u32::MAX),
        ("rings.completion", |options| options.rings.completion = 1024),
        ("rings.fill", |options| options.rings.fill = 1024),
        ("tx_budget", |options| options.tx_budget = Some(31)),
        ("tx_budget", |options| options.tx_budget = Some(2049)),
        ("tx_budget", |options| options.tx_budget = Some(u32::MAX)),
        ("busy_poll", |options| options.busy_poll = polls(0, 64)),
        ("busy_poll", |options| options.busy_poll = polls(1 << 31, 64)),
        ("busy_poll.budget", |options| options.busy_poll = polls(20, 0)),
        ("busy_poll.budget", |options| options.busy_poll = polls(20, 1 << 16)),
    ];
    for (setting, change) in cases {
        let mut options = XdpOptions::new("lo");
        change(&mut options);
        let error = options.queues().expect_err(setting);
        assert!(matches!(&error, Error::Config { setting: s, .. } if s == setting), "{error}");
    }
    let mut options = XdpOptions::new("lo");
    options.rings.tx = 511;
    let error = options.open().unwrap_err().to_string();
    assert_eq!(error, "rings.tx = 511: rings have a power of two of entries; 512 is the next");
}

#[test]
fn an_interface_or_queue_that_does_not_exist_is_named() {
    let error = XdpOptions::new("nosuch0").open().unwrap_err();
    assert!(matches!(&error, Error::NoSuchInterface { name, .. } if name == "nosuch0"), "{error}");
    let mut options = XdpOptions::new("lo");
    options.queue = 1;
    let error = options.open().unwrap_err();
    let XdpError::NoSuchQueue { queue: 1, queues: 1, .. } = xdp_error(&error) else { panic!() };
    assert!(error.to_string().contains("lo has no queue 1: it has 1"), "{error}");
}

#[test]
fn without_the_capability_it_is_named() {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let outcome = thread::spawn(|| {
        let CapabilitySets { mut effective, permitted, inheritable } = capabilities(None).unwrap();
        effective.remove(CapabilitySet::NET_RAW);
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable }).unwrap();
        XdpOptions::new("lo").open().map(|_| ())
    });
    let error = outcome.join().unwrap().unwrap_err();
    let Error::MissingCapability { capability, .. } = error else { panic!("{error}") };
    assert_eq!(capability, "CAP_NET_RAW");
}

/// Without CAP_IPC_LOCK the limit counts, and what fits into it opens. No program runs, in whichever mode.
#[test]
fn memory_beyond_the_limit_is_refused_with_its_size() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    let Some(rig) = Rig::new(&VethOptions::default()) else { return };
    // The limit is the process's; its other threads have the capability.
    let before = getrlimit(Resource::Memlock);
    let (large, small) = thread::scope(|scope| {
        let opened = scope.spawn(|| {
            let CapabilitySets { mut effective, permitted, inheritable } =
                capabilities(None).unwrap();
            effective.remove(CapabilitySet::IPC_LOCK);
            set_capabilities(None, CapabilitySets { effective, permitted, inheritable }).unwrap();
            setrlimit(Resource::Memlock, Rlimit { current: Some(1 << 18), ..before }).unwrap();
            let open = |chunks| {
                let opened = try_open(&rig.veth.a, Hook::Native, |options| {
                    options.receive = Receive::Nothing;
                    (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (chunks, 16);
                });
                opened.map(drop)
            };
            (open(4096), open(64))
        });
        opened.join().unwrap()
    });
    setrlimit(Resource::Memlock, before).unwrap();
    let error = large.unwrap_err();
    let XdpError::LockedMemory { bytes: 8_388_608 } = xdp_error(&error) else { panic!("{error}") };
    assert!(error.to_string().contains("LimitMEMLOCK="), "{error}");
    small.unwrap();
}

#[test]
fn a_mode_that_is_required_is_had_or_refused_and_never_changed() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let error = try_open(&rig.veth.a, hook, |options| {
            options.mode = Want::Require(CopyMode::ZeroCopy);
        })
        .unwrap_err();
        let XdpError::ModeRefused { mode: CopyMode::ZeroCopy, .. } = xdp_error(&error) else {
            panic!("{error}");
        };
        assert!(error.to_string().contains("veth0 cannot do zero-copy on queue 0"), "{error}");
        rig.assert_clean();

        let port = open(&rig.veth.a, hook, |_| {});
        assert_eq!(port.copy_mode(), CopyMode::Copy);
        let caps = port.caps();
        assert_eq!((caps.zero_copy, caps.rx_copies, caps.tx_copies), (false, 1, 1));
        let [told] = &caps.fallbacks[..] else { panic!("{:?}", caps.fallbacks) };
        assert!(told.starts_with("zero-copy preferred, copy mode obtained"), "{told}");
        drop(port);

        let port = open(&rig.veth.a, hook, |options| options.mode = Want::Require(CopyMode::Copy));
        assert!(port.caps().fallbacks.is_empty());
    });
}

#[test]
fn an_mtu_beyond_a_chunk_is_refused_unless_frames_may_have_segments() {
    in_both_modes(&VethOptions { mtu: 1700, ..VethOptions::default() }, |rig, hook| {
        let error = try_open(&rig.veth.a, hook, |_| {}).unwrap_err();
        let XdpError::MtuTooLarge { mtu: 1700, frame: 1718, room: 1664, .. } = xdp_error(&error)
        else {
            panic!("{error}");
        };
        assert!(error.to_string().contains("multi_buffer"), "{error}");
        open(&rig.veth.a, hook, |options| options.multi_buffer = true);
        let port = open(&rig.veth.a, hook, |options| options.receive = Receive::Nothing);
        assert_eq!(port.caps().max_len, 1714, "what is sent has the whole chunk");
    });
}

#[test]
fn the_smallest_rings_work_and_the_largest() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        for size in [1, 1 << 16] {
            let (mut a, mut b) = rig.pair(hook, |options| {
                let rings = &mut options.rings;
                (rings.rx, rings.tx, rings.fill, rings.completion) = (size, size, size, size);
                options.umem.pool.rx_reserve = options.umem.pool.rx_reserve.min(size);
            });
            for n in 0..100 {
                send(&mut a, &[numbered(n, 60)]);
                assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(n, 60));
            }
            assert_eq!((a.stats().tx_packets, b.stats().drops.total()), (100, 0));
        }
    });
}

#[test]
fn a_budget_saves_calls() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let calls = |budget| {
            let change = |options: &mut XdpOptions| options.tx_budget = budget;
            let mut a = match try_open(&rig.veth.a, hook, change) {
                Ok(port) => port,
                Err(error) => {
                    let XdpError::OldKernel { since, .. } = xdp_error(&error) else {
                        panic!("{error}")
                    };
                    assert_eq!((*since, budget), ("6.17", Some(256)));
                    return None;
                }
            };
            let frames: Vec<_> = (0..256).map(|n| numbered(n, 60)).collect();
            let before = a.stats().syscalls.unwrap();
            send(&mut a, &frames);
            Some(a.stats().syscalls.unwrap() - before)
        };
        let usual = calls(None).unwrap();
        match calls(Some(256)) {
            Some(fewer) => {
                assert!(fewer <= 2, "{fewer} calls");
                assert!((2..=3).contains(&usual), "128 frames per call: {usual}");
                let least = calls(Some(32)).unwrap();
                assert!(least >= 8, "32 frames per call: {least}");
            }
            None => assert!(usual >= 8, "32 frames per call: {usual}"),
        }
    });
}

#[test]
fn a_port_that_only_sends_attaches_nothing() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |options| options.receive = Receive::Nothing);
        rig.assert_clean();
        let mut b = open(&rig.veth.b, hook, |_| {});
        send(&mut a, &[numbered(1, 60)]);
        receive(&mut b, 1, is_ours);
        send(&mut b, &[numbered(2, 60)]);
        assert_eq!(a.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
        assert!(a.program().is_none());
    });
}

#[test]
fn a_filter_leaves_the_rest_to_the_kernel_and_can_be_changed() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |options| options.receive = Receive::Nothing);
        let mut b = open(&rig.veth.b, hook, |options| {
            options.receive = Receive::Filter(Filter::new().ether_type(0x88b5));
        });
        let halves: Vec<_> = (0..20)
            .map(|n| {
                let mut frame = numbered(n, 60);
                frame[13] = if n % 2 == 0 { 0xb5 } else { 0xb6 };
                frame
            })
            .collect();
        send(&mut a, &halves);
        let seen = receive(&mut b, 10, |_| true);
        assert!(seen.iter().zip(0..).all(|(frame, i)| frame.data() == halves[2 * i]));
        assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
        b.program().unwrap().set_filter(&Filter::new().ether_type(0x88b6)).unwrap();
        send(&mut a, &halves);
        let seen = receive(&mut b, 10, |_| true);
        assert!(seen.iter().zip(0..).all(|(frame, i)| frame.data() == halves[2 * i + 1]));
    });
}

/// Each queue on a thread of its own, over one program.
#[test]
fn all_queues_of_an_interface_open_with_one_call() {
    in_both_modes(&VethOptions { queues: 4, ..VethOptions::default() }, |rig, hook| {
        let all = |namespace: &Namespace| -> Vec<XdpQueue> {
            let _inside = namespace.enter().unwrap();
            options(hook).queues().unwrap()
        };
        let (a, b) = (all(&rig.veth.a), all(&rig.veth.b));
        assert_eq!(b.iter().map(XdpQueue::queue).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let programs: Vec<_> = b.iter().map(|queue| queue.program().unwrap()).collect();
        assert!(programs.iter().all(|program| Arc::ptr_eq(program, programs[0])));
        let heard = Barrier::new(8);
        thread::scope(|scope| {
            for queue in b {
                // A queue opens on whichever thread, in whichever namespace.
                let heard = &heard;
                scope.spawn(move || {
                    let mut port = queue.open().unwrap();
                    heard.wait();
                    let number = port.queue();
                    let from: Vec<_> = (0..4).filter(|&q| arrives_at(hook, q) == number).collect();
                    for frame in receive(&mut port, 10 * from.len(), is_ours) {
                        assert_eq!(u32::from(frame.rx_meta().queue), number);
                        assert!(from.iter().any(|&from| frame.data() == numbered(from as u16, 60)));
                    }
                    heard.wait();
                });
            }
            for queue in a {
                let heard = &heard;
                scope.spawn(move || {
                    let mut port = queue.open().unwrap();
                    // Nothing is sent before everybody listens, and nobody goes before all was heard.
                    heard.wait();
                    let frame = numbered(port.queue() as u16, 60);
                    send(&mut port, &vec![frame; 10]);
                    heard.wait();
                });
            }
        });
    });
}

/// Whichever thread opens a queue, and when: those that ask for the same share one program.
#[test]
fn queues_that_are_opened_one_by_one_share_a_program() {
    in_both_modes(&VethOptions { queues: 2, ..VethOptions::default() }, |rig, hook| {
        let ports = |options: &mut XdpOptions, filter: &[u16]| {
            options.receive = Receive::Filter(Filter::new().udp(filter.iter().copied()));
        };
        let both = Barrier::new(2);
        let number = |program: &Arc<Program>| Arc::as_ptr(program).addr();
        let mut programs: Vec<usize> = thread::scope(|scope| {
            let open = |queue| {
                let port = open(&rig.veth.a, hook, |options| {
                    options.queue = queue;
                    // The same in another order.
                    ports(options, if queue == 0 { &[1, 2] } else { &[2, 1] });
                });
                both.wait();
                number(port.program().unwrap())
            };
            let threads = [0, 1].map(|queue| scope.spawn(move || open(queue)));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        programs.dedup();
        assert_eq!(programs.len(), 1);
        rig.assert_clean();

        let first = open(&rig.veth.a, hook, |options| ports(options, &[1]));
        // The same interface by name and number, in another namespace, is another one.
        let other = open(&rig.veth.b, hook, |options| ports(options, &[1]));
        assert!(!Arc::ptr_eq(first.program().unwrap(), other.program().unwrap()));
        let second = |hook, filter: &'static [u16]| {
            try_open(&rig.veth.a, hook, |options| {
                options.queue = 1;
                ports(options, filter);
            })
        };
        let other_hook = if hook == Hook::Native { Hook::Generic } else { Hook::Native };
        for (hook, filter) in [(hook, &[1, 2][..]), (other_hook, &[1])] {
            let error = second(hook, filter).unwrap_err().to_string();
            assert!(error.contains("which is this one, has it there"), "{error}");
        }
        // What counts is what the program takes now.
        first.program().unwrap().set_filter(&Filter::new().udp([1, 2])).unwrap();
        assert!(second(hook, &[1]).is_err());
        let last = second(hook, &[1, 2]).unwrap();
        assert!(Arc::ptr_eq(first.program().unwrap(), last.program().unwrap()));
        drop((first, last, other));
    });
}

/// Those that open while the last port of a program goes get that program or a new one, and no error.
#[test]
fn queues_open_while_others_close() {
    in_both_modes(&VethOptions { queues: 2, ..VethOptions::default() }, |rig, hook| {
        thread::scope(|scope| {
            for queue in [0, 1] {
                let namespace = &rig.veth.a;
                scope.spawn(move || {
                    let _inside = namespace.enter().unwrap();
                    let mut options = options(hook);
                    options.queue = queue;
                    // Most often the program alone, for a port takes its time.
                    for n in 0..100 {
                        let queue = options.single_queue().unwrap();
                        if n % 50 == 0 {
                            queue.open().unwrap();
                        }
                    }
                });
            }
        });
    });
}

/// A program on its interface that no port has any more, so that nobody can share it.
fn unshared(rig: &Rig, hook: Hook) -> Program {
    let port = open(&rig.veth.a, hook, |_| {});
    let program = Arc::clone(port.program().unwrap());
    drop(port);
    Arc::into_inner(program).unwrap()
}

/// A program that is coming off its interface has no owner any more that others could share it with.
#[test]
fn who_opens_waits_for_a_program_that_is_coming_off() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let program = unshared(rig, hook);
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let namespace = &rig.veth.a;
            scope.spawn(move || tell.send(try_open(namespace, hook, |_| {}).map(drop)));
            // Time to meet the program, and to fail; it opens either way when that is off.
            let early = told.recv_timeout(Duration::from_millis(100));
            assert!(early.is_err(), "{early:?}");
            drop(program);
            told.recv().unwrap().unwrap();
        });
    });
}

/// Somebody may keep a program that nobody shares any more; others are told and do not wait for ever.
#[test]
fn a_program_that_was_taken_out_of_its_sharing_is_told_of() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let program = unshared(rig, hook);
        let error = try_open(&rig.veth.a, hook, |_| {}).unwrap_err().to_string();
        assert!(error.contains("which is this one, has it there"), "{error}");
        drop(program);
        drop(open(&rig.veth.a, hook, |_| {}));
    });
}

/// What a privileged parent hands over: a socket and a map.
#[test]
fn a_socket_and_a_map_from_elsewhere_will_do() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (socket, interface, program) = {
            let _inside = rig.veth.b.enter().unwrap();
            use rustix::net::{AddressFamily, SocketType, socket};
            let mut program = ProgramOptions::new(Veth::NAME);
            (program.filter, program.hook) = (Filter::everything(), Want::Require(hook));
            let socket = socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
            (socket, Interface::find(Veth::NAME).unwrap(), program.attach().unwrap())
        };
        assert_eq!((interface.mtu, interface.queues), (1500, 1));
        let map = program.sockets().as_fd().try_clone_to_owned().unwrap();
        let mut options = XdpOptions::new(Veth::NAME);
        options.receive = Receive::Map(Arc::new(XskMap::from_fd(map).unwrap()));
        let wrong = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = options.adopt(wrong.into(), interface.clone()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        // Here there is no such interface.
        let mut b = options.adopt(socket, interface).unwrap().open().unwrap();
        let mut a = open(&rig.veth.a, hook, |_| {});
        send(&mut a, &[numbered(1, 60)]);
        receive(&mut b, 1, is_ours);
        send(&mut b, &[numbered(2, 60)]);
        receive(&mut a, 1, is_ours);
    });
}

/// Until a port is opened, whoever passed the socket on can still bind it, and must not have the kernel
/// receive into what the port had posted.
#[test]
fn what_was_posted_on_a_socket_from_elsewhere_is_nobody_s_when_opening_fails() {
    use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem};
    use rustix::net::{AddressFamily, SocketType};
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let umem = {
            let mut options = UmemOptions::default();
            (options.pool.chunks, options.pool.rx_reserve) = (64, 16);
            Umem::new(&options).unwrap()
        };
        let taken = open(&rig.veth.b, hook, |options| options.receive = Receive::Nothing);
        let _inside = rig.veth.b.enter().unwrap();
        let mut program = ProgramOptions::new(Veth::NAME);
        (program.filter, program.hook) = (Filter::everything(), Want::Require(hook));
        let program = program.attach().unwrap();
        let interface = Interface::find(Veth::NAME).unwrap();
        rig.veth.b.ip("link add out0 type veth peer name out1").unwrap();
        rig.veth.b.ip("link set out0 up").unwrap();
        let mut other = XdpOptions::new("out0");
        other.receive = Receive::Nothing;
        let mut other = other.single_queue().unwrap().open_on(&umem).unwrap();
        let kept = rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        let adopt = |taking: &XdpOptions| {
            taking.adopt(kept.try_clone().unwrap(), interface.clone()).unwrap().open_on(&umem)
        };
        let mut taking = XdpOptions::new(Veth::NAME);
        taking.receive = Receive::Nothing;
        taking.bind_timeout = Duration::from_millis(10);
        let error = adopt(&taking).unwrap_err();
        assert!(matches!(xdp_error(&error), XdpError::QueueInUse { .. }), "{error}");
        let error = adopt(&taking).unwrap_err();
        assert!(error.to_string().contains("a fresh AF_XDP socket"), "{error}");
        drop(taken);

        let addr = SocketAddrXdp::new(SocketAddrXdpFlags::XDP_SHARED_UMEM, interface.index, 0);
        let shared_umem_fd = other.as_fd().unwrap();
        let at = SocketAddrXdpWithSharedUmem { addr, shared_umem_fd };
        while rustix::net::bind(&kept, &at).is_err() {
            thread::yield_now();
        }
        program.sockets().insert(0, kept.as_fd()).unwrap();
        // All the rest of the memory.
        let mut held = Burst::with_capacity(64);
        other.alloc(&mut held, 64);
        assert_eq!(umem.census().free, 0);
        for frame in held.iter_mut() {
            frame.fill(&[0xaa; 1024]).unwrap();
        }
        let mut a = open(&rig.veth.a, hook, |_| {});
        for n in 0..16 {
            send(&mut a, &[numbered(n, 1000)]);
        }
        assert_eq!(program.counters().unwrap().redirected, 16);
        let statistics = rustix::net::sockopt::xdp_statistics(&kept).unwrap();
        assert_eq!(statistics.rx_dropped, 16, "there is nothing to receive into");
        assert!(held.iter().all(|frame| frame.data() == [0xaa; 1024]), "written by the kernel");
        assert_eq!((held.len(), umem.census().rx_posted), (32, 32));
    });
}

/// A umem has one copy mode. What cannot be had with the first port's is refused, or told. No program runs.
#[test]
fn ports_that_share_memory_have_what_the_first_obtained() {
    let Some(rig) = Rig::new(&VethOptions { queues: 3, ..VethOptions::default() }) else { return };
    let _inside = rig.veth.a.enter().unwrap();
    let umem = {
        let mut options = UmemOptions::default();
        (options.pool.chunks, options.pool.rx_reserve) = (64, 16);
        Umem::new(&options).unwrap()
    };
    let on = |queue, change: fn(&mut XdpOptions)| {
        let mut options = options(Hook::Native);
        (options.queue, options.receive) = (queue, Receive::Nothing);
        options.mode = Want::Require(CopyMode::Copy);
        change(&mut options);
        options.single_queue().unwrap().open_on(&umem)
    };
    let first = on(0, |_| {}).unwrap();
    assert!(first.caps().fallbacks.is_empty());
    let error = on(1, |options| options.mode = Want::Require(CopyMode::ZeroCopy)).unwrap_err();
    assert!(error.to_string().starts_with("mode = zero-copy: the umem has copy mode"), "{error}");
    let error = on(1, |options| options.multi_buffer = true).unwrap_err();
    assert!(error.to_string().starts_with("multi_buffer = true: the first port"), "{error}");
    let second = on(1, |options| options.mode = Want::Prefer(CopyMode::ZeroCopy)).unwrap();
    let [told] = &second.caps().fallbacks[..] else { panic!("{:?}", second.caps().fallbacks) };
    assert!(told.starts_with("zero-copy preferred, copy mode obtained"), "{told}");
    assert_eq!(umem.census().rx_posted, 32, "what was refused has posted nothing");
}

/// A port whose interface is gone is in nobody's way.
#[test]
fn memory_is_shared_with_ports_whose_interface_is_there() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let _inside = rig.veth.a.enter().unwrap();
        let umem = {
            let mut options = UmemOptions::default();
            (options.pool.chunks, options.pool.rx_reserve) = (128, 16);
            Umem::new(&options).unwrap()
        };
        let on = |name: &str| {
            let mut options = options(hook);
            options.interface = name.to_owned();
            options.receive = Receive::Nothing;
            options.single_queue().unwrap().open_on(&umem)
        };
        for (name, peer) in [("x0", "x1"), ("y0", "y1")] {
            rig.veth.a.ip(&format!("link add {name} type veth peer name {peer}")).unwrap();
            rig.veth.a.ip(&format!("link set {name} up")).unwrap();
        }
        let _gone = on("x0").unwrap();
        rig.veth.a.ip("link delete x0").unwrap();
        let _first = on("y0").unwrap();
        let mut a = on(Veth::NAME).unwrap();
        let mut b = open(&rig.veth.b, hook, |_| {});
        send(&mut a, &[numbered(1, 60)]);
        receive(&mut b, 1, is_ours);
    });
}

#[test]
fn every_queue_has_a_place_in_the_program_s_map() {
    in_both_modes(&VethOptions { queues: 70, ..VethOptions::default() }, |rig, hook| {
        let port = open(&rig.veth.b, hook, |options| options.queue = 69);
        assert_eq!((port.queue(), port.program().unwrap().sockets().queues()), (69, 70));
        let interface = {
            let _inside = rig.veth.b.enter().unwrap();
            Interface::find(Veth::NAME).unwrap()
        };
        let absurd = Interface { mtu: usize::MAX, ..interface };
        let mut options = XdpOptions::new(Veth::NAME);
        options.receive = Receive::Nothing;
        let socket = {
            let _inside = rig.veth.b.enter().unwrap();
            use rustix::net::{AddressFamily, SocketType, socket};
            socket(AddressFamily::XDP, SocketType::RAW, None).unwrap()
        };
        let other = options.adopt(socket, absurd).unwrap().open().unwrap();
        assert_eq!(other.caps().max_len, 2048 - 128, "what fits a chunk");
    });
}
