//! Applies readings of the account (balance, own purchases, looked-up orders) and handles requests
//! over the control channel.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    OrderSender,
    engine::{Engine, Now},
    trade_log,
};
use crate::{
    account::{
        AccountUpdate, BOUGHT_FOR, FailureCause, OrderReading, PurchasesReading, ReadKind,
        RefreshRequests, UserReading,
    },
    domain::account::OwnPurchase,
    domain::money::Amount,
    domain::outcome::{Consequence, RejectReason},
    domain::time::UnixMs,
    domain::trade::TradeKey,
    ledger::{
        AccountReading, Effects, HaltReason, Intent, Ledger, LedgerError, OwnTrade, Snapshot,
        control::{self, ControlReply, ControlRequest, PendingRequest},
        status::{FeedStatus, LedgerStatus, PAUSED_SHOWN_MAX},
    },
    prices::item_key::ItemKey,
    threads::priority,
    ws::{Downtime, FeedMetrics},
};

/// Maximum drift between the wall clock and the clock that cannot be set, between two readings of
/// the account. After a larger one the wall clock was set.
const CLOCK_MOVED_MS_MAX: i64 = 2_000;
/// Time after a cancellation within which the coins should be returned.
const RETURN_OVERDUE: Duration = Duration::from_secs(86_400);
/// Maximum number of overdue orders that a session names. Further ones are only counted.
const OVERDUE_NAMED_MAX: usize = 100;
/// Maximum number of orders that are remembered because their look-up has halted ordering. Each
/// look-up of a further one halts again.
const MISMATCHED_MAX: usize = 1_024;

/// Returns `true` unless two market names are certainly of different items. One of the names may
/// lack the phase.
fn is_same_item(ordered: &str, found: &str) -> bool {
    let (Some(mut ordered_key), Some(mut found_key)) =
        (ItemKey::parse(ordered), ItemKey::parse(found))
    else {
        return ordered == found;
    };
    match (ordered_key.variant.phase(), found_key.variant.phase()) {
        (Some(phase), None) => found_key = found_key.with_phase(phase),
        (None, Some(phase)) => ordered_key = ordered_key.with_phase(phase),
        _ => {}
    }
    ordered_key == found_key
}

