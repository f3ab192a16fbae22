//! [`DpdkError`]: what was attempted, on what, why DPDK refused, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// What can go wrong with DPDK. As an error of a backend it is the `source` of a
/// [`bypass_core::Error::Backend`]:
///
/// ```
/// use bypass_dpdk::DpdkError;
///
/// fn is_taken(error: &bypass_core::Error) -> bool {
///     let bypass_core::Error::Backend { source, .. } = error else { return false };
///     matches!(source.downcast_ref(), Some(DpdkError::AlreadyStarted))
/// }
/// # assert!(!is_taken(&bypass_core::Error::config("x", 1, "y")));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DpdkError {
    /// DPDK or a driver refused a call.
    #[error("cannot {attempt}: {errno}{}", Remedy(.remedy))]
    Refused {
        /// What was attempted, and on what.
        attempt: Cow<'static, str>,
        /// Why.
        errno: Errno,
        /// What to do, where that is known.
        remedy: Option<Cow<'static, str>>,
    },
    /// A setting makes no sense, alone, with the others, or in this version of DPDK.
    #[error("{setting} = {value}: {why}")]
    Config {
        /// The setting, as the builder names it.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it, and what would be right.
        why: Cow<'static, str>,
    },
    /// The environment did not start.
    #[error("cannot start DPDK: {errno}{}{}", Said(.said), Remedy(.remedy))]
    Init {
        /// Why, in one number.
        errno: Errno,
        /// The errors that DPDK logged meanwhile.
        said: Vec<String>,
        /// What to do, where that is known.
        remedy: Option<Cow<'static, str>>,
    },
    /// The environment was started before: a process has one.
    #[error(
        "cannot start DPDK: this process has started it already, and a process has one; \
         `Eal::current` gives a handle to it"
    )]
    AlreadyStarted,
    /// The environment was started and cleaned up before, or an attempt to start it failed halfway.
    #[error(
        "cannot start DPDK: this process has used up its one start ({why}); start another process"
    )]
    Spent {
        /// What happened to it.
        why: &'static str,
    },
    /// Something still uses the environment.
    #[error(
        "cannot clean up DPDK: {handles} handles to it are alive (pools, ports, devices, registered \
         threads, running lcores); drop them first"
    )]
    InUse {
        /// How many, beside the one that was given up.
        handles: usize,
    },
    /// A virtual device did not come up, or it did and has no port.
    #[error("cannot probe {device}: {errno}{}{}", Said(.said), Remedy(.remedy))]
    Probe {
        /// Its name.
        device: String,
        /// Why, in one number.
        errno: Errno,
        /// The errors that DPDK logged meanwhile.
        said: Vec<String>,
        /// What to do, where that is known.
        remedy: Option<Cow<'static, str>>,
    },
    /// A device cannot be removed while its ports are in use.
    #[error("cannot remove {device}: its port is in use; drop the port and its queues first")]
    DeviceInUse {
        /// Its name.
        device: String,
    },
    /// What ran on an lcore panicked.
    #[error("lcore {lcore} panicked: {message}")]
    LcorePanicked {
        /// The lcore.
        lcore: u32,
        /// What the panic said.
        message: String,
    },
}

/// The result of everything here that can fail.
pub type Result<T, E = DpdkError> = std::result::Result<T, E>;

impl DpdkError {
    /// A refused call: what was attempted ("start port 0 (net_ring0)"), and what it returned or left in
    /// `rte_errno`; the sign does not matter.
    pub(crate) fn refused(attempt: impl Into<Cow<'static, str>>, code: i32) -> Self {
        let errno = Errno::new(code);
        let remedy = errno.remedy().map(Cow::Borrowed);
        Self::Refused { attempt: attempt.into(), errno, remedy }
    }

    /// Replaces what to do; kinds of error without a remedy stay as they are.
    #[must_use]
    pub(crate) fn with_remedy(mut self, better: impl Into<Cow<'static, str>>) -> Self {
        if let Self::Refused { remedy, .. }
        | Self::Init { remedy, .. }
        | Self::Probe { remedy, .. } = &mut self
        {
            *remedy = Some(better.into());
        }
        self
    }

