//! Multishot operations without buffers: connections, readiness, ticks.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::task::drive;
use common::{SOON, until};
use io_uring_ext::multishot::{EndReason, Incoming, PollEvents, Poller, Tally, Ticker};
use io_uring_ext::op::Accept;
use io_uring_ext::{Error, Fd, Ring};

const BRIEFLY: Option<Duration> = Some(Duration::from_millis(20));

fn listener() -> (Fd, TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Fd::new(listener.try_clone().unwrap()), listener, address)
}

fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(address).unwrap()).collect()
}

/// Connections that wait with the listener.
fn backlog(listener: &TcpListener) -> u64 {
    listener.set_nonblocking(true).unwrap();
    std::iter::from_fn(|| listener.accept().ok()).count() as u64
}

#[test]
fn one_submission_takes_many_connections() {
    let ring = Ring::local().unwrap();
    let (fd, _listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    for _ in 0..100 {
        let client = TcpStream::connect(address).unwrap();
        let connection = TcpStream::from(incoming.wait(SOON).unwrap().unwrap());
        assert_eq!(connection.peer_addr().unwrap(), client.local_addr().unwrap());
        let flags = rustix::io::fcntl_getfd(&connection).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    let counters = incoming.counters();
    assert_eq!((counters.taken, counters.closed, counters.armed), (100, 0, 1));
    assert!(incoming.is_armed());
}

#[test]
fn a_flood_ends_it_at_a_full_completion_queue_and_loses_nobody() {
    const CLIENTS: usize = 100;
    let ring = Ring::builder().entries(4).completions(4).operations(8).build_local().unwrap();
    let (fd, _listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    let mut clients = connect(address, CLIENTS);
    let mut peers = Vec::new();
    for client in &mut clients {
        client.write_all(&client.local_addr().unwrap().port().to_be_bytes()).unwrap();
        let mut connection = TcpStream::from(incoming.wait(SOON).unwrap().unwrap());
        let mut said = [0; 2];
        connection.set_read_timeout(SOON).unwrap();
        peers.push(connection.peer_addr().unwrap().port());
        // They come in the order in which they connected.
        connection.read_exact(&mut said).unwrap();
        assert_eq!(said, peers[peers.len() - 1].to_be_bytes());
    }
    let ports: Vec<u16> =
        clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    assert_eq!(peers, ports);
    let counters = incoming.counters();
    assert!(counters.overflows > 0 && counters.armed > 1, "{counters:?}");
    assert_eq!((counters.taken, counters.closed), (CLIENTS as u64, 0));
}

/// Every connection is taken, closed and counted, or still with the listener.
#[track_caller]
fn adds_up(clients: Vec<TcpStream>, listener: &TcpListener, tally: &Tally, taken: u64) {
    assert_eq!(tally.taken(), taken);
    assert_eq!(tally.taken() + tally.closed() + backlog(listener), clients.len() as u64);
    for mut client in clients {
        client.set_read_timeout(SOON).unwrap();
        match client.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {}
            other => panic!("a connection is still open: {other:?}"),
        }
    }
}

#[test]
fn connections_that_nobody_takes_are_closed_and_counted() {
    // Fetched, completed but not fetched, and not even accepted; the ring goes first, or last.
    for (completions, ring_first) in [(64, false), (64, true), (4, false), (4, true)] {
        let ring = Ring::builder().entries(4).completions(completions).build_local().unwrap();
        let (fd, listener, address) = listener();
        let mut incoming = Incoming::new(&ring, &fd);
        assert!(incoming.try_next().unwrap().is_none());
        let mut clients = connect(address, 12);
        let taken = incoming.wait(SOON).unwrap().unwrap();
        // More come, which the ring has taken in and the owner has not.
        clients.extend(connect(address, 12));
        ring.submit().unwrap();
        let tally = incoming.tally();
        assert_eq!(tally.taken(), 1);
        if ring_first {
            assert_eq!(ring.close(), 0);
            drop(incoming);
        } else {
            drop(incoming);
            drop(ring);
        }
        assert!(tally.closed() >= 3, "{tally:?}");
        drop((taken, fd));
        adds_up(clients, &listener, &tally, 1);
    }
}

#[test]
fn a_dropped_one_closes_what_comes_before_the_cancel_does() {
    let ring = Ring::local().unwrap();
    let (fd, listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    let tally = incoming.tally();
    drop(incoming);
    // The cancel waits in the queue; the kernel accepts meanwhile.
    let clients = connect(address, 5);
    until("the end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    adds_up(clients, &listener, &tally, 0);
}

#[test]
fn cancelling_ends_it_until_it_is_allowed_again() {
    let ring = Ring::local().unwrap();
    let (fd, _listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    incoming.cancel().unwrap();
    assert!(incoming.wait(SOON).unwrap().is_none());
    assert_eq!(incoming.end_reason(), Some(EndReason::Cancelled));
    let clients = connect(address, 2);
    assert!(incoming.wait(BRIEFLY).unwrap().is_none());
    incoming.rearm();
    assert!(incoming.wait(SOON).unwrap().is_some());
    ring.cancel_all().unwrap();
    assert!(incoming.wait(SOON).unwrap().is_some(), "accepted before the cancel");
    assert!(incoming.wait(SOON).unwrap().is_none());
    assert_eq!(incoming.end_reason(), Some(EndReason::Cancelled));
    drop(clients);
}

#[test]
fn errors_are_told_and_tried_again() {
    let ring = Ring::local().unwrap();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let fd = Fd::new(unbound.try_clone().unwrap());
    let mut incoming = Incoming::new(&ring, &fd);
    for _ in 0..2 {
        let refused = incoming.wait(SOON).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL), "it does not listen yet");
        assert!(matches!(refused, Error::Os { what: "a multishot accept", .. }));
        assert_eq!(incoming.end_reason(), Some(EndReason::Error(libc::EINVAL)));
    }
    unbound.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    unbound.listen(5).unwrap();
    let address = unbound.local_addr().unwrap().as_socket().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    assert!(incoming.wait(SOON).unwrap().is_some());
    assert_eq!(incoming.counters().armed, 3);
}

#[test]
fn a_shared_ring_takes_connections_after_the_thread_that_armed_it() {
    let ring = Ring::shared().unwrap();
    let (fd, _listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    let mut incoming = std::thread::spawn(move || {
        assert!(incoming.try_next().unwrap().is_none());
        incoming
    })
    .join()
    .unwrap();
    for _ in 0..3 {
        let _client = TcpStream::connect(address).unwrap();
        assert!(incoming.wait(SOON).unwrap().is_some());
    }
    assert_eq!(incoming.counters().taken, 3);
}

#[test]
fn a_single_accept_and_a_multishot_share_a_listener() {
    let ring = Ring::local().unwrap();
    let (fd, _listener, address) = listener();
    let single = ring.push(Accept::new(&fd)).unwrap();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    let clients = connect(address, 3);
    let first = single.wait(SOON).unwrap().unwrap();
    let mut ports: Vec<u16> = (0..2)
        .map(|_| TcpStream::from(incoming.wait(SOON).unwrap().unwrap()).peer_addr().unwrap().port())
        .collect();
    ports.push(first.peer.unwrap().port());
    ports.sort_unstable();
    let mut expected: Vec<u16> =
        clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    expected.sort_unstable();
    assert_eq!(ports, expected);
}

#[test]
fn all_of_them_are_streams() {
    let ring = Ring::local().unwrap();
    let (fd, _listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    let mut ticker = Ticker::times(&ring, Duration::from_millis(1), 3).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut poller = Poller::new(&ring, &Fd::new(near), PollEvents::IN);
    let client = TcpStream::connect(address).unwrap();
    far.write_all(b"!").unwrap();
    drive(&ring, async {
        let connection = TcpStream::from(incoming.next().await.unwrap().unwrap());
        assert_eq!(connection.peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(poller.next().await.unwrap(), Some(PollEvents::IN));
        for n in 1..=3 {
            assert_eq!(ticker.next().await.unwrap(), Some(n));
        }
        assert_eq!(ticker.next().await.unwrap(), None, "finished");
    });
}

#[test]
fn a_poller_reports_edges() {
    let ring = Ring::local().unwrap();
    let (mut near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"before").unwrap();
    let fd = Fd::new(near.try_clone().unwrap());
    let mut poller = Poller::new(&ring, &fd, PollEvents::IN);
    assert_eq!(poller.wait(SOON).unwrap(), Some(PollEvents::IN), "ready already");
    assert_eq!(poller.wait(BRIEFLY).unwrap(), None, "nothing new, though it is still ready");
    for n in 2..12 {
        far.write_all(b"more").unwrap();
        assert_eq!(poller.wait(SOON).unwrap(), Some(PollEvents::IN));
        assert_eq!((poller.counters().events, poller.counters().armed), (n, 1));
    }
    near.read_exact(&mut [0; 46]).unwrap();
    assert_eq!(poller.wait(BRIEFLY).unwrap(), None);
    drop(far);
    let end = poller.wait(SOON).unwrap().unwrap();
    assert!(end.contains(PollEvents::HUP | PollEvents::RDHUP), "{end:?}");
}

#[test]
fn a_poller_survives_a_full_completion_queue() {
    let ring = Ring::builder().entries(2).completions(2).operations(8).build_local().unwrap();
    let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
    let mut pollers: Vec<_> = pairs
        .iter()
        .map(|(near, _)| Poller::new(&ring, &Fd::new(near.try_clone().unwrap()), PollEvents::IN))
        .collect();
    for round in 0..20 {
        for poller in &mut pollers {
            assert_eq!(poller.try_next().unwrap(), None, "{round}");
        }
        for (_, far) in &pairs {
            (&*far).write_all(b"!").unwrap();
        }
        for (poller, (near, _)) in pollers.iter_mut().zip(&pairs) {
            assert_eq!(poller.wait(SOON).unwrap(), Some(PollEvents::IN), "{round}");
            (&*near).read_exact(&mut [0; 1]).unwrap();
            // What comes behind an overflow may be told twice, never not at all.
            while poller.wait(Some(Duration::from_millis(1))).unwrap().is_some() {}
        }
    }
    assert!(pollers.iter().any(|poller| poller.counters().overflows > 0), "{pollers:?}");
}

#[test]
fn what_cannot_be_polled_is_an_error() {
    let ring = Ring::local().unwrap();
    let file = Fd::new(std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
    let mut poller = Poller::new(&ring, &file, PollEvents::IN);
    match poller.wait(SOON) {
        // A regular file is always ready, or cannot be polled.
        Ok(Some(events)) => assert!(events.contains(PollEvents::IN)),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        Ok(None) => panic!("it said nothing"),
    }
}

#[test]
fn a_ticker_ticks_as_often_as_it_was_told() {
    const PERIOD: Duration = Duration::from_millis(5);
    let ring = Ring::local().unwrap();
    let mut ticker = Ticker::times(&ring, PERIOD, 4).unwrap();
    let began = Instant::now();
    for n in 1..=4 {
        assert_eq!(ticker.wait(SOON).unwrap(), Some(n));
        assert!(began.elapsed() >= PERIOD * n as u32, "never early");
    }
    assert_eq!(ticker.wait(SOON).unwrap(), None);
    assert_eq!(ticker.end_reason(), Some(EndReason::Finished));
    let counters = ticker.counters();
    assert_eq!((counters.ticks, counters.armed), (4, 1));
    ticker.rearm();
    assert_eq!(ticker.wait(BRIEFLY).unwrap(), None, "there is nothing left to do");
}

#[test]
fn an_endless_ticker_ticks_until_it_is_cancelled() {
    let ring = Ring::local().unwrap();
    let mut ticker = Ticker::new(&ring, Duration::from_millis(1)).unwrap();
    for n in 1..=20 {
        assert_eq!(ticker.wait(SOON).unwrap(), Some(n));
    }
    assert_eq!(ticker.counters().armed, 1);
    ticker.cancel().unwrap();
    while ticker.wait(SOON).unwrap().is_some() {}
    assert_eq!(ticker.end_reason(), Some(EndReason::Cancelled));
    ticker.rearm();
    assert!(ticker.wait(SOON).unwrap().is_some());
    assert_eq!(ticker.counters().armed, 2);
}

#[test]
fn counted_tickers_keep_their_count_across_a_full_completion_queue() {
    const TICKS: u64 = 12;
    const PERIOD: Duration = Duration::from_millis(1);
    let ring = Ring::builder().entries(2).completions(2).operations(8).build_local().unwrap();
    let mut tickers: Vec<_> =
        (0..5).map(|_| Ticker::times(&ring, PERIOD, TICKS as u32).unwrap()).collect();
    while tickers.iter().any(|ticker| ticker.end_reason() != Some(EndReason::Finished)) {
        // All are due before the kernel reports the first: more than the queue holds.
        std::thread::sleep(2 * PERIOD);
        for ticker in &mut tickers {
            let before = ticker.counters().ticks;
            while let Some(n) = ticker.try_next().unwrap() {
                assert!(n > before && n <= TICKS);
            }
        }
    }
    assert!(tickers.iter().all(|ticker| ticker.counters().ticks == TICKS), "{tickers:?}");
    assert!(tickers.iter().any(|ticker| ticker.counters().overflows > 0), "{tickers:?}");
}

#[test]
fn nonsense_periods_are_refused_by_name() {
    let ring = Ring::local().unwrap();
    let refused = Ticker::new(&ring, Duration::ZERO).unwrap_err().to_string();
    assert!(refused.contains("period cannot be zero"), "{refused}");
    let refused = Ticker::times(&ring, Duration::from_secs(1), 0).unwrap_err().to_string();
    assert!(refused.contains("number of ticks cannot be 0"), "{refused}");
    let mut beyond = Ticker::new(&ring, Duration::MAX).unwrap();
    assert_eq!(beyond.wait(SOON).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

/// The completion that says that the queue was full is there already, unseen, when it is cancelled.
#[test]
fn what_was_cancelled_stays_ended_whatever_it_ended_of() {
    let ring = Ring::builder().entries(4).completions(4).operations(8).build_local().unwrap();
    let (fd, listener, address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    let clients = connect(address, 20);
    until("the kernel to end it", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    incoming.cancel().unwrap();
    while let Some(connection) = incoming.wait(BRIEFLY).unwrap() {
        drop(connection);
    }
    assert_eq!(incoming.end_reason(), Some(EndReason::Cancelled));
    let counters = incoming.counters();
    assert_eq!((counters.armed, counters.overflows), (1, 1));
    assert!(backlog(&listener) > 0, "the others wait with the listener");
    drop(clients);
}

/// As above, with an error: it is told, and nothing is armed again.
#[test]
fn an_error_before_the_cancel_is_told() {
    let ring = Ring::local().unwrap();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let mut incoming = Incoming::new(&ring, &Fd::new(unbound));
    let mut errors = 0;
    let _ = incoming.try_next().map_err(|_| errors += 1);
    incoming.cancel().unwrap();
    for _ in 0..3 {
        let _ = incoming.wait(BRIEFLY).map_err(|_| errors += 1);
    }
    assert_eq!(errors, 1);
    assert_eq!(incoming.end_reason(), Some(EndReason::Cancelled));
}

#[test]
fn waiting_for_what_a_closed_ring_has_leaked_is_an_error() {
    let ring = Ring::builder().shutdown_deadline(Duration::ZERO).build_local().unwrap();
    let (fd, _listener, _address) = listener();
    let mut incoming = Incoming::new(&ring, &fd);
    assert!(incoming.try_next().unwrap().is_none());
    assert_eq!(ring.close(), 1);
    assert!(matches!(incoming.wait(SOON), Err(Error::Closed)));
}
