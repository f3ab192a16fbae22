//! The XDP program under traffic: what the filter names comes to the socket, and everything else goes
//! its usual way through the kernel meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bypass_core::testing::needs::{Need, skip, skip_because};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{Buffer as _, Burst, Endpoint as _, Frame as _, Interest, PacketIo as _};
use bypass_xdp::program::{Filter, Hints, ProgramOptions};
use bypass_xdp::{Hook, Receive, Want, XdpOptions, XdpPort};
use common::{Rig, in_both_modes, open};

const TAKEN: u16 = 4000;
const OTHER: u16 = 4001;

fn filter() -> Filter {
    Filter::new().udp([TAKEN])
}

fn udp(side: &Namespace, address: &str) -> UdpSocket {
    let _inside = side.enter().unwrap();
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Destination port and payload of each UDP frame that is there, until there are `count`.
fn taken(port: &mut XdpPort, count: usize) -> Vec<(u16, Vec<u8>)> {
    let (mut all, mut burst) = (Vec::new(), Burst::with_capacity(64));
    let deadline = Instant::now() + Duration::from_secs(5);
    while all.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", all.len());
        port.wait(Interest::RX, Some(Duration::from_millis(100))).unwrap();
        port.recv(&mut burst).unwrap();
        while let Some(frame) = burst.pop_front() {
            let frame = frame.data();
            assert_eq!(frame[23], 17, "only UDP was asked for: {frame:02x?}");
            all.push((u16::from_be_bytes([frame[36], frame[37]]), frame[42..].to_vec()));
        }
    }
    all
}

#[test]
fn the_rest_flows_through_the_kernel_while_a_port_is_taken() {
    if skip(&[Need::Tool("ping")]) {
        return;
    }
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut port =
            open(&rig.veth.b, hook, |options| options.receive = Receive::Filter(filter()));
        let listener = {
            let _inside = rig.veth.b.enter().unwrap();
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()
        };
        let to = SocketAddr::from((Veth::IPV4[1], listener.local_addr().unwrap().port()));
        let mut client = {
            let _inside = rig.veth.a.enter().unwrap();
            TcpStream::connect(to).unwrap()
        };
        let (mut server, _) = listener.accept().unwrap();
        let sender = udp(&rig.veth.a, "10.66.0.1:0");
        let kernel = udp(&rig.veth.b, &format!("10.66.0.2:{OTHER}"));

        std::thread::scope(|scope| {
            let stream = scope.spawn(move || {
                let mut bytes = Vec::new();
                server.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let pings = scope.spawn(|| {
                rig.veth.a.run("ping", "-c 5 -i 0.05 -W 2 10.66.0.2").unwrap();
                rig.veth.b.run("ping", "-c 5 -i 0.05 -W 2 10.66.0.1").unwrap();
            });
            // Read as they come: the kernel counts whole pages against a socket's buffer.
            let others = scope.spawn(|| {
                for i in 0..64u32 {
                    let mut number = [0; 4];
                    kernel.recv(&mut number).unwrap();
                    assert_eq!(number, i.to_ne_bytes());
                }
            });
            let sent: Vec<u8> = (0..1u32 << 20).map(|i| (i % 251) as u8).collect();
            for (i, part) in sent.chunks(1 << 14).enumerate() {
                client.write_all(part).unwrap();
                let number = (i as u32).to_ne_bytes();
                sender.send_to(&number, ("10.66.0.2", TAKEN)).unwrap();
                sender.send_to(&number, ("10.66.0.2", OTHER)).unwrap();
            }
            drop(client);
            assert!(stream.join().unwrap() == sent, "the TCP stream came whole");
            pings.join().unwrap();
            others.join().unwrap();
        });
        for (i, (port, payload)) in taken(&mut port, 64).into_iter().enumerate() {
            assert_eq!((port, &payload[..4]), (TAKEN, &(i as u32).to_ne_bytes()[..]));
        }
        let counters = port.program().unwrap().counters().unwrap();
        assert_eq!((counters.redirected, counters.no_socket), (64, 0), "{counters:?}");
        assert!(counters.passed > 64, "{counters:?}");
        assert_eq!(port.stats().rx_packets, 64);
        assert_eq!(port.program().unwrap().queue_counters(0).unwrap(), counters);
    });
}

