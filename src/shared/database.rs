//! The transaction of an [`Exchange`] as a pure function on a whole group. The store does the same
//! on the rows that it has read, and a test compares both.
//!
//! # Invariants
//!
//! 1. For each limit, the sum of the slices of all members is at most the limit, unless a member
//!    used more than its slice: because it was charged more than the approved price, or was
//!    released with less than it had spent.
//! 2. An exchange with a lower version than the row changes no slice, order or role, except that it
//!    ends the windows of a stopped member. Any other one raises the version.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;

use super::exchange::{
    Confirmed, Demand, Exchange, Limit, MEMBERS_MAX, MemberName, MemberRejection, OtherMembers,
    Peer, Reply, ReportedOrder, Role, RoleRequest,
};
use super::rules::{ProtocolRules, Rule};

/// Time without an exchange after which a member certainly orders nothing, so that a user may
/// release it: a member stops [`CONTACT_MAX_MS`](super::member::CONTACT_MAX_MS) after its last
/// exchange. The extra tenth covers clocks of different rates.
pub const SILENT_MS: i64 = 66 * 60 * 1_000;

/// Time since its last exchange within which a member is live, for shares and display.
pub const LIVE_MS: i64 = 10_000;

/// Returns the time since its last exchange after which no order of a member that was released, or
/// has stopped, is within the window of a limit; `None` for a limit without a window. The member
/// ordered nothing after [`SILENT_MS`].
pub(super) const fn outdated_ms(limit: &Limit) -> Option<i64> {
    match limit {
        Limit::PerHour => Some(2 * SILENT_MS),
        Limit::PerDay => Some(25 * SILENT_MS),
        _ => None,
    }
}

/// Returns `true` if no order of a member that was released, or has stopped, is within the window
/// of a limit.
pub(super) fn is_outdated(limit: &Limit, silent_ms: i64) -> bool {
    outdated_ms(limit).is_some_and(|after_ms| after_ms <= silent_ms)
}

/// Returns `true` if the usage in an exchange contains that of a released member, because both have
/// the same ledger. A member that has reported no approved order may have been released before they
/// were counted, so that an older copy of its ledger is not recognized.
pub(super) fn is_superseded(ledger: &str, approved: u64, exchange: &Exchange) -> bool {
    ledger == exchange.ledger && approved > 0
}

/// Row of a member and limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitRow {
    pub slice: i64,
    /// Usage as last reported.
    pub used: i64,
    /// The limit was in the member's last exchange, is not used up in its settings, and the member
    /// wants a share of it.
    pub has_rest: bool,
    /// The member was denied an order, and its last exchange gave it less than it wants.
    pub is_short: bool,
}

impl LimitRow {
    /// Returns the row after an exchange that got this slice.
    pub(super) fn after(demand: Demand, slice: i64) -> Self {
        Self {
            slice,
            used: demand.used.max(0),
            has_rest: demand.used < demand.max,
            is_short: demand.is_denied && slice < demand.wanted,
        }
    }

    /// Returns the row after an exchange without its limit.
    pub(super) const fn unmentioned(self) -> Self {
        Self { has_rest: false, is_short: false, ..self }
    }
}

/// Row of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberRow {
    pub ledger: String,
    pub market: String,
    pub account: String,
    pub standby: Option<String>,
    /// Rises with every exchange that was carried out, and with the release.
    pub version: u64,
    /// Time of the last exchange by the clock of the database, in Unix milliseconds.
    pub seen_ms: i64,
    pub is_released: bool,
    /// `true` if the member gave everything back in its last exchange, so that it has stopped. A
    /// mark of the group as restored ends it.
    pub has_stopped: bool,
    /// Orders that the ledger of the member had approved.
    pub approved: u64,
    /// As the member said in its last exchange.
    pub can_order: bool,
    pub whitelist: u64,
    pub limits: BTreeMap<Limit, LimitRow>,
    pub orders: BTreeMap<u32, ReportedOrder>,
}

/// Row of a standby name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RoleRow {
    role: Role,
    renewed_ms: i64,
}

/// Reason why a group stays marked, or a member is not released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    NoMember,
    /// The member had an exchange within [`SILENT_MS`].
    NotSilent,
    /// The member has reported more as used than it would be released with.
    LessThanReported,
    /// These members have not reported since the group was marked.
    NotReported(Vec<MemberName>),
}

/// Group of members with their slices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupDatabase {
    total: i64,
    term_ms: i64,
    sequence: u64,
    is_restored: bool,
    members: BTreeMap<MemberName, MemberRow>,
    roles: BTreeMap<String, RoleRow>,
    pub(super) rules: ProtocolRules,
}

