//! Converts between a ledger and the protocol: units, names of limits, and the amounts that a
//! member takes in advance. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;

use super::{
    exchange::{Limit, MemberRejection, OtherMembers, ReportedOrder},
    member::{MemberState, Permission, Usage},
};
use crate::{
    config::shared::SharedConfig,
    domain::{money::Amount, time::UnixMs},
    ledger::{
        Intent, SharedUsage,
        allowance::{
            Allowance, AmountUse, EntrySlice, EntryUse, OrderPermit, SharedLimit, stable_hash,
        },
    },
};

/// Minimum number of future orders that a slice covers: a burst of matches, which would wait
/// seconds for a raise.
const ORDERS_AHEAD: u32 = 32;
/// Number of seconds of orders at the highest rate that a slice covers: the time until a raise of
/// the slice can be used.
const SECONDS_AHEAD: u32 = 6;
/// Time without an order after which a member leaves its unused part of a limit to another one that
/// was denied an order within this time.
pub const HOLD_MS: i64 = if cfg!(test) { 2_000 } else { 30_000 };

/// Returns the hash of an account of a market, by which the members know it.
pub fn account_hash(market: &str, id: &str) -> String {
    format!("{:016x}", stable_hash(&format!("{market}\n{id}")))
}

/// View of the group with which a member decides how much to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Part of the total that is in no slice.
    pub free: i64,
    /// Slice of the total.
    pub slice: i64,
    /// Other live members of each limit.
    pub others: BTreeMap<Limit, OtherMembers>,
    /// It will not order soon, so it takes nothing that an active member could use.
    pub is_standby: bool,
}

impl GroupView {
    /// Returns the share of the remainder of a limit for each live member that has the limit.
    fn share(&self, limit: &Limit, left: i64) -> i64 {
        let others = self.others.get(limit).map_or(0, |others| others.count.max(0));
        left.max(0).checked_div(others.saturating_add(1)).unwrap_or_default()
    }
}

/// Last use of the member's part of a limit.
#[derive(Debug)]
struct Holding {
    used: i64,
    /// Time of the last order or denial, or of the first reading.
    since_ms: i64,
    denied_ms: Option<i64>,
}

/// Last use of the member's part of each limit.
#[derive(Debug, Default)]
pub struct Holdings(BTreeMap<Limit, Holding>);

impl Holdings {
    /// Marks the limits of which the member was `denied` an order within [`HOLD_MS`]. Of a limit of
    /// which another one is short, it wants no more than it has used, if it had neither an order
    /// nor a denial within this time. A member that gave its part back therefore takes it again
    /// only when the others have enough, or after a denial.
    pub fn adjust(
        &mut self,
        usage: &mut BTreeMap<Limit, Usage>,
        denied: &[Limit],
        others: &BTreeMap<Limit, OtherMembers>,
        now_ms: i64,
    ) {
        self.0.retain(|limit, _| usage.contains_key(limit));
        for (limit, usage) in usage {
            let new = Holding { used: usage.used, since_ms: now_ms, denied_ms: None };
            let held = self.0.entry(limit.clone()).or_insert(new);
            let is_denied = denied.contains(limit);
            if is_denied {
                held.denied_ms = Some(now_ms);
            }
            if is_denied || held.used < usage.used {
                held.since_ms = now_ms;
            }
            held.used = usage.used;
            let is_recent = |at_ms: i64| now_ms.saturating_sub(at_ms) < HOLD_MS;
            usage.is_denied = held.denied_ms.is_some_and(is_recent);
            let is_lacked = others.get(limit).is_some_and(|others| others.is_short);
            if is_lacked && !is_recent(held.since_ms) {
                usage.reserve = 0;
            }
        }
    }
}

