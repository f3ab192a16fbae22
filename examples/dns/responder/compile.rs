//! From zones to tables: every answer that there can be, worked out in advance.
//!
//! Each name has two tables, one for questions for itself, one for questions for names below it that are
//! not there. What a wildcard stands for, what a delegation takes away and what does not exist are all in
//! the second one, so nothing is left to decide but which name is the nearest (RFC 1034, section 4.3.2;
//! RFC 4592).

use std::collections::{BTreeSet, HashMap};

use super::answer::{Answer, Builder, Rcode, Section};
use super::lookup::{Node, Table, Tree};
use super::name::{self, Name};
use super::zone::{Owner, Piece, RecordSet, Zone, ZoneError};

/// Types that decide how a name is answered.
const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const DS: u16 = 43;
/// A type that no record has.
const NONE: u16 = 0;

/// The longest chain of CNAME records that is followed.
const MAX_CHAIN: usize = 16;

/// What a zone has for a name.
#[derive(Clone, Copy, Debug)]
enum Found<'z> {
    /// Records; none for a name that only has others below it.
    Sets(&'z Owner),
    /// A delegation: its name and records.
    Cut(&'z Name, &'z Owner),
    Nothing,
    /// It is another zone's.
    Elsewhere,
}

/// The tree of all zones.
///
/// # Errors
///
/// When a record set is too long for any message, or two zones have one name.
pub(crate) fn compile(zones: &[Zone]) -> Result<Tree, ZoneError> {
    let mut sorted: Vec<&Zone> = zones.iter().collect();
    // A zone comes after those that it lies in, and takes its names from them.
    sorted.sort_by_key(|zone| name::ancestry(&zone.apex).count());
    let mut tree = Compiler::default();
    let refused = tree.keep(Answer { rcode: Rcode::Refused, ..Answer::default() });
    let outside = || Table { types: [].into(), any: refused, other: refused };
    tree.node(&[0], outside(), outside());
    for zone in &sorted {
        // Names above it, so that it is found from the root; they are what they were without it.
        let above: Vec<&[u8]> = name::ancestry(&zone.apex).skip(1).collect();
        for name in above.into_iter().rev() {
            if !tree.nodes.contains_key(name) {
                let nearest = name::ancestry(name).find_map(|name| tree.nodes.get(name));
                let below = nearest.map_or_else(outside, |node| node.below.clone());
                tree.node(name, below.clone(), below);
            }
        }
        let others = zones.iter().filter(|other| !std::ptr::eq(*other, *zone));
        let others: Vec<&[u8]> = others.map(|other| &*other.apex).collect();
        if others.contains(&&*zone.apex) {
            return Err(zone.wrong(&zone.apex, "is there twice"));
        }
        View::new(zone, &others).compile(&mut tree)?;
    }
    Ok(Tree::new(tree.answers, tree.nodes.into_values()))
}

/// What has been compiled.
#[derive(Debug, Default)]
struct Compiler {
    answers: Vec<Answer>,
    nodes: HashMap<Name, Node>,
}

impl Compiler {
    fn keep(&mut self, answer: Answer) -> u32 {
        self.answers.push(answer);
        self.answers.len() as u32 - 1
    }

    fn node(&mut self, name: &[u8], here: Table, below: Table) {
        let name: Name = name.into();
        self.nodes.insert(name.clone(), Node { name, here, below });
    }
}

/// A zone, and what is left out of it because other zones have it.
struct View<'z> {
    zone: &'z Zone,
    /// Zones inside of this one.
    inner: Vec<&'z [u8]>,
    /// Names that have records or others below them, in lower case, without those below delegations.
    names: BTreeSet<&'z [u8]>,
    empty: Owner,
    /// The SOA record as negative answers have it (RFC 2308, section 3).
    negative: RecordSet,
}

