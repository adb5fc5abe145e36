//! Whether listings can arrive: over all connections of a feed, and since when not.
//!
//! A connection can deliver while it is up and its subscription to the listings lives. A gap begins
//! with the last proof of life of the last connection that could deliver, not with the moment in
//! which its death was noticed; while one can, there is none. It ends when a connection can deliver
//! again, and goes on if that one is lost before it has delivered anything or lived for
//! `stable_after`: a server that accepts and closes gives no listings either.

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
    backfill::{Backfill, BackfillRequest},
    metrics::{FeedMetrics, Gap, add},
    session::now,
};
use crate::clock;

/// Whether listings can arrive.
#[derive(Debug)]
pub(super) struct GapTracker {
    taps: Arc<FeedMetrics>,
    tag: String,
    stable_after: Duration,
    begun: Instant,
    /// Whether nothing has come since the last gap ended.
    awaits_data: AtomicBool,
    backfill: Option<Arc<Backfill>>,
    sweep_at_start: bool,
    state: Mutex<State>,
}

/// What ended a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GapEnd {
    /// A connection.
    Connected,
    /// A fresh subscription on a live connection.
    Subscribed,
}

/// A gap that has ended and whose back-fill has not.
#[derive(Clone, Copy, Debug)]
struct PendingBackfill {
    number: u64,
    by: GapEnd,
    lasted: Duration,
    attempts: u32,
    reconnects: u64,
    found: u32,
}

#[derive(Debug, Default)]
struct State {
    filling: Option<PendingBackfill>,
    /// How many connections are up.
    connections: usize,
    /// How many of them can deliver listings.
    delivering: usize,
    alive_until: Option<Instant>,
    /// Since when listings can arrive, or when they last could for the first time after a gap.
    since: Option<Instant>,
    attempts: u32,
    reconnects: u64,
    /// The number of the last back-fill that was asked for.
    fills: u64,
}

impl GapTracker {
    pub(super) fn new(taps: Arc<FeedMetrics>, tag: String, stable_after: Duration) -> Self {
        Self {
            taps,
            tag,
            stable_after,
            begun: now(),
            awaits_data: AtomicBool::new(false),
            backfill: None,
            sweep_at_start: false,
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
        self.taps.gap_attempts(attempts);
        if let Some(witness) = self.taps.witness() {
            witness.dials();
        }
    }

    /// A dial led to nothing. Only whoever records needs to know: before the first connection there
    /// was no life of which a gap could be counted, yet nothing was heard.
    pub(super) fn failed(&self, cause: &str) {
        let state = self.lock();
        let (is_first, is_down) = (state.alive_until.is_none(), state.delivering == 0);
        drop(state);
        if is_first
            && is_down
            && let Some(witness) = self.taps.witness()
        {
            witness.down(self.begun, cause);
        }
    }

    /// A connection is up and subscribed. Returns the gap that this ended, if it did.
    pub(super) fn up(&self) -> Option<Gap> {
        let mut state = self.lock();
        state.connections = state.connections.saturating_add(1);
        if state.connections == 1 {
            self.taps.connected(Some(clock::now()));
        }
        self.returns(&mut state, GapEnd::Connected)
    }

    /// The subscription to the listings was asked for again on a live connection.
    pub(super) fn renewed(&self) {
        let _gap = self.returns(&mut self.lock(), GapEnd::Subscribed);
    }

    /// One more connection can deliver. Returns the gap that this ended, if it did.
    fn returns(&self, state: &mut State, by: GapEnd) -> Option<Gap> {
        state.delivering = state.delivering.saturating_add(1);
        if state.delivering != 1 {
            return None;
        }
        let at = now();
        state.since = Some(at);
        self.taps.is_up.store(true, Ordering::Release);
        self.taps.is_blocked.store(false, Ordering::Release);
        if by == GapEnd::Connected
            && let Some(witness) = self.taps.witness()
        {
            witness.up();
        }
        let attempts = std::mem::take(&mut state.attempts);
        if state.alive_until.is_none() {
            if let Some(backfill) = self.backfill.as_ref().filter(|_| self.sweep_at_start) {
                backfill.want(BackfillRequest { number: 0, since: None });
            }
            return None;
        }
        if by == GapEnd::Connected {
            state.reconnects = state.reconnects.saturating_add(1);
            add(&self.taps.reconnects, 1);
        }
        let ended = self.taps.gap_ends(attempts, (at, clock::now()));
        self.awaits_data.store(true, Ordering::Relaxed);
        state.fills = state.fills.saturating_add(1);
        let lasted = ended.as_ref().map_or(Duration::ZERO, |gap| gap.lasted);
        let (number, reconnects) = (state.fills, state.reconnects);
        let filling = PendingBackfill { number, by, lasted, attempts, reconnects, found: 0 };
        match &self.backfill {
            Some(backfill) => {
                state.filling = Some(filling);
                backfill
                    .want(BackfillRequest { number, since: ended.as_ref().map(|gap| gap.from) });
            }
            None => self.say(filling),
        }
        ended
    }

    fn say(&self, filling: PendingBackfill) {
        let PendingBackfill { by, lasted, attempts, reconnects, found, .. } = filling;
        let (tag, gap) = (&self.tag, Seconds(lasted));
        match by {
            GapEnd::Connected => info!(
                "Reconnected (gap {gap}, attempts {attempts}, reconnects {reconnects}, back-filled {found}){tag}"
            ),
            GapEnd::Subscribed => {
                info!("Resubscribed to the listings (gap {gap}, back-filled {found}){tag}");
            }
        }
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
        self.gone();
        self.silenced(alive, cause);
    }

    /// A connection is gone whose subscription to the listings had ended before.
    pub(super) fn down_after_silence(&self) {
        self.gone();
    }

    fn gone(&self) {
        let mut state = self.lock();
        state.connections = state.connections.saturating_sub(1);
        if state.connections == 0 {
            self.taps.connected(None);
        }
    }

    /// A connection can deliver no listings any more, because it is gone or because its subscription
    /// has ended; `alive` was the last moment at which it surely could.
    pub(super) fn silenced(&self, alive: Instant, cause: &str) {
        let mut state = self.lock();
        state.delivering = state.delivering.saturating_sub(1);
        let alive = state.alive_until.map_or(alive, |before| before.max(alive));
        state.alive_until = Some(alive);
        if state.delivering != 0 {
            return;
        }
        let lived =
            state.since.map_or(Duration::ZERO, |since| alive.saturating_duration_since(since));
        let has_proved = !self.awaits_data.swap(false, Ordering::Relaxed);
        let goes_on =
            if has_proved || lived >= self.stable_after { None } else { self.taps.gap_goes_on() };
        state.attempts = goes_on.as_ref().map_or(0, |gap| gap.attempts);
        let unfilled = state.filling.take();
        drop(state);
        if let Some(filling) = unfilled {
            self.say(filling);
        }
        if let Some(backfill) = &self.backfill {
            backfill.cancel();
        }
        self.taps.is_up.store(false, Ordering::Release);
        if let Some(witness) = self.taps.witness() {
            witness.down(alive, cause);
        }
        if goes_on.is_some() {
            return;
        }
        let ago = now().saturating_duration_since(alive);
        let gap = Gap {
            from: clock::now().minus(ago),
            until: None,
            data_at: None,
            lasted: ago,
            attempts: 0,
            cause: cause.to_owned(),
        };
        self.taps.gap_begins(gap, alive);
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
