//! The kernel's neighbour table and routes: on both sides of a veth pair the kernel keeps its
//! address, and on side `b` the stack uses it too.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bypass_core::backend::packet::{PacketOptions, PacketPort};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::udp::neighbours::Kernel;
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{
    Buffer, Burst, DatagramIo, DatagramIoExt, DropCause, Endpoint, Error, FrameError, Interest,
};

type Stack = UdpOverL2<PacketPort, Kernel>;

const PORT: u16 = 4000;

struct Rig {
    veth: Veth,
    /// Never read: without it the kernel would answer that nobody listens.
    _keeps_the_kernel_quiet: [UdpSocket; 2],
}

fn rig() -> Option<Rig> {
    if skip(&[Need::Namespaces]) {
        return None;
    }
    let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
    // The kernel gives up on a host after a moment.
    for family in ["ipv4", "ipv6"] {
        let name = format!("net.{family}.neigh.{}.retrans_time_ms", Veth::NAME);
        veth.b.sysctl(&name, "20").unwrap();
    }
    // The kernel asks for nobody before it is sure of its link-local address.
    let deadline = Instant::now() + Duration::from_secs(10);
    while veth.b.ip("-6 address show").unwrap().contains("tentative") {
        assert!(Instant::now() < deadline, "duplicate address detection does not end");
        std::thread::yield_now();
    }
    let quiet = [IpAddr::from(Veth::IPV4[1]), Veth::IPV6[1].into()]
        .map(|ip| socket(&veth.b, SocketAddr::new(ip, PORT)));
    Some(Rig { veth, _keeps_the_kernel_quiet: quiet })
}

