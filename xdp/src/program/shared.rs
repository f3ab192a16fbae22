//! Programs of this process that several ports share, without being told of each other.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bypass_core::Result;

use super::attach::Target;
use super::options::ProgramOptions;
use super::running::Program;
use super::sys;

/// A program that was put on an interface, and how.
struct Shared {
    options: ProgramOptions,
    program: Weak<Program>,
}

/// What this process has put on interfaces, in whichever network namespaces.
static SHARED: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

impl ProgramOptions {
    /// The program that this process has on the interface already, if it was put there like this and still
    /// takes what the filter says; else as [`attach`](Self::attach).
    pub(crate) fn share(&self) -> Result<Arc<Program>> {
        let target = Target::find(&self.interface)?;
        // Two threads that open at the same time are to find each other's.
        let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|shared| shared.program.strong_count() > 0);
        // The kernel's numbers tell programs apart, where names and indices do not.
        if let Ok((native, generic)) = sys::attached(target.ifindex)
            && let Some(there) = all.iter().find_map(|shared| {
                let program = shared.program.upgrade()?;
                let is_there = [native, generic].contains(&program.id());
                (is_there && self.is_like(&shared.options, &program)).then_some(program)
            })
        {
            return Ok(there);
        }
        let program = Arc::new(self.attach()?);
        all.push(Shared { options: self.clone(), program: Arc::downgrade(&program) });
        Ok(program)
    }

    /// Whether `program`, which was attached with `options`, is what these ask for.
    fn is_like(&self, options: &Self, program: &Program) -> bool {
        let same = Self {
            interface: self.interface.clone(),
            filter: self.filter.clone(),
            queues: self.queues,
            ..options.clone()
        };
        *self == same && program.takes(&self.filter) && self.queues <= program.sockets().queues()
    }
}
