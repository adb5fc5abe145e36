//! A recording of the marketplace, played through the same code that decides in earnest.
//!
//! The same recording and the same rules give the same decisions, anywhere: each message is read,
//! freed of copies, and considered by the [`Engine`] of a dry run, whose clocks show the recording's
//! time. Nothing is waited for and nothing can be bought. What a bot learns otherwise than from its
//! feed, such as listings that were back-filled, its balance at start and the dates of answers, a
//! recording does not hold.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::reader::{RecordedMessage, Recording, RecordingReadError};
use crate::{
    config::Budget,
    domain::server_clock::ServerClock,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent},
    execution::OrderClient,
    latency::RxTimestamps,
    ledger::Ledger,
    markets::csgoroll::feed::NextPayload,
    sniper::{
        Engine, Executor, Now,
        eligibility::{Eligibility, eligibility},
        stats::SessionStats,
    },
    whitelist::{Decision, Whitelist},
    ws::{
        deduplicator::{Deduplicator, Duplicate},
        protocol::{FeedProtocol as _, GraphqlTransportWs, Incoming},
    },
};

const NS_PER_MS: u64 = 1_000_000;

/// By what is decided.
#[derive(Clone, Debug)]
pub struct ReplayRules {
    /// What is wanted.
    pub whitelist: Arc<Whitelist>,
    /// What may be spent.
    pub budget: Budget,
}

/// What was decided about one listing.
#[derive(Clone, Copy, Debug)]
pub struct ReplayDecision<'t, 'a> {
    /// When it was received, in nanoseconds since 1970.
    pub ns: u64,
    /// The listing.
    pub trade: &'t Trade<'a>,
    /// What the whitelist says.
    pub verdict: Decision,
    /// Whether it may be bought, if it is wanted.
    pub eligibility: Option<Eligibility>,
}

/// What a recording came to under these rules.
#[derive(Clone, Debug)]
pub struct ReplayResult {
    /// What was decided, counted as a dry run counts it.
    pub tally: SessionStats,
    /// Messages.
    pub frames: u64,
    /// Messages that could not be read, and listings without a usable id.
    pub unreadable: u64,
    /// Listings that had arrived before.
    pub duplicates: u64,
}

/// Plays a recording under these rules, and hands each decision out as it is made.
///
/// # Errors
///
/// A [`RecordingReadError`] when it cannot be read to its end.
pub fn play(
    recording: &Recording,
    rules: &ReplayRules,
    mut on_decision: impl FnMut(ReplayDecision<'_, '_>),
) -> Result<ReplayResult, RecordingReadError> {
    let mut player: Option<Replayer> = None;
    for frame in recording.frames() {
        let frame = frame?;
        let player = player.get_or_insert_with(|| Replayer::new(rules, frame.ns));
        player.hear(&frame, &mut on_decision);
    }
    Ok(player.unwrap_or_else(|| Replayer::new(rules, 0)).played())
}

struct Replayer {
    core: Engine<Arc<OrderClient>>,
    whitelist: Arc<Whitelist>,
    seen: Deduplicator,
    /// The moment that stands for the recording's first.
    base: Instant,
    base_ns: u64,
    due: Option<Instant>,
    frames: u64,
    unreadable: u64,
    duplicates: u64,
}

impl Replayer {
    fn new(rules: &ReplayRules, base_ns: u64) -> Self {
        let base = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(base)));
        let whitelist = Arc::clone(&rules.whitelist);
        let ledger = Ledger::in_memory(rules.budget.clone(), whitelist.entries(), false);
        Self {
            core: Engine::new(Arc::clone(&whitelist), ledger, Executor::Dry, clock),
            whitelist,
            seen: Deduplicator::default(),
            base,
            base_ns,
            due: None,
            frames: 0,
            unreadable: 0,
            duplicates: 0,
        }
    }

    /// What both clocks showed then.
    fn at(&self, ns: u64) -> Now {
        let since = Duration::from_nanos(ns.saturating_sub(self.base_ns));
        let wall = UnixMs(i64::try_from(ns / NS_PER_MS).unwrap_or(i64::MAX));
        Now { instant: self.base.checked_add(since).unwrap_or(self.base), wall }
    }

    fn hear(
        &mut self,
        frame: &RecordedMessage,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>),
    ) {
        self.frames = self.frames.saturating_add(1);
        let now = self.at(frame.ns);
        self.pass_time(now);
        let payload = match GraphqlTransportWs.read::<NextPayload<'_>>(&frame.raw) {
            Ok(Incoming::Data { payload, .. }) => payload,
            Ok(_no_event) => return,
            Err(_counted) => {
                self.unreadable = self.unreadable.saturating_add(1);
                return;
            }
        };
        self.unreadable = self.unreadable.saturating_add(u64::from(payload.unreadable()));
        let connection = usize::try_from(frame.conn).unwrap_or(usize::MAX);
        for mut trade in payload.into_trades() {
            if self.seen.record(&trade, connection, now.instant) != Duplicate::First {
                self.duplicates = self.duplicates.saturating_add(1);
                continue;
            }
            trade.arrival = Some(RxTimestamps::at(now.instant));
            if trade.event != TradeEvent::Updated {
                on_decision(self.decide(&trade, frame.ns, now));
            }
            self.core.consider(trade, now);
        }
        self.due = self.core.due(now);
    }

    fn decide<'t, 'a>(&self, trade: &'t Trade<'a>, ns: u64, now: Now) -> ReplayDecision<'t, 'a> {
        let verdict = self.whitelist.decide(trade);
        let eligibility = matches!(verdict, Decision::Wanted(_)).then(|| {
            let time = self.core.server_time(now);
            eligibility(trade, time, false)
        });
        ReplayDecision { ns, trade, verdict, eligibility }
    }

    /// Does what fell due before this moment.
    fn pass_time(&mut self, now: Now) {
        while let Some(due) = self.due.filter(|due| *due <= now.instant) {
            let since = due.saturating_duration_since(self.base).as_nanos();
            let ns = self.base_ns.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
            let next = self.core.due(self.at(ns));
            // What is due at the same moment still waits for something else than time.
            self.due = next.filter(|next| due < *next);
        }
    }

    fn played(self) -> ReplayResult {
        ReplayResult {
            tally: self.core.tally().clone(),
            frames: self.frames,
            unreadable: self.unreadable,
            duplicates: self.duplicates,
        }
    }
}
