//! One listing after the other: wanted? buyable? affordable? then bought, at once.
//!
//! Everything here is synchronous and takes its time as an argument. [`Engine::consider`] is the way
//! from frame to order: it asks the whitelist, the listing and the ledger, and hands the approved
//! buy over, in the caller's stack. What it has to say is said after the request is written.
//!
//! # Invariants
//!
//! 1. A listing is decided on once, however often and over however many connections it comes.
//! 2. Only what the ledger has approved is sent, and a dry run has nothing to send with.
//! 3. A listing that is held or waits for its turn is asked about again in full when its time has
//!    come: limits, halts and its own expiry may have changed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    OrderSender,
    eligibility::{Eligibility, ServerTime, eligibility},
    held::{HeldListing, HeldListings},
    notified::Notified,
    stats::SessionStats,
    trade_log,
};
use crate::{
    cache::SetAssocCache,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::server_clock::ServerClock,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeId, TradeStatus},
    execution::answer::SentRequest,
    latency::{LatencyBreakdown, RxTimestamps},
    ledger::{Effects, InvalidTransition, Ledger, LedgerError, OrderRequest, RiskRejection},
    secret,
    whitelist::{Decision, Whitelist},
};

/// How many wanted listings are remembered, to know a repetition.
pub const SEEN_MAX: usize = 65_536;
/// How many listings are held for a later moment.
pub const HELD_MAX: usize = 4_096;
/// How many orders' items are remembered for later lines about them.
pub const NAMES_MAX: usize = 4_096;
/// How many listings wait because enough buys are under way.
pub const WAITING_MAX: usize = 256;
/// How long a listing waits for its turn before it is given up.
pub const WAITING_FOR_MAX: Duration = Duration::from_secs(5);
/// How many listings that could not be read are shown; the rest is only counted.
pub const UNREADABLE_SHOWN_MAX: u64 = 10;

/// What time it is, on both of our clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock.
    pub wall: UnixMs,
}

/// What buys are made with.
#[derive(Debug)]
pub enum Executor<B> {
    /// Nothing: a dry run.
    Dry,
    /// Something that sends.
    Live(B),
}

/// A buy whose answer is waited for.
#[derive(Debug)]
pub(super) struct PendingOrder {
    pub(super) market_name: String,
    pub(super) price: Amount,
    pub(super) steps: LatencyBreakdown,
}

/// A listing that an entry wants.
#[derive(Clone, Copy)]
struct Candidate<'t, 'a> {
    trade: &'t Trade<'a>,
    /// The entry's index.
    entry: usize,
    /// When it was first wanted.
    since: Instant,
}

impl Candidate<'_, '_> {
    fn keep(&self) -> HeldListing {
        HeldListing { trade: self.trade.clone().into_owned(), entry: self.entry }
    }
}

/// The state of one session.
#[derive(Debug)]
pub struct Engine<B> {
    pub(super) whitelist: Arc<Whitelist>,
    pub(super) ledger: Ledger,
    pub(super) hand: Executor<B>,
    /// Shared with those who read the server's time off its answers.
    clock: Arc<Mutex<ServerClock>>,
    pub(super) tally: SessionStats,
    pub(super) reported: Notified,
    pub(super) pending: HashMap<TradeId, PendingOrder>,
    /// The items of this session's orders, for later lines about them.
    pub(super) names: HashMap<TradeId, String>,
    seen: SetAssocCache<()>,
    /// When the way of an approval may be gone for practice again; `None`: at any time.
    pub(super) rehearse_from: Option<Instant>,
    /// There was a listing after which there may be time for that.
    pub(super) wishes_to_rehearse: bool,
    held: HeldListings,
    waiting: VecDeque<(Instant, HeldListing)>,
    /// The site has flagged our account as a suspected trader.
    pub(super) is_flagged: bool,
    /// Something has happened that the account should show.
    pub(super) wishes_to_know: bool,
    /// The ledger belongs to the account that was read.
    pub(super) is_bound: bool,
    /// The last account read was another one than the ledger's.
    pub(super) is_other_account: bool,
    /// Why this ledger may not be used for the account, which ends the session.
    pub(super) refusal: Option<LedgerError>,
    /// No new buys.
    is_stopping: bool,
    /// The wall clock less the steady one, in milliseconds: now, and when the account was last read.
    pub(super) wall_drift_ms: i64,
    pub(super) wall_drift_at_read_ms: i64,
    /// A listing was held whose moment is earlier than all before.
    pub(super) has_earlier_mark: bool,
}

