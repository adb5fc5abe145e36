//! Times of price changes. Pure.

use std::time::Duration;

use crate::sim::{
    random::{self, Rng, RngExt as _},
    settings::Rate,
};

/// Duration of a burst of price changes.
const BURST: Duration = Duration::from_secs(1);
/// Minimum pause between two bursts, and the mean time by which a pause exceeds it.
const BURST_PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// Factor of the rate during a burst, in halves: 430 events per second become 2,800.
const BURST_HALVES: u32 = 13;

/// Infinite iterator over the times of price changes, with bursts.
#[derive(Clone, Debug)]
pub(super) struct PriceChanges {
    rng: Rng,
    mean: Option<Duration>,
    at: Duration,
    burst_until: Duration,
    next_burst: Duration,
}

impl PriceChanges {
    /// Creates the price changes of a seed, with this average rate outside of bursts.
    pub(super) fn new(seed: u64, rate: Rate) -> Self {
        let mut rng = random::stream(seed, 21);
        let next_burst = burst_pause(&mut rng);
        let zero = Duration::ZERO;
        Self { rng, mean: rate.mean_between(1), at: zero, burst_until: zero, next_burst }
    }
}

fn burst_pause(rng: &mut Rng) -> Duration {
    BURST_PAUSE.0.saturating_add(rng.exponential_duration(BURST_PAUSE.1))
}

impl Iterator for PriceChanges {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let mut mean = self.mean?;
        if self.next_burst <= self.at {
            self.burst_until = self.at.saturating_add(BURST);
            self.next_burst = self.burst_until.saturating_add(burst_pause(&mut self.rng));
        }
        if self.at < self.burst_until {
            mean = mean.saturating_mul(2).checked_div(BURST_HALVES).unwrap_or(mean);
        }
        self.at = self.at.saturating_add(self.rng.exponential_duration(mean));
        Some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_change_at_the_given_rate_and_in_bursts() {
        let rate = "12.5".parse::<Rate>().unwrap();
        let changes = PriceChanges::new(7, rate.times(32));
        let end = Duration::from_secs(300);
        let mut by_second = vec![0_u32; 300];
        for at in changes.take_while(|at| *at < end) {
            by_second[usize::try_from(at.as_secs()).unwrap()] += 1;
        }
        let average = by_second.iter().sum::<u32>() / 300;
        assert!((400..650).contains(&average), "{average}");
        assert!(by_second.iter().max().is_some_and(|most| *most > 1_500), "{by_second:?}");
    }
}
