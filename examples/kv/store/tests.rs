use proptest::prelude::*;

use super::*;

/// A store as simple as it can be: items in the order of their use, the oldest first.
struct Model {
    items: Vec<ModelItem>,
    chunks: usize,
    now: u32,
    cas: u64,
    evictions: u64,
}

#[derive(Clone, Debug)]
struct ModelItem {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u32,
    expires: u32,
    cas: u64,
    used: u32,
}

impl ModelItem {
    fn chunks(&self) -> usize {
        Arena::chunks_for(self.key.len() + self.value.len())
    }
}

impl Model {
    fn new(memory: usize) -> Self {
        let chunks = memory / (CHUNK + 8);
        Self { items: Vec::new(), chunks, now: 1000, cas: 0, evictions: 0 }
    }

    fn dead(&self, item: &ModelItem) -> bool {
        item.expires != 0 && item.expires <= self.now
    }

    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let at = self.items.iter().position(|item| item.key == key)?;
        if self.dead(&self.items[at]) {
            self.items.remove(at);
            return None;
        }
        Some(at)
    }

    fn use_now(&mut self, at: usize) -> usize {
        if self.items[at].used == self.now {
            return at;
        }
        let mut item = self.items.remove(at);
        item.used = self.now;
        self.items.push(item);
        self.items.len() - 1
    }

    /// `joined` is whether the old value is part of the new one.
    fn put(&mut self, old: Option<usize>, mut item: ModelItem, joined: bool) -> bool {
        if let Some(at) = old
            && !joined
            && self.items[at].chunks() == item.chunks()
        {
            item.used = self.items[at].used;
            self.items[at] = item;
            self.use_now(at);
            return true;
        }
        let old = old.map(|at| {
            let old = self.items.remove(at);
            self.items.push(old);
            self.items.last().unwrap().key.clone()
        });
        item.used = self.now;
        let used = |items: &[ModelItem]| items.iter().map(ModelItem::chunks).sum::<usize>();
        while used(&self.items) + item.chunks() > self.chunks {
            if self.items.is_empty() || Some(&self.items[0].key) == old.as_ref() {
                return false;
            }
            let gone = self.items.remove(0);
            self.evictions += u64::from(!self.dead(&gone));
        }
        self.items.retain(|other| Some(&other.key) != old.as_ref());
        self.items.push(item);
        true
    }

    fn write(&mut self, how: How, key: &[u8], flags: u32, expires: u32, value: &[u8]) -> Written {
        let old = self.find(key);
        let mut item = ModelItem {
            key: key.to_vec(),
            value: value.to_vec(),
            flags,
            expires,
            cas: 0,
            used: self.now,
        };
        match (how, old) {
            (How::Add, Some(at)) => {
                self.use_now(at);
                return Written::NotStored;
            }
            (How::Replace | How::Append | How::Prepend, None) => return Written::NotStored,
            (How::Cas(_), None) => return Written::NotFound,
            (How::Cas(cas), Some(at)) if self.items[at].cas != cas => return Written::Exists,
            (How::Append | How::Prepend, Some(at)) => {
                let old = &self.items[at];
                (item.flags, item.expires) = (old.flags, old.expires);
                item.value = match how {
                    How::Append => [&old.value[..], value].concat(),
                    _ => [value, &old.value[..]].concat(),
                };
            }
            _ => {}
        }
        self.cas += 1;
        item.cas = self.cas;
        let joined = matches!(how, How::Append | How::Prepend);
        if self.put(old, item, joined) { Written::Stored } else { Written::OutOfMemory }
    }

    fn count(&mut self, key: &[u8], by: u64, up: bool) -> Counted {
        let Some(at) = self.find(key) else { return Counted::NotFound };
        let text = String::from_utf8(self.items[at].value.clone()).unwrap_or_default();
        let Some(Ok(number)) = (text.len() <= LONGEST_NUMBER)
            .then(|| text.split_ascii_whitespace().next().map(str::parse::<u64>))
            .flatten()
        else {
            return Counted::NotANumber;
        };
        let number = if up { number.wrapping_add(by) } else { number.saturating_sub(by) };
        self.cas += 1;
        let mut item = self.items[at].clone();
        let length = item.value.len();
        item.cas = self.cas;
        item.value = format!("{number:<length$}").into_bytes();
        if item.value.len() == length {
            self.items[at] = item;
            self.use_now(at);
        } else {
            self.put(Some(at), item, false);
        }
        Counted::Now(number)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(How, u8, u32, i32, Vec<u8>),
    CasRight(u8, Vec<u8>),
    Get(u8),
    Delete(u8),
    Touch(u8, i32),
    Count(u8, u64, bool),
    Time(u32),
    Flush(Option<u32>),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..24_u8;
    let how = prop_oneof![
        4 => Just(How::Set),
        1 => Just(How::Add),
        1 => Just(How::Replace),
        1 => Just(How::Append),
        1 => Just(How::Prepend),
        1 => any::<u64>().prop_map(How::Cas),
    ];
    let bytes = prop::collection::vec(any::<u8>(), 0..700);
    let number = any::<u64>().prop_map(|n| n.to_string().into_bytes());
    let value = prop_oneof![4 => bytes, 1 => number, 1 => Just(b"99".to_vec())];
    let seconds = prop_oneof![3 => Just(0), 3 => 1..6, 1 => Just(-1)];
    prop_oneof![
        8 => (how, key.clone(), any::<u32>(), seconds.clone(), value.clone())
            .prop_map(|(how, key, flags, seconds, value)| Step::Write(how, key, flags, seconds, value)),
        1 => (key.clone(), value).prop_map(|(key, value)| Step::CasRight(key, value)),
        6 => key.clone().prop_map(Step::Get),
        1 => key.clone().prop_map(Step::Delete),
        1 => (key.clone(), seconds).prop_map(|(key, seconds)| Step::Touch(key, seconds)),
        3 => (key, prop_oneof![0..200_u64, any::<u64>()], any::<bool>())
            .prop_map(|(key, by, up)| Step::Count(key, by, up)),
        3 => (0..3_u32).prop_map(Step::Time),
        1 => prop::option::of(0..3_u32).prop_map(Step::Flush),
        1 => Just(Step::Sweep),
    ]
}

