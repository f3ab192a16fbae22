//! Fixed places with generations.

use super::key::{Key, MAX_OPERATIONS};

/// A fixed number of places that never move. A key is good for one use of a place.
///
/// The values stay in their places when a place becomes vacant, so what they have allocated serves
/// the next user.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Box<[Place<T>]>,
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    occupied: bool,
    value: T,
}

impl<T> Slab<T> {
    pub(crate) fn new(capacity: u32, mut value: impl FnMut() -> T) -> Self {
        debug_assert!(capacity <= MAX_OPERATIONS);
        let place = |_| Place { generation: 0, occupied: false, value: value() };
        Self {
            places: (0..capacity).map(place).collect(),
            // The lowest place is taken first, and the one freed last again first: it is warm.
            vacant: (0..capacity).rev().collect(),
        }
    }

    pub(crate) fn occupied(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Occupies a place; `None` when there is none.
    pub(crate) fn occupy(&mut self) -> Option<(Key, &mut T)> {
        let index = self.vacant.pop()?;
        let place = &mut self.places[index as usize];
        place.occupied = true;
        Some((Key { index, generation: place.generation }, &mut place.value))
    }

    /// The value at `key`, unless the place has been vacated since.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        (place.occupied && place.generation == key.generation).then_some(&mut place.value)
    }

    /// Every value, also those in vacant places.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().map(|place| &mut place.value)
    }

    /// Vacates the place; from now on `key` finds nothing. False if it found nothing already.
    pub(crate) fn vacate(&mut self, key: Key) -> bool {
        let Some(place) = self.places.get_mut(key.index as usize) else { return false };
        if !place.occupied || place.generation != key.generation {
            return false;
        }
        place.occupied = false;
        place.generation = place.generation.wrapping_add(1);
        self.vacant.push(key.index);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Clone, Debug)]
    enum Step {
        Occupy(u32),
        Vacate(usize),
        VacateStale(usize),
        LookUp(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<u32>().prop_map(Step::Occupy),
            any::<usize>().prop_map(Step::Vacate),
            any::<usize>().prop_map(Step::VacateStale),
            any::<usize>().prop_map(Step::LookUp),
        ]
    }

    proptest! {
        /// The slab against a map from key to value, with every key that ever was kept and tried.
        #[test]
        fn behaves_like_a_map_of_live_keys(
            capacity in 1..9u32,
            steps in proptest::collection::vec(step(), 0..300),
        ) {
            let mut slab = Slab::new(capacity, || 0);
            let mut model: HashMap<Key, u32> = HashMap::new();
            let mut live: Vec<Key> = Vec::new();
            let mut stale: Vec<Key> = Vec::new();
            for step in steps {
                match step {
                    Step::Occupy(value) => match slab.occupy() {
                        Some((key, place)) => {
                            *place = value;
                            prop_assert!(model.insert(key, value).is_none());
                            prop_assert!(!stale.contains(&key), "a key came back");
                            live.push(key);
                        }
                        None => prop_assert_eq!(live.len(), capacity as usize),
                    },
                    Step::Vacate(n) if !live.is_empty() => {
                        let key = live.swap_remove(n % live.len());
                        prop_assert!(slab.vacate(key));
                        model.remove(&key);
                        stale.push(key);
                    }
                    Step::VacateStale(n) if !stale.is_empty() => {
                        prop_assert!(!slab.vacate(stale[n % stale.len()]));
                    }
                    Step::LookUp(n) if !stale.is_empty() => {
                        prop_assert!(slab.get_mut(stale[n % stale.len()]).is_none());
                    }
                    _ => {}
                }
                for (key, value) in &model {
                    prop_assert_eq!(slab.get_mut(*key).copied(), Some(*value));
                }
                prop_assert_eq!(slab.occupied(), model.len());
            }
        }
    }

    #[test]
    fn generations_wrap() {
        let mut slab = Slab::new(1, || ());
        slab.places[0].generation = u32::MAX;
        let (last, ()) = slab.occupy().unwrap();
        assert!(slab.vacate(last));
        let (first, ()) = slab.occupy().unwrap();
        assert_eq!(first.generation, 0);
        assert!(slab.get_mut(last).is_none());
    }
}
