//! Random values of the simulated market. The same seed gives the same values.

use std::time::Duration;

pub use fastrand::Rng;

/// Creates one of many independent generators of a seed.
pub fn stream(seed: u64, number: u64) -> Rng {
    let mixed = Rng::with_seed(number).u64(..).rotate_left(32) ^ Rng::with_seed(seed).u64(..);
    // Another round, because the first values of adjacent seeds are similar.
    Rng::with_seed(mixed).fork()
}

/// Distributions that [`Rng`] does not have.
pub trait RngExt {
    /// Returns `true` with a probability in parts per thousand.
    fn chance_permille(&mut self, permille: u32) -> bool;

    /// Returns a uniformly distributed duration from a minimum to a maximum.
    fn duration(&mut self, range: (Duration, Duration)) -> Duration;

    /// Returns a duration from `min` to `max` whose logarithm is uniformly distributed.
    fn log_uniform_duration(&mut self, min: Duration, max: Duration) -> Duration;

    /// Returns an exponentially distributed duration: the time to the next of independent events
    /// that are `mean` apart.
    fn exponential_duration(&mut self, mean: Duration) -> Duration;
}

impl RngExt for Rng {
    fn chance_permille(&mut self, permille: u32) -> bool {
        self.u32(..1_000) < permille
    }

    fn duration(&mut self, (min, max): (Duration, Duration)) -> Duration {
        let [min, max] =
            [min, max.max(min)].map(|bound| u64::try_from(bound.as_micros()).unwrap_or(u64::MAX));
        Duration::from_micros(self.u64(min..=max))
    }

    fn log_uniform_duration(&mut self, min: Duration, max: Duration) -> Duration {
        let min = min.max(Duration::from_micros(1));
        let max = max.max(min);
        min.mul_f64(max.div_duration_f64(min).powf(self.f64())).min(max)
    }

    fn exponential_duration(&mut self, mean: Duration) -> Duration {
        // The logarithm of zero is infinite, which no duration can be.
        mean.mul_f64(self.f64().max(f64::MIN_POSITIVE).ln().abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut rng = stream(seed, 1);
            (0..100).map(|_| rng.u64(..)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn the_first_numbers_of_adjacent_streams_are_independent() {
        let first = |number| stream(7, number).u64(..);
        let rises = (0..10_000).filter(|number| first(*number) < first(number + 1)).count();
        assert!((4_850..=5_150).contains(&rises), "{rises}");
        let above = |number: &u64| stream(*number, *number).u32(..1_000) < 300;
        let count = (0..10_000).filter(above).count();
        assert!((2_850..=3_150).contains(&count), "{count}");
    }

    #[test]
    fn a_chance_of_none_never_occurs_and_one_of_all_always() {
        let mut rng = Rng::with_seed(1);
        assert!((0..1_000).all(|_| !rng.chance_permille(0) && rng.chance_permille(1_000)));
    }

    #[test]
    fn exponential_durations_have_the_given_mean_and_tail() {
        let mut rng = Rng::with_seed(7);
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
        let mut rng = Rng::with_seed(7);
        let (min, max) = (Duration::from_micros(300), Duration::from_secs(5));
        let mut short = 0;
        for _ in 0..10_000 {
            let wait = rng.log_uniform_duration(min, max);
            assert!(min <= wait && wait <= max, "{wait:?}");
            // The geometric mean of the bounds.
            short += u32::from(wait < Duration::from_micros(38_730));
        }
        assert!((4_850..=5_150).contains(&short), "{short}");
        assert_eq!(rng.log_uniform_duration(Duration::ZERO, Duration::ZERO).as_micros(), 1);
    }
}
