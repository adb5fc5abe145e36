//! A seeded random number generator (`SplitMix64`). It uses integers only, so that a seed gives the
//! same market on every machine. Pure.

use std::time::Duration;

/// A deterministic stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates one of many independent streams of a seed.
    pub const fn fork(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream.wrapping_add(0x5851_f42d_4c95_7f2d))))
    }

    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `bound`, or zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()).wrapping_mul(u128::from(bound)) >> 64;
        u64::try_from(wide).unwrap_or(0)
    }

    /// Returns a number from `min` to `max`, inclusive.
    pub fn range(&mut self, min: u64, max: u64) -> u64 {
        let width = max.saturating_sub(min).saturating_add(1);
        min.saturating_add(self.below(width))
    }

    /// Returns a number from `min` to `max`, inclusive.
    pub fn range_i64(&mut self, min: i64, max: i64) -> i64 {
        let width = u64::try_from(max.saturating_sub(min)).unwrap_or(0);
        min.saturating_add(i64::try_from(self.below(width.saturating_add(1))).unwrap_or(0))
    }

    /// Returns `true` with a probability in parts per thousand.
    pub fn chance_permille(&mut self, permille: u32) -> bool {
        self.below(1_000) < u64::from(permille)
    }

    /// Returns `true` with a probability in parts per million.
    pub fn chance_ppm(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// Returns one of the elements, or `None` if there is none.
    pub fn choice<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(of.len()).unwrap_or(0));
        of.get(usize::try_from(index).unwrap_or(0))
    }

    /// Returns one of the strings, or an empty one if there is none.
    pub fn choose_str<'a>(&mut self, of: &[&'a str]) -> &'a str {
        self.choice(of).copied().unwrap_or_default()
    }

    /// Returns a uniformly distributed duration from `min` to `max`.
    pub fn duration(&mut self, min: Duration, max: Duration) -> Duration {
        Duration::from_micros(self.range(micros(min), micros(max)))
    }

    /// Returns a duration from `min` to `max` whose logarithm is about uniformly distributed.
    pub fn log_uniform_duration(&mut self, min: Duration, max: Duration) -> Duration {
        let (min, max) = (micros(min).max(1), micros(max).max(1));
        let doublings = u64::from(max.checked_div(min).unwrap_or(1).max(1).ilog2());
        let shift = u32::try_from(self.range(0, doublings)).unwrap_or(0);
        let low = min.checked_shl(shift).unwrap_or(max);
        Duration::from_micros(self.range(low, low.saturating_mul(2).min(max)))
    }

    /// Returns an exponentially distributed duration: the time to the next of independent events
    /// that are `mean` apart.
    ///
    /// Von Neumann's method, which needs only comparisons of integers: the length of a falling run
    /// of uniform numbers decides.
    pub fn exponential_duration(&mut self, mean: Duration) -> Duration {
        let mut whole = 0_u64;
        while whole < 64 {
            let first = self.next_u64();
            let (mut last, mut falls) = (first, 0_u32);
            loop {
                let drawn = self.next_u64();
                if drawn >= last {
                    break;
                }
                last = drawn;
                falls = falls.saturating_add(1);
            }
            if falls % 2 == 0 {
                let mean = u128::from(micros(mean));
                let part = mean.wrapping_mul(u128::from(first)) >> 64;
                let wait = mean.saturating_mul(u128::from(whole)).saturating_add(part);
                return Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX));
            }
            whole = whole.saturating_add(1);
        }
        mean.saturating_mul(64)
    }
}

/// The finalizer of `SplitMix64`.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn micros(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut rng = Dice::new(seed);
            (0..100).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert_ne!(Dice::fork(7, 1).next_u64(), Dice::fork(7, 2).next_u64());
    }

    #[test]
    fn bounds_are_inclusive_and_reached() {
        let mut rng = Dice::new(1);
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|_| rng.range(3, 6)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.choice::<u8>(&[]), None);
        assert!((0..1_000).all(|_| !rng.chance_permille(0)));
        assert!((0..1_000).all(|_| rng.chance_permille(1_000)));
    }

    #[test]
    fn exponential_durations_have_the_given_mean_and_tail() {
        let mut rng = Dice::new(7);
        let mean = Duration::from_millis(50);
        let waits: Vec<Duration> = (0..20_000).map(|_| rng.exponential_duration(mean)).collect();
        let average = waits.iter().sum::<Duration>() / 20_000;
        assert!((48..=52).contains(&average.as_millis()), "{average:?}");
        // 13.5 % of an exponential distribution lie above twice the mean.
        let above = waits.iter().filter(|wait| **wait > mean * 2).count();
        assert!((2_500..2_900).contains(&above), "{above}");
    }

    #[test]
    fn log_uniform_durations_stay_within_their_bounds() {
        let mut rng = Dice::new(7);
        let (min, max) = (Duration::from_micros(300), Duration::from_secs(5));
        for _ in 0..10_000 {
            let wait = rng.log_uniform_duration(min, max);
            assert!(min <= wait && wait <= max, "{wait:?}");
        }
    }
}
