use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};

use super::*;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Veth::IPV4[0], 7000);
/// Where the parts of a request are: number, patch, sequence, stamp.
const PATCH_AT: usize = 10;
const SEQUENCE_AT: usize = 30;
const STAMP_AT: usize = 40;

/// Requests that alternate between two lengths and two patches.
fn requests() -> Requests {
    let macs = [Veth::MAC[1], Veth::MAC[0]];
    let mut requests = Requests::new(Route { macs, from: Veth::IPV4[1], to: SERVER })
        .answered(8, [0xff, 0xff, 0, 0, 0, 0, 0, 0], [*b"AB\0\0\0\0\0\0", *b"CD\0\0\0\0\0\0"])
        .counted(SEQUENCE_AT, 100, 3)
        .stamped(STAMP_AT);
    let [short, long] = [64, 1000].map(|length| {
        let mut payload = vec![0; length];
        payload[8..10].copy_from_slice(b"AB");
        requests.template(&payload).unwrap()
    });
    requests.push(short);
    requests.push_with(long, PATCH_AT, *b"sixteen bytes it");
    requests
}

/// Answers what `reply` makes of requests; returns the requests.
fn serve(server: &Server<'_>, reply: impl Fn(&mut [u8])) -> Vec<(u64, Vec<u8>)> {
    let mut seen = Vec::new();
    server.receive(|mut payload, from| {
        seen.push((now(), payload.clone()));
        reply(&mut payload);
        server.socket.send_to(&payload, from).unwrap();
    });
    seen
}

/// A socket at the other end, in use until somebody says stop.
struct Server<'a> {
    socket: &'a UdpSocket,
    stop: &'a AtomicBool,
}

impl Server<'_> {
    fn receive(&self, mut take: impl FnMut(Vec<u8>, SocketAddr)) {
        let mut buffer = [0; 2048];
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                take(buffer[..length].to_vec(), from);
            }
        }
    }
}

fn with_server<T, S: Send>(
    veth: &Veth,
    serve: impl FnOnce(&Server<'_>) -> S + Send,
    ask: impl FnOnce(&mut Generator) -> T,
) -> (S, T) {
    // Frames are taken where the other end polls.
    veth.a.run("ethtool", "-K veth0 gro on").unwrap();
    let socket = {
        let _inside = veth.a.enter().unwrap();
        UdpSocket::bind(SERVER).unwrap()
    };
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let _inside = veth.b.enter().unwrap();
    let mut generator = Generator::open(Veth::NAME, &requests()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&Server { socket: &socket, stop: &stop }));
        let outcome = ask(&mut generator);
        stop.store(true, Ordering::Relaxed);
        (server.join().unwrap(), outcome)
    })
}

#[test]
fn every_request_is_as_it_was_ordered_and_every_answer_is_counted() {
    if skip(&[Need::Namespaces, Need::Bpf, Need::Tool("ethtool"), Need::Tool("ping")]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let ask = |generator: &mut Generator| {
        // Answers end in the program; all else goes on to the kernel.
        veth.b.run("ping", &format!("-c 1 -W 5 {}", Veth::IPV4[0])).unwrap();
        // A machine with other things to do lets some answers come too late.
        loop {
            let stretch = generator.offer(5000.0, Duration::from_millis(100)).unwrap();
            if stretch.sent > 1 && stretch.sent == stretch.answered {
                return stretch;
            }
        }
    };
    let (seen, stretch) = with_server(&veth, |server| serve(server, |_| {}), ask);
    // A source that fell behind leaves some out.
    assert!((2..=501).contains(&stretch.sent), "{}", stretch.sent);
    assert_eq!(stretch.latency.len(), stretch.answered);
    let last = &seen[seen.len() - stretch.sent as usize..];
    for (place, (arrived, payload)) in last.iter().enumerate() {
        let patched = place % 2 == 1;
        assert_eq!(payload.len(), if patched { 1000 } else { 64 });
        assert_eq!(usize::from(u16::from_be_bytes([payload[0], payload[1]])), place);
        assert_eq!(&payload[8..10], b"AB");
        let patch = if patched { *b"sixteen bytes it" } else { [0; 16] };
        assert_eq!(payload[PATCH_AT..PATCH_AT + 16], patch);
        let sequence = payload[SEQUENCE_AT..SEQUENCE_AT + 8].try_into().unwrap();
        assert_eq!(u64::from_be_bytes(sequence), 100 + 3 * place as u64);
        let stamp: [u8; 6] = payload[STAMP_AT..STAMP_AT + 6].try_into().unwrap();
        let stamp = stamp.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let late = (arrived - stamp) & 0xffff_ffff_ffff;
        assert!(late < 60_000_000_000, "{late} ns");
    }
}

#[test]
fn a_wrong_answer_is_named() {
    if skip(&[Need::Namespaces, Need::Bpf, Need::Tool("ethtool")]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let reply = |payload: &mut [u8]| payload[8..14].copy_from_slice(b"ERROR!");
    let (_, error) = with_server(
        &veth,
        |server| serve(server, reply),
        |generator| {
            loop {
                if let Err(error) = generator.offer(1000.0, Duration::from_millis(20)) {
                    return error.to_string();
                }
            }
        },
    );
    assert!(error.contains("ERROR!"), "{error}");
}

/// Answers that come a stretch too late have the numbers of requests that are under way, and are not theirs.
#[test]
fn an_answer_of_an_earlier_stretch_does_not_count() {
    if skip(&[Need::Namespaces, Need::Bpf, Need::Tool("ethtool")]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    // Holds everything back until something of the next stretch comes, and answers only what it has held.
    let serve = |server: &Server<'_>| {
        let (mut held, mut answered) = (Vec::<(Vec<u8>, SocketAddr)>::new(), 0);
        server.receive(|payload, from| {
            if held.first().is_none_or(|(_, first)| *first == from) {
                return held.push((payload, from));
            }
            for (payload, to) in &held[answered as usize..] {
                server.socket.send_to(payload, to).unwrap();
                answered += 1;
            }
        });
        answered
    };
    let (answered, late) = with_server(&veth, serve, |generator| {
        let offer = |generator: &mut Generator| {
            // On a machine with other things to do none may be sent.
            loop {
                let stretch = generator.offer(1000.0, Duration::from_millis(50)).unwrap();
                assert_eq!(stretch.answered, 0);
                if stretch.sent > 0 {
                    return stretch.sent;
                }
            }
        };
        let held = offer(generator);
        offer(generator);
        loop {
            let seen = Seen::read(&map(&generator.object, "answers").unwrap()).unwrap();
            assert_eq!(seen.answered, 0);
            if seen.late >= held {
                return seen.late;
            }
        }
    });
    assert_eq!(answered, late);
}

#[test]
fn what_does_not_fit_is_refused() {
    let macs = [Veth::MAC[1], Veth::MAC[0]];
    let mut requests = Requests::new(Route { macs, from: Veth::IPV4[1], to: SERVER });
    let error = requests.template(&[0; 1500]).unwrap_err().to_string();
    assert!(error.contains("1500 B is too long"), "{error}");
    let many = std::iter::repeat_with(|| requests.template(&[0; 1400])).take(8000);
    assert!(many.last().unwrap().unwrap_err().to_string().contains("in all"));
}
