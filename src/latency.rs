//! How fast it was: the steps of each buy, and a histogram of how long they took together.

use std::{
    fmt,
    mem::replace,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones, in nanoseconds: ten seconds.
const LATENCY_NS_MAX: u64 = 10_000_000_000;

/// How a frame came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxTimestamps {
    /// The socket was asked for its last bytes. How long they had lain there by then, while the
    /// thread slept or did something else, no program can see of itself; `benches/wire_to_wire`
    /// shows it.
    pub asked: Instant,
    /// The frame's last bytes were off the socket, and decrypted where they had to be.
    pub read: Instant,
    /// They were a whole message.
    pub framed: Instant,
}

impl RxTimestamps {
    /// What did not come in a frame, or had to wait here until this moment.
    pub const fn at(moment: Instant) -> Self {
        Self { asked: moment, read: moment, framed: moment }
    }
}

/// The steps of one buy, from the frame that brought its listing to the request that asks for it:
/// when each was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyBreakdown {
    /// The frame had come in.
    pub arrival: RxTimestamps,
    /// It had been read as JSON, and its listing was to be decided on.
    pub parsed: Instant,
    /// It was wanted, and may be bought.
    pub decided: Instant,
    /// The ledger had approved the buy.
    pub reserved: Instant,
    /// A connection had been chosen and its request laid down, encrypted where it had to be.
    pub serialised: Instant,
    /// The request had been handed to the system.
    pub written: Instant,
}

impl LatencyBreakdown {
    /// From the read that brought the frame's last bytes to the request written.
    pub fn total(&self) -> Duration {
        self.written.saturating_duration_since(self.arrival.asked)
    }

    /// How long each step took, by name.
    pub fn each(&self) -> [(&'static str, Duration); 7] {
        let Self { arrival, parsed, decided, reserved, serialised, written } = *self;
        let RxTimestamps { asked, read, framed } = arrival;
        let mut begun = asked;
        let done = [
            ("read", read),
            ("unframe", framed),
            ("parse", parsed),
            ("decide", decided),
            ("reserve", reserved),
            ("serialise", serialised),
            ("write", written),
        ];
        done.map(|(name, done)| (name, done.saturating_duration_since(replace(&mut begun, done))))
    }
}

/// `read 1.9 + unframe 0.3 + parse 1.2 + decide 0.4 + reserve 2.2 + serialise 0.4 + write 12.4 µs`
impl fmt::Display for LatencyBreakdown {
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
pub struct LatencyHistogram {
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

impl LatencyHistogram {
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
impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentiles().fmt(f)
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_all_zeros() {
        assert_eq!(LatencyHistogram::new().percentiles(), Percentiles::default());
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latency = LatencyHistogram::new();
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
        let asked = Instant::now();
        let after = |us| asked + Duration::from_micros(us);
        let steps = LatencyBreakdown {
            arrival: RxTimestamps { asked, read: after(2), framed: after(3) },
            parsed: after(6),
            decided: after(7),
            reserved: after(12),
            serialised: after(14),
            written: after(34),
        };
        let sum: Duration = steps.each().iter().map(|(_, took)| *took).sum();
        assert_eq!(sum, steps.total());
        assert_eq!(
            steps.to_string(),
            "read 2.0 + unframe 1.0 + parse 3.0 + decide 1.0 + reserve 5.0 + serialise 2.0 + \
             write 20.0 µs"
        );
    }

    #[test]
    fn a_latency_beyond_the_bound_still_counts() {
        let mut latency = LatencyHistogram::new();
        latency.record(Duration::from_secs(3_600));
        assert_eq!(latency.percentiles().count, 1);
    }
}
