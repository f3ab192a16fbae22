//! [`Share`]: several endpoints at one address.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, Unsupported};

/// Which of several endpoints at one address this is, as a rule of one worker each.
///
/// Sockets share their port (`SO_REUSEPORT`), and the kernel spreads the flows over them. Past the kernel
/// the device spreads them over its queues, of which each endpoint gets its part.
///
/// ```
/// use bypass_core::backend::socket::Share;
///
/// let second: Share = "1/3".parse()?;
/// assert_eq!(second, Share { index: 1, count: 3 });
/// assert!(second.of(8).eq([1, 4, 7]));
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// From 0 on.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

impl Default for Share {
    /// All of it.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Share {
    /// Whether there is nobody to share with.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.count <= 1
    }

    /// Its part of a device's queues.
    pub fn of(self, queues: u32) -> impl Iterator<Item = u32> {
        (self.index..queues).step_by(self.count.max(1) as usize)
    }

    /// Refuses what is no share.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an index that is not less than the count.
    pub fn check(self) -> Result<()> {
        if self.index < self.count {
            return Ok(());
        }
        Err(Error::config(
            "share",
            self,
            "the first number is less than the second, and counts from 0",
        ))
    }

    /// Refuses anything but the whole, for a backend whose endpoints cannot share.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`]; as [`check`](Self::check).
    pub fn refuse(self, backend: &'static str) -> Result<()> {
        self.check()?;
        if self.is_all() {
            return Ok(());
        }
        let (what, why) =
            ("sharing of an address", "one endpoint has all that arrives: take one worker");
        Err(Unsupported { what: what.into(), backend, why: why.into() }.into())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Share {
    type Err = Error;

    /// Reads what is displayed; as [`check`](Share::check).
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::config("share", text, "it is INDEX/COUNT, such as 0/2");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let share = Self { index: number(index)?, count: number(count)? };
        share.check()?;
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_share_is_refused_wherever_it_comes_from() {
        for (index, count) in [(5, 2), (2, 2), (0, 0)] {
            let share = Share { index, count };
            let read = share.to_string().parse::<Share>().unwrap_err();
            let given = share.refuse("socket").unwrap_err();
            for error in [read, given] {
                assert!(matches!(error, Error::Config { .. }), "{error:?}");
                assert!(error.to_string().starts_with(&format!("share = {share}: ")), "{error}");
            }
        }
        assert_eq!("0/1".parse::<Share>().unwrap(), Share::default());
    }
}
