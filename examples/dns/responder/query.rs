//! Reads a query and says what the response is; nothing here allocates.

use super::answer::{Answer, HEADER, QUESTION_TAIL, Rcode};
use super::lookup::Tree;
use super::name;

/// Flags of the header (RFC 1035, section 4.1.1), as bits of its second word.
mod flags {
    pub(super) const RESPONSE: u16 = 0x8000;
    pub(super) const OPCODE: u16 = 0x7800;
    pub(super) const AUTHORITATIVE: u16 = 0x0400;
    pub(super) const TRUNCATED: u16 = 0x0200;
    pub(super) const RECURSION_DESIRED: u16 = 0x0100;
}

/// The class IN, and the type OPT.
const IN: u16 = 1;
const OPT: u16 = 41;
/// Bytes of an OPT record without options (RFC 6891, section 6.1.2).
const OPT_LEN: usize = 11;
/// What every resolver takes (RFC 1035, section 4.2.1).
const MIN_UDP: usize = 512;
/// What passes any path without fragments; also what is said to be accepted.
const MAX_UDP: usize = 1232;

/// How a query came, which bounds what may go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In a datagram; the reply may be so long, and no longer than who asks can take.
    Udp { room: usize },
    /// On a connection.
    Tcp,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is shorter than a header.
    Short,
    /// It is a response itself; answering it could go on for ever.
    Response,
    /// The reply does not fit where it has to.
    NoRoom,
}

/// A response, yet to be written over its query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'t> {
    pub(crate) rcode: Rcode,
    pub(crate) truncated: bool,
    /// Whether the query had an OPT record, and so has the reply.
    pub(crate) edns: bool,
    flags: u16,
    counts: [u16; 4],
    /// How much of the query stays: the header, perhaps the question.
    kept: usize,
    records: &'t [u8],
    /// Where pointers are, and by how much they move.
    pointers: &'t [u16],
    shift: u16,
    dnssec_ok: bool,
}

/// What a query's OPT record says.
#[derive(Clone, Copy, Debug, Default)]
struct Edns {
    payload: u16,
    version: u8,
    dnssec_ok: bool,
}

/// A query's question, and what it takes with it.
#[derive(Clone, Copy, Debug, Default)]
struct Question {
    /// Where it ends.
    end: usize,
    rtype: u16,
    class: u16,
}

/// The reply to a message.
///
/// # Errors
///
/// Why nothing may be said.
#[inline]
pub(crate) fn reply<'t>(
    tree: &'t Tree,
    message: &[u8],
    transport: Transport,
) -> Result<Reply<'t>, Silence> {
    let Some(header) = message.first_chunk::<HEADER>() else { return Err(Silence::Short) };
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if word(2) & flags::RESPONSE != 0 {
        return Err(Silence::Response);
    }
    let mut edns = None;
    let outcome = read(message, [word(4), word(6), word(8), word(10)], &mut edns);
    let (question, answer) = match outcome {
        // What another opcode's message looks like is not known here.
        _ if word(2) & flags::OPCODE != 0 => (None, Err(Rcode::NotImp)),
        Err(Malformed) => (None, Err(Rcode::FormErr)),
        Ok(question) => (Some(question), choose(tree, message, question, edns)),
    };
    let empty = Reply {
        rcode: Rcode::NoError,
        truncated: false,
        edns: edns.is_some(),
        flags: flags::RESPONSE | word(2) & (flags::OPCODE | flags::RECURSION_DESIRED),
        counts: [u16::from(question.is_some()), 0, 0, u16::from(edns.is_some())],
        kept: question.map_or(HEADER, |question| question.end),
        records: &[],
        pointers: &[],
        shift: 0,
        dnssec_ok: edns.is_some_and(|edns| edns.dnssec_ok),
    };
    let limit = match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp { room } => {
            let payload = edns.map_or(0, |edns| usize::from(edns.payload));
            payload.clamp(MIN_UDP, MAX_UDP).min(room)
        }
    };
    let reply = match answer {
        Err(rcode) => empty.with_rcode(rcode),
        Ok(answer) => empty.with(answer, limit),
    };
    if reply.len() > limit { Err(Silence::NoRoom) } else { Ok(reply) }
}

