use std::path::PathBuf;

use bypass_io::io_uring::Ring;

use super::record::{self, End, HEADER, Record};
use super::*;
use crate::protocol::How;
use crate::store::Written;
use bypass_core::testing::needs::{Need, skip, skip_because};

/// A folder that goes with the test: beside the program, where there is a disk, or else where anybody may
/// write.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let mut beside = std::env::current_exe().unwrap();
        beside.pop();
        let folder = format!("kv-log-{name}-{}", std::process::id());
        let made = [beside, std::env::temp_dir()].map(|parent| parent.join(&folder));
        Self(made.into_iter().find(|path| std::fs::create_dir_all(path).is_ok()).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn group(records: &[Record<'_>], end: End) -> (Vec<u8>, End) {
    let mut bytes = vec![0; HEADER];
    records.iter().for_each(|record| record::other(&mut bytes, *record));
    let used = bytes.len();
    bytes.resize(used.next_multiple_of(BLOCK), 0xee);
    let end = record::seal(&mut bytes, used, end);
    (bytes, end)
}

#[test]
fn a_file_ends_before_the_first_group_that_is_not_whole() {
    let records = [
        Record::Deleted { key: b"one" },
        Record::Touched { key: &[7; 250], expires: 9 },
        Record::Flushed { cas: 3, at: 0 },
    ];
    let (first, middle) = group(&records[..2], End::default());
    let (second, last) = group(&records[2..], middle);
    let whole = [&first[..], &second].concat();
    let mut seen = Vec::new();
    let end = record::read(&whole[..], |record| seen.push(format!("{record:?}"))).unwrap();
    assert_eq!(end, last);
    assert_eq!(seen, records.map(|record| format!("{record:?}")));
    // Cut anywhere, and damaged anywhere.
    for cut in (0..second.len()).step_by(97) {
        let end = record::read(&whole[..first.len() + cut], |_| {}).unwrap();
        assert_eq!(end, middle, "cut at {cut}");
        let mut damaged = whole.clone();
        damaged[first.len() + cut] ^= 1;
        assert_eq!(record::read(&damaged[..], |_| {}).unwrap(), middle, "damaged at {cut}");
    }
    // What an earlier life left behind does not follow.
    let (other, other_end) = group(&records[..1], End::default());
    let stale = [&other[..], &second].concat();
    assert_eq!(record::read(&stale[..], |_| {}).unwrap(), other_end);
}

#[test]
fn what_was_changed_is_there_after_the_next_start() {
    if skip(&[Need::IoUring]) {
        return;
    }
    let scratch = Scratch::new("again");
    let options =
        Options { folder: scratch.0.clone(), level: Level::Durable, compact_at: u64::MAX };
    for start in 0..5_u32 {
        let ring = Ring::local().unwrap();
        // A log is read before the clock is set.
        let mut store = Store::new(crate::store::LEAST_MEMORY, 0).unwrap();
        let mut log = match Log::open(&ring, &options, (0, 1), &mut store) {
            Ok(log) => log,
            // A file system without direct writes has no disk to prove anything on.
            Err(error) if error.to_string().contains("direct writes") => {
                skip_because(&error.to_string());
                return;
            }
            Err(error) => panic!("{error}"),
        };
        store.tick(1_000_000 + start);
        if start > 0 {
            let item = store.peek(b"count").unwrap();
            let value: Vec<u8> = item.value().flatten().copied().collect();
            assert_eq!(value, start.to_string().into_bytes());
            assert_eq!(store.peek(b"touched").map(|item| item.expires()), Some(2_000_000));
            assert!(store.peek(b"deleted").is_none() && store.peek(b"flushed").is_none());
        } else {
            for key in [&b"flushed"[..], b"count", b"touched", b"deleted"] {
                let expires = if key == b"touched" { 1_000_001 } else { 0 };
                assert_eq!(store.write(How::Set, key, 0, expires, b"0"), Written::Stored);
                log.append(&ring, &mut store, Change::Written(key)).unwrap();
                if key == b"flushed" {
                    store.flush(None);
                    log.append(&ring, &mut store, Change::Flushed(None)).unwrap();
                }
            }
            assert!(store.delete(b"deleted"));
            log.append(&ring, &mut store, Change::Deleted(b"deleted")).unwrap();
            // It outlives the time at which it would have ended, but for this.
            assert!(store.touch(b"touched", 2_000_000));
            log.append(&ring, &mut store, Change::Touched(b"touched", 2_000_000)).unwrap();
        }
        store.count(b"count", 1, true);
        log.append(&ring, &mut store, Change::Written(b"count")).unwrap();
        let ticket = log.ticket().unwrap();
        while log.durable() < ticket {
            log.turn(&ring).unwrap();
            ring.wait(1, Some(Duration::from_millis(10))).unwrap();
        }
        // Dropped as by a crash: nothing is written any more.
    }
    let ring = Ring::local().unwrap();
    let mut store = Store::new(crate::store::LEAST_MEMORY, 0).unwrap();
    let error = Log::open(&ring, &options, (0, 2), &mut store).map(drop).unwrap_err();
    assert!(error.to_string().contains("--workers 1"), "{error}");
}
