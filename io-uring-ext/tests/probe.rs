//! What is refused is refused by name.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "installs a seccomp filter")]

use io_uring_ext::probe::{Probe, Refusal};
use io_uring_ext::{Error, Ring};

#[test]
fn everything_that_was_looked_at_has_a_verdict() {
    let probe = Probe::run();
    assert!(probe.get("ring").is_ok(), "{probe}");
    for capability in probe.capabilities() {
        // A refusal here is the kernel's age or nothing.
        if let Err(refusal) = &capability.verdict {
            assert!(matches!(refusal, Refusal::OldKernel { .. }), "{}: {refusal}", capability.name);
        }
    }
    let printed = probe.to_string();
    assert_eq!(printed.lines().count(), probe.capabilities().len());
    assert!(printed.contains("multishot recvmsg"), "{printed}");
}

/// Forbids `io_uring_setup` to this thread.
fn forbid(errno: i32) {
    let action = libc::SECCOMP_RET_ERRNO | errno as u32;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [
        libc::sock_filter { code: load, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: equal, jt: 0, jf: 1, k: libc::SYS_io_uring_setup as u32 },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: action },
        libc::sock_filter { code: answer, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: concerns this thread alone.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is valid and copied inside the call; it concerns this thread alone.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_seccomp_filter_is_named() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let refused = move || {
            forbid(errno);
            let error = Ring::local().unwrap_err();
            assert!(
                matches!(&error, Error::Refused { refusal: Refusal::Seccomp { .. }, .. }),
                "{error}"
            );
            assert!(error.to_string().contains("seccomp profile"), "says what to do: {error}");
            let probe = Probe::run();
            assert!(probe.get("ring").is_err());
            let sends = probe.get("sendmsg").unwrap_err();
            assert!(matches!(sends, Refusal::Seccomp { .. }), "{sends}");
        };
        std::thread::spawn(refused).join().unwrap();
    }
}

#[test]
fn missing_descriptors_are_named() {
    // In a thread of its own, with its own table of descriptors.
    std::thread::spawn(|| {
        // SAFETY: gives this thread a copy of the table of descriptors.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
        let mut held = Vec::new();
        let full = loop {
            match std::fs::File::open("/dev/null") {
                Ok(file) => held.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::EMFILE));
        let error = Ring::shared().unwrap_err();
        held.clear();
        assert!(
            matches!(&error, Error::Refused { refusal: Refusal::Descriptors { .. }, .. }),
            "{error}"
        );
    })
    .join()
    .unwrap();
}