impl<B: OrderSender> Engine<B> {
    /// A session at its beginning.
    pub fn new(
        whitelist: Arc<Whitelist>,
        ledger: Ledger,
        hand: Executor<B>,
        clock: Arc<Mutex<ServerClock>>,
    ) -> Self {
        Self {
            whitelist,
            ledger,
            hand,
            clock,
            tally: SessionStats::default(),
            reported: Notified::default(),
            pending: HashMap::with_capacity(64),
            names: HashMap::new(),
            seen: SetAssocCache::new(SEEN_MAX, ()),
            rehearse_from: None,
            wishes_to_rehearse: false,
            held: HeldListings::new(HELD_MAX),
            waiting: VecDeque::with_capacity(WAITING_MAX),
            is_flagged: false,
            wishes_to_know: false,
            is_bound: false,
            is_other_account: false,
            refusal: None,
            is_stopping: false,
            wall_drift_ms: 0,
            wall_drift_at_read_ms: 0,
            has_earlier_mark: false,
        }
    }

    /// What has been counted so far.
    pub const fn tally(&self) -> &SessionStats {
        &self.tally
    }

    /// The ledger of this session.
    pub const fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Decides about one listing, and buys it if it should be.
    #[inline]
    pub fn consider(&mut self, trade: Trade<'_>, now: Now) {
        let is_renewed = self.is_waiting() && self.is_outdated_by(&trade);
        if is_renewed {
            self.forget_waiting(&trade);
        }
        if trade.event == TradeEvent::Updated
            && !(is_renewed && trade.status == TradeStatus::Listed)
        {
            return self.updated(&trade, now);
        }
        self.tally.listings = self.tally.listings.saturating_add(1);
        let verdict = self.whitelist.decide(&trade);
        if let Decision::Wanted(entry) = verdict {
            self.wanted(&trade, entry, now);
        }
        if let (TradeEvent::Listed, Some(arrival), Some(created)) =
            (trade.event, trade.arrival, trade.created_at)
        {
            self.clock().observe_listing(arrival.framed, created);
        }
        if !trade.defects.is_empty() {
            self.tally.unreadable = self.tally.unreadable.saturating_add(1);
            trade_log::unreadable(&trade, self.tally.unreadable <= UNREADABLE_SHOWN_MAX);
        }
        if !matches!(verdict, Decision::Wanted(_)) {
            self.wish_to_rehearse(now);
        }
        trade_log::listing(&trade, self.whitelist.is_empty());
        trade_log::verdict(&trade, &verdict, &self.whitelist);
    }

    #[inline]
    fn wanted(&mut self, trade: &Trade<'_>, entry: usize, now: Now) {
        if self.seen.insert(&trade.id, ()).is_some() {
            self.tally.repeated = self.tally.repeated.saturating_add(1);
            return;
        }
        self.tally.matched = self.tally.matched.saturating_add(1);
        self.pursue(Candidate { trade, entry, since: now.instant }, now);
    }

    /// Buys a wanted listing, or holds it, or lets it wait, or says why not.
    fn pursue(&mut self, wanted: Candidate<'_, '_>, now: Now) {
        let trade = wanted.trade;
        if self.is_stopping {
            return self.tally.skip("stopping");
        }
        // The ledger would store it.
        if secret::stands_in(trade.id.as_str()) {
            self.tally.skip("its id repeats a credential");
            return trade_log::left_alone(trade, &"its id repeats a credential");
        }
        match eligibility(trade, self.server_time(now), self.is_flagged) {
            Eligibility::Now => self.buy(wanted, now),
            Eligibility::From(mark) => self.hold(wanted, mark),
            Eligibility::Never(obstacle) => {
                self.tally.skip(obstacle.name());
                trade_log::left_alone(trade, &obstacle);
            }
        }
    }

