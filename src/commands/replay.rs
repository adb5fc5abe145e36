//! Replays a recording of the market through the decision engine of a dry run.
//!
//! The same recording and the same rules give the same decisions: each message is parsed,
//! deduplicated and passed to the [`Engine`], whose clocks show the recording's time. Messages that
//! arrived in one read are handled together, as in a session: those with wanted listings first.
//! Recordings without marks of the reads are replayed message by message. Nothing waits
//! and no order can be sent. A recording does not contain the bot's other inputs: back-filled
//! listings, the balance at the start, and the dates of responses.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    config::Budget,
    domain::latency::RxTimestamps,
    domain::server_clock::ServerClock,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeStatus},
    domain::wanted_items::WantedItems,
    execution::OrderClient,
    ledger::Ledger,
    markets::{Decoded, MarketEvent, Marketplace, Scan},
    protocol::{FeedMessage, FeedProtocol as _, Incoming},
    recording::{RecordedMessage, Recording, RecordingReadError},
    sniper::{
        Engine, Executor, Now,
        eligibility::{Eligibility, eligibility},
        stats::SessionStats,
    },
    whitelist::{Decision, Whitelist},
    ws::{
        BATCH_BYTES_MIN, MESSAGES_PER_READ_MAX,
        deduplicator::{Deduplicator, Duplicate},
    },
};

const NS_PER_MS: u64 = 1_000_000;

/// Rules of the decisions.
#[derive(Clone, Debug)]
pub struct ReplayRules {
    pub whitelist: Arc<Whitelist>,
    pub budget: Budget,
}

/// Decision about one listing.
#[derive(Clone, Copy, Debug)]
pub struct ReplayDecision<'t, 'a> {
    /// Receive time of the listing, in nanoseconds since 1970.
    pub ns: u64,
    pub trade: &'t Trade<'a>,
    /// Decision of the whitelist.
    pub verdict: Decision,
    /// Eligibility for an order, if the listing is on the whitelist.
    pub eligibility: Option<Eligibility>,
}

/// Result of a replay.
#[derive(Clone, Debug)]
pub struct ReplayResult {
    /// Counters of the dry run.
    pub stats: SessionStats,
    pub messages: u64,
    /// Unreadable messages, and listings without a usable id.
    pub unreadable: u64,
    /// Listings that had arrived before.
    pub duplicates: u64,
}

/// Replays a recording under these rules and passes each decision to `on_decision`.
///
/// # Errors
///
/// Returns a [`RecordingReadError`] when the recording cannot be read to its end.
pub fn replay<M: Marketplace>(
    market: &M,
    recording: &Recording,
    rules: &ReplayRules,
    mut on_decision: impl FnMut(ReplayDecision<'_, '_>),
) -> Result<ReplayResult, RecordingReadError> {
    let mut replayer: Option<Replayer<M>> = None;
    let mut reads: HashMap<u32, Vec<RecordedMessage>> = HashMap::new();
    for message in recording.messages() {
        let message = message?;
        let replayer = replayer.get_or_insert_with(|| Replayer::new(market, rules, message.ns));
        let (connection, is_last) = (message.conn, !message.more);
        let read = reads.entry(connection).or_default();
        read.push(message);
        if is_last || read.len() >= MESSAGES_PER_READ_MAX {
            replayer.on_read(&reads.remove(&connection).unwrap_or_default(), &mut on_decision);
        }
    }
    let mut replayer = replayer.unwrap_or_else(|| Replayer::new(market, rules, 0));
    // The recording may end inside a read.
    let mut unfinished: Vec<_> = reads.into_values().collect();
    unfinished.sort_by_key(|read| read.first().map(|message| message.ns));
    for read in unfinished {
        replayer.on_read(&read, &mut on_decision);
    }
    Ok(replayer.finish())
}

/// A message and those behind it in the same read.
#[derive(Clone, Copy)]
struct Arrived<'r> {
    message: &'r RecordedMessage,
    behind: &'r [RecordedMessage],
}

struct Replayer<M: Marketplace> {
    market: M,
    protocol: M::Protocol,
    engine: Engine<Arc<OrderClient>>,
    whitelist: Arc<Whitelist>,
    wanted: Arc<WantedItems>,
    deduplicator: Deduplicator,
    /// Instant that represents the recording's first message.
    base: Instant,
    base_ns: u64,
    due: Option<Instant>,
    messages: u64,
    unreadable: u64,
    duplicates: u64,
}

