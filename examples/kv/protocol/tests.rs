use proptest::prelude::*;

use super::frame::{Frame, HEADER, MAX_DATAGRAM};
use super::*;

fn request(bytes: &[u8]) -> Request<'_> {
    match parse(bytes) {
        Parsed::Request(request, used) if used == bytes.len() => request,
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn refusal(bytes: &[u8]) -> &'static str {
    match parse(bytes) {
        Parsed::Request(Request::Refused { line, .. }, _) => line,
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn every_command_is_read() {
    let Request::Get { keys, cas: true } = request(b"gets  one two \r\n") else { panic!() };
    assert_eq!(keys.collect::<Vec<_>>(), [b"one", b"two"]);
    let write = request(b"cas key 7 -1 3 99 noreply\r\na\r\n\r\n");
    let (how, key, value) = (How::Cas(99), &b"key"[..], &b"a\r\n"[..]);
    assert_eq!(
        write,
        Request::Write(Write { how, key, flags: 7, expires: -1, value, noreply: true })
    );
    assert_eq!(request(b"delete k 0\r\n"), Request::Delete { key: b"k", noreply: false });
    assert_eq!(request(b"delete k noreply\n"), Request::Delete { key: b"k", noreply: true });
    let counted = Request::Count { key: b"k", by: u64::MAX, up: true, noreply: false };
    assert_eq!(request(b"incr k 18446744073709551615\r\n"), counted);
    assert_eq!(
        request(b"touch k 10 noreply\r\n"),
        Request::Touch { key: b"k", expires: 10, noreply: true }
    );
    assert_eq!(request(b"flush_all\r\n"), Request::FlushAll { delay: 0, noreply: false });
    assert_eq!(request(b"flush_all 5 noreply\r\n"), Request::FlushAll { delay: 5, noreply: true });
    assert_eq!(request(b"verbosity 1\r\n"), Request::Verbosity { noreply: false });
    assert_eq!(request(b"version\r\n"), Request::Version);
    assert_eq!(request(b"stats\r\n"), Request::Stats);
    assert_eq!(request(b"stats reset\r\n"), Request::ResetStats);
    assert_eq!(request(b"quit\r\n"), Request::Quit);
}

#[test]
fn what_is_wrong_is_named_as_memcached_names_it() {
    let long = "k".repeat(MAX_KEY + 1);
    for (text, line) in [
        ("", ERROR),
        ("nonsense", ERROR),
        ("get", ERROR),
        ("GET k", ERROR),
        ("set k 0 0", ERROR),
        ("set k 0 0 1 noreply more", ERROR),
        ("set k -1 0 1", BAD_FORMAT),
        ("set k 18446744073709551616 0 1", BAD_FORMAT),
        ("set k 0 x 1", BAD_FORMAT),
        ("set k 0 0 -1", BAD_FORMAT),
        ("cas k 0 0 1", ERROR),
        ("cas k 0 0 1 x", BAD_FORMAT),
        (&format!("get k {long}"), BAD_FORMAT),
        (&format!("delete {long}"), BAD_FORMAT),
        ("delete k 1", BAD_DELETE),
        ("incr k -1", BAD_DELTA),
        ("touch k soon", BAD_EXPTIME),
        ("flush_all soon", BAD_EXPTIME),
        ("verbosity loud", BAD_FORMAT),
        ("verbosity", ERROR),
    ] {
        assert_eq!(refusal(format!("{text}\r\n").as_bytes()), line, "{text}");
    }
    assert_eq!(refusal(b"set k 0 0 3\r\nabcde"), BAD_CHUNK);
}

#[test]
fn a_value_that_no_item_holds_is_skipped_to_its_end() {
    let length = MAX_ITEM;
    let line = format!("set k 0 0 {length}\r\n");
    let Parsed::Request(Request::TooLarge { how: How::Set, key: b"k", .. }, used) =
        parse(line.as_bytes())
    else {
        panic!()
    };
    assert_eq!(used, line.len() + length + 2);
}

#[test]
fn only_a_get_is_waited_for_without_end_of_line() {
    let long = |text: &str| text.repeat(1 + MAX_LINE / text.len());
    assert!(matches!(parse(long("k ").as_bytes()), Parsed::Hopeless));
    assert!(matches!(parse(format!("get {}", long("k ")).as_bytes()), Parsed::More(_)));
    assert!(matches!(parse(format!("get {}", "k ".repeat(MAX_GET)).as_bytes()), Parsed::Hopeless));
}

/// A request that makes sense.
fn sensible() -> impl Strategy<Value = Vec<u8>> {
    let key = "[!-~]{1,250}";
    let verb = prop::sample::select(&["set", "add", "replace", "append", "prepend", "cas"][..]);
    let write = (verb, key, any::<u32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(verb, key, flags, expires, value)| {
            let cas = if verb == "cas" { " 12" } else { "" };
            let line = format!("{verb} {key} {flags} {expires} {}{cas}\r\n", value.len());
            [line.as_bytes(), &value, b"\r\n"].concat()
        });
    let keys = prop::collection::vec(key, 1..20);
    let get = keys.prop_map(|keys| format!("get {}\r\n", keys.join(" ")).into_bytes());
    let rest = (key, any::<u64>()).prop_flat_map(|(key, n)| {
        let lines = [
            format!("incr {key} {n}\r\n"),
            format!("decr {key} {n} noreply\r\n"),
            format!("delete {key}\r\n"),
            format!("touch {key} {}\r\n", n as i32),
            "flush_all\r\n".to_owned(),
        ];
        prop::sample::select(lines.map(String::into_bytes).to_vec())
    });
    prop_oneof![write, get, rest]
}

proptest! {
    /// A request that comes in pieces is the same request, and nothing before its end.
    #[test]
    fn where_it_is_cut_does_not_matter(bytes in sensible(), more in any::<Vec<u8>>()) {
        for end in 0..bytes.len() {
            match parse(&bytes[..end]) {
                Parsed::More(least) => prop_assert!(least > end && least <= bytes.len()),
                other => prop_assert!(false, "{other:?} after {end} bytes"),
            }
        }
        let whole = parse(&bytes);
        let refused = matches!(whole, Parsed::Request(Request::Refused { .. }, _));
        prop_assert!(matches!(whole, Parsed::Request(_, used) if used == bytes.len()) && !refused);
        let longer = [&bytes[..], &more].concat();
        prop_assert_eq!(parse(&longer), whole);
    }

    /// Whatever comes is answered, and never for ever.
    #[test]
    fn anything_is_read(bytes in any::<Vec<u8>>()) {
        consume(&bytes);
    }

    /// What nearly makes sense goes deeper.
    #[test]
    fn anything_damaged_is_read(
        requests in prop::collection::vec(sensible(), 1..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = requests.concat();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        consume(&bytes);
    }

    #[test]
    fn an_answer_comes_together_from_its_datagrams(
        request in any::<u16>(),
        answer in prop::collection::vec(any::<u8>(), 1..10_000),
    ) {
        let mut whole = Vec::new();
        let parts: Vec<_> = Frame::parts(request, &answer).unwrap().collect();
        for (at, (frame, part)) in parts.iter().enumerate() {
            let datagram = [&frame.bytes()[..], part].concat();
            prop_assert!(datagram.len() <= MAX_DATAGRAM);
            let (back, rest) = Frame::split(&datagram).unwrap();
            prop_assert_eq!(back, *frame);
            prop_assert_eq!((back.request, usize::from(back.sequence)), (request, at));
            prop_assert_eq!(usize::from(back.total), parts.len());
            whole.extend_from_slice(rest);
        }
        prop_assert_eq!(whole, answer);
        prop_assert!(Frame::split(&[0; HEADER - 1]).is_none());
    }
}

/// Reads requests up to the end.
fn consume(mut bytes: &[u8]) {
    loop {
        match parse(bytes) {
            Parsed::More(least) => {
                assert!(least > bytes.len());
                break;
            }
            Parsed::Request(_, used) => {
                assert!(used > 0);
                let Some(rest) = bytes.get(used..) else { break };
                bytes = rest;
            }
            Parsed::Hopeless => break,
        }
    }
}

#[test]
fn an_answer_of_too_many_datagrams_is_refused() {
    assert!(Frame::parts(1, &vec![0; 65_535 * frame::MAX_PART]).is_some());
    assert!(Frame::parts(1, &vec![0; 65_535 * frame::MAX_PART + 1]).is_none());
}

#[test]
fn the_first_key_is_guessed() {
    assert_eq!(first_key(b"get key\r\n"), Some(&b"key"[..]));
    assert_eq!(first_key(b"set key 0 0 1\r\na\r\n"), Some(&b"key"[..]));
    assert_eq!(first_key(b"version\r\n"), Some(&b""[..]));
    assert_eq!(first_key(b"get"), None);
    let long = [b"get ".as_slice(), &[b'k'; 10 * MAX_KEY], b"\r\n"].concat();
    assert!(first_key(&long).unwrap().len() <= MAX_KEY);
}
