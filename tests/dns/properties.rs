//! Whatever comes, what goes back is a message that keeps the rules, or nothing.

use bypass_core::testing::allocations::on_this_thread;
use domain::base::iana::Rcode;
use proptest::prelude::*;

use crate::example;
use crate::query::{Query, Response};
use crate::responder::Responder;
use crate::responder::query::{Silence, Transport};
use crate::responder::zone::Zone;

/// A datagram's room in a buffer of two KiB.
pub(crate) const UDP: Transport = Transport::Udp { room: 2048 };

/// What goes back, written over the query as a server does.
pub(crate) fn exchange(
    responder: &Responder,
    query: &[u8],
    transport: Transport,
) -> Result<Vec<u8>, Silence> {
    let reply = responder.reply(query, transport)?;
    let mut message = query.to_vec();
    message.resize(reply.len(), 0xaa);
    reply.write(&mut message);
    Ok(message)
}

fn ask(responder: &Responder, query: &Query) -> Response {
    Response::read(&exchange(responder, &query.message(7), UDP).unwrap()).unwrap()
}

/// Names around those of the zone.
pub(crate) fn names() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "example.com",
        "www",
        "ftp",
        "docs",
        "gone",
        "mail.backup",
        "pages",
        "b.pages",
        "a.b.pages",
        "*.pages",
        "star",
        "alias",
        "sub",
        "ns.sub",
        "away",
        "into",
        "many",
        "10.in-addr",
        "nobody",
    ]);
    let below = prop::collection::vec("[a-zA-Z0-9_*-]{1,20}", 0..4);
    (known, below, any::<u64>()).prop_map(|(known, below, case)| {
        let name = match known {
            "example.com" => below.join(".") + if below.is_empty() { "" } else { "." },
            known => [below, vec![known.to_owned()]].concat().join(".") + ".",
        } + "example.com";
        let cased = name
            .chars()
            .enumerate()
            .map(|(i, c)| if case >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c });
        cased.collect()
    })
}

fn queries() -> impl Strategy<Value = Query> {
    let types = prop_oneof![1..50_u16, Just(255), Just(257), Just(65_280)];
    (names(), types, prop::option::of(any::<u16>()))
        .prop_filter("these are not asked for", |(_, rtype, _)| *rtype != 41)
        .prop_map(|(name, rtype, edns)| Query { name, rtype, edns })
}

