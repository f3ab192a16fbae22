use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::server::budget::REQUESTS;

const PATIENCE: Duration = Duration::from_secs(3);

/// An assembly, its clock, and what it has counted.
struct Rig {
    assembly: Assembly,
    now: Instant,
    counted: HashMap<&'static str, u64>,
    taken: u64,
}

impl Rig {
    fn new() -> Self {
        let assembly = Assembly::new(Arc::default(), PATIENCE);
        Self { assembly, now: Instant::now(), counted: HashMap::new(), taken: 0 }
    }

    fn take(&mut self, peer: u16, [request, sequence, total]: [u16; 3], piece: &[u8]) -> Taken {
        let (peer, frame) = (([10, 0, 0, 1], peer).into(), Frame { request, sequence, total });
        let counted = &mut self.counted;
        self.taken += 1;
        self.assembly.take(peer, frame, piece, self.now, |figure| {
            *counted.entry(figure.name()).or_default() += 1;
        })
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let counted = &mut self.counted;
        self.assembly.expire(self.now, |figure| *counted.entry(figure.name()).or_default() += 1);
    }

    fn counted(&self, names: &[&str]) -> Vec<u64> {
        names.iter().map(|name| self.counted.get(name).copied().unwrap_or(0)).collect()
    }

    /// Each request that has begun is there or under one name, once; and so are the pieces, and the bytes.
    fn adds_up(&self) {
        let ends = ["whole", "too_large", "late", "forgotten", "replaced"];
        let ends =
            ends.map(|end| self.counted.get(&*format!("pieces_{end}")).copied().unwrap_or(0));
        let requests = &self.assembly.requests;
        let there = requests.iter().filter(|partial| !partial.too_large).count() as u64;
        assert_eq!(self.counted(&["pieces_begun"])[0], ends.iter().sum::<u64>() + there);
        let pieces = ["pieces_taken", "pieces_twice", "pieces_swallowed", "malformed_datagrams"];
        assert_eq!(self.counted(&pieces).iter().sum::<u64>(), self.taken);
        let bytes = |partial: &Partial| {
            partial.pieces.values().map(|piece| piece.len() + PIECE).sum::<usize>()
        };
        let taken = self.bytes();
        assert_eq!(taken, requests.iter().map(bytes).sum::<usize>());
        assert!(requests.len() <= MAX_REQUESTS && taken <= REQUESTS);
    }

    fn bytes(&self) -> usize {
        self.assembly.budgets.requests.taken()
    }
}

#[test]
fn requests_of_several_clients_do_not_mix() {
    let mut rig = Rig::new();
    for (peer, request, piece) in [(1, 5, b"a"), (2, 5, b"b"), (1, 6, b"c")] {
        assert_eq!(rig.take(peer, [request, 1, 2], piece), Taken::Piece);
    }
    for (peer, request, whole) in [(1, 6, b"xc"), (2, 5, b"xb"), (1, 5, b"xa")] {
        assert_eq!(rig.take(peer, [request, 0, 2], b"x"), Taken::Whole(whole.to_vec()));
    }
    assert_eq!(rig.counted(&["pieces_begun", "pieces_whole"]), [3, 3]);
    assert_eq!((rig.assembly.deadline(), rig.bytes()), (None, 0));
    rig.adds_up();
}

#[test]
fn a_place_beyond_the_end_is_malformed() {
    let mut rig = Rig::new();
    for place in [[1, 0, 0], [1, 2, 2], [1, 65535, 2]] {
        assert_eq!(rig.take(1, place, b"x"), Taken::Piece);
    }
    assert_eq!(rig.counted(&["malformed_datagrams", "pieces_begun"]), [3, 0]);
}

#[test]
fn a_request_of_another_length_or_with_other_pieces_takes_the_place_of_the_first() {
    let mut rig = Rig::new();
    for (place, piece) in
        [([1, 0, 3], b"a"), ([1, 1, 3], b"b"), ([1, 1, 3], b"B"), ([1, 0, 2], b"1")]
    {
        assert_eq!(rig.take(1, place, piece), Taken::Piece);
    }
    assert_eq!(rig.take(1, [1, 1, 2], b"2"), Taken::Whole(b"12".to_vec()));
    assert_eq!(rig.counted(&["pieces_begun", "pieces_replaced", "pieces_twice"]), [3, 2, 0]);
    rig.adds_up();
}

#[test]
fn what_does_not_come_in_time_is_late() {
    let mut rig = Rig::new();
    rig.take(1, [1, 0, 2], b"a");
    rig.pass(PATIENCE / 2);
    rig.take(1, [2, 0, 2], b"a");
    rig.pass(PATIENCE / 2);
    assert_eq!(rig.counted(&["pieces_late"]), [1]);
    // Its last piece begins another request, which is not complete.
    assert_eq!(rig.take(1, [1, 1, 2], b"b"), Taken::Piece);
    assert_eq!(rig.take(1, [2, 1, 2], b"b"), Taken::Whole(b"ab".to_vec()));
    rig.adds_up();
}

