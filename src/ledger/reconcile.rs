//! Comparison of the ledger with the account's trades and balance, as reported by the market.
//!
//! Pure. A balance is applied first, with its consequences ([`LedgerState::confirmed_prices`], then
//! [`LedgerState::refund_events`]), then a list of the account's trades
//! ([`LedgerState::reconcile_trades`]). The caller applies the events in their order.
//!
//! 1. An open order in the list takes the state that the market reports. An unknown status
//!    changes nothing, but the order counts as present. A cancelled order becomes *returning* and
//!    still counts.
//! 2. An unknown order that is not listed [`SETTLE`] after it became unknown, or later on a market
//!    that shows orders later, is not bought, if a balance of that age shows no missing coins. If
//!    coins are missing that nothing else explains, that is a disagreement and halts.
//! 3. A returning order is *returned* once a balance that was read after the list shows its refund.
//! 4. A purchase that the ledger did not request, also one of an ordered listing with another own
//!    id than the order's, halts, unless it is older than the ledger, may be
//!    an order lost in a power failure, or another bot may spend from the account.
//! 5. An order that is not bought according to the ledger but listed as a purchase, also as a
//!    cancelled one, counts again, and halts, unless the purchase may be of another order that a
//!    power loss removed.
//! 6. The market's record of one order, looked up by its own id ([`LedgerState::reconcile_order`]),
//!    is evidence like its entry in a list. A record of a higher price than approved proves no
//!    purchase, but the price counts, and it halts. On a market without a list, the absence of the
//!    record is evidence as in rule 2 after enough look-ups ([`LedgerState::reconcile_absent`]).
//! 7. A listed price counts immediately if it is higher, and after a balance confirms it if it is
//!    lower.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{collections::HashMap, time::Duration};

use super::{
    account::SETTLE,
    event::{Evidence, EvidenceSource, HaltReason, LedgerEvent, OrderState, Sequence},
    intent::Intent,
    state::LedgerState,
};
use crate::{
    domain::money::Amount,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId, TradeKey, TradeStatus},
};

/// Purchase of the account, as the market lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTrade {
    pub id: TradeId,
    pub status: TradeStatus,
    pub price: Option<Amount>,
    /// Time of the purchase, if reported.
    pub joined_at: Option<UnixMs>,
    /// Part of the price of a cancelled purchase that the market keeps.
    pub commission: Option<Amount>,
    /// Own id of its order; `None` if the record states none.
    pub own_id: Option<OwnOrderId>,
}

#[cfg(test)]
impl OwnTrade {
    /// Returns a purchase of which the market states only the status.
    pub(crate) const fn bare(id: TradeId, status: TradeStatus) -> Self {
        Self { id, status, price: None, joined_at: None, commission: None, own_id: None }
    }
}

/// Purchase in the account's list, with the order that it belongs to.
#[derive(Clone, Copy, Debug)]
struct ListedTrade {
    trade: OwnTrade,
    sequence: Option<Sequence>,
}

/// Age after which a delivered purchase is no longer refunded: the time of a trade reversal on
/// Steam and a margin.
const REFUNDABLE: Duration = Duration::from_secs(8 * 86_400);

/// Result of one read of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountReading<'a> {
    pub trades: &'a [OwnTrade],
    /// `true` if the list reaches back to before the oldest open intent. Only then is absence
    /// evidence.
    pub complete: bool,
    /// Start of the read, by the local wall clock.
    pub started: UnixMs,
}

impl LedgerState {
    /// Stores the commission that the market reports for a cancelled order of the ledger: zero if
    /// it reports none. Returns the event that counts it, if the order was released without it: a
    /// deposit may have covered the commission, or the operator may have decided before it was
    /// known.
    pub(super) fn note_commission(&mut self, trade: &OwnTrade) -> Option<LedgerEvent> {
        let commission = trade.commission.or(trade.status.gives_back().then_some(Amount::ZERO))?;
        let Intent { sequence, state, price, kept, .. } = *self.order_of_purchase(trade)?;
        self.commissions.insert(sequence, commission);
        let (evidence, by, since) = (Evidence::Returned, EvidenceSource::Marketplace, UnixMs(0));
        let paid = Some(price.min(commission));
        let is_new = state == OrderState::Returned && Some(kept) < paid;
        is_new.then_some(LedgerEvent::Proved { sequence, evidence, paid, by, since })
    }

