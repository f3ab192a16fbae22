//! [`Zone`]: the records of a zone file, checked, by name and type.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use domain::base::iana::{Class, Rtype};
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData as _;
use domain::rdata::ZoneRecordData;
use domain::zonefile::inplace::{Entry, ScannedRecord, ScannedRecordData, Zonefile};

use super::name::{self, Name};

/// The longest time to live that means what it says (RFC 2181, section 8).
const MAX_TTL: u32 = i32::MAX as u32;
/// Files that include each other end here.
const MAX_INCLUDES: usize = 8;

/// Everything that a zone file says, checked as far as answers depend on it.
#[derive(Debug)]
pub(crate) struct Zone {
    /// The name of the zone, in lower case.
    pub(crate) apex: Name,
    /// By name in lower case.
    pub(crate) owners: BTreeMap<Name, Owner>,
    /// How many records there are.
    pub(crate) records: usize,
}

/// The record sets of one name, by type.
pub(crate) type Owner = BTreeMap<u16, RecordSet>;

/// Records of one name and type (RFC 2181, section 5).
#[derive(Debug)]
pub(crate) struct RecordSet {
    /// Seconds; the least of the records', which should all have the same.
    pub(crate) ttl: u32,
    /// Each once.
    pub(crate) data: Vec<Vec<Piece>>,
}

/// A part of a record's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it stands.
    Bytes(Vec<u8>),
    /// A name that may be compressed: those of RFC 1035's types only (RFC 3597, section 4).
    Name(Name),
}

/// What is wrong with a zone file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ZoneError {
    /// It cannot be read.
    #[error("cannot read zone file {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is no zone file.
    #[error("{}: {why}", .path.display())]
    Syntax { path: PathBuf, why: String },
    /// Its records make no zone.
    #[error("zone {zone}: {name} {why}")]
    Content { zone: String, name: String, why: &'static str },
}

impl Zone {
    /// Reads a zone file; names in it that do not end in a dot are of zone `apex`.
    pub(crate) fn load(apex: &str, path: &Path) -> Result<Self, ZoneError> {
        let mut zone = Self::new(apex, path)?;
        let origin = zone.origin();
        zone.add(path, &read(path)?, origin, MAX_INCLUDES)?;
        zone.check()?;
        Ok(zone)
    }

    /// Reads a zone from a text that has the form of a zone file.
    pub(crate) fn parse(apex: &str, text: &str) -> Result<Self, ZoneError> {
        let here = Path::new("zone");
        let mut zone = Self::new(apex, here)?;
        let origin = zone.origin();
        zone.add(here, text, origin, MAX_INCLUDES)?;
        zone.check()?;
        Ok(zone)
    }

    fn new(apex: &str, path: &Path) -> Result<Self, ZoneError> {
        let name: Result<domain::base::Name<Vec<u8>>, _> = apex.parse();
        let name = name.map_err(|error| syntax(path, format!("{apex} is no name: {error}")))?;
        let apex = name::lower(name.as_slice());
        Ok(Self { apex, owners: BTreeMap::new(), records: 0 })
    }

    fn origin(&self) -> domain::base::Name<Bytes> {
        let apex = Bytes::copy_from_slice(&self.apex);
        domain::base::Name::from_octets(apex).unwrap_or_else(|_| domain::base::Name::root())
    }