/// A key of its own, some of them longer than the first chunk.
fn key(number: u8) -> Vec<u8> {
    let length = if number.is_multiple_of(3) { 250 } else { 1 + usize::from(number) };
    vec![b'a' + number; length]
}

fn compare(store: &mut Store, model: &mut Model, key: &[u8]) {
    let found = store.peek(key);
    let expected = model.find(key).map(|at| &model.items[at]);
    let found = found.map(|item| {
        let value: Vec<u8> = item.value().flatten().copied().collect();
        let key: Vec<u8> = item.key().flatten().copied().collect();
        assert_eq!(value.len(), item.length());
        (key, value, item.flags(), item.expires(), item.cas())
    });
    let expected = expected
        .map(|item| (item.key.clone(), item.value.clone(), item.flags, item.expires, item.cas));
    assert_eq!(found, expected);
}

proptest! {
    /// A store of 40 chunks, in which there is seldom room, does what the model does.
    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(), 1..400)) {
        let memory = 40 * (CHUNK + 8);
        let (mut store, mut model) = (Store::new(memory, 1000).unwrap(), Model::new(memory));
        let (all, mut flush_at) = (store.arena.available(), None);
        for step in steps {
            match step {
                Step::Write(how, number, flags, seconds, value) => {
                    let expires = store.deadline(seconds);
                    let stored = store.write(how, &key(number), flags, expires, &value);
                    prop_assert_eq!(stored, model.write(how, &key(number), flags, expires, &value));
                }
                Step::CasRight(number, value) => {
                    let there = model.find(&key(number)).is_some();
                    prop_assert_eq!(store.peek(&key(number)).is_some(), there);
                    let Some(item) = store.peek(&key(number)) else { continue };
                    let how = How::Cas(item.cas());
                    prop_assert_eq!(store.write(how, &key(number), 1, 0, &value), Written::Stored);
                    prop_assert_eq!(model.write(how, &key(number), 1, 0, &value), Written::Stored);
                }
                Step::Get(number) => {
                    store.get(&key(number));
                    if let Some(at) = model.find(&key(number)) {
                        model.use_now(at);
                    }
                }
                Step::Delete(number) => {
                    let there = model.find(&key(number)).map(|at| model.items.remove(at)).is_some();
                    prop_assert_eq!(store.delete(&key(number)), there);
                }
                Step::Touch(number, seconds) => {
                    let expires = store.deadline(seconds);
                    let there = model.find(&key(number));
                    if let Some(at) = there {
                        model.items[at].expires = expires;
                        model.use_now(at);
                    }
                    prop_assert_eq!(store.touch(&key(number), expires), there.is_some());
                }
                Step::Count(number, by, up) => {
                    let counted = store.count(&key(number), by, up);
                    prop_assert_eq!(counted, model.count(&key(number), by, up));
                }
                Step::Time(seconds) => {
                    model.now += seconds;
                    store.tick(model.now);
                    if flush_at.is_some_and(|at| at <= model.now) {
                        flush_at = None;
                        // What is dead in the store still has its memory: so it has in the model.
                        model.items.iter_mut().for_each(|item| item.expires = 1);
                    }
                }
                Step::Flush(delay) => {
                    let at = delay.map(|delay| model.now + delay);
                    store.flush(at);
                    if let Some(at) = at.filter(|&at| at > model.now) {
                        flush_at = Some(at);
                    } else {
                        flush_at = None;
                        model.items.iter_mut().for_each(|item| item.expires = 1);
                    }
                }
                Step::Sweep => {
                    store.sweep(store.buckets.len());
                    let now = model.now;
                    model.items.retain(|item| item.expires == 0 || item.expires > now);
                }
            }
            let used: usize = model.items.iter().map(ModelItem::chunks).sum();
            prop_assert_eq!(store.arena.available(), all - used);
            prop_assert_eq!(store.counters().items, model.items.len() as u64);
            prop_assert_eq!(store.counters().evictions, model.evictions);
        }
        for number in 0..24 {
            compare(&mut store, &mut model, &key(number));
        }
        // What is shown is what is there, each once.
        let (mut seen, mut at) = (0, Some(0));
        while let Some(bucket) = at {
            at = store.visit(bucket, 3, |_| seen += 1);
        }
        prop_assert_eq!(seen, model.items.iter().filter(|item| !model.dead(item)).count());
    }
}