    /// Returns the events that follow from a list of the account's trades.
    pub fn reconcile_trades(&mut self, reading: &AccountReading<'_>) -> Vec<LedgerEvent> {
        let mut events = Vec::new();
        let mut shown = Vec::new();
        let mut listed: HashMap<TradeId, ListedTrade> =
            HashMap::with_capacity(reading.trades.len());
        let mut next = self.next_sequence();
        let mut loss = self.loss.count;
        for trade in reading.trades {
            let order = self.order_of_purchase(trade);
            let sequence = order.map(|order| order.sequence);
            if listed.insert(trade.id, ListedTrade { trade: *trade, sequence }).is_some() {
                continue;
            }
            match order {
                // The state changed after the read began, so the reading is older.
                Some(intent) if reading.started <= intent.changed_at => {}
                Some(_known) if loss > 0 && self.excludes_known_orders(trade) => {
                    events.extend(self.event_for_untracked(trade, &mut next, &mut loss));
                }
                // The purchase was cancelled before this ledger ordered the listing again.
                Some(intent)
                    if intent.state.permits_reorder()
                        && trade.status.gives_back()
                        && self.accepted.contains(&trade.id) => {}
                Some(intent) => {
                    shown.extend(is_shown_uncancelled(trade).then_some(intent.sequence));
                    events.extend(self.evidence_for(intent, trade, reading.started));
                }
                None => events.extend(self.event_for_untracked(trade, &mut next, &mut loss)),
            }
        }
        if reading.complete {
            self.check_absent_orders(reading, &listed, None, &mut events);
            if !self.baselined {
                events.push(LedgerEvent::Baselined);
            }
        }
        self.shown_at.extend(shown.into_iter().map(|sequence| (sequence, reading.started)));
        events
    }

    /// Returns the event that follows from the market's own record of one order, which was looked
    /// up at `started`.
    pub fn reconcile_order(
        &mut self,
        key: &TradeKey,
        trade: &OwnTrade,
        started: UnixMs,
    ) -> Option<LedgerEvent> {
        let intent = *self.order(key).filter(|intent| intent.id == trade.id)?;
        // If the state changed after the read began, the reading is older.
        if started <= intent.changed_at {
            return None;
        }
        let Intent { sequence, approved, state, .. } = intent;
        if is_shown_uncancelled(trade) {
            self.shown_at.insert(intent.sequence, started);
        }
        match trade.price {
            // The price limit of the order excludes this price, which counts and halts.
            Some(price) if state == OrderState::Unknown && approved < price => {
                let is_new = intent.is_corrected_by(price);
                is_new.then_some(LedgerEvent::PriceConfirmed { sequence, price })
            }
            _ => self.evidence_for(&intent, trade, started),
        }
    }

    /// Returns the events that follow from a look-up at `started` that found no order, on a market
    /// without a list of the account's trades.
    pub fn reconcile_absent(&self, key: &TradeKey, started: UnixMs) -> Vec<LedgerEvent> {
        let mut events = Vec::new();
        if let Some(intent) = self.order(key) {
            let reading = AccountReading { trades: &[], complete: true, started };
            let looked_up = Some(intent.sequence);
            self.check_absent_orders(&reading, &HashMap::new(), looked_up, &mut events);
        }
        events
    }

    /// Returns `true` if enough look-ups by own id have shown no order, the last one at a time at
    /// which the market certainly shows an executed one.
    fn is_absent_by_own_id(&self, intent: &Intent) -> bool {
        if self.look_ups_min == 0 {
            return true;
        }
        self.absent_look_ups.get(&intent.sequence).is_some_and(|absent| {
            self.look_ups_min <= absent.count
                && intent.changed_at.plus(self.listed_within) <= absent.last
        })
    }

    /// Returns the order that a listed purchase belongs to: the one with its own id, or else one
    /// that has none, or any if the purchase states none. A listing is bought at most once, so of
    /// several this is the one that may have been bought, if there is one, then the one at the
    /// listed price, then the last one.
    fn order_of_purchase(&self, trade: &OwnTrade) -> Option<&Intent> {
        let is_possible = |order: &&Intent| has_own_id_of(order, trade) != Some(false);
        self.orders_of(&trade.id).filter(is_possible).max_by_key(|order| {
            let is_at_price = trade.price.is_some() && order.key().price == trade.price;
            let is_same = has_own_id_of(order, trade).is_some();
            (is_same, !order.state.permits_reorder(), is_at_price, order.sequence)
        })
    }