impl GroupDatabase {
    /// Creates a group without members, as `sniper shared init` does.
    pub fn new(total: i64, term_ms: i64) -> Self {
        Self {
            total,
            term_ms,
            sequence: 0,
            is_restored: false,
            members: BTreeMap::new(),
            roles: BTreeMap::new(),
            rules: ProtocolRules::default(),
        }
    }

    /// Carries out an exchange. `now_ms` is the wall clock of the database, in Unix milliseconds.
    pub fn apply(&mut self, now_ms: i64, exchange: &Exchange) -> Reply {
        let row = self.members.get(&exchange.member);
        if row.is_some_and(|row| row.ledger != exchange.ledger) {
            return Reply::Rejected(MemberRejection::OtherLedger);
        }
        if row.is_some_and(|row| row.is_released) {
            self.record_released(now_ms, exchange);
            return Reply::Rejected(MemberRejection::Released);
        }
        let mut of_ledger = self.members.values().filter(|row| row.ledger == exchange.ledger);
        if of_ledger.any(|row| exchange.approved < row.approved)
            && self.rules.hold(Rule::NewestLedger)
        {
            return Reply::Rejected(MemberRejection::OlderLedger);
        }
        let members = self.members.values().filter(|row| !row.is_released);
        if row.is_none() && members.count() >= MEMBERS_MAX {
            return Reply::Rejected(MemberRejection::Full);
        }
        let version = row.map_or(0, |row| row.version);
        self.end_windows(now_ms, &exchange.member);
        if (exchange.seen > self.sequence || exchange.version > version)
            && self.rules.hold(Rule::Restored)
        {
            self.mark_restored(now_ms, exchange.seen);
        }
        if exchange.version < version && self.rules.hold(Rule::Version) {
            if let Some(row) = self.members.get_mut(&exchange.member) {
                row.seen_ms = now_ms;
            }
            return Reply::Stale(self.confirmed(now_ms, exchange));
        }
        self.change(now_ms, exchange, version.max(exchange.version));
        if self.is_restored {
            return Reply::Rejected(MemberRejection::Restored);
        }
        self.change_role(now_ms, exchange);
        Reply::Done(self.confirmed(now_ms, exchange))
    }

    /// Ends the slices of a stopped member whose orders have left the window. Others may have them.
    fn end_windows(&mut self, now_ms: i64, member: &MemberName) {
        let Some(row) = self.members.get_mut(member).filter(|row| row.has_stopped) else { return };
        let silent_ms = now_ms.saturating_sub(row.seen_ms);
        for (limit, row) in &mut row.limits {
            if is_outdated(limit, silent_ms) {
                *row = LimitRow::default();
            }
        }
    }

    /// Marks the group as restored. Slices that were given since the backup may be lost, so no
    /// earlier stop of a member is valid, and its last contact may be later than the one in the
    /// backup.
    fn mark_restored(&mut self, now_ms: i64, seen: u64) {
        self.is_restored = true;
        for row in self.members.values_mut() {
            row.has_stopped = false;
            if self.rules.hold(Rule::MarkIsContact) {
                row.seen_ms = now_ms;
            }
        }
        self.sequence = self.sequence.max(seen);
    }

    /// Records the usage of a released member that still runs. It was spent, even if it exceeds the
    /// amount of the release.
    fn record_released(&mut self, now_ms: i64, exchange: &Exchange) {
        let Some(row) = self.members.get_mut(&exchange.member) else { return };
        row.seen_ms = now_ms;
        row.approved = row.approved.max(exchange.approved);
        for (limit, demand) in &exchange.demands {
            let limit = row.limits.entry(limit.clone()).or_default();
            limit.used = limit.used.max(demand.used);
            limit.slice = limit.slice.max(demand.used);
        }
    }

    /// Changes the member's row.
    fn change(&mut self, now_ms: i64, exchange: &Exchange, version: u64) {
        let slices: Vec<LimitRow> = exchange
            .demands
            .iter()
            .map(|(limit, demand)| {
                let slice = self.slice(&exchange.member, now_ms, limit, *demand);
                LimitRow::after(*demand, slice)
            })
            .collect();
        for row in self.members.values_mut().filter(|row| row.is_released) {
            if is_superseded(&row.ledger, row.approved, exchange)
                || !self.rules.hold(Rule::SameLedger)
            {
                let limits = row.limits.iter_mut();
                let reported = limits.filter(|(limit, _)| exchange.demands.contains_key(*limit));
                reported.for_each(|(_, row)| *row = LimitRow::default());
            }
        }
        let row = self.members.entry(exchange.member.clone()).or_default();
        row.ledger.clone_from(&exchange.ledger);
        row.market.clone_from(&exchange.market);
        row.account.clone_from(&exchange.account);
        row.standby.clone_from(&exchange.standby);
        row.version = version.saturating_add(1);
        row.seen_ms = now_ms;
        row.limits.values_mut().for_each(|row| *row = row.unmentioned());
        row.limits.extend(exchange.demands.keys().cloned().zip(slices));
        row.orders.extend(exchange.orders.iter().map(|order| (order.sequence, order.clone())));
        row.has_stopped = exchange.demands.values().all(|it| it.wanted <= 0);
        row.approved = exchange.approved;
        row.can_order = exchange.can_order;
        row.whitelist = exchange.whitelist;
        self.sequence = self.sequence.saturating_add(1);
    }