/// Derives the feed's status from its metrics.
pub(super) fn feed_status(metrics: &FeedMetrics, now: Now) -> FeedStatus {
    let Downtime { gaps, total, longest, is_open } = metrics.downtime(now.instant);
    let (connected, listing) = (metrics.connected_since(), metrics.last_listing());
    let age_ms = |moment: UnixMs| millis(now.wall.since(moment));
    let failure = metrics.last_failure().filter(|_failure| connected.is_none());
    let (cause, remedy) = failure.map_or((None, None), |(cause, remedy)| (Some(cause), remedy));
    FeedStatus {
        state: metrics.state(now.wall).as_str().to_owned(),
        cause,
        remedy,
        connected_since: connected.as_ref().map(UnixMs::to_string),
        connected_ms: connected.map(age_ms),
        last_listing: listing.as_ref().map(UnixMs::to_string),
        last_listing_ms: listing.map(age_ms),
        listings: metrics.listings.load(Ordering::Relaxed),
        reconnects: metrics.reconnects.load(Ordering::Relaxed),
        gaps,
        gap_ms: millis(total),
        longest_gap_ms: millis(longest),
        gap_is_open: is_open,
        handled_later: metrics.waited.load(Ordering::Relaxed),
        connections: metrics.connection_counts().into_iter().map(Into::into).collect(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<B: OrderSender> Engine<B> {
    /// Applies a reading of the account, or its failure.
    pub fn on_account_update(&mut self, update: AccountUpdate, now: Now) {
        self.retries_all = true;
        match update {
            AccountUpdate::User(reading) => self.on_user(&reading, now),
            AccountUpdate::Purchases(reading) => self.on_purchases(reading, now),
            AccountUpdate::NoPurchases { started } => self.on_no_purchases(started, now),
            AccountUpdate::Order(reading) => self.on_order_reading(reading, now),
            AccountUpdate::Failed { read, cause, reject_reason } => {
                self.on_read_failure(read, cause, reject_reason, now);
            }
        }
    }

    fn on_user(&mut self, reading: &UserReading, now: Now) {
        let UserReading { user, as_of, exchange, date } = reading;
        if let Some(date) = date {
            self.clock().observe_date(*exchange, *date);
        }
        if let Err(error) = self.ledger.bind(user.ids()) {
            // The reading of another account must not change this ledger.
            return self.on_other_account(error, now);
        }
        self.is_other_account = false;
        self.is_bound = true;
        if let Some(sharing) = self.sharing.as_mut().filter(|sharing| sharing.account.is_none()) {
            sharing.account = Some(self.ledger.user().unwrap_or(&user.id).to_owned());
        }
        // Without the field the account counts as not flagged.
        self.is_flagged = user.is_flagged.unwrap_or(false);
        // Nothing is ordered before the first reading. Without a `Date`, the local clock decides.
        let latest = self.clock().latest(now.instant);
        if let Some(latest) = latest {
            self.ledger.confirm_barrier(latest, now.wall);
        }
        if let Some(balance) = user.balance {
            self.update_ledger(|ledger| Ok(ledger.set_balance(balance, *as_of, now.wall)));
        }
        self.report_user(user, now);
    }

    /// Handles a ledger that cannot be bound to the account of a reading. A session that has not
    /// bound its ledger yet ends. In a later reading the credential was replaced by one of another
    /// account: ordering halts, and purchases are not applied until the account is the ledger's
    /// again.
    fn on_other_account(&mut self, error: LedgerError, now: Now) {
        if self.is_bound {
            if !self.is_other_account {
                trade_log::other_account(&error);
            }
            self.is_other_account = true;
            return self
                .update_ledger(|ledger| Ok(ledger.halt(HaltReason::OtherAccount, now.wall)));
        }
        self.ledger_error = Some(error);
    }

    /// Applies a balance that the feed has pushed. The feed is not trusted: a pushed balance only
    /// lowers the available coins, and a difference to the last reading requests a refresh.
    pub fn on_balance_push(&mut self, balance: Amount) {
        self.ledger.push_balance(balance);
        let last = self.ledger.state().last_reading();
        self.needs_refresh |= last.is_none_or(|(last, _as_of)| last != balance);
    }

    fn on_purchases(&mut self, mut purchases: PurchasesReading, now: Now) {
        if self.is_other_account {
            return;
        }
        let older = std::mem::take(&mut purchases.older).into_iter();
        let state = self.ledger.state();
        purchases.trades.extend(older.filter(|trade| state.intent(&trade.id).is_some()));
        let (is_complete, started) = (purchases.is_complete(), purchases.started);
        let reading = AccountReading { trades: &purchases.trades, complete: is_complete, started };
        self.update_ledger(|ledger| Ok(ledger.reconcile(&reading, None, now.wall)));
        if is_complete {
            self.wall_drift_noted_ms = self.wall_drift_ms;
            self.on_account_settled(started, now);
        }
        self.report_purchases(&purchases, now);
        self.report_overdue(now);
    }

    /// Handles a read of the account on a market without a list of its purchases.
    fn on_no_purchases(&mut self, started: UnixMs, now: Now) {
        if self.is_other_account {
            return;
        }
        self.has_purchases = false;
        self.ledger.reconcile_without_list(started, now.wall);
        self.on_account_settled(started, now);
        self.wall_drift_noted_ms = self.wall_drift_ms;
        self.report_overdue(now);
    }

    fn report_overdue(&mut self, now: Now) {
        let overdue = now.wall.minus(RETURN_OVERDUE);
        let (named, mut more) = (&mut self.notified.overdue, 0_usize);
        for order in self.ledger.state().returning_since(overdue) {
            if named.len() < OVERDUE_NAMED_MAX && named.insert(order.id) {
                let name = self.names.get(&order.id).map(String::as_str);
                trade_log::return_overdue(order, name);
            } else if !named.contains(&order.id) {
                more = more.saturating_add(1);
            }
        }
        if std::mem::replace(&mut self.notified.overdue_unnamed, more) < more {
            trade_log::more_overdue(more);
        }
    }

    /// Applies the result of the look-up of an order. The absence of an order alone changes
    /// nothing: a complete list of the purchases decides about it, or on a market without one,
    /// enough look-ups. A record of another listing or item than the order's halts ordering and is
    /// not applied.
    fn on_order_reading(&mut self, reading: OrderReading, now: Now) {
        if self.is_other_account {
            return;
        }
        let OrderReading { key, found, started } = reading;
        // The list of orders to look up is published again, without those that were resolved.
        self.has_unknown_changed = true;
        let Some(purchase) = found else {
            self.report_order(&key, None, now);
            self.ledger.order_absent(&key, started);
            trade_log::order_absent(&key.id);
            if !self.has_purchases {
                let decide =
                    |ledger: &mut Ledger| Ok(ledger.absent_without_list(&key, started, now.wall));
                self.update_ledger(decide);
            }
            return;
        };
        self.report_order(&key, Some(&purchase), now);
        self.ledger.order_found(&key);
        if self.is_of_other_item(&key, &purchase) {
            if !self.is_new_mismatch(key) {
                return;
            }
            let reason = HaltReason::UnexpectedPurchase { id: purchase.id, price: None };
            return self.halt_once(reason, now);
        }
        let OwnPurchase { id, status, price, joined_at, commission, own_id, .. } = purchase;
        let trade = OwnTrade { id, status, price, joined_at, commission, own_id };
        self.update_ledger(|ledger| Ok(ledger.reconcile_order(&key, &trade, started, now.wall)));
    }

    /// Returns `false` if a look-up of the order has halted ordering before.
    fn is_new_mismatch(&mut self, key: TradeKey) -> bool {
        let mismatched = &mut self.notified.mismatched;
        MISMATCHED_MAX <= mismatched.len() || mismatched.insert(key)
    }

    /// Returns `true` if the record of an order is of another listing, or of another item than the
    /// order's, if its name is known.
    fn is_of_other_item(&self, key: &TradeKey, purchase: &OwnPurchase) -> bool {
        let ordered = self.names.get(&key.id).map(String::as_str);
        let names = ordered.zip(purchase.name.as_deref());
        purchase.id != key.id || names.is_some_and(|(ordered, found)| !is_same_item(ordered, found))
    }

    /// Halts ordering unless it is halted for the same reason already.
    fn halt_once(&mut self, reason: HaltReason, now: Now) {
        // A halt because of several unexpected purchases contains only the last one.
        let is_known = match reason {
            HaltReason::UnexpectedPurchase { id, .. } => self.ledger.state().is_unexpected(&id),
            _ => false,
        };
        let mut halts = self.ledger.state().halts().iter();
        if !is_known && !halts.any(|halt| halt.reason == reason) {
            self.update_ledger(|ledger| Ok(ledger.halt(reason, now.wall)));
        }
    }

    /// Returns the orders of unknown outcome that have their final response, the newest first.
    pub(super) fn unknown_orders(&self) -> impl Iterator<Item = &Intent> {
        let unknown = self.ledger.state().unknown_orders();
        unknown.filter(|order| !self.pending.contains_key(&order.key()))
    }

    /// Passes the orders of unknown outcome, and the bought ones that may be rolled back, to the
    /// account thread, which looks them up.
    pub(super) fn publish_looked_up_orders(&mut self, requests: &RefreshRequests, now: Now) {
        if !self.has_unknown_changed || !self.is_bound || !requests.has_order_look_ups() {
            return;
        }
        let since = now.wall.minus(BOUGHT_FOR);
        let ids = |order: &Intent| Some((order.key(), self.ledger.own_order_id(order)?));
        let bought = self.ledger.state().followed_up_since(since);
        let bought = bought.filter_map(|(order, is_completed)| {
            Some((ids(order)?, order.reserved_at, is_completed))
        });
        let unknown = self.unknown_orders().filter_map(ids);
        self.has_unknown_changed = !requests.set_looked_up_orders(unknown, bought);
    }

    /// Compares the wall clock with the clock that cannot be set. After a jump, ages may be wrong,
    /// so nothing is released by age until the account has been read again. A jump forward may
    /// show that a virtual machine was reset to a snapshot, whose ledger lacks the orders since,
    /// so nothing is ordered until then either.
    pub fn watch_clock(&mut self, wall: UnixMs, now: Now) {
        self.wall_drift_ms = wall.0.saturating_sub(now.wall.0);
        let moved = self.wall_drift_ms.saturating_sub(self.wall_drift_noted_ms);
        if moved.abs() <= CLOCK_MOVED_MS_MAX {
            return;
        }
        // Another jump before the account is read must be noticed too.
        self.wall_drift_noted_ms = self.wall_drift_ms;
        trade_log::clock_moved(moved);
        self.ledger.mark_clock_unreliable(now.wall);
        if 0 < moved {
            self.ledger.require_reading(now.wall);
        }
        self.needs_refresh = true;
    }

    /// Handles a failed read, which is logged once per cause. If the market would reject an order
    /// for the same reason and the rejection would halt ordering, ordering halts now.
    fn on_read_failure(
        &mut self,
        read: ReadKind,
        cause: FailureCause,
        reject_reason: Option<RejectReason>,
        now: Now,
    ) {
        self.report_failed(read, cause, now);
        let halting = reject_reason.filter(|reason| reason.consequence() == Consequence::Halt);
        if let Some(reason) = halting {
            self.halt_once(HaltReason::Rejected(reason), now);
        }
    }

    /// Executes a request over the control channel and replies with the status, to which it adds
    /// the feed and the running time.
    pub fn handle_control_request(
        &mut self,
        pending: &PendingRequest,
        feed: FeedStatus,
        running: Option<Duration>,
        at: Now,
    ) {
        let now = at.wall;
        self.update_ledger(|ledger| Ok(ledger.check_losses(now)));
        let before = self.ledger.snapshot(now);
        let mode = self.executor.mode();
        let (mut reply, effects) = match self.apply_to_entries(&pending.request) {
            Some(Ok(())) => {
                control::handle_request(&mut self.ledger, &ControlRequest::Status, mode, now)
            }
            Some(Err(why)) => (ControlReply::Rejected(why), Effects::default()),
            None => control::handle_request(&mut self.ledger, &pending.request, mode, now),
        };
        self.update_ledger(|_ledger| Ok(effects));
        if let ControlReply::Done(status) = &mut reply {
            let snapshot = self.ledger.snapshot(now);
            self.complete_status(status, feed, running, (&snapshot, at));
            status.prices = self.price_status(now);
            status.priority_refused =
                priority::not_lowered().iter().map(ToString::to_string).collect();
            status.paused_entries = self.paused_labels();
            let paused = self.whitelist.paused().count();
            status.paused_more = paused.saturating_sub(status.paused_entries.len());
        }
        let after = self.ledger.snapshot(now);
        // The user may have settled an order for which a listing waits.
        self.retries_all |= before != after;
        // A request that changed nothing is not logged: its reply contains the cause.
        if matches!(reply, ControlReply::Done(_)) || before != after {
            trade_log::control_request(&pending.request, &before, &after);
        }
        // The client may have disconnected.
        drop(pending.reply.try_send(reply));
    }

    /// Adds to the ledger's status what the engine knows, except for what takes long with many
    /// entries.
    pub(super) fn complete_status(
        &mut self,
        status: &mut LedgerStatus,
        feed: FeedStatus,
        running: Option<Duration>,
        (snapshot, now): (&Snapshot, Now),
    ) {
        self.scan_entries(now.wall);
        status.set_obstacle(self.obstacle(snapshot, now));
        self.name_halts(status);
        status.feed = Some(feed);
        status.running_ms = running.map(millis);
        status.settings_changed = self.is_settings_changed;
        status.needs_restart = self.needs_restart.iter().map(ToString::to_string).collect();
        let delivery = self.alerting.sender.delivery();
        (status.alerts_disabled, status.alerts_failing, status.alerts_undelivered) =
            (delivery.disabled, delivery.failing, delivery.undelivered);
        status.disk_free_mb = delivery.free_mb;
        status.clock_moved = self.ledger.state().is_clock_unreliable();
        status.shared = self.shared_status();
        self.show_failing_reads(status, now.wall);
    }

    fn paused_labels(&self) -> Vec<String> {
        let entries = self.whitelist.entries();
        let paused = self.whitelist.paused().filter_map(|index| entries.get(index));
        paused.take(PAUSED_SHOWN_MAX).map(|entry| entry.label().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::is_same_item;

    #[test]
    fn names_of_one_item_may_differ_by_its_phase_or_gem_only() {
        let karambit = |finish: &str| format!("★ Karambit | {finish} (Factory New)");
        let doppler = karambit("Doppler");
        for same in ["Doppler", "Doppler Phase 2", "Doppler Ruby", "Ruby", "Black Pearl"] {
            assert!(is_same_item(&doppler, &karambit(same)), "{same}");
            assert!(is_same_item(&karambit(same), &doppler), "{same}");
            assert!(is_same_item(&karambit(same), &karambit(same)), "{same}");
        }
        assert!(is_same_item(&karambit("Gamma Doppler"), &karambit("Emerald")));
        assert!(is_same_item(&karambit("Doppler Ruby"), &karambit("Ruby")));
        for (one, other) in [("Ruby", "Sapphire"), ("Doppler Phase 2", "Doppler Phase 3")] {
            assert!(!is_same_item(&karambit(one), &karambit(other)), "{one} {other}");
        }
        for other in ["Emerald", "Gamma Doppler", "Fade"] {
            assert!(!is_same_item(&doppler, &karambit(other)), "{other}");
        }
        for (name, longer) in [
            ("Glove Case", "Glove Case Key"),
            ("Sticker | X", "Sticker | X (Holo)"),
            ("Karambit | Doppler", "Karambit | Doppler 2"),
            ("M4A4 | X (Field-Tested)", "M4A4 | X-Ray (Field-Tested)"),
        ] {
            assert!(!is_same_item(name, longer) && !is_same_item(longer, name), "{longer}");
        }
        let souvenir = "Souvenir AK-47 | Redline (Field-Tested)";
        assert!(!is_same_item("AK-47 | Redline (Field-Tested)", souvenir));
        assert!(is_same_item("Sticker | J\u{f6}rg", "Sticker | Jo\u{308}rg"));
        assert!(!is_same_item("AK-47 | Redline (Field-Tested)", "AK-47 | Redline (Well-Worn)"));
    }
}
