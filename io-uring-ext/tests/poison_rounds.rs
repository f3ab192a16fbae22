//! A thousand rounds of everything in flight at once, stopped in every way there is. Afterwards the
//! kernel has written nothing to memory that was released, and read nothing from it.
//!
//! Each round has an arena of pieces (see `poison.rs`, which also shows that the bare ring fails):
//! direct reads, chains of them with time limits, reads and receives from sockets, multishot receives
//! into a buffer ring, plain and zero-copy sends that find no room; and direct reads into registered
//! buffers, which are poisoned as soon as the pool has them back. A second thread feeds the receiving ends and empties the sending
//! ones while the round is stopped, so that every operation may be at any point of its life.
//! Alone in its binary: `fork` and other tests' threads do not go together.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "fork")]
#![allow(clippy::result_large_err, reason = "what is refused comes back whole")]

mod common;

use std::future::Future;
use std::io::Write as _;
use std::marker;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use common::arena::{Arena, POISON, Piece};
use common::file::direct_file;
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, BufSource, Receiver};
use io_uring_ext::chain::{Chain, Parts, PendingChain, StartedChain};
use io_uring_ext::fixed::BufferTable;
use io_uring_ext::op::{Operation, Read, Recv, Send, SendZc};
use io_uring_ext::{
    Fd, Local, Mode, NotStarted, Pending, Ring, RingBuilder, Shared, SqPoll, StartError, Started,
};
use socket2::SockRef;

const ROUNDS: usize = 1000;
const PIECE: usize = 64 << 10;
/// Operations of each kind that own a piece, and pieces of the buffer ring.
const EACH: usize = 4;
const PIECES: usize = 8 * EACH;

/// How a round is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The ring first, the handles later.
    RingDropped,
    HandlesDropped,
    /// Cancelled twice, also what is done or cannot be cancelled, and not waited for.
    Cancelled,
    /// Left to themselves, then the ring is dropped.
    Detached,
    /// The futures are polled by an executor that is dropped with all of its tasks.
    ExecutorDropped,
    FuturesForgotten,
    Panic,
    /// A child process drops everything first; then the parent does.
    Fork,
}

const STOPS: [Stop; 8] = [
    Stop::RingDropped,
    Stop::HandlesDropped,
    Stop::Cancelled,
    Stop::Detached,
    Stop::ExecutorDropped,
    Stop::FuturesForgotten,
    Stop::Panic,
    Stop::Fork,
];

/// Pieces for a buffer ring, each supplied once.
struct Supply(Vec<Piece>);

impl BufSource for Supply {
    type Buf = Piece;
    fn supply(&mut self) -> Option<Piece> {
        self.0.pop()
    }
}

/// The files and sockets of a round, and the thread at their other ends.
struct World {
    file: Fd,
    stream: Fd,
    tcp: Fd,
    udp: Fd,
    far: std::thread::JoinHandle<()>,
}

impl World {
    /// The other thread begins when `begin` is told so, and ends when this side has closed.
    fn new(file: &Fd, begin: mpsc::Receiver<()>) -> Self {
        let (stream, far_stream) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far_tcp, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = udp.local_addr().unwrap();
        let far = std::thread::spawn(move || {
            // An error says that nobody waits for the signal any more.
            let _ = begin.recv();
            let far_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            for n in 0..EACH {
                // The other end may be gone; what it got before is what counts.
                let _ = (&far_stream).write(&[1; 900]);
                let _ = (&far_tcp).write(&[2; 900]);
                let _ = far_udp.send_to(&[n as u8; 900], to);
            }
            // At once: data that is lent to the network is given back when its receiver has read it.
            std::thread::scope(|scope| {
                scope.spawn(|| drain(far_stream));
                drain(far_tcp);
            });
        });
        Self {
            file: file.clone(),
            stream: Fd::new(stream),
            tcp: Fd::new(tcp),
            udp: Fd::new(udp),
            far,
        }
    }
}

/// Reads to the end, or to the reset that a close with data in it is; what was sent holds no poison.
fn drain(mut from: impl std::io::Read) {
    let mut buffer = vec![0; PIECE];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        assert!(!buffer[..len].contains(&POISON), "the kernel sent memory that had been released");
    }
}

/// Something in flight, of whatever type.
trait InFlight<M: Mode> {
    fn cancel(&self);
    fn detach(self: Box<Self>);
    fn future(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>>;
}

impl<T: Operation, M: Mode> InFlight<M> for Pending<T, M> {
    fn cancel(&self) {
        Pending::cancel(self).unwrap();
    }
    fn detach(self: Box<Self>) {
        Pending::detach(*self);
    }
    fn future(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async { drop((*self).await) })
    }
}

