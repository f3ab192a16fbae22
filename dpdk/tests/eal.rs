//! The environment for real: one process per test, no privileges, no huge pages.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::needs::skip_because;
use bypass_core::testing::process::alone;
use bypass_core::worker::available_cores;
use bypass_core::{Buffer as _, Burst, Endpoint as _, PacketIo as _};
use bypass_dpdk::{
    DpdkError, Eal, EalOptions, Level, Mempool, MempoolOptions, Port, PortOptions, QueuePair, Sink,
    Vdev,
};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

fn start() -> Eal {
    EalOptions::new().start().unwrap()
}

#[test]
fn it_starts_once_and_ends_once() {
    alone(|| {
        assert!(Eal::current().is_none());
        let eal = start();
        assert!(Eal::version().starts_with("DPDK 2"), "{}", Eal::version());
        assert!(!eal.has_huge_pages());
        assert!(!eal.numa_nodes().is_empty());
        let again = EalOptions::new().start().unwrap_err();
        assert!(matches!(again, DpdkError::AlreadyStarted), "{again}");

        let other = Eal::current().unwrap();
        let refused = eal.cleanup().unwrap_err();
        assert!(matches!(refused, DpdkError::InUse { handles: 1 }), "{refused}");
        other.cleanup().unwrap();
        assert!(Eal::current().is_none());
        let spent = EalOptions::new().start().unwrap_err();
        assert!(matches!(spent, DpdkError::Spent { .. }), "{spent}");
    });
}

#[test]
fn it_outlives_its_handles() {
    alone(|| {
        drop(start());
        Eal::current().unwrap().cleanup().unwrap();
    });
}

#[test]
fn it_leaves_no_folder_behind() {
    alone(|| {
        let eal = start();
        assert!(!eal.runtime_folder().exists(), "{}", eal.runtime_folder().display());
    });
}

