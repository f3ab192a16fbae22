//! [`wait`]: sleeps until a descriptor can be read or written.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Error, Interest, Ready, Result};

/// Sleeps until `fd` is ready for one of `interest` or `timeout` has passed (`None`: no limit),
/// with `ppoll(2)`.
///
/// A signal gives an empty answer. An error that is pending on the descriptor makes it ready, for
/// everything that was asked for: the next call will tell which it is.
///
/// # Errors
///
/// [`Error::Os`] with `attempt` when the kernel refuses.
pub fn wait(
    fd: BorrowedFd<'_>,
    interest: Interest,
    timeout: Option<Duration>,
    attempt: &'static str,
) -> Result<Ready> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, interest.contains(Interest::RX));
    events.set(PollFlags::OUT, interest.contains(Interest::TX));
    // What does not fit in a timespec is no limit.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => Ok(ready(fds[0].revents(), interest)),
        Err(Errno::INTR) => Ok(Ready::empty()),
        Err(error) => Err(Error::os(attempt, error)),
    }
}

fn ready(found: PollFlags, interest: Interest) -> Ready {
    let pending = found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    let mut ready = Ready::empty();
    let readable = interest.contains(Interest::RX) && (pending || found.contains(PollFlags::IN));
    let writable = interest.contains(Interest::TX) && (pending || found.contains(PollFlags::OUT));
    ready.set(Ready::RX, readable);
    ready.set(Ready::TX, writable);
    ready
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn it_tells_what_it_found_and_only_what_was_asked() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let look = |interest| wait(socket.as_fd(), interest, Some(Duration::ZERO), "wait").unwrap();
        assert_eq!(look(Interest::all()), Ready::TX);
        assert_eq!(look(Interest::RX), Ready::empty());
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert_eq!(look(Interest::all()), Ready::all());
        assert_eq!(look(Interest::RX), Ready::RX);
        assert_eq!(look(Interest::empty()), Ready::empty());
    }

    #[test]
    fn a_pending_error_wakes_everybody() {
        assert_eq!(ready(PollFlags::ERR, Interest::RX), Ready::RX);
        assert_eq!(ready(PollFlags::ERR | PollFlags::OUT, Interest::all()), Ready::all());
        assert_eq!(ready(PollFlags::empty(), Interest::all()), Ready::empty());
    }
}