    fn buy(&mut self, wanted: Candidate<'_, '_>, now: Now) {
        let Candidate { trade, entry, since } = wanted;
        let Some(price) = trade.total_value else { return self.tally.skip("no price") };
        let decided = Instant::now();
        let want = OrderRequest { id: trade.id, price, entry, created_at: trade.created_at };
        let approved = match self.ledger.reserve(want, now.wall) {
            Ok(approved) => approved,
            Err(denied @ RiskRejection::InFlight { .. }) => {
                return self.wait(wanted, now, denied);
            }
            Err(denied) => {
                self.tally.skip(denied.name());
                return trade_log::left_alone(trade, &denied);
            }
        };
        let (reserved, sent) = match &self.hand {
            Executor::Dry => return self.would_buy(wanted, price, now),
            Executor::Live(buyer) => (Instant::now(), buyer.send(approved)),
        };
        match sent {
            Ok(written) => {
                self.note(|ledger| ledger.sent(&trade.id, now.wall).map(|()| Effects::default()));
                let arrival = trade.arrival.unwrap_or(RxTimestamps::at(since));
                let SentRequest { begun: serialised, written, .. } = written;
                let parsed = now.instant;
                let steps =
                    LatencyBreakdown { arrival, parsed, decided, reserved, serialised, written };
                self.tally.latency.record(steps.total());
                let market_name = trade.market_name.clone().into_owned();
                self.pending.insert(trade.id, PendingOrder { market_name, price, steps });
                trade_log::asked(trade, self.label(entry), &steps);
            }
            Err(reason) => {
                let outcome = Outcome::NotSent(reason);
                self.note(|ledger| ledger.settle(&trade.id, &outcome, now.wall));
                self.tally.settle(&outcome);
                trade_log::not_sent(trade, reason);
            }
        }
    }

    fn would_buy(&mut self, wanted: Candidate<'_, '_>, price: Amount, now: Now) {
        let Candidate { trade, entry, .. } = wanted;
        // Counted as if it had been bought, so that a dry run meets its limits where a live one
        // would.
        let bought = Outcome::Bought { price: None, server_time: None };
        self.note(|ledger| {
            ledger.sent(&trade.id, now.wall)?;
            ledger.settle(&trade.id, &bought, now.wall)
        });
        self.tally.would_buy = self.tally.would_buy.saturating_add(1);
        self.tally.would_spend = self.tally.would_spend.saturating_add(price);
        trade_log::would_buy(trade, self.label(entry));
    }

    fn hold(&mut self, wanted: Candidate<'_, '_>, mark: UnixMs) {
        let trade = wanted.trade;
        let is_earlier = self.held.next_mark().is_none_or(|next| mark < next);
        if self.held.hold(mark, wanted.keep()) {
            self.has_earlier_mark |= is_earlier;
            trade_log::held(trade, mark);
        } else {
            self.tally.skip("too many held");
            trade_log::left_alone(trade, &"too many listings are held already");
        }
    }

    fn wait(&mut self, wanted: Candidate<'_, '_>, now: Now, denied: RiskRejection) {
        let is_late = WAITING_FOR_MAX <= now.instant.saturating_duration_since(wanted.since);
        if is_late || self.waiting.len() >= WAITING_MAX {
            self.tally.skip(denied.name());
            return trade_log::left_alone(wanted.trade, &denied);
        }
        self.waiting.push_back((wanted.since, wanted.keep()));
    }

