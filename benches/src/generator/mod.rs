//! [`Generator`]: offers load without being the limit.
//!
//! Requests are made in the kernel: a live-frame test run of an XDP program (`traffic.bpf.c`) takes each from
//! a list when it is due, and sends it from the client's end of a cable. What arrives at the other end are
//! XDP frames in pages that go back to where they came from, as from the driver of a network card: an AF_XDP
//! socket is reached without the copy into a new packet that a veth pair makes of what programs send, and
//! sockets by the same NAPI and GRO as on a card. Another program counts the answers where they come in, and
//! times them from when their requests were due.

#[expect(unsafe_code, reason = "programs are attached and run with libbpf's calls")]
pub(crate) mod live;
mod requests;
mod tables;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::{Map, MapCore as _, MapFlags, Object, ObjectBuilder, PrintLevel, set_print};
use zerocopy::{FromBytes as _, IntoBytes as _};

use self::live::Attached;
pub(crate) use self::requests::{Requests, Route};
use self::tables::{DUE, FRACTION, FRAME, FRAMES, PORTS, Plan, Progress, Seen};
use crate::open_loop::{Source, Stretch};

/// `traffic.bpf.c`, built by `cargo xtask bpf`.
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("traffic.bpf.o"));

/// libelf reads headers in place.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

/// What a report says of the source.
pub(crate) const ABOUT: &str = "What is sent is made in the kernel, by live-frame test runs of an XDP program, and reaches the other end of \
     the veth pair as it would from the driver of a network card. A search that was ended by the source (1) \
     and not by a loss (0) says less about a server than the server can do.";

/// After this long without an answer the rest is lost.
const LOST_AFTER: Duration = Duration::from_millis(50);
/// More than the program takes for a frame that it makes nothing of: a run ends before a stretch is over, or
/// not much later.
const IDLE: Duration = Duration::from_nanos(100);
/// Frames that are made, and given to the driver, in one go.
const BATCHES: [f64; 2] = [16.0, 256.0];
/// Of the pages that frames are in as many are kept as a batch has. A server that takes that long to give
/// one back has the source make no new ones.
const COMING_BACK: Duration = Duration::from_micros(200);
/// How much faster than the rate it sends what is late. After a pause of its core it would else send what a
/// server's queue cannot hold, as no wire brings it. Answers take part of the same core: what is left of it must
/// do for the rate.
const CATCHING_UP: f64 = 4.0;
/// A rate without limit, in requests a second.
const FLOOD: f64 = 1e8;

/// What was sent in a stretch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) count: u64,
    /// The latest that one left after its time.
    pub(crate) late: Duration,
}

/// Sends requests from an interface, and counts answers on it.
#[derive(Debug)]
pub(crate) struct Generator {
    object: Object,
    plan: Plan,
    _attached: [Attached; 2],
}

impl Generator {
    /// On a thread in the interface's network, which is also where it sends.
    pub(crate) fn open(interface: &str, requests: &Requests) -> Result<Self> {
        // It tells of sections that it has no use for.
        set_print(Some((PrintLevel::Warn, |_, text| eprint!("{text}"))));
        let index = live::index(interface)?;
        let mut object = ObjectBuilder::default().open_memory(&OBJECT.0)?;
        for mut map in object.maps_mut().filter(|map| map.name() == "order") {
            map.set_max_entries(requests.order.len() as u32)?;
        }
        let object = object.load().context("cannot load the load generator (it takes root)")?;
        // The kernel takes milliseconds to run a program that is on no interface. No packet comes to this one.
        let idle = program(&object, "bypass_generate", |program| {
            live::attach_generic(program, live::index("lo")?)
        })?;
        let counting =
            program(&object, "bypass_count", |program| live::attach_tcx(program, index))?;
        let mut frames = requests.frames.clone();
        frames.resize(FRAMES, 0);
        write(&object, "frames", &frames)?;
        let places: Vec<u32> = (0..requests.order.len() as u32).collect();
        map(&object, "order")?.update_batch(
            places.as_bytes(),
            requests.order.as_bytes(),
            places.len() as u32,
            MapFlags::ANY,
            MapFlags::ANY,
        )?;
        Ok(Self { object, plan: requests.plan(index), _attached: [idle, counting] })
    }

