//! [`Tree`]: from a name to the answers for it.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::answer::Answer;
use super::name;

/// Which answer each type gets.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// In the order of their numbers.
    pub(crate) types: Box<[(u16, u32)]>,
    /// The answer to type ANY.
    pub(crate) any: u32,
    /// The answer to all other types.
    pub(crate) other: u32,
}

/// A name that is there.
#[derive(Debug)]
pub(crate) struct Node {
    /// In lower case.
    pub(crate) name: name::Name,
    /// For questions for this name.
    pub(crate) here: Table,
    /// For questions for names below it that are not there.
    pub(crate) below: Table,
}

/// All names of all zones, and those above them, with their answers.
#[derive(Debug)]
pub(crate) struct Tree {
    answers: Box<[Answer]>,
    nodes: HashTable<Node>,
    hasher: DefaultHashBuilder,
}

impl Tree {
    pub(super) fn new(answers: Vec<Answer>, nodes: impl IntoIterator<Item = Node>) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::new();
        for node in nodes {
            let hash = |node: &Node| hasher.hash_one(&*node.name);
            table.insert_unique(hash(&node), node, hash);
        }
        Self { answers: answers.into(), nodes: table, hasher }
    }

    /// The answer to a question; the name is in lower case.
    ///
    /// A name that is there takes one look. For another one, the names above it are tried from the root
    /// down, so that a name of many labels takes no more looks than the zone is deep.
    #[inline]
    pub(crate) fn answer(&self, name: &[u8], rtype: u16) -> Option<&Answer> {
        /// The question for whatever there is.
        const ANY: u16 = 255;
        let table = match self.node(name) {
            Some(node) => &node.here,
            None => &self.nearest(name)?.below,
        };
        let answer = if rtype == ANY {
            table.any
        } else {
            let found = table.types.iter().find(|(known, _)| *known == rtype);
            found.map_or(table.other, |(_, answer)| *answer)
        };
        self.answers.get(answer as usize)
    }

    #[inline]
    fn node(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.find(self.hasher.hash_one(name), |node| *node.name == *name)
    }

    /// The nearest name above one that is not there.
    fn nearest(&self, name: &[u8]) -> Option<&Node> {
        // Where each label begins; a name of 255 bytes has 127 of them, and the root.
        let (mut starts, mut count, mut at) = ([0_u8; name::MAX_LEN / 2 + 1], 0, 0);
        while let Some(len) = name.get(at) {
            *starts.get_mut(count)? = at as u8;
            (count, at) = (count + 1, at + 1 + usize::from(*len));
        }
        let mut nearest = None;
        for start in starts.get(..count)?.iter().rev() {
            match self.node(name.get(usize::from(*start)..)?) {
                Some(node) => nearest = Some(node),
                None => break,
            }
        }
        nearest
    }
}
