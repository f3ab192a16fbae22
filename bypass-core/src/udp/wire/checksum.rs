//! The internet checksum (RFC 1071).

/// A ones' complement sum that has not been folded to 16 bits yet.
///
/// It is kept in the machine's byte order: the folded sum is the same number either way round, so
/// nothing is swapped until a checksum is written, and not even then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Sums the words of `bytes`; an odd last byte counts as if a zero followed (so only the last
    /// piece of a message may be odd).
    ///
    /// 32-bit words in a 64-bit sum: no carry can be lost below 16 GiB, and the plain loop becomes
    /// vector instructions.
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// The pseudo header of RFC 768 and RFC 8200: `addresses` are source and destination as they
    /// lie in the IP header.
    #[inline(always)]
    pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8, length: u16) -> Self {
        Self::of(addresses).and(u16::from(protocol)).and(length)
    }

    /// Adds another sum.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Adds a 16-bit number as it will stand in a header.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn and(self, value: u16) -> Self {
        Self(self.0 + value.to_be() as u64)
    }

    /// Adds the halves, the carry at the end around, twice.
    #[inline(always)]
    const fn fold(self) -> u16 {
        let (sum, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let sum = sum + carry as u32;
        let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
        sum + carry as u16
    }

    /// The folded sum as it stands in a header: what a device that finishes the checksum starts
    /// from.
    #[inline(always)]
    pub(crate) const fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum as it stands in a header.
    #[inline(always)]
    pub(crate) const fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum for a UDP header, where zero means "none" (RFC 768).
    #[inline(always)]
    pub(crate) const fn udp_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether a message is intact, when this is the sum over all of it, checksum included.
    #[inline(always)]
    pub(crate) const fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 has it: word by word, in network byte order.
    fn by_the_book(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
    }

    #[test]
    fn udp_never_writes_zero() {
        assert_eq!(Sum::of(&[0xff, 0xff]).checksum(), [0, 0]);
        assert_eq!(Sum::of(&[0xff, 0xff]).udp_checksum(), [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn any_bytes_by_the_book(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::of(&bytes).checksum(), by_the_book(&bytes));
        }

        #[test]
        fn pieces_sum_to_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 2..300),
            cut in 0usize..150,
            number: u16,
        ) {
            let (front, back) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            let sum = Sum::of(front).and(number).plus(Sum::of(back));
            let whole = [front, &number.to_be_bytes(), back].concat();
            prop_assert_eq!(sum.checksum(), by_the_book(&whole));
            let sealed = [&sum.checksum()[..], &whole].concat();
            prop_assert!(Sum::of(&sealed).is_intact());
        }
    }
}
