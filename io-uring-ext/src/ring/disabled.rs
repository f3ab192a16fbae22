//! [`DisabledRing`]: a ring that was made and does nothing yet.

use std::time::Duration;

use super::builder::Setup;
use super::{Inner, Restrictions, Ring};
use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::probe::Refusal;
use crate::sys::uring::Uring;

pub(super) fn enable(uring: &Uring) -> Result<()> {
    let enabled = uring.submitter().register_enable_rings();
    enabled.map_err(|error| Error::os("enabling the ring", error))
}

/// A ring without its mode.
pub(super) struct Built {
    pub(super) uring: Uring,
    pub(super) setup: Setup,
    pub(super) shutdown: Duration,
}

impl Built {
    pub(super) fn wrap<M: Mode>(self) -> Result<Ring<M>> {
        let inner = Inner::new(self.uring, self.setup, self.setup.operations, self.shutdown)?;
        Ok(Ring { inner: inner.into() })
    }
}

/// A ring that no thread owns yet (`IORING_SETUP_R_DISABLED`, Linux 5.10). Unlike the [`Local`] ring
/// that it becomes, it can be sent to the thread that shall own it.
///
/// ```
/// use io_uring_ext::Ring;
///
/// let ring = Ring::builder().build_disabled()?;
/// let worker = std::thread::spawn(move || -> Result<(), io_uring_ext::Error> {
///     let ring = ring.enable()?; // from now on it stays here
///     ring.submit()
/// });
/// worker.join().unwrap()?;
/// # Ok::<(), io_uring_ext::Error>(())
/// ```
pub struct DisabledRing(pub(super) Built);

impl DisabledRing {
    /// Lets the ring do nothing but this, from when it is enabled on, whoever has its descriptor
    /// (`IORING_REGISTER_RESTRICTIONS`, Linux 5.10). Once only.
    ///
    /// # Errors
    ///
    /// When the kernel refuses: `EBUSY` the second time.
    pub fn restrict(&self, restrictions: &Restrictions) -> Result<()> {
        if self.0.uring.fork_sentinel().in_child() {
            return Err(Error::Forked);
        }
        let restricted = self.0.uring.submitter().register_restrictions(&mut restrictions.list());
        restricted.map_err(|error| Error::Refused {
            what: "restrictions",
            refusal: Refusal::of_register(error, (5, 10)),
        })
    }

    /// Makes this thread the owner.
    ///
    /// # Errors
    ///
    /// When `io_uring_register(2)` refuses; [`Error::Forked`] in a child of the process that made it.
    pub fn enable(self) -> Result<Ring<Local>> {
        if self.0.uring.fork_sentinel().in_child() {
            return Err(Error::Forked);
        }
        enable(&self.0.uring)?;
        self.0.wrap()
    }
}

impl std::fmt::Debug for DisabledRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DisabledRing").field("setup", &self.0.setup).finish_non_exhaustive()
    }
}