    /// Returns `true` if the market's own records have shown this purchase: its price, or in this
    /// run the purchase itself.
    pub(super) fn is_shown(&self, intent: &Intent) -> bool {
        intent.listed.is_some() || self.shown_at.contains_key(&intent.sequence)
    }

    /// Returns `true` if a purchase is of none of the known orders for its listing.
    fn excludes_known_orders(&self, trade: &OwnTrade) -> bool {
        self.orders_of(&trade.id).all(|known| match has_own_id_of(known, trade) {
            Some(is_same) => !is_same,
            None => may_be_of_later_order(known, trade),
        })
    }

    /// Returns the lower prices that the last balance confirms.
    pub fn confirmed_prices(&self) -> Vec<LedgerEvent> {
        let lower = self.repriced.iter().filter_map(|sequence| self.at(*sequence));
        let confirmed = lower.filter_map(|intent| {
            let (sequence, price) = (intent.sequence, intent.lower_price()?);
            let is_confirmed = !self.account.is_charge_pending(sequence)
                && self.account.has_no_shortfall_since(intent.changed_at)
                && !self.account.has_unexplained_since(intent.reserved_at);
            is_confirmed.then_some(LedgerEvent::PriceConfirmed { sequence, price })
        });
        confirmed.collect()
    }

    /// Returns the refunds that the last balance shows, oldest order first, as far as they are
    /// covered in full. Prices must be confirmed before.
    pub fn refund_events(&self) -> Vec<LedgerEvent> {
        let Some(reading) = self.account.last_reading().filter(|_| self.reconciled) else {
            return Vec::new();
        };
        let (evidence, by) = (Evidence::Returned, EvidenceSource::Marketplace);
        let mut events = Vec::new();
        let mut account = self.account.clone();
        let returning = self.open_intents();
        let returning = returning.filter(|intent| {
            // The balance must have been read after the list that contained the cancellation.
            intent.state == OrderState::Returning && intent.changed_at < reading.as_of
        });
        for intent in returning {
            let Intent { sequence, price, refund_since, .. } = *intent;
            let kept = self.commissions.get(&sequence).map(|kept| price.min(*kept));
            // After a start, the commissions are unknown until the market has shown the order.
            if kept.is_none() && self.has_list && self.has_own_ids {
                break;
            }
            let refund = price.saturating_sub(kept.unwrap_or_default());
            // With a price that is too high, it would claim coins of another order.
            if intent.lower_price().is_some() || !account.inflows_cover(refund, refund_since) {
                break;
            }
            account.assign_inflows(refund, refund_since);
            events.push(LedgerEvent::Proved {
                sequence,
                evidence,
                paid: kept,
                by,
                since: UnixMs(0),
            });
        }
        events
    }

    /// Iterates over returning orders whose refund no balance has shown since `moment`.
    pub fn returning_since(&self, moment: UnixMs) -> impl Iterator<Item = &Intent> {
        let open = self.open_intents();
        open.filter(move |intent| {
            intent.state == OrderState::Returning && intent.state_since <= moment
        })
    }

