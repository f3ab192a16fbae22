//! Random lives of operations against what is known of them from outside: every buffer is freed once and
//! never while its operation is in flight, every result is one that can be, nothing stays behind.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;

use common::{SOON, Tracked, count, counter, pipe};
use io_uring_ext::op::Read;
use io_uring_ext::{Fd, Local, Pending, Ring, StartError};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// Starts a read from one of the pipes.
    Start(usize),
    /// Writes a byte into one of the pipes.
    Feed(usize),
    Submit,
    Cancel(usize),
    CancelAll,
    Drop(usize),
    Detach(usize),
    TryTake(usize),
    Wait(usize),
}

const PIPES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>;
    prop_oneof![
        4 => any().prop_map(|n| Step::Start(n % PIPES)),
        3 => any().prop_map(|n| Step::Feed(n % PIPES)),
        2 => Just(Step::Submit),
        2 => any().prop_map(Step::Cancel),
        1 => Just(Step::CancelAll),
        1 => any().prop_map(Step::Drop),
        1 => any().prop_map(Step::Detach),
        2 => any().prop_map(Step::TryTake),
        1 => any().prop_map(Step::Wait),
    ]
}

/// A read and whether it is certain to end: it was cancelled and submitted, or so it will be by a wait.
struct Live {
    pending: Pending<Read<Tracked>, Local>,
    cancelled: bool,
}

fn pick(live: &mut Vec<Live>, n: usize) -> Option<Live> {
    (!live.is_empty()).then(|| live.swap_remove(n % live.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_life_ends_once(steps in proptest::collection::vec(step(), 0..120), forget_last: bool) {
        let ring = Ring::builder().entries(2).completions(4).operations(6).build_local().unwrap();
        let mut pipes: Vec<_> = (0..PIPES).map(|_| pipe()).map(|(reader, writer)| {
            (Fd::new(reader), std::fs::File::from(writer))
        }).collect();
        let freed = counter();
        let (mut made, mut fed, mut read) = (0, 0, 0);
        let mut live: Vec<Live> = Vec::new();
        for step in steps {
            match step {
                Step::Start(n) => {
                    made += 1;
                    match ring.push(Read::new(&pipes[n].0, Tracked::new(16, &freed), 0)) {
                        Ok(pending) => live.push(Live { pending, cancelled: false }),
                        Err(refused) => {
                            let full = matches!(refused.why, StartError::TooMany { capacity: 6 });
                            prop_assert!(full, "{}", refused.why);
                        }
                    }
                }
                Step::Feed(n) => {
                    pipes[n].1.write_all(b"x").unwrap();
                    fed += 1;
                }
                Step::Submit => ring.submit().unwrap(),
                Step::Cancel(n) if !live.is_empty() => {
                    let n = n % live.len();
                    live[n].pending.cancel().unwrap();
                    live[n].cancelled = true;
                }
                Step::CancelAll => {
                    ring.cancel_all().unwrap();
                    live.iter_mut().for_each(|live| live.cancelled = true);
                }
                Step::Drop(n) => drop(pick(&mut live, n)),
                Step::Detach(n) => {
                    if let Some(live) = pick(&mut live, n) {
                        live.pending.detach();
                    }
                }
                Step::TryTake(n) | Step::Wait(n) => {
                    let Some(Live { pending, cancelled }) = pick(&mut live, n) else { continue };
                    let taken = if matches!(step, Step::Wait(_)) && cancelled {
                        Ok(pending.wait(SOON).unwrap())
                    } else {
                        pending.try_take()
                    };
                    match taken {
                        Ok(done) => match done.result {
                            Ok(bytes) => {
                                prop_assert!(bytes > 0);
                                read += bytes;
                            }
                            Err(error) => {
                                prop_assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                                prop_assert!(cancelled);
                            }
                        },
                        Err(pending) => live.push(Live { pending, cancelled }),
                    }
                }
                Step::Cancel(_) => {}
            }
            prop_assert!(read <= fed, "{read} bytes read of {fed}");
            prop_assert!(count(&freed) + live.len() <= made);
            prop_assert!(made - count(&freed) >= ring.in_flight(), "freed while in flight");
            prop_assert_eq!(ring.counters().stale, 0);
        }
        let forgotten = if forget_last { pick(&mut live, 0) } else { None };
        let leaked = usize::from(forgotten.is_some());
        std::mem::forget(forgotten);
        drop(ring);
        // Results outlive the ring; the ring's end has ended every operation.
        for Live { pending, .. } in live {
            prop_assert!(pending.try_take().is_ok());
        }
        prop_assert_eq!(count(&freed), made - leaked);
    }
}