    fn add(
        &mut self,
        path: &Path,
        text: &str,
        origin: domain::base::Name<Bytes>,
        includes: usize,
    ) -> Result<(), ZoneError> {
        let mut file = Zonefile::from(text);
        // The last line counts, also without an end.
        file.extend_from_slice(b"\n");
        file.set_origin(origin);
        file.set_default_class(Class::IN);
        while let Some(entry) =
            file.next_entry().map_err(|error| syntax(path, error.to_string()))?
        {
            match entry {
                Entry::Record(record) => self.add_record(&record)?,
                Entry::Include { .. } if includes == 0 => {
                    return Err(syntax(path, "files include files too deep".to_owned()));
                }
                Entry::Include { path: other, origin } => {
                    let folder = path.parent().unwrap_or(Path::new(""));
                    let origin = origin.or(file.origin().ok()).unwrap_or_else(|| self.origin());
                    let other = folder.join(&*other);
                    // The time to live goes on into the file; the parser does not hand it out.
                    let mut included = last_ttl(text.get(..file.current_offset()).unwrap_or(text));
                    included.push_str(&read(&other)?);
                    self.add(&other, &included, origin, includes - 1)?;
                }
            }
        }
        Ok(())
    }

    fn add_record(&mut self, record: &ScannedRecord) -> Result<(), ZoneError> {
        let owner = wire(record.owner());
        let key = name::lower(&owner);
        if !name::is_within(&key, &self.apex) {
            return Err(self.wrong(&owner, "lies outside of the zone"));
        }
        if record.class() != Class::IN {
            return Err(self.wrong(&owner, "has a record of another class than IN"));
        }
        if let Rtype::DNAME | Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3 | Rtype::NSEC3PARAM =
            record.rtype()
        {
            let why = "has a DNAME, or is signed; neither is served here";
            return Err(self.wrong(&owner, why));
        }
        let ttl = Some(record.ttl().as_secs()).filter(|ttl| *ttl <= MAX_TTL).unwrap_or(0);
        let sets = self.owners.entry(key).or_default();
        let set = sets.entry(record.rtype().to_int());
        let set = set.or_insert(RecordSet { ttl, data: Vec::new() });
        set.ttl = set.ttl.min(ttl);
        let data = pieces(record.data());
        if !set.data.contains(&data) {
            set.data.push(data);
            self.records += 1;
        }
        Ok(())
    }

    /// What answers rely on.
    fn check(&self) -> Result<(), ZoneError> {
        let apex = self.owners.get(&self.apex);
        let count = |rtype: Rtype| {
            apex.and_then(|sets| sets.get(&rtype.to_int())).map_or(0, |set| set.data.len())
        };
        if count(Rtype::SOA) != 1 {
            return Err(self.wrong(&self.apex, "needs one SOA record"));
        }
        if count(Rtype::NS) == 0 {
            return Err(self.wrong(&self.apex, "needs an NS record"));
        }
        for (owner, sets) in &self.owners {
            let cnames = sets.get(&Rtype::CNAME.to_int()).map_or(0, |set| set.data.len());
            if cnames > 1 || (cnames == 1 && sets.len() > 1) {
                let why = "has a CNAME and other records (RFC 2181, section 10.1)";
                return Err(self.wrong(owner, why));
            }
            if owner.starts_with(b"\x01*") && sets.contains_key(&Rtype::NS.to_int()) {
                let why =
                    "is a wildcard that delegates, which has no meaning (RFC 4592, section 4.2)";
                return Err(self.wrong(owner, why));
            }
            if *owner != self.apex && sets.contains_key(&Rtype::SOA.to_int()) {
                return Err(self.wrong(owner, "has a SOA record, and is not the zone's name"));
            }
        }
        Ok(())
    }

    pub(super) fn wrong(&self, owner: &[u8], why: &'static str) -> ZoneError {
        ZoneError::Content { zone: name::text(&self.apex), name: name::text(owner), why }
    }
}

fn read(path: &Path) -> Result<String, ZoneError> {
    fs::read_to_string(path).map_err(|source| ZoneError::Read { path: path.to_owned(), source })
}

/// The last `$TTL` line, if there is one.
fn last_ttl(text: &str) -> String {
    let is_ttl = |line: &&str| line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("$TTL "));
    text.lines().rfind(is_ttl).map_or_else(String::new, |line| format!("{line}\n"))
}

fn syntax(path: &Path, why: String) -> ZoneError {
    ZoneError::Syntax { path: path.to_owned(), why }
}

