//! Ports that several open, each for one of the queues.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bypass_core::backend::packet::PacketOptions;
use bypass_core::backend::socket::Share;
use bypass_core::{Error, Result};

use crate::port::{Port, Started};
use crate::queue::QueuePair;

/// The calling thread's network namespace, and the name of the port.
type Key = (u64, String);

/// Those that are open. The lock is held while one is opened, and while it is closed: whoever opens it
/// meanwhile finds all of it or nothing.
static PORTS: Mutex<BTreeMap<Key, Shared>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
struct Shared {
    port: Port<Started>,
    options: PacketOptions,
    count: u32,
    /// [`Part`]s that are there.
    parts: usize,
}

/// Keeps a shared port open; it is closed with the last of these.
#[derive(Debug)]
pub(crate) struct Part(Key);

/// Opens a part of a port, and before that the port, by `start`, if nobody has it open.
pub(super) fn open(
    options: &PacketOptions,
    share: Share,
    start: impl FnOnce() -> Result<Port<Started>>,
) -> Result<QueuePair> {
    let queue = u16::try_from(share.index)
        .map_err(|_| Error::config("share", share, "ports have no more than 65535 queues"))?;
    let key = (namespace()?, options.interface.clone());
    let mut ports = ports();
    let shared = match ports.entry(key.clone()) {
        Entry::Occupied(open) => open.into_mut().for_another(options, share)?,
        Entry::Vacant(new) => {
            let (port, options) = (start()?, options.clone());
            new.insert(Shared { port, options, count: share.count, parts: 0 })
        }
    };
    let pair = shared.port.queue_pair(queue);
    shared.parts += 1;
    // From here on the port is closed when this fails and nobody else has a part.
    let part = Part(key);
    drop(ports);
    Ok(pair?.keeping(part))
}

impl Shared {
    /// The port for one more, who wants what it was opened with.
    fn for_another(&mut self, options: &PacketOptions, share: Share) -> Result<&mut Self> {
        if share.count != self.count {
            let why = format!("{} is open in {} parts", options.interface, self.count);
            return Err(Error::config("share", share, why));
        }
        if *options != self.options {
            let why = "its port is open with other settings: all parts are opened with the same";
            return Err(Error::config("share", share, why));
        }
        Ok(self)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut ports = ports();
        if let Entry::Occupied(mut shared) = ports.entry(std::mem::take(&mut self.0)) {
            shared.get_mut().parts -= 1;
            if shared.get().parts == 0 {
                shared.remove();
            }
        }
    }
}

fn ports() -> MutexGuard<'static, BTreeMap<Key, Shared>> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What tells the calling thread's network namespace from others.
fn namespace() -> Result<u64> {
    fs::metadata("/proc/thread-self/ns/net")
        .map(|namespace| namespace.st_ino())
        .map_err(|error| Error::os("ask which network namespace this thread is in", error))
}
