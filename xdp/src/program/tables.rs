//! A [`Filter`] in the shape of the program's maps, and the maps.
//!
//! Numbers and layouts here are those of `bpf/steer.bpf.c`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use libbpf_rs::{ErrorKind, MapCore as _, MapFlags, MapHandle};
use rustix::thread::{MembarrierCommand, membarrier};

use super::error::ProgramError;
use super::filter::{Filter, Rule, Transport};

const SETS: u32 = 64;
const WORDS_PER_SET: u32 = 65_536 / 64;

const SET_ETHER_TYPES: u32 = 0;
/// Ports at whatever address; behind it lie the pairs that prefixes name.
const SET_PORTS: u32 = 1;
const FIRST_PAIR: u32 = SET_PORTS + 2;
/// Different lists of ports that prefixes may have.
const PAIRS: usize = ((SETS - FIRST_PAIR) / 2) as usize;

const EVERY_PACKET: u32 = 0;
/// Prefixes of each address family.
const MAX_PREFIXES: usize = 2048;

const RULE_EVERYTHING: u32 = 1 << 0;
const RULE_ETHER_TYPES: u32 = 1 << 1;
const RULE_PORTS: u32 = 1 << 2;
const RULE_PREFIXES_V4: u32 = 1 << 3;
const RULE_PREFIXES_V6: u32 = 1 << 4;

/// A filter as the program reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tables {
    rules: u32,
    /// Words of the bit sets that are not zero.
    words: BTreeMap<u32, u64>,
    /// For each prefix: the first of its two sets of ports, or [`EVERY_PACKET`].
    prefixes: BTreeMap<IpNet, u32>,
}

/// The ports of one list, as members of the two sets of a pair.
type Ports = BTreeSet<(Transport, u16)>;

impl Tables {
    fn new(filter: &Filter) -> Result<Self, ProgramError> {
        let mut tables = Self::default();
        for rule in &filter.rules {
            match *rule {
                Rule::Everything => tables.rules |= RULE_EVERYTHING,
                Rule::EtherType(ether_type) => {
                    tables.rules |= RULE_ETHER_TYPES;
                    tables.add(SET_ETHER_TYPES, ether_type);
                }
                Rule::Port { to: None, transport, port } => {
                    tables.rules |= RULE_PORTS;
                    tables.add_port(SET_PORTS, transport, port);
                }
                Rule::To(prefix) | Rule::Port { to: Some(prefix), .. } => {
                    tables.rules |= match prefix {
                        IpNet::V4(_) => RULE_PREFIXES_V4,
                        IpNet::V6(_) => RULE_PREFIXES_V6,
                    };
                    tables.prefixes.insert(prefix, EVERY_PACKET);
                }
            }
        }
        tables.add_prefixes(filter)?;
        Ok(tables)
    }

    /// The program finds the longest prefix only, so each takes over what the shorter ones that hold
    /// it say.
    fn add_prefixes(&mut self, filter: &Filter) -> Result<(), ProgramError> {
        let v4 = self.prefixes.keys().filter(|prefix| matches!(prefix, IpNet::V4(_))).count();
        for given in [v4, self.prefixes.len() - v4] {
            if given > MAX_PREFIXES {
                let what = "prefixes of one address family";
                return Err(ProgramError::FilterTooLarge { what, given, room: MAX_PREFIXES });
            }
        }
        let prefixes: Vec<IpNet> = self.prefixes.keys().copied().collect();
        let mut pairs: BTreeMap<Ports, u32> = BTreeMap::new();
        for prefix in prefixes {
            let Some(ports) = ports_at(filter, &prefix) else { continue };
            // Where there are too many, the count goes on, for the message.
            let next = FIRST_PAIR + 2 * pairs.len() as u32;
            self.prefixes.insert(prefix, *pairs.entry(ports).or_insert(next));
        }
        if pairs.len() > PAIRS {
            let what = "different lists of ports at prefixes";
            return Err(ProgramError::FilterTooLarge { what, given: pairs.len(), room: PAIRS });
        }
        for (ports, set) in pairs {
            for (transport, port) in ports {
                self.add_port(set, transport, port);
            }
        }
        Ok(())
    }