#[test]
fn a_filter_changes_while_packets_flow() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let mut port =
            open(&rig.veth.b, hook, |options| options.receive = Receive::Filter(filter()));
        let kernel = [TAKEN, OTHER].map(|port| udp(&rig.veth.b, &format!("10.66.0.2:{port}")));
        let sender = udp(&rig.veth.a, "10.66.0.1:0");
        let both = || [TAKEN, OTHER].map(|to| sender.send_to(b"x", ("10.66.0.2", to)).unwrap());
        let to_kernel = |i: usize| kernel[i].recv(&mut [0; 4]).unwrap();

        both();
        assert_eq!(taken(&mut port, 1)[0].0, TAKEN);
        to_kernel(1);
        let program = Arc::clone(port.program().unwrap());
        let _inside = rig.veth.b.enter().unwrap();
        program.set_filter(&Filter::new().udp([OTHER])).unwrap();
        both();
        assert_eq!(taken(&mut port, 1)[0].0, OTHER);
        to_kernel(0);
        program
            .set_filter(&Filter::new().udp_at("10.66.0.0/24".parse().unwrap(), [TAKEN]))
            .unwrap();
        both();
        assert_eq!(taken(&mut port, 1)[0].0, TAKEN);
        to_kernel(1);
        program.set_filter(&Filter::new()).unwrap();
        both();
        to_kernel(0);
        to_kernel(1);
        assert_eq!(port.stats().rx_packets, 3, "nothing came twice");
    });
}

