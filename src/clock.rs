//! The one place that reads the wall clock.
//!
//! Everything that decides takes its time as an argument; the edges call [`now`] and pass it on.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::UnixMs;

/// The wall clock of this machine. Zero if it stands before 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The wall clock of this machine in nanoseconds since 1970, for recordings.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
