//! What the program should do, said once more: rule by rule, without maps.

use std::net::IpAddr;

use super::super::filter::{Filter, Rule, Transport};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    Passed,
    Fragment,
    Malformed,
}

/// Judges a frame. `None` inside means that the frame ends too early.
pub(super) fn judge(filter: &Filter, frame: &[u8]) -> Verdict {
    if filter.rules.contains(&Rule::Everything) {
        return Verdict::Taken;
    }
    judge_frame(filter, frame).unwrap_or(Verdict::Malformed)
}

fn judge_frame(filter: &Filter, frame: &[u8]) -> Option<Verdict> {
    let mut at = 14;
    let mut ether_type = word(frame, 12)?;
    for _ in 0..2 {
        if matches!(ether_type, 0x8100 | 0x88a8) {
            ether_type = word(frame, at + 2)?;
            at += 4;
        }
    }
    if filter.rules.contains(&Rule::EtherType(ether_type)) {
        return Some(Verdict::Taken);
    }
    let packet = &frame[at..];
    let concerns = |v4: bool| {
        filter.rules.iter().any(|rule| match rule {
            Rule::Port { to: None, .. } => true,
            Rule::To(prefix) | Rule::Port { to: Some(prefix), .. } => prefix.addr().is_ipv4() == v4,
            _ => false,
        })
    };
    match ether_type {
        0x0800 if concerns(true) => judge_ipv4(filter, packet),
        0x86dd if concerns(false) => judge_ipv6(filter, packet),
        _ => Some(Verdict::Passed),
    }
}

fn judge_ipv4(filter: &Filter, packet: &[u8]) -> Option<Verdict> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return Some(Verdict::Malformed);
    }
    let to: [u8; 4] = *header.last_chunk()?;
    let ports = match ports_at(filter, to.into()) {
        Ok(ports) => ports,
        Err(verdict) => return Some(verdict),
    };
    let transport = match header[9] {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return Some(Verdict::Passed),
    };
    if word(header, 6)? & 0x3fff != 0 {
        return Some(Verdict::Fragment);
    }
    judge_port(&ports, transport, packet, length)
}

fn judge_ipv6(filter: &Filter, packet: &[u8]) -> Option<Verdict> {
    let header = packet.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return Some(Verdict::Malformed);
    }
    let to: [u8; 16] = *header.last_chunk()?;
    let ports = match ports_at(filter, to.into()) {
        Ok(ports) => ports,
        Err(verdict) => return Some(verdict),
    };
    let (mut next, mut at) = (header[6], 40);
    for _ in 0..4 {
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        let extension = packet.get(at..at + 8)?;
        let length = usize::from(extension[1]);
        at += match next {
            44 if word(extension, 2)? & 0xfff9 != 0 => return Some(Verdict::Fragment),
            44 => 8,
            51 => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        next = extension[0];
    }
    match next {
        6 => judge_port(&ports, Transport::Tcp, packet, at),
        17 => judge_port(&ports, Transport::Udp, packet, at),
        _ => Some(Verdict::Passed),
    }
}

/// The ports that are taken at an address, or the verdict that needs no port.
fn ports_at(filter: &Filter, to: IpAddr) -> Result<Vec<(Transport, u16)>, Verdict> {
    let mut ports = Vec::new();
    let mut undecided = filter.rules.iter().any(|rule| matches!(rule, Rule::Port { to: None, .. }));
    for rule in &filter.rules {
        match *rule {
            Rule::To(prefix) if prefix.contains(&to) => return Err(Verdict::Taken),
            Rule::Port { to: Some(prefix), transport, port } if prefix.contains(&to) => {
                undecided = true;
                ports.push((transport, port));
            }
            Rule::Port { to: None, transport, port } => ports.push((transport, port)),
            _ => {}
        }
    }
    if undecided { Ok(ports) } else { Err(Verdict::Passed) }
}

fn judge_port(
    ports: &[(Transport, u16)],
    transport: Transport,
    packet: &[u8],
    at: usize,
) -> Option<Verdict> {
    let port = word(packet, at + 2)?;
    Some(if ports.contains(&(transport, port)) { Verdict::Taken } else { Verdict::Passed })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)
}
