//! [`Server`]: one thread, a few connections, limits on everything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown};

use super::address::Listener;
use super::http::{self, MAX_REQUEST};
use super::pages::Pages;

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// How long a connection may take, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to leave connections alone when none can be accepted: no descriptors are left, say.
const PAUSE: Duration = Duration::from_millis(100);
/// The lowest priority.
const NICE: i32 = 19;

pub(super) struct Server {
    listener: Listener,
    /// Readable when it is time to end.
    stop: OwnedFd,
    pages: Pages,
    /// In the order in which they came.
    connections: Vec<Connection>,
    /// No connections are accepted before.
    paused_until: Option<Instant>,
}

impl Server {
    pub(super) fn new(listener: Listener, stop: OwnedFd, pages: Pages) -> Self {
        let connections = Vec::with_capacity(CONNECTIONS);
        Self { listener, stop, pages, connections, paused_until: None }
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        // Whoever may not be nicer is as nice as before.
        let _nice = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        loop {
            let now = Instant::now();
            self.connections.retain(|connection| connection.deadline > now);
            self.paused_until = self.paused_until.filter(|until| *until > now);
            let Ok(found) = self.wait(now) else { return };
            let [stop, listener, connections @ ..] = &found[..] else { return };
            if !stop.is_empty() {
                return;
            }
            let mut ready = connections.iter().map(|events| !events.is_empty());
            let pages = &mut self.pages;
            self.connections.retain_mut(|connection| {
                !ready.next().unwrap_or_default() || connection.go_on(pages)
            });
            if !listener.is_empty() {
                self.accept();
            }
        }
    }

    /// Sleeps until there is something to do; what was found of the stop signal, the listener and each
    /// connection.
    fn wait(&self, now: Instant) -> Result<Vec<PollFlags>, Errno> {
        let listening =
            if self.paused_until.is_some() { PollFlags::empty() } else { PollFlags::IN };
        let own = [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.listener, listening)];
        let connections = self.connections.iter().map(|connection| {
            PollFd::from_borrowed_fd(connection.socket.as_fd(), connection.interest())
        });
        let mut fds: Vec<_> = own.into_iter().chain(connections).collect();
        let deadlines = self.connections.iter().map(|connection| connection.deadline);
        let next = deadlines.chain(self.paused_until).min();
        let left = next.map(|next| next.saturating_duration_since(now));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.iter().map(PollFd::revents).collect()),
            Err(error) => Err(error),
        }
    }

    /// Takes the connections that wait; the oldest make room for them.
    fn accept(&mut self) {
        for _ in 0..CONNECTIONS {
            match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => {
                    if self.connections.len() == CONNECTIONS {
                        self.connections.remove(0);
                    }
                    self.connections.push(Connection::new(socket));
                }
                Err(Errno::AGAIN) => return,
                // It has gone again.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(_) => {
                    self.paused_until = Some(Instant::now() + PAUSE);
                    return;
                }
            }
        }
    }
}

struct Connection {
    socket: OwnedFd,
    deadline: Instant,
    state: State,
}

enum State {
    /// What has come of the request.
    Request(Vec<u8>),
    /// What is left to send of the answer.
    Answer(Vec<u8>, usize),
    /// The answer is out. What the client still sends is thrown away: closing now could take the answer
    /// away from it (RFC 9112, section 9.6).
    Over,
}

impl Connection {
    fn new(socket: OwnedFd) -> Self {
        let deadline = Instant::now() + PATIENCE;
        Self { socket, deadline, state: State::Request(Vec::new()) }
    }

    fn interest(&self) -> PollFlags {
        match self.state {
            State::Answer(..) => PollFlags::OUT,
            State::Request(_) | State::Over => PollFlags::IN,
        }
    }

    /// Does what can be done without waiting; whether there is more to come.
    fn go_on(&mut self, pages: &mut Pages) -> bool {
        let step = self.step(pages);
        matches!(step, Ok(true) | Err(Errno::AGAIN | Errno::INTR))
    }

    /// Does one thing; `Ok(false)` at the end.
    fn step(&mut self, pages: &mut Pages) -> Result<bool, Errno> {
        match &mut self.state {
            State::Request(request) => {
                let mut bytes = [0; MAX_REQUEST];
                let room = &mut bytes[request.len()..];
                let n = receive(self.socket.as_fd(), room)?;
                request.extend_from_slice(&room[..n]);
                let Some(asked) = http::parse(request) else { return Ok(n > 0) };
                self.state = State::Answer(answer(asked, pages), 0);
                Ok(true)
            }
            State::Answer(answer, sent) => {
                *sent += send(&self.socket, &answer[*sent..], SendFlags::NOSIGNAL)?;
                if *sent == answer.len() {
                    shutdown(&self.socket, Shutdown::Write)?;
                    self.state = State::Over;
                }
                Ok(true)
            }
            State::Over => Ok(receive(self.socket.as_fd(), &mut [0; MAX_REQUEST])? > 0),
        }
    }
}

/// Receives; 0 at the end.
fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    Ok(recv(socket, bytes, RecvFlags::empty())?.0)
}

fn answer(asked: Result<http::Request, http::Refusal>, pages: &mut Pages) -> Vec<u8> {
    match asked {
        Ok(request) => {
            let (kind, body) = pages.get(request.page);
            http::answer(kind, body, request.head_only)
        }
        Err(refusal) => http::refusal(refusal),
    }
}
