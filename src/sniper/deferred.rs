//! Listings that are ordered later: held until they open, or queued while no order can be sent.
//!
//! A listing is queued if only a short reason prevents its order: too many orders in flight, a
//! ledger that waits for the disk, no order connection, a slice of a shared budget, an order for
//! the same listing at another price, or the check of the account at the start.
//! It is tried again, with every check, when that reason has ended, and skipped with the reason
//! after the time of [`Engine::set_max_wait`]. [`WaitReason::is_transient`] decides for which
//! reasons a listing waits. A listing that was skipped for one of them is considered again if it is
//! repeated, for example by a back-fill, because nothing was sent for it. If it is then skipped at
//! once again, it is not counted a second time.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;

use super::{
    OrderSender,
    engine::{Candidate, Engine, Executor, HELD_MAX, Now},
    held::{HeldListing, HeldListings},
    queue::{QueuedListing, WaitReason},
    stats::CountedReason,
    trade_log,
};
use crate::{
    clock,
    domain::latency::RxTimestamps,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::time::{UnixMs, format_duration},
    domain::trade::{Trade, TradeId, TradeNotice, TradeStatus},
    whitelist::price_limit,
};

impl<B: OrderSender> Engine<B> {
    /// Orders a listing, or queues it if it may be ordered later.
    #[inline]
    pub(super) fn order_or_queue(&mut self, candidate: Candidate<'_, '_>, now: Now) {
        if let Some(reason) = self.try_order(candidate, now) {
            self.enqueue(candidate, reason, now);
        }
    }

    /// Returns the reason to wait if a queued listing with the same or a greater margin comes
    /// before a new one.
    #[inline]
    pub(super) fn reason_to_queue(
        &self,
        candidate: Candidate<'_, '_>,
        now: Now,
    ) -> Option<WaitReason> {
        if candidate.is_queued || self.queue.is_empty() {
            return None;
        }
        self.queue.first_before(self.margin(candidate, now)).map(|first| first.reason)
    }

    /// Returns the amount by which the price is below the limit of the entry.
    fn margin(&self, candidate: Candidate<'_, '_>, now: Now) -> Amount {
        let Candidate { trade, entry, .. } = candidate;
        let limit = self.whitelist.entries().get(entry).map(|entry| {
            let rule = entry.percent.as_ref();
            let share = rule.and_then(|rule| self.price_view(now).share_of(rule, trade));
            price_limit(entry, share.map(|share| share.reference))
        });
        let price = trade.total_value;
        limit.zip(price).map_or(Amount::ZERO, |(limit, price)| limit.saturating_sub(price))
    }

    /// Returns the reason if the listing may wait until it ends; otherwise skips the listing.
    pub(super) fn wait_or_skip(
        &mut self,
        candidate: Candidate<'_, '_>,
        reason: WaitReason,
        now: Now,
    ) -> Option<WaitReason> {
        self.note_denied(&reason, candidate.entry);
        let waited = now.instant.saturating_duration_since(candidate.since);
        if waited < self.max_wait && reason.is_transient() {
            return Some(reason);
        }
        self.skip_for(candidate.trade, candidate.entry, ReasonWithWait { reason, waited }, now);
        None
    }

    fn enqueue(&mut self, candidate: Candidate<'_, '_>, reason: WaitReason, now: Now) {
        trade_log::queued(candidate.trade, &reason);
        let (margin, since) = (self.margin(candidate, now), candidate.since);
        let listing = QueuedListing { held: candidate.to_held(), since, reason };
        if let Some(last) = self.queue.push(margin, listing) {
            self.skip_queued(&last, now);
        }
        self.has_earlier_deadline = true;
    }

    fn skip_queued(&mut self, queued: &QueuedListing, now: Now) {
        let waited = now.instant.saturating_duration_since(queued.since);
        let reason = ReasonWithWait { reason: queued.reason, waited };
        self.skip_for(&queued.held.trade, queued.held.entry, reason, now);
    }

    /// Marks a listing as skipped for a transient reason, so that it is considered again when it is
    /// repeated, as by another connection. Returns `false` and counts a repetition if it was marked
    /// before.
    fn mark_skipped(&mut self, trade: &Trade<'_>) -> bool {
        let skipped = (self.keyed_by.key_of(trade).price, true);
        let is_new = self.seen.get(&trade.id) != Some(skipped);
        self.seen.replace(&trade.id, skipped);
        self.stats.repeated = self.stats.repeated.saturating_add(u64::from(!is_new));
        is_new
    }

