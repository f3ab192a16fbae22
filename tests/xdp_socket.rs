//! The datagram socket of AF_XDP, at an address that the kernel keeps, beside the kernel.

#![cfg(feature = "xdp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its tools too")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_io::any::{AnySocket, open_socket};
use bypass_io::prelude::*;
use bypass_io::udp::UdpOverL2;
use bypass_io::xdp::{XdpOptions, XdpSocket};
use bypass_io::{Bind, DropCause, Error, Queues, Share, UdpOptions};

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(5);

/// One pair at a time: a program that one test starts holds, until it runs, copies of the descriptors
/// that another test closes.
static ALONE: Mutex<()> = Mutex::new(());

/// Side `a` has the endpoint, side `b` the kernel's sockets that talk to it.
struct Rig {
    veth: Veth,
    _alone: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Rig {
    type Target = Veth;

    fn deref(&self) -> &Veth {
        &self.veth
    }
}

fn rig(options: &VethOptions) -> Option<Rig> {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Rig { veth: Veth::new(options).unwrap(), _alone: alone })
}

fn options(ip: impl Into<IpAddr>) -> UdpOptions {
    UdpOptions::new(SocketAddr::new(ip.into(), PORT))
}

fn bind(namespace: &Namespace, options: &UdpOptions) -> Result<XdpSocket> {
    let _inside = namespace.enter()?;
    XdpSocket::bind(options)
}

fn kernel_socket(namespace: &Namespace, local: impl Into<IpAddr>, port: u16) -> UdpSocket {
    let _inside = namespace.enter().unwrap();
    let socket = UdpSocket::bind((local.into(), port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Turns `wanted` datagrams round.
fn echo<S: DatagramIo>(socket: &mut S, wanted: usize) {
    let (mut burst, mut echoed) = (Burst::with_capacity(64), 0);
    let deadline = Instant::now() + PATIENCE;
    while echoed < wanted {
        socket.wait(Interest::RX, Some(Duration::from_millis(100))).unwrap();
        let old = burst.len();
        socket.recv(&mut burst).unwrap();
        burst[old..].iter_mut().for_each(Datagram::reply);
        if !burst.is_empty() {
            echoed += socket.send(&mut burst).unwrap();
        }
        socket.flush().unwrap();
        assert!(Instant::now() < deadline, "{echoed} of {wanted}: {:?}", socket.stats());
    }
    let deadline = Instant::now() + PATIENCE;
    while socket.stats().tx_in_flight > 0 {
        socket.flush().unwrap();
        assert!(Instant::now() < deadline, "{:?}", socket.stats());
    }
}

fn receive<S: DatagramIo>(socket: &mut S, wanted: usize) -> Vec<Vec<u8>> {
    let (mut burst, mut came) = (Burst::with_capacity(64), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while came.len() < wanted {
        socket.wait(Interest::RX, Some(Duration::from_millis(100))).unwrap();
        socket.recv(&mut burst).unwrap();
        came.extend(burst.iter().map(|datagram| datagram.data().to_vec()));
        burst.clear();
        assert!(Instant::now() < deadline, "{} of {wanted}: {:?}", came.len(), socket.stats());
    }
    came
}

fn counter<S: DatagramIo>(socket: &S, wanted: &str) -> u64 {
    let mut found = None;
    socket.visit_counters(&mut |name, value| {
        if name == wanted {
            found = Some(value);
        }
    });
    found.unwrap_or_else(|| panic!("no counter {wanted}"))
}

#[track_caller]
fn refusal<T>(outcome: Result<T>) -> Error {
    outcome.map(drop).unwrap_err()
}

#[test]
fn both_families_are_answered_with_no_more_than_an_address() {
    let Some(veth) = rig(&VethOptions { ipv6: true, ..VethOptions::default() }) else { return };
    for (here, there) in [
        (IpAddr::from(Veth::IPV4[0]), IpAddr::from(Veth::IPV4[1])),
        (Veth::IPV6[0].into(), Veth::IPV6[1].into()),
    ] {
        let mut socket = bind(&veth.a, &options(here)).unwrap();
        assert_eq!(socket.local_addr(), SocketAddr::new(here, PORT));
        assert_eq!(socket.caps().backend, "xdp");
        let client = kernel_socket(&veth.b, there, 0);
        let mut answer = [0; 2048];
        // The checksums are those that the kernel leaves to a device that is not there.
        for n in 0..100_usize {
            let question = vec![n as u8; n * 14 % 1400 + 1];
            client.send_to(&question, socket.local_addr()).unwrap();
            echo(&mut socket, 1);
            let (len, source) = client.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..len], source), (&question[..], socket.local_addr()));
        }
        let stats = socket.stats();
        assert_eq!((stats.rx_packets, stats.tx_packets, stats.drops.total()), (100, 100, 0));
        assert!(stats.frames.unwrap().adds_up(), "{stats:?}");
        assert_eq!(counter(&socket, "kernel_datagrams"), 0);
    }
}

#[test]
fn it_speaks_first_and_the_kernel_finds_the_way() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let server = kernel_socket(&veth.b, Veth::IPV4[1], 9000);
    let mut socket = bind(&veth.a, &options(Veth::IPV4[0])).unwrap();
    let mut burst = Burst::with_capacity(8);
    socket.compose(b"are you there?", server.local_addr().unwrap(), &mut burst).unwrap();
    assert_eq!(socket.send(&mut burst).unwrap(), 1);
    let deadline = Instant::now() + PATIENCE;
    while socket.stats().tx_packets == 0 {
        socket.flush().unwrap();
        assert!(Instant::now() < deadline, "{:?}", socket.stats());
    }
    let mut bytes = [0; 64];
    let (len, source) = server.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], source), (&b"are you there?"[..], socket.local_addr()));
}

