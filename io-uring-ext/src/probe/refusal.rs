//! [`Refusal`]: who says no to io_uring, and why.

use std::fmt;
use std::io;

/// Why the kernel refuses a ring, or something of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A seccomp filter of the container or service forbids io_uring.
    #[error(
        "a seccomp filter forbids io_uring ({errno}); allow io_uring_setup, io_uring_enter and \
         io_uring_register in the container's or service's seccomp profile"
    )]
    Seccomp {
        /// The answer that the filter gives.
        errno: io::Error,
    },
    /// The setting `kernel.io_uring_disabled` forbids it (Linux 6.6).
    #[error(
        "kernel.io_uring_disabled is {value}; {}",
        if *value == 1 {
            "run with CAP_SYS_ADMIN, join the group of kernel.io_uring_group, or set it to 0"
        } else {
            "no process may use io_uring until it is set to 0"
        }
    )]
    Disabled {
        /// 1: only the privileged and the group; 2: nobody.
        value: u8,
    },
    /// The kernel is older than the feature.
    #[error("needs Linux {}.{}, this is {running}", needs.0, needs.1)]
    OldKernel {
        /// The first version that has it.
        needs: (u32, u32),
        /// This kernel's release.
        running: String,
    },
    /// The kernel was built without `CONFIG_IO_URING`.
    #[error("Linux {running} was built without CONFIG_IO_URING, or a security module hides it")]
    NotBuilt {
        /// This kernel's release.
        running: String,
    },
    /// The memory does not fit `RLIMIT_MEMLOCK`.
    #[error(
        "the memory does not fit the limit on locked memory of {limit} bytes; raise it (ulimit -l, \
         LimitMEMLOCK=), take smaller rings, or run with CAP_IPC_LOCK"
    )]
    Memlock {
        /// `RLIMIT_MEMLOCK`, soft, in bytes.
        limit: u64,
    },
    /// There are too many open descriptors.
    #[error("no descriptor is left ({errno}); raise the limit on open files (ulimit -n)")]
    Descriptors {
        /// `EMFILE` or `ENFILE`.
        errno: io::Error,
    },
    /// The probe was asked for something that it does not look at.
    #[error("the probe has no capability of this name; see `Probe::capabilities`")]
    Unlisted,
    /// Another reason.
    #[error("{errno}")]
    Other {
        /// The kernel's answer.
        errno: io::Error,
    },
}

impl Refusal {
    /// Judges the answer of `io_uring_setup(2)`.
    pub(crate) fn of_setup(errno: io::Error, needs: (u32, u32)) -> Self {
        judge(errno, needs, &Facts::gather())
    }

    /// Judges the answer of `io_uring_register(2)`, the ring itself having been granted.
    pub(crate) fn of_register(errno: io::Error, needs: (u32, u32)) -> Self {
        judge(errno, needs, &Facts { disabled: 0, ..Facts::gather() })
    }

    /// The kernel says that it does not have it.
    pub(crate) fn missing(needs: (u32, u32)) -> Self {
        Self::OldKernel { needs, running: Facts::gather().release }
    }

    /// What the kernel's version says, where nothing else can tell.
    pub(super) fn by_age(needs: (u32, u32)) -> Result<(), Self> {
        if Facts::gather().older_than(needs) { Err(Self::missing(needs)) } else { Ok(()) }
    }

    pub(crate) fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Seccomp { errno } | Self::Descriptors { errno } | Self::Other { errno } => {
                errno.raw_os_error()
            }
            _ => None,
        }
    }
}

/// What there is to know about this process and its kernel.
#[derive(Clone, Debug)]
struct Facts {
    release: String,
    /// `kernel.io_uring_disabled`; zero where it does not exist.
    disabled: u8,
    /// Whether the process or thread runs under a seccomp filter.
    filtered: bool,
    memlock: u64,
}

impl Facts {
    fn gather() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        // The thread's own line: a filter may be on one thread alone.
        let status = read("/proc/thread-self/status");
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        Self {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().unwrap_or(0),
            filtered: seccomp.is_some_and(|mode| mode.trim() == "2"),
            memlock: memlock(),
        }
    }

    fn older_than(&self, needs: (u32, u32)) -> bool {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) < needs)
    }
}

fn memlock() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).current.unwrap_or(u64::MAX)
}

fn judge(errno: io::Error, needs: (u32, u32), facts: &Facts) -> Refusal {
    let running = facts.release.clone();
    match errno.raw_os_error() {
        Some(libc::EPERM) if facts.disabled > 0 => Refusal::Disabled { value: facts.disabled },
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) if facts.older_than(needs) => {
            Refusal::OldKernel { needs, running }
        }
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if facts.filtered => {
            Refusal::Seccomp { errno }
        }
        Some(libc::ENOSYS) => Refusal::NotBuilt { running },
        Some(libc::ENOMEM) if facts.memlock != u64::MAX => {
            Refusal::Memlock { limit: facts.memlock }
        }
        Some(libc::EMFILE | libc::ENFILE) => Refusal::Descriptors { errno },
        _ => Refusal::Other { errno },
    }
}

/// Prints `available`, or the refusal.
pub(super) struct Verdict<'a>(pub(super) &'a Result<(), Refusal>);

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(()) => f.write_str("available"),
            Err(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { release: "6.18.44-test".to_owned(), disabled: 0, filtered: false, memlock: 8 << 20 }
    }

    fn says(errno: i32, needs: (u32, u32), facts: &Facts) -> String {
        judge(io::Error::from_raw_os_error(errno), needs, facts).to_string()
    }

    #[test]
    fn each_refusal_names_who_refuses() {
        let plain = facts();
        let old = Facts { release: "5.15.0-91-generic".to_owned(), ..facts() };
        let filtered = Facts { filtered: true, ..facts() };
        for (said, expected) in [
            (
                says(libc::EPERM, (5, 19), &Facts { disabled: 2, ..facts() }),
                "kernel.io_uring_disabled is 2",
            ),
            (
                says(libc::EPERM, (5, 19), &Facts { disabled: 1, ..filtered.clone() }),
                "kernel.io_uring_group",
            ),
            (says(libc::EPERM, (5, 19), &filtered), "seccomp"),
            (says(libc::ENOSYS, (5, 19), &filtered), "seccomp"),
            (says(libc::EINVAL, (6, 1), &old), "needs Linux 6.1, this is 5.15.0-91-generic"),
            (says(libc::ENOSYS, (6, 1), &plain), "CONFIG_IO_URING"),
            (says(libc::ENOMEM, (5, 19), &plain), "8388608 bytes"),
            (says(libc::EMFILE, (5, 19), &plain), "ulimit -n"),
            (says(libc::EBUSY, (5, 19), &plain), "busy"),
        ] {
            assert!(said.contains(expected), "{said:?} should say {expected:?}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        let of = |release: &str| Facts { release: release.to_owned(), ..facts() };
        assert!(of("5.19.17").older_than((6, 0)));
        assert!(of("6.9.3").older_than((6, 10)));
        assert!(!of("6.10-rc1").older_than((6, 10)));
        assert!(!of("7.0.0").older_than((6, 18)));
        assert!(!of("nonsense").older_than((6, 18)));
    }

    #[test]
    fn facts_are_found_on_this_machine() {
        let facts = Facts::gather();
        assert!(!facts.older_than((3, 0)) && facts.older_than((99, 0)), "{facts:?}");
    }
}