/// Converts a limit of the ledger. `None` if it is of an entry or a group without a name.
pub fn limit(limit: SharedLimit, entry: Option<&str>, group: Option<&str>) -> Option<Limit> {
    let (entry, group) = (entry.map(str::to_owned), group.map(str::to_owned));
    match limit {
        SharedLimit::Total => Some(Limit::Total),
        SharedLimit::PerHour => Some(Limit::PerHour),
        SharedLimit::PerDay => Some(Limit::PerDay),
        SharedLimit::EntryQuantity => entry.map(Limit::EntryQuantity),
        SharedLimit::EntryTotal => entry.map(Limit::EntryTotal),
        SharedLimit::GroupQuantity => group.map(Limit::GroupQuantity),
        SharedLimit::GroupTotal => group.map(Limit::GroupTotal),
    }
}

/// Converts the usage of the ledger into the demands of the protocol.
///
/// A member takes enough for the orders of the next seconds, but no more than its share of the
/// remainder, unless one order needs more.
pub fn usage(
    config: &SharedConfig,
    used: &SharedUsage,
    view: &GroupView,
) -> BTreeMap<Limit, Usage> {
    let orders = if view.is_standby {
        0
    } else {
        used.orders_per_second.saturating_mul(SECONDS_AHEAD).max(ORDERS_AHEAD)
    };
    let reserves = Reserves { config, orders, max_price: used.max_price, view };
    let mut demands = BTreeMap::new();
    let total = config.to_group(used.total.used);
    let left = view.free.saturating_add(view.slice).saturating_sub(total);
    let reserve = reserves.coins(view.share(&Limit::Total, left));
    let of_total = Usage { used: total, max: i64::MAX, reserve, is_denied: false };
    demands.insert(Limit::Total, of_total);
    for (limit, window) in [(Limit::PerHour, used.per_hour), (Limit::PerDay, used.per_day)] {
        if let Some(window) = window {
            let usage = reserves.amount(&limit, window);
            demands.insert(limit, usage);
        }
    }
    for entry in &used.entries {
        let name = || entry.name.to_string();
        let limits = [Limit::EntryQuantity(name()), Limit::EntryTotal(name())];
        reserves.add(&mut demands, entry, limits);
    }
    for group in &used.groups {
        let name = || group.name.to_string();
        let limits = [Limit::GroupQuantity(name()), Limit::GroupTotal(name())];
        reserves.add(&mut demands, group, limits);
    }
    demands
}

/// Computes the amounts that a member takes in advance.
struct Reserves<'a> {
    config: &'a SharedConfig,
    orders: u32,
    max_price: Amount,
    view: &'a GroupView,
}

impl Reserves<'_> {
    /// Returns the price of the next orders, at most this share unless one order needs more.
    fn coins(&self, share: i64) -> i64 {
        let needed = self.max_price.saturating_mul(i64::from(self.orders));
        let one = self.config.to_group(self.max_price);
        self.config.to_group(needed).min(share.max(one))
    }

    fn amount(&self, limit: &Limit, window: AmountUse) -> Usage {
        let (used, max) = (self.config.to_group(window.used), self.max(window.max));
        let left = max.saturating_sub(used).max(0);
        // Other members may have used a part of it, which is not known here.
        let share = self.view.share(limit, left);
        Usage { used, max, reserve: self.coins(share).min(left), is_denied: false }
    }

    /// Converts a limit, rounded down.
    fn max(&self, max: Amount) -> i64 {
        let units = self.config.to_group(max);
        if max < self.config.from_group(units) { units.saturating_sub(1) } else { units }
    }

    fn quantity(&self, limit: &Limit, used: u32, max: u32) -> Usage {
        let (used, max) = (i64::from(used), i64::from(max));
        let left = max.saturating_sub(used).max(0);
        let reserve = i64::from(self.orders).min(self.view.share(limit, left).max(1)).min(left);
        Usage { used, max, reserve, is_denied: false }
    }

    fn add(&self, demands: &mut BTreeMap<Limit, Usage>, entry: &EntryUse, limits: [Limit; 2]) {
        let [quantity, total] = limits;
        if let Some(max) = entry.max_quantity {
            let usage = self.quantity(&quantity, entry.used.quantity, max);
            demands.insert(quantity, usage);
        }
        if let Some(max) = entry.max_total {
            let usage = self.amount(&total, AmountUse { used: entry.used.total, max });
            demands.insert(total, usage);
        }
    }
}