#[test]
fn port_zero_is_the_kernels_choice_and_stays_reserved() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let any = UdpOptions::new((Veth::IPV4[0], 0).into());
    let socket = bind(&veth.a, &any).unwrap();
    let port = socket.local_addr().port();
    assert_ne!(port, 0);
    let taken = {
        let _inside = veth.a.enter().unwrap();
        UdpSocket::bind((Veth::IPV4[0], port)).unwrap_err()
    };
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    drop(socket);
    let _free_again = kernel_socket(&veth.a, Veth::IPV4[0], port);
    let taken = refusal(bind(&veth.a, &UdpOptions::new((Veth::IPV4[0], port).into())));
    assert!(taken.to_string().contains("in use"), "{taken}");
}

#[test]
fn what_takes_another_way_is_counted_and_nobody_hears_that_the_port_is_unreachable() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let mut socket = bind(&veth.a, &options(Veth::IPV4[0])).unwrap();
    // From this machine itself: it never comes to the interface.
    let local = kernel_socket(&veth.a, Veth::IPV4[0], 0);
    local.connect(socket.local_addr()).unwrap();
    for _ in 0..3 {
        // The second and third would tell that the first was refused.
        local.send(b"to myself").unwrap();
    }
    assert_eq!(counter(&socket, "kernel_datagrams"), 3);
    // In fragments: the kernel puts it together.
    let remote = kernel_socket(&veth.b, Veth::IPV4[1], 0);
    remote.send_to(&[7; 4000], socket.local_addr()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while counter(&socket, "kernel_datagrams") < 4 {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    assert_eq!(socket.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
    assert_eq!(socket.stats().drops.total(), 0);
}

#[test]
fn other_ports_stay_with_the_kernel() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let mut socket = bind(&veth.a, &options(Veth::IPV4[0])).unwrap();
    let kernels = kernel_socket(&veth.a, Veth::IPV4[0], PORT + 1);
    let client = kernel_socket(&veth.b, Veth::IPV4[1], 0);
    let mut bytes = [0; 64];
    for _ in 0..20 {
        client.send_to(b"ours", socket.local_addr()).unwrap();
        client.send_to(b"the kernel's", kernels.local_addr().unwrap()).unwrap();
        assert_eq!(kernels.recv(&mut bytes).unwrap(), 12);
    }
    assert!(receive(&mut socket, 20).iter().all(|bytes| bytes == b"ours"));
    assert_eq!(socket.stats().drops.total(), 0);
}

#[test]
fn groups_are_joined_where_routers_hear_of_it() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let mut options = options(Ipv4Addr::UNSPECIFIED);
    options.multicast.groups = vec![(group.into(), Some(Veth::NAME.to_owned()))];
    let mut socket = bind(&veth.a, &options).unwrap();
    assert!(veth.a.ip("maddress show dev veth0").unwrap().contains("239.1.2.3"));
    let feed = kernel_socket(&veth.b, Veth::IPV4[1], 0);
    let (other, all) = (Ipv4Addr::new(239, 1, 2, 4), Ipv4Addr::BROADCAST);
    feed.set_broadcast(true).unwrap();
    {
        let _inside = veth.b.enter().unwrap();
        veth.b.ip("route add 224.0.0.0/4 dev veth0").unwrap();
        veth.b.ip("route add 255.255.255.255 dev veth0").unwrap();
    }
    for (to, what) in [
        (other, &b"another group"[..]),
        (group, b"tick"),
        (all, b"to all"),
        (Veth::IPV4[0], b"to one"),
    ] {
        feed.send_to(what, (to, PORT)).unwrap();
    }
    assert_eq!(receive(&mut socket, 3), [&b"tick"[..], b"to all", b"to one"]);
    assert_eq!(socket.stats().drops.total(), 0, "what is not asked for is not taken");
    drop(socket);
    assert!(!veth.a.ip("maddress show dev veth0").unwrap().contains("239.1.2.3"));
}