/// What `dpdk-telemetry.py` does.
#[test]
fn telemetry_answers_when_asked_for() {
    alone(|| {
        let eal = EalOptions::new().telemetry(true).start().unwrap();
        let ring = Vdev::plug(&eal, "net_ring0", "").unwrap();
        let folder = eal.runtime_folder();
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        socket.connect(&SockAddr::unix(folder.join("dpdk_telemetry.v2")).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let said = || {
            let mut said = [0; 1 << 16];
            let n = (&socket).read(&mut said).unwrap();
            String::from_utf8_lossy(&said[..n]).into_owned()
        };
        let greeting = said();
        assert!(greeting.contains(&Eal::version()), "{greeting}");
        let ask = |what: &str| {
            socket.send(what.as_bytes()).unwrap();
            let mut answer: Value = serde_json::from_str(&said()).unwrap();
            answer[what.split(',').next().unwrap()].take()
        };
        assert_eq!(ask("/ethdev/list"), json!(ring.ports()));

        // What is open and moves packets is shown, and with the numbers that it has here.
        let pool = Mempool::new(&eal, &MempoolOptions::new(255)).unwrap();
        let port = Port::open(&eal, "net_ring0").unwrap().start(&PortOptions::new(&pool)).unwrap();
        assert_eq!(ask("/ethdev/list"), json!(ring.ports()));
        let mut pair = port.queue_pair(0).unwrap();
        let mut burst = Burst::with_capacity(7);
        assert_eq!(pair.alloc(&mut burst, 7), 7);
        burst.iter_mut().for_each(|packet| packet.fill(&[0xff; 60]).unwrap());
        assert_eq!(pair.send(&mut burst).unwrap(), 7);
        let mut five = Burst::with_capacity(5);
        assert_eq!(pair.recv(&mut five).unwrap(), 5);
        let (told, counted, stats) =
            (ask(&format!("/ethdev/stats,{}", port.id())), pair.stats(), port.stats().unwrap());
        assert_eq!((counted.rx_packets, counted.tx_packets), (5, 7));
        for (name, device) in [
            ("ipackets", stats.rx_packets),
            ("opackets", stats.tx_packets),
            ("ibytes", stats.rx_bytes),
            ("obytes", stats.tx_bytes),
            ("imissed", stats.rx_missed),
            ("ierrors", stats.rx_errors),
            ("oerrors", stats.tx_errors),
            ("rx_nombuf", stats.rx_no_mbuf),
        ] {
            assert_eq!(told[name], device, "{name}: {told}");
        }
        assert_eq!((stats.rx_packets, stats.tx_packets), (5, 7));
        let told = ask(&format!("/ethdev/xstats,{}", port.id()));
        let mut counters = serde_json::Map::new();
        port.visit_counters(&mut |name, value| {
            counters.insert(name.to_owned(), value.into());
        })
        .unwrap();
        assert_eq!(told, Value::Object(counters));
        drop((five, burst, pair, port, pool, ring));
        eal.cleanup().unwrap();
        assert!(!folder.exists(), "{}", folder.display());
    });
}

#[test]
fn a_core_that_is_not_there_is_named_and_costs_nothing() {
    alone(|| {
        for (options, said) in [
            (EalOptions::new().cores([99]), "cores = 99"),
            (EalOptions::new().cores([0, 0]), "cores = 0"),
            (EalOptions::new().cores([1_000_000]), "cores = 1000000"),
        ] {
            let error = options.start().unwrap_err();
            assert!(error.to_string().starts_with(said), "{error}");
        }
        start();
    });
}

#[test]
fn more_memory_than_there_is_is_refused() {
    alone(|| {
        let error = EalOptions::new().memory_limit(900_000_000).start().unwrap_err();
        let DpdkError::Init { said, .. } = &error else { panic!("{error}") };
        assert!(!said.is_empty(), "{error}");
        // Another attempt either succeeds or says why it cannot.
        match EalOptions::new().start() {
            Ok(eal) => assert!(!eal.lcores().is_empty()),
            Err(DpdkError::Spent { .. }) => {}
            Err(error) => {
                assert!(error.to_string().contains("an attempt before this one"), "{error}")
            }
        }
    });
}

#[test]
fn a_device_that_does_not_come_up_is_reported_by_name_and_dpdk_runs() {
    alone(|| {
        let options =
            EalOptions::new().vdev("net_null0", "").vdev("net_af_packet7", "iface=no-such-if");
        let error = options.start().unwrap_err();
        let DpdkError::Probe { device, .. } = &error else { panic!("{error}") };
        assert_eq!(device, "net_af_packet7");
        assert!(error.to_string().starts_with("cannot probe net_af_packet7: "), "{error}");
        let eal = Eal::current().unwrap();
        let error = Vdev::plug(&eal, "net_null0", "").unwrap_err();
        assert_eq!(error.errno().unwrap().raw(), libc::EEXIST, "{error}");
    });
}

#[test]
fn a_driver_that_refuses_is_quoted() {
    alone(|| {
        let eal = start();
        let error = Vdev::plug(&eal, "net_af_packet0", "iface=no-such-if").unwrap_err();
        let DpdkError::Probe { device, said, .. } = &error else { panic!("{error}") };
        assert_eq!(device, "net_af_packet0");
        assert!(!said.is_empty(), "{error}");
        assert_eq!(Vdev::plug(&eal, "net_null0", "").unwrap().ports().len(), 1);
    });
}

/// `internal=` is read as an address, and the port `foo` would stay when its device is freed. Nothing of it
/// comes to DPDK, on any way.
#[test]
fn arguments_that_a_driver_believes_are_refused_on_every_way() {
    alone(|| {
        for (name, arguments) in [
            ("net_ring1", "internal=0x1"),
            ("eth_ring1", "internal=0x1"),
            ("net_ring1", "nodeaction=foo:0:CREATE"),
            ("net_memif1", "role=client,zero-copy=yes"),
            ("net_softnic1", "firmware=/dev/null"),
        ] {
            let error = EalOptions::new().vdev(name, arguments).start().unwrap_err();
            assert!(matches!(error, DpdkError::Config { .. }), "{error}");
            assert!(error.to_string().contains("plug_unchecked"), "{error}");
        }
        let eal = start();
        for arguments in ["internal=0x1", "nodeaction=foo:0:CREATE", "size=1,internal=0x1"] {
            let error = Vdev::plug(&eal, "net_ring1", arguments).unwrap_err();
            assert!(
                matches!(error, DpdkError::Config { setting: "vdev arguments", .. }),
                "{error}"
            );
            let whole = format!("net_ring1,{arguments}");
            let error = QueuePair::open(&PacketOptions::new(whole)).unwrap_err();
            assert!(matches!(error, bypass_core::Error::Config { .. }), "{error}");
        }
        for port in ["foo", "net_ring1"] {
            let error = Port::open(&eal, port).unwrap_err();
            assert!(error.to_string().contains("there is no port of this name"), "{error}");
        }
        eal.cleanup().unwrap();
    });
}

#[test]
#[expect(unsafe_code, reason = "what is tested is unsafe")]
fn who_answers_for_a_driver_may_use_any() {
    alone(|| {
        let eal = start();
        // SAFETY: no packet is sent to it, of which it would copy more than there is.
        let null = unsafe { Vdev::plug_unchecked(&eal, "net_null1", "copy=64") };
        let null = null.unwrap();
        let port = Port::open(&eal, "net_null1").unwrap();
        let (null, error) = null.unplug().unwrap_err();
        assert!(matches!(error, DpdkError::DeviceInUse { .. }), "{error}");
        drop(port);
        null.unplug().map_err(|(_, error)| error).unwrap();
        // SAFETY: it is refused.
        let error = unsafe { Vdev::plug_unchecked(&eal, "net_bonding0", "mode=1") }.unwrap_err();
        assert!(matches!(error, DpdkError::Config { .. }), "{error}");
    });
}

/// What a port cannot be asked for is refused, not ignored.
#[test]
fn options_that_a_port_cannot_honour_are_refused() {
    alone(|| {
        let ring = || PacketOptions::new("net_ring0");
        for (options, said) in [
            (PacketOptions { max_frame: Some(9014), ..ring() }, "max_frame"),
            (PacketOptions { outgoing: true, ..ring() }, "outgoing"),
            (PacketOptions { send_buffer: Some(4096), ..ring() }, "send_buffer"),
            (PacketOptions::new("net_pcap0,iface=lo"), "rx_iface_in"),
        ] {
            let error = QueuePair::open(&options).unwrap_err();
            assert!(matches!(error, bypass_core::Error::Unsupported(_)), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let options = PacketOptions { qdisc_bypass: true, ..ring() };
        QueuePair::open(&options).map(drop).unwrap();
    });
}

#[test]
fn devices_come_and_go() {
    alone(|| {
        let eal = start();
        let null = Vdev::plug(&eal, "net_null0", "size=64").unwrap();
        for _ in 0..20 {
            let ring = Vdev::plug(&eal, "net_ring0", "").unwrap();
            assert_eq!((ring.name(), ring.ports().len()), ("net_ring0", 1));
            assert_ne!(ring.ports(), null.ports());
            let twice = Vdev::plug(&eal, "net_ring0", "").unwrap_err();
            assert_eq!(twice.errno().unwrap().raw(), libc::EEXIST, "{twice}");
            assert_eq!(ring.ports().len(), 1, "the first one is still there");
        }
        null.unplug().map_err(|(_, error)| error).unwrap();
        eal.cleanup().unwrap();
    });
}

#[test]
fn a_device_keeps_the_environment() {
    alone(|| {
        let eal = start();
        let ring = Vdev::plug(&eal, "net_ring0", "").unwrap();
        assert!(matches!(eal.cleanup(), Err(DpdkError::InUse { handles: 1 })));
        assert_eq!(ring.ports().len(), 1);
        drop(ring);
        Eal::current().unwrap().cleanup().unwrap();
    });
}

#[test]
fn threads_register_and_have_numbers_of_their_own() {
    alone(|| {
        const THREADS: usize = 8;
        let eal = start();
        assert_eq!(eal.register_thread().unwrap().lcore(), eal.lcores()[0].id, "has one already");
        let all_there = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (eal, all_there) = (eal.clone(), Arc::clone(&all_there));
                thread::spawn(move || {
                    let first = eal.register_thread().unwrap();
                    let second = eal.register_thread().unwrap();
                    all_there.wait();
                    drop(first);
                    // One guard is enough.
                    let third = eal.register_thread().unwrap();
                    assert_eq!(second.lcore(), third.lcore());
                    third.lcore()
                })
            })
            .collect();
        let numbers: BTreeSet<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(numbers.len(), THREADS, "{numbers:?}");
        eal.cleanup().unwrap();
    });
}

#[test]
fn running_out_of_lcore_numbers_is_an_error_that_passes() {
    alone(|| {
        let eal = start();
        // Each thread registers, starts the next and waits for it, until one cannot.
        fn deeper(eal: &Eal, depth: u32) -> (u32, DpdkError) {
            match eal.register_thread() {
                Ok(registration) => {
                    let next = eal.clone();
                    let outcome = thread::spawn(move || deeper(&next, depth + 1)).join().unwrap();
                    drop(registration);
                    outcome
                }
                Err(error) => (depth, error),
            }
        }
        let inner = eal.clone();
        let (depth, error) = thread::spawn(move || deeper(&inner, 0)).join().unwrap();
        assert!(depth > 8, "{depth}");
        assert!(error.to_string().starts_with("cannot register a thread: "), "{error}");
        let inner = eal.clone();
        thread::spawn(move || inner.register_thread().map(drop)).join().unwrap().unwrap();
    });
}

#[test]
fn lcores_run_closures_and_panics_stay_theirs() {
    alone(|| {
        let cores = available_cores().unwrap();
        if cores.len() < 2 {
            return skip_because("needs two cores");
        }
        let eal =
            EalOptions::new().cores([cores[1], cores[0]]).main_core(cores[0]).start().unwrap();
        let lcores = eal.lcores();
        assert_eq!(lcores.len(), 2);
        let worker = *lcores.iter().find(|lcore| !lcore.main).unwrap();
        assert_eq!(usize::try_from(worker.core).unwrap(), cores[1]);

        let core = eal.launch(worker.id, || available_cores().unwrap()).unwrap().join().unwrap();
        assert_eq!(core, [cores[1]], "pinned");

        let panicked = eal.launch::<(), _>(worker.id, || panic!("queue 3 is on fire")).unwrap();
        let error = panicked.join().unwrap_err();
        assert_eq!(error.to_string(), format!("lcore {} panicked: queue 3 is on fire", worker.id));

        let go = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&go);
        let busy = eal.launch(worker.id, move || {
            while !seen.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            7
        });
        let busy = busy.unwrap();
        let refused = eal.launch(worker.id, || ()).unwrap_err();
        assert!(refused.to_string().contains("wait for what runs there"), "{refused}");
        assert!(matches!(eal.cleanup(), Err(DpdkError::InUse { handles: 1 })), "it runs");
        let eal = Eal::current().unwrap();
        let busy = busy.try_join().unwrap_err();
        go.store(true, Ordering::Relaxed);
        assert_eq!(busy.join().unwrap(), 7);

        for wrong in [lcores.iter().find(|lcore| lcore.main).unwrap().id, 77] {
            let error = eal.launch(wrong, || ()).unwrap_err();
            assert!(matches!(error, DpdkError::Config { setting: "lcore", .. }), "{error}");
        }
        eal.cleanup().unwrap();
    });
}

