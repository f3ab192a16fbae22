//! What is asked for: which keys, how often, how much.

/// Items that are there from the beginning.
pub(super) const KEYS: usize = 100_000;
/// Requests that are drawn in advance; then they begin anew.
const DRAWN: usize = 1 << 18;

pub(super) struct Workload {
    pub(super) name: &'static str,
    /// Of a hundred requests, how many read.
    reads: u32,
    /// Whether some keys are asked for much more often than others: Zipf's law with exponent 0.99.
    zipf: bool,
    /// Bytes of a value.
    pub(super) value: usize,
}

const fn workload(name: &'static str, reads: u32, zipf: bool, value: usize) -> Workload {
    Workload { name, reads, zipf, value }
}

pub(super) const WORKLOADS: [Workload; 8] = [
    workload("kv, 90/10, zipf, 32 B", 90, true, 32),
    workload("kv, 90/10, uniform, 32 B", 90, false, 32),
    workload("kv, 50/50, zipf, 32 B", 50, true, 32),
    workload("kv, 50/50, uniform, 32 B", 50, false, 32),
    workload("kv, 90/10, zipf, 1 KiB", 90, true, 1024),
    workload("kv, 90/10, uniform, 1 KiB", 90, false, 1024),
    workload("kv, 50/50, zipf, 1 KiB", 50, true, 1024),
    workload("kv, 50/50, uniform, 1 KiB", 50, false, 1024),
];

/// A request: whether it reads, and the number of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) reads: bool,
    pub(super) key: u32,
}

impl Workload {
    /// Requests, the same for every server.
    pub(super) fn draw(&self) -> Vec<Request> {
        let mut random = fastrand::Rng::with_seed(1);
        // How likely one of the first n keys is.
        let mut sum = 0.0;
        let weights = (0..KEYS).map(|rank| {
            sum += if self.zipf { (rank as f64 + 1.0).powf(-0.99) } else { 1.0 };
            sum
        });
        let weights: Vec<f64> = weights.collect();
        // Keys that are asked for often do not lie side by side.
        let mut keys: Vec<u32> = (0..KEYS as u32).collect();
        random.shuffle(&mut keys);
        let draw = |_| {
            let place = random.f64() * sum;
            let rank = weights.partition_point(|&weight| weight < place).min(KEYS - 1);
            Request { reads: random.u32(0..100) < self.reads, key: keys[rank] }
        };
        (0..DRAWN).map(draw).collect()
    }

    /// The value that every key has.
    pub(super) fn value(&self) -> Vec<u8> {
        (0..self.value).map(|at| b'a' + (at % 26) as u8).collect()
    }
}

/// A key of 16 bytes.
pub(super) fn key(number: u32) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        assert_eq!(&key(0), b"key-000000000000");
        assert_eq!(&key(4_294_967_295), b"key-004294967295");
    }

    #[test]
    fn zipf_prefers_few_keys_and_uniform_none() {
        for Workload { name, reads, zipf, value } in WORKLOADS {
            let drawn = Workload { name, reads, zipf, value }.draw();
            let share = drawn.iter().filter(|request| request.reads).count() as f64 / DRAWN as f64;
            assert!((share - f64::from(reads) / 100.0).abs() < 0.01, "{name}: {share}");
            let mut counts = vec![0_usize; KEYS];
            drawn.iter().for_each(|request| counts[request.key as usize] += 1);
            counts.sort_unstable();
            let top: usize = counts[KEYS - 100..].iter().sum();
            // The hundred first of 100 000 have 41 % by Zipf's law, and 0.1 % otherwise.
            let share = top as f64 / DRAWN as f64;
            assert!(
                if zipf { (0.35..0.48).contains(&share) } else { share < 0.01 },
                "{name}: {share}"
            );
        }
    }
}
