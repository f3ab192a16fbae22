//! The servers: each takes a bound UDP socket and sends every datagram back to where it came from.

mod mmsg;
mod ours;

#[cfg(feature = "peers")]
mod a10;
#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod monoio;
#[cfg(feature = "peers")]
#[expect(unsafe_code, reason = "the kernel is given pointers by hand")]
mod raw;
#[cfg(feature = "peers")]
mod tokio;

use crate::echo::contestant::{Contestant, Program};

pub(crate) const SERVERS: &[Contestant] = &[
    Contestant::ours("io_uring", Program::Udp(ours::io_uring)),
    Contestant::ours("socket", Program::Udp(ours::socket)),
    Contestant::ours("io_uring spinning", Program::Udp(ours::io_uring_spinning)).spinning(),
    Contestant::ours("socket spinning", Program::Udp(ours::socket_spinning)).spinning(),
    Contestant::peer("recvmmsg", Program::Udp(mmsg::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("tokio", Program::Udp(tokio::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("monoio", Program::Udp(monoio::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("compio", Program::Udp(compio::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("a10", Program::Udp(a10::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("raw io-uring", Program::Udp(raw::serve)),
    Contestant::peer("sockperf", Program::Sockperf(&[])),
    Contestant::peer("recvmmsg spinning", Program::Udp(mmsg::spin)).spinning(),
    Contestant::peer("sockperf spinning", Program::Sockperf(&["--nonblocked"])).spinning(),
];

/// How many operations the runtimes over io_uring keep under way. Their best of 1 to 64: fewer lose
/// round trips per CPU second, more gain none and make each datagram wake tasks for which there is
/// nothing.
#[cfg(feature = "peers")]
const TASKS: usize = 32;
