//! [`Rtnetlink`]: questions and requests to the kernel about interfaces, addresses, neighbours and
//! routes (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// How often a dump is asked for that something changes under.
const DUMPS: usize = 16;

/// A socket to ask with, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Rtnetlink {
    socket: Socket,
    sequence: u32,
}

impl Rtnetlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and reads up to its last answer, which is the only one unless `flags` say
    /// otherwise: `NLM_F_DUMP` for all there are, `NLM_F_ACK` for none but whether it was done. A dump that
    /// something changed under is asked for again.
    ///
    /// # Errors
    ///
    /// The kernel's; `ResourceBusy` for a dump that is never whole.
    pub(crate) fn ask(
        &mut self,
        what: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMPS {
            if let Some(whole) = self.ask_once(what.clone(), flags)? {
                return Ok(whole);
            }
        }
        let why = format!("something changed during each of {DUMPS} dumps of the kernel's table");
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
    }

    /// `None` when the answers are of different times.
    fn ask_once(
        &mut self,
        what: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(what));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let is_one = flags & (NLM_F_DUMP | NLM_F_ACK) == 0;
        let mut answer = Answer { sequence: self.sequence, is_one, ..Answer::default() };
        while !answer.is_over {
            let (bytes, _) = self.socket.recv_from_full()?;
            answer.take_in(&bytes)?;
        }
        Ok((!answer.is_torn).then_some(answer.messages))
    }
}

/// What the kernel has answered so far.
#[derive(Debug, Default)]
struct Answer {
    /// That of the question; what has another answers an earlier one.
    sequence: u32,
    /// It is one message.
    is_one: bool,
    messages: Vec<RouteNetlinkMessage>,
    /// Something has changed between parts of it (`NLM_F_DUMP_INTR`): some may be missing, or be there
    /// twice.
    is_torn: bool,
    /// All of it has come.
    is_over: bool,
}

impl Answer {
    /// Reads what one call has received.
    fn take_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        for message in messages(bytes) {
            let NetlinkMessage { header, payload, .. } = message?;
            if header.sequence_number != self.sequence || self.is_over {
                continue;
            }
            self.is_torn |= header.flags & NLM_F_DUMP_INTR != 0;
            match payload {
                // A dump that fails on the way says so at its end.
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                }
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => self.is_over = true,
                NetlinkPayload::InnerMessage(answer) => {
                    self.messages.push(answer);
                    self.is_over = self.is_one;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The family of an address.
pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The messages that lie one behind the other in what one call received.
pub(crate) fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(bytes);
        // Messages are aligned to four bytes.
        let len = match &message {
            Ok(message) => (message.header.length as usize).next_multiple_of(4).max(4),
            Err(_) => bytes.len(),
        };
        bytes = bytes.get(len..).unwrap_or_default();
        Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DoneMessage, ErrorMessage};
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    const SEQUENCE: u32 = 7;

    fn message(flags: u16, sequence: u32, payload: NetlinkPayload<RouteNetlinkMessage>) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags, sequence);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn link(flags: u16, sequence: u32, index: u32) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        message(flags, sequence, RouteNetlinkMessage::NewLink(link).into())
    }

    fn done(flags: u16, code: i32) -> Vec<u8> {
        let mut done = DoneMessage::default();
        done.code = code;
        message(flags, SEQUENCE, NetlinkPayload::Done(done))
    }

    fn answer(parts: &[Vec<u8>], is_one: bool) -> io::Result<Answer> {
        let mut answer = Answer { sequence: SEQUENCE, is_one, ..Answer::default() };
        for part in parts {
            assert!(!answer.is_over, "it would not have been read");
            answer.take_in(part)?;
        }
        Ok(answer)
    }

    #[test]
    fn a_dump_is_whole_or_torn() {
        // In two pieces, with what is left of an earlier answer.
        let pieces = |torn, end| {
            let first = [link(0, SEQUENCE - 1, 9), link(0, SEQUENCE, 1), link(torn, SEQUENCE, 2)];
            [first.concat(), [link(0, SEQUENCE, 3), done(end, 0)].concat()]
        };
        for (torn, end) in [(0, 0), (NLM_F_DUMP_INTR, 0), (0, NLM_F_DUMP_INTR)] {
            let answer = answer(&pieces(torn, end), false).unwrap();
            assert!(answer.is_over);
            assert_eq!(answer.messages.len(), 3, "those of the question");
            assert_eq!(answer.is_torn, torn | end != 0);
        }
        let failed = answer(&[link(0, SEQUENCE, 1), done(0, -libc::ENOBUFS)], false).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::ENOBUFS), "it is not taken for a short one");
    }

    #[test]
    fn one_answer_or_none_is_enough_where_no_more_is_asked_for() {
        assert!(answer(&[link(0, SEQUENCE, 1)], true).unwrap().is_over);
        assert!(!answer(&[link(0, SEQUENCE, 1)], false).unwrap().is_over);
        let acknowledged = message(0, SEQUENCE, NetlinkPayload::Error(ErrorMessage::default()));
        assert!(answer(&[acknowledged], false).unwrap().is_over);
    }
}
