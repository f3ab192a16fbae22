//! Programs of this process that several ports share, without being told of each other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bypass_core::Result;

use super::attach::Target;
use super::options::ProgramOptions;
use super::running::Program;
use super::sys;
use super::tables::FilterMaps;

/// A program that was put on an interface, and how.
struct Shared {
    /// The kernel's number of it, which tells programs apart, where names and indices do not.
    id: u32,
    options: ProgramOptions,
    queues: u32,
    /// What it takes now.
    filter: Arc<Mutex<FilterMaps>>,
    program: Weak<Program>,
}

/// What this process has put on interfaces, in whichever network namespaces.
static SHARED: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

/// A program came off its interface.
static OFF: Condvar = Condvar::new();

/// How long a program that nobody shares any more may take to come off its interface. Somebody who took it
/// out of its [`Arc`] keeps it there for longer, and is not waited for.
const GOING: Duration = Duration::from_secs(2);

fn lock() -> MutexGuard<'static, Vec<Shared>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of a program among those that are shared, which goes with this: when the program is off.
#[derive(Debug)]
pub(super) struct Entry(u32);

impl Drop for Entry {
    fn drop(&mut self) {
        lock().retain(|shared| shared.id != self.0);
        OFF.notify_all();
    }
}

impl ProgramOptions {
    /// The program that this process has on the interface already, if it was put there like this and still
    /// takes what the filter says; else as [`attach`](Self::attach).
    pub(crate) fn share(&self) -> Result<Arc<Program>> {
        let target = Target::find(&self.interface)?;
        let until = Instant::now() + GOING;
        // Two threads that open at the same time are to find each other's.
        let mut all = lock();
        while let Ok((native, generic)) = sys::attached(target.ifindex)
            && let Some(shared) = all.iter().find(|shared| [native, generic].contains(&shared.id))
        {
            // No program is dropped here, which would wait for the lock.
            if shared.program.strong_count() == 0 {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                all = OFF.wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
            } else if !self.are_served_by(shared) {
                break;
            } else if let Some(program) = shared.program.upgrade() {
                return Ok(program);
            }
        }
        let mut program = self.attach()?;
        program.entry = Some(Entry(program.id));
        let program = Arc::new(program);
        all.push(Shared {
            id: program.id,
            options: self.clone(),
            queues: program.sockets().queues(),
            filter: Arc::clone(&program.filter),
            program: Arc::downgrade(&program),
        });
        Ok(program)
    }

    /// Whether a program is what these ask for.
    fn are_served_by(&self, shared: &Shared) -> bool {
        let same = Self {
            interface: self.interface.clone(),
            filter: self.filter.clone(),
            queues: self.queues,
            ..shared.options.clone()
        };
        let filter = shared.filter.lock().unwrap_or_else(PoisonError::into_inner);
        *self == same && filter.are(&self.filter) && self.queues <= shared.queues
    }
}
