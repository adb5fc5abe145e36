//! The clocks of this machine, read in one place.
//!
//! Code that decides takes the time as an argument; the edges call [`now`] and pass it on.
//!
//! The wall clock can be set at any moment, so no duration is measured with it. [`now`] is the wall
//! clock at this process's first reading, advanced by a clock that cannot be set and that counts
//! the time in suspend: `CLOCK_BOOTTIME` on Linux and Android. Elsewhere it is the monotonic clock
//! of the standard library, which may stop during a suspend.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use std::time::Instant;
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::domain::time::{OffsetTime, UnixMs};

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

/// Returns the offset of this machine's time zone from UTC at a time, in seconds. Zero if the zone
/// is unknown.
pub fn utc_offset_s(at: UnixMs) -> i32 {
    static ZONE: OnceLock<jiff::tz::TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(jiff::tz::TimeZone::system);
    jiff::Timestamp::from_millisecond(at.0).map_or(0, |at| zone.to_offset(at).seconds())
}

/// Set by `--utc`.
static SHOWS_UTC: AtomicBool = AtomicBool::new(false);

/// Shows every time in UTC from now on.
pub fn show_utc() {
    SHOWS_UTC.store(true, Ordering::Relaxed);
}

pub fn shows_utc() -> bool {
    SHOWS_UTC.load(Ordering::Relaxed)
}

/// Returns a time for users, in the time zone of this machine unless UTC is shown.
pub fn local(at: UnixMs) -> OffsetTime {
    OffsetTime { at, offset_s: if shows_utc() { 0 } else { utc_offset_s(at) } }
}

/// Formats a time for users to the second: `2026-03-01 11:00:00 +01:00`. JSON has UTC.
pub fn format_local(at: UnixMs) -> String {
    local(at).to_the_second()
}

/// Reads the wall clock, which may be set at any moment, in nanoseconds since 1970.
pub fn now_ns() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
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