#[test]
fn every_queue_of_the_interface_is_served() {
    let Some(veth) = rig(&VethOptions { queues: 2, ..VethOptions::default() }) else { return };
    const CLIENTS: usize = 64;
    let mut socket = bind(&veth.a, &options(Veth::IPV4[0])).unwrap();
    assert_eq!(socket.port().ports().len(), 2);
    // The sender's kernel spreads flows by their ports.
    let clients: Vec<_> = (0..CLIENTS).map(|_| kernel_socket(&veth.b, Veth::IPV4[1], 0)).collect();
    let mut bytes = [0; 8];
    for n in 0..CLIENTS as u8 {
        let client = &clients[usize::from(n)];
        client.send_to(&[n], socket.local_addr()).unwrap();
        echo(&mut socket, 1);
        assert_eq!((client.recv(&mut bytes).unwrap(), bytes[0]), (1, n));
    }
    let per_queue = socket.port().ports().iter().map(|port| port.stats().rx_packets);
    let per_queue: Vec<_> = per_queue.collect();
    assert!(per_queue.iter().all(|&packets| packets > 0), "{per_queue:?}");
    assert_eq!(per_queue.iter().sum::<u64>(), CLIENTS as u64);
    let stats = socket.stats();
    assert_eq!(stats.rx_packets, CLIENTS as u64);
    assert!(stats.frames.unwrap().adds_up(), "{stats:?}");
}

#[test]
fn one_queue_of_several_can_be_named_by_uri() {
    let Some(veth) = rig(&VethOptions { queues: 2, ..VethOptions::default() }) else { return };
    let settings = "queue=1&hook=generic&mode=copy&unaligned=true&busy_poll=20&busy_poll_budget=32\
                    &share=0/2&frames=512&rx_reserve=300&recv_buffer=262144&ttl=9";
    let mut socket = open(&veth.a, &format!("udp+xdp://10.66.0.1:{PORT}?{settings}")).unwrap();
    let frames = socket.stats().frames.unwrap();
    // What is to be kept for it is posted, and a quarter of a MiB in chunks of 2 KiB beside it.
    assert_eq!((frames.total, frames.rx_posted), (512 + 128, 300 + 128), "{frames:?}");
    let mut burst = Burst::with_capacity(1);
    let server = kernel_socket(&veth.b, Veth::IPV4[1], 9000);
    socket.compose(b"by queue 1", server.local_addr().unwrap(), &mut burst).unwrap();
    socket.send(&mut burst).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while socket.stats().tx_packets == 0 {
        socket.flush().unwrap();
        assert!(Instant::now() < deadline, "{:?}", socket.stats());
    }
    assert_eq!(server.recv(&mut [0; 64]).unwrap(), 10);
}

fn open(namespace: &Namespace, uri: &str) -> Result<AnySocket> {
    let _inside = namespace.enter()?;
    open_socket(uri)
}

