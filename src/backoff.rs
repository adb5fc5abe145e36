//! Exponential backoff and jitter. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use crate::config::reconnection::Thousandths;

/// Waits are multiples of this (10 ms), so that log lines show the exact wait.
const WAIT_STEP_NS: u128 = 10_000_000;

/// Waits that grow by a constant factor up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExponentialBackoff {
    /// Wait after the first failure.
    pub first: Duration,
    pub max: Duration,
    /// Factor between two waits, at least 1.
    pub factor: Thousandths,
}

impl ExponentialBackoff {
    /// Creates a backoff that doubles.
    pub const fn doubling(first: Duration, max: Duration) -> Self {
        Self { first, max, factor: Thousandths(2_000) }
    }

    /// Returns the wait after this many earlier failures in a row.
    pub fn wait(&self, earlier_failures: u32) -> Duration {
        let mut wait = self.first.min(self.max);
        for _failure in 0..earlier_failures {
            let thousandths = wait.saturating_mul(self.factor.0);
            let next = thousandths.checked_div(1_000).unwrap_or(self.max).min(self.max);
            if next == wait {
                break;
            }
            wait = next;
        }
        wait
    }
}

/// Subtracts a random share of at most `jitter` from a wait and rounds down to a multiple of 10 ms.
/// `entropy` is a random number.
pub fn with_jitter(wait: Duration, jitter: Thousandths, entropy: u64) -> Duration {
    let nanos = wait.as_nanos();
    let share_max = nanos.saturating_mul(u128::from(jitter.0)) / 1_000;
    let share = u128::from(entropy).saturating_mul(share_max) >> 64_u32;
    let left = nanos.saturating_sub(share);
    let rounded = left.saturating_sub(left % WAIT_STEP_NS);
    Duration::from_nanos(u64::try_from(rounded).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_maximum() {
        let backoff = ExponentialBackoff::doubling(SECOND, 10 * SECOND);
        let waits: Vec<u64> = (0..6).map(|failures| backoff.wait(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.wait(u32::MAX), 10 * SECOND);
    }

    #[test]
    fn a_factor_of_one_never_grows() {
        let backoff =
            ExponentialBackoff { first: SECOND, max: 10 * SECOND, factor: Thousandths::ONE };
        assert_eq!(backoff.wait(u32::MAX), SECOND);
    }

    #[test]
    fn jitter_takes_up_to_its_share_in_steps_of_10_ms() {
        let half = Thousandths(500);
        assert_eq!(with_jitter(SECOND, half, 0), SECOND);
        assert_eq!(with_jitter(SECOND, half, u64::MAX), SECOND / 2);
        assert_eq!(with_jitter(SECOND, half, u64::MAX / 2), 3 * SECOND / 4);
        assert_eq!(with_jitter(SECOND, Thousandths(0), u64::MAX), SECOND);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens(wait_ms in 0_u64..1_000_000, jitter in 0_u32..=1_000, entropy: u64) {
            let wait = Duration::from_millis(wait_ms);
            let jittered = with_jitter(wait, Thousandths(jitter), entropy);
            let share = wait * jitter / 1_000;
            prop_assert!(jittered <= wait);
            prop_assert!(jittered + share + Duration::from_millis(10) > wait);
        }
    }
}
