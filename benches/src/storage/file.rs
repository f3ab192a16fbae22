//! The file that is read: every block written once and stamped with its number, so that a read can
//! prove what it read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Bytes of a read.
pub(crate) const BLOCK: usize = 4096;

/// Written at a time.
const CHUNK: usize = 256 * BLOCK;

/// The folder for files of this program: the one given, or beside the program.
pub(crate) fn folder(chosen: Option<&Path>) -> Result<PathBuf> {
    let folder = match chosen {
        Some(folder) => folder.to_owned(),
        None => {
            let program = std::env::current_exe().context("cannot tell where this program lies")?;
            program.with_file_name("bench-data")
        }
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// A file `name` of that many blocks in `folder`; one that is there already is taken as it is.
pub(crate) fn prepare(folder: &Path, name: &str, blocks: u64) -> Result<PathBuf> {
    let path = folder.join(format!("{name}-{blocks}.dat"));
    if !is_prepared(&path, blocks) {
        eprintln!("writing {} MiB to {}", (blocks * BLOCK as u64) >> 20, path.display());
        write(&path, blocks).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // Tells early, and with the path, that this file system has no direct I/O.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    opened.with_context(|| format!("cannot open {} with O_DIRECT", path.display()))?;
    Ok(path)
}

/// Whether all of the file is there: its last block is written last.
fn is_prepared(path: &Path, blocks: u64) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let length = file.metadata().map_or(0, |data| data.len());
    let mut last = [0; BLOCK];
    length == blocks * BLOCK as u64
        && file.read_exact_at(&mut last, (blocks - 1) * BLOCK as u64).is_ok()
        && verify(&last, blocks - 1).is_ok()
}

fn write(path: &Path, blocks: u64) -> Result<()> {
    let mut file = File::create(path)?;
    // Fixed, and not compressible, whatever lies between here and the medium.
    let mut random = fastrand::Rng::with_seed(1);
    let mut chunk = vec![0; CHUNK];
    let mut number = 0;
    while number < blocks {
        random.fill(&mut chunk);
        let count = (blocks - number).min((CHUNK / BLOCK) as u64) as usize;
        for block in chunk.chunks_exact_mut(BLOCK).take(count) {
            block[..8].copy_from_slice(&number.to_le_bytes());
            number += 1;
        }
        file.write_all(&chunk[..count * BLOCK])?;
    }
    Ok(file.sync_all()?)
}

/// Whether this is block `number`, all of it.
pub(crate) fn verify(block: &[u8], number: u64) -> Result<()> {
    let stamp = block.first_chunk().map(|stamp| u64::from_le_bytes(*stamp));
    ensure!(
        block.len() == BLOCK && stamp == Some(number),
        "block {number} was read as {} bytes with the number {stamp:?}",
        block.len(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_carry_their_numbers_and_half_a_file_is_not_taken() {
        let folder = std::env::temp_dir().join(format!("bypass-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        assert!(!is_prepared(&path, 600));
        write(&path, 600).unwrap();
        assert!(is_prepared(&path, 600));
        let bytes = std::fs::read(&path).unwrap();
        for (number, block) in bytes.chunks(BLOCK).enumerate() {
            verify(block, number as u64).unwrap();
        }
        assert!(verify(&bytes[..BLOCK], 1).is_err());
        assert!(verify(&bytes[..10], 0).is_err());
        assert!(!is_prepared(&path, 601));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
