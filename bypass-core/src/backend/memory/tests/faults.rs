//! Each fault happens, repeatably, and the counters add up.

use super::*;

const FRAMES: u64 = 2000;

/// What came of sending frames 0, 1, 2, … over a link with faults.
struct Outcome {
    sender: MemoryPort,
    received: Vec<Vec<u8>>,
    /// Calls of `send` that took nothing though the cable was empty.
    refusals: u64,
}

impl Outcome {
    fn new(faults: Faults) -> Self {
        let (mut a, mut b) = open(&LinkOptions { faults, ..small() });
        let (mut out, mut inbox) = (Burst::with_capacity(4), Burst::with_capacity(32));
        let (mut received, mut refusals) = (Vec::new(), 0);
        let (mut made, mut taken) = (0, 0);
        while taken < FRAMES {
            if out.is_empty() {
                let n = 4.min(FRAMES - made);
                made += numbered(&mut a, &mut out, made, n as usize);
            }
            let n = a.send(&mut out).unwrap() as u64;
            refusals += u64::from(n == 0);
            taken += n;
            check(&a.stats(), taken);
            if taken == FRAMES {
                a.flush().unwrap();
            }
            b.recv(&mut inbox).unwrap();
            received.extend(inbox.iter().map(|frame| frame.data().to_vec()));
            inbox.clear();
        }
        let (sent, got) = (a.stats(), b.stats());
        check(&sent, FRAMES);
        assert_eq!(sent.tx_in_flight, 0, "flush sends what was held back");
        let arrived = sent.tx_packets + counter(&a, "injected_duplicates");
        assert_eq!((got.rx_packets, received.len() as u64), (arrived, arrived));
        assert_eq!(sent.frames.unwrap().free, 16);
        Self { sender: a, received, refusals }
    }

    fn lost(&self) -> u64 {
        self.sender.stats().drops[DropCause::Injected]
    }

    fn counter(&self, name: &str) -> u64 {
        counter(&self.sender, name)
    }

    /// The numbers of frames that are all undamaged.
    fn numbers(&self) -> Vec<u64> {
        let number = |data: &Vec<u8>| {
            let number = u64::from_be_bytes(data[..8].try_into().unwrap());
            assert_eq!(data[..], bytes(number));
            number
        };
        self.received.iter().map(number).collect()
    }
}

/// About one in four, far from never and from always.
fn about_a_quarter(n: u64) -> bool {
    (FRAMES / 8..FRAMES * 3 / 8).contains(&n)
}

#[test]
fn without_faults_nothing_goes_wrong() {
    let outcome = Outcome::new(Faults::default());
    assert_eq!(outcome.numbers(), (0..FRAMES).collect::<Vec<_>>());
    assert_eq!((outcome.lost(), outcome.refusals), (0, 0));
}

#[test]
fn frames_are_lost() {
    let outcome = Outcome::new(Faults { loss: 0.25, ..Faults::default() });
    let numbers = outcome.numbers();
    assert!(numbers.is_sorted_by(|a, b| a < b) && about_a_quarter(outcome.lost()));
    assert_eq!(numbers.len() as u64 + outcome.lost(), FRAMES);
}

#[test]
fn frames_arrive_twice() {
    let outcome = Outcome::new(Faults { duplication: 0.25, ..Faults::default() });
    let mut numbers = outcome.numbers();
    let all = numbers.len() as u64;
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers, (0..FRAMES).collect::<Vec<_>>());
    assert_eq!(all - FRAMES, outcome.counter("injected_duplicates"));
    assert!(about_a_quarter(all - FRAMES));
}

#[test]
fn frames_change_places() {
    let outcome = Outcome::new(Faults { reordering: 0.25, ..Faults::default() });
    let mut numbers = outcome.numbers();
    let swapped = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
    assert_eq!(swapped, outcome.counter("injected_reorders"));
    assert!(about_a_quarter(swapped));
    assert!(numbers.iter().zip(0..).all(|(&number, place)| number.abs_diff(place) <= 1));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..FRAMES).collect::<Vec<_>>());
}

#[test]
fn one_bit_is_wrong() {
    let outcome = Outcome::new(Faults { corruption: 0.25, ..Faults::default() });
    let wrong_bits = |(data, number): (&Vec<u8>, u64)| -> u32 {
        data.iter().zip(bytes(number)).map(|(a, b)| (a ^ b).count_ones()).sum()
    };
    let wrong: Vec<u32> = outcome.received.iter().zip(0..).map(wrong_bits).collect();
    assert!(wrong.iter().all(|&bits| bits <= 1) && wrong.len() as u64 == FRAMES);
    let damaged = wrong.iter().sum::<u32>().into();
    assert_eq!(damaged, outcome.counter("injected_corruptions"));
    assert!(about_a_quarter(damaged));
}

#[test]
fn frames_are_refused_and_kept() {
    let outcome = Outcome::new(Faults { refusal: 0.25, ..Faults::default() });
    assert_eq!(outcome.numbers(), (0..FRAMES).collect::<Vec<_>>());
    // A refusal ends the call; those at its beginning are seen from outside.
    assert!(outcome.refusals > 0 && outcome.counter("injected_refusals") >= outcome.refusals);
    assert!(about_a_quarter(outcome.counter("injected_refusals")));
}

