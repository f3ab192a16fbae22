//! The same zone on other servers, the same queries, the same answers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::Namespace;

use crate::EXAMPLE;
use crate::clients::local;
use crate::common::Running;
use crate::process::{Client, Folder, dns};
use crate::query::{Query, Response};

/// Names beside those that the zone has: below what is there, above it, beside it.
const NAMES: &[&str] = &[
    "nobody",
    "a.nobody",
    "x.pages",
    "x.y.pages",
    "*.pages",
    "x.*.pages",
    "b.pages",
    "x.b.pages",
    "pages",
    "backup.www",
    "backup",
    "x.backup",
    "_udp",
    "h.sub",
    "a.b.sub",
    "x.ns.sub",
    "h.away",
    "x.alias",
    "alias",
    "in-addr",
    "x.10.in-addr",
    "this-label-is-the-longest-that-there-can-be-with-its-63-bytes-all",
];

/// Of other zones.
const OUTSIDE: &[&str] = &[".", "com", "example.org", "xexample.com", "www.example.net"];

/// Those that the zone has, one that only a delegation has, one that nobody has, and whatever there is.
const TYPES: &[u16] = &[1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 65_280, ANY];
const ANY: u16 = 255;

/// Every name with every type, with and without EDNS, in a mix of cases.
fn queries() -> Vec<Query> {
    let own = EXAMPLE.lines().filter_map(|line| {
        let name = line.split_whitespace().next()?;
        (!line.starts_with([' ', '$', ';', '@'])).then_some(name)
    });
    let own = own.chain(NAMES.iter().copied()).filter(|name| name.split('.').all(|l| l.len() < 64));
    let names = own.map(|name| format!("{name}.example.com"));
    let names =
        names.chain(["example.com".to_owned()]).chain(OUTSIDE.iter().map(|n| (*n).to_owned()));
    let names: BTreeSet<String> = names.collect();
    let mut queries = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let mixed = |(j, c): (usize, char)| {
            if (i + j) % 3 == 0 { c.to_ascii_uppercase() } else { c }
        };
        let mixed: String = name.chars().enumerate().map(mixed).collect();
        for &rtype in TYPES {
            for edns in [None, Some(512), Some(1232), Some(4096)] {
                queries.push(Query { name: mixed.clone(), rtype, edns });
            }
        }
    }
    queries
}

/// Starts a server of other hands, and ours beside it, and compares what they say.
fn compare(
    other: &mut dyn FnMut(&Folder) -> Command,
    same: impl Fn(&Query, &Response, &Response) -> Result<(), &'static str>,
) {
    let namespace = Namespace::new().unwrap();
    let _inside = namespace.enter().unwrap();
    let folder =
        Folder::new(&format!("dns-{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    folder.write("example.zone", EXAMPLE);
    let mut other = other(&folder);
    let other = other.stderr(Stdio::null());
    let _theirs = Running::start(other);
    let mut ours = Running::start(dns().arg(local("127.0.0.1:5301")));
    assert!(ours.line().starts_with("tcp on"));
    let mut we = Client::connect("127.0.0.1:5301".parse().unwrap());
    let mut they = Client::connect("127.0.0.1:5302".parse().unwrap());
    let (mut differences, mut count) = (String::new(), 0);
    let queries = queries();
    for query in &queries {
        let (our, their) = (we.ask(query), they.ask(query));
        if let Err(what) = same(query, &our, &their) {
            count += 1;
            writeln!(differences, "{what}: {query:?}\n ours   {our:?}\n theirs {their:?}").unwrap();
        }
    }
    assert!(queries.len() > 2000, "only {}", queries.len());
    assert!(count == 0, "{count} of {} differ:\n{differences}", queries.len());
}

/// What must be the same whatever a server adds out of kindness.
fn essence(query: &Query, ours: &Response, theirs: &Response) -> Result<(), &'static str> {
    let codes = |response: &Response| (response.rcode, response.authoritative, response.edns);
    if codes(ours) != codes(theirs) {
        return Err("codes or flags");
    }
    if ours.records != ours.sections.iter().map(BTreeSet::len).sum::<usize>() {
        return Err("a record twice");
    }
    if query.rtype == ANY && !ours.answer().is_empty() {
        // One record set of all that there are, whichever (RFC 8482, section 4.1).
        let answered = !theirs.answer().is_empty() || theirs.truncated;
        return if answered { Ok(()) } else { Err("answer to ANY") };
    }
    if ours.truncated != theirs.truncated {
        return Err("truncation");
    }
    // What comes with a truncated answer is not to be used.
    if !ours.truncated && ours.answer() != theirs.answer() {
        return Err("answer");
    }
    Ok(())
}

#[test]
fn answers_are_those_of_nsd() {
    if skip(&[Need::Namespaces, Need::IoUring, Need::Tool("nsd"), Need::Tool("kill")]) {
        return;
    }
    let mut nsd = |folder: &Folder| {
        let dir = folder.0.display();
        let config = folder.write(
            "nsd.conf",
            &format!(
                "server:\n ip-address: 127.0.0.1@5302\n username: \"\"\n zonesdir: \"{dir}\"\n \
                 database: \"\"\n pidfile: \"{dir}/nsd.pid\"\n xfrdfile: \"{dir}/xfrd.state\"\n \
                 xfrdir: \"{dir}\"\n zonelistfile: \"{dir}/zone.list\"\n server-count: 1\n \
                 logfile: \"{dir}/nsd.log\"\n rrl-ratelimit: 0\nremote-control:\n \
                 control-enable: no\nzone:\n name: example.com\n zonefile: example.zone\n"
            ),
        );
        let mut command = Command::new("nsd");
        command.arg("-d").arg("-c").arg(config);
        command
    };
    compare(&mut nsd, |query, ours, theirs| {
        essence(query, ours, theirs)?;
        if ours.truncated || query.rtype == ANY {
            return Ok(());
        }
        // It adds the zone's servers to what it finds.
        let found = !ours.answer().is_empty() && ours.authority().is_empty();
        if !found && ours.authority() != theirs.authority() {
            return Err("authority");
        }
        if !ours.additional().is_subset(theirs.additional()) {
            return Err("additional");
        }
        if ours.answer().is_empty() && ours.additional() != theirs.additional() {
            return Err("glue");
        }
        Ok(())
    });
}

#[test]
fn answers_are_those_of_knot() {
    if skip(&[Need::Namespaces, Need::IoUring, Need::Tool("knotd"), Need::Tool("kill")]) {
        return;
    }
    let mut knot = |folder: &Folder| {
        let dir = folder.0.display();
        let config = folder.write(
            "knot.conf",
            &format!(
                "server:\n    rundir: \"{dir}\"\n    listen: 127.0.0.1@5302\n    \
                 udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\ndatabase:\n    \
                 storage: \"{dir}\"\nzone:\n  - domain: example.com\n    storage: \"{dir}\"\n    \
                 file: example.zone\n    zonefile-sync: -1\n    journal-content: none\n"
            ),
        );
        let mut command = Command::new("knotd");
        command.arg("-c").arg(config);
        command
    };
    compare(&mut knot, |query, ours, theirs| {
        essence(query, ours, theirs)?;
        if ours.truncated || query.rtype == ANY {
            return Ok(());
        }
        if ours.authority() != theirs.authority() {
            return Err("authority");
        }
        if ours.additional() != theirs.additional() {
            return Err("additional");
        }
        Ok(())
    });
}
