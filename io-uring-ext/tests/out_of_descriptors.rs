//! Connections that come while no descriptor is left.
//!
//! One test, because it lowers the limit of the process.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::net::{TcpListener, TcpStream};

use common::SOON;
use futures_util::FutureExt;
use io_uring_ext::multishot::{EndReason, Incoming};
use io_uring_ext::{Fd, Ring};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn each_call_tries_once_and_nobody_is_lost() {
    const CLIENTS: usize = 8;
    let ring = Ring::local().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = Incoming::new(&ring, &Fd::new(listener));
    assert!(incoming.try_next().unwrap().is_none());
    let clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();

    // As many as are open, and three more.
    let spare: Vec<_> = (0..3).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let next = std::fs::File::open("/dev/null").unwrap();
    let limit = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
    drop((next, spare));
    let maximum = getrlimit(Resource::Nofile).maximum;
    // The kernel reads the limit when it makes a request of the entry, so it is to be armed anew.
    incoming.cancel().unwrap();
    let mut taken: Vec<_> = std::iter::from_fn(|| incoming.wait(SOON).unwrap()).collect();
    assert_eq!(incoming.end_reason(), Some(EndReason::Cancelled));
    taken.clear();
    let before = incoming.counters();
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
    incoming.rearm();

    let more: Vec<_> = std::iter::from_fn(|| TcpStream::connect(address).ok()).collect();
    assert_eq!(more.len(), 3, "those are all descriptors that there were");
    for n in 1..=5 {
        let full = incoming.wait(SOON).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::EMFILE), "{full}");
        assert_eq!(incoming.end_reason(), Some(EndReason::Error(libc::EMFILE)));
        assert_eq!(incoming.counters().armed, before.armed + n, "one attempt per call");
        assert!(!incoming.is_armed(), "nothing goes on by itself");
    }
    let mut next = Box::pin(incoming.next());
    assert!((&mut next).now_or_never().is_none());
    ring.submit().unwrap();
    let full = (&mut next).now_or_never().unwrap().unwrap_err();
    drop(next);
    assert_eq!(full.raw_os_error(), Some(libc::EMFILE), "as a task too");

    // There are descriptors again: those who waited with the listener are taken.
    let connected = clients.len() + more.len();
    drop((clients, more));
    let rest = connected - before.taken as usize;
    let rest: Vec<_> = (0..rest).map(|_| incoming.wait(SOON).unwrap().unwrap()).collect();
    assert!(!rest.is_empty());
    assert_eq!(incoming.counters().taken as usize, connected);
}