#[test]
fn the_oldest_of_too_many_is_forgotten() {
    let mut rig = Rig::new();
    for request in 0..MAX_REQUESTS as u16 + 3 {
        rig.take(1, [request, 0, 2], b"a");
    }
    assert_eq!(rig.counted(&["pieces_forgotten"]), [3]);
    assert_eq!(rig.take(1, [3, 1, 2], b"b"), Taken::Whole(b"ab".to_vec()));
    assert_eq!(rig.take(1, [2, 1, 2], b"b"), Taken::Piece);
    rig.adds_up();
}

#[test]
fn no_more_bytes_wait_than_may() {
    let mut rig = Rig::new();
    let piece = [0; 60_000];
    for request in 0..40 {
        for sequence in 0..17 {
            assert_eq!(rig.take(1, [request, sequence, 18], &piece), Taken::Piece);
            rig.adds_up();
        }
    }
    assert!(rig.counted(&["pieces_forgotten"])[0] >= 24);
    assert!(rig.bytes() + 17 * (piece.len() + PIECE) > REQUESTS);
    // Those that have just come are there, and make way for what is whole, the oldest first.
    let mut forgotten = 0;
    assert!(rig.assembly.make_room(REQUESTS - 17 * (piece.len() + PIECE), |_| forgotten += 1));
    assert_eq!((rig.assembly.requests.len(), rig.assembly.requests[0].request), (1, 39));
    assert!(forgotten > 10);
    // All of them would not be enough.
    assert!(!rig.assembly.make_room(REQUESTS, |_| {}));
    assert_eq!(rig.assembly.deadline(), None);
}

/// Pieces of nothing cost something too.
#[test]
fn pieces_of_nothing_are_not_for_nothing() {
    let mut rig = Rig::new();
    for request in 0..MAX_REQUESTS as u16 + 10 {
        for sequence in 0..MAX_PIECES - 1 {
            assert_eq!(rig.take(1, [request, sequence, MAX_PIECES], b""), Taken::Piece);
        }
    }
    assert!(rig.bytes() <= REQUESTS && rig.bytes() > REQUESTS / 2);
    rig.adds_up();
}

#[test]
fn what_is_too_large_is_said_once() {
    let mut rig = Rig::new();
    let piece = [0; 60_000];
    let taken: Vec<_> = (0..30).map(|sequence| rig.take(1, [1, sequence, 30], &piece)).collect();
    let refused: Vec<_> = taken.iter().filter(|taken| **taken != Taken::Piece).collect();
    assert_eq!(refused, [&Taken::TooLarge]);
    assert_eq!(rig.take(1, [2, 0, MAX_PIECES + 1], b"x"), Taken::TooLarge);
    assert_eq!(rig.take(1, [2, 1, MAX_PIECES + 1], b"x"), Taken::Piece);
    // What came before is forgotten, and what comes after is swallowed.
    assert_eq!(rig.counted(&["pieces_too_large", "pieces_swallowed"]), [2, 12 + 1]);
    assert_eq!(rig.bytes(), 0);
    rig.pass(PATIENCE);
    assert_eq!(rig.counted(&["pieces_late"]), [0]);
    rig.adds_up();
    // The longest that may be.
    let last = MAX_PIECES - 1;
    (0..last).for_each(|sequence| drop(rig.take(1, [3, sequence, MAX_PIECES], b"x")));
    let Taken::Whole(whole) = rig.take(1, [3, last, MAX_PIECES], b"x") else { panic!() };
    assert_eq!(whole.len(), usize::from(MAX_PIECES));
}

proptest! {
    /// Pieces in any order, some of them twice, beside those of others.
    #[test]
    fn in_any_order_they_are_the_request(
        text in prop::collection::vec(any::<u8>(), 2..3000),
        size in 1..900_usize,
        others in prop::collection::vec((1..4_u16, 0..4_u16, 0..5_u16, 2..5_u16), 0..100),
        seed in any::<u64>(),
    ) {
        prop_assume!(text.len() > size);
        let mut random = fastrand::Rng::with_seed(seed);
        let total = text.len().div_ceil(size) as u16;
        let mut pieces: Vec<_> = (0..).zip(text.chunks(size)).collect();
        pieces.extend(pieces.clone().iter().filter(|_| random.bool()));
        random.shuffle(&mut pieces);
        let (mut rig, mut others, mut found) = (Rig::new(), others.into_iter(), None);
        for (sequence, piece) in pieces {
            if let Some((peer, request, sequence, total)) = others.next() {
                rig.take(peer, [request, sequence, total], &sequence.to_le_bytes());
            }
            if let Taken::Whole(whole) = rig.take(9, [7, sequence, total], piece) {
                // What comes after that begins it once more, as it should.
                found.get_or_insert(whole);
            }
            rig.adds_up();
        }
        prop_assert_eq!(found, Some(text));
    }
}