    /// Returns the event for a purchase that the ledger does not contain.
    fn event_for_untracked(
        &self,
        trade: &OwnTrade,
        next: &mut Sequence,
        loss: &mut u32,
    ) -> Option<LedgerEvent> {
        let id = trade.id;
        // A listing that is still for sale is not a purchase.
        let is_known = self.accepted.contains(&id) || self.unexpected.contains(&id);
        if trade.status == TradeStatus::Listed || is_known {
            return None;
        }
        let is_cancelled = trade.status.gives_back();
        let counts = self.counts_toward_total(trade, is_cancelled);
        // Orders were lost before the start that found the loss. Its time is by the local clock,
        // which may have been behind; the barrier may be by the server's.
        let loss_end = self.loss.since.plus(SETTLE).max(self.barrier.unwrap_or(UnixMs(0)));
        let is_after_loss = trade.joined_at.is_some_and(|at| loss_end < at);
        let is_other_bot = self.sharing.is_account_shared && (*loss == 0 || is_after_loss);
        // A purchase is adopted under the id of its listing alone, which no other order that was
        // sent may have.
        let permits_same_id = |order: &Intent| {
            order.keyed_by == KeyedBy::IdAndPrice || order.state == OrderState::NotSent
        };
        let can_adopt = self.orders_of(&id).all(permits_same_id);
        // A cancelled one may have cost a commission.
        let may_be_lost = *loss > 0 && !is_after_loss && self.may_keep_lost_commission(trade);
        let is_free = is_cancelled && !(can_adopt && may_be_lost);
        if !counts && (!self.baselined || is_free || is_other_bot) {
            return Some(LedgerEvent::Accepted { id });
        }
        if can_adopt && (counts || *loss > 0) {
            let keeps_loss = *loss > 0 && self.may_be_of_cleared_loss(trade);
            *loss = loss.saturating_sub(u32::from(!keeps_loss));
            let sequence = *next;
            *next = sequence.next();
            // Without a price, assume the highest price that can have been approved.
            let price = trade.price.filter(|price| Amount::ZERO < *price);
            let price = price.unwrap_or(self.budget.max_price);
            return Some(LedgerEvent::Adopted { sequence, id, price, keeps_loss });
        }
        let price = trade.price.filter(|price| Amount::ZERO < *price);
        Some(LedgerEvent::Halted(HaltReason::UnexpectedPurchase { id, price }))
    }

    /// Returns `true` if the market may have kept a commission of a cancelled purchase, and the
    /// purchase may be of an order that the power loss removed. Such markets have own order ids.
    fn may_keep_lost_commission(&self, trade: &OwnTrade) -> bool {
        let is_later = |joined| self.loss.not_before <= joined;
        self.has_own_ids && trade.joined_at.is_none_or(is_later)
    }

    /// Returns `true` if a purchase may be of an earlier power loss, which was cleared because the
    /// market did not show its orders. Those of the present one were sent after that.
    fn may_be_of_cleared_loss(&self, trade: &OwnTrade) -> bool {
        self.loss_cleared_at
            .is_some_and(|cleared| trade.joined_at.is_none_or(|joined| joined < cleared))
    }

    /// Returns `true` if a purchase from before this ledger counts against `total`. A purchase of
    /// unknown age counts.
    fn counts_toward_total(&self, trade: &OwnTrade, is_cancelled: bool) -> bool {
        let since = self.count_since.filter(|_since| !self.baselined && !is_cancelled);
        since.is_some_and(|since| trade.joined_at.is_none_or(|joined| since <= joined))
    }

