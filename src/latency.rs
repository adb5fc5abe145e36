//! How fast it was: a histogram of microseconds, from frame received to request written.

use std::{
    fmt,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones, in nanoseconds: ten seconds.
const LATENCY_NS_MAX: u64 = 10_000_000_000;

/// The steps of one buy, from the frame that brought its listing to the request that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The frame had come off the socket.
    pub received: Instant,
    /// It had been read, and its listing was to be decided on.
    pub read: Instant,
    /// The ledger had approved the buy.
    pub approved: Instant,
    /// A connection had been chosen and its request laid down.
    pub begun: Instant,
    /// The request had been handed to the system.
    pub written: Instant,
}

impl Steps {
    /// From frame received to request written.
    pub fn total(&self) -> Duration {
        self.written.saturating_duration_since(self.received)
    }

    /// How long each step took, by name.
    pub fn each(&self) -> [(&'static str, Duration); 4] {
        let Self { received, read, approved, begun, written } = *self;
        [
            ("read", read.saturating_duration_since(received)),
            ("decide", approved.saturating_duration_since(read)),
            ("pick", begun.saturating_duration_since(approved)),
            ("write", written.saturating_duration_since(begun)),
        ]
    }
}

/// `read 3.1 + decide 1.2 + pick 0.9 + write 12.4 µs`
impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plus = "";
        for (name, took) in self.each() {
            let tenths = took.as_nanos() / 100;
            write!(f, "{plus}{name} {}.{}", tenths / 10, tenths % 10)?;
            plus = " + ";
        }
        f.write_str(" µs")
    }
}

/// Latencies in bounded memory, to three digits.
#[derive(Clone)]
pub struct Latency {
    /// `None` only if the histogram's constant bounds were refused, which a test rules out.
    histogram: Option<Histogram<u64>>,
}

/// A latency histogram in five numbers, each in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half were at most this.
    pub p50: u64,
    /// Nine of ten were at most this.
    pub p90: u64,
    /// Ninety-nine of a hundred were at most this.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// An empty histogram.
    pub fn new() -> Self {
        Self { histogram: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).ok() }
    }

    /// Counts one latency. Does not allocate.
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(ns.max(1));
        }
    }

    /// The five numbers.
    pub fn percentiles(&self) -> Percentiles {
        let Some(histogram) = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())
        else {
            return Percentiles::default();
        };
        Percentiles {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// Five numbers, rather than thousands of counters.
impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentiles().fmt(f)
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_all_zeros() {
        assert_eq!(Latency::new().percentiles(), Percentiles::default());
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latency = Latency::new();
        for us in 1..=1_000 {
            latency.record(Duration::from_micros(us));
        }
        let Percentiles { count, p50, p90, p99, max } = latency.percentiles();
        assert_eq!(count, 1_000);
        for (measured, exact) in [(p50, 500_000), (p90, 900_000), (p99, 990_000), (max, 1_000_000)]
        {
            assert!(exact <= measured && measured - exact <= exact / 500, "{measured} for {exact}");
        }
    }

    #[test]
    fn the_steps_of_a_buy_add_up_to_its_latency() {
        let received = Instant::now();
        let after = |us| received + Duration::from_micros(us);
        let steps = Steps {
            received,
            read: after(3),
            approved: after(5),
            begun: after(6),
            written: after(20),
        };
        let sum: Duration = steps.each().iter().map(|(_, took)| *took).sum();
        assert_eq!(sum, steps.total());
        assert_eq!(steps.to_string(), "read 3.0 + decide 2.0 + pick 1.0 + write 14.0 µs");
    }

    #[test]
    fn a_latency_beyond_the_bound_still_counts() {
        let mut latency = Latency::new();
        latency.record(Duration::from_secs(3_600));
        assert_eq!(latency.percentiles().count, 1);
    }
}