    fn add_port(&mut self, pair: u32, transport: Transport, port: u16) {
        self.add(pair + u32::from(transport == Transport::Tcp), port);
    }

    fn add(&mut self, set: u32, member: u16) {
        let word = set * WORDS_PER_SET + u32::from(member) / 64;
        *self.words.entry(word).or_default() |= 1 << (member % 64);
    }
}

/// The ports that the filter takes at a prefix; `None` where it takes every packet.
fn ports_at(filter: &Filter, prefix: &IpNet) -> Option<Ports> {
    let mut ports = Ports::new();
    for rule in &filter.rules {
        match *rule {
            Rule::To(shorter) if shorter.contains(prefix) => return None,
            Rule::Port { to: Some(shorter), transport, port } if shorter.contains(prefix) => {
                ports.insert((transport, port));
            }
            _ => {}
        }
    }
    Some(ports)
}

/// The maps of one loaded program, and what was written to them.
#[derive(Debug)]
pub(super) struct FilterMaps {
    pub(super) config: MapHandle,
    pub(super) sets: MapHandle,
    pub(super) prefixes_v4: MapHandle,
    pub(super) prefixes_v6: MapHandle,
    state: State,
}

/// What the maps hold.
#[derive(Debug, Default)]
struct State {
    active: u32,
    rules: [u32; 2],
    /// What was written to each slot since it was last cleared, or was to be.
    written: [Tables; 2],
}

impl FilterMaps {
    pub(super) fn new(
        config: MapHandle,
        sets: MapHandle,
        prefixes_v4: MapHandle,
        prefixes_v6: MapHandle,
    ) -> Self {
        Self { config, sets, prefixes_v4, prefixes_v6, state: State::default() }
    }

    /// Whether this filter is in force.
    pub(super) fn are(&self, filter: &Filter) -> bool {
        let active = &self.state.written[self.state.active as usize];
        Tables::new(filter).is_ok_and(|tables| tables == *active)
    }

    /// Puts a filter in force, and waits until it is the only one (`membarrier(2)`, which waits for
    /// a grace period of RCU). Every packet is judged by the old one or by the new one, never by
    /// parts of both; after an error the old one stays.
    pub(super) fn set(&mut self, filter: &Filter) -> Result<(), ProgramError> {
        let tables = Tables::new(filter)?;
        // The slot that no packet has been judged by since the last change.
        let slot = 1 - self.state.active;
        self.clear(slot)?;
        let rules = tables.rules;
        // Before writing, so that what an error leaves half done is cleared the next time.
        self.state.written[slot as usize] = tables;
        self.write(slot)?;
        let mut rules_of = self.state.rules;
        rules_of[slot as usize] = rules;
        self.configure(self.state.active, rules_of)?;
        self.state.rules = rules_of;
        self.configure(slot, rules_of)?;
        self.state.active = slot;
        // Until every packet that the old filter is judging is done: its slot is the next to be
        // cleared. Kernels with `nohz_full` processors have no such wait; there, a packet must be
        // judged faster than the filter changes twice.
        let _unsupported = membarrier(MembarrierCommand::Global);
        Ok(())
    }

    fn write(&self, slot: u32) -> Result<(), ProgramError> {
        let tables = &self.state.written[slot as usize];
        for (word, bits) in &tables.words {
            self.write_word(slot, *word, *bits)?;
        }
        for (prefix, set) in &tables.prefixes {
            let (map, key) = self.prefix_key(slot, prefix);
            map.update(&key, &set.to_ne_bytes(), MapFlags::ANY)
                .map_err(ProgramError::map(format!("add {prefix} to the XDP program's filter")))?;
        }
        Ok(())
    }

