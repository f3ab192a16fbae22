//! What a test needs of the machine; without it the test is skipped, with a reason that is counted.

use std::io::Write;
use std::path::Path;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The right to make network namespaces and raw sockets (root, or `unshare --map-root-user`).
    Namespaces,
    /// A program in the search path.
    Tool(&'static str),
    /// A kernel that has io_uring and lets this process use it.
    IoUring,
    /// The right to load XDP programs: `CAP_BPF` and `CAP_NET_ADMIN` outside of user namespaces.
    Bpf,
}

impl Need {
    /// Why the need is not met, or `None` when it is.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Namespaces => super::rig::Namespace::new()
                .err()
                .map(|error| format!("no network namespaces: {error}")),
            Self::Tool(name) => (!in_search_path(name)).then(|| format!("no program {name}")),
            // In a thread of its own: when the kernel takes a ring down, later, it interrupts a call of
            // whoever made it.
            Self::IoUring => std::thread::spawn(io_uring_refused)
                .join()
                .unwrap_or_else(|_| Some("asking for io_uring panicked".to_owned())),
            Self::Bpf => bpf_refused(),
        }
    }
}

/// Whether the calling test must be skipped because one of `needs` is not met.
///
/// Says so on standard error, and appends a line `test<TAB>reason` to the file that the variable
/// `BYPASS_SKIP_LOG` names, from which `cargo xtask test` makes its summary.
///
/// ```no_run
/// use bypass_core::testing::needs::{Need, skip};
///
/// # fn test() {
/// if skip(&[Need::Namespaces, Need::Tool("ping")]) {
///     return;
/// }
/// # }
/// ```
#[must_use]
pub fn skip(needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| need.missing()) else { return false };
    skip_because(&reason);
    true
}

/// Records that the calling test is skipped for a `reason` of its own.
#[expect(clippy::print_stderr, reason = "the reason must be seen by who runs the test")]
pub fn skip_because(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed test");
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(log) = std::env::var_os("BYPASS_SKIP_LOG")
        && let Ok(mut log) = std::fs::File::options().append(true).create(true).open(log)
    {
        // The summary is a courtesy; the line above has said it already.
        let _unwritable = writeln!(log, "{test}\t{reason}");
    }
}

fn in_search_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).to_owned()))
        .any(|dir| dir.join(name).is_file())
}

/// Loads a program of two instructions, `return XDP_PASS`.
fn bpf_refused() -> Option<String> {
    /// `BPF_PROG_LOAD` and `BPF_PROG_TYPE_XDP` of `bpf(2)`.
    const LOAD: libc::c_int = 5;
    const XDP: u64 = 6;
    // r0 = 2; exit.
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let licence = c"MIT";
    // Type and number of instructions; the addresses of these and of the licence. The rest is zero.
    let mut attributes = [0u64; 16];
    attributes[0] = XDP | (instructions.len() as u64) << 32;
    attributes[1] = instructions.as_ptr().expose_provenance() as u64;
    attributes[2] = licence.as_ptr().expose_provenance() as u64;
    let size = size_of_val(&attributes);
    // SAFETY: the kernel reads `size` bytes of attributes, the instructions and the licence.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, LOAD, attributes.as_ptr(), size) };
    if fd < 0 {
        return Some(format!("no XDP programs: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was made just above and is used nowhere else.
    unsafe { libc::close(fd as libc::c_int) };
    None
}

fn io_uring_refused() -> Option<String> {
    let mut parameters = [0u8; 120];
    // SAFETY: the kernel reads and writes one `struct io_uring_params`, which is 120 bytes.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    if fd < 0 {
        return Some(format!("io_uring is refused: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was made just above and is used nowhere else.
    unsafe { libc::close(fd as libc::c_int) };
    None
}