#[test]
fn every_queue_has_its_socket_and_the_kernel_those_that_have_none() {
    in_both_modes(&VethOptions { queues: 4, ..VethOptions::default() }, |rig, hook| {
        let (program, mut ports) = {
            let _inside = rig.veth.b.enter().unwrap();
            let mut options = ProgramOptions::new(Veth::NAME);
            options.hook = Want::Require(hook);
            options.filter = filter();
            let program = Arc::new(options.attach().unwrap());
            let mut options = XdpOptions::new(Veth::NAME);
            options.receive = Receive::Program(Arc::clone(&program));
            let queues = options.queues().unwrap();
            assert_eq!(queues.len(), 4);
            let ports: Vec<_> = queues.into_iter().map(|queue| queue.open().unwrap()).collect();
            (program, ports)
        };
        // The queue follows from the flow, so from the sender's port.
        let senders: Vec<_> = (0..64).map(|_| udp(&rig.veth.a, "10.66.0.1:0")).collect();
        let kernel = udp(&rig.veth.b, &format!("10.66.0.2:{TAKEN}"));
        let send = || {
            for sender in &senders {
                sender.send_to(b"flow", ("10.66.0.2", TAKEN)).unwrap();
            }
        };
        send();
        let counts = |ports: &mut [XdpPort]| -> Vec<u64> {
            let mut burst = Burst::with_capacity(64);
            for port in ports.iter_mut() {
                while port.recv(&mut burst).unwrap() > 0 {
                    burst.clear();
                }
            }
            ports.iter().map(|port| port.stats().rx_packets).collect()
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while counts(&mut ports).iter().sum::<u64>() < 64 {
            assert!(Instant::now() < deadline);
        }
        let first = counts(&mut ports);
        assert!(first.iter().filter(|count| **count > 0).count() > 1, "{first:?}");
        for (queue, count) in first.iter().enumerate() {
            let counters = program.queue_counters(queue as u32).unwrap();
            assert_eq!(counters.redirected, *count, "queue {queue}");
        }
        // Queue 1 loses its socket: its flows go to the kernel, and are counted.
        drop(ports.remove(1));
        send();
        for _ in 0..first[1] {
            kernel.recv(&mut [0; 8]).unwrap();
        }
        let lost = program.queue_counters(1).unwrap();
        assert_eq!((lost.redirected, lost.no_socket), (first[1], first[1]));
    });
}

/// Whether the functions that ask a device are in the kernel.
fn kernel_has_hints() -> bool {
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap();
    symbols.lines().any(|line| line.contains("bpf_xdp_metadata_rx_hash"))
}

#[test]
fn what_the_device_knows_of_a_frame_comes_with_it() {
    let Some(rig) = Rig::new(&VethOptions::default()) else { return };
    let hints = |options: &mut XdpOptions| {
        options.receive = Receive::Filter(filter());
        options.hints = Hints::Require;
    };
    let mut port = match common::try_open(&rig.veth.b, Hook::Native, hints) {
        Ok(port) => port,
        Err(error) if error.to_string().contains("needs Linux 6.3") && !kernel_has_hints() => {
            return skip_because("this kernel has no hints: they need Linux 6.3");
        }
        Err(error) => panic!("{error}"),
    };
    assert!(port.program().unwrap().has_hints());
    let senders = [udp(&rig.veth.a, "10.66.0.1:5000"), udp(&rig.veth.a, "10.66.0.1:5001")];
    for sender in senders.iter().cycle().take(8) {
        sender.send_to(b"flow", ("10.66.0.2", TAKEN)).unwrap();
    }
    let (mut seen, mut burst) = (Vec::new(), Burst::with_capacity(8));
    while seen.len() < 8 {
        assert!(!port.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap().is_empty());
        port.recv(&mut burst).unwrap();
        while let Some(frame) = burst.pop_front() {
            assert_eq!(&frame.data()[42..46], b"flow", "the frame itself is whole");
            let meta = frame.rx_meta();
            // A veth has no clock, and nobody has taken a tag out.
            assert_eq!((meta.timestamp, meta.vlan), (None, None));
            seen.push((frame.data()[35], meta.hash.unwrap()));
        }
    }
    let flows: HashSet<_> = seen.iter().collect();
    assert_eq!(flows.len(), 2, "one hash for each flow: {seen:?}");
    assert_eq!(flows.iter().map(|(_, hash)| hash).collect::<HashSet<_>>().len(), 2, "{seen:?}");
    let counters = port.program().unwrap().counters().unwrap();
    assert_eq!((counters.redirected, counters.no_hints), (8, 0));
    drop((port, burst));

    let error = common::try_open(&rig.veth.b, Hook::Generic, hints).unwrap_err();
    assert!(error.to_string().contains("runs in native mode only"), "{error}");
    let port = open(&rig.veth.b, Hook::Generic, |options| {
        hints(options);
        options.hints = Hints::Prefer;
    });
    assert!(!port.program().unwrap().has_hints());
    let fallbacks = port.caps().fallbacks.join("\n");
    assert!(fallbacks.contains("hints preferred, none obtained: "), "{fallbacks}");
    assert!(!fallbacks.contains("mode preferred, generic"), "{fallbacks}");
}

#[test]
fn a_thread_without_capabilities_works_with_what_it_was_given() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (program, queues) = {
            let _inside = rig.veth.b.enter().unwrap();
            let mut options = ProgramOptions::new(Veth::NAME);
            (options.filter, options.hook) = (filter(), Want::Require(hook));
            let program = options.attach().unwrap();
            let mut options = XdpOptions::new(Veth::NAME);
            let map = program.sockets();
            let map = std::os::fd::AsFd::as_fd(map).try_clone_to_owned().unwrap();
            let map = bypass_xdp::program::XskMap::from_fd(map).unwrap();
            options.receive = Receive::Map(Arc::new(map));
            (program, options.queues().unwrap())
        };
        let sender = udp(&rig.veth.a, "10.66.0.1:0");
        std::thread::spawn(move || {
            use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, sets).unwrap();
            let mut ports: Vec<_> = queues.into_iter().map(|queue| queue.open().unwrap()).collect();
            sender.send_to(b"hello", ("10.66.0.2", TAKEN)).unwrap();
            let seen: HashSet<_> = taken(&mut ports[0], 1).into_iter().collect();
            assert!(
                seen.iter().all(|(port, payload)| *port == TAKEN && payload.starts_with(b"hello"))
            );
        })
        .join()
        .unwrap();
        assert_eq!(program.counters().unwrap().redirected, 1);
    });
}
