//! From a query to its response, over any transport.
//!
//! | module | what it does |
//! |---|---|
//! | [`zone`] | reads zone files and checks them |
//! | [`compile`] | works every answer out |
//! | [`answer`] | an answer as it is stored: compressed, fit for names of many lengths |
//! | [`lookup`] | finds the answer to a name and type |
//! | [`query`] | reads queries, writes responses over them |
//! | [`counts`] | counts both |
//! | [`name`] | names in wire form |

pub(crate) mod answer;
pub(crate) mod compile;
pub(crate) mod counts;
pub(crate) mod lookup;
pub(crate) mod name;
pub(crate) mod query;
pub(crate) mod zone;

use lookup::Tree;
use query::{Reply, Silence, Transport};
use zone::{Zone, ZoneError};

/// Answers for zones.
#[derive(Debug)]
pub(crate) struct Responder {
    tree: Tree,
}

impl Responder {
    /// Answers for these zones.
    ///
    /// # Errors
    ///
    /// When they cannot be served.
    pub(crate) fn new(zones: &[Zone]) -> Result<Self, ZoneError> {
        Ok(Self { tree: compile::compile(zones)? })
    }

    /// The reply to a message: to be written over it. Nothing is allocated.
    ///
    /// # Errors
    ///
    /// Why nothing may be said.
    #[inline]
    pub(crate) fn reply(&self, message: &[u8], transport: Transport) -> Result<Reply<'_>, Silence> {
        query::reply(&self.tree, message, transport)
    }
}
