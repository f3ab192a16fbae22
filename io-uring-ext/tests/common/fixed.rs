//! Seeing whether the kernel uses a registration: by taking the process's own right to the memory away
//! (`PROT_NONE`). Registered memory was pinned before; with anything else the kernel answers `EFAULT`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;

use io_uring_ext::buf::{BufPool, IoBuf, PoolBuf};
use io_uring_ext::op::Read;
use io_uring_ext::{Fd, Mode, OwnedBy, Ring};

use super::SOON;

pub const PAGE: usize = 4096;

pub fn protect(buf: &impl IoBuf, protection: i32) {
    let address = buf.stable_ptr().cast_mut().cast();
    // SAFETY: one whole page, which nobody touches while it is protected but the kernel.
    let answer = unsafe { libc::mprotect(address, PAGE, protection) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

pub fn file(contents: &[u8]) -> Fd {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(contents).unwrap();
    Fd::new(reader)
}

/// Reads into memory to which only a registration gives the kernel access.
pub fn read_protected<M: Mode, P: Mode>(ring: &Ring<M>, buf: PoolBuf<P>) -> std::io::Result<Vec<u8>>
where
    Read<PoolBuf<P>>: OwnedBy<M>,
{
    protect(&buf, libc::PROT_NONE);
    let done = ring.push(Read::new(&file(b"pinned"), buf, 0)).unwrap().wait(SOON).unwrap();
    protect(&done.buf, libc::PROT_READ | libc::PROT_WRITE);
    done.result.map(|_| done.buf.to_vec())
}

pub fn is_fixed<M: Mode, P: Mode>(ring: &Ring<M>, pool: &BufPool<P>) -> bool
where
    Read<PoolBuf<P>>: OwnedBy<M>,
{
    let fixed = match read_protected(ring, pool.take().unwrap()) {
        Ok(read) => {
            assert_eq!(read, b"pinned");
            true
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
            false
        }
    };
    assert_eq!(pool.is_registered(ring), fixed, "what the pool says is what is");
    fixed
}

/// A file past the page cache, without a name.
pub fn direct_file(contents: &[u8]) -> Fd {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    file.as_file().sync_all().unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    Fd::new(options.open(file.path()).unwrap())
}

/// Bytes that look like no others.
pub fn noise(len: usize, mut state: u32) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes.fill_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes
}