fn all_at_once(seed: u64) -> Faults {
    let odds = 0.2;
    Faults {
        loss: odds,
        duplication: odds,
        reordering: odds,
        corruption: odds,
        refusal: odds,
        seed,
    }
}

#[test]
fn faults_come_together_and_still_add_up() {
    // `Outcome::new` compares the counters.
    let outcome = Outcome::new(all_at_once(1));
    let counters = ["duplicates", "reorders", "corruptions", "refusals"];
    for name in counters.map(|name| format!("injected_{name}")) {
        assert!(outcome.counter(&name) > 0, "{name}");
    }
    assert!(outcome.lost() > 0);
}

#[test]
fn a_seed_repeats_its_faults() {
    let [first, again, other] = [7, 7, 8].map(|seed| Outcome::new(all_at_once(seed)).received);
    assert!(first == again && first != other);
}

#[test]
fn the_two_ends_have_faults_of_their_own() {
    let (a, b) = open(&LinkOptions { faults: all_at_once(7), ..small() });
    let mut ports = [a, b];
    let lost = [0, 1].map(|i| {
        let mut burst = Burst::with_capacity(1);
        let lost = (0..64).map(|number| {
            while burst.is_empty() {
                numbered(&mut ports[i], &mut burst, number, 1);
            }
            let before = ports[i].stats().drops.total();
            while ports[i].send(&mut burst).unwrap() == 0 {
                ports[1 - i].recv(&mut Burst::with_capacity(8)).unwrap();
            }
            ports[i].stats().drops.total() > before
        });
        lost.collect::<Vec<_>>()
    });
    assert_ne!(lost[0], lost[1]);
}

#[test]
fn always_is_always() {
    let lost = Outcome::new(Faults { loss: 1.0, ..Faults::default() });
    assert_eq!((lost.lost(), lost.received.len()), (FRAMES, 0));
    let twice = Outcome::new(Faults { duplication: 1.0, ..Faults::default() });
    assert_eq!(twice.numbers(), (0..FRAMES).flat_map(|n| [n, n]).collect::<Vec<_>>());
    let swapped = Outcome::new(Faults { reordering: 1.0, ..Faults::default() });
    assert_eq!(swapped.numbers(), (0..FRAMES).map(|n| n ^ 1).collect::<Vec<_>>());

    let refuse = Faults { refusal: 1.0, ..Faults::default() };
    let (mut a, _b) = open(&LinkOptions { faults: refuse, ..small() });
    let mut burst = Burst::with_capacity(4);
    numbered(&mut a, &mut burst, 0, 4);
    for n in 1..=100 {
        assert_eq!((a.send(&mut burst).unwrap(), counter(&a, "injected_refusals")), (0, n));
    }
    assert_eq!(numbers(&burst), [0, 1, 2, 3]);
}

#[test]
fn the_smallest_cable_moves_on_with_faults() {
    let faults = Faults { duplication: 0.5, reordering: 0.5, ..Faults::default() };
    let (mut a, mut b) = open(&LinkOptions { ring: 3, faults, ..small() });
    let (mut out, mut inbox) = (Burst::with_capacity(1), Burst::with_capacity(3));
    for number in 0..1000 {
        numbered(&mut a, &mut out, number, 1);
        assert_eq!(a.wait(Interest::TX, None).unwrap(), Ready::TX);
        assert_eq!(a.send(&mut out).unwrap(), 1, "there was room, said `wait`");
        b.recv(&mut inbox).unwrap();
        inbox.clear();
    }
}

#[test]
fn a_frame_that_is_held_back_is_in_flight_until_flushed() {
    let faults = Faults { reordering: 1.0, ..Faults::default() };
    let (mut a, mut b) = open(&LinkOptions { faults, ..small() });
    let mut burst = Burst::with_capacity(4);
    numbered(&mut a, &mut burst, 0, 1);
    assert_eq!((a.send(&mut burst).unwrap(), b.recv(&mut burst).unwrap()), (1, 0));
    let stats = a.stats();
    assert_eq!((stats.tx_packets, stats.tx_in_flight), (0, 1));
    assert_eq!(stats.frames.unwrap().tx_in_flight, 1);
    a.flush().unwrap();
    assert_eq!((b.recv(&mut burst).unwrap(), numbers(&burst)), (1, vec![0]));
    assert_eq!((a.stats().tx_packets, a.stats().tx_in_flight), (1, 0));
    assert_eq!(counter(&a, "injected_reorders"), 0, "nothing has overtaken it");
}

#[test]
fn duplicates_leave_the_reserve_alone() {
    let faults = Faults { duplication: 1.0, ..Faults::default() };
    let (mut a, _b) = open(&LinkOptions { ring: 32, faults, ..small() });
    let mut burst = Burst::with_capacity(16);
    assert_eq!(numbered(&mut a, &mut burst, 0, 16), 12);
    assert_eq!(a.send(&mut burst).unwrap(), 12);
    assert_eq!((counter(&a, "injected_duplicates"), a.stats().frames.unwrap().free), (0, 4));
}
