//! The XDP program on interfaces of a veth pair: how it comes there, who is in its way, and that it
//! goes, however its process ends.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bypass_core::Error;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_xdp::program::{
    Attachment, Filter, Frags, Owner, Program, ProgramError, ProgramOptions, XskMap,
};
use bypass_xdp::{Hook, Want};
use libbpf_rs::{MapCore as _, MapHandle, Object, ObjectBuilder, Xdp, XdpFlags};
use rustix::process::{Pid, Signal, kill_process};

const NAME: &str = Veth::NAME;

fn veth(options: &VethOptions) -> Option<Veth> {
    (!skip(&[Need::Namespaces, Need::Bpf])).then(|| Veth::new(options).unwrap())
}

fn plain() -> Option<Veth> {
    veth(&VethOptions::default())
}

/// What `ip` says about an XDP program on an interface.
fn shown(namespace: &Namespace, interface: &str) -> Option<&'static str> {
    let link = namespace.ip(&format!("-d link show {interface}")).unwrap();
    let says = |word: &&str| link.split_whitespace().any(|one| one == *word);
    ["xdpgeneric", "xdp"].into_iter().find(says)
}

fn options(change: impl FnOnce(&mut ProgramOptions)) -> ProgramOptions {
    let mut options = ProgramOptions::new(NAME);
    change(&mut options);
    options
}

/// Attaches on side b.
fn attach(veth: &Veth, change: impl FnOnce(&mut ProgramOptions)) -> bypass_core::Result<Program> {
    let _inside = veth.b.enter().unwrap();
    options(change).attach()
}

/// The error of this crate inside an error of the family.
fn cause(error: &Error) -> &ProgramError {
    let Error::Backend { source, .. } = error else { panic!("{error:?}") };
    source.downcast_ref().unwrap()
}

/// A foreign program, as another tool would load it.
fn foreign() -> Object {
    ObjectBuilder::default()
        .open_memory(include_bytes!("../bpf/steer.bpf.o"))
        .unwrap()
        .load()
        .unwrap()
}

