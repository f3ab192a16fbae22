//! The traits of tokio and futures-io over rings.
#![cfg(all(feature = "tokio", feature = "futures-io"))]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use async_executor::LocalExecutor;
use common::task::{Woken, poll};
use common::{pipe, until};
use io_uring_ext::adapter::{Duplex, Reader, Writer};
use io_uring_ext::driver::TokioDriver;
use io_uring_ext::{Fd, Ring};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

/// Runs the future beside the ring; fails the test when it hangs.
fn run<F: Future>(ring: &Ring, future: F) -> F::Output {
    ring.block_on(ring.timeout(Duration::from_secs(20), future)).unwrap().expect("it hangs")
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (a, listener.accept().unwrap().0)
}

/// Bytes that differ wherever they are.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()).take(len).collect()
}

/// Everything that is sent comes back, in order, over a socket whose buffers are far smaller.
#[test]
fn a_proxy_copies_both_ways_inside_tokio() {
    const LEN: usize = 3_000_001;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, front) = tcp();
    let (back, server) = UnixStream::pair().unwrap();
    let echo = std::thread::spawn(move || {
        let mut server = server;
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        server.write_all(&received).unwrap();
    });
    let proxy = std::thread::spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let ring = Ring::local().unwrap();
            tokio::task::spawn_local(TokioDriver::new(&ring).unwrap());
            let mut front = Duplex::new(&ring, &Fd::new(front));
            let mut back = Duplex::new(&ring, &Fd::new(back));
            tokio::io::copy_bidirectional(&mut front, &mut back).await.unwrap()
        })
    });
    let sent = pattern(LEN);
    (&client).write_all(&sent).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    (&client).read_to_end(&mut received).unwrap();
    assert!(received == sent, "{} of {LEN} bytes came back", received.len());
    assert_eq!(proxy.join().unwrap(), (LEN as u64, LEN as u64));
    echo.join().unwrap();
}

#[test]
fn a_pipe_is_read_by_lines_and_ends_when_its_writer_shuts_down() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let reader = Reader::with_capacity(&ring, &Fd::new(reader), 7);
    let mut writer = Writer::with_capacity(&ring, &Fd::new(writer), 5);
    run(&ring, async {
        writer.write_all(b"first line\nsecond, a longer one\n\nrest").await.unwrap();
        writer.shutdown().await.unwrap();
        let error = writer.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        writer.shutdown().await.unwrap();
        let mut lines = reader.lines();
        for expected in ["first line", "second, a longer one", "", "rest"] {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
        }
        assert_eq!(lines.next_line().await.unwrap(), None);
        assert_eq!(lines.next_line().await.unwrap(), None, "it stays ended");
    });
}

#[test]
fn flushing_tells_that_the_kernel_has_everything() {
    let ring = Ring::local().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let mut writer = Writer::new(&ring, &Fd::new(a));
    run(&ring, async {
        let slices = [IoSlice::new(b"gathered "), IoSlice::new(b""), IoSlice::new(b"bytes")];
        assert_eq!(writer.write_vectored(&slices).await.unwrap(), 14);
        let mut bytes = [0; 32];
        let nothing = (&b).read(&mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock, "it is only started");
        writer.flush().await.unwrap();
        assert_eq!((&b).read(&mut bytes).unwrap(), 14);
        assert_eq!(&bytes[..14], b"gathered bytes");
    });
}