fn wire(name: &impl ToName) -> Name {
    name.to_vec().into_octets().into()
}

/// A name in a record's data. The parser knows `@` as an owner only, and takes it for a label here.
fn target(name: &impl ToName) -> Name {
    let name = wire(name);
    name.strip_prefix(b"\x01@").map_or(name.clone(), Name::from)
}

/// A record's data, taken apart where names may be compressed.
fn pieces(data: &ScannedRecordData) -> Vec<Piece> {
    use Piece::{Bytes, Name};
    match data {
        ZoneRecordData::Ns(ns) => vec![Name(target(ns.nsdname()))],
        ZoneRecordData::Cname(cname) => vec![Name(target(cname.cname()))],
        ZoneRecordData::Ptr(ptr) => vec![Name(target(ptr.ptrdname()))],
        ZoneRecordData::Mx(mx) => {
            vec![Bytes(mx.preference().to_be_bytes().into()), Name(target(mx.exchange()))]
        }
        ZoneRecordData::Srv(srv) => {
            let numbers = [srv.priority(), srv.weight(), srv.port()].map(u16::to_be_bytes).concat();
            // Never compressed (RFC 2782).
            vec![Bytes([&numbers, &*target(srv.target())].concat())]
        }
        ZoneRecordData::Soa(soa) => {
            let times = [soa.refresh(), soa.retry(), soa.expire(), soa.minimum()];
            let times = times.iter().flat_map(|time| time.as_secs().to_be_bytes());
            let numbers = soa.serial().into_int().to_be_bytes().into_iter().chain(times).collect();
            vec![Name(target(soa.mname())), Name(target(soa.rname())), Bytes(numbers)]
        }
        other => {
            let mut bytes = Vec::new();
            // A vector takes everything.
            let Ok(()) = other.compose_rdata(&mut bytes);
            vec![Bytes(bytes)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "$TTL 300\n@ SOA ns host 1 2 3 4 5\n@ NS ns\n";

    #[test]
    fn a_zone_file_is_read_with_its_shorthands() {
        let text = format!("{START}$ORIGIN sub\nwww 60 IN A 192.0.2.1\n    A 192.0.2.2 ; same\n");
        let zone = Zone::parse("Example.", &text).unwrap();
        let set = &zone.owners[&b"\x03www\x03sub\x07example\x00"[..]][&1];
        assert_eq!((set.ttl, set.data.len()), (60, 2));
        assert_eq!(zone.records, 4);
        // `@` is the zone's name in data, too.
        let zone = Zone::parse("example.", &format!("{START}a 5 CNAME @\n")).unwrap();
        let data = &zone.owners[&b"\x01a\x07example\x00"[..]][&5].data;
        assert_eq!(*data, [[Piece::Name(b"\x07example\x00"[..].into())]]);
        // A record that comes twice is one; the least time to live holds.
        let text = format!("{START}a 9 A 192.0.2.1\na 8 A 192.0.2.1");
        let zone = Zone::parse("example.", &text).unwrap();
        let set = &zone.owners[&b"\x01a\x07example\x00"[..]][&1];
        assert_eq!((set.ttl, set.data.len()), (8, 1));
    }

    #[test]
    fn what_makes_no_zone_is_refused_with_a_reason() {
        for (text, why) in [
            ("@ 5 NS ns\n", "needs one SOA"),
            ("@ 5 SOA ns host 1 2 3 4 5\n", "needs an NS"),
            (&format!("{START}a CNAME b\na A 192.0.2.1\n"), "a.example. has a CNAME and other"),
            (&format!("{START}a.test. A 192.0.2.1\n"), "outside of the zone"),
            (&format!("{START}a DNAME b\n"), "has a DNAME"),
            (&format!("{START}a A 1.2.3\n"), "expected IPv4 address"),
            (&format!("{START}$INCLUDE /there/is/none\n"), "/there/is/none"),
        ] {
            let error = Zone::parse("example.", text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