    /// Returns the slice that a demand gets.
    fn slice(&self, member: &MemberName, now_ms: i64, limit: &Limit, demand: Demand) -> i64 {
        let slice = self.slice_of(member, limit);
        let max = if *limit == Limit::Total { self.total } else { demand.max };
        let free = max.saturating_sub(self.sum(limit, now_ms)).max(0);
        let granted = if demand.wanted <= slice {
            demand.wanted
        } else if self.is_restored {
            slice
        } else if self.rules.hold(Rule::Limit) {
            slice.saturating_add(free.min(demand.wanted.saturating_sub(slice)))
        } else {
            demand.wanted
        };
        let used = if self.rules.hold(Rule::UsedIsKept) { demand.used } else { 0 };
        granted.max(used).max(0)
    }

    fn slice_of(&self, member: &MemberName, limit: &Limit) -> i64 {
        self.members.get(member).and_then(|row| row.limits.get(limit)).map_or(0, |it| it.slice)
    }

    /// Returns the sum of the slices of all members, except of released and stopped ones whose
    /// orders have left the window.
    fn sum(&self, limit: &Limit, now_ms: i64) -> i64 {
        let counts = |row: &&MemberRow| {
            let is_outdated = is_outdated(limit, now_ms.saturating_sub(row.seen_ms));
            !(is_outdated && (row.is_released || row.has_stopped))
        };
        let counting = self.members.values().filter(counts);
        let slices = counting.filter_map(|row| row.limits.get(limit));
        slices.fold(0, |sum, it| sum.saturating_add(it.slice))
    }

    fn change_role(&mut self, now_ms: i64, exchange: &Exchange) {
        let Some(standby) = &exchange.standby else { return };
        let (member, rules, term_ms) = (&exchange.member, self.rules, self.term_ms);
        let row = self.roles.get_mut(standby);
        let is_own =
            |role: &Role, epoch| role.active == *member && role.epoch == epoch && !role.is_resigned;
        match (exchange.role, row) {
            (RoleRequest::Renew { epoch }, Some(row)) if is_own(&row.role, epoch) => {
                row.role.renewals = row.role.renewals.saturating_add(1);
                row.renewed_ms = now_ms;
            }
            (RoleRequest::Renew { epoch }, Some(row)) if !rules.hold(Rule::RenewOwn) => {
                (row.role.active, row.role.epoch) = (member.clone(), epoch);
                row.renewed_ms = now_ms;
            }
            (RoleRequest::Resign { epoch }, Some(row)) if is_own(&row.role, epoch) => {
                row.role.is_resigned = true;
            }
            (RoleRequest::TakeOver { epoch, renewals }, row) => {
                let is_observed =
                    row.as_ref().map_or((0, 0), |row| (row.role.epoch, row.role.renewals))
                        == (epoch, renewals);
                // A clock that was set back must not prevent every takeover: the term is observed
                // by the member, too.
                let has_ended = row.as_ref().is_none_or(|row| {
                    row.role.is_resigned
                        || now_ms >= row.renewed_ms.saturating_add(term_ms)
                        || now_ms < row.renewed_ms
                });
                if (is_observed || !rules.hold(Rule::TakeOverObserved))
                    && (has_ended || !rules.hold(Rule::TakeOverClock))
                {
                    let role = Role {
                        active: member.clone(),
                        epoch: row.map_or(0, |row| row.role.epoch).saturating_add(1),
                        renewals: 0,
                        since_ms: now_ms,
                        is_resigned: false,
                    };
                    self.roles.insert(standby.clone(), RoleRow { role, renewed_ms: now_ms });
                }
            }
            _ => {}
        }
    }