impl<P: Parts, M: Mode> InFlight<M> for PendingChain<P, M> {
    fn cancel(&self) {
        PendingChain::cancel(self).unwrap();
    }
    fn detach(self: Box<Self>) {
        PendingChain::detach(*self);
    }
    fn future(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async { drop((*self).await) })
    }
}

struct Round<M: Mode> {
    operations: Vec<Box<dyn InFlight<M>>>,
    receiver: Receiver<Supply, M>,
    _buffers: BufRing<Supply, M>,
    world: World,
    ring: Ring<M>,
}

/// Either mode, with what is `Send`.
trait AnyMode: Mode {
    fn start<T: Operation + marker::Send>(ring: &Ring<Self>, operation: T) -> Started<T, Self>;
    fn start_chain<P: Parts + marker::Send>(
        ring: &Ring<Self>,
        chain: Chain<P>,
    ) -> StartedChain<P, Self>;
    fn buffers(ring: &Ring<Self>, supply: Supply) -> BufRing<Supply, Self>;
    fn receiver(buffers: &BufRing<Supply, Self>, socket: &Fd) -> Receiver<Supply, Self>;
}

macro_rules! any_mode {
    ($mode:ty) => {
        impl AnyMode for $mode {
            fn start<T: Operation + marker::Send>(ring: &Ring<Self>, it: T) -> Started<T, Self> {
                ring.push(it)
            }
            fn start_chain<P: Parts + marker::Send>(
                ring: &Ring<Self>,
                chain: Chain<P>,
            ) -> StartedChain<P, Self> {
                ring.push_chain(chain)
            }
            fn buffers(ring: &Ring<Self>, supply: Supply) -> BufRing<Supply, Self> {
                BufRing::new(ring, EACH as u16, supply).unwrap()
            }
            fn receiver(buffers: &BufRing<Supply, Self>, socket: &Fd) -> Receiver<Supply, Self> {
                buffers.receiver(socket)
            }
        }
    };
}

any_mode!(Local);
any_mode!(Shared);

/// Starts something; where a kernel thread takes the entries, it may first have to make room.
fn insist<T, P>(mut operation: T, start: impl Fn(T) -> Result<P, NotStarted<T>>) -> P {
    loop {
        match start(operation) {
            Ok(pending) => return pending,
            Err(NotStarted { operation: back, why: StartError::QueueFull }) => operation = back,
            Err(refused) => panic!("{refused}"),
        }
        std::thread::yield_now();
    }
}

fn start<M: AnyMode>(
    ring: Ring<M>,
    world: World,
    arena: &Arena,
    pool: &BufPool<Shared>,
) -> Round<M> {
    let mut pieces = (0..PIECES).map(|n| arena.piece(n));
    let mut piece = || pieces.next().unwrap();
    let buffers = M::buffers(&ring, Supply((0..EACH).map(|_| piece()).collect()));
    let mut receiver = M::receiver(&buffers, &world.udp);
    // Arms it; nothing has been sent yet.
    assert!(receiver.try_recv().unwrap().is_none());
    BufferTable::new(&ring, 1).unwrap().register(pool).unwrap();
    assert!(pool.is_registered(&ring));
    let mut operations: Vec<Box<dyn InFlight<M>>> = Vec::new();
    for n in 0..EACH {
        macro_rules! push {
            ($operation:expr) => {
                operations.push(Box::new(insist($operation, |it| M::start(&ring, it))))
            };
        }
        push!(Read::new(&world.file, piece(), (n * PIECE) as u64));
        push!(Read::new(&world.file, pool.take().unwrap(), (n * PIECE) as u64));
        push!(Read::new(&world.stream, piece(), 0));
        push!(Recv::new(&world.tcp, piece()));
        push!(Send::new(&world.stream, piece()));
        push!(SendZc::new(&world.tcp, piece()));
        let chain = Chain::new(Read::new(&world.file, piece(), 0))
            .then(Read::new(&world.stream, piece(), 0))
            .within(Duration::from_millis(1));
        operations.push(Box::new(insist(chain, |chain| M::start_chain(&ring, chain))));
    }
    Round { operations, receiver, _buffers: buffers, world, ring }
}