    /// Whether a listing that is held or waits is sent again with another price or markup.
    fn is_outdated_by(&self, trade: &Trade<'_>) -> bool {
        let differs = |copy: &Trade<'_>| {
            trade.total_value.is_some() && trade.total_value != copy.total_value
                || trade.markup_percent.is_some() && trade.markup_percent != copy.markup_percent
        };
        let waiting = self.waiting.iter().map(|(_, held)| held);
        let mut copies =
            waiting.filter(|held| held.trade.id == trade.id).chain(self.held.get(&trade.id));
        copies.any(|held| differs(&held.trade))
    }

    /// Drops the copy of a listing that is held or waits. The listing counts as not seen, so that it
    /// is considered at its new price.
    fn forget_waiting(&mut self, trade: &Trade<'_>) {
        self.held.release(&trade.id);
        self.waiting.retain(|(_, held)| held.trade.id != trade.id);
        self.seen.remove(&trade.id);
        self.tally.skip("changed while held");
        trade_log::left_alone(trade, &"its price changed before it could be bought");
    }

    /// A listing changed. If it was waited for and is gone, so is the waiting; if it is our own,
    /// the ledger hears of it.
    fn updated(&mut self, trade: &Trade<'_>, now: Now) {
        if trade.status != TradeStatus::Listed && trade.status != TradeStatus::Other {
            let was_waiting = self.waiting.len();
            self.waiting.retain(|(_, held)| held.trade.id != trade.id);
            if self.held.release(&trade.id).is_some() || self.waiting.len() < was_waiting {
                self.tally.skip("taken while held");
                trade_log::left_alone(trade, &"it was taken before it could be bought");
            }
        }
        // The event does not say who joined. Of a listing that is ours already it can only mean
        // us; of any other it may mean a rival, which proves nothing: the list of own trades does.
        self.wishes_to_know |= self.ledger.observe(&trade.id, trade.status, now.wall);
    }

    /// Buys what is held and whose moment has surely come, and what waits if there is room again.
    /// Returns when to be called next, as far as that can be told.
    pub fn due(&mut self, now: Now) -> Option<Instant> {
        self.has_earlier_mark = false;
        while let Some(held) =
            self.server_time(now).earliest.and_then(|earliest| self.held.take_due(earliest))
        {
            let HeldListing { mut trade, entry } = held;
            // What is measured is what the bot adds, not what the marketplace makes it wait.
            trade.arrival = Some(RxTimestamps::at(now.instant));
            self.pursue(Candidate { trade: &trade, entry, since: now.instant }, now);
        }
        for _ in 0..self.waiting.len() {
            if !self.ledger.book().has_room_in_flight() {
                break;
            }
            let Some((since, HeldListing { trade, entry })) = self.waiting.pop_front() else {
                break;
            };
            self.pursue(Candidate { trade: &trade, entry, since }, now);
        }
        self.give_up_waiting(now);
        self.held.next_mark().and_then(|mark| self.clock().when_surely(mark))
    }

    fn give_up_waiting(&mut self, now: Now) {
        while let Some((since, _)) = self.waiting.front()
            && WAITING_FOR_MAX <= now.instant.saturating_duration_since(*since)
        {
            self.waiting.pop_front();
            self.tally.skip("too many in flight");
        }
    }

    /// Whether anything is held or waits, so that [`due`](Self::due) must be called in time.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty() || !self.waiting.is_empty()
    }

    /// Whether something has happened since the last call that the account should show.
    pub const fn take_wish_to_know(&mut self) -> bool {
        std::mem::replace(&mut self.wishes_to_know, false)
    }

    /// No new buys from now on; what is held or waits is given up.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        let given_up = self.held.len().saturating_add(self.waiting.len());
        self.held = HeldListings::new(0);
        self.waiting.clear();
        for _ in 0..given_up {
            self.tally.skip("stopping");
        }
    }

    /// What time it can be at the server.
    pub(crate) fn server_time(&self, now: Now) -> ServerTime {
        let clock = self.clock();
        let earliest = clock.earliest(now.instant);
        let latest = clock.latest(now.instant).unwrap_or(now.wall);
        ServerTime { earliest, latest }
    }

    /// The server's clock. Nobody holds this lock for longer than a sum takes.
    pub(super) fn clock(&self) -> MutexGuard<'_, ServerClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn label(&self, entry: usize) -> &str {
        self.whitelist.entries().get(entry).map_or("", crate::whitelist::WhitelistEntry::label)
    }

    /// Tells the ledger something, and says loudly what follows from it.
    pub(super) fn note(
        &mut self,
        tell: impl FnOnce(&mut Ledger) -> Result<Effects, InvalidTransition>,
    ) {
        match tell(&mut self.ledger) {
            Ok(aftermath) => {
                trade_log::aftermath(&aftermath);
                for change in &aftermath.changes {
                    self.tally.resolve(change);
                    trade_log::change(change, self.names.get(&change.id).map(String::as_str));
                }
            }
            Err(contradiction) => {
                self.tally.internal_errors = self.tally.internal_errors.saturating_add(1);
                trade_log::contradiction(&contradiction);
            }
        }
    }
}
