//! What is refused is refused by name.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(unsafe_code, reason = "installs a seccomp filter")]

use io_uring_ext::probe::{CapabilityKind, Opcode, Probe, Refusal, RegisterCall};
use io_uring_ext::{Error, Ring};

#[test]
fn everything_that_was_looked_at_has_a_verdict() {
    let probe = Probe::run();
    assert!(probe.get("ring").is_ok(), "{probe}");
    for capability in &probe {
        // A refusal here is the kernel's age, or a registration that it was built without.
        match &capability.verdict {
            Ok(()) | Err(Refusal::OldKernel { .. }) => {}
            Err(refusal) => assert!(
                capability.kind == CapabilityKind::Register && capability.name.contains("NAPI"),
                "{}: {refusal}",
                capability.name
            ),
        }
    }
    let printed = probe.to_string();
    assert_eq!(printed.lines().count(), probe.capabilities().len());
    assert!(printed.contains("multishot recvmsg"), "{printed}");
    assert!(matches!(probe.get("no such thing"), Err(Refusal::Unlisted)));
    assert_eq!(
        probe.iter().filter(|it| it.kind == CapabilityKind::Opcode).count(),
        Opcode::ALL.len()
    );
    let calls = probe.iter().filter(|it| it.kind == CapabilityKind::Register);
    assert_eq!(calls.count(), RegisterCall::ALL.len());
}

/// What the probe says of opcodes and calls is what happens to whoever uses them.
#[test]
fn verdicts_are_true() {
    let probe = Probe::run();
    let ring = io_uring::IoUring::new(4).unwrap();
    let mut asked = io_uring::Probe::new();
    ring.submitter().register_probe(&mut asked).unwrap();
    for opcode in Opcode::ALL {
        assert_eq!(
            probe.get(opcode.name()).is_ok(),
            asked.is_supported(opcode.code()),
            "{opcode:?}"
        );
    }
    // Numbers are the kernel's: those of the crate below agree.
    assert_eq!(Opcode::FTRUNCATE.code(), io_uring::opcode::Ftruncate::CODE);
    assert_eq!(Opcode::PIPE.code(), io_uring::opcode::Pipe::CODE);
    assert_eq!(Opcode::FUTEX_WAITV.code(), io_uring::opcode::FutexWaitV::CODE);
    assert_eq!(RegisterCall::REGISTER_MEM_REGION.code(), 34);
    assert_eq!(RegisterCall::REGISTER_SYNC_CANCEL.code(), 24);
    // Every number has one name.
    for (n, opcode) in Opcode::ALL.iter().enumerate() {
        assert_eq!(usize::from(opcode.code()), n);
    }
    for (n, call) in RegisterCall::ALL.iter().enumerate() {
        assert_eq!(usize::from(call.code()), n);
    }
    assert_eq!(Opcode::new(250).name(), "IORING_OP_?");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    drop(Probe::run());
    assert!(descriptors() <= before, "nothing is left behind");
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
            let sends = probe.get("IORING_OP_SENDMSG").unwrap_err();
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
