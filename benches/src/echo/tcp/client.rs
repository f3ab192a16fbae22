//! The traffic generator: one thread with many connections, on epoll by hand, so of the kin of no
//! server that is measured but the baseline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::echo::generator::Generator;
use crate::open_loop::{Source, Stretch};

/// Bytes of a message. It begins with its mark, of eight bytes.
pub(super) const MESSAGE: usize = 64;

pub(super) const CONNECTIONS: usize = 64;

/// After this long without an answer the server is stuck: TCP loses nothing.
const STUCK_AFTER: Duration = Duration::from_secs(2);

pub(super) struct Client {
    connections: Vec<Connection>,
    epoll: OwnedFd,
    /// Connection and mark of what came with the last turn.
    answers: Vec<(usize, u64)>,
}

struct Connection {
    socket: TcpStream,
    /// The beginning of an answer.
    partial: Vec<u8>,
}

impl Client {
    pub(super) fn connect(_here: Ipv4Addr, server: SocketAddrV4) -> Result<Box<dyn Generator>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for index in 0..CONNECTIONS as u64 {
            let socket = TcpStream::connect(server).context("cannot connect to the server")?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll::add(&epoll, &socket, EventData::new_u64(index), EventFlags::IN)?;
            connections.push(Connection { socket, partial: Vec::with_capacity(MESSAGE) });
        }
        Ok(Box::new(Self { connections, epoll, answers: Vec::with_capacity(8 * CONNECTIONS) }))
    }

    /// Sends a message.
    fn send(&mut self, connection: usize, mark: u64) -> Result<()> {
        let mut message = [mark as u8; MESSAGE];
        message[..8].copy_from_slice(&mark.to_le_bytes());
        let sent = self.connections[connection].socket.write(&message).context("cannot send")?;
        ensure!(sent == MESSAGE, "a message was cut to {sent} bytes");
        Ok(())
    }

    /// Sleeps until there are answers, and takes them all into `answers`.
    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        self.turn(STUCK_AFTER)?;
        while self.answers.is_empty() {
            ensure!(began.elapsed() < STUCK_AFTER, "it leaves messages unanswered");
            self.turn(STUCK_AFTER)?;
        }
        Ok(())
    }

    /// Takes every answer that has come into `answers`, sleeping for the first for so long.
    fn turn(&mut self, timeout: Duration) -> Result<()> {
        let mut events = [MaybeUninit::<Event>::uninit(); CONNECTIONS];
        let timeout = Timespec::try_from(timeout)?;
        let (ready, _) = epoll::wait(&self.epoll, &mut events, Some(&timeout))?;
        self.answers.clear();
        for event in &*ready {
            let index = event.data.u64() as usize;
            let answers = &mut self.answers;
            self.connections[index].receive(|answer| {
                answers.push((index, mark(answer)?));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Keeps one message under way on each connection while `goes_on`; returns the answers.
    fn closed(&mut self, mut goes_on: impl FnMut(u64) -> bool) -> Result<u64> {
        for connection in 0..CONNECTIONS {
            self.send(connection, 0)?;
        }
        let (mut under_way, mut round_trips) = (CONNECTIONS, 0);
        while under_way > 0 {
            self.wait()?;
            round_trips += self.answers.len() as u64;
            if goes_on(round_trips) {
                for index in 0..self.answers.len() {
                    self.send(self.answers[index].0, round_trips)?;
                }
            } else {
                under_way -= self.answers.len();
            }
        }
        Ok(round_trips)
    }
}

impl Connection {
    /// Receives what there is, and hands out the answers in it.
    fn receive(&mut self, answer: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut bytes = [0; 16 * MESSAGE];
        match self.socket.read(&mut bytes) {
            Ok(0) => bail!("the server has ended a connection"),
            // What is left makes the connection ready again.
            Ok(count) => self.take(&bytes[..count], answer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("cannot receive"),
        }
    }

    /// Cuts what came into answers.
    fn take(&mut self, bytes: &[u8], mut answer: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(MESSAGE - self.partial.len()));
            self.partial.extend_from_slice(head);
            rest = tail;
            if self.partial.len() < MESSAGE {
                return Ok(());
            }
            answer(&self.partial)?;
            self.partial.clear();
        }
        let mut whole = rest.chunks_exact(MESSAGE);
        whole.by_ref().try_for_each(answer)?;
        self.partial.extend_from_slice(whole.remainder());
        Ok(())
    }
}

/// The mark of an answer, which is all there, as it was sent.
fn mark(answer: &[u8]) -> Result<u64> {
    let mark = answer.first_chunk().map(|mark| u64::from_le_bytes(*mark));
    let mark = mark.context("an answer is cut short")?;
    let same = answer[8..].iter().all(|&byte| byte == mark as u8);
    ensure!(same, "it answered with what it was not sent: {answer:?}");
    Ok(mark)
}

impl Generator for Client {
    fn verify(&mut self) -> Result<()> {
        const EACH: usize = 4;
        // Every message is different, and those of one connection come back in order.
        let mark = |connection: usize, nth: usize| (connection * EACH + nth) as u64;
        for nth in 0..EACH {
            for connection in 0..CONNECTIONS {
                self.send(connection, mark(connection, nth))?;
            }
        }
        let mut answered = [0; CONNECTIONS];
        while answered.iter().any(|&count| count < EACH) {
            self.wait()?;
            for &(connection, marked) in &self.answers {
                let nth = answered[connection];
                ensure!(
                    nth < EACH && marked == mark(connection, nth),
                    "connection {connection}: answer {nth} is message {marked}"
                );
                answered[connection] += 1;
            }
        }
        Ok(())
    }

    fn closed_loop(&mut self, duration: Duration) -> Result<u64> {
        let end = Instant::now() + duration;
        self.closed(|_| Instant::now() < end)
    }
}

impl Source for Client {
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let total = (rate * duration.as_secs_f64()) as u64;
        let due = |number: u64| (number as f64 * 1e9 / rate) as u64;
        let mut result = Stretch::new()?;
        let start = Instant::now();
        let mut last_progress = start;
        while result.answered < total {
            let now = start.elapsed().as_nanos() as u64;
            while result.sent < total && due(result.sent) <= now {
                self.send(result.sent as usize % CONNECTIONS, due(result.sent))?;
                result.send(1, due(result.sent), now);
            }
            self.turn(Duration::ZERO)?;
            if self.answers.is_empty() {
                ensure!(last_progress.elapsed() < STUCK_AFTER, "the server is stuck");
                continue;
            }
            last_progress = Instant::now();
            let now = start.elapsed().as_nanos() as u64;
            self.answers.iter().for_each(|&(_, due)| result.answer(now.saturating_sub(due)));
        }
        Ok(result)
    }
}