#[test]
fn the_same_address_is_served_over_packet_sockets() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let mut socket = open(&veth.a, &format!("udp+packet://10.66.0.1:{PORT}")).unwrap();
    let client = kernel_socket(&veth.b, Veth::IPV4[1], 0);
    client.connect(socket.local_addr()).unwrap();
    for n in 0..10 {
        client.send(&[n; 100]).unwrap();
        echo(&mut socket, 1);
        let mut bytes = [0; 128];
        assert_eq!((client.recv(&mut bytes).unwrap(), bytes[0]), (100, n));
    }
    assert_eq!(counter(&socket, "kernel_datagrams"), 10, "the kernel sees them, too");
}

#[test]
fn a_larger_queue_for_packets_is_a_larger_ring() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let slots = |settings: &str| {
        let socket = open(&veth.a, &format!("udp+packet://10.66.0.1:{PORT}{settings}")).unwrap();
        let mut slots = 0;
        socket.visit_rings(&mut |name, ring| {
            if name == "rx" {
                slots = ring.size;
            }
        });
        slots
    };
    let usual = slots("");
    assert_eq!(slots("?recv_buffer=4194304"), usual, "it holds more by itself");
    let large = slots("?recv_buffer=33554432");
    assert!(large >= 32 << 20 >> 11 && large > 3 * usual, "{large} and {usual} frames");
}

