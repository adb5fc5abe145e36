//! Whether anything can arrive: over all connections of a feed, and since when not.
//!
//! A gap begins with the last proof of life of the last connection that was up, not with the moment
//! in which its death was noticed; while one connection lives there is none.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::info;

use super::{
    backfill::{Backfill, Want},
    session::now,
    taps::{Gap, Taps, add},
};
use crate::{clock, time::UnixMs};

/// Whether anything can arrive.
#[derive(Debug)]
pub(super) struct Link {
    taps: Arc<Taps>,
    tag: String,
    begun: Instant,
    awaits_data: AtomicBool,
    backfill: Option<Arc<Backfill>>,
    sweep_at_start: bool,
    state: Mutex<State>,
}

/// A gap that has ended and whose back-fill has not.
#[derive(Clone, Copy, Debug)]
struct Filling {
    number: u64,
    lasted: Duration,
    attempts: u32,
    found: u32,
}

#[derive(Debug, Default)]
struct State {
    filling: Option<Filling>,
    up: usize,
    alive_until: Option<Instant>,
    attempts: u32,
    reconnects: u64,
}

impl Link {
    pub(super) fn new(taps: Arc<Taps>, tag: String) -> Self {
        let awaits_data = AtomicBool::new(false);
        let (backfill, sweep_at_start) = (None, false);
        Self {
            taps,
            tag,
            begun: now(),
            awaits_data,
            backfill,
            sweep_at_start,
            state: Mutex::default(),
        }
    }

    /// Back-fills every gap, and at start if that is wanted.
    pub(super) fn filled_by(self, backfill: Option<Arc<Backfill>>, sweep_at_start: bool) -> Self {
        Self { backfill, sweep_at_start, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is inside is whole between any two lines, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gaps so far.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.taps.gap_list()
    }

    /// Somebody dials.
    pub(super) fn dials(&self) {
        add(&self.taps.dials, 1);
        let mut state = self.lock();
        state.attempts = state.attempts.saturating_add(1);
        let attempts = state.attempts;
        drop(state);
        self.taps.gap_changes(|gap| gap.attempts = attempts);
        if let Some(witness) = self.taps.witness() {
            witness.dials();
        }
    }

    /// A dial led to nothing. Only whoever records needs to know: before the first connection there
    /// was no life of which a gap could be counted, yet nothing was heard.
    pub(super) fn failed(&self, cause: &str) {
        let state = self.lock();
        let (is_first, is_down) = (state.alive_until.is_none(), state.up == 0);
        drop(state);
        if is_first
            && is_down
            && let Some(witness) = self.taps.witness()
        {
            witness.down(self.begun, cause);
        }
    }

    /// A connection is up. Returns the gap that this ended, if it did.
    pub(super) fn up(&self) -> Option<Gap> {
        let mut state = self.lock();
        state.up = state.up.saturating_add(1);
        if state.up != 1 {
            return None;
        }
        self.taps.is_up.store(true, Ordering::Release);
        self.taps.is_blocked.store(false, Ordering::Release);
        if let Some(witness) = self.taps.witness() {
            witness.up();
        }
        let attempts = std::mem::take(&mut state.attempts);
        let Some(from) = state.alive_until else {
            if let Some(backfill) = self.backfill.as_ref().filter(|_| self.sweep_at_start) {
                backfill.want(Want { number: 0, since: None });
            }
            return None;
        };
        let lasted = now().saturating_duration_since(from);
        state.reconnects = state.reconnects.saturating_add(1);
        add(&self.taps.reconnects, 1);
        let mut ended = None;
        self.taps.gap_changes(|gap| {
            gap.until = Some(clock::now());
            gap.lasted = lasted;
            gap.attempts = attempts;
            ended = Some(gap.clone());
        });
        self.awaits_data.store(true, Ordering::Relaxed);
        let number = state.reconnects;
        let filling = Filling { number, lasted, attempts, found: 0 };
        match &self.backfill {
            Some(backfill) => {
                state.filling = Some(filling);
                backfill.want(Want { number, since: ended.as_ref().map(|gap| gap.from) });
            }
            None => self.say(filling),
        }
        ended
    }

    fn say(&self, filling: Filling) {
        let Filling { number, lasted, attempts, found } = filling;
        let (tag, gap) = (&self.tag, Seconds(lasted));
        info!(
            "Reconnected (gap {gap}, attempts {attempts}, reconnects {number}, back-filled {found}){tag}"
        );
    }

    /// A listing that a gap had hidden was found.
    pub(super) fn found(&self) {
        add(&self.taps.backfilled, 1);
        if let Some(witness) = self.taps.witness() {
            witness.back_filled();
        }
        if let Some(filling) = &mut self.lock().filling {
            filling.found = filling.found.saturating_add(1);
        }
    }

    /// Everything that could be found for this gap was found.
    pub(super) fn filled(&self, number: u64) {
        let mut state = self.lock();
        if let Some(filling) = state.filling.take_if(|filling| filling.number == number) {
            drop(state);
            self.say(filling);
        }
    }

    /// Data came. Cheap: nothing but a look at a flag, unless it is the first after a gap.
    #[inline]
    pub(super) fn data(&self) {
        if self.awaits_data.load(Ordering::Relaxed) {
            self.awaits_data.store(false, Ordering::Relaxed);
            self.taps.gap_sees_data(clock::now());
        }
    }

    /// A connection that was up is gone; `alive` was its last proof of life.
    pub(super) fn down(&self, alive: Instant, cause: &str) {
        let mut state = self.lock();
        state.up = state.up.saturating_sub(1);
        let alive = state.alive_until.map_or(alive, |before| before.max(alive));
        state.alive_until = Some(alive);
        if state.up != 0 {
            return;
        }
        state.attempts = 0;
        let unfilled = state.filling.take();
        drop(state);
        if let Some(filling) = unfilled {
            self.say(filling);
        }
        if let Some(backfill) = &self.backfill {
            backfill.cancel();
        }
        self.taps.is_up.store(false, Ordering::Release);
        self.awaits_data.store(false, Ordering::Relaxed);
        if let Some(witness) = self.taps.witness() {
            witness.down(alive, cause);
        }
        let ago = now().saturating_duration_since(alive);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        self.taps.gap_begins(Gap {
            from: UnixMs(clock::now().0.saturating_sub(ago_ms)),
            until: None,
            data_at: None,
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
