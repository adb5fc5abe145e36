//! What a look at the account changes: the balance, what became of purchases, the server's clock;
//! and what a person asks for.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    OrderSender,
    engine::{Engine, Executor, Now},
    trade_log,
};
use crate::{
    account::{AccountUpdate, PurchasesReading, ReadFailure, ReadKind, UserReading},
    domain::money::Amount,
    domain::outcome::Consequence,
    domain::time::UnixMs,
    ledger::{
        AccountReading, Effects, HaltReason, LedgerError,
        control::{self, ControlReply, PendingRequest},
        status::{self, FeedStatus},
    },
    ws::{Downtime, FeedMetrics},
};

/// By how much the wall clock may move against the steady one between two readings of the account.
const CLOCK_MOVED_MS_MAX: i64 = 2_000;
/// How long after an order was cancelled its coins should be back.
const RETURN_OVERDUE: Duration = Duration::from_secs(86_400);
/// How many overdue orders a session names.
const OVERDUE_TOLD_MAX: usize = 100;

/// How the feed stands, from what it counts.
pub(super) fn feed_status(taps: &FeedMetrics, now: Now) -> FeedStatus {
    let Downtime { gaps, total, longest, is_open } = taps.downtime(now.instant);
    let (connected, listing) = (taps.connected_since(), taps.last_listing());
    let ago = |moment: UnixMs| millis(now.wall.since(moment));
    let state = match (connected, is_open) {
        (Some(_), false) => "connected",
        (Some(_), true) => "no listings",
        (None, _) if taps.is_blocked.load(Ordering::Acquire) => "blocked",
        (None, true) => "disconnected",
        (None, false) => "connecting",
    };
    FeedStatus {
        state: state.to_owned(),
        connected_since: connected.as_ref().map(UnixMs::to_string),
        connected_ms: connected.map(ago),
        last_listing: listing.as_ref().map(UnixMs::to_string),
        last_listing_ms: listing.map(ago),
        listings: taps.listings.load(Ordering::Relaxed),
        reconnects: taps.reconnects.load(Ordering::Relaxed),
        gaps,
        gap_ms: millis(total),
        longest_gap_ms: millis(longest),
        gap_is_open: is_open,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<B: OrderSender> Engine<B> {
    /// Takes in what was learned of the account.
    pub fn hear(&mut self, news: AccountUpdate, now: Now) {
        match news {
            AccountUpdate::User(reading) => self.hear_user(&reading, now),
            AccountUpdate::Purchases(reading) => self.hear_purchases(reading, now),
            AccountUpdate::Failed { read, failure } => self.hear_failure(read, &failure, now),
        }
    }

    fn hear_user(&mut self, reading: &UserReading, now: Now) {
        let UserReading { user, as_of, exchange, date } = reading;
        if let Some(date) = date {
            self.clock().observe_date(*exchange, *date);
        }
        if let Err(error) = self.ledger.bind(&user.id) {
            // What is said about another account says nothing about this ledger's.
            return self.refuse(error, now);
        }
        self.is_other_account = false;
        self.is_bound = true;
        // Where the site does not say, it has not been said that we are.
        self.is_flagged = user.suspected_trader.unwrap_or(false);
        if let Some(balance) = user.balance {
            self.note(|ledger| Ok(ledger.set_balance(balance, *as_of, now.wall)));
        }
        self.report_user(user, now);
    }

    /// The ledger may not be used for this account: that ends a session that has not ordered yet.
    /// In a session that has, the cookie was replaced: ordering halts, and purchases are not read
    /// into this ledger until the account is its own again.
    fn refuse(&mut self, error: LedgerError, now: Now) {
        if self.is_bound {
            if !self.is_other_account {
                trade_log::unbound(&error);
            }
            self.is_other_account = true;
            return self.note(|ledger| Ok(ledger.halt(HaltReason::OtherAccount, now.wall)));
        }
        self.refusal = Some(error);
    }

    /// Takes a balance that the feed has pushed. The feed may say anything: it only lowers what is
    /// available, and where it differs from the last reading the account is read.
    pub fn hear_push(&mut self, balance: Amount) {
        self.ledger.push_balance(balance);
        let last = self.ledger.book().last_reading();
        self.wishes_to_know |= last.is_none_or(|(last, _as_of)| last != balance);
    }

    fn hear_purchases(&mut self, mut purchases: PurchasesReading, now: Now) {
        if self.is_other_account {
            return;
        }
        let older = std::mem::take(&mut purchases.older).into_iter();
        let book = self.ledger.book();
        purchases.trades.extend(older.filter(|trade| book.intent(&trade.id).is_some()));
        let PurchasesReading { trades, complete, started, .. } = &purchases;
        let reading = AccountReading { trades, complete: *complete, started: *started };
        self.note(|ledger| Ok(ledger.reconcile(&reading, None, now.wall)));
        if *complete {
            self.wall_drift_at_read_ms = self.wall_drift_ms;
        }
        self.report_purchases(&purchases, now);
        let overdue = now.wall.minus(RETURN_OVERDUE);
        for order in self.ledger.book().returning_since(overdue) {
            if self.reported.overdue.len() < OVERDUE_TOLD_MAX
                && self.reported.overdue.insert(order.id)
            {
                trade_log::return_overdue(order);
            }
        }
    }

    /// Compares the wall clock with the clock that cannot be set. A jump may mean that ages are
    /// wrong, as after a virtual machine was restored, so nothing is freed by age until the account
    /// has been read again.
    pub fn watch_clock(&mut self, wall: UnixMs, now: Now) {
        self.wall_drift_ms = wall.0.saturating_sub(now.wall.0);
        let moved = self.wall_drift_ms.saturating_sub(self.wall_drift_at_read_ms);
        if moved.abs() <= CLOCK_MOVED_MS_MAX || self.ledger.book().is_clock_distrusted() {
            return;
        }
        trade_log::clock_moved(moved);
        self.ledger.distrust_clock(now.wall);
        self.wishes_to_know = true;
    }

    /// A failure is reported once for each cause. Where a buy would have been refused for the same
    /// reason, buying stops before one is.
    fn hear_failure(&mut self, read: ReadKind, failure: &ReadFailure, now: Now) {
        self.report_failed(read, failure.cause(), now);
        let halting =
            failure.refusal().filter(|refusal| refusal.consequence() == Consequence::Halt);
        if let Some(refusal) = halting
            && !self
                .ledger
                .snapshot(now.wall)
                .halts
                .iter()
                .any(|halt| halt.reason == HaltReason::Refused(refusal))
        {
            self.note(|ledger| -> Result<Effects, _> {
                Ok(ledger.halt(HaltReason::Refused(refusal), now.wall))
            });
        }
    }

    /// Does what a person asks over the control channel, and answers how things stand: with the
    /// feed, and with how long the bot has run.
    pub fn answer(
        &mut self,
        ask: &PendingRequest,
        feed: FeedStatus,
        running: Option<Duration>,
        now: UnixMs,
    ) {
        self.note(|ledger| Ok(ledger.check_losses(now)));
        let halts = self.ledger.snapshot(now).halts.len();
        let mode = match self.hand {
            Executor::Dry => status::DRY,
            Executor::Live(_) => status::LIVE,
        };
        let mut reply = control::answer(&mut self.ledger, &ask.request, mode, now);
        if let ControlReply::Done(status) = &mut reply {
            status.feed = Some(feed);
            status.running_ms = running.map(millis);
            self.show_failing_reads(status);
        }
        // What was refused changed nothing, and is told to who asked.
        if matches!(reply, ControlReply::Done(_)) {
            let left = self.ledger.snapshot(now).halts;
            trade_log::asked_for(&ask.request, halts, &left);
        }
        // Whoever asked may have gone.
        drop(ask.reply.try_send(reply));
    }
}