    /// Counts and logs a listing that is not ordered for this reason, once if it is transient.
    fn skip_for(&mut self, trade: &Trade<'_>, entry: usize, reason: ReasonWithWait, now: Now) {
        if reason.reason.is_transient() && !self.mark_skipped(trade) {
            return;
        }
        match reason.reason {
            WaitReason::Rejected(rejection) => {
                self.stats.skip(rejection);
                let repeats = self.notified.count_rejection(&rejection, entry, now.instant);
                if trade_log::is_repeat_logged(repeats) {
                    let matched = self.matched(trade, entry, now);
                    trade_log::skipped_match(trade, &matched, &reason, repeats);
                }
                self.alert_limit(&rejection, trade, entry, now);
            }
            WaitReason::NotSent(not_sent) => {
                self.stats.record_outcome(&Outcome::NotSent(not_sent));
                let repeats = self.notified.count_repeat("not sent", now.instant);
                trade_log::not_sent(trade, &reason, repeats);
            }
        }
    }

    fn run_queue(&mut self, now: Now) {
        for expired in self.queue.take_expired(now.instant, self.max_wait) {
            self.skip_queued(&expired, now);
        }
        // A slice has room for a waiting listing only after it was raised or an order was settled,
        // and an order is settled by its response or a read of the account.
        let (mut passed_over, all) = (Vec::new(), self.retries_all);
        // Without a connection, an attempt would fail and write two records to the ledger.
        while self.can_send()
            && let Some((rank, queued)) = self.queue.pop(all)
        {
            let QueuedListing { held: HeldListing { trade, entry }, since, .. } = &queued;
            let (entry, since) = (*entry, *since);
            if self.is_unwanted_now(trade, entry, now) {
                continue;
            }
            let candidate = Candidate { trade, entry, since, is_queued: true };
            if let Some(reason) = self.try_order(candidate, now) {
                passed_over.push((rank, QueuedListing { reason, ..queued }));
                if reason.is_general() {
                    break;
                }
            }
        }
        self.retries_all &= !self.queue.is_empty();
        for (rank, queued) in passed_over {
            self.queue.restore(rank, queued);
        }
    }

    pub(super) fn can_send(&self) -> bool {
        match &self.executor {
            Executor::Dry => true,
            Executor::Live(client) => client.is_ready(),
        }
    }