#[test]
fn messages_go_to_the_sink_with_their_level() {
    alone(|| {
        let heard: Arc<Mutex<Vec<(Level, String)>>> = Arc::default();
        let take = Arc::clone(&heard);
        let sink = Sink::new(move |record| {
            take.lock().unwrap().push((record.level, record.message.to_owned()));
        });
        let options =
            EalOptions::new().log_level(Level::Info).log_level_of("lib.eal", Level::Debug);
        let eal = options.log_to(sink).start().unwrap();
        let (_, version) = heard.lock().unwrap()[0].clone();
        assert!(!version.ends_with('\n') && version.starts_with("EAL: "), "{version:?}");
        assert!(heard.lock().unwrap().iter().any(|(level, _)| *level == Level::Debug));

        heard.lock().unwrap().clear();
        let error = Vdev::plug(&eal, "net_af_packet1", "iface=no-such-if").unwrap_err();
        let DpdkError::Probe { said, .. } = error else { panic!("{error}") };
        let errors: Vec<_> = heard.lock().unwrap().drain(..).collect();
        let errors = errors.into_iter().filter(|(level, _)| *level <= Level::Error);
        assert_eq!(errors.map(|(_, text)| text).collect::<Vec<_>>(), said);
    });
}

#[test]
fn a_sink_that_panics_loses_its_message_and_nothing_else() {
    alone(|| {
        let sink = Sink::new(|_| panic!("no room for more"));
        let eal = EalOptions::new().log_level(Level::Debug).log_to(sink).start().unwrap();
        drop(Vdev::plug(&eal, "net_ring0", "").unwrap());
        eal.cleanup().unwrap();
    });
}
