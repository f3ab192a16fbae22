//! Huge pages for a test, and a mount of them for what processes share.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use bypass_core::testing::needs::skip_because;
use bypass_core::testing::process::is_alone;

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// The machine's huge pages, as many as a test wants, for as long as this lives.
pub(crate) struct HugePages {
    before: String,
    _one_at_a_time: File,
}

impl HugePages {
    /// Nothing in the process that runs alone, whose parent has done it.
    pub(crate) fn reserve(count: u32) -> Result<Option<Self>, ()> {
        if is_alone() {
            return Ok(None);
        }
        if let Err(error) = OpenOptions::new().write(true).open(RESERVED) {
            skip_because(&format!("cannot change {RESERVED}: {error}"));
            return Err(());
        }
        let lock = File::create(std::env::temp_dir().join("bypass-huge-pages.lock")).unwrap();
        lock.lock().unwrap();
        let before = fs::read_to_string(RESERVED).unwrap();
        let pages = Self { before, _one_at_a_time: lock };
        fs::write(RESERVED, count.to_string()).unwrap();
        let have: u32 = fs::read_to_string(RESERVED).unwrap().trim().parse().unwrap();
        if have != count {
            skip_because(&format!("the kernel has {have} huge pages to give, not {count}"));
            return Err(());
        }
        Ok(Some(pages))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        fs::write(RESERVED, &self.before).unwrap();
    }
}

/// A folder where [`runner`](Self::runner) mounts huge pages, for one process and its children.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join("bypass-huge-pages");
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// For [`alone_under`](bypass_core::testing::process::alone_under). Nobody else sees the mount, and it is gone
    /// with the process.
    pub(crate) fn runner(&self) -> [String; 5] {
        let mount = format!("mount -t hugetlbfs nodev {} && exec \"$0\" \"$@\"", self.0.display());
        ["unshare", "--mount", "sh", "-c", &mount].map(str::to_owned)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !is_alone() {
            fs::remove_dir(&self.0).unwrap();
        }
    }
}