impl<'z> View<'z> {
    fn new(zone: &'z Zone, others: &[&'z [u8]]) -> Self {
        let within = |other: &&&[u8]| name::is_within(other, &zone.apex);
        let inner: Vec<&[u8]> = others.iter().filter(within).copied().collect();
        let mut view = Self {
            zone,
            inner,
            names: BTreeSet::new(),
            empty: Owner::new(),
            negative: negative(zone),
        };
        let cut = |name: &[u8]| {
            let sets = zone.owners.get(name);
            name != &*zone.apex && sets.is_some_and(|sets| sets.contains_key(&NS))
        };
        let owners = zone.owners.keys().map(|owner| &**owner);
        for owner in owners.chain(view.inner.iter().copied()) {
            let above: Vec<&[u8]> =
                name::ancestry(owner).take_while(|name| *name != &*zone.apex).collect();
            // From the zone's name down to the first delegation.
            view.names.insert(&zone.apex);
            for name in above.into_iter().rev() {
                view.names.insert(name);
                if cut(name) {
                    break;
                }
            }
        }
        view
    }

    fn compile(&self, tree: &mut Compiler) -> Result<(), ZoneError> {
        let nodata = tree.keep(self.answer(&self.zone.apex, Found::Sets(&self.empty), NONE)?);
        let nothing = tree.keep(self.answer(&self.zone.apex, Found::Nothing, NONE)?);
        for &name in &self.names {
            let here = match self.find(name) {
                // Another zone's nodes are its own.
                Found::Elsewhere => continue,
                found => self.table(tree, name, found, nodata)?,
            };
            let wildcard = name::wildcard(name);
            let below = if let Found::Cut(..) = self.find(name) {
                // Whatever the type: below it this zone knows nothing.
                Table { types: [].into(), any: here.other, other: here.other }
            } else if self.names.contains(&*wildcard) {
                self.table(tree, name, self.find(&wildcard), nodata)?
            } else {
                Table { types: [].into(), any: nothing, other: nothing }
            };
            tree.node(name, here, below);
        }
        Ok(())
    }

    /// The answers to all questions for one name; `name` is how far the name is known.
    fn table(
        &self,
        tree: &mut Compiler,
        name: &[u8],
        found: Found<'_>,
        nodata: u32,
    ) -> Result<Table, ZoneError> {
        let mut keep = |rtype| Ok(tree.keep(self.answer(name, found, rtype)?));
        let types = self.types(found);
        let types: Result<Box<[_]>, ZoneError> =
            types.into_iter().map(|rtype| Ok((rtype, keep(rtype)?))).collect();
        let types = types?;
        let (any, other) = match found {
            Found::Sets(sets) => {
                // One set is enough (RFC 8482, section 4.1).
                let first = sets.keys().next();
                let any = types.iter().find(|(rtype, _)| Some(rtype) == first);
                let other = if sets.contains_key(&CNAME) { keep(NONE)? } else { nodata };
                (any.map_or(nodata, |(_, answer)| *answer), other)
            }
            _ => {
                let referral = keep(NONE)?;
                (referral, referral)
            }
        };
        Ok(Table { types, any, other })
    }

    /// The types whose answers differ from that to all others.
    fn types(&self, found: Found<'_>) -> BTreeSet<u16> {
        let mut types = BTreeSet::new();
        let mut found = found;
        for _ in 0..=MAX_CHAIN {
            match found {
                Found::Sets(sets) => types.extend(sets.keys()),
                Found::Cut(..) => types.extend([DS]),
                Found::Nothing | Found::Elsewhere => break,
            }
            let Found::Sets(sets) = found else { break };
            let Some(target) = sets.get(&CNAME).and_then(target) else { break };
            found = self.find(&name::lower(target));
        }
        types
    }

    /// What the zone has for a name, in lower case.
    fn find(&self, name: &[u8]) -> Found<'_> {
        let inner = self.inner.iter().any(|other| name::is_within(name, other));
        if inner || !name::is_within(name, &self.zone.apex) {
            return Found::Elsewhere;
        }
        let mut above: Vec<&[u8]> =
            name::ancestry(name).take_while(|name| *name != &*self.zone.apex).collect();
        let mut nearest: &[u8] = &self.zone.apex;
        while let Some(next) = above.pop() {
            if !self.names.contains(next) {
                let wildcard = name::wildcard(nearest);
                return match self.zone.owners.get(&wildcard) {
                    Some(sets) if self.names.contains(&*wildcard) => Found::Sets(sets),
                    _ if self.names.contains(&*wildcard) => Found::Sets(&self.empty),
                    _ => Found::Nothing,
                };
            }
            nearest = next;
            if let Some((owner, sets)) = self.zone.owners.get_key_value(nearest)
                && sets.contains_key(&NS)
            {
                return Found::Cut(owner, sets);
            }
        }
        Found::Sets(self.zone.owners.get(name).unwrap_or(&self.empty))
    }

    /// The answer to a question of a type for a name (or those below it), of which this was found.
    fn answer(&self, name: &[u8], found: Found<'_>, rtype: u16) -> Result<Answer, ZoneError> {
        let mut builder = Builder::new(name);
        let (mut found, mut owner): (_, Option<&[u8]>) = (found, None);
        let mut asked_for: Vec<&[u8]> = Vec::new();
        let mut targets: Vec<&[u8]> = Vec::new();
        let asked_exactly = |cut: &Name, owner: Option<&[u8]>| {
            owner.map_or(**cut == *name, |owner| **cut == *name::lower(owner))
        };
        // What must be in the message; what is only useful comes behind it.
        loop {
            match found {
                Found::Elsewhere => break,
                Found::Nothing => {
                    builder.rcode(Rcode::NxDomain);
                    self.deny(&mut builder);
                    break;
                }
                Found::Cut(cut, sets) if rtype == DS && asked_exactly(cut, owner) => {
                    // The parent's data, not the child's (RFC 4035, section 3.1.4.1).
                    builder.authoritative();
                    match sets.get(&DS) {
                        Some(set) => builder.add(Section::Answer, owner, DS, set),
                        None => self.deny(&mut builder),
                    }
                    break;
                }
                Found::Cut(cut, sets) => {
                    if let Some(set) = sets.get(&NS) {
                        builder.add(Section::Authority, Some(cut), NS, set);
                        self.refer(&mut builder, cut, set);
                    }
                    break;
                }
                Found::Sets(sets) => {
                    builder.authoritative();
                    if let Some(set) = sets.get(&rtype) {
                        builder.add(Section::Answer, owner, rtype, set);
                        targets.extend(targets_of(rtype, set));
                        break;
                    }
                    let Some((set, next)) =
                        sets.get(&CNAME).and_then(|set| Some((set, target(set)?)))
                    else {
                        self.deny(&mut builder);
                        break;
                    };
                    builder.add(Section::Answer, owner, CNAME, set);
                    if asked_for.contains(&next) || asked_for.len() == MAX_CHAIN {
                        break;
                    }
                    asked_for.push(next);
                    owner = Some(next);
                    found = self.find(&name::lower(next));
                }
            }
        }
        builder.may_end_here();
        for target in distinct(targets) {
            self.add_addresses(&mut builder, target);
        }
        builder.finish().map_err(|_| self.zone.wrong(name, "has more records than fit a message"))
    }

    /// That there is nothing: the zone's SOA record.
    fn deny(&self, builder: &mut Builder) {
        builder.authoritative();
        builder.add(Section::Authority, Some(&self.zone.apex), SOA, &self.negative);
    }

    /// Adds the addresses of a delegation's servers: first those without which it leads nowhere, because
    /// their names lie below it (RFC 9471), then the others that the zone has.
    fn refer(&self, builder: &mut Builder, cut: &[u8], set: &RecordSet) {
        let servers = distinct(targets_of(NS, set));
        let inside = |server: &&&[u8]| name::is_within(&name::lower(server), cut);
        for server in servers.iter().filter(inside) {
            self.addresses(server, |rtype, set| {
                builder.add(Section::Additional, Some(server), rtype, set);
            });
        }
        builder.may_end_here();
        for server in servers.iter().filter(|server| !inside(server)) {
            self.add_addresses(builder, server);
        }
    }

    /// Adds the addresses of a name, each set of which may be left out.
    fn add_addresses(&self, builder: &mut Builder, name: &[u8]) {
        self.addresses(name, |rtype, set| {
            builder.add(Section::Additional, Some(name), rtype, set);
            builder.may_end_here();
        });
    }

    fn addresses(&self, name: &[u8], mut each: impl FnMut(u16, &RecordSet)) {
        let name = name::lower(name);
        // Those of a delegation are glue; they count here although they are not this zone's own.
        let sets = match self.zone.owners.get(&name) {
            Some(sets) => sets,
            None => match self.find(&name) {
                Found::Sets(sets) => sets,
                _ => return,
            },
        };
        for rtype in [A, AAAA] {
            if let Some(set) = sets.get(&rtype) {
                each(rtype, set);
            }
        }
    }
}

