//! Measurement of time and allocations. For instructions see [`super::instructions`].

use std::time::{Duration, Instant};

/// Minimum duration of a round, far above the cost of reading the clock.
const ROUND: Duration = Duration::from_micros(200);

/// Sorted durations of many rounds of the same work, in picoseconds per piece.
pub(crate) struct Times {
    sorted: Vec<u128>,
}

impl Times {
    /// Measures the work in rounds. Each call of `work` processes `pieces` pieces.
    pub(crate) fn of(rounds: usize, pieces: usize, mut work: impl FnMut()) -> Self {
        let mut calls = 1_u32;
        loop {
            let before = Instant::now();
            (0..calls).for_each(|_| work());
            if ROUND <= before.elapsed() {
                break;
            }
            calls = calls.saturating_mul(2);
        }
        let per_round = u128::from(calls) * u128::try_from(pieces).unwrap_or(1).max(1);
        let mut sorted: Vec<u128> = (0..rounds)
            .map(|_| {
                let before = Instant::now();
                (0..calls).for_each(|_| work());
                before.elapsed().as_nanos() * 1_000 / per_round
            })
            .collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// Returns a percentile of the rounds, in picoseconds per piece.
    pub(crate) fn percentile(&self, percent: usize) -> u128 {
        let at = self.sorted.len().saturating_sub(1) * percent / 100;
        self.sorted.get(at).copied().unwrap_or(0)
    }
}

/// Returns the number of allocations of the work.
pub(crate) fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}
