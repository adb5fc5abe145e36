//! Receive-to-order latency: the breakdown of each order, and a histogram of the totals.

mod buckets;

use std::{
    fmt,
    mem::replace,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

pub use self::buckets::LatencyBuckets;

/// Upper bound of the histogram, in nanoseconds. Longer latencies count as this one.
const LATENCY_NS_MAX: u64 = 10_000_000_000;

/// Times at which a message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxTimestamps {
    /// Poll of the socket that returned the last bytes. The time that they had spent in the receive
    /// buffer by then cannot be measured in the process; `benches/wire_to_wire` measures it from
    /// the sender.
    pub polled: Instant,
    /// End of that read, with decryption.
    pub read: Instant,
    /// The WebSocket message was complete.
    pub framed: Instant,
}

impl RxTimestamps {
    /// Creates timestamps for a listing that no message delivers now: one that was held or
    /// back-filled.
    pub const fn at(moment: Instant) -> Self {
        Self { polled: moment, read: moment, framed: moment }
    }
}

/// Times at which the steps of one order ended, from the received message to the written request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyBreakdown {
    pub arrival: RxTimestamps,
    /// The JSON was parsed.
    pub parsed: Instant,
    /// The listing matched and was eligible.
    pub decided: Instant,
    /// The ledger approved the order.
    pub reserved: Instant,
    /// A connection was chosen and the request serialized and encrypted.
    pub serialized: Instant,
    /// The write system call returned.
    pub written: Instant,
}

impl LatencyBreakdown {
    /// Returns the time from the poll that returned the message's last bytes to the written
    /// request.
    pub fn total(&self) -> Duration {
        self.written.saturating_duration_since(self.arrival.polled)
    }

    /// Returns the name and the duration of each step.
    pub fn durations(&self) -> [(&'static str, Duration); 7] {
        let Self { arrival, parsed, decided, reserved, serialized, written } = *self;
        let RxTimestamps { polled, read, framed } = arrival;
        let mut begun = polled;
        let done = [
            ("read", read),
            ("unframe", framed),
            ("parse", parsed),
            ("decide", decided),
            ("reserve", reserved),
            ("serialise", serialized),
            ("write", written),
        ];
        done.map(|(name, done)| (name, done.saturating_duration_since(replace(&mut begun, done))))
    }
}

/// Formats as `read 1.9 + unframe 0.3 + parse 1.2 + decide 0.4 + reserve 2.2 + serialise 0.4 +
/// write 12.4 µs`
impl fmt::Display for LatencyBreakdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plus = "";
        for (name, took) in self.durations() {
            let tenths = took.as_nanos() / 100;
            write!(f, "{plus}{name} {}.{}", tenths / 10, tenths % 10)?;
            plus = " + ";
        }
        f.write_str(" µs")
    }
}

/// Latency histogram in bounded memory, with three significant digits.
#[derive(Clone)]
pub struct LatencyHistogram {
    /// `None` only if the constant bounds are invalid, which a test rules out.
    histogram: Option<Histogram<u64>>,
    /// The same latencies for other threads. Clones share it.
    buckets: Arc<LatencyBuckets>,
}

/// Summary of a latency histogram, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Number of measurements.
    pub count: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

impl LatencyHistogram {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).ok();
        Self { histogram, buckets: Arc::default() }
    }

    /// Records one latency. Does not allocate.
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(ns.max(1));
        }
        self.buckets.record(ns);
    }

    /// Returns the counters of the same latencies, which other threads can read.
    pub fn buckets(&self) -> Arc<LatencyBuckets> {
        Arc::clone(&self.buckets)
    }

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

/// Prints the percentiles instead of thousands of counters.
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

/// Formats a short duration, such as `41 µs`, `1.2 ms` or `3.4 s`.
pub fn format_latency(duration: Duration) -> String {
    match duration.as_micros() {
        us @ 0..1_000 => format!("{us} µs"),
        us @ 1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        us => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_is_all_zeros() {
        assert_eq!(LatencyHistogram::new().percentiles(), Percentiles::default());
    }

    #[test]
    fn percentiles_have_three_significant_digits() {
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
    fn the_steps_of_an_order_add_up_to_its_latency() {
        let polled = Instant::now();
        let after = |us| polled + Duration::from_micros(us);
        let steps = LatencyBreakdown {
            arrival: RxTimestamps { polled, read: after(2), framed: after(3) },
            parsed: after(6),
            decided: after(7),
            reserved: after(12),
            serialized: after(14),
            written: after(34),
        };
        let sum: Duration = steps.durations().iter().map(|(_, took)| *took).sum();
        assert_eq!(sum, steps.total());
        assert_eq!(
            steps.to_string(),
            "read 2.0 + unframe 1.0 + parse 3.0 + decide 1.0 + reserve 5.0 + serialise 2.0 + \
             write 20.0 µs"
        );
    }

    #[test]
    fn a_latency_above_the_bound_is_counted() {
        let mut latency = LatencyHistogram::new();
        latency.record(Duration::from_secs(3_600));
        assert_eq!(latency.percentiles().count, 1);
    }
}
