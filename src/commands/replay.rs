//! Replays a recording of the market through the decision engine of a dry run.
//!
//! The same recording and the same rules give the same decisions: each message is parsed,
//! deduplicated and passed to the [`Engine`], whose clocks show the recording's time. Messages that
//! arrived in one read are handled together, as in a session: those with wanted listings first.
//! Recordings without marks of the reads are replayed message by message. Reference prices are
//! those that were in force when the message arrived, if the recording contains them
//! ([`ReplayPrices`]). Nothing waits and no order can be sent. A recording does not contain the
//! bot's other inputs: back-filled listings, the balance at the start, and the dates of responses.
//!
//! - [`command`]: `sniper replay`. [`input`]: its recording and its prices.

pub mod command;
pub mod input;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    config::{Budget, Config, OrdersConfig, prices::PricesConfig},
    domain::latency::RxTimestamps,
    domain::server_clock::ServerClock,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeNotice, TradeStatus},
    domain::wanted_items::WantedItems,
    execution::OrderClient,
    ledger::Ledger,
    markets::{Decoded, MarketEvent, Marketplace, Scan},
    prices::{PriceBook, wanted_items},
    protocol::{FeedMessage, FeedProtocol as _, Incoming},
    recording::{PriceHistory, RecordedMessage, RecordedPrices, Recording, RecordingReadError},
    sniper::{
        Engine, Executor, Now,
        eligibility::{Eligibility, eligibility},
        stats::{CountedReason, SessionStats},
    },
    whitelist::{Decision, PriceView, Whitelist},
    ws::{
        BATCH_BYTES_MIN, MESSAGES_PER_READ_MAX,
        deduplicator::{Deduplicator, Duplicate},
    },
};

#[derive(Clone, Debug)]
pub struct ReplayRules {
    pub whitelist: Arc<Whitelist>,
    pub budget: Budget,
    pub prices: ReplayPrices,
    /// Maximum time that a matching listing waits for a limit or a connection.
    pub max_wait: Duration,
}

/// Reference prices of a replay.
#[derive(Clone, Debug, Default)]
pub enum ReplayPrices {
    #[default]
    None,
    /// The same prices for the whole recording.
    Fixed(Arc<PriceBook>),
    /// The prices that the session used, for the sources of these settings.
    Recorded(RecordedPrices, PricesConfig),
}

impl ReplayRules {
    /// Rules without reference prices.
    pub fn new(whitelist: Arc<Whitelist>, budget: Budget) -> Self {
        let max_wait = OrdersConfig::default().max_wait;
        Self { whitelist, budget, prices: ReplayPrices::None, max_wait }
    }

    /// Returns the rules of these settings, with other reference prices.
    pub fn of(config: &Config, prices: ReplayPrices) -> Self {
        let whitelist = Arc::new(Whitelist::new(config.whitelist.to_vec()));
        Self {
            prices,
            max_wait: config.orders.max_wait,
            ..Self::new(whitelist, config.budget.clone())
        }
    }
}

/// Decision about one listing.
#[derive(Clone, Copy, Debug)]
pub struct ReplayDecision<'t, 'a> {
    /// Receive time of the listing, in nanoseconds since 1970.
    pub ns: u64,
    pub trade: &'t Trade<'a>,
    /// Decision of the whitelist, before limits and timing.
    pub verdict: Decision,
    /// `None` if the listing does not match.
    pub eligibility: Option<Eligibility>,
    /// Reference prices of the decision.
    pub prices: PriceView<'t>,
    pub result: ReplayOutcome,
}

/// Decision of the engine when a listing arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// No whitelist entry matches.
    NoMatch,
    Ordered,
    Skipped(CountedReason),
    /// Held until it opens, or queued until a limit or a connection permits its order.
    Waits,
    /// The same listing matched before.
    Repeated,
}

