//! [`Attachment`]: a program on an interface for as long as this value lives.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bypass_core::sys::interface;
use bypass_core::{Error, Result, Unsupported};
use libbpf_rs::libbpf_sys::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};

use super::error::ProgramError;
use super::owner::Owner;
use super::sys;
use crate::socket::{Hook, Want};

/// An XDP program on an interface. Dropping it takes the program off; so does the kernel when the
/// process ends, in whatever way.
#[derive(Debug)]
pub struct Attachment {
    _hold: Hold,
    interface: String,
    hook: Hook,
    pub(super) fallback: Option<ProgramError>,
}

impl Attachment {
    /// Puts a program, given by its descriptor, on an interface of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`]; [`Error::Backend`] with [`ProgramError::Occupied`] when another
    /// program is there, or with [`ProgramError::Refused`].
    pub fn new(program: BorrowedFd<'_>, interface: &str, hook: Want<Hook>) -> Result<Self> {
        let target = Target::find(interface)?;
        let first = match target.attach(program, hook.first()) {
            Ok(link) => return Ok(Self::of(Hold::Link(link), &target, hook.first())),
            Err(refused @ ProgramError::Refused { .. }) if hook.may_fall_back() => refused,
            Err(error) => return Err(error.into()),
        };
        let second = hook.first().other();
        let link = target.attach(program, second)?;
        let mut attachment = Self::of(Hold::Link(link), &target, second);
        attachment.fallback = Some(first);
        Ok(attachment)
    }

    pub(super) fn of(hold: Hold, target: &Target, hook: Hook) -> Self {
        Self { _hold: hold, interface: target.interface.clone(), hook, fallback: None }
    }

    /// The interface's name at the time.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Where the program runs.
    #[must_use]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Why the program does not run where it was preferred to.
    #[must_use]
    pub fn fallback(&self) -> Option<&ProgramError> {
        self.fallback.as_ref()
    }
}

/// What keeps a program on its interface.
#[derive(Debug)]
pub(super) enum Hold {
    /// A `bpf_link`.
    Link(OwnedFd),
    #[cfg(feature = "libxdp")]
    #[expect(dead_code, reason = "it is there to be dropped")]
    Dispatcher(super::dispatcher::Dispatched),
}

impl Drop for Hold {
    fn drop(&mut self) {
        match self {
            // A process that is being started has a duplicate of the descriptor for a moment. Where
            // this fails, the interface is gone already.
            Self::Link(link) => {
                let _gone = sys::link_detach(link.as_fd());
            }
            #[cfg(feature = "libxdp")]
            Self::Dispatcher(_) => {}
        }
    }
}

/// Refuses kernels that cannot hold an XDP program by a `bpf_link`; they would leave it behind.
fn check_kernel(release: &str) -> Result<()> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    if (next(), next()) >= (5, 9) {
        return Ok(());
    }
    Err(Error::Unsupported(Unsupported {
        what: "bpf_link for XDP programs".into(),
        backend: "this kernel",
        why: format!("it is Linux {release}, which needs to be 5.9 or later").into(),
    }))
}

/// An interface to attach to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) interface: String,
    pub(super) ifindex: u32,
    mtu: usize,
}

impl Target {
    pub(super) fn find(interface: &str) -> Result<Self> {
        let attempt = "attach an XDP program";
        let kernel = rustix::system::uname();
        check_kernel(&kernel.release().to_string_lossy())?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .map_err(|error| Error::os("open a socket to look up interfaces", error))?;
        let ifindex = interface::index(socket.as_fd(), interface, attempt)?;
        let mtu = interface::mtu(socket.as_fd(), interface)?;
        Ok(Self { interface: interface.to_owned(), ifindex, mtu })
    }

    pub(super) fn attach(
        &self,
        program: BorrowedFd<'_>,
        hook: Hook,
    ) -> Result<OwnedFd, ProgramError> {
        let flags = match hook {
            Hook::Native => XDP_FLAGS_DRV_MODE,
            Hook::Generic => XDP_FLAGS_SKB_MODE,
        };
        sys::link_create(program, self.ifindex, flags).map_err(|error| self.refusal(error, hook))
    }

    /// Why the kernel did not take the program.
    pub(super) fn refusal(&self, error: io::Error, hook: Hook) -> ProgramError {
        let interface = self.interface.clone();
        // EEXIST: something runs at the other hook.
        if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
            && let Some(owner) = Owner::of(self.ifindex)
        {
            return ProgramError::Occupied { interface, owner };
        }
        let hint = self.hint(error.raw_os_error().unwrap_or_default(), hook);
        ProgramError::Refused { interface, hook, source: error, hint: hint.into() }
    }

    /// What is behind an error number; the kernel keeps its own words for netlink.
    fn hint(&self, errno: i32, hook: Hook) -> String {
        let mtu = self.mtu;
        match (errno, hook) {
            (libc::EOPNOTSUPP, Hook::Native) => "the driver has no native XDP; prefer it, and \
                                                 generic mode is taken instead"
                .to_owned(),
            (libc::ERANGE | libc::EINVAL | libc::EFBIG | libc::E2BIG, Hook::Native) => format!(
                "drivers want an MTU (here {mtu}, on a veth pair the peer's) that fits a page unless \
                 the program takes frames in fragments (veth: 3506), receive coalescing (LRO) off, \
                 and enough queues"
            ),
            (libc::ENOSPC | libc::ENOMEM, Hook::Native) => {
                "the driver wants queues of its own for XDP: use fewer (`ethtool -L`)".to_owned()
            }
            (libc::EINVAL, Hook::Generic) => "a program that is bound to a device for its hints \
                                              runs in native mode only"
                .to_owned(),
            (libc::ENODEV, _) => "the interface is gone".to_owned(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_without_bpf_link_are_refused_by_their_version() {
        for fit in ["5.9.0", "5.10.0-28-amd64", "6.1.0", "6.18.44-custom", "10.0"] {
            check_kernel(fit).unwrap();
        }
        for old in ["5.8.18", "4.19.0-26-amd64", "5.4.0"] {
            let error = check_kernel(old).unwrap_err().to_string();
            assert!(error.contains(old) && error.contains("5.9 or later"), "{error}");
        }
    }
}
