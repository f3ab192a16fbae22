//! Lines, words and numbers.

use std::str::FromStr;

/// Where the line at the front ends: the place of its `\n`.
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}

/// The words of a line; any number of spaces is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self(line)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|&byte| byte != b' ')?;
        let rest = &self.0[start..];
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

/// A number without a sign.
pub(super) fn number<N: FromStr>(word: &[u8]) -> Option<N> {
    // `FromStr` takes a plus, as strtoul(3) does.
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A number that may have a sign.
pub(super) fn signed(word: &[u8]) -> Option<i32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