    fn confirmed(&self, now_ms: i64, exchange: &Exchange) -> Confirmed {
        let row = self.members.get(&exchange.member);
        let limits = row.map(|row| &row.limits).into_iter().flatten();
        let peers = self.members.iter().filter(|(name, _)| **name != exchange.member);
        // Without the rule, the database does not know that a limit is exceeded.
        let sum = if self.rules.hold(Rule::Limit) { self.sum(&Limit::Total, now_ms) } else { 0 };
        Confirmed {
            version: row.map_or(0, |row| row.version),
            sequence: self.sequence,
            slices: limits.map(|(limit, row)| (limit.clone(), row.slice)).collect(),
            others: self.others(now_ms, exchange),
            free: self.total.saturating_sub(sum),
            role: exchange.standby.as_ref().and_then(|name| self.role(name)).cloned(),
            term_ms: self.term_ms,
            peers: peers
                .filter(|(_, row)| !row.is_released)
                .map(|(name, row)| Peer {
                    name: name.clone(),
                    market: row.market.clone(),
                    account: row.account.clone(),
                    standby: row.standby.clone(),
                    version: row.version,
                    can_order: row.can_order,
                    whitelist: row.whitelist,
                    silent_ms: now_ms.saturating_sub(row.seen_ms).max(0),
                    slice: row.limits.get(&Limit::Total).map_or(0, |it| it.slice),
                    used: row.limits.get(&Limit::Total).map_or(0, |it| it.used),
                })
                .collect(),
        }
    }

    /// Returns the other live members of each limit in an exchange. No rule depends on them.
    fn others(&self, now_ms: i64, exchange: &Exchange) -> BTreeMap<Limit, OtherMembers> {
        let is_live = |(name, row): &(&MemberName, &MemberRow)| {
            let is_other = **name != exchange.member && !row.is_released;
            is_other && now_ms.saturating_sub(row.seen_ms) < LIVE_MS
        };
        let mut others: BTreeMap<Limit, OtherMembers> = BTreeMap::new();
        for (_, member) in self.members.iter().filter(is_live) {
            let of_exchange = |(limit, row): &(&Limit, &LimitRow)| {
                row.has_rest && exchange.demands.contains_key(*limit)
            };
            for (limit, row) in member.limits.iter().filter(of_exchange) {
                let others = others.entry(limit.clone()).or_default();
                others.count = others.count.saturating_add(1);
                others.is_short |= row.is_short;
            }
        }
        others
    }

    /// Returns the role of a standby name.
    pub fn role(&self, standby: &str) -> Option<&Role> {
        self.roles.get(standby).map(|row| &row.role)
    }

    /// Returns the members with their rows.
    pub const fn members(&self) -> &BTreeMap<MemberName, MemberRow> {
        &self.members
    }

    pub const fn total(&self) -> i64 {
        self.total
    }

    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub const fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Returns the orders of all members with this account, as far as they were reported.
    pub fn orders(&self, account: &str) -> impl Iterator<Item = (&MemberName, &ReportedOrder)> {
        let rows = self.members.iter().filter(move |(_, row)| row.account == account);
        rows.flat_map(|(name, row)| row.orders.values().map(move |order| (name, order)))
    }

    /// Sets the group's `total`, as `sniper shared set` does.
    pub const fn set_total(&mut self, total: i64) {
        self.total = total;
        self.sequence = self.sequence.saturating_add(1);
    }

    /// Releases a member that is gone, with what it spent, as `sniper shared release` does. Its
    /// slices become `spent`; a limit that `spent` does not mention keeps its slice.
    ///
    /// # Errors
    ///
    /// Fails if the member does not exist, or had an exchange within [`SILENT_MS`] and `is_stopped`
    /// does not declare that its process does not run, or it has reported more than `spent`.
    pub fn release(
        &mut self,
        now_ms: i64,
        member: &MemberName,
        spent: &BTreeMap<Limit, i64>,
        is_stopped: bool,
    ) -> Result<(), Denial> {
        let row = self.members.get_mut(member).ok_or(Denial::NoMember)?;
        let is_silent = now_ms.saturating_sub(row.seen_ms) >= SILENT_MS;
        if !is_stopped && !is_silent && self.rules.hold(Rule::Silent) {
            return Err(Denial::NotSilent);
        }
        let used = |limit| row.limits.get(limit).map_or(0, |row| row.used);
        if spent.iter().any(|(limit, spent)| *spent < used(limit)) {
            return Err(Denial::LessThanReported);
        }
        row.is_released = true;
        row.version = row.version.saturating_add(1);
        for (limit, spent) in spent {
            let spent = (*spent).max(0);
            let row = row.limits.entry(limit.clone()).or_default();
            (row.slice, row.used) = (spent, spent);
        }
        self.sequence = self.sequence.saturating_add(1);
        Ok(())
    }

    /// Ends the mark of a restored group and sets its `total`, as `sniper shared set --restored`
    /// does.
    ///
    /// # Errors
    ///
    /// Fails if a member that is not released has not stopped and reported since.
    pub fn end_restored(&mut self, total: i64) -> Result<(), Denial> {
        let running = self.members.iter().filter(|(_, row)| !row.is_released && !row.has_stopped);
        let missing: Vec<MemberName> = running.map(|(name, _)| name.clone()).collect();
        if self.is_restored && !missing.is_empty() && self.rules.hold(Rule::AllReported) {
            return Err(Denial::NotReported(missing));
        }
        self.is_restored = false;
        self.set_total(total);
        Ok(())
    }
}