    /// Decides about the unknown orders that are not listed. With `looked_up`, decides about this
    /// one only.
    fn check_absent_orders(
        &self,
        reading: &AccountReading<'_>,
        listed: &HashMap<TradeId, ListedTrade>,
        looked_up: Option<Sequence>,
        events: &mut Vec<LedgerEvent>,
    ) {
        // While the wall clock is unreliable, nothing is released by age.
        let is_settled = |since: UnixMs| {
            self.frozen_at.is_none()
                && since.plus(self.listed_within) <= reading.started
                && self.account.certainly_includes(since)
        };
        let uncertain = self.open_totals.uncertain;
        let (mut absent, mut explained) =
            (Vec::new(), self.sharing.missing.saturating_add(uncertain));
        for intent in self.open_intents().filter(|intent| intent.state == OrderState::Unknown) {
            let is_listed = |listed: &ListedTrade| listed.sequence == Some(intent.sequence);
            let is_absent = !listed.get(&intent.id).is_some_and(is_listed)
                && self.is_absent_by_own_id(intent)
                && is_settled(intent.changed_at);
            if !is_absent {
                explained = explained.saturating_add(intent.price);
            } else if looked_up.is_none_or(|looked_up| looked_up == intent.sequence) {
                absent.push(intent);
            }
        }
        // Orders in flight may explain missing coins; it is too early to decide.
        let has_in_flight = self.in_flight > 0;
        let has_loss = Amount::ZERO < self.loss.coins || self.loss.count > 0;
        let is_loss_settled = has_loss && looked_up.is_none() && is_settled(self.loss.since);
        // The same applies to orders lost in a crash, both those that this list has shown and those
        // that none has shown yet.
        explained = if has_loss && !is_loss_settled {
            explained.saturating_add(self.loss.coins)
        } else {
            events.iter().fold(explained, |sum, event| match event {
                LedgerEvent::Adopted { price, .. } => sum.saturating_add(*price),
                _ => sum,
            })
        };
        // On a market without a list, look-ups show each order.
        let shows_all =
            !self.has_list || looked_up.is_some() || self.shows_all_uncancelled(reading, listed);
        let refunds =
            if shows_all { self.expected_refunds(events) } else { ExpectedRefunds::Waiting };
        let account = &self.account;
        let settled = reading.started.minus(SETTLE);
        let is_uncharged = |since: UnixMs| match refunds {
            ExpectedRefunds::Impossible => account.has_no_shortfall_with_charge_at(since, None),
            ExpectedRefunds::Possible => {
                account.has_no_shortfall_with_charge_at(since, Some(settled))
            }
            ExpectedRefunds::Waiting => false,
        };
        for intent in absent.iter().filter(|intent| is_uncharged(intent.changed_at)) {
            events.push(LedgerEvent::Proved {
                sequence: intent.sequence,
                evidence: Evidence::NotBought,
                paid: None,
                by: EvidenceSource::Marketplace,
                since: UnixMs(0),
            });
        }
        if is_loss_settled && !has_in_flight && is_uncharged(self.loss.since) {
            events.push(LedgerEvent::LossCleared { by: EvidenceSource::Marketplace });
        }
        let missing = self.account.missing_beyond(explained);
        let is_ours = !self.sharing.is_account_shared;
        let is_decided = is_loss_settled || !absent.is_empty();
        if is_ours && is_decided && Amount::ZERO < missing && !has_in_flight {
            let listed = self.listed_without_known_status(listed);
            events.push(LedgerEvent::Halted(HaltReason::Disagreement { missing, listed }));
        }
    }

    /// Returns `true` if a list shows that none of the purchases that the market may have refunded
    /// before the last balance was cancelled.
    fn shows_all_uncancelled(
        &self,
        reading: &AccountReading<'_>,
        listed: &HashMap<TradeId, ListedTrade>,
    ) -> bool {
        let delivered_since = reading.started.minus(REFUNDABLE);
        let approved_since = delivered_since.minus(REFUNDABLE);
        let recent = self.followed_up.range((approved_since, Sequence(0))..);
        let recent = recent.filter_map(|(_at, sequence)| self.at(*sequence));
        let delivered = recent.filter(|intent| {
            intent.state == OrderState::Completed && delivered_since <= intent.state_since
        });
        let undelivered = self.open_intents().filter(|intent| intent.state.is_charged());
        // The balance that shows no charge had arrived by then.
        let until = reading.started.minus(SETTLE);
        let mut refundable = delivered.chain(undelivered).filter(|it| it.reserved_at <= until);
        refundable.all(|intent| {
            listed.get(&intent.id).is_some_and(|listed| {
                listed.sequence == Some(intent.sequence) && is_shown_uncancelled(&listed.trade)
            })
        })
    }

    fn expected_refunds(&self, found: &[LedgerEvent]) -> ExpectedRefunds {
        let is_returning = |intent: &Intent| intent.state == OrderState::Returning;
        let is_cancelled_now = found.iter().any(|event| {
            matches!(event, LedgerEvent::Proved { evidence: Evidence::Returning, .. })
        });
        if is_cancelled_now || self.open_intents().any(is_returning) {
            return ExpectedRefunds::Waiting;
        }
        if self.intents.iter().any(|intent| intent.state.is_charged()) {
            ExpectedRefunds::Possible
        } else {
            ExpectedRefunds::Impossible
        }
    }

    /// Returns an unknown order that is listed with a status unknown to this version.
    fn listed_without_known_status(
        &self,
        listed: &HashMap<TradeId, ListedTrade>,
    ) -> Option<TradeId> {
        let open = self.open_intents();
        let mut unknown = open.filter(|intent| intent.state == OrderState::Unknown);
        let is_other = |intent: &&Intent| {
            let listed = listed.get(&intent.id);
            listed.is_some_and(|listed| Evidence::from_status(listed.trade.status).is_none())
        };
        unknown.find(is_other).map(|intent| intent.id)
    }

