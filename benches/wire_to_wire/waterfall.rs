//! Where the time goes: each step of the sniper's way, as it noted it, between the two moments that
//! only the market knows.

use std::{fmt, time::Instant};

use sniper::latency::LatencyBreakdown;

/// What lies before the sniper's own steps: the market's write, the system, being woken, and
/// whatever else it was doing.
const BEFORE: &str = "wake-up";

/// How long each step of one buy took, in ns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way(Vec<(&'static str, u64)>);

impl Way {
    /// `listed`: when the market began to write the listing; `arrived`: when it had read the buy.
    pub(crate) fn new(listed: Instant, steps: &LatencyBreakdown, arrived: Instant) -> Self {
        let ns = |from: Instant, to: Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap()
        };
        let before = (BEFORE, ns(listed, steps.arrival.asked));
        let own = steps
            .each()
            .into_iter()
            .map(|(name, took)| (name, u64::try_from(took.as_nanos()).unwrap()));
        let total = ("its own steps together", ns(steps.arrival.asked, steps.written));
        let arrival = ("write, seen from the market", ns(steps.serialised, arrived));
        Self([before].into_iter().chain(own).chain([total, arrival]).collect())
    }
}

/// The steps of many buys.
pub(crate) struct Waterfall<'a>(pub(crate) Vec<&'a Way>);

impl fmt::Display for Waterfall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        for (at, (name, _)) in first.0.iter().enumerate() {
            let mut took: Vec<u64> = self.0.iter().map(|way| way.0[at].1).collect();
            took.sort_unstable();
            let [p50, p90, p99] = [50, 90, 99].map(|percent| took[took.len() * percent / 100]);
            let tenths = |ns: u64| format!("{}.{}", ns / 1_000, ns % 1_000 / 100);
            writeln!(f, "  {name:<30}{:>8}{:>8}{:>8}", tenths(p50), tenths(p90), tenths(p99))?;
        }
        Ok(())
    }
}