/// What holds of every response.
pub(crate) fn check(query: &[u8], response: &[u8], limit: usize) -> Result<(), TestCaseError> {
    prop_assert!(response.len() <= limit, "{} bytes", response.len());
    prop_assert_eq!(&response[..2], &query[..2], "the number");
    prop_assert_eq!(
        response[2] & 0xf9,
        query[2] & 0x79 | 0x80,
        "response, opcode, recursion desired"
    );
    let read = Response::read(response);
    prop_assert!(read.is_ok(), "{:?}: {:02x?}", read, response);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_question_gets_a_well_formed_answer(query in queries()) {
        let responder = example();
        let message = query.message(0x1234);
        let response = exchange(&responder, &message, UDP).unwrap();
        let limit = query.edns.map_or(512, |payload| payload.clamp(512, 1232));
        check(&message, &response, limit.into())?;
        // The question is as it was asked, its case too.
        let end = message.len() - if query.edns.is_some() { 11 } else { 0 };
        prop_assert_eq!(&response[12..end], &message[12..end]);
        let read = Response::read(&response).unwrap();
        prop_assert_eq!(read.edns, query.edns.is_some());
        prop_assert_eq!(read.records, read.sections.iter().map(|set| set.len()).sum::<usize>());
        // On a connection there is all of it.
        let whole = exchange(&responder, &message, Transport::Tcp).unwrap();
        let whole = Response::read(&whole).unwrap();
        prop_assert!(!whole.truncated);
        prop_assert_eq!((read.rcode, read.authoritative), (whole.rcode, whole.authoritative));
        if read.truncated {
            prop_assert_eq!(read.records, 0);
        } else {
            prop_assert_eq!(read.answer(), whole.answer());
            prop_assert_eq!(read.authority(), whole.authority());
            prop_assert!(read.additional().is_subset(whole.additional()));
        }
    }

    #[test]
    fn any_bytes_get_a_response_or_silence(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for transport in [UDP, Transport::Tcp, Transport::Udp { room: bytes.len() }] {
            if let Ok(response) = exchange(&example(), &bytes, transport) {
                check(&bytes, &response, 65_535)?;
            }
        }
    }

    #[test]
    fn damaged_queries_get_a_response_or_silence(
        query in queries(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut message = query.message(0x1234);
        for (at, value) in damage {
            let at = at.index(message.len());
            message[at] = value;
        }
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        match exchange(&example(), &message, UDP) {
            Ok(response) => check(&message, &response, 1232)?,
            Err(Silence::Short) => prop_assert!(message.len() < 12),
            Err(Silence::Response) => prop_assert!(message[2] & 0x80 != 0),
            Err(Silence::NoRoom) => prop_assert!(false, "there is room"),
        }
    }

    /// Zones of few labels, so that names meet: every answer to every name around can be read, and
    /// what is there is found.
    #[test]
    fn any_zone_is_served(
        records in prop::collection::vec(("(a|b|[*]|c)([.](a|b|[*])){0,2}", 0..6_u8), 0..12),
        asked in "(a|b|c|d)([.](a|b|c)){0,3}",
    ) {
        let mut text = "$TTL 9\n@ SOA a b 1 2 3 4 5\n@ NS a\n@ NS ns.elsewhere.\n".to_owned();
        for (i, (name, kind)) in records.iter().enumerate() {
            text += &match kind {
                0 => format!("{name} A 192.0.2.{i}\n"),
                1 => format!("{name} TXT \"{i}\"\n"),
                2 => format!("{name} MX {i} a.b\n"),
                3 => format!("{name} CNAME b.a\n"),
                4 => format!("{name} CNAME c.{name}\n"),
                _ => format!("{name} NS a.{name}\n"),
            };
        }
        // Where a CNAME is not alone, there is no zone, and that is said.
        let Ok(zone) = Zone::parse("t.", &text) else { return Ok(()) };
        let responder = Responder::new(std::slice::from_ref(&zone)).unwrap();
        for rtype in [1, 2, 5, 15, 16, 43, 255] {
            let query = Query::new(&format!("{asked}.t"), rtype);
            let response = ask(&responder, &query);
            let denied = response.rcode == Rcode::NXDOMAIN;
            let referred = !response.authoritative;
            // A response says something: an answer, a denial, a referral.
            prop_assert!(
                !response.answer().is_empty() || !response.authority().is_empty(), "{response:?}"
            );
            prop_assert!(!referred || !denied && response.answer().is_empty(), "{response:?}");
            if denied {
                prop_assert!(response.authority().iter().all(|soa| soa.contains("in soa")));
            }
            let exact = records.iter().any(|(name, kind)| *name == asked && *kind == 0);
            let delegated = |(name, kind): &(String, u8)| {
                *kind == 5 && (*name == asked || asked.ends_with(&format!(".{name}")))
            };
            if rtype == 1 && exact && !records.iter().any(delegated) {
                prop_assert!(response.answer().iter().all(|a| a.contains("in a 192.0.2.")));
                prop_assert!(!response.answer().is_empty() && response.authoritative);
            }
        }
    }
}

/// A header and what follows it.
fn message(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let words = [0x1234, flags, counts[0], counts[1], counts[2], counts[3]];
    [&words.map(u16::to_be_bytes).concat(), rest].concat()
}

#[test]
fn what_breaks_the_rules_gets_the_code_for_it() {
    const QUESTION: &[u8] = b"\x03www\x07example\x03com\x00\x00\x01\x00\x01";
    const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    let one = [1, 0, 0, 0];
    let with = |more: &[&[u8]]| [QUESTION, &more.concat()].concat();
    let long = [[63; 64].repeat(3), vec![62; 63], vec![0, 0, 1, 0, 1]].concat();
    assert_eq!(long.len(), 255 + 1 + 4, "one byte more than a name may have");
    let edns = |ttl: [u8; 4], data: &[u8]| {
        let len = (data.len() as u16).to_be_bytes();
        [b"\x00\x00\x29\x04\xd0", &ttl[..], &len, data].concat()
    };
    let cases: &[(&str, Vec<u8>, Rcode)] = &[
        ("a query", message(0x0100, one, QUESTION), Rcode::NOERROR),
        ("no question", message(0, [0; 4], &[]), Rcode::FORMERR),
        ("two questions", message(0, [2, 0, 0, 0], &QUESTION.repeat(2)), Rcode::FORMERR),
        ("an answer", message(0, [1, 1, 0, 0], &with(&[OPT])), Rcode::FORMERR),
        ("no question where one is said", message(0, one, &[]), Rcode::FORMERR),
        ("a cut name", message(0, one, b"\x03ww"), Rcode::FORMERR),
        ("a name without end", message(0, one, b"\x03www"), Rcode::FORMERR),
        ("a cut class", message(0, one, &QUESTION[..QUESTION.len() - 1]), Rcode::FORMERR),
        ("a pointer to itself", message(0, one, b"\xc0\x0c\x00\x01\x00\x01"), Rcode::FORMERR),
        ("a loop", message(0, one, b"\x01a\xc0\x0c\x00\x01\x00\x01"), Rcode::FORMERR),
        ("a label type of old", message(0, one, b"\x41a\x00\x00\x01\x00\x01"), Rcode::FORMERR),
        ("a name too long", message(0, one, &long), Rcode::FORMERR),
        ("bytes behind the end", message(0, one, &with(&[b"\x00"])), Rcode::FORMERR),
        ("EDNS", message(0, [1, 0, 0, 1], &with(&[OPT])), Rcode::NOERROR),
        ("EDNS twice", message(0, [1, 0, 0, 2], &with(&[OPT, OPT])), Rcode::FORMERR),
        ("EDNS missing", message(0, [1, 0, 0, 1], QUESTION), Rcode::FORMERR),
        ("EDNS cut", message(0, [1, 0, 0, 1], &with(&[&OPT[..10]])), Rcode::FORMERR),
        ("EDNS of a name", message(0, [1, 0, 0, 1], &with(&[b"\x01a", OPT])), Rcode::FORMERR),
        (
            "an option",
            message(0, [1, 0, 0, 1], &with(&[&edns([0; 4], b"\x00\x0a\x00\x02ab")])),
            Rcode::NOERROR,
        ),
        (
            "an option beyond the record",
            message(0, [1, 0, 0, 1], &with(&[&edns([0; 4], b"\x00\x0a\x00\x03ab")])),
            Rcode::FORMERR,
        ),
        (
            "a pointer ahead in a record",
            message(0, [1, 0, 0, 1], &with(&[b"\xc0\xff\x00\x01\x00\x01\0\0\0\0\0\0"])),
            Rcode::FORMERR,
        ),
        // The lower bits of 16, BADVERS; the others are in the OPT record.
        ("EDNS 1", message(0, [1, 0, 0, 1], &with(&[&edns([0, 1, 0, 0], &[])])), Rcode::NOERROR),
        ("opcode IQUERY", message(0x0800, one, QUESTION), Rcode::NOTIMP),
        ("opcode STATUS", message(0x1000, [0; 4], &[]), Rcode::NOTIMP),
        ("opcode UPDATE", message(0x2800, [1, 0, 1, 0], b"what else"), Rcode::NOTIMP),
        ("a zone transfer", message(0, one, b"\x00\x00\xfc\x00\x01"), Rcode::REFUSED),
        ("type MAILB", message(0, one, b"\x00\x00\xfd\x00\x01"), Rcode::NOTIMP),
        ("type OPT", message(0, one, b"\x00\x00\x29\x00\x01"), Rcode::FORMERR),
        ("class CHAOS", message(0, one, b"\x00\x00\x10\x00\x03"), Rcode::REFUSED),
        ("the root", message(0, one, b"\x00\x00\x02\x00\x01"), Rcode::REFUSED),
    ];
    let responder = example();
    for (what, query, rcode) in cases {
        for transport in [UDP, Transport::Tcp] {
            let response = exchange(&responder, query, transport).unwrap();
            assert_eq!(Response::read(&response).unwrap().rcode, *rcode, "{what}");
        }
    }
    let badvers = message(0, [1, 0, 0, 1], &with(&[&edns([0, 1, 0, 0], &[])]));
    let response = exchange(&responder, &badvers, UDP).unwrap();
    assert_eq!(response[response.len() - 6..], [1, 0, 0, 0, 0, 0], "upper bits, version 0");
    // DO comes back as it went (RFC 3225).
    let query = message(0, [1, 0, 0, 1], &with(&[&edns([0, 0, 0x80, 0], &[])]));
    let response = exchange(&responder, &query, UDP).unwrap();
    assert_eq!(response[response.len() - 4..], [0x80, 0, 0, 0]);
}

#[test]
fn silence_is_kept_where_it_must_be() {
    let responder = example();
    let silence =
        |bytes: &[u8], room| responder.reply(bytes, Transport::Udp { room }).map(drop).unwrap_err();
    for len in 0..12 {
        assert_eq!(silence(&vec![0; len], 2048), Silence::Short);
    }
    // Two servers that answered answers would not come to an end.
    let query = Query::new("www.example.com", 1).message(1);
    let mut response = exchange(&responder, &query, UDP).unwrap();
    assert_eq!(silence(&response, 2048), Silence::Response);
    response[2] &= 0x7f;
    assert!(responder.reply(&response, UDP).is_ok());
    assert_eq!(silence(&query, query.len() - 1), Silence::NoRoom);
}

#[test]
fn what_does_not_fit_is_left_out_or_truncated() {
    let responder = example();
    let mut query = Query::new("sub.example.com", 2);
    let message = query.message(1);
    let len = |room| {
        let response = exchange(&responder, &message, Transport::Udp { room }).unwrap();
        assert!(response.len() <= room);
        (response.len(), Response::read(&response).unwrap())
    };
    let (whole, all) = len(512);
    assert_eq!((all.additional().len(), all.truncated), (4, false));
    // Addresses of servers elsewhere go first, set by set; without those of its own it leads nowhere.
    let (shorter, less) = len(whole - 1);
    assert_eq!((less.additional().len(), less.truncated), (3, false));
    let (shortest, least) = len(shorter - 1);
    assert_eq!((least.additional().len(), least.truncated), (2, false));
    let (_, none) = len(shortest - 1);
    assert!(none.truncated && none.records == 0);

    query = Query::new("many.example.com", 16);
    for (edns, truncated) in [(None, true), (Some(0), true), (Some(1232), true)] {
        query.edns = edns;
        assert_eq!(ask(&responder, &query).truncated, truncated, "{edns:?}");
    }
    let whole = exchange(&responder, &query.message(1), Transport::Tcp).unwrap();
    assert_eq!(Response::read(&whole).unwrap().answer().len(), 12);
}

#[test]
fn the_longest_names_are_answered() {
    let responder = example();
    let zone = b"\x05pages\x07example\x03com\x00";
    // Of long labels and of many: 255 bytes each.
    let rest = 255 - zone.len();
    let long = [vec![63; 64], vec![63; 64], vec![63; 64], vec![(rest - 193) as u8; rest - 192]];
    let many = [b"\x01a".repeat(rest / 2 - 1), vec![(rest % 2 + 1) as u8; rest % 2 + 2]];
    for below in [long.concat(), many.concat()] {
        let question = [&below, &zone[..], b"\x00\x0f\x00\x01"].concat();
        assert_eq!(question.len(), 259);
        let query = message(0, [1, 0, 0, 0], &question);
        let response = exchange(&responder, &query, UDP).unwrap();
        let response = Response::read(&response).unwrap();
        assert_eq!((response.answer().len(), response.additional().len()), (1, 1));
        assert!(response.answer().iter().all(|mx| mx.ends_with("in mx 10 mail.example.com.")));
    }
}

#[test]
fn zones_beside_and_inside_each_other_are_kept_apart() {
    let zone = |apex: &str, rest: &str| {
        Zone::parse(apex, &format!("$TTL 9\n@ SOA a b 1 2 3 4 5\n@ NS a\na A 192.0.2.1\n{rest}"))
            .unwrap()
    };
    let zones = [
        zone("a.in.t.", "x A 192.0.2.2\n"),
        zone("t.", "in NS ns.in\nns.in A 192.0.2.3\nto CNAME x.a.in\n"),
        zone("t2.", "* CNAME x.t.\n"),
    ];
    let responder = Responder::new(&zones).unwrap();
    let code = |name: &str| {
        let response = ask(&responder, &Query::new(name, 1));
        (response.rcode, response.authoritative, response.answer().len())
    };
    assert_eq!(code("x.a.in.t"), (Rcode::NOERROR, true, 1));
    assert_eq!(code("y.a.in.t"), (Rcode::NXDOMAIN, true, 0));
    assert_eq!(code("b.in.t"), (Rcode::NOERROR, false, 0), "delegated");
    assert_eq!(code("x.t"), (Rcode::NXDOMAIN, true, 0));
    assert_eq!(code("to.t"), (Rcode::NOERROR, true, 1), "to another zone");
    assert_eq!(code("x.t2"), (Rcode::NOERROR, true, 1), "to another zone");
    assert_eq!(code("x.t3"), (Rcode::REFUSED, false, 0));
    let twice = [zone("t.", ""), zone("T.", "")];
    assert!(Responder::new(&twice).unwrap_err().to_string().contains("is there twice"));
}

#[test]
fn answering_allocates_nothing() {
    let responder = example();
    let queries: Vec<Vec<u8>> = ["www", "x.y.pages", "nobody", "a.b.c.d.e", "h.sub", "many"]
        .iter()
        .flat_map(|name| {
            let mut query = Query::new(&format!("{name}.example.com"), 16);
            let plain = query.message(1);
            query.edns = Some(1232);
            [plain, query.message(1)]
        })
        .collect();
    let mut buffer = vec![0; 2048];
    let before = on_this_thread();
    for query in &queries {
        let reply = responder.reply(query, UDP).unwrap();
        let response = &mut buffer[..reply.len()];
        let kept = query.len().min(response.len());
        response[..kept].copy_from_slice(&query[..kept]);
        reply.write(response);
    }
    assert_eq!(on_this_thread() - before, 0);
}