    /// Returns a future that completes once an order can be sent, if a listing waits for that.
    pub(super) fn awaited_connection(&self) -> Option<BoxFuture<'static, ()>> {
        match &self.executor {
            Executor::Live(client) if !self.queue.is_empty() && !client.is_ready() => {
                Some(client.ready())
            }
            _ => None,
        }
    }

    pub(super) fn hold(&mut self, candidate: Candidate<'_, '_>, available_at: UnixMs, now: Now) {
        let Candidate { trade, entry, .. } = candidate;
        let is_earlier = self.held.next_available_at().is_none_or(|next| available_at < next);
        if self.held.hold(available_at, candidate.to_held()) {
            self.has_earlier_deadline |= is_earlier;
            let server_time = self.server_time(now).earliest;
            let matched = self.matched(trade, entry, now);
            trade_log::held(trade, &matched, available_at, server_time);
        } else if self.mark_skipped(trade) {
            self.skip_listing(trade, CountedReason::NOT_HELD);
        }
    }

    /// Returns `true` if a held listing is certainly open.
    pub(super) fn has_due(&self, now: Now) -> bool {
        self.held.next_available_at().is_some_and(|available_at| {
            self.server_time(now).earliest.is_some_and(|earliest| available_at <= earliest)
        })
    }

    /// Returns `true` if this is a held or queued listing with another price or markup.
    pub(super) fn is_outdated_by(&self, trade: &Trade<'_>) -> bool {
        let differs = |copy: &Trade<'_>| {
            trade.total_value.is_some() && trade.total_value != copy.total_value
                || trade.markup_percent.is_some() && trade.markup_percent != copy.markup_percent
        };
        let queued = self.queue.with_id(trade.id).map(|queued| &queued.held);
        let mut copies = queued.chain(self.held.get(&trade.id));
        copies.any(|held| differs(&held.trade))
    }

    /// Drops the held or queued copy of a listing, which is considered at its new price.
    pub(super) fn drop_outdated(&mut self, trade: &Trade<'_>) {
        drop(self.take_deferred(&trade.id));
        self.skip_listing(trade, CountedReason::CHANGED);
    }

    /// Drops a listing that was held or queued and is no longer available.
    pub(super) fn drop_unavailable(&mut self, trade: &Trade<'_>) {
        if !self.take_deferred(&trade.id).is_empty() {
            self.skip_listing(trade, CountedReason::TAKEN);
        }
    }

    /// Counts and logs a listing that is not ordered.
    pub(super) fn skip_listing(&mut self, trade: &Trade<'_>, reason: CountedReason) {
        self.stats.skip(reason);
        trade_log::skipped(trade, &reason.text, Some(0));
    }

    /// Removes and returns the held or queued copies of a listing, and forgets that it was seen, so
    /// that it is considered again if it returns.
    fn take_deferred(&mut self, id: &TradeId) -> Vec<HeldListing> {
        self.seen.remove(id);
        let queued = self.queue.remove(id).into_iter().map(|queued| queued.held);
        queued.chain(self.held.release(id)).collect()
    }

    /// Drops every held and queued listing, and counts each as skipped for this reason.
    pub(super) fn drop_deferred(&mut self, reason: impl Into<CountedReason>) {
        let held = std::mem::replace(&mut self.held, HeldListings::new(HELD_MAX));
        let (dropped, reason) = (held.len().saturating_add(self.queue.clear()), reason.into());
        for _listing in 0..dropped {
            self.stats.skip(reason);
        }
    }

    /// Handles an event that is not a listing. It can request a read of the account, and change the
    /// state of a bought order. A removed listing that was held or queued is dropped.
    pub fn on_notice(&mut self, notice: TradeNotice, now: Now) {
        match notice {
            TradeNotice::Removed { id } => {
                for held in self.take_deferred(&id) {
                    self.skip_listing(&held.trade, CountedReason::REMOVED);
                }
                self.needs_refresh |= self.ledger.state().intent(&id).is_some();
            }
            TradeNotice::Purchase { id, status } => {
                self.needs_refresh |= self.ledger.state().intent(&id).is_some();
                self.observe_order(&id, status, now);
            }
            TradeNotice::AccountChanged => self.needs_refresh = true,
        }
    }

    /// Passes the status of a listing to the ledger, which may hold a purchase of it.
    pub(super) fn observe_order(&mut self, id: &TradeId, status: TradeStatus, now: Now) {
        if matches!(self.executor, Executor::Dry) {
            // Another account bought the listing.
            return;
        }
        let mut needs_read = false;
        self.update_ledger(|ledger| {
            let (effects, is_doubtful) = ledger.observe(id, status, now.wall);
            needs_read = is_doubtful;
            Ok(effects)
        });
        self.needs_refresh |= needs_read;
    }

    /// Orders held listings that are certainly open, and queued ones whose reason to wait has
    /// ended. Returns the time of the next call; `None` if no listing is queued, and the server's
    /// clock is unknown or no listing is held.
    pub fn run_timers(&mut self, now: Now) -> Option<Instant> {
        self.has_earlier_deadline = false;
        while let Some(held) =
            self.server_time(now).earliest.and_then(|earliest| self.held.take_due(earliest))
        {
            let HeldListing { mut trade, entry } = held;
            // The latency excludes the time that the market made the listing wait.
            trade.arrival = Some(RxTimestamps::at(now.instant));
            let since = now.instant;
            if !self.is_unwanted_now(&trade, entry, now) {
                let candidate = Candidate { trade: &trade, entry, since, is_queued: false };
                self.order_or_queue(candidate, now);
            }
        }
        if !self.queue.is_empty() {
            self.run_queue(now);
        }
        let opening = self
            .held
            .next_available_at()
            .and_then(|available_at| self.clock().earliest_certain(available_at));
        opening.into_iter().chain(self.queue.next_expiry(self.max_wait)).min()
    }

    /// Returns `true` if listings are held or queued, so that [`run_timers`](Self::run_timers) must
    /// be called.
    pub fn has_deferred(&self) -> bool {
        !self.held.is_empty() || !self.queue.is_empty()
    }

    /// Stops sending orders and skips held and queued listings.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.drop_deferred(CountedReason::STOPPING);
    }
}

/// A reason, and the time that the listing waited.
struct ReasonWithWait {
    reason: WaitReason,
    waited: Duration,
}

impl fmt::Display for ReasonWithWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            WaitReason::Rejected(rejection) => {
                f.write_str(&rejection.with_time(clock::format_local))?;
            }
            WaitReason::NotSent(reason) => reason.fmt(f)?,
        }
        if self.waited.is_zero() {
            return Ok(());
        }
        write!(f, " (waited {})", format_duration(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::RiskRejection;

    #[test]
    fn a_time_in_a_rejection_is_in_the_time_zone_of_the_log() {
        let at = UnixMs(1_772_359_200_120);
        for rejection in [
            RiskRejection::Paused { until: at },
            RiskRejection::NoContact { until: at },
            RiskRejection::BeforePowerLoss { barrier: at },
        ] {
            let reason = WaitReason::Rejected(rejection);
            let text = ReasonWithWait { reason, waited: Duration::ZERO }.to_string();
            assert!(text.contains(&clock::format_local(at)), "{text}");
            assert!(!text.contains(&at.to_string()), "{text}");
        }
    }
}
