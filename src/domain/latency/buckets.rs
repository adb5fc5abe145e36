//! Latency histogram of atomic counters, which one thread writes and others read at any time. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bound of the smallest octave (range between a bound and twice that bound), in nanoseconds.
const FIRST_NS: u64 = 1_000;

/// Number of octaves: bounds of 1 µs, 2 µs, 4 µs … 8.4 s.
const OCTAVES: usize = 24;

/// Number of equal steps of an octave. A percentile above the first octave is exact to half a step,
/// which is about 3 %.
const STEPS: usize = 16;

/// Number of counters. The last one counts the latencies above all bounds.
const BUCKETS: usize = OCTAVES * STEPS + 1;

/// Counts of latencies by size. Recording takes no lock and does not allocate.
#[derive(Debug)]
pub struct LatencyBuckets {
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Default for LatencyBuckets {
    fn default() -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect();
        Self { counts, sum_ns: AtomicU64::new(0) }
    }
}

/// Contents of [`LatencyBuckets`] at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyCounts {
    counts: Vec<u64>,
    pub sum_ns: u64,
}

impl LatencyBuckets {
    #[inline]
    pub(super) fn record(&self, ns: u64) {
        if let Some(count) = self.counts.get(index(ns)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub fn read(&self) -> LatencyCounts {
        LatencyCounts {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

/// Returns the bucket of a latency. A latency that equals a bound belongs below it.
#[inline]
fn index(ns: u64) -> usize {
    let before = ns.saturating_sub(1);
    if before < FIRST_NS {
        let step = before.saturating_mul(16) / FIRST_NS;
        return usize::try_from(step).unwrap_or(0);
    }
    let octave = (before / FIRST_NS).ilog2();
    let start = FIRST_NS.saturating_mul(1_u64.checked_shl(octave).unwrap_or(u64::MAX));
    let step = u128::from(before.saturating_sub(start)).saturating_mul(16) / u128::from(start);
    let octaves = usize::try_from(octave).unwrap_or(OCTAVES).saturating_add(1);
    let step = usize::try_from(step).unwrap_or(0);
    octaves.saturating_mul(STEPS).saturating_add(step).min(BUCKETS.saturating_sub(1))
}

/// Returns the bounds of a bucket, in nanoseconds. The last bucket has no upper bound, so both are
/// its lower bound.
fn bounds(index: usize) -> (u64, u64) {
    let (octave, step) = (index / STEPS, u64::try_from(index % STEPS).unwrap_or(0));
    let octave_bound = |octave: usize| {
        let shift = u32::try_from(octave).unwrap_or(u32::MAX);
        FIRST_NS.saturating_mul(1_u64.checked_shl(shift).unwrap_or(u64::MAX))
    };
    if octave >= OCTAVES {
        let last = octave_bound(OCTAVES.saturating_sub(1));
        return (last, last);
    }
    let start = if octave == 0 { 0 } else { octave_bound(octave.saturating_sub(1)) };
    let width = octave_bound(octave).saturating_sub(start);
    let at = |step: u64| start.saturating_add(width.saturating_mul(step) / 16);
    (at(step), at(step.saturating_add(1)))
}

impl LatencyCounts {
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the latency in nanoseconds below which this share of all latencies lies, in
    /// thousandths: the middle of its bucket. Returns `None` if there is no latency.
    pub fn quantile(&self, thousandths: u64) -> Option<u64> {
        let count = self.count();
        let rank = count.saturating_mul(thousandths).div_ceil(1_000).max(1);
        let mut seen = 0_u64;
        let found = self.counts.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        let (from, to) = bounds(found.filter(|_index| count > 0)?);
        Some(from.midpoint(to))
    }

    /// Returns the upper bound of each octave in nanoseconds, and the number of latencies in it. No
    /// octave counts the latencies above the last bound.
    pub fn octaves(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.chunks_exact(STEPS).enumerate().map(|(octave, counts)| {
            let last = octave.saturating_mul(STEPS).saturating_add(STEPS.saturating_sub(1));
            let count = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            (bounds(last).1, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_octaves_double_from_one_microsecond() {
        let counts = LatencyBuckets::default().read();
        let bounds: Vec<u64> = counts.octaves().map(|(bound, _)| bound).collect();
        assert_eq!(bounds.len(), OCTAVES);
        assert_eq!(bounds[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(bounds[OCTAVES - 1], 8_388_608_000);
    }

    #[test]
    fn a_latency_at_a_bound_is_below_it_and_one_above_all_is_only_in_the_total() {
        let buckets = LatencyBuckets::default();
        for ns in [0, 1_000, 1_001, 2_000, u64::MAX / 2] {
            buckets.record(ns);
        }
        let counts = buckets.read();
        let octaves: Vec<u64> = counts.octaves().map(|(_, count)| count).collect();
        assert_eq!(octaves[..3], [2, 2, 0]);
        assert_eq!((counts.count(), octaves.iter().sum::<u64>()), (5, 4));
        assert_eq!(LatencyBuckets::default().read().quantile(500), None);
    }

    proptest! {
        #[test]
        fn a_bucket_contains_its_latencies_and_a_percentile_is_close(ns in 1_u64..8_388_608_000) {
            let (from, to) = bounds(index(ns));
            prop_assert!(from < ns && ns <= to, "{from} {ns} {to}");
            let buckets = LatencyBuckets::default();
            buckets.record(ns);
            let p50 = buckets.read().quantile(500).unwrap();
            prop_assert!(p50.abs_diff(ns) <= (ns / 16).max(63), "{p50} for {ns}");
        }
    }
}