/// Result of a replay.
#[derive(Clone, Debug)]
pub struct ReplayResult {
    /// Counters of the dry run.
    pub stats: SessionStats,
    pub messages: u64,
    /// Receive time of the first and of the last message, in nanoseconds since 1970.
    pub span_ns: Option<(u64, u64)>,
    /// Number of unreadable messages, and of listings without a usable id.
    pub unreadable: u64,
    /// Number of listings that another message had delivered before.
    pub duplicates: u64,
}

/// Maximum number of messages that are read for the names in a recording.
const NAMED_MESSAGES_MAX: usize = 200_000;
/// Maximum number of names of a recording.
const NAMES_MAX: usize = 100_000;

/// Returns the market names of the listings in a recording, as far as it can be read.
pub fn market_names<M: Marketplace>(market: &M, recording: &Recording) -> BTreeSet<String> {
    let mut protocol = M::Protocol::of_recording();
    let mut names = BTreeSet::new();
    for message in recording.messages().map_while(Result::ok).take(NAMED_MESSAGES_MAX) {
        let mut rest = Some(FeedMessage::Text(&message.raw));
        while let Some(whole) = rest {
            let (part, behind) = protocol.split_first(whole);
            rest = behind.filter(|behind| behind.len() < whole.len());
            let Ok(Incoming::Data { payload: Decoded { events, .. }, .. }) =
                protocol.read(part, |input| market.decode(input))
            else {
                continue;
            };
            for event in events {
                if let MarketEvent::Trade(trade) = event
                    && names.len() < NAMES_MAX
                    && !names.contains(&*trade.market_name)
                {
                    names.insert(trade.market_name.into_owned());
                }
            }
        }
    }
    names
}

/// Replays a recording under these rules and passes each decision to `on_decision`, which can end
/// the replay at the read of its listing.
///
/// # Errors
///
/// Returns a [`RecordingReadError`] when the recording cannot be read to its end.
pub fn replay<M: Marketplace>(
    market: &M,
    recording: &Recording,
    rules: &ReplayRules,
    mut on_decision: impl FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
) -> Result<ReplayResult, RecordingReadError> {
    let mut replayer: Option<Replayer<M>> = None;
    // Sorted by connection, so that the order of unfinished reads is always the same.
    let mut reads: BTreeMap<u32, Vec<RecordedMessage>> = BTreeMap::new();
    for message in recording.messages() {
        let message = message?;
        let replayer = match &mut replayer {
            Some(replayer) => replayer,
            None => replayer.insert(Replayer::new(market, rules, message.ns)),
        };
        let (connection, is_last) = (message.conn, !message.more);
        let read = reads.entry(connection).or_default();
        read.push(message);
        if is_last || read.len() >= MESSAGES_PER_READ_MAX {
            let read = reads.remove(&connection).unwrap_or_default();
            replayer.update_prices(&read)?;
            replayer.on_read(&read, &mut on_decision);
            if replayer.is_stopped {
                reads.clear();
                break;
            }
        }
    }
    let mut replayer = replayer.unwrap_or_else(|| Replayer::new(market, rules, 0));
    // The recording may end inside a read.
    let mut unfinished: Vec<_> = reads.into_values().collect();
    unfinished.sort_by_key(|read| read.first().map(|message| message.ns));
    for read in unfinished {
        replayer.update_prices(&read)?;
        replayer.on_read(&read, &mut on_decision);
    }
    Ok(replayer.finish())
}

/// A message and the later ones of the same read, one of which may remove its listing.
#[derive(Clone, Copy)]
struct Arrived<'r> {
    message: &'r RecordedMessage,
    /// Further parts of the message behind the one that is read.
    parts: Option<&'r str>,
    behind: &'r [RecordedMessage],
}

struct Replayer<M: Marketplace> {
    market: M,
    protocol: M::Protocol,
    engine: Engine<Arc<OrderClient>>,
    whitelist: Arc<Whitelist>,
    wanted: Arc<WantedItems>,
    deduplicator: Deduplicator,
    /// Recorded snapshots of the prices that are not in force yet.
    history: Option<PriceHistory>,
    prices: Arc<PriceBook>,
    last_ns: u64,
    /// Instant that represents the recording's first message.
    base: Instant,
    base_ns: u64,
    /// Time of the engine's next timer.
    due: Option<Instant>,
    messages: u64,
    unreadable: u64,
    duplicates: u64,
    is_stopped: bool,
}

