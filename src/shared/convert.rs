//! Conversion between a ledger and the protocol: units, names of limits, and how much a member takes
//! ahead of need. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;

use super::{
    exchange::{Limit, OrderRecord, Refusal},
    member::{MemberState, Permission, Usage},
};
use crate::{
    config::shared::SharedConfig,
    domain::{money::Amount, time::UnixMs},
    ledger::{
        Intent, SharedUsage,
        allowance::{Allowance, AmountUse, EntrySlice, EntryUse, Permit},
    },
};

/// Number of orders that a slice covers ahead of need, at least.
const ORDERS_AHEAD: u32 = 8;
/// Number of orders that a slice of a standby covers.
const ORDERS_AHEAD_ON_STANDBY: u32 = 2;
/// Time that the orders of the highest rate are covered for: until a raise can be used.
const SECONDS_AHEAD: u32 = 6;

/// What a member knows about its group when it decides how much to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Part of the total that no member has.
    pub free: i64,
    /// Slice of the total.
    pub slice: i64,
    /// Live members, with this one.
    pub live: i64,
    pub is_standby: bool,
}

impl GroupView {
    /// Returns a share of what is left for every live member.
    fn share(self, left: i64) -> i64 {
        left.max(0).checked_div(self.live.max(1)).unwrap_or_default()
    }
}

/// Converts what the ledger counts into the demands of the protocol.
///
/// A member takes enough for the orders of the next seconds, but no more than its share of what is left,
/// unless one order needs more.
pub fn usage(config: &SharedConfig, used: &SharedUsage, view: GroupView) -> BTreeMap<Limit, Usage> {
    let orders = match view.is_standby {
        true => ORDERS_AHEAD_ON_STANDBY,
        false => used.orders_per_second.saturating_mul(SECONDS_AHEAD).max(ORDERS_AHEAD),
    };
    let reserves = Reserves { config, orders, max_price: used.max_price, view };
    let mut demands = BTreeMap::new();
    let total = config.to_group(used.total.used);
    let left = view.free.saturating_add(view.slice).saturating_sub(total);
    demands.insert(
        Limit::Total,
        Usage { used: total, max: i64::MAX, reserve: reserves.coins(view.share(left)) },
    );
    for (limit, window) in [(Limit::PerHour, used.per_hour), (Limit::PerDay, used.per_day)] {
        if let Some(window) = window {
            demands.insert(limit, reserves.amount(window));
        }
    }
    for entry in &used.entries {
        let name = || entry.name.to_string();
        reserves.add(
            &mut demands,
            entry,
            [Limit::EntryQuantity(name()), Limit::EntryTotal(name())],
        );
    }
    for group in &used.groups {
        let name = || group.name.to_string();
        reserves.add(
            &mut demands,
            group,
            [Limit::GroupQuantity(name()), Limit::GroupTotal(name())],
        );
    }
    demands
}

/// Amounts that a member takes ahead of need.
struct Reserves<'a> {
    config: &'a SharedConfig,
    orders: u32,
    max_price: Amount,
    view: GroupView,
}

impl Reserves<'_> {
    /// Returns the price of the next orders, at most this share unless one order needs more.
    fn coins(&self, share: i64) -> i64 {
        let needed = self.max_price.saturating_mul(i64::from(self.orders));
        let one = self.config.to_group(self.max_price);
        self.config.to_group(needed).min(share.max(one))
    }

    fn amount(&self, window: AmountUse) -> Usage {
        let (used, max) = (self.config.to_group(window.used), self.max(window.max));
        let left = max.saturating_sub(used).max(0);
        // Others may have used a part of what is left, which is not known here.
        let share = self.view.share(left);
        Usage { used, max, reserve: self.coins(share).min(left) }
    }

    /// Converts a limit, rounded down.
    fn max(&self, max: Amount) -> i64 {
        let units = self.config.to_group(max);
        if max < self.config.from_group(units) { units.saturating_sub(1) } else { units }
    }

    fn quantity(&self, used: u32, max: u32) -> Usage {
        let (used, max) = (i64::from(used), i64::from(max));
        let left = max.saturating_sub(used).max(0);
        let reserve = i64::from(self.orders).min(self.view.share(left).max(1)).min(left);
        Usage { used, max, reserve }
    }

    fn add(
        &self,
        demands: &mut BTreeMap<Limit, Usage>,
        entry: &EntryUse,
        [quantity, total]: [Limit; 2],
    ) {
        if let Some(max) = entry.max_quantity {
            demands.insert(quantity, self.quantity(entry.used.quantity, max));
        }
        if let Some(max) = entry.max_total {
            demands.insert(total, self.amount(AmountUse { used: entry.used.total, max }));
        }
    }
}

/// Converts what a member may use into the slices of its ledger. `used` names its entries and groups.
pub fn allowance(
    config: &SharedConfig,
    permission: &Permission,
    used: Option<&SharedUsage>,
) -> Allowance {
    let slice = |limit: &Limit| permission.slices.get(limit).copied().unwrap_or_default().max(0);
    let amount = |limit: &Limit| config.from_group(slice(limit));
    let entry = |quantity: &Limit, total: &Limit| EntrySlice {
        quantity: u32::try_from(slice(quantity)).unwrap_or(u32::MAX),
        total: amount(total),
    };
    let mut allowance = Allowance {
        permit: permit(permission),
        total: amount(&Limit::Total),
        per_hour: amount(&Limit::PerHour),
        per_day: amount(&Limit::PerDay),
        ..Allowance::default()
    };
    let Some(used) = used else { return allowance };
    for EntryUse { slot, name, .. } in &used.entries {
        let name = || name.to_string();
        let slice = entry(&Limit::EntryQuantity(name()), &Limit::EntryTotal(name()));
        allowance.set_entry(*slot, slice);
    }
    for EntryUse { name, .. } in &used.groups {
        let text = || name.to_string();
        let slice = entry(&Limit::GroupQuantity(text()), &Limit::GroupTotal(text()));
        allowance.groups.push((name.clone(), slice));
    }
    allowance
}

fn permit(permission: &Permission) -> Permit {
    match &permission.state {
        MemberState::Active => Permit::Until(UnixMs(permission.until_ms)),
        MemberState::Standby => Permit::Standby,
        MemberState::NoContact if permission.contact_ms.is_none() => Permit::Starting,
        MemberState::NoContact => Permit::Until(UnixMs(permission.until_ms)),
        MemberState::Refused(refusal) => Permit::Refused(refusal_text(refusal)),
        MemberState::Stopped => Permit::Refused("it is stopping"),
    }
}

/// Describes why the database refuses a member, and what to do.
pub const fn refusal_text(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoGroup => "the group does not exist; create it with `sniper shared init`",
        Refusal::Restored => {
            "the database was restored from a backup; check `sniper shared status`, then run \
             `sniper shared set --restored`"
        }
        Refusal::OtherLedger => {
            "its name belongs to another ledger; set another `member` in [shared], or release it"
        }
        Refusal::Released => "it was released with `sniper shared release`",
        Refusal::Full => "the group has too many members; release those that are gone",
    }
}

/// Converts an order for the other members. Numbers beyond the range of the protocol are not reported.
pub fn order_record(intent: &Intent) -> Option<OrderRecord> {
    let sequence = u32::try_from(intent.sequence.0).ok()?;
    let (key, state, price) = (intent.key(), intent.state, intent.price);
    Some(OrderRecord { sequence, key, state, price })
}