/// Converts the permission of a member into the slices of its ledger. `used` has the names of its
/// entries and groups.
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

fn permit(permission: &Permission) -> OrderPermit {
    match &permission.state {
        MemberState::Active => OrderPermit::Until(UnixMs(permission.until_ms)),
        MemberState::Standby => OrderPermit::Standby,
        MemberState::NoContact if permission.contact_ms.is_none() => OrderPermit::Starting,
        MemberState::NoContact => OrderPermit::Until(UnixMs(permission.until_ms)),
        MemberState::Rejected(rejection) => OrderPermit::Rejected(rejection_text(rejection)),
        MemberState::Stopped => OrderPermit::Rejected("it is stopping"),
    }
}

/// Describes why the database rejects a member, and what to do.
pub const fn rejection_text(rejection: &MemberRejection) -> &'static str {
    match rejection {
        MemberRejection::NoGroup => "the group does not exist; create it with `sniper shared init`",
        MemberRejection::OlderTables => {
            "the tables in the database are of an older version; run `sniper shared init`"
        }
        MemberRejection::Restored => {
            "the database was restored from a backup; check `sniper shared status`, then run \
             `sniper shared set --restored`"
        }
        MemberRejection::OtherLedger => {
            "its name belongs to another ledger; set another `member` in [shared]"
        }
        MemberRejection::OlderLedger => {
            "its ledger lacks orders that it has reported; put its newest data directory back, or \
             release it with all that it spent, and set another `member` and an empty data directory"
        }
        MemberRejection::Released => {
            "it was released with `sniper shared release`; set another `member` in [shared]"
        }
        MemberRejection::Full => "the group has too many members; release those that are gone",
        MemberRejection::OtherProcess => {
            "another process uses its name and ledger, such as one with a copy of the data directory; \
             stop it, give it another `member` and an empty data directory, and restart"
        }
    }
}