#[test]
fn an_error_is_told_by_the_call_that_waits_for_it() {
    let ring = Ring::local().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let mut duplex = Duplex::new(&ring, &Fd::new(a));
    drop(b);
    run(&ring, async {
        assert_eq!(duplex.write(b"lost").await.unwrap(), 4, "started, no more");
        assert_eq!(duplex.flush().await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        duplex.flush().await.unwrap(); // it is told once
        assert_eq!(duplex.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    let ring = Ring::local().unwrap();
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut reader = Reader::new(&ring, &Fd::new(a));
    let mut bytes = [0; 4];
    run(&ring, async {
        for _ in 0..3 {
            let read = ring.timeout(Duration::from_millis(1), reader.read(&mut bytes));
            assert!(read.await.is_err());
        }
        b.write_all(b"all of it").unwrap();
        reader.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"all ");
        assert_eq!(reader.buffer(), b"of it");
        assert_eq!(reader.read(&mut []).await.unwrap(), 0, "nothing was asked for");
        assert_eq!(reader.fill_buf().await.unwrap(), b"of it");
        reader.consume(3);
        assert_eq!(reader.read(&mut bytes).await.unwrap(), 2);
    });
    until("the timers to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
}

#[test]
fn dropping_an_adapter_ends_its_operation_and_closes_the_descriptor() {
    let ring = Ring::local().unwrap();
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut reader = Reader::new(&ring, &Fd::new(a));
    let woken = std::task::Waker::from(Woken::new());
    assert!(poll(&mut Box::pin(reader.read(&mut [0; 8])), &woken).is_pending());
    ring.submit().unwrap();
    assert_eq!(ring.in_flight(), 1);
    drop(reader);
    until("the read to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    assert_eq!(b.read(&mut [0; 8]).unwrap(), 0, "the other end is closed");
}

#[test]
fn a_closed_ring_is_an_error() {
    let ring = Ring::local().unwrap();
    let (a, _b) = UnixStream::pair().unwrap();
    let mut duplex = Duplex::new(&ring, &Fd::new(a));
    let woken = std::task::Waker::from(Woken::new());
    assert!(poll(&mut Box::pin(duplex.read(&mut [0; 8])), &woken).is_pending());
    drop(ring);
    let other = Ring::local().unwrap();
    run(&other, async {
        assert!(duplex.read(&mut [0; 8]).await.is_err());
        assert!(duplex.write(&[0; 8]).await.is_err());
    });
}

#[test]
fn non_blocking_descriptors_are_waited_for_too() {
    let ring = Ring::local().unwrap();
    let (pipe_reader, pipe_writer) = pipe();
    let (a, b) = UnixStream::pair().unwrap();
    let waited_for = [(pipe_reader, pipe_writer), (a.into(), b.into())];
    for (from, to) in waited_for {
        rustix::io::ioctl_fionbio(from.as_fd(), true).unwrap();
        let mut reader = Reader::new(&ring, &Fd::new(from));
        let mut bytes = [0; 8];
        run(&ring, async {
            let early = ring.timeout(Duration::from_millis(1), reader.read(&mut bytes)).await;
            assert!(early.is_err());
            std::fs::File::from(to).write_all(b"x").unwrap();
            assert_eq!(reader.read(&mut bytes).await.unwrap(), 1);
        });
    }
}

#[test]
fn a_full_submission_queue_only_takes_longer() {
    let ring = Ring::builder().entries(1).completions(64).build_local().unwrap();
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..16_u8)
        .map(|task| {
            let (a, b) = UnixStream::pair().unwrap();
            let mut a = Duplex::new(&ring, &Fd::new(a));
            let mut b = Duplex::new(&ring, &Fd::new(b));
            executor.spawn(async move {
                let mut bytes = [0; 4];
                for round in 0..50 {
                    a.write_all(&[task, round, 0, 0]).await.unwrap();
                    a.flush().await.unwrap();
                    b.read_exact(&mut bytes).await.unwrap();
                    assert_eq!(bytes, [task, round, 0, 0]);
                }
            })
        })
        .collect();
    run(
        &ring,
        executor.run(async {
            for task in tasks {
                task.await;
            }
        }),
    );
}

/// Apart, because the traits have the names of tokio's.
mod with_futures_io {
    use std::os::unix::net::UnixStream;

    use async_executor::LocalExecutor;
    use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
    use io_uring_ext::adapter::Duplex;
    use io_uring_ext::{Fd, Ring};

    use super::{pattern, run};

    #[test]
    fn halves_serve_two_tasks_under_an_executor() {
        const LEN: usize = 500_000;
        let ring = Ring::local().unwrap();
        let executor = LocalExecutor::new();
        let (a, b) = UnixStream::pair().unwrap();
        let (mut from_b, mut to_b) = Duplex::new(&ring, &Fd::new(a)).into_split();
        let (from_a, to_a) = Duplex::new(&ring, &Fd::new(b)).into_split();
        let sent = pattern(LEN);
        let writing = executor.spawn({
            let sent = sent.clone();
            async move {
                to_b.write_all(&sent).await.unwrap();
                to_b.close().await.unwrap();
            }
        });
        let echo = executor.spawn(async move {
            let copied = futures_lite::io::copy(from_a, to_a).await.unwrap();
            assert_eq!(copied, LEN as u64);
        });
        let received = executor.run(async {
            let mut received = vec![0; LEN];
            from_b.read_exact(&mut received).await.unwrap();
            writing.await;
            echo.await;
            received
        });
        assert!(run(&ring, received) == sent);
    }
}