impl<M: Marketplace> Replayer<M> {
    fn new(market: &M, rules: &ReplayRules, base_ns: u64) -> Self {
        let base = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(base)));
        let whitelist = Arc::clone(&rules.whitelist);
        let ledger = Ledger::in_memory(rules.budget.clone(), whitelist.entries(), false);
        Self {
            market: market.clone(),
            protocol: M::Protocol::default(),
            engine: Engine::new(
                Arc::clone(&whitelist),
                ledger,
                Executor::Dry,
                M::CAPABILITIES.keyed_by,
                clock,
            ),
            wanted: Arc::new(WantedItems::of(whitelist.entries())),
            whitelist,
            deduplicator: Deduplicator::new(M::CAPABILITIES.keyed_by),
            base,
            base_ns,
            due: None,
            messages: 0,
            unreadable: 0,
            duplicates: 0,
        }
    }

    /// Returns the time of both clocks at `ns`.
    fn at(&self, ns: u64) -> Now {
        let since = Duration::from_nanos(ns.saturating_sub(self.base_ns));
        let wall = UnixMs(i64::try_from(ns / NS_PER_MS).unwrap_or(i64::MAX));
        Now { instant: self.base.checked_add(since).unwrap_or(self.base), wall }
    }

    /// Handles the messages of one read.
    fn on_read(
        &mut self,
        read: &[RecordedMessage],
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>),
    ) {
        if let Some(first) = read.first() {
            self.run_timers(self.at(first.ns));
        }
        let mut rest = read;
        let mut waiting = Vec::new();
        while let Some((message, behind)) = rest.split_first() {
            rest = behind;
            let is_alone = read.len() == 1 && message.raw.len() < BATCH_BYTES_MIN;
            let arrived = Arrived { message, behind };
            if !is_alone && self.scan(arrived, on_decision) == Scan::CanWait {
                waiting.push(arrived);
            } else {
                self.on_message(arrived, on_decision);
            }
        }
        for arrived in waiting {
            self.on_message(arrived, on_decision);
        }
    }

    fn scan(
        &mut self,
        arrived: Arrived<'_>,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>),
    ) -> Scan {
        let text = arrived.message.raw.as_bytes();
        let Some((_, payload)) = self.protocol.peek_event(text) else { return Scan::ReadNow };
        let (market, wanted) = (self.market.clone(), Arc::clone(&self.wanted));
        market.scan(payload, &wanted, &mut |trade| self.on_trade(trade, arrived, on_decision))
    }

    fn on_message(
        &mut self,
        arrived: Arrived<'_>,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>),
    ) {
        self.messages = self.messages.saturating_add(1);
        let now = self.at(arrived.message.ns);
        self.run_timers(now);
        let mut rest = Some(FeedMessage::Text(&arrived.message.raw));
        while let Some(whole) = rest {
            let (part, behind) = self.protocol.split_first(whole);
            rest = behind.filter(|behind| behind.len() < whole.len());
            let market = &self.market;
            match self.protocol.read(part, |input| market.decode(input)) {
                Ok(Incoming::Data { payload: Decoded { events, .. }, .. }) => {
                    self.on_events(events, arrived, on_decision);
                }
                Ok(_no_event) => {}
                Err(_counted) => self.unreadable = self.unreadable.saturating_add(1),
            }
        }
        self.due = self.engine.run_timers(now);
    }

    fn on_events<'a>(
        &mut self,
        events: M::Events<'a>,
        arrived: Arrived<'_>,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>),
    ) {
        let now = self.at(arrived.message.ns);
        for event in events {
            match event {
                MarketEvent::Trade(trade) => self.on_trade(trade, arrived, on_decision),
                MarketEvent::Notice(notice) => self.engine.on_notice(notice, now),
                MarketEvent::Unreadable(count) => {
                    self.unreadable = self.unreadable.saturating_add(u64::from(count));
                }
                MarketEvent::Balance(_) | MarketEvent::Unknown | MarketEvent::ServerError(_) => {}
            }
        }
        self.due = self.engine.run_timers(now);
    }

    fn on_trade(
        &mut self,
        mut trade: Trade<'_>,
        arrived: Arrived<'_>,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>),
    ) {
        let RecordedMessage { ns, conn, .. } = *arrived.message;
        let now = self.at(ns);
        let connection = usize::try_from(conn).unwrap_or(usize::MAX);
        let is_wanted = self.wanted.wants(&trade);
        let duplicate = self.deduplicator.record(&trade, is_wanted, connection, now.instant);
        if duplicate != Duplicate::First {
            self.duplicates = self.duplicates.saturating_add(1);
            return;
        }
        if is_wanted && trade.event != TradeEvent::Updated && trade.status == TradeStatus::Listed {
            let behind = arrived.behind.iter().map(|message| message.raw.as_bytes());
            let removed = behind.filter_map(|text| self.market.removal(text, &trade.id)).next();
            trade.status = removed.unwrap_or(trade.status);
        }
        trade.arrival = Some(RxTimestamps::at(now.instant));
        if trade.event != TradeEvent::Updated {
            on_decision(self.decide(&trade, ns, now));
        }
        self.engine.consider(trade, now);
    }

    fn decide<'t, 'a>(&self, trade: &'t Trade<'a>, ns: u64, now: Now) -> ReplayDecision<'t, 'a> {
        let verdict = self.whitelist.decide(trade);
        let eligibility = matches!(verdict, Decision::Matched(_)).then(|| {
            let time = self.engine.server_time(now);
            eligibility(trade, time, false)
        });
        ReplayDecision { ns, trade, verdict, eligibility }
    }

    /// Runs the timers that are due before this time.
    fn run_timers(&mut self, now: Now) {
        while let Some(due) = self.due.filter(|due| *due <= now.instant) {
            let since = due.saturating_duration_since(self.base).as_nanos();
            let ns = self.base_ns.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
            let next = self.engine.run_timers(self.at(ns));
            // A timer that stays due at the same time waits for another condition.
            self.due = next.filter(|next| due < *next);
        }
    }

    fn finish(self) -> ReplayResult {
        ReplayResult {
            stats: self.engine.stats().clone(),
            messages: self.messages,
            unreadable: self.unreadable,
            duplicates: self.duplicates,
        }
    }
}
