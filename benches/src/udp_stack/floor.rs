//! The floor: UDP over IPv4 by fixed offsets, for one station, one address and one port.
//!
//! It takes only packets of exactly the expected shape (no VLAN tag, no options, no fragments) and
//! verifies no more than the UDP checksum; whatever else comes it drops without saying why.

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const ADDRESS: [u8; 4] = [10, 0, 0, 1];
pub(crate) const PEER: [u8; 4] = [10, 0, 0, 2];
pub(crate) const PORT: u16 = 4000;
pub(crate) const PEER_PORT: u16 = 5000;

/// Bytes of the headers of Ethernet, IPv4 and UDP.
pub(crate) const HEADERS: usize = 42;

/// Who sent the datagram, and its payload.
#[inline(always)]
pub(crate) fn receive(frame: &[u8]) -> Option<([u8; 4], u16, &[u8])> {
    let head: &[u8; HEADERS] = frame.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let expected = head[..6] == MAC
        && head[12..15] == [8, 0, 0x45]
        && length + 14 == frame.len()
        && head[23] == 17
        && head[30..34] == ADDRESS
        && head[36..38] == PORT.to_be_bytes()
        && udp_sum(frame) == 0xffff;
    let port = u16::from_be_bytes([head[34], head[35]]);
    expected.then(|| ([head[26], head[27], head[28], head[29]], port, &frame[HEADERS..]))
}

/// The headers of an empty datagram to the peer.
pub(crate) fn template() -> [u8; HEADERS] {
    let mut head = [0; HEADERS];
    head[..6].copy_from_slice(&PEER_MAC);
    head[6..12].copy_from_slice(&MAC);
    head[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
    head[26..30].copy_from_slice(&ADDRESS);
    head[30..34].copy_from_slice(&PEER);
    head[34..36].copy_from_slice(&PORT.to_be_bytes());
    head[36..38].copy_from_slice(&PEER_PORT.to_be_bytes());
    head
}

/// Puts the template in front of the payload, which begins behind [`HEADERS`] bytes of the frame,
/// and fills in lengths and checksums.
#[inline(always)]
pub(crate) fn send(frame: &mut [u8], template: &[u8; HEADERS]) {
    let length = frame.len() as u16;
    frame[..HEADERS].copy_from_slice(template);
    frame[16..18].copy_from_slice(&(length - 14).to_be_bytes());
    frame[38..40].copy_from_slice(&(length - 34).to_be_bytes());
    let ip = !fold(words(&frame[14..34]));
    frame[24..26].copy_from_slice(&ip.to_ne_bytes());
    let udp = match !udp_sum(frame) {
        // Zero means that there is none (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    frame[40..42].copy_from_slice(&udp.to_ne_bytes());
}

/// Turns a received datagram around in place; no sum changes by an exchange.
#[inline(always)]
pub(crate) fn reply(frame: &mut [u8]) {
    let Some(head) = frame.first_chunk_mut::<HEADERS>() else { return };
    let received = *head;
    head[..6].copy_from_slice(&received[6..12]);
    head[6..12].copy_from_slice(&received[..6]);
    head[26..30].copy_from_slice(&received[30..34]);
    head[30..34].copy_from_slice(&received[26..30]);
    head[34..36].copy_from_slice(&received[36..38]);
    head[36..38].copy_from_slice(&received[34..36]);
}

/// The sum over pseudo header, UDP header and payload, in the byte order of memory.
#[inline(always)]
fn udp_sum(frame: &[u8]) -> u16 {
    let pseudo = words(&frame[26..34])
        + u64::from(17_u16.to_be())
        + u64::from(u16::from_ne_bytes([frame[38], frame[39]]));
    fold(pseudo + words(&frame[34..]))
}

/// The sum of 32-bit words, which is as good as one of 16-bit words (RFC 1071, section 2).
#[inline(always)]
fn words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A datagram of the peer to us.
    pub(crate) fn received(payload: usize) -> Vec<u8> {
        let mut frame = vec![7; HEADERS + payload];
        send(&mut frame, &template());
        reply(&mut frame);
        frame
    }

    #[test]
    fn what_it_sends_turned_around_is_what_it_receives() {
        for payload in [0, 1, 2, 3, 64, 1000] {
            let frame = received(payload);
            assert_eq!(receive(&frame), Some((PEER, PEER_PORT, &vec![7; payload][..])));
            for wrong in 34..frame.len() {
                let mut frame = frame.clone();
                frame[wrong] ^= 0x10;
                assert_eq!(receive(&frame), None, "byte {wrong} of {payload}");
            }
        }
    }

    #[test]
    fn the_checksums_are_those_of_rfc_1071() {
        let frame = received(64);
        let sum = |bytes: &[u8]| -> u32 {
            let words = bytes
                .chunks(2)
                .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
            let sum = words.sum::<u32>();
            (sum & 0xffff) + (sum >> 16)
        };
        assert_eq!(sum(&frame[14..34]), 0xffff);
        let pseudo = [&frame[26..34], &[0, 17], &frame[38..40]].concat();
        assert_eq!(sum(&[&pseudo, &frame[34..]].concat()), 0xffff);
    }
}