/// It breaks the rules for messages.
#[derive(Debug)]
struct Malformed;

/// Reads the question and what follows it; the counts are those of the header.
#[inline]
fn read(
    message: &[u8],
    [questions, answers, authorities, additionals]: [u16; 4],
    edns: &mut Option<Edns>,
) -> Result<Question, Malformed> {
    // More than one question is an error (RFC 9619), and so is an answer in a query.
    if questions != 1 || answers != 0 {
        return Err(Malformed);
    }
    let mut at = HEADER;
    loop {
        match *message.get(at).ok_or(Malformed)? {
            0 => break,
            len @ 1..=63 => at += 1 + usize::from(len),
            // A pointer here could only lead into the header, or round in circles.
            _ => return Err(Malformed),
        }
        if at - HEADER >= name::MAX_LEN {
            return Err(Malformed);
        }
    }
    let tail = message.get(at + 1..).and_then(<[u8]>::first_chunk::<QUESTION_TAIL>);
    let &[a, b, c, d] = tail.ok_or(Malformed)?;
    let end = at + 1 + QUESTION_TAIL;
    let question =
        Question { end, rtype: u16::from_be_bytes([a, b]), class: u16::from_be_bytes([c, d]) };
    let mut at = end;
    for _ in 0..authorities {
        at = record(message, at)?.end;
    }
    for _ in 0..additionals {
        let record = record(message, at)?;
        at = record.end;
        if record.rtype != OPT {
            continue;
        }
        // One at most, and of the root (RFC 6891, section 6.1.1).
        if edns.is_some() || !record.of_root || !options_are_whole(record.data) {
            return Err(Malformed);
        }
        let [_, version, flags, _] = record.ttl;
        *edns = Some(Edns { payload: record.class, version, dnssec_ok: flags & 0x80 != 0 });
    }
    if at == message.len() { Ok(question) } else { Err(Malformed) }
}

/// A record of a query.
struct Record<'m> {
    of_root: bool,
    rtype: u16,
    class: u16,
    ttl: [u8; 4],
    data: &'m [u8],
    end: usize,
}

fn record(message: &[u8], start: usize) -> Result<Record<'_>, Malformed> {
    let mut at = start;
    loop {
        match *message.get(at).ok_or(Malformed)? {
            0 => {
                at += 1;
                break;
            }
            len @ 1..=63 => at += 1 + usize::from(len),
            high @ 0xc0.. => {
                let target = usize::from(high & 0x3f) << 8
                    | usize::from(*message.get(at + 1).ok_or(Malformed)?);
                // It must lead to what came before: then there is an end to it.
                if target >= start || target < HEADER {
                    return Err(Malformed);
                }
                at += 2;
                break;
            }
            _ => return Err(Malformed),
        }
        if at - start >= name::MAX_LEN {
            return Err(Malformed);
        }
    }
    let fixed = message.get(at..).and_then(<[u8]>::first_chunk::<10>).ok_or(Malformed)?;
    let &[a, b, c, d, ref ttl @ .., e, f] = fixed;
    let begin = at + fixed.len();
    let end = begin + usize::from(u16::from_be_bytes([e, f]));
    Ok(Record {
        of_root: at == start + 1,
        rtype: u16::from_be_bytes([a, b]),
        class: u16::from_be_bytes([c, d]),
        ttl: *ttl,
        data: message.get(begin..end).ok_or(Malformed)?,
        end,
    })
}

/// Whether the options of an OPT record end where the record does.
fn options_are_whole(mut options: &[u8]) -> bool {
    while let Some((&[_, _, a, b], rest)) = options.split_first_chunk() {
        match rest.get(usize::from(u16::from_be_bytes([a, b]))..) {
            Some(rest) => options = rest,
            None => return false,
        }
    }
    options.is_empty()
}