    /// A setting that makes no sense.
    pub(crate) fn config(
        setting: &'static str,
        value: impl fmt::Display,
        why: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Config { setting, value: value.to_string(), why: why.into() }
    }

    /// The number that DPDK gave, where it was asked.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } | Self::Init { errno, .. } | Self::Probe { errno, .. } => {
                Some(*errno)
            }
            _ => None,
        }
    }
}

impl From<DpdkError> for bypass_core::Error {
    fn from(error: DpdkError) -> Self {
        match error {
            DpdkError::Config { setting, value, why } => {
                Self::Config { setting: Cow::Borrowed(setting), value, why }
            }
            error => Self::backend("DPDK", error),
        }
    }
}

/// Why DPDK refused: one of the system's numbers, or one of DPDK's two own.
///
/// Source: `rte_errno.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Not allowed in a secondary process (`E_RTE_SECONDARY`).
    pub const SECONDARY: Self = Self(1001);
    /// There is no configuration to share (`E_RTE_NO_CONFIG`).
    pub const NO_CONFIG: Self = Self(1002);

    /// From a return value or `rte_errno`: functions return it negated.
    #[must_use]
    pub const fn new(code: i32) -> Self {
        Self(code.saturating_abs())
    }

    /// The number, positive.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// What helps in most places where DPDK answers this.
    fn remedy(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::ENOMEM => {
                "give it more memory (`EalOptions::memory_limit`), or reserve more huge pages: \
                 /proc/sys/vm/nr_hugepages"
            }
            libc::EPERM | libc::EACCES => {
                "the process lacks a privilege: most need CAP_NET_ADMIN and CAP_NET_RAW, real devices \
                 also the right to open /dev/vfio"
            }
            libc::ENOTSUP | libc::ENOSYS => "the driver cannot do this; ask the port what it can",
            libc::ENODEV => {
                "is the device there, is it bound to vfio-pci, and is its driver among those that DPDK \
                 loads?"
            }
            libc::EBUSY => "stop the port first",
            libc::EEXIST => "the name is taken: choose another",
            libc::EIO => "the device was removed",
            1001 => "do it in the primary process",
            1002 => "start DPDK first",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SECONDARY => f.write_str("not allowed in a secondary process (DPDK error 1001)"),
            Self::NO_CONFIG => f.write_str("there is no shared configuration (DPDK error 1002)"),
            Self(code) => io::Error::from_raw_os_error(code).fmt(f),
        }
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::SECONDARY | Errno::NO_CONFIG => Self::other(errno.to_string()),
            Errno(code) => Self::from_raw_os_error(code),
        }
    }
}

/// Appends a remedy to a message, where there is one.
struct Remedy<'a>(&'a Option<Cow<'static, str>>);

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// Appends what DPDK logged, where it did.
struct Said<'a>(&'a [String]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_attempt_reason_and_remedy() {
        let text = DpdkError::refused("create pool \"rx\"", -libc::ENOMEM).to_string();
        assert!(text.starts_with("cannot create pool \"rx\": Cannot allocate memory"), "{text}");
        assert!(text.contains("; give it more memory"), "{text}");
        let text = DpdkError::refused("x", 22).with_remedy("take less").to_string();
        assert!(text.ends_with("; take less"), "{text}");
    }

    #[test]
    fn the_sign_does_not_matter_and_own_numbers_have_names() {
        assert_eq!(Errno::new(-22), Errno::new(22));
        assert_eq!(Errno::new(i32::MIN).raw(), i32::MAX);
        assert!(Errno::new(-1001).to_string().contains("secondary process"));
        assert_eq!(io::Error::from(Errno::new(-16)).raw_os_error(), Some(16));
    }

    #[test]
    fn what_was_logged_is_part_of_the_message() {
        let said = vec!["no free 2048 kB hugepages".to_owned()];
        let error = DpdkError::Init { errno: Errno::new(13), said, remedy: None };
        assert!(error.to_string().ends_with(" (no free 2048 kB hugepages)"), "{error}");
    }
}