    fn clear(&mut self, slot: u32) -> Result<(), ProgramError> {
        let tables = &self.state.written[slot as usize];
        for word in tables.words.keys() {
            self.write_word(slot, *word, 0)?;
        }
        for prefix in tables.prefixes.keys() {
            let (map, key) = self.prefix_key(slot, prefix);
            match map.delete(&key) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    let attempt = format!("remove {prefix} from the XDP program's filter");
                    return Err(ProgramError::map(attempt)(error));
                }
                _ => {}
            }
        }
        self.state.written[slot as usize] = Tables::default();
        Ok(())
    }

    fn write_word(&self, slot: u32, word: u32, bits: u64) -> Result<(), ProgramError> {
        let index = slot * SETS * WORDS_PER_SET + word;
        self.sets
            .update(&index.to_ne_bytes(), &bits.to_ne_bytes(), MapFlags::ANY)
            .map_err(ProgramError::map("write a port set of the XDP program's filter"))
    }

    /// `active` differs from what is there in its lowest bit at most, and the rules of the active
    /// slot not at all: however the kernel copies the bytes, the program reads one or the other.
    fn configure(&self, active: u32, rules: [u32; 2]) -> Result<(), ProgramError> {
        let value = [active, rules[0], rules[1]].map(u32::to_ne_bytes);
        self.config
            .update(&0u32.to_ne_bytes(), value.as_flattened(), MapFlags::ANY)
            .map_err(ProgramError::map("switch the XDP program's filter"))
    }

    /// The map that a prefix belongs to, and its key there: length, slot, address.
    fn prefix_key(&self, slot: u32, prefix: &IpNet) -> (&MapHandle, Vec<u8>) {
        let bits = 32 + u32::from(prefix.prefix_len());
        let mut key = [bits.to_ne_bytes(), slot.to_ne_bytes()].concat();
        let map = match prefix.network() {
            IpAddr::V4(address) => {
                key.extend(address.octets());
                &self.prefixes_v4
            }
            IpAddr::V6(address) => {
                key.extend(address.octets());
                &self.prefixes_v6
            }
        };
        (map, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_longer_prefix_takes_over_what_the_shorter_says() {
        let filter = Filter::new()
            .udp_at(net("10.0.0.0/8"), [1])
            .tcp_at(net("10.1.0.0/16"), [2])
            .udp_at(net("11.0.0.0/8"), [1])
            .to(net("10.1.2.0/24"))
            .udp_at(net("10.1.2.3/32"), [9]);
        let tables = Tables::new(&filter).unwrap();
        let set = |text| tables.prefixes[&net(text)];
        assert_eq!(set("10.0.0.0/8"), set("11.0.0.0/8"), "one list, one pair of sets");
        assert_ne!(set("10.0.0.0/8"), set("10.1.0.0/16"));
        assert_eq!(set("10.1.2.0/24"), EVERY_PACKET);
        assert_eq!(set("10.1.2.3/32"), EVERY_PACKET, "inside what is taken whole");
        let longer = set("10.1.0.0/16") * WORDS_PER_SET;
        assert_eq!(tables.words[&longer], 1 << 1, "UDP port 1 of the shorter");
        assert_eq!(tables.words[&(longer + WORDS_PER_SET)], 1 << 2, "TCP port 2 of its own");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let mut filter = Filter::new();
        for i in 0..=PAIRS as u16 {
            filter = filter.udp_at(IpNet::new([10, 0, 0, i as u8].into(), 32).unwrap(), [i]);
        }
        let error = Tables::new(&filter).unwrap_err().to_string();
        assert!(error.contains("31 different lists of ports"), "{error}");
        assert!(error.ends_with("room for 30"), "{error}");

        let mut filter = Filter::new();
        for i in 0..=MAX_PREFIXES as u32 {
            filter = filter.to(IpNet::new(std::net::Ipv4Addr::from(i).into(), 32).unwrap());
        }
        let error = Tables::new(&filter).unwrap_err().to_string();
        assert!(error.contains("2049 prefixes"), "{error}");
    }
}
