//! May this be bought? Every limit in turn, in constant time.
//!
//! Pure. The order decides only which limit is named when several stand against a buy: what a
//! person must do first, then what concerns the listing, then money, and last what passes by
//! itself.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{
    entries::EntryLimits,
    event::{LedgerEvent, OrderState},
    rejection::RiskRejection,
    state::{INTENTS_MAX, LedgerState},
};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::trade::TradeId};

/// A buy that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    /// The listing.
    pub id: TradeId,
    /// What it costs.
    pub price: Amount,
    /// The place in the whitelist of the entry that accepted it.
    pub entry: usize,
    /// When it was listed, where that is known, by the server's clock.
    pub created_at: Option<UnixMs>,
}

impl LedgerState {
    /// Decides about a buy. Nothing is reserved until the event that it returns is applied.
    ///
    /// # Errors
    ///
    /// The limit that stands against it.
    pub fn approve(
        &mut self,
        want: &OrderRequest,
        now: UnixMs,
    ) -> Result<LedgerEvent, RiskRejection> {
        self.may_buy_at_all(now)?;
        self.may_request(want)?;
        let entry = self.entries.limits(want.entry).ok_or(RiskRejection::NoEntry)?;
        self.fits_entry(want.price, entry)?;
        self.fits_budget(want.price, now)?;
        self.fits_balance(want.price)?;
        self.fits_pace(now)?;
        Ok(LedgerEvent::Reserved {
            sequence: self.next_sequence(),
            id: want.id,
            price: want.price,
            entry: entry.slot,
            limits: self.limits,
        })
    }

    fn may_buy_at_all(&self, now: UnixMs) -> Result<(), RiskRejection> {
        if !self.halts.is_empty() {
            return Err(RiskRejection::Halted);
        }
        if !self.reconciled {
            return Err(RiskRejection::NotReconciled);
        }
        if now < self.paused_until {
            return Err(RiskRejection::Paused { until: self.paused_until });
        }
        let held = u32::try_from(self.intents.len()).unwrap_or(u32::MAX);
        if held >= INTENTS_MAX { Err(RiskRejection::Full { max: INTENTS_MAX }) } else { Ok(()) }
    }

    fn may_request(&self, want: &OrderRequest) -> Result<(), RiskRejection> {
        if self.intent(&want.id).is_some_and(|earlier| earlier.state != OrderState::NotSent) {
            return Err(RiskRejection::AlreadyRequested);
        }
        match self.barrier {
            Some(barrier) if want.created_at.is_none_or(|created| created <= barrier) => {
                return Err(RiskRejection::BeforePowerLoss { barrier });
            }
            _ => {}
        }
        if want.price <= Amount::ZERO {
            return Err(RiskRejection::NoPrice { price: want.price });
        }
        let max = self.budget.max_price;
        if max < want.price {
            Err(RiskRejection::MaxPrice { price: want.price, max })
        } else {
            Ok(())
        }
    }

    fn fits_entry(&self, price: Amount, entry: EntryLimits) -> Result<(), RiskRejection> {
        let used = self.entries.used(entry.slot);
        let (bought, max) = (used.quantity.saturating_add(self.loss.count), entry.max_quantity);
        if max <= bought {
            return Err(RiskRejection::EntryQuantity { bought, max });
        }
        let spent = used.total.saturating_add(self.loss.coins);
        match entry.max_total {
            Some(max) if exceeds(spent, price, max) => {
                Err(RiskRejection::EntryTotal { spent, price, max })
            }
            _ => Ok(()),
        }
    }

    fn fits_budget(&mut self, price: Amount, now: UnixMs) -> Result<(), RiskRejection> {
        let lost = self.loss.coins;
        let (spent, max) = (self.spent.saturating_add(lost), self.budget.total);
        if exceeds(spent, price, max) {
            return Err(RiskRejection::Total { spent, price, max });
        }
        self.hour.advance(self.age_now(now));
        let spent = self.hour.sum().saturating_add(lost);
        if let Some(max) = self.budget.per_hour.filter(|max| exceeds(spent, price, *max)) {
            return Err(RiskRejection::PerHour { spent, price, max });
        }
        self.day.advance(self.age_now(now));
        let spent = self.day.sum().saturating_add(lost);
        match self.budget.per_day {
            Some(max) if exceeds(spent, price, max) => {
                Err(RiskRejection::PerDay { spent, price, max })
            }
            _ => Ok(()),
        }
    }

    fn fits_balance(&self, price: Amount) -> Result<(), RiskRejection> {
        let Some(balance) = self.account.available_min() else {
            return if self.balance_required { Err(RiskRejection::BalanceUnknown) } else { Ok(()) };
        };
        let min = self.budget.min_balance;
        if balance.saturating_sub(price) < min {
            return Err(RiskRejection::MinBalance { balance, price, min });
        }
        Ok(())
    }

    fn fits_pace(&mut self, now: UnixMs) -> Result<(), RiskRejection> {
        self.minute.advance(self.age_now(now));
        let sent = self.minute.count().saturating_add(self.loss.count);
        let max = self.budget.max_buys_per_minute;
        if max <= sent {
            return Err(RiskRejection::PerMinute { sent, max });
        }
        let (in_flight, max) = (self.in_flight, self.budget.max_in_flight);
        if max <= in_flight { Err(RiskRejection::InFlight { in_flight, max }) } else { Ok(()) }
    }
}

/// Whether this much more would go beyond the bound, in doubt yes.
fn exceeds(spent: Amount, price: Amount, max: Amount) -> bool {
    spent.checked_add(price).is_none_or(|sum| max < sum)
}
