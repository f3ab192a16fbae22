//! [`Reading`]: what one worker shows.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::usage::seconds;
use super::{Latency, Usage};
use crate::{Occupancy, Stats};

/// What a worker shows on a [`Board`](super::Board). All counters count from when its meter was made or
/// its endpoint opened, and never go back.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Reading {
    /// Its name.
    pub worker: String,
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// What moves its packets, as in a URI.
    pub backend: &'static str,
    /// Whether its meter is still there.
    pub running: bool,
    /// How long ago it showed this, in seconds when printed as JSON: some milliseconds, unless it is
    /// stuck, or has ended.
    #[serde(serialize_with = "seconds")]
    pub age: Duration,
    /// How long it had been measured by then, likewise.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    /// The counters that every endpoint has.
    pub stats: Stats,
    /// What the thread has cost.
    pub usage: Usage,
    /// The backend's own counters, and the application's, by name.
    #[serde(serialize_with = "by_name")]
    pub counters: Vec<(String, u64)>,
    /// How full rings and queues are, by name.
    #[serde(serialize_with = "by_name")]
    pub rings: Vec<(String, Occupancy)>,
    /// The times that it has recorded.
    pub latency: Latency,
}

fn by_name<T: Serialize, S: Serializer>(
    values: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().map(|(name, value)| (name, value)))
}

/// Values by name, written over and over in the same order: that costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Named<T> {
    values: Vec<(String, T)>,
    at: usize,
}

impl<T: Clone> Named<T> {
    /// From the first on.
    pub(super) fn begin(&mut self) {
        self.at = 0;
    }

    /// The next. A name that has been there in this round is written over: each is there once.
    pub(super) fn put(&mut self, name: &str, value: T) {
        match self.values.get_mut(self.at) {
            Some((known, place)) if known == name => *place = value,
            _ => {
                self.values.truncate(self.at);
                if let Some((_, place)) = self.values.iter_mut().find(|(known, _)| known == name) {
                    *place = value;
                    return;
                }
                self.values.push((name.to_owned(), value));
            }
        }
        self.at += 1;
    }

    /// There are no more.
    pub(super) fn end(&mut self) {
        self.values.truncate(self.at);
    }

    pub(super) fn to_vec(&self) -> Vec<(String, T)> {
        self.values.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(values: &mut Named<u64>, shown: &[(&str, u64)]) -> Vec<(String, u64)> {
        values.begin();
        shown.iter().for_each(|(name, value)| values.put(name, *value));
        values.end();
        values.to_vec()
    }

    #[test]
    fn every_name_is_there_once_with_what_was_shown_last() {
        let mut values = Named::default();
        for shown in [
            &[("a", 1), ("b", 2), ("c", 3)][..],
            &[("a", 4), ("b", 5), ("c", 6)],
            &[("a", 7), ("c", 8)],
            &[("c", 9), ("a", 10), ("b", 11)],
            &[],
        ] {
            let expected: Vec<_> =
                shown.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            assert_eq!(round(&mut values, shown), expected);
        }
        let twice = round(&mut values, &[("a", 1), ("b", 2), ("a", 3)]);
        assert_eq!(twice, [("a".to_owned(), 3), ("b".to_owned(), 2)]);
        let again = round(&mut values, &[("a", 4), ("b", 5), ("a", 6)]);
        assert_eq!(again, [("a".to_owned(), 6), ("b".to_owned(), 5)]);
    }
}