/// Converts an order into a report for the other members. Returns `None` if its number is beyond
/// the range of the protocol.
pub fn order_record(intent: &Intent) -> Option<ReportedOrder> {
    let sequence = u32::try_from(intent.sequence.0).ok()?;
    let (key, state, price) = (intent.key(), intent.state, intent.price);
    Some(ReportedOrder { sequence, key, state, price })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::shared::{DatabaseUrl, GroupUnit},
        domain::percent_rule::CoinUsd,
        ledger::entries::EntryUsage,
        shared::{
            database::GroupDatabase,
            exchange::MemberName,
            member::{Member, MemberSettings, Report},
        },
    };

    fn config(rate: u32) -> SharedConfig {
        SharedConfig {
            url: DatabaseUrl::parse("postgres://me@localhost/b").unwrap(),
            group: "main".to_owned(),
            total: Amount::from_cents(50_000),
            unit: GroupUnit::Usd,
            rate: CoinUsd::from_ten_thousandths(rate).unwrap(),
            standby: None,
            member: "a".to_owned(),
            term: Duration::from_secs(5),
        }
    }

    fn coins(whole: i64) -> Amount {
        Amount::from_cents(whole * 100)
    }

    fn used(total: i64, max_price: i64) -> SharedUsage {
        let entry = EntryUse {
            slot: 1,
            name: "redline".into(),
            used: EntryUsage { quantity: 2, total: coins(9) },
            max_quantity: Some(5),
            max_total: Some(coins(30)),
        };
        SharedUsage {
            total: AmountUse { used: coins(total), max: coins(1_000) },
            per_hour: Some(AmountUse { used: coins(total), max: coins(60) }),
            per_day: None,
            groups: vec![EntryUse {
                slot: 0,
                name: "rifles".into(),
                max_total: None,
                ..entry.clone()
            }],
            entries: vec![entry],
            max_price: coins(max_price),
            orders_per_second: 0,
            approved: 0,
            changed: Vec::new(),
        }
    }

    fn view(free: i64, slice: i64, live: i64) -> GroupView {
        let redline = Limit::EntryQuantity("redline".to_owned());
        let others = OtherMembers { count: live - 1, is_short: false };
        let others = [Limit::Total, Limit::PerHour, redline].map(|limit| (limit, others));
        let (free, slice) = (free * 1_000, slice * 1_000);
        GroupView { free, slice, others: others.into(), is_standby: false }
    }

    #[test]
    fn only_members_that_have_a_limit_share_it() {
        let demands = usage(&config(10_000), &used(50, 1), &view(500, 0, 3));
        let reserve = |limit| demands[&limit].reserve;
        assert_eq!(reserve(Limit::PerHour), 3_333, "a third of the rest");
        assert_eq!(reserve(Limit::EntryQuantity("redline".to_owned())), 1);
        assert_eq!(reserve(Limit::EntryTotal("redline".to_owned())), 21_000, "the whole rest");
        assert_eq!(reserve(Limit::GroupQuantity("rifles".to_owned())), 3);
    }

    #[test]
    fn a_member_leaves_what_it_holds_to_one_that_lacks_it_until_it_is_denied_an_order_itself() {
        let mut holdings = Holdings::default();
        let mut adjusted = |used, denied: &[Limit], is_short, now_ms| {
            let usage = Usage { used, max: 100, reserve: 10, is_denied: false };
            let mut usage = BTreeMap::from([(Limit::Total, usage), (Limit::PerDay, usage)]);
            let others = BTreeMap::from([(Limit::Total, OtherMembers { count: 1, is_short })]);
            holdings.adjust(&mut usage, denied, &others, now_ms);
            assert_eq!(usage[&Limit::PerDay].reserve, 10, "no other one lacks it");
            (usage[&Limit::Total].reserve, usage[&Limit::Total].is_denied)
        };
        assert_eq!(adjusted(1, &[], true, 0), (10, false));
        assert_eq!(adjusted(1, &[], true, HOLD_MS - 1), (10, false));
        assert_eq!(adjusted(2, &[], true, HOLD_MS), (10, false), "an order");
        assert_eq!(adjusted(1, &[], true, 2 * HOLD_MS - 1), (10, false), "it was rejected");
        assert_eq!(adjusted(1, &[], true, 2 * HOLD_MS), (0, false));
        assert_eq!(adjusted(1, &[Limit::PerDay], true, 3 * HOLD_MS), (0, false), "another limit");
        assert_eq!(adjusted(1, &[], false, 3 * HOLD_MS), (10, false), "the other one has enough");
        assert_eq!(adjusted(1, &[Limit::Total], true, 4 * HOLD_MS), (10, true));
        assert_eq!(adjusted(1, &[], true, 5 * HOLD_MS - 1), (10, true));
        assert_eq!(adjusted(1, &[], true, 5 * HOLD_MS), (0, false));
    }

    #[test]
    fn only_a_rejection_that_a_release_ends_advises_one() {
        let advises = |rejection| rejection_text(&rejection).contains("release ");
        assert!(advises(MemberRejection::Full) && advises(MemberRejection::OlderLedger));
        assert!(!advises(MemberRejection::OtherLedger));
    }

    #[test]
    fn a_member_takes_the_next_orders_but_leaves_the_others_their_share() {
        let total = |used: &SharedUsage, view| usage(&config(10_000), used, &view)[&Limit::Total];
        let reserve = |used, view| total(&used, view).reserve / 1_000;
        assert_eq!(reserve(used(0, 5), view(500, 0, 1)), 160, "a burst of orders");
        assert_eq!(reserve(used(0, 5), view(100, 0, 4)), 25, "a fourth of what is left");
        assert_eq!(reserve(used(40, 5), view(60, 60, 4)), 20, "its own rest is left, too");
        assert_eq!(reserve(used(0, 50), view(100, 0, 4)), 50, "one order needs more");
        let fast = SharedUsage { orders_per_second: 10, ..used(0, 1) };
        assert_eq!(reserve(fast.clone(), view(500, 0, 2)), 60, "six seconds of the highest rate");
        let standby = GroupView { is_standby: true, ..view(500, 0, 2) };
        let demands = usage(&config(10_000), &fast, &standby);
        assert!(demands.values().all(|usage| usage.reserve == 0), "{demands:?}");
    }

    #[test]
    fn limits_have_the_names_of_their_entries_and_no_reserve_beyond_what_is_left() {
        let demands = usage(&config(10_000), &used(50, 20), &view(500, 0, 2));
        let of = |limit| demands[&limit];
        let expected = |used, max, reserve| Usage { used, max, reserve, is_denied: false };
        assert_eq!(of(Limit::PerHour), expected(50_000, 60_000, 10_000));
        assert_eq!(of(Limit::EntryQuantity("redline".to_owned())), expected(2, 5, 1));
        assert_eq!(of(Limit::EntryTotal("redline".to_owned())).max, 30_000);
        assert_eq!(of(Limit::GroupQuantity("rifles".to_owned())).used, 2);
        assert_eq!(demands.len(), 5);
    }

    #[test]
    fn what_was_used_is_rounded_up_and_a_slice_down() {
        let config = config(6_666);
        let cent = SharedUsage {
            total: AmountUse { used: Amount::from_thousandths(1), max: coins(1) },
            ..used(0, 1)
        };
        let used_units = usage(&config, &cent, &view(500, 0, 1))[&Limit::Total].used;
        assert_eq!(used_units, 1);
        let permission = Permission {
            revision: 0,
            slices: BTreeMap::from([(Limit::Total, 1), (Limit::PerHour, 2)]),
            until_ms: 7,
            state: MemberState::Active,
            epoch: None,
            accounts: Vec::new(),
            contact_ms: Some(0),
        };
        let allowance = allowance(&config, &permission, Some(&used(0, 1)));
        assert_eq!(allowance.permit, OrderPermit::Until(UnixMs(7)));
        assert_eq!(allowance.total, Amount::from_thousandths(1));
        assert_eq!(allowance.per_hour, Amount::from_thousandths(3));
        assert_eq!(allowance.entries, [EntrySlice::default(); 2], "no slice");
        assert!(allowance.per_day <= Amount::ZERO);
    }

    #[test]
    fn only_an_active_member_is_permitted() {
        let permission = |state, contact_ms| Permission {
            revision: 0,
            slices: BTreeMap::new(),
            until_ms: i64::MIN,
            state,
            epoch: None,
            accounts: Vec::new(),
            contact_ms,
        };
        let permit = |state, contact| permit(&permission(state, contact));
        assert_eq!(permit(MemberState::NoContact, None), OrderPermit::Starting);
        assert_eq!(permit(MemberState::NoContact, Some(0)), OrderPermit::Until(UnixMs(i64::MIN)));
        assert_eq!(permit(MemberState::Standby, Some(0)), OrderPermit::Standby);
        assert!(matches!(permit(MemberState::Stopped, Some(0)), OrderPermit::Rejected(_)));
        let rejections = [
            MemberRejection::NoGroup,
            MemberRejection::OlderTables,
            MemberRejection::Restored,
            MemberRejection::OtherLedger,
            MemberRejection::Released,
            MemberRejection::Full,
            MemberRejection::OtherProcess,
        ];
        for rejection in rejections {
            let text = rejection_text(&rejection);
            assert_eq!(
                permit(MemberState::Rejected(rejection), Some(0)),
                OrderPermit::Rejected(text)
            );
        }
    }

    /// Lets the members exchange messages when they are due, until `is_done` holds. Each has an
    /// entry for one order.
    fn run(
        members: &mut [Member],
        database: &mut GroupDatabase,
        now_ms: &mut i64,
        is_done: impl Fn(&[Member], i64) -> bool,
    ) {
        let began_ms = *now_ms;
        let entry = EntryUse {
            used: EntryUsage::default(),
            max_quantity: Some(1),
            max_total: None,
            ..used(0, 200).entries.remove(0)
        };
        let used = SharedUsage { entries: vec![entry], groups: Vec::new(), ..used(0, 200) };
        while !is_done(members, *now_ms) {
            for member in &mut *members {
                let permission = member.usable(*now_ms);
                let slice = permission.slices.get(&Limit::Total).copied();
                let view = GroupView {
                    free: member.free().unwrap_or_default(),
                    slice: slice.unwrap_or_default(),
                    others: member.others().clone(),
                    is_standby: !member.may_order_soon(*now_ms),
                };
                let report = Report {
                    usage: usage(&config(10_000), &used, &view),
                    in_force: permission.revision,
                    ..Report::default()
                };
                if let Some(exchange) = member.next(&report, *now_ms) {
                    let reply = database.apply(*now_ms, &exchange);
                    member.on_reply(&exchange, &reply, *now_ms);
                }
            }
            *now_ms += 10;
            assert!(*now_ms - began_ms < 30_000, "not within 30 s: {members:?}");
        }
    }

    #[test]
    fn a_standby_holds_no_slice_that_the_active_member_needs_and_has_one_when_it_takes_over() {
        const TERM_MS: i64 = 5_000;
        let member = |name: &str| {
            Member::new(MemberSettings {
                name: MemberName(name.to_owned()),
                ledger: name.to_owned(),
                market: "waxpeer".to_owned(),
                account: "account".to_owned(),
                standby: Some("pair".to_owned()),
                seen: 0,
            })
        };
        let of = |it: &Member, now_ms, limit: &Limit| {
            it.usable(now_ms).slices.get(limit).copied().unwrap_or_default()
        };
        let one = Limit::EntryQuantity("redline".to_owned());
        let can_order = |it: &Member, now_ms| {
            let has_price = 200_000 <= of(it, now_ms, &Limit::Total);
            it.usable(now_ms).epoch.is_some() && has_price
        };
        let mut database = GroupDatabase::new(500_000, TERM_MS);
        let (mut members, mut now_ms) = ([member("a"), member("b")], 0);
        run(&mut members, &mut database, &mut now_ms, |it, now_ms| {
            can_order(&it[0], now_ms) && of(&it[0], now_ms, &one) == 1
        });
        let settled_ms = now_ms + 5_000;
        run(&mut members, &mut database, &mut now_ms, |_, now_ms| settled_ms <= now_ms);
        assert!(members[1].usable(now_ms).slices.values().all(|slice| *slice == 0));

        // The first one is killed: its slice stays, and the second one takes from the rest.
        let [_killed, second] = members;
        let (mut alone, killed_ms) = ([second], now_ms);
        run(&mut alone, &mut database, &mut now_ms, |it, now_ms| can_order(&it[0], now_ms));
        assert!(now_ms - killed_ms <= TERM_MS + 2_000, "{}", now_ms - killed_ms);
        assert_eq!(of(&alone[0], now_ms, &one), 0, "it is in the slice of the first one");

        // It is started again as a standby, and gives its slice back.
        let [second] = alone;
        let mut members = [member("a"), second];
        run(&mut members, &mut database, &mut now_ms, |it, now_ms| of(&it[1], now_ms, &one) == 1);
        assert!(can_order(&members[1], now_ms));
    }

    /// Bot with a budget of its own of 1,000 coins, and orders of 5.
    struct Bot {
        member: Member,
        holdings: Holdings,
        orders: i64,
        wants_order: bool,
        slice: i64,
    }

    impl Bot {
        fn new(name: &str) -> Self {
            let settings = MemberSettings {
                name: MemberName(name.to_owned()),
                ledger: name.to_owned(),
                market: "waxpeer".to_owned(),
                account: name.to_owned(),
                standby: None,
                seen: 0,
            };
            let (member, holdings) = (Member::new(settings), Holdings::default());
            Self { member, holdings, orders: 0, wants_order: false, slice: 0 }
        }

        /// Orders within the slice, and carries out an exchange if one is due.
        fn step(&mut self, database: &mut GroupDatabase, now_ms: i64) {
            let permission = self.member.usable(now_ms);
            self.slice = permission.slices.get(&Limit::Total).copied().unwrap_or_default();
            let has_slice = (self.orders + 1) * 5_000 <= self.slice;
            let is_denied = self.wants_order && !has_slice;
            if self.wants_order && has_slice {
                (self.orders, self.wants_order) = (self.orders + 1, false);
            }
            let all = used(self.orders * 5, 5);
            let used = SharedUsage { per_hour: None, entries: vec![], groups: vec![], ..all };
            let view = GroupView {
                free: self.member.free().unwrap_or_default(),
                slice: self.slice,
                others: self.member.others().clone(),
                is_standby: false,
            };
            let mut usage = usage(&config(10_000), &used, &view);
            let denied = if is_denied { vec![Limit::Total] } else { vec![] };
            self.holdings.adjust(&mut usage, &denied, &view.others, now_ms);
            let report = Report { usage, in_force: permission.revision, ..Report::default() };
            if let Some(exchange) = self.member.next(&report, now_ms) {
                let reply = database.apply(now_ms, &exchange);
                self.member.on_reply(&exchange, &reply, now_ms);
            }
        }
    }

    /// Lets both bots run for this time, and returns the changes of their slices.
    fn run_both(bots: &mut [Bot; 2], database: &mut GroupDatabase, until_ms: i64) -> usize {
        let mut changes = 0;
        for now_ms in (until_ms - 20 * HOLD_MS..until_ms).step_by(50) {
            let before = [bots[0].slice, bots[1].slice];
            bots.iter_mut().for_each(|bot| bot.step(database, now_ms));
            changes += usize::from(before != [bots[0].slice, bots[1].slice]);
            let slices: i64 =
                database.members().values().map(|it| it.limits[&Limit::Total].slice).sum();
            assert!(slices <= database.total(), "{slices}");
        }
        changes
    }

    #[test]
    fn the_unused_part_of_an_idle_member_moves_to_one_that_is_denied_an_order_and_stays_there() {
        let mut database = GroupDatabase::new(20_000, 5_000);
        let mut bots = [Bot::new("a"), Bot::new("b")];
        run_both(&mut bots, &mut database, 20 * HOLD_MS);
        let mut slices = |bots: &mut [Bot; 2], at: i64| {
            let changes = run_both(bots, &mut database, at * 20 * HOLD_MS);
            ([bots[0].slice, bots[1].slice], [bots[0].orders, bots[1].orders], changes)
        };
        // Each may hold half of what is left.
        bots[1].wants_order = true;
        let (_, orders, _) = slices(&mut bots, 2);
        assert_eq!(orders, [0, 1]);
        bots[1].wants_order = true;
        assert_eq!(slices(&mut bots, 3).1, [0, 2]);
        bots[1].wants_order = true;
        assert_eq!(slices(&mut bots, 4).1, [0, 3]);
        assert_eq!(slices(&mut bots, 5), ([5_000, 15_000], [0, 3], 0), "nobody lacks anything");
        // The first one is idle, and holds the last order.
        bots[1].wants_order = true;
        assert_eq!(slices(&mut bots, 6).1, [0, 4]);
        assert_eq!(slices(&mut bots, 7), ([0, 20_000], [0, 4], 0));
    }

    #[test]
    fn the_last_order_moves_back_and_forth_only_with_the_denials_of_idle_members() {
        let mut database = GroupDatabase::new(5_000, 5_000);
        let mut bots = [Bot::new("a"), Bot::new("b")];
        run_both(&mut bots, &mut database, 20 * HOLD_MS);
        assert_eq!([bots[0].slice, bots[1].slice], [5_000, 0]);
        assert_eq!(run_both(&mut bots, &mut database, 40 * HOLD_MS), 0);
        // A listing for which the slice comes too late.
        bots[1].wants_order = true;
        bots[1].step(&mut database, 40 * HOLD_MS);
        bots[1].wants_order = false;
        run_both(&mut bots, &mut database, 60 * HOLD_MS);
        assert_eq!([bots[0].slice, bots[1].slice], [0, 5_000]);
        assert_eq!(run_both(&mut bots, &mut database, 80 * HOLD_MS), 0, "both are idle");
        bots[0].wants_order = true;
        run_both(&mut bots, &mut database, 100 * HOLD_MS);
        assert_eq!([bots[0].orders, bots[1].orders], [1, 0]);
    }
}