/// The answer to a question that could be read, or the code of why there is none.
#[inline]
fn choose<'t>(
    tree: &'t Tree,
    message: &[u8],
    question: Question,
    edns: Option<Edns>,
) -> Result<&'t Answer, Rcode> {
    if edns.is_some_and(|edns| edns.version > 0) {
        return Err(Rcode::BadVers);
    }
    match question.rtype {
        // OPT, TKEY and TSIG are no data, and cannot be asked for.
        0 | OPT | 249 | 250 => return Err(Rcode::FormErr),
        // Zone transfers are not for everyone.
        251 | 252 => return Err(Rcode::Refused),
        // Meta-types that were given up (RFC 1035, section 3.2.3; RFC 6895, section 3.1).
        128..=248 | 253 | 254 => return Err(Rcode::NotImp),
        _ => {}
    }
    if question.class != IN {
        return Err(Rcode::Refused);
    }
    let asked = &message[HEADER..question.end - QUESTION_TAIL];
    let mut lower = [0; name::MAX_LEN];
    let lower = &mut lower[..asked.len()];
    lower.copy_from_slice(asked);
    lower.make_ascii_lowercase();
    tree.answer(lower, question.rtype).ok_or(Rcode::Refused)
}

impl<'t> Reply<'t> {
    fn with_rcode(mut self, rcode: Rcode) -> Self {
        self.rcode = rcode;
        self.flags |= rcode as u16 & 0xf;
        self
    }

    /// Puts in what fits of an answer (RFC 2181, section 9).
    #[inline]
    fn with(self, answer: &'t Answer, limit: usize) -> Self {
        let mut reply = self.with_rcode(answer.rcode);
        if answer.authoritative {
            reply.flags |= flags::AUTHORITATIVE;
        }
        let room = limit.saturating_sub(reply.len());
        let [answers, authorities, additionals] = answer.counts;
        let (len, additionals) = if answer.records.len() <= room {
            (answer.records.len(), additionals)
        } else if let Some(&(len, additionals)) =
            answer.shorter.iter().find(|(len, _)| usize::from(*len) <= room)
        {
            (usize::from(len), additionals)
        } else {
            reply.truncated = true;
            reply.flags |= flags::TRUNCATED;
            return reply;
        };
        reply.records = &answer.records[..len];
        let name_len = reply.kept - HEADER - QUESTION_TAIL;
        reply.shift = (name_len as u16).wrapping_sub(u16::from(answer.name_len));
        if reply.shift != 0 {
            let inside = answer.pointers.partition_point(|at| usize::from(*at) < len);
            reply.pointers = &answer.pointers[..inside];
        }
        reply.counts[1] = answers;
        reply.counts[2] = authorities;
        reply.counts[3] += additionals;
        reply
    }

    /// The length of the message.
    #[must_use]
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.kept + self.records.len() + if self.edns { OPT_LEN } else { 0 }
    }

    /// Whether the response says that there is nothing of this type (RFC 2308, section 2.2), or of this
    /// name.
    #[must_use]
    pub(crate) fn is_negative(&self) -> bool {
        self.flags & flags::AUTHORITATIVE != 0 && self.counts[1] == 0 && !self.truncated
    }

    /// Whether the response leads to other servers.
    #[must_use]
    pub(crate) fn is_referral(&self) -> bool {
        self.flags & flags::AUTHORITATIVE == 0 && self.counts[2] > 0
    }

    /// Writes the response over the query, in a message that has been made [`len`](Self::len) bytes long.
    ///
    /// # Panics
    ///
    /// When it has another length.
    #[inline]
    pub(crate) fn write(&self, message: &mut [u8]) {
        assert_eq!(message.len(), self.len(), "the message has the response's length");
        message[2..4].copy_from_slice(&self.flags.to_be_bytes());
        for (place, count) in message[4..HEADER].chunks_exact_mut(2).zip(self.counts) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        let (records, opt) = message[self.kept..].split_at_mut(self.records.len());
        records.copy_from_slice(self.records);
        for at in self.pointers {
            let place = &mut records[usize::from(*at)..][..2];
            let pointer = u16::from_be_bytes([place[0], place[1]]).wrapping_add(self.shift);
            place.copy_from_slice(&pointer.to_be_bytes());
        }
        if self.edns {
            // The root, type OPT, size, upper part of the response code, version 0, flags, no options.
            let [high, low] = (MAX_UDP as u16).to_be_bytes();
            let extended = (self.rcode as u16 >> 4) as u8;
            let dnssec_ok = u8::from(self.dnssec_ok) << 7;
            opt.copy_from_slice(&[0, 0, OPT as u8, high, low, extended, 0, dnssec_ok, 0, 0, 0]);
        }
    }
}