    /// Sends `rate` requests a second for so long, beginning with the first one; no answer has come yet then. They
    /// come from a port of this stretch, so that answers to those of another are told apart however late they are.
    pub(crate) fn send(&mut self, rate: f64, duration: Duration) -> Result<Sent> {
        let rate = rate.min(FLOOD);
        let next = self.plan.port.wrapping_add(1);
        self.plan.port = if PORTS.contains(&next) { next } else { PORTS.start };
        self.plan.duration = duration.as_nanos() as u64;
        self.plan.interval = (1e9 * f64::from(1 << FRACTION) / rate) as u64;
        self.plan.gap = (1e9 / (CATCHING_UP * rate)) as u64;
        write(&self.object, "plan", self.plan.as_bytes())?;
        write(&self.object, "progress", Progress::default().as_bytes())?;
        write(&self.object, "due", &vec![0; DUE])?;
        Seen::reset(&map(&self.object, "answers")?)?;
        let [fewest, most] = BATCHES;
        let batch = (rate * COMING_BACK.as_secs_f64()).clamp(fewest, most) as u32;
        let begin = Instant::now();
        loop {
            let left = duration.saturating_sub(begin.elapsed());
            let count = ((left.as_nanos() / IDLE.as_nanos()) as u32).max(16 * batch);
            program(&self.object, "bypass_generate", |program| {
                live::run(program, &[0; FRAME], self.plan.interface, count, batch)
            })?;
            let progress = map(&self.object, "progress")?.lookup(&[0; 4], MapFlags::ANY)?;
            let progress = progress.and_then(|bytes| Progress::read_from_bytes(&bytes).ok());
            let progress = progress.context("the load generator does not say how far it is")?;
            ensure!(progress.failed == 0, "a request cannot be made: {progress:?}");
            if progress.over != 0 {
                let late = Duration::from_nanos(progress.late);
                return Ok(Sent { count: progress.sent, late });
            }
        }
    }
}

impl Source for Generator {
    fn offer(&mut self, rate: f64, duration: Duration) -> Result<Stretch> {
        let sent = self.send(rate, duration)?;
        let mut seen = Seen::read(&map(&self.object, "answers")?)?;
        let mut since = Instant::now();
        while seen.answered < sent.count && since.elapsed() < LOST_AFTER {
            let now = Seen::read(&map(&self.object, "answers")?)?;
            if now.answered > seen.answered {
                since = Instant::now();
            }
            seen = now;
        }
        let text = String::from_utf8_lossy(&seen.text);
        ensure!(seen.unexpected == 0, "{} answers are like {text:?}", seen.unexpected);
        let mut stretch = Stretch::new()?;
        stretch.sent(sent.count, duration, sent.late);
        stretch.answered = seen.answered;
        seen.add_to(&mut stretch.latency)?;
        Ok(stretch)
    }
}

/// The clock that requests are stamped with, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn program<T>(
    object: &Object,
    name: &str,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<T>,
) -> Result<T> {
    let program = object.progs_mut().find(|program| program.name() == name);
    work(program.with_context(|| format!("the object has no program {name}"))?.as_fd())
}

fn map<'a>(object: &'a Object, name: &str) -> Result<Map<'a>> {
    let map = object.maps().find(|map| map.name() == name);
    map.with_context(|| format!("the object has no table {name}"))
}

/// Writes the only entry of a table.
fn write(object: &Object, table: &str, entry: &[u8]) -> Result<()> {
    Ok(map(object, table)?.update(&[0; 4], entry, MapFlags::ANY)?)
}