/// Stops a round. Returns what must outlive it: the thread at the other ends.
fn stop<M: Mode>(round: Round<M>, how: Stop) -> std::thread::JoinHandle<()> {
    let Round { operations, receiver, _buffers: buffers, world, ring } = round;
    let World { file, stream, tcp, udp, far } = world;
    // Where it is forgotten, an operation's descriptor stays open.
    let sockets = (how == Stop::FuturesForgotten).then_some([stream, tcp]);
    drop((file, udp));
    match how {
        Stop::RingDropped => {
            drop(ring);
            drop((operations, receiver, buffers));
        }
        Stop::HandlesDropped => {
            drop((operations, receiver, buffers));
            drop(ring);
        }
        Stop::Cancelled => {
            operations.iter().chain(&operations).for_each(|operation| operation.cancel());
            ring.submit().unwrap();
            drop((operations, ring, receiver, buffers));
        }
        Stop::Detached => {
            operations.into_iter().for_each(InFlight::detach);
            drop((receiver, buffers, ring));
        }
        Stop::ExecutorDropped => {
            let executor = async_executor::LocalExecutor::new();
            let tasks: Vec<_> = operations
                .into_iter()
                .map(|operation| executor.spawn(operation.future()))
                .collect();
            while executor.try_tick() {}
            ring.submit().unwrap();
            drop(executor);
            drop((tasks, ring, receiver, buffers));
        }
        Stop::FuturesForgotten => {
            for operation in operations {
                let mut future = operation.future();
                let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                std::mem::forget(future);
            }
            std::mem::forget(receiver);
            drop((buffers, ring));
            for socket in sockets.iter().flatten() {
                SockRef::from(socket).shutdown(std::net::Shutdown::Both).unwrap();
            }
        }
        Stop::Panic => {
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                let _all = (ring, buffers, receiver, operations);
                resume_unwind(Box::new("in the middle"));
            }));
            assert!(unwound.is_err());
        }
        Stop::Fork => {
            // SAFETY: the child drops what this thread owns, which takes no lock that the other
            // thread may hold besides the allocator's, which is made safe for `fork`; it leaves
            // with `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                drop((operations, receiver, buffers, ring));
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: waits for the child made above.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
            drop((operations, receiver, buffers, ring));
        }
    }
    far
}

/// One round; `early` decides whether the other ends act before or while it is stopped, and whether the
/// kernel has seen the operations at all.
fn round<M: AnyMode>(ring: Ring<M>, file: &Fd, arena: &Arena, how: Stop, early: usize) {
    let before = arena.released();
    let (begin, begun) = mpsc::channel();
    let pool = BufPool::shared(PIECE, EACH).unwrap();
    let round = start(ring, World::new(file, begun), arena, &pool);
    if early > 0 {
        round.ring.submit().unwrap();
    }
    if early > 1 {
        begin.send(()).unwrap();
    }
    if early > 2 {
        // Some have an end by now, which nobody takes.
        round.ring.wait(2, common::SOON).unwrap();
    }
    let far = std::thread::scope(|scope| {
        let beginning = scope.spawn(|| drop(begin));
        let far = stop(round, how);
        beginning.join().unwrap();
        far
    });
    let mut back: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    back.iter_mut().for_each(|buffer| {
        buffer.set_len(PIECE);
        buffer.fill(POISON);
    });
    far.join().unwrap();
    assert!(back.iter().all(|buffer| buffer.iter().all(|byte| *byte == POISON)), "{how:?}");
    let released = arena.released() - before;
    if how != Stop::FuturesForgotten {
        assert_eq!((released, back.len()), (PIECES, EACH), "all is released after {how:?}");
    }
}

#[test]
fn a_thousand_rounds_touch_no_released_memory() {
    let file = Fd::new(direct_file(EACH * PIECE));
    // What is forgotten stays with its arena, so that each way has its own.
    for (how, seed) in STOPS.into_iter().zip(0..) {
        let mut arena = Arena::new(PIECES, PIECE);
        for n in 0..ROUNDS / STOPS.len() {
            if how == Stop::FuturesForgotten {
                arena = Arena::new(PIECES, PIECE);
            }
            // Also with a queue that is full again and again, so that operations and cancels wait.
            let mut builder = Ring::builder();
            builder = builder.entries([64, 4][n % 2]).completions(64).operations(64);
            let early = (n / 2 + seed) % 4;
            match n % 5 {
                0 => round(shared(&builder), &file, &arena, how, early),
                // The child of a process with a polling thread has no such thread.
                1 if n % 15 == 1 => {
                    round(local(&builder.sqpoll(SqPoll::default())), &file, &arena, how, early);
                }
                _ => round(local(&builder), &file, &arena, how, early),
            }
            if how != Stop::FuturesForgotten {
                let written: Vec<_> = (0..PIECES).filter(|n| !arena.is_poison(*n)).collect();
                assert!(written.is_empty(), "written after release: {written:?}, {how:?} {n}");
            }
        }
        if how != Stop::FuturesForgotten {
            assert!((0..PIECES).all(|n| arena.is_poison(n)), "written long after: {how:?}");
        }
    }
}

fn local(builder: &RingBuilder) -> Ring<Local> {
    builder.build_local().unwrap()
}

fn shared(builder: &RingBuilder) -> Ring<Shared> {
    builder.build_shared().unwrap()
}