#[test]
fn what_cannot_be_had_is_refused_with_what_to_do() {
    let Some(veth) = rig(&VethOptions { ipv6: true, ..VethOptions::default() }) else { return };
    let changed = |change: fn(&mut UdpOptions)| {
        let mut options = options(Veth::IPV4[0]);
        change(&mut options);
        options
    };
    let cases = [
        (options(Ipv4Addr::UNSPECIFIED), "name it (`interface`)"),
        (options(Ipv4Addr::LOCALHOST), "udp+uring://"),
        (options(Ipv4Addr::new(192, 0, 2, 1)), "10.66.0.1 (veth0)"),
        (changed(|it| it.interface = Some("nowhere0".to_owned())), "no interface \"nowhere0\""),
        (changed(|it| it.interface = Some("lo".to_owned())), "10.66.0.1"),
        (changed(|it| it.peer = Some(([10, 66, 0, 2], 1).into())), "from one peer only"),
        (changed(|it| it.reuse_port = true), "with `share`"),
        (changed(|it| it.share = Share { index: 1, count: 2 }), "has 1 queues"),
        (changed(|it| it.share = Share { index: 2, count: 2 }), "share = 2/2"),
        (changed(|it| it.gro = true), "leave `gro` off"),
        (changed(|it| it.ttl = Some(0)), "ttl = 0"),
        (changed(|it| it.pool.chunk_size = 8192), "2048 or 4096"),
        (changed(|it| it.recv_buffer = Some(usize::MAX)), "recv_buffer"),
        (changed(|it| it.recv_buffer = Some(1 << 42)), "recv_buffer = 4398046511104"),
        (changed(|it| it.pool.rx_reserve = (1 << 30) + 1), "rx_reserve = 1073741825"),
        (changed(|it| it.pool.rx_reserve = it.pool.chunks), "one must be left"),
        (changed(|it| it.pool.chunks = 0), "chunks = 0"),
        (changed(|it| it.busy_poll = Some(Duration::MAX)), "or not at all"),
    ];
    for (options, words) in cases {
        let Err(error) = bind(&veth.a, &options).map(drop) else { panic!("{words:?} is taken") };
        let error = error.to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    let uris = [
        ("udp+xdp://10.66.0.1:1?colour=red", "it knows queue, hook"),
        ("udp+xdp://10.66.0.1:1?gateway=10.66.0.2", "no such setting"),
        ("udp+xdp://10.66.0.1:1?busy_poll_budget=1", "without `busy_poll="),
        ("udp+xdp://10.66.0.1:1?busy_poll=0", "busy_poll = 0: "),
        ("udp+xdp://10.66.0.1:1?busy_poll=20&busy_poll_budget=65536", "busy_poll.budget = 65536: "),
        ("udp+xdp://10.66.0.1:1?mode=zero-copy", "zero-copy"),
        ("udp+xdp://10.66.0.1:1?queue=3", "no queue 3"),
        ("udp+xdp://10.66.0.1:1?share=half", "INDEX/COUNT"),
        ("udp+xdp://10.66.0.1:1?queue=0&share=2/2", "share = 2/2"),
        ("udp+xdp://10.66.0.1:1?queue=0&share=0/0", "share = 0/0"),
        ("udp+xdp://10.66.0.1:1?rx_reserve=all", "rx_reserve = all"),
        ("udp+xdp://10.66.0.1:1?frames=64&rx_reserve=64", "one must be left"),
        ("udp+xdp://10.66.0.1:1?hook=generic&timestamps=true", "native mode only"),
        ("udp+packet://10.66.0.1:1?share=0/2", "take one worker"),
        ("udp+packet://10.66.0.1:1?recv_buffer=18446744073709551615", "2³² - 1 frames"),
        ("udp+xdp://10.66.0.9:1?prefix=24", "interface=NAME"),
        (
            "udp+xdp://10.66.0.9:1?prefix=24&interface=veth0&colour=red",
            "it knows interface, prefix",
        ),
    ];
    for (uri, words) in uris {
        let error = refusal(open(&veth.a, uri)).to_string();
        assert!(error.contains(words), "{uri}: {words:?} is not in {error:?}");
    }
    // Nothing of all that is left behind.
    assert!(!veth.a.ip("-d link show veth0").unwrap().contains("xdp"));
    let _free = kernel_socket(&veth.a, Veth::IPV4[0], PORT);
}

#[test]
fn a_damaged_datagram_is_dropped_and_one_without_its_last_sum_is_not() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let mut socket = bind(&veth.a, &options(Veth::IPV4[0])).unwrap();
    let client = kernel_socket(&veth.b, Veth::IPV4[1], 0);
    client.send_to(b"partial", socket.local_addr()).unwrap();
    assert_eq!(receive(&mut socket, 1), [b"partial"]);
    // Past the peer's kernel, with a checksum that is neither.
    let mut port = {
        let _inside = veth.b.enter().unwrap();
        bypass_io::PacketOptions::new(Veth::NAME).open().unwrap()
    };
    let mut frame = Vec::new();
    frame.extend(Veth::MAC[0].0);
    frame.extend(Veth::MAC[1].0);
    frame.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 66, 0, 2, 10, 66, 0, 1]);
    let sum: u32 =
        frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame.extend([1, 0]);
    frame.extend(PORT.to_be_bytes());
    frame.extend([0, 12, 0x12, 0x34, b'd', b'a', b't', b'a']);
    frame.resize(60, 0);
    let mut burst = Burst::with_capacity(1);
    port.alloc(&mut burst, 1);
    burst[0].fill(&frame).unwrap();
    port.send(&mut burst).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while socket.stats().drops[DropCause::UdpChecksum] == 0 {
        socket.wait(Interest::RX, Some(Duration::from_millis(10))).unwrap();
        assert_eq!(socket.recv(&mut Burst::with_capacity(1)).unwrap(), 0);
        assert!(Instant::now() < deadline, "{:?}", socket.stats());
    }
}

/// The parts that [`Bind`] puts together, for who wants other settings than those of `UdpOptions`.
#[test]
fn an_endpoint_is_made_of_its_parts() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let _inside = veth.a.enter().unwrap();
    let options = options(Veth::IPV4[0]);
    let socket = UdpOverL2::beside_kernel(&options, |beside| {
        assert_eq!((&*beside.station.interface, beside.port), (Veth::NAME, PORT));
        assert_eq!(beside.station.mac, Veth::MAC[0]);
        assert_eq!((beside.station.mtu, beside.station.is_virtual), (1500, true));
        assert_eq!(beside.destinations, [IpAddr::from(Veth::IPV4[0])]);
        let mut xdp = XdpOptions::beside_kernel(&options, beside)?;
        xdp.rings.tx = 64;
        Queues::new(vec![xdp.open()?])
    });
    assert_eq!(socket.unwrap().caps().max_len, 1472);
}