fn ifindex(namespace: &Namespace) -> i32 {
    let line = namespace.ip(&format!("-o link show {NAME}")).unwrap();
    line.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn it_runs_where_it_should_and_goes_with_its_value() {
    let Some(veth) = plain() else { return };
    for (hook, word) in [(Hook::Native, "xdp"), (Hook::Generic, "xdpgeneric")] {
        for want in [Want::Require(hook), Want::Prefer(hook)] {
            let program = attach(&veth, |options| options.hook = want).unwrap();
            assert_eq!(shown(&veth.b, NAME), Some(word));
            assert_eq!(program.attachment().hook(), hook);
            assert!(program.attachment().fallback().is_none());
            assert!(!program.has_frags());
            drop(program);
            assert_eq!(shown(&veth.b, NAME), None);
        }
    }
}

#[test]
fn a_driver_without_native_mode_is_an_error_or_a_reported_fallback() {
    let Some(veth) = plain() else { return };
    let _inside = veth.b.enter().unwrap();
    let on_lo = |hook| {
        let mut options = ProgramOptions::new("lo");
        options.hook = hook;
        options.attach()
    };
    let error = on_lo(Want::Require(Hook::Native)).unwrap_err();
    let ProgramError::Refused { hook: Hook::Native, source, .. } = cause(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(source.raw_os_error(), Some(libc::EOPNOTSUPP));
    assert!(error.to_string().contains("the driver has no native XDP"), "{error}");
    assert_eq!(shown(&veth.b, "lo"), None);

    let program = on_lo(Want::Prefer(Hook::Native)).unwrap();
    assert_eq!(shown(&veth.b, "lo"), Some("xdpgeneric"));
    assert_eq!(program.attachment().hook(), Hook::Generic);
    let why = program.attachment().fallback().unwrap().to_string();
    assert!(why.contains("to lo in native mode"), "{why}");
}

#[test]
fn an_mtu_beyond_a_page_takes_fragments_or_is_an_error() {
    let Some(veth) = veth(&VethOptions { mtu: 9000, ..VethOptions::default() }) else { return };
    let native = Want::Require(Hook::Native);
    let error = attach(&veth, |options| {
        options.hook = native;
        options.frags = Frags::Off;
    })
    .unwrap_err();
    assert!(matches!(cause(&error), ProgramError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("MTU (here 9000"), "{error}");
    assert!(error.to_string().contains("3506"), "{error}");

    let program = attach(&veth, |options| options.hook = native).unwrap();
    assert!(program.has_frags());
    drop(program);
    let program = attach(&veth, |options| options.frags = Frags::Off).unwrap();
    assert_eq!(program.attachment().hook(), Hook::Generic, "preferred only");
    assert!(program.attachment().fallback().is_some());
}

#[test]
fn without_fragments_the_mtu_keeps_its_limit() {
    let Some(veth) = plain() else { return };
    let raise = || veth.a.ip(&format!("link set {NAME} mtu 9000"));
    let program = attach(&veth, |_| {}).unwrap();
    raise().unwrap_err();
    drop(program);
    let program = attach(&veth, |options| options.frags = Frags::On).unwrap();
    assert!(program.has_frags());
    raise().unwrap();
}

#[test]
fn a_program_that_netlink_has_attached_is_named_with_how_to_detach_it() {
    let Some(veth) = plain() else { return };
    let theirs = foreign();
    let program = theirs.progs().next().unwrap();
    for (flags, word) in [(XdpFlags::DRV_MODE, "xdp"), (XdpFlags::SKB_MODE, "xdpgeneric")] {
        {
            let _inside = veth.b.enter().unwrap();
            Xdp::new(program.as_fd()).attach(ifindex(&veth.b), flags).unwrap();
        }
        for hook in [Hook::Native, Hook::Generic] {
            let error = attach(&veth, |options| options.hook = Want::Prefer(hook)).unwrap_err();
            let ProgramError::Occupied { owner, .. } = cause(&error) else { panic!("{error:?}") };
            assert_eq!(owner.name.as_deref(), Some("bypass_steer"));
            assert_eq!(owner.link, None);
            let id = libbpf_rs::Program::id_from_fd(program.as_fd()).unwrap();
            assert_eq!(owner.program, id);
        }
        let error = attach(&veth, |_| {}).unwrap_err().to_string();
        let remedy = format!("link set dev {NAME} {word} off");
        assert!(error.contains(&format!("`ip {remedy}` takes it off")), "{error}");
        veth.b.ip(&remedy).unwrap();
        attach(&veth, |_| {}).unwrap();
    }
}

#[test]
fn a_program_that_was_left_behind_is_told_from_one_that_is_held_and_taken_off() {
    let Some(veth) = plain() else { return };
    let _inside = veth.b.enter().unwrap();
    assert_eq!(Owner::on(NAME).unwrap(), None);
    for word in ["xdp", "xdpgeneric"] {
        let put = |theirs: &Object| {
            let native = word == "xdp";
            let flags = if native { XdpFlags::DRV_MODE } else { XdpFlags::SKB_MODE };
            let program = theirs.progs().next().unwrap();
            Xdp::new(program.as_fd()).attach(ifindex(&veth.b), flags).unwrap();
        };
        let theirs = foreign();
        put(&theirs);
        let held = Owner::on(NAME).unwrap().unwrap();
        assert_eq!(held.process.as_ref().unwrap().0, std::process::id(), "{held:?}");
        assert!(!held.is_abandoned());

        drop(theirs);
        // A program that another test starts holds, until it runs, copies of this process' descriptors.
        let start = Instant::now();
        let left = loop {
            let left = Owner::on(NAME).unwrap().unwrap();
            if left.is_abandoned() {
                break left;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{left:?}");
        };
        assert_eq!(left.program, held.program);
        assert_eq!(shown(&veth.b, NAME), Some(word));
        left.take_off(NAME).unwrap();
        assert_eq!(shown(&veth.b, NAME), None);

        // Another one has come meanwhile: it stays.
        let other = foreign();
        put(&other);
        left.take_off(NAME).unwrap_err();
        assert_eq!(shown(&veth.b, NAME), Some(word));
        Owner::on(NAME).unwrap().unwrap().take_off(NAME).unwrap();
    }
    let link = attach(&veth, |_| {}).unwrap();
    let owner = Owner::on(NAME).unwrap().unwrap();
    assert!(!owner.is_abandoned());
    assert!(matches!(owner.take_off(NAME), Err(Error::Config { .. })));
    assert_eq!(shown(&veth.b, NAME), Some("xdp"));
    drop(link);
    assert!(matches!(Owner::on("nowhere0"), Err(Error::NoSuchInterface { .. })));
}

#[test]
fn a_program_that_a_link_holds_is_named_with_its_process() {
    let Some(veth) = plain() else { return };
    let _theirs = attach(&veth, |_| {}).unwrap();
    let error = attach(&veth, |_| {}).unwrap_err();
    let ProgramError::Occupied { owner, .. } = cause(&error) else { panic!("{error:?}") };
    assert!(owner.link.is_some());
    assert_eq!(owner.process.as_ref().unwrap().0, std::process::id());
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(shown(&veth.b, NAME), Some("xdp"), "theirs stays");
}

/// What a child of these tests does; the value says how it ends.
const CHILD: &str = "BYPASS_TEST_CHILD";

/// Runs in a child process: attaches, says so, and ends as it is told.
#[test]
fn attaches_as_a_child_of_other_tests() {
    let Some(end) = std::env::var_os(CHILD) else { return };
    let _program = options(|options| options.filter = Filter::new().udp([4000])).attach().unwrap();
    println!("attached");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    assert_ne!(end, "panic", "told to");
    if end == "exit" {
        std::process::exit(0);
    }
    std::io::stdin().read_exact(&mut [0]).unwrap();
}

/// A process that has the program on side b.
fn child(veth: &Veth, end: &str) -> Child {
    let _inside = veth.b.enter().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "attaches_as_a_child_of_other_tests", "--nocapture"])
        .env(CHILD, end)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(said.map_while(Result::ok).any(|line| line.ends_with("attached")));
    child
}

#[test]
fn nothing_stays_behind_however_the_process_ends() {
    let Some(veth) = plain() else { return };
    for end in ["exit", "panic", "term", "kill"] {
        let mut child = child(&veth, end);
        assert_eq!(shown(&veth.b, NAME), Some("xdp"), "{end}");
        let pid = Pid::from_child(&child);
        match end {
            "term" => kill_process(pid, Signal::TERM).unwrap(),
            "kill" => kill_process(pid, Signal::KILL).unwrap(),
            _ => std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"!").unwrap(),
        }
        assert_eq!(child.wait().unwrap().success(), end == "exit", "{end}");
        // Older kernels take a link down in deferred work.
        let start = Instant::now();
        while shown(&veth.b, NAME).is_some() {
            assert!(start.elapsed() < Duration::from_secs(5), "a program stays after {end}");
        }
        attach(&veth, |_| {}).unwrap();
    }
}

#[test]
fn another_process_is_named() {
    let Some(veth) = plain() else { return };
    let mut child = child(&veth, "kill");
    let error = attach(&veth, |_| {}).unwrap_err();
    let ProgramError::Occupied { owner, .. } = cause(&error) else { panic!("{error:?}") };
    let (pid, name) = owner.process.clone().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(pid, child.id());
    assert!(name.starts_with("program_attach") || !name.is_empty(), "{name}");
    assert!(error.to_string().contains(&format!("when process {pid} ({name}) ends")), "{error}");
}

#[test]
fn what_would_cut_the_machine_off_is_refused_unless_forced() {
    let Some(veth) = plain() else { return };
    veth.b.ip("route add default via 10.66.0.1").unwrap();
    let filters = [
        Filter::everything(),
        Filter::new().udp([1]).to("0.0.0.0/0".parse().unwrap()),
        Filter::new().ether_type(0x0806),
    ];
    for filter in &filters {
        let error = attach(&veth, |options| options.filter = filter.clone()).unwrap_err();
        assert!(matches!(cause(&error), ProgramError::DefaultRoute { .. }), "{error:?}");
        attach(&veth, |options| {
            options.filter = filter.clone();
            options.force = true;
        })
        .unwrap();
    }
    let program = attach(&veth, |options| options.filter = Filter::new().udp([1])).unwrap();
    let _inside = veth.b.enter().unwrap();
    let error = program.set_filter(&Filter::everything()).unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
    drop(program);
    veth.b.ip("route del default").unwrap();
    options(|options| options.filter = Filter::everything()).attach().unwrap();
}

/// The usual ways in which an interface that has no address itself is the way to everywhere.
#[test]
fn a_route_through_what_lies_above_an_interface_counts() {
    let Some(veth) = plain() else { return };
    veth.b.ip("address flush dev veth0").unwrap();
    for kind in ["bridge0 type bridge", "near type veth peer name far"] {
        veth.b.ip(&format!("link add {kind}")).unwrap();
    }
    let refused = |on: &str, device: &str| {
        veth.b.ip(&format!("address add 10.77.0.2/24 dev {device}")).unwrap();
        veth.b.ip(&format!("link set {device} up")).unwrap();
        veth.b.ip(&format!("route replace default via 10.77.0.1 dev {device} onlink")).unwrap();
        let attached = attach(&veth, |options| {
            (options.filter, options.interface) = (Filter::everything(), on.to_owned());
        });
        veth.b.ip(&format!("address flush dev {device}")).unwrap();
        match attached {
            Ok(_) => false,
            Err(error) => matches!(cause(&error), ProgramError::DefaultRoute { .. }),
        }
    };
    assert!(!refused("veth0", "bridge0") && !refused("veth0", "far"));
    veth.b.ip("link set veth0 master bridge0").unwrap();
    assert!(refused("veth0", "bridge0") && !refused("veth0", "far"));
    // The other end of a cable is to this one what a VLAN is to what it is made on.
    assert!(refused("near", "far") && !refused("near", "bridge0"));
    veth.b.ip("link set far master bridge0").unwrap();
    assert!(refused("near", "bridge0"), "the bridge of that");
}

#[test]
fn what_is_missing_is_named() {
    let Some(veth) = plain() else { return };
    let error = attach(&veth, |options| options.interface = "nosuch0".to_owned()).unwrap_err();
    assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");

    // Capabilities belong to a thread, and anybody may give them up.
    let error = std::thread::scope(|scope| {
        let without = || {
            use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
            let _inside = std::mem::ManuallyDrop::new(veth.b.enter().unwrap());
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, sets).unwrap();
            ProgramOptions::new(NAME).attach().unwrap_err()
        };
        scope.spawn(without).join().unwrap()
    });
    assert!(matches!(error, Error::MissingCapability { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("CAP_BPF,CAP_NET_ADMIN"), "{text}");
    assert!(text.contains("setcap cap_bpf,cap_net_admin+ep"), "{text}");
}

#[test]
fn a_program_of_the_user_s_own_and_its_map_are_taken() {
    let Some(veth) = plain() else { return };
    let theirs = foreign();
    let program = theirs.progs().next().unwrap();
    let _inside = veth.b.enter().unwrap();
    let attachment = Attachment::new(program.as_fd(), NAME, Want::Require(Hook::Native)).unwrap();
    assert_eq!(shown(&veth.b, NAME), Some("xdp"));
    assert_eq!(attachment.interface(), NAME);
    drop(attachment);
    assert_eq!(shown(&veth.b, NAME), None);

    let map = |name| {
        let map = theirs.maps().find(|map| map.name() == name).unwrap();
        map.as_fd().try_clone_to_owned().unwrap()
    };
    let sockets = XskMap::from_fd(map("sockets")).unwrap();
    assert_eq!(sockets.queues(), 64);
    sockets.remove(3).unwrap();
    let error = sockets.remove(64).unwrap_err();
    assert!(error.to_string().contains("room for 64 queues only"), "{error}");
    let no_socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = sockets.insert(0, no_socket.as_fd()).unwrap_err();
    assert!(error.to_string().contains("must be an AF_XDP socket that has"), "{error}");

    let error = XskMap::from_fd(map("sets")).unwrap_err();
    assert!(error.to_string().contains("a map of type 2, not an XSKMAP"), "{error}");
    let error = XskMap::from_fd(no_socket.into()).unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
}

#[test]
fn a_pinned_map_is_found() {
    let Some(_veth) = plain() else { return };
    // A BPF file system of its own, mounted nowhere.
    let mount = {
        use rustix::mount::*;
        let fs = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(fs.as_fd()).unwrap();
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
    };
    let path = |mount: &OwnedFd, name| format!("/proc/self/fd/{}/{name}", mount.as_raw_fd());
    let theirs = foreign();
    let sockets = theirs.maps().find(|map| map.name() == "sockets").unwrap();
    MapHandle::try_from(&sockets).unwrap().pin(path(&mount, "sockets")).unwrap();
    let found = XskMap::open_pinned(path(&mount, "sockets")).unwrap();
    assert_eq!(found.queues(), 64);
    let error = XskMap::open_pinned(path(&mount, "others")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error:?}");
}

#[test]
fn a_program_outlives_its_interface_without_harm() {
    let Some(veth) = plain() else { return };
    let program = attach(&veth, |_| {}).unwrap();
    veth.b.ip(&format!("link del {NAME}")).unwrap();
    program.set_filter(&Filter::new().udp([1])).unwrap();
    program.counters().unwrap();
    drop(program);
    assert!(shown_all(&veth.b).is_empty());
}

fn shown_all(namespace: &Namespace) -> String {
    let links = namespace.ip("-d link show").unwrap();
    links.lines().filter(|line| line.contains("prog/xdp")).collect()
}
