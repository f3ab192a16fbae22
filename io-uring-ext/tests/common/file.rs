//! Files to read from.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

/// A file of `len` zeros, opened past the page cache, and removed from its directory.
pub fn direct_file(len: usize) -> File {
    let path = std::env::temp_dir().join(format!(
        "io-uring-ext-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::write(&path, vec![0; len]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    std::fs::remove_file(&path).unwrap();
    direct.unwrap()
}