    /// Returns the event that a listed trade implies for an intent, if it adds information.
    fn evidence_for(
        &self,
        intent: &Intent,
        trade: &OwnTrade,
        started: UnixMs,
    ) -> Option<LedgerEvent> {
        let Intent { sequence, state, .. } = *intent;
        // This evidence leaves the state unchanged.
        let same = match state {
            OrderState::Bought => Some(Evidence::Bought),
            OrderState::Completed => Some(Evidence::Completed),
            OrderState::Returning => Some(Evidence::Returning),
            _ => None,
        };
        let price = trade.price.filter(|price| intent.is_corrected_by(*price));
        let evidence = match (Evidence::from_status(trade.status), state) {
            // The order's own response is pending.
            (_, OrderState::Reserved | OrderState::Sent) => return None,
            (Some(evidence), _) => evidence,
            (None, _) if trade.status != TradeStatus::Other => return None,
            // An order that does not count was bought after all, regardless of the unknown status.
            (None, from) if from.permits_reorder() => Evidence::Bought,
            // The order stays unknown, but its price counts.
            (None, OrderState::Unknown) => {
                return price.map(|price| LedgerEvent::PriceConfirmed { sequence, price });
            }
            (None, _) => same?,
        };
        // A list may show a state that ended up to SETTLE before it was read.
        let is_later = intent.changed_at.plus(SETTLE) <= started;
        let is_new = match (state, evidence) {
            (OrderState::Completed, Evidence::Bought)
            | (OrderState::Returned, Evidence::Returning) => false,
            (
                OrderState::Returning | OrderState::Returned,
                Evidence::Bought | Evidence::Completed,
            ) => is_later,
            _ => Some(evidence) != same,
        };
        let by = EvidenceSource::Marketplace;
        let shown = self.shown_at.get(&sequence).map(|shown| shown.minus(self.listed_within));
        let since = shown.filter(|_shown| evidence == Evidence::Returning).unwrap_or_default();
        if is_new {
            return Some(LedgerEvent::Proved { sequence, evidence, paid: trade.price, by, since });
        }
        // The state is unchanged; only the price differs.
        let (evidence, paid) = (same?, Some(price?));
        Some(LedgerEvent::Proved { sequence, evidence, paid, by, since: UnixMs(0) })
    }
}

/// Returns `true` if a purchase has the own id of the order, and `false` if it has another one, as
/// that of another bot or a person with the account. Returns `None` if one of them has none.
fn has_own_id_of(order: &Intent, trade: &OwnTrade) -> Option<bool> {
    Some(order.own_id? == trade.own_id?)
}

/// Returns `true` if a purchase may be of a later order for the same listing, whose record a power
/// loss removed: the known order was not sent, or it cannot have been executed at this price.
fn may_be_of_later_order(known: &Intent, trade: &OwnTrade) -> bool {
    let is_at_other_price = |is_other: fn(Amount, Amount) -> bool| {
        known.keyed_by == KeyedBy::IdAndPrice
            && trade.price.is_some_and(|price| is_other(price, known.approved))
    };
    match known.state {
        OrderState::NotSent => true,
        OrderState::Rejected => is_at_other_price(|price, approved| price != approved),
        // That it was not bought was inferred; only a price above its limit proves it.
        OrderState::NotBought => is_at_other_price(|price, approved| approved < price),
        _ => false,
    }
}

/// Returns `true` if the trade is a purchase that was not cancelled when the list was made.
fn is_shown_uncancelled(trade: &OwnTrade) -> bool {
    let evidence = Evidence::from_status(trade.status);
    matches!(evidence, Some(Evidence::Bought | Evidence::Completed))
}

/// Whether the balance may contain a refund that hides the charge of an unknown order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedRefunds {
    /// No order can be refunded.
    Impossible,
    /// A list that was read [`SETTLE`] after the balance must show that nothing was cancelled.
    Possible,
    /// A cancelled order waits for its refund, or a purchase may have been cancelled that the list
    /// does not show, so no balance proves anything.
    Waiting,
}

/// Look-ups by own id that have shown no order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AbsentLookUps {
    pub(super) count: u32,
    /// Start of the last one, on the local wall clock.
    pub(super) last: UnixMs,
}
