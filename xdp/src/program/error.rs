//! [`ProgramError`]: why an XDP program is not on an interface.

use std::borrow::Cow;
use std::io;

use super::owner::Owner;
use crate::socket::Hook;

/// What can go wrong with an XDP program, beside what every backend can meet: see
/// [`bypass_core::Error`], whose `source` this is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// Another XDP program is on the interface.
    #[error(
        "cannot attach an XDP program to {interface}: {owner} is there already; {}",
        .owner.remedy(.interface)
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The program that is there.
        owner: Owner,
    },
    /// The filter would take what this machine is reached by.
    #[error(
        "cannot take all IP packets of {interface}: a default route leads through it, or through a \
         VLAN, bridge or bond above it, so this machine would be cut off; name ports or addresses, or set `force`"
    )]
    DefaultRoute {
        /// The interface.
        interface: String,
    },
    /// The driver, or the kernel, does not take the program at this hook.
    #[error(
        "cannot attach the XDP program to {interface} in {hook} mode: {source}{}", Hint(.hint)
    )]
    Refused {
        /// The interface.
        interface: String,
        /// Where it should run.
        hook: Hook,
        /// The kernel's answer.
        source: io::Error,
        /// What is behind it, as far as can be told, and what helps.
        hint: Cow<'static, str>,
    },
    /// The process may not load programs. As an error of the family it is a
    /// [`MissingCapability`](bypass_core::Error::MissingCapability).
    #[error("cannot load the XDP program for {interface}: it needs {}", ProgramError::CAPABILITIES)]
    Denied {
        /// The interface.
        interface: String,
    },
    /// The kernel does not load the program.
    #[error("cannot load the XDP program for {interface}: {source}{}", Hint(.log))]
    Load {
        /// The interface.
        interface: String,
        /// libbpf's answer.
        source: libbpf_rs::Error,
        /// What libbpf and the verifier said, on one line.
        log: Cow<'static, str>,
    },
    /// A map of the program cannot be read or written.
    #[error("cannot {attempt}: {source}")]
    Map {
        /// What was attempted.
        attempt: String,
        /// libbpf's answer.
        source: libbpf_rs::Error,
    },
    /// A filter with more than the program's maps hold.
    #[error("the filter has {given} {what}, the program has room for {room}")]
    FilterTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        given: usize,
        /// How many there may be.
        room: usize,
    },
}

impl ProgramError {
    /// What loading a program takes (Linux 5.8).
    const CAPABILITIES: &str = "CAP_BPF,CAP_NET_ADMIN";

    /// A failed access to a map.
    pub(super) fn map(attempt: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Map { attempt, source }
    }
}

impl From<ProgramError> for bypass_core::Error {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Denied { interface } => Self::MissingCapability {
                attempt: format!("load an XDP program for {interface}").into(),
                capability: ProgramError::CAPABILITIES,
            },
            other => Self::backend("AF_XDP", other),
        }
    }
}

/// Appends what helps, where there is something.
struct Hint<'a>(&'a str);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; {}", self.0) }
    }
}
