//! The servers: each takes a socket that listens, serves every connection that comes, and sends back
//! what it receives.

mod epoll;
mod ours;

#[cfg(feature = "peers")]
mod a10;
#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
#[expect(unsafe_code, reason = "a listener is handed over by its number")]
mod glommio;
#[cfg(feature = "peers")]
mod monoio;
#[cfg(feature = "peers")]
mod tokio;

use crate::echo::contestant::{Contestant, Program};

pub(crate) const SERVERS: &[Contestant] = &[
    Contestant::ours("io_uring", Program::Tcp(ours::serve)),
    Contestant::peer("epoll", Program::Tcp(epoll::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("tokio", Program::Tcp(tokio::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("monoio", Program::Tcp(monoio::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("compio", Program::Tcp(compio::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("a10", Program::Tcp(a10::serve)),
    #[cfg(feature = "peers")]
    Contestant::peer("glommio", Program::Tcp(glommio::serve)),
];

/// Bytes that a server receives at a time.
const BUFFER: usize = 4096;
