//! [`Error`]: what was attempted, on what, why it failed, and what to do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::OutOfRoom;

/// The result of everything that can fail in the family.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done. The message is complete: it names what was attempted and on
/// what, the reason, and a remedy where one is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error("cannot {attempt}: {source}{}", Remedy(.remedy))]
    Os {
        /// What was attempted, and on what.
        attempt: Cow<'static, str>,
        /// The kernel's answer.
        source: io::Error,
        /// What to do.
        remedy: Option<Cow<'static, str>>,
    },
    /// The process lacks a privilege.
    #[error(
        "cannot {attempt}: it needs {capability}; run as root, or give the program the capability: \
         setcap {}+ep PROGRAM",
        .capability.to_lowercase()
    )]
    MissingCapability {
        /// What was attempted, and on what.
        attempt: Cow<'static, str>,
        /// The capability, as in capabilities(7).
        capability: &'static str,
    },
    /// There is no network interface of this name in this network namespace.
    #[error(
        "cannot {attempt}: there is no interface {name:?} here; `ip link` lists those there are"
    )]
    NoSuchInterface {
        /// What was attempted.
        attempt: Cow<'static, str>,
        /// The name that was given.
        name: String,
    },
    /// A setting makes no sense, alone or with the others.
    #[error("{setting} = {value}: {why}")]
    Config {
        /// The setting, as the builder or the URI names it.
        setting: Cow<'static, str>,
        /// What it was set to.
        value: String,
        /// What is wrong with it, and what would be right.
        why: Cow<'static, str>,
    },
    /// A frame or datagram can never be sent as it is.
    #[error("{backend} cannot {attempt}: {cause}")]
    Frame {
        /// What was attempted.
        attempt: &'static str,
        /// The backend.
        backend: &'static str,
        /// What is wrong with the packet.
        cause: FrameError,
    },
    /// The backend, the device or the kernel cannot do this.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A backend's own error.
    #[error("{backend}: {source}")]
    Backend {
        /// The backend.
        backend: &'static str,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// A refused call, with what was attempted ("open an AF_PACKET socket on veth0").
    pub fn os(attempt: impl Into<Cow<'static, str>>, source: impl Into<io::Error>) -> Self {
        Self::Os { attempt: attempt.into(), source: source.into(), remedy: None }
    }

    /// A refused call; a lack of privilege (`EPERM`, `EACCES`) becomes
    /// [`MissingCapability`](Self::MissingCapability).
    pub fn privileged(
        attempt: impl Into<Cow<'static, str>>,
        capability: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        let source = source.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Self::MissingCapability { attempt: attempt.into(), capability }
            }
            _ => Self::os(attempt, source),
        }
    }

    /// Adds what to do; other kinds of error keep the remedy that they have.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<Cow<'static, str>>) -> Self {
        match self {
            Self::Os { attempt, source, .. } => {
                Self::Os { attempt, source, remedy: Some(remedy.into()) }
            }
            other => other,
        }
    }

    /// A setting that makes no sense.
    pub fn config(
        setting: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Config { setting: setting.into(), value: value.to_string(), why: why.into() }
    }

    /// A packet that can never be sent.
    pub fn frame(
        attempt: &'static str,
        backend: &'static str,
        cause: impl Into<FrameError>,
    ) -> Self {
        Self::Frame { attempt, backend, cause: cause.into() }
    }

    /// A backend's own error.
    pub fn backend(
        backend: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { backend, source: source.into() }
    }

    /// The kernel's error number, where the kernel was asked.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// What is wrong with a frame or datagram.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than the backend can send.
    #[error("it is {len} bytes long, the limit here is {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Shorter than a packet can be.
    #[error("it is {len} bytes long, it needs at least {min}")]
    TooShort {
        /// Its length in bytes.
        len: usize,
        /// The least in bytes.
        min: usize,
    },
    /// No place for headers or data.
    #[error(transparent)]
    Room(#[from] OutOfRoom),
    /// It asks for something that the backend cannot do.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// It lies in memory that this endpoint cannot send from.
    #[error("it belongs to another pool; import it by copy")]
    ForeignPool,
    /// A datagram has no destination.
    #[error("it has no destination; set one with `send_to` or `reply`")]
    NoDestination,
    /// The destination's address family is not the socket's, or it cannot be sent to from here.
    #[error("{destination} cannot be reached from here: {why}")]
    Destination {
        /// Where it should go.
        destination: std::net::SocketAddr,
        /// Why not.
        why: Cow<'static, str>,
    },
}

/// Something that was asked for is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend} has no {what}: {why}")]
pub struct Unsupported {
    /// The ability.
    pub what: Cow<'static, str>,
    /// Who lacks it.
    pub backend: &'static str,
    /// Why, and what would help.
    pub why: Cow<'static, str>,
}

/// Appends a remedy to a message, where there is one.
struct Remedy<'a>(&'a Option<Cow<'static, str>>);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_attempt_reason_and_remedy() {
        let refused = io::Error::from_raw_os_error(libc::ENOBUFS);
        let error = Error::os("send on veth0", refused).with_remedy("raise net.core.wmem_max");
        let text = error.to_string();
        assert!(text.starts_with("cannot send on veth0: No buffer space"), "{text}");
        assert!(text.ends_with("; raise net.core.wmem_max"), "{text}");
    }

    #[test]
    fn a_lack_of_privilege_names_the_capability() {
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        let error = Error::privileged("open a raw socket", "CAP_NET_RAW", refused());
        assert!(matches!(error, Error::MissingCapability { capability: "CAP_NET_RAW", .. }));
        assert!(error.to_string().contains("setcap cap_net_raw+ep"), "{error}");
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        assert_eq!(Error::privileged("x", "CAP_NET_RAW", busy).raw_os_error(), Some(libc::EBUSY));
    }
}
