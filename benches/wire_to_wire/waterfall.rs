//! Breakdown of the latency into steps: those measured by the sniper, and the parts before and
//! after them that only the market can measure.

use std::{fmt, time::Instant};

use sniper::domain::latency::LatencyBreakdown;

/// Name of the step before the sniper's own: the market's write, the operating system, and the
/// time until the sniper's thread runs.
const BEFORE: &str = "wake-up";

/// Duration of each step of one order, in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepTimes(Vec<(&'static str, u64)>);

impl StepTimes {
    /// `listed` is the start of the market's write of the listing, `arrived` the end of its read of
    /// the order.
    pub(crate) fn new(listed: Instant, steps: &LatencyBreakdown, arrived: Instant) -> Self {
        let ns = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap()
        };
        let before = (BEFORE, ns(listed, steps.arrival.polled));
        let own = steps
            .durations()
            .into_iter()
            .map(|(name, took)| (name, u64::try_from(took.as_nanos()).unwrap()));
        let total = ("all steps of the sniper", ns(steps.arrival.polled, steps.written));
        let arrival = ("write, as measured by the market", ns(steps.serialized, arrived));
        Self([before].into_iter().chain(own).chain([total, arrival]).collect())
    }
}

/// Percentiles of the steps of many orders.
pub(crate) struct Waterfall<'a>(pub(crate) Vec<&'a StepTimes>);

impl fmt::Display for Waterfall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        for (at, (name, _)) in first.0.iter().enumerate() {
            let mut took: Vec<u64> = self.0.iter().map(|times| times.0[at].1).collect();
            took.sort_unstable();
            let [p50, p90, p99] = [50, 90, 99].map(|percent| took[took.len() * percent / 100]);
            let tenths = |ns: u64| format!("{}.{}", ns / 1_000, ns % 1_000 / 100);
            writeln!(f, "  {name:<30}{:>8}{:>8}{:>8}", tenths(p50), tenths(p90), tenths(p99))?;
        }
        Ok(())
    }
}