/// Why the loopback interface is refused. What is sent there has no checksum and may be a whole train;
/// what a socket sends there itself has no route, so the kernel takes it for a forgery.
#[test]
fn the_loopback_interface_hands_out_unfinished_packets_and_takes_none_in() {
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let namespace = &veth.a;
    // Frames as long as the loopback's own come in segments.
    namespace.ip("link set lo mtu 1500").unwrap();
    let mut port = {
        let _inside = namespace.enter().unwrap();
        bypass_io::any::open_port("xdp:lo?hook=generic&mode=copy").unwrap()
    };
    let client = kernel_socket(namespace, Ipv4Addr::LOCALHOST, 0);
    client.send_to(b"to myself", (Ipv4Addr::LOCALHOST, PORT)).unwrap();
    let mut burst = Burst::with_capacity(1);
    let deadline = Instant::now() + PATIENCE;
    while burst.is_empty() {
        port.wait(Interest::RX, Some(Duration::from_millis(100))).unwrap();
        port.recv(&mut burst).unwrap();
        assert!(Instant::now() < deadline);
    }
    let words = |bytes: &[u8]| {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum::<u32>()
    };
    let fold = |sum: u32| ((sum & 0xffff) + (sum >> 16)) as u16;
    let frame = burst[0].data();
    assert_eq!(frame[..12], [0; 12], "stations have no names there");
    // Addresses, protocol and length: no byte of the data is in the sum.
    let (pseudo, held) = (words(&frame[26..34]) + 17 + 8 + 9, words(&frame[40..42]));
    assert_eq!(fold(pseudo), held as u16, "only begun");

    // Turned round, with the sum that is right either way, and nothing else wrong with it.
    let server = kernel_socket(namespace, Ipv4Addr::LOCALHOST, PORT);
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let whole = fold(pseudo + words(&frame[34..40]) + words(&frame[42..]));
    burst[0].data_mut()[40..42].copy_from_slice(&(!whole).to_be_bytes());
    port.send(&mut burst).unwrap();
    port.flush().unwrap();
    drop(port);
    assert!(server.recv(&mut [0; 64]).is_err(), "the kernel believes it");
    client.send_to(b"to myself", (Ipv4Addr::LOCALHOST, PORT)).unwrap();
    assert_eq!(server.recv(&mut [0; 64]).unwrap(), 9, "it is open to what the kernel itself sends");
}

/// The client of others that waits for each answer, and judges their order.
#[test]
fn sockperf_finds_every_answer() {
    if skip(&[Need::Tool("sockperf")]) {
        return;
    }
    let Some(veth) = rig(&VethOptions::default()) else { return };
    let mut socket = bind(&veth.a, &options(Veth::IPV4[0])).unwrap();
    let done = AtomicBool::new(false);
    let said = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let arguments = format!("ping-pong -i 10.66.0.1 -p {PORT} -t 1");
            let said = veth.b.run("sockperf", &arguments);
            done.store(true, Ordering::Release);
            said
        });
        let mut burst = Burst::with_capacity(64);
        while !done.load(Ordering::Acquire) {
            socket.wait(Interest::RX, Some(Duration::from_millis(10))).unwrap();
            socket.recv(&mut burst).unwrap();
            for datagram in burst.iter_mut() {
                // "From a client", in the flags behind the number: an answer is from none.
                datagram.data_mut()[9] &= !1;
                datagram.reply();
            }
            socket.send(&mut burst).unwrap();
            socket.flush().unwrap();
        }
        client.join().unwrap().unwrap()
    });
    let number = |key: &str| -> u64 {
        let rest = said.split(key).nth(1).unwrap_or_else(|| panic!("no {key} in {said}"));
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().unwrap()
    };
    assert!(said.contains("# dropped messages = 0;"), "{said}");
    assert!(said.contains("# duplicated messages = 0;"), "{said}");
    assert!(said.contains("# out-of-order messages = 0"), "{said}");
    // Its count of the whole run, warm-up included, and ours.
    let stats = socket.stats();
    assert!(number("ReceivedMessages=") > 100, "{said}");
    assert_eq!(number("SentMessages="), stats.rx_packets, "{said}");
    assert_eq!((stats.rx_packets, stats.drops.total()), (stats.tx_packets, 0), "{stats:?}");
}