impl<M: Marketplace> Replayer<M> {
    fn new(market: &M, rules: &ReplayRules, base_ns: u64) -> Self {
        let base = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(base)));
        let whitelist = Arc::clone(&rules.whitelist);
        let ledger = Ledger::in_memory(rules.budget.clone(), whitelist.entries(), false);
        let keyed_by = M::CAPABILITIES.keyed_by;
        let mut engine =
            Engine::new(Arc::clone(&whitelist), ledger, Executor::Dry, keyed_by, clock);
        engine.set_max_wait(rules.max_wait);
        let (prices, history) = match &rules.prices {
            ReplayPrices::None => (Arc::default(), None),
            ReplayPrices::Fixed(book) => (Arc::clone(book), None),
            ReplayPrices::Recorded(prices, config) => {
                (Arc::default(), Some(prices.history(config)))
            }
        };
        engine.set_prices(Arc::clone(&prices));
        let wanted = wanted_items(whitelist.entries(), &prices, UnixMs::from_nanos(base_ns));
        let wanted = Arc::new(wanted);
        Self {
            market: market.clone(),
            protocol: M::Protocol::of_recording(),
            engine,
            history,
            prices,
            last_ns: base_ns,
            wanted,
            whitelist,
            deduplicator: Deduplicator::new(keyed_by),
            base,
            base_ns,
            due: None,
            messages: 0,
            unreadable: 0,
            duplicates: 0,
            is_stopped: false,
        }
    }

    /// Returns the time of both clocks at `ns`.
    fn at(&self, ns: u64) -> Now {
        let since = Duration::from_nanos(ns.saturating_sub(self.base_ns));
        let instant = self.base.checked_add(since).unwrap_or(self.base);
        Now { instant, wall: UnixMs::from_nanos(ns) }
    }

    /// Uses the prices that were in force when a read arrived. The first snapshot also applies to
    /// earlier messages, because it has the prices of the session's start.
    fn update_prices(&mut self, read: &[RecordedMessage]) -> Result<(), RecordingReadError> {
        let Some(first) = read.first() else { return Ok(()) };
        while let Some(history) = &mut self.history
            && let Some(from_ns) = history.next_ns()
            && (history.is_at_start() || from_ns <= first.ns)
        {
            let Some(book) = history.advance()? else { break };
            self.run_timers(self.at(from_ns));
            self.wanted =
                Arc::new(wanted_items(self.whitelist.entries(), &book, self.at(from_ns).wall));
            self.prices = Arc::new(book);
            self.engine.set_prices(Arc::clone(&self.prices));
        }
        Ok(())
    }

    /// Handles the messages of one read in the order of a session: first those that may contain a
    /// wanted listing. A message that is no event comes after everything before it.
    fn on_read(
        &mut self,
        read: &[RecordedMessage],
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
    ) {
        if let Some(first) = read.first() {
            self.run_timers(self.at(first.ns));
        }
        let mut rest = read;
        let mut waiting = Vec::new();
        while let Some((message, behind)) = rest.split_first() {
            rest = behind;
            let is_alone = read.len() == 1 && message.raw.len() < BATCH_BYTES_MIN;
            let arrived = Arrived { message, parts: None, behind };
            let event = self.protocol.peek_event(message.raw.as_bytes());
            let payload = event.map(|(_, payload)| payload);
            match payload.filter(|_| !is_alone) {
                Some(payload) if self.scan(payload, arrived, on_decision) != Scan::ReadNow => {
                    waiting.push(arrived);
                    continue;
                }
                Some(_wanted) => {}
                None => {
                    for earlier in waiting.drain(..) {
                        self.on_message(earlier, on_decision);
                    }
                }
            }
            self.on_message(arrived, on_decision);
        }
        for arrived in waiting {
            self.on_message(arrived, on_decision);
        }
    }

    fn scan(
        &mut self,
        payload: &[u8],
        arrived: Arrived<'_>,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
    ) -> Scan {
        let (market, wanted) = (self.market.clone(), Arc::clone(&self.wanted));
        market.scan(payload, &wanted, &mut |trade| self.on_trade(trade, arrived, on_decision))
    }

    fn on_message(
        &mut self,
        arrived: Arrived<'_>,
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
    ) {
        self.messages = self.messages.saturating_add(1);
        self.last_ns = self.last_ns.max(arrived.message.ns);
        let now = self.at(arrived.message.ns);
        self.run_timers(now);
        let mut rest = Some(FeedMessage::Text(&arrived.message.raw));
        while let Some(whole) = rest {
            let (part, behind) = self.protocol.split_first(whole);
            rest = behind.filter(|behind| behind.len() < whole.len());
            let market = &self.market;
            match self.protocol.read(part, |input| market.decode(input)) {
                Ok(Incoming::Data { payload: Decoded { events, .. }, .. }) => {
                    let parts = rest.and_then(|rest| rest.text().ok());
                    self.on_events(events, Arrived { parts, ..arrived }, on_decision);
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
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
    ) {
        let now = self.at(arrived.message.ns);
        for event in events {
            match event {
                MarketEvent::Trade(trade) => self.on_trade(trade, arrived, on_decision),
                MarketEvent::Notice(notice) => {
                    if let TradeNotice::Removed { id } = notice {
                        self.deduplicator.on_removed(
                            id,
                            usize::try_from(arrived.message.conn).unwrap_or(usize::MAX),
                        );
                    }
                    self.engine.on_notice(notice, now);
                }
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
        on_decision: &mut impl FnMut(ReplayDecision<'_, '_>) -> ControlFlow<()>,
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
            let behind = arrived.behind.iter().map(|message| message.raw.as_str());
            let mut texts = arrived.parts.into_iter().chain(behind).map(str::as_bytes);
            let removed = texts.find_map(|text| self.market.removal(text, &trade.id));
            trade.status = removed.unwrap_or(trade.status);
        }
        trade.arrival = Some(RxTimestamps::at(now.instant));
        if trade.event == TradeEvent::Updated {
            return self.engine.consider(trade, now);
        }
        let prices = Arc::clone(&self.prices);
        let prices = PriceView::new(&prices, now.wall);
        let verdict = self.whitelist.decide_with(&trade, prices);
        if !matches!(verdict, Decision::Matched(_)) {
            let (eligibility, result) = (None, ReplayOutcome::NoMatch);
            let decision =
                ReplayDecision { ns, trade: &trade, verdict, eligibility, prices, result };
            self.is_stopped |= on_decision(decision).is_break();
            return self.engine.consider(trade, now);
        }
        let eligibility = Some(eligibility(&trade, self.engine.server_time(now), false));
        let result = self.consider(trade.clone(), now);
        let decision = ReplayDecision { ns, trade: &trade, verdict, eligibility, prices, result };
        self.is_stopped |= on_decision(decision).is_break();
    }

    /// Passes a matching listing to the engine. The outcome is the counter that changed.
    fn consider(&mut self, trade: Trade<'_>, now: Now) -> ReplayOutcome {
        let SessionStats { would_buy, repeated, ref skipped, .. } = *self.engine.stats();
        let before = skipped.clone();
        self.engine.consider(trade, now);
        let after = self.engine.stats();
        let count = |reason: &str| before.get(reason).copied().unwrap_or(0);
        match after.skipped.iter().find(|(reason, after)| count(reason.name) < **after) {
            _ if would_buy < after.would_buy => ReplayOutcome::Ordered,
            Some((reason, _)) => ReplayOutcome::Skipped(*reason),
            None if repeated < after.repeated => ReplayOutcome::Repeated,
            None => ReplayOutcome::Waits,
        }
    }

    /// Runs the timers that are due at or before this time.
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
            span_ns: (self.messages > 0).then_some((self.base_ns, self.last_ns)),
            unreadable: self.unreadable,
            duplicates: self.duplicates,
        }
    }
}
