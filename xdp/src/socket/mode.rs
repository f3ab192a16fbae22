//! [`Want`]: whether something is required, or preferred with a fallback that is reported.

use std::fmt;

/// What was asked for: this, or something else where it is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<T> {
    /// This or an error.
    Require(T),
    /// This, else the other; the fallback is reported in
    /// [`Caps::fallbacks`](bypass_core::Caps::fallbacks).
    Prefer(T),
}

impl<T: Copy> Want<T> {
    /// What is tried first.
    #[must_use]
    pub fn first(self) -> T {
        match self {
            Self::Require(first) | Self::Prefer(first) => first,
        }
    }

    /// Whether something else will do.
    #[must_use]
    pub fn may_fall_back(self) -> bool {
        matches!(self, Self::Prefer(_))
    }
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// In the driver, before the kernel makes anything of the packet (`XDP_FLAGS_DRV_MODE`).
    Native,
    /// In the kernel's stack, behind the driver: runs on every interface (`XDP_FLAGS_SKB_MODE`).
    Generic,
}

impl Hook {
    /// The hook that is left when this one is not to be had.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Native => Self::Generic,
            Self::Generic => Self::Native,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Whether the kernel copies frames between the device's memory and the umem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyMode {
    /// The device reads and writes the umem itself (`XDP_ZEROCOPY`).
    ZeroCopy,
    /// The kernel copies each frame once (`XDP_COPY`): possible with every driver.
    Copy,
}

impl fmt::Display for CopyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy mode",
        })
    }
}