/// Where a CNAME leads to.
fn target(cname: &RecordSet) -> Option<&[u8]> {
    match cname.data.first()?.first()? {
        Piece::Name(name) => Some(name),
        Piece::Bytes(_) => None,
    }
}

/// The names in a record set whose addresses whoever asked will want next (RFC 1035, section 3.3; RFC
/// 2782).
fn targets_of(rtype: u16, set: &RecordSet) -> impl Iterator<Item = &[u8]> {
    set.data.iter().filter_map(move |data| match (rtype, data.last()?) {
        (NS | MX, Piece::Name(name)) => Some(&**name),
        // Priority, weight and port come before the name, which is not to be compressed.
        (SRV, Piece::Bytes(bytes)) => bytes.get(6..),
        _ => None,
    })
}

/// Each name once.
fn distinct<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Vec<&'n [u8]> {
    let mut seen = BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name::lower(name))).collect()
}

/// The SOA record with the time that a denial may be kept (RFC 2308, section 3).
fn negative(zone: &Zone) -> RecordSet {
    let soa = zone.owners.get(&zone.apex).and_then(|sets| sets.get(&SOA));
    let Some(soa) = soa else { return RecordSet { ttl: 0, data: Vec::new() } };
    let minimum = soa.data.first().and_then(|data| match data.last()? {
        Piece::Bytes(bytes) => bytes.last_chunk().map(|minimum| u32::from_be_bytes(*minimum)),
        Piece::Name(_) => None,
    });
    RecordSet { ttl: soa.ttl.min(minimum.unwrap_or(0)), data: soa.data.clone() }
}
