//! Queries, and responses as sets of records, read by the parser of other hands.

use std::collections::BTreeSet;

use domain::base::Message;
use domain::base::iana::{Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::rdata::AllRecordData;

/// A query for a name as people write it.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) rtype: u16,
    /// The payload size of the OPT record, if there is one.
    pub(crate) edns: Option<u16>,
}

impl Query {
    pub(crate) fn new(name: &str, rtype: u16) -> Self {
        Self { name: name.to_owned(), rtype, edns: None }
    }

    /// The message.
    pub(crate) fn message(&self, id: u16) -> Vec<u8> {
        let name: domain::base::Name<Vec<u8>> = self.name.parse().unwrap();
        let mut message = id.to_be_bytes().to_vec();
        // Recursion desired, as a stub resolver has it; one question.
        message.extend([0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        message.extend(name.as_slice());
        message.extend(self.rtype.to_be_bytes());
        message.extend([0, 1]);
        if let Some(payload) = self.edns {
            message.extend([0, 0, 41]);
            message.extend(payload.to_be_bytes());
            message.extend([0; 6]);
        }
        message
    }
}

/// A response, comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) rcode: Rcode,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    pub(crate) edns: bool,
    /// Answer, authority, additional without the OPT record: each record in presentation form, in lower
    /// case.
    pub(crate) sections: [BTreeSet<String>; 3],
    /// The records as they come, in all sections; more than there are in the sets if some come twice.
    pub(crate) records: usize,
}

impl Response {
    /// Reads a response; every record in it must be well-formed.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let message = Message::from_octets(bytes).map_err(|error| error.to_string())?;
        let header = message.header();
        if !header.qr() {
            return Err("it is no response".to_owned());
        }
        let (_, answer, authority, additional) =
            message.sections().map_err(|error| error.to_string())?;
        let (mut records, mut edns) = (0, false);
        let mut set = |section: RecordSection<'_, &[u8]>| {
            let mut set = BTreeSet::new();
            for record in section {
                let record = record.map_err(|error| error.to_string())?;
                if record.rtype() == Rtype::OPT {
                    edns = true;
                    continue;
                }
                let record = record.to_any_record::<AllRecordData<_, _>>();
                let record = record.map_err(|error| error.to_string())?;
                records += 1;
                set.insert(record.to_string().to_lowercase());
            }
            Ok::<_, String>(set)
        };
        let sections = [set(answer)?, set(authority)?, set(additional)?];
        let rcode = message.opt().map_or_else(
            || header.rcode(),
            |opt| {
                let extended = opt.rcode(header);
                Rcode::masked_from_int((extended.to_int() & 0xf) as u8)
            },
        );
        Ok(Self {
            rcode,
            authoritative: header.aa(),
            truncated: header.tc(),
            edns,
            sections,
            records,
        })
    }

    /// The sections, by name.
    pub(crate) fn answer(&self) -> &BTreeSet<String> {
        &self.sections[0]
    }

    pub(crate) fn authority(&self) -> &BTreeSet<String> {
        &self.sections[1]
    }

    pub(crate) fn additional(&self) -> &BTreeSet<String> {
        &self.sections[2]
    }
}
