//! Whether anything can arrive: over all connections of a feed, and since when not.
//!
//! A gap begins with the last proof of life of the last connection that was up, not with the moment
//! in which its death was noticed; while one connection lives there is none.

use std::{
    cell::Cell,
    fmt,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tracing::info;

use super::{
    session::now,
    taps::{Gap, Taps, add},
};
use crate::{clock, time::UnixMs};

/// Whether anything can arrive, over all connections of a feed.
pub(super) struct Link<'c> {
    taps: &'c Taps,
    up: Cell<usize>,
    alive_until: Cell<Option<Instant>>,
    attempts: Cell<u32>,
    reconnects: Cell<u64>,
}

impl<'c> Link<'c> {
    pub(super) const fn new(taps: &'c Taps) -> Self {
        Self {
            taps,
            up: Cell::new(0),
            alive_until: Cell::new(None),
            attempts: Cell::new(0),
            reconnects: Cell::new(0),
        }
    }

    /// Somebody dials.
    pub(super) fn dials(&self) {
        self.attempts.set(self.attempts.get().saturating_add(1));
    }

    /// A connection is up.
    pub(super) fn up(&self) {
        self.up.set(self.up.get().saturating_add(1));
        self.taps.is_up.store(true, Ordering::Release);
        let attempts = self.attempts.replace(0);
        let Some(from) = self.alive_until.take() else { return };
        let lasted = now().saturating_duration_since(from);
        let reconnects = self.reconnects.get().saturating_add(1);
        self.reconnects.set(reconnects);
        add(&self.taps.reconnects, 1);
        self.taps.gap_changes(|gap| {
            gap.until = Some(clock::now());
            gap.lasted = lasted;
            gap.attempts = attempts;
        });
        info!(
            "Reconnected (gap {}, attempts {attempts}, reconnects {reconnects}, back-filled 0)",
            Seconds(lasted)
        );
    }

    /// A connection that was up is gone; `alive` was its last proof of life.
    pub(super) fn down(&self, alive: Instant, cause: &str) {
        self.up.set(self.up.get().saturating_sub(1));
        if self.up.get() != 0 {
            return;
        }
        self.taps.is_up.store(false, Ordering::Release);
        self.alive_until.set(Some(alive));
        self.attempts.set(0);
        let ago = now().saturating_duration_since(alive);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        self.taps.gap_begins(Gap {
            from: UnixMs(clock::now().0.saturating_sub(ago_ms)),
            until: None,
            lasted: ago,
            attempts: 0,
            cause: cause.to_owned(),
        });
    }
}

/// `3.4s`: whole hundredths, without trailing zeros.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0.as_secs(), self.0.subsec_millis() / 10);
        match (hundredths / 10, hundredths % 10) {
            (0, 0) => write!(f, "{whole}s"),
            (tenths, 0) => write!(f, "{whole}.{tenths}s"),
            _ => write!(f, "{whole}.{hundredths:02}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ms: u64, expected: &str) {
        assert_eq!(Seconds(Duration::from_millis(ms)).to_string(), expected);
    }

    #[test]
    fn waits_are_shown_as_they_are_slept() {
        check(2_000, "2s");
        check(3_400, "3.4s");
        check(2_340, "2.34s");
        check(250, "0.25s");
        check(1_050, "1.05s");
        check(300_000, "300s");
    }
}