fn socket(namespace: &Namespace, local: SocketAddr) -> UdpSocket {
    let _inside = namespace.enter().unwrap();
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

impl Rig {
    fn stack(&self) -> Stack {
        let _inside = self.veth.b.enter().unwrap();
        let config = Config::new(Veth::MAC[1], PORT)
            .address(format!("{}/24", Veth::IPV4[1]).parse().unwrap())
            .address(format!("{}/64", Veth::IPV6[1]).parse().unwrap())
            .neighbours(Kernel::open(Veth::NAME).unwrap());
        UdpOverL2::new(PacketOptions::new(Veth::NAME).open().unwrap(), config).unwrap()
    }

    /// What side `b`'s kernel says of its neighbours.
    fn table(&self) -> String {
        self.veth.b.ip("neighbour show").unwrap()
    }
}

fn send(stack: &mut Stack, payload: &[u8], to: SocketAddr) -> Result<usize, Error> {
    let mut burst = Burst::with_capacity(1);
    assert!(stack.compose(payload, to, &mut burst).unwrap());
    stack.send(&mut burst)
}

fn flush_until(stack: &mut Stack, done: impl Fn(&Stack) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !done(stack) {
        stack.flush().unwrap();
        assert!(Instant::now() < deadline, "it never came: {:?}", stack.stats());
    }
}

/// What was received, or everything that is known about why nothing was.
fn received<T>(answer: std::io::Result<T>, stack: &Stack, rig: &Rig) -> T {
    answer.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", stack.stats(), rig.table()))
}

#[test]
fn the_kernel_asks_and_the_stack_sends() {
    let Some(rig) = rig() else { return };
    let mut stack = rig.stack();
    for ip in [IpAddr::from(Veth::IPV4[0]), Veth::IPV6[0].into()] {
        assert!(!rig.table().contains(&format!("{ip} ")), "{}", rig.table());
        let server = socket(&rig.veth.a, SocketAddr::new(ip, 0));
        let to = server.local_addr().unwrap();
        assert_eq!(send(&mut stack, b"first", to).unwrap(), 1);
        flush_until(&mut stack, |stack| stack.stats().tx_in_flight == 0);
        send(&mut stack, b"second", to).unwrap();
        for expected in [&b"first"[..], b"second"] {
            let mut got = [0; 100];
            let (n, from) = received(server.recv_from(&mut got), &stack, &rig);
            assert_eq!((&got[..n], from.port()), (expected, PORT));
        }
        assert!(rig.table().contains(&format!("{ip} dev {} lladdr", Veth::NAME)));
    }
    // A second stack finds the table as it is.
    let mut other = rig.stack();
    let server = socket(&rig.veth.a, SocketAddr::new(Veth::IPV4[0].into(), 0));
    send(&mut other, b"third", server.local_addr().unwrap()).unwrap();
    assert_eq!(other.stats().tx_in_flight, 0, "nothing to wait for");
    assert_eq!(server.recv(&mut [0; 100]).unwrap(), 5);
}

#[test]
fn the_kernel_answers_and_the_stack_receives() {
    let Some(rig) = rig() else { return };
    let mut stack = rig.stack();
    for ip in [IpAddr::from(Veth::IPV4[1]), Veth::IPV6[1].into()] {
        let local: IpAddr = if ip.is_ipv4() { Veth::IPV4[0].into() } else { Veth::IPV6[0].into() };
        let client = socket(&rig.veth.a, SocketAddr::new(local, 0));
        client.send_to(b"payload", (ip, PORT)).unwrap();
        let mut burst = Burst::with_capacity(4);
        while burst.is_empty() {
            stack.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap();
            assert!(stack.recv(&mut burst).unwrap() > 0);
        }
        assert_eq!(burst[0].data(), b"payload");
        bypass_core::Datagram::reply(&mut burst[0]);
        stack.send(&mut burst).unwrap();
        stack.flush().unwrap();
        assert_eq!(client.recv(&mut [0; 100]).unwrap(), 7);
    }
}

#[test]
fn changes_of_the_table_are_followed() {
    let Some(rig) = rig() else { return };
    let mut stack = rig.stack();
    let server = socket(&rig.veth.a, SocketAddr::new(Veth::IPV4[0].into(), 0));
    let to = server.local_addr().unwrap();
    let set = |station: &str| {
        let entry = format!("{} lladdr {station} dev {}", to.ip(), Veth::NAME);
        rig.veth.b.ip(&format!("neighbour replace {entry} nud permanent")).unwrap();
    };
    server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // Whether datagrams arrive shows where they go; the kernel's news is read in its own time.
    let await_arrival = |stack: &mut Stack, wanted: bool| {
        let (mut in_a_row, deadline) = (0, Instant::now() + Duration::from_secs(5));
        while in_a_row < 3 {
            send(stack, b"payload", to).unwrap();
            stack.flush().unwrap();
            let arrived = server.recv(&mut [0; 100]).is_ok();
            in_a_row = if arrived == wanted { in_a_row + 1 } else { 0 };
            assert!(Instant::now() < deadline, "arrival: {arrived}, {}", rig.table());
        }
    };
    set(&Veth::MAC[0].to_string());
    await_arrival(&mut stack, true);
    set("02:99:99:99:99:99");
    await_arrival(&mut stack, false);
    set(&Veth::MAC[0].to_string());
    await_arrival(&mut stack, true);
    rig.veth.b.ip(&format!("neighbour del {} dev {}", to.ip(), Veth::NAME)).unwrap();
    // Now the kernel has to ask again.
    await_arrival(&mut stack, true);
    assert!(!rig.table().contains("PERMANENT"), "{}", rig.table());
}

#[test]
fn who_does_not_answer_the_kernel_is_given_up() {
    let Some(rig) = rig() else { return };
    let mut stack = rig.stack();
    for absent in ["10.66.0.99:9", "[fd66::99]:9"] {
        let before = stack.stats().drops[DropCause::NeighbourTimeout];
        send(&mut stack, b"payload", absent.parse().unwrap()).unwrap();
        flush_until(&mut stack, |stack| {
            stack.stats().drops[DropCause::NeighbourTimeout] == before + 1
        });
    }
    assert_eq!(stack.stats().tx_in_flight, 0);
}

#[test]
fn the_kernels_routes_are_taken() {
    let Some(rig) = rig() else { return };
    rig.veth.a.ip("address add 10.99.0.5/32 dev lo").unwrap();
    rig.veth.a.ip("address add fd99::5/128 dev lo").unwrap();
    let mut stack = rig.stack();
    for (ip, route) in [
        ("10.99.0.5", "route add 10.99.0.0/24 via 10.66.0.1"),
        ("fd99::5", "-6 route add fd99::/64 via fd66::1"),
    ] {
        let server = socket(&rig.veth.a, SocketAddr::new(ip.parse().unwrap(), 0));
        let to = server.local_addr().unwrap();
        let error = send(&mut stack, b"payload", to).unwrap_err();
        assert!(
            matches!(error, Error::Frame { cause: FrameError::Destination { .. }, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("the kernel has no route"), "{error}");
        rig.veth.b.ip(route).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while send(&mut stack, b"payload", to).is_err() {
            assert!(Instant::now() < deadline, "the new route is not noticed");
            stack.flush().unwrap();
        }
        flush_until(&mut stack, |stack| stack.stats().tx_in_flight == 0);
        assert_eq!(received(server.recv(&mut [0; 100]), &stack, &rig), 7);
    }
    // Routes that lead elsewhere are not taken.
    let error = send(&mut stack, b"payload", "127.0.0.1:9".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("no other host"), "{error}");
    rig.veth.b.ip("link add elsewhere type veth").unwrap();
    rig.veth.b.ip("link set elsewhere up").unwrap();
    rig.veth.b.ip("address add 10.55.0.1/24 dev elsewhere").unwrap();
    let error = send(&mut stack, b"payload", "10.55.0.2:9".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("another interface than veth0"), "{error}");
}

#[test]
fn groups_are_joined_by_the_kernel() {
    let Some(rig) = rig() else { return };
    let mut stack = rig.stack();
    let groups: [IpAddr; 2] = ["239.66.1.2".parse().unwrap(), "ff05::6612".parse().unwrap()];
    let member = |group: IpAddr| {
        let said = rig.veth.b.ip(&format!("maddress show dev {}", Veth::NAME)).unwrap();
        said.contains(&group.to_string())
    };
    for group in groups {
        assert!(!member(group));
        stack.join(group).unwrap();
        assert!(member(group), "{group}");
        let local: IpAddr =
            if group.is_ipv4() { Veth::IPV4[0].into() } else { Veth::IPV6[0].into() };
        let sender = socket2::Socket::from(socket(&rig.veth.a, SocketAddr::new(local, 0)));
        if group.is_ipv4() {
            sender.set_multicast_if_v4(&Veth::IPV4[0]).unwrap();
        } else {
            let line = rig.veth.a.ip(&format!("-o link show {}", Veth::NAME)).unwrap();
            let index = line.split(':').next().unwrap().parse().unwrap();
            sender.set_multicast_if_v6(index).unwrap();
        }
        UdpSocket::from(sender).send_to(b"bid 101.25", (group, PORT)).unwrap();
        let mut burst = Burst::with_capacity(4);
        stack.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap();
        stack.recv(&mut burst).unwrap();
        assert_eq!(burst[0].data(), b"bid 101.25");
        stack.leave(group).unwrap();
        assert!(!member(group));
    }
}

#[test]
fn what_is_missing_is_named() {
    let Some(rig) = rig() else { return };
    let _inside = rig.veth.b.enter().unwrap();
    let error = Kernel::open("nosuch0").unwrap_err();
    assert!(matches!(error, Error::NoSuchInterface { .. }), "{error}");
    // Capabilities are a thread's own.
    std::thread::scope(|scope| {
        let powerless = scope.spawn(|| {
            let _inside = rig.veth.b.enter().unwrap();
            let home = rustix::thread::capabilities(None).unwrap();
            let mut fewer = home;
            fewer.effective.remove(rustix::thread::CapabilitySet::NET_ADMIN);
            rustix::thread::set_capabilities(None, fewer).unwrap();
            let answer = Kernel::open(Veth::NAME);
            rustix::thread::set_capabilities(None, home).unwrap();
            answer.map(drop)
        });
        let error = powerless.join().unwrap().unwrap_err();
        assert!(
            matches!(error, Error::MissingCapability { capability: "CAP_NET_ADMIN", .. }),
            "{error}"
        );
    });
}