#[test]
fn the_least_memory_holds_the_largest_item_beside_what_it_replaces() {
    let mut store = Store::new(LEAST_MEMORY, 1000).unwrap();
    let value = vec![7; 1 << 20];
    for _ in 0..10 {
        let room = (0..value.len()).rev().find(|&length| fits(1, length)).unwrap();
        assert_eq!(store.write(How::Set, b"k", 0, 0, &value[..room]), Written::Stored);
        assert_eq!(store.write(How::Append, b"k", 0, 0, b"x"), Written::NotStored);
    }
    assert_eq!(store.counters().evictions, 0);
}

#[test]
fn what_was_used_last_stays() {
    let mut store = Store::new(100 * (CHUNK + 8), 1).unwrap();
    for number in 0..1000_u32 {
        store.tick(number + 1);
        assert!(store.get(b"hot").is_some() || number == 0);
        assert_eq!(store.write(How::Set, &number.to_le_bytes(), 0, 0, b"cold"), Written::Stored);
        if number == 0 {
            assert_eq!(store.write(How::Set, b"hot", 0, 0, b"1"), Written::Stored);
        }
    }
    assert_eq!(store.counters().items, 100);
    assert_eq!(store.counters().evictions, 901);
}

#[test]
fn what_is_foreseen_changes_nothing() {
    let mut store = Store::new(1 << 20, 1000).unwrap();
    let keys: Vec<_> = (0..2 * AHEAD).map(|key| key.to_string().into_bytes()).collect();
    store.foresee(keys.iter().map(Vec::as_slice));
    assert_eq!(store.counters(), Counters::default());
    for key in &keys {
        // Of one chunk and of several.
        let value = key.repeat(key.len() * key.len() * 50);
        assert_eq!(store.write(How::Set, key, 0, 0, &value), Written::Stored);
    }
    let before = store.counters();
    store.tick(1001);
    store.foresee(keys.iter().map(Vec::as_slice).chain([&b"none"[..], b""]));
    assert_eq!(store.counters(), before);
    for key in &keys {
        let value = key.repeat(key.len() * key.len() * 50);
        assert!(store.get(key).is_some_and(|item| item.value().flatten().eq(&value)));
    }
}
