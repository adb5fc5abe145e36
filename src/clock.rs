//! The clocks of this machine, read in one place.
//!
//! Code that decides takes the time as an argument; the edges call [`now`] and pass it on.
//!
//! The wall clock can be set at any moment, so no duration is measured with it. [`now`] is the wall
//! clock at this process's first reading, advanced by a clock that cannot be set and that counts
//! the time in suspend: `CLOCK_BOOTTIME` on Linux and Android. Elsewhere it is the monotonic clock
//! of the standard library, which may stop during a suspend.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::domain::time::UnixMs;

/// A simultaneous reading of both clocks.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Duration,
    steady: Duration,
}

/// Returns the milliseconds since 1970 on a clock that cannot be set while this process runs.
pub fn now() -> UnixMs {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    let anchor = ANCHOR.get_or_init(|| Anchor { wall: since_epoch(), steady: steady() });
    ms(anchor.wall.saturating_add(steady().saturating_sub(anchor.steady)))
}

/// Reads the wall clock, which may be set at any moment. Zero if it is set before 1970.
pub fn wall() -> UnixMs {
    ms(since_epoch())
}

/// Reads the wall clock in nanoseconds since 1970, for recordings.
pub fn now_ns() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

/// Time in suspend, between two checks, that counts as a suspend of the system. No connection
/// survives one.
const SUSPEND_MIN: Duration = Duration::from_secs(5);

/// Detects that the system was suspended: [`now`] advanced more than the monotonic clock, which
/// stops meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct SuspendDetector {
    monotonic: Instant,
    steady: UnixMs,
}

impl SuspendDetector {
    /// Creates a detector. `steady` is a reading of [`now`].
    pub const fn new(monotonic: Instant, steady: UnixMs) -> Self {
        Self { monotonic, steady }
    }

    /// Returns `true` if the system was suspended since the last check.
    pub fn check(&mut self, monotonic: Instant, steady: UnixMs) -> bool {
        let last = std::mem::replace(self, Self { monotonic, steady });
        let awake = monotonic.saturating_duration_since(last.monotonic);
        SUSPEND_MIN <= steady.since(last.steady).saturating_sub(awake)
    }
}

/// Returns the milliseconds since boot, suspends included; `None` if the system does not provide
/// them.
pub fn uptime_ms() -> Option<u64> {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        u64::try_from(steady().as_millis()).ok()
    } else {
        None
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn steady() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn steady() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn ms(since: Duration) -> UnixMs {
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_agrees_with_the_wall_clock() {
        let (steady, wall) = (now(), wall());
        assert!(steady.0.abs_diff(wall.0) < 2_000, "{steady} {wall}");
        assert!(now() >= steady);
    }

    #[test]
    fn only_a_difference_between_the_clocks_is_a_suspend() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let check = |steady: u64, monotonic: u64| {
            let mut detector = SuspendDetector::new(start, UnixMs(0));
            detector.check(start + seconds(monotonic), UnixMs(0).plus(seconds(steady)))
        };
        assert!(check(3_600, 1));
        assert!(check(6, 1));
        assert!(!check(3_600, 3_600));
        assert!(!check(5, 1));
        assert!(!check(0, 60));
    }

    #[test]
    fn a_suspend_is_detected_once() {
        let start = Instant::now();
        let mut detector = SuspendDetector::new(start, UnixMs(0));
        let resumed = UnixMs(0).plus(Duration::from_secs(60));
        assert!(detector.check(start, resumed));
        assert!(!detector.check(start, resumed));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_uptime_matches_proc_uptime() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        let kernel = Duration::from_secs_f64(seconds);
        let ours = Duration::from_millis(uptime_ms().unwrap());
        assert!(ours.abs_diff(kernel) < Duration::from_secs(5), "{ours:?} {kernel:?}");
    }
}
