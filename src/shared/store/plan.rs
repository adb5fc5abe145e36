//! Computes the changes of one exchange from the rows that its transaction has read. Pure.
//!
//! It repeats the rules of [`GroupDatabase`](crate::shared::database::GroupDatabase) on rows
//! instead of on the whole group; a test compares both.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;

use super::super::database::{LimitRow, is_outdated, is_superseded};
use super::super::exchange::{
    Confirmed, Demand, Exchange, Limit, MEMBERS_MAX, MemberName, MemberRejection, OtherMembers,
    Peer, Reply, Role, RoleRequest,
};

/// Row of a group.
#[derive(Clone, Debug)]
pub(super) struct GroupRow {
    pub(super) total: i64,
    pub(super) term_ms: i64,
    pub(super) sequence: i64,
    pub(super) is_restored: bool,
}

/// Row of a member, without its slices.
#[derive(Clone, Debug)]
pub(super) struct MemberRecord {
    pub(super) name: MemberName,
    pub(super) ledger: String,
    pub(super) market: String,
    pub(super) account: String,
    pub(super) standby: Option<String>,
    pub(super) version: i64,
    pub(super) seen_ms: i64,
    pub(super) is_released: bool,
    pub(super) has_stopped: bool,
    pub(super) can_order: bool,
    pub(super) whitelist: u64,
    pub(super) approved: u64,
    /// Slice of the total, as read.
    pub(super) total: LimitRow,
}

/// Row of a role.
#[derive(Clone, Debug)]
pub(super) struct RoleRecord {
    pub(super) role: Role,
    pub(super) renewed_ms: i64,
}

/// Rows that a transaction has read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) now_ms: i64,
    pub(super) group: GroupRow,
    /// All members of the group.
    pub(super) members: Vec<MemberRecord>,
    /// Slices of the member.
    pub(super) slices: BTreeMap<Limit, LimitRow>,
    /// Sums of the slices of the other members: of `total`, and of every limit that may rise.
    pub(super) sums: BTreeMap<Limit, i64>,
    /// Other live members of each limit in the exchange.
    pub(super) others: BTreeMap<Limit, OtherMembers>,
    pub(super) role: Option<RoleRecord>,
}

impl Found {
    /// Returns `true` if a member had a newer state of the ledger.
    fn has_newer(&self, exchange: &Exchange) -> bool {
        let mut of_ledger = self.members.iter().filter(|row| row.ledger == exchange.ledger);
        of_ledger.any(|row| exchange.approved < row.approved)
    }

    /// Ends the slices of a stopped member whose orders have left the window, and returns them.
    fn end_windows(&mut self, own: Option<&MemberRecord>) -> BTreeMap<Limit, LimitRow> {
        let Some(own) = own.filter(|own| own.has_stopped) else { return BTreeMap::new() };
        let silent_ms = self.now_ms.saturating_sub(own.seen_ms);
        let ended = self.slices.keys().filter(|limit| is_outdated(limit, silent_ms));
        let ended: BTreeMap<_, _> = ended.map(|it| (it.clone(), LimitRow::default())).collect();
        self.slices.extend(ended.clone());
        ended
    }

    /// Returns the names of the released members whose usage of the limits in the exchange is part
    /// of that of this ledger, and takes their slices out of the sum.
    fn supersede(&mut self, exchange: &Exchange) -> Vec<String> {
        let rows = self
            .members
            .iter()
            .filter(|row| row.is_released && is_superseded(&row.ledger, row.approved, exchange));
        let sum = self.sums.entry(Limit::Total).or_default();
        rows.map(|row| {
            if exchange.demands.contains_key(&Limit::Total) {
                *sum = sum.saturating_sub(row.total.slice);
            }
            row.name.0.clone()
        })
        .collect()
    }

    /// Marks the group as restored. No member has stopped since, and each may be running.
    fn mark_restored(&mut self, seen: i64) {
        self.group.is_restored = true;
        self.group.sequence = self.group.sequence.max(seen);
        for member in &mut self.members {
            (member.has_stopped, member.seen_ms) = (false, self.now_ms);
        }
    }
}

/// Writes of a transaction, and its reply.
#[derive(Clone, Debug)]
pub(super) struct ExchangePlan {
    pub(super) reply: Reply,
    pub(super) group: Option<GroupRow>,
    /// `true` if this exchange marked the group as restored.
    pub(super) is_marked: bool,
    pub(super) member: Option<MemberRecord>,
    pub(super) slices: BTreeMap<Limit, LimitRow>,
    /// Members whose slices of the limits in the exchange become 0.
    pub(super) superseded: Vec<String>,
    pub(super) role: Option<RoleRecord>,
    pub(super) has_orders: bool,
}

impl ExchangePlan {
    /// Returns a plan that writes nothing.
    const fn without_writes(reply: Reply) -> Self {
        Self {
            reply,
            group: None,
            is_marked: false,
            member: None,
            slices: BTreeMap::new(),
            superseded: Vec::new(),
            role: None,
            has_orders: false,
        }
    }
}

/// Returns the limits whose sum the exchange needs.
pub(super) fn summed(exchange: &Exchange, slices: &BTreeMap<Limit, LimitRow>) -> Vec<Limit> {
    let rises = |(limit, demand): &(&Limit, &Demand)| match limit {
        Limit::Total => false,
        // The slice of a window may have ended.
        Limit::PerHour | Limit::PerDay => 0 < demand.wanted,
        _ => slices.get(limit).map_or(0, |row| row.slice) < demand.wanted,
    };
    let rising = exchange.demands.iter().filter(rises).map(|(limit, _)| limit.clone());
    std::iter::once(Limit::Total).chain(rising).collect()
}

/// Returns the writes of an exchange, and its reply.
pub(super) fn plan(found: &mut Found, exchange: &Exchange) -> ExchangePlan {
    let own = found.members.iter().find(|member| member.name == exchange.member).cloned();
    let rejected = |why| ExchangePlan::without_writes(Reply::Rejected(why));
    match &own {
        Some(own) if own.ledger != exchange.ledger => {
            return rejected(MemberRejection::OtherLedger);
        }
        Some(own) if own.is_released => return released(found, own, exchange),
        _ if found.has_newer(exchange) => return rejected(MemberRejection::OlderLedger),
        None if found.members.iter().filter(|it| !it.is_released).count() >= MEMBERS_MAX => {
            return rejected(MemberRejection::Full);
        }
        _ => {}
    }
    let version = own.as_ref().map_or(0, |own| own.version);
    let ended = found.end_windows(own.as_ref());
    let (seen, requested) = (number(exchange.seen), number(exchange.version));
    let is_marked = seen > found.group.sequence || requested > version;
    if is_marked {
        found.mark_restored(seen);
    }
    if requested < version {
        let member = own.map(|own| MemberRecord {
            seen_ms: found.now_ms,
            has_stopped: own.has_stopped && !is_marked,
            ..own
        });
        let state = View { found, slices: &found.slices, role: &found.role };
        let reply = Reply::Stale(state.confirmed(exchange, version));
        let group = is_marked.then(|| found.group.clone());
        let slices = ended;
        let plan = ExchangePlan::without_writes(reply);
        return ExchangePlan { group, is_marked, member, slices, ..plan };
    }
    let plan = changed(found, exchange, version.max(requested), is_marked);
    ExchangePlan { slices: ended.into_iter().chain(plan.slices).collect(), ..plan }
}

/// Records the usage of a released member that still runs. It was spent, even if it exceeds the
/// amount of the release.
fn released(found: &Found, own: &MemberRecord, exchange: &Exchange) -> ExchangePlan {
    let raised = exchange.demands.iter().map(|(limit, demand)| {
        let row = found.slices.get(limit).copied().unwrap_or_default();
        let (used, slice) = (row.used.max(demand.used), row.slice.max(demand.used));
        (limit.clone(), LimitRow { slice, used, ..row })
    });
    ExchangePlan {
        member: Some(MemberRecord {
            seen_ms: found.now_ms,
            approved: own.approved.max(exchange.approved),
            ..own.clone()
        }),
        slices: raised.collect(),
        ..ExchangePlan::without_writes(Reply::Rejected(MemberRejection::Released))
    }
}

fn changed(found: &mut Found, exchange: &Exchange, version: i64, is_marked: bool) -> ExchangePlan {
    let slices: Vec<(Limit, LimitRow)> = exchange
        .demands
        .iter()
        .map(|(limit, demand)| {
            let slice = granted(found, limit, *demand);
            (limit.clone(), LimitRow::after(*demand, slice))
        })
        .collect();
    let unmentioned = found.slices.iter().filter(|(it, _)| !exchange.demands.contains_key(*it));
    let unmentioned = unmentioned.map(|(limit, row)| (limit.clone(), row.unmentioned()));
    let slices: Vec<(Limit, LimitRow)> = slices.into_iter().chain(unmentioned).collect();
    let version = version.saturating_add(1);
    found.group.sequence = found.group.sequence.saturating_add(1);
    let superseded = found.supersede(exchange);
    let member = MemberRecord {
        name: exchange.member.clone(),
        ledger: exchange.ledger.clone(),
        market: exchange.market.clone(),
        account: exchange.account.clone(),
        standby: exchange.standby.clone(),
        version,
        seen_ms: found.now_ms,
        is_released: false,
        has_stopped: exchange.demands.values().all(|demand| demand.wanted <= 0),
        can_order: exchange.can_order,
        whitelist: exchange.whitelist,
        approved: exchange.approved,
        total: LimitRow::default(),
    };
    let is_changed = |row: &&(Limit, LimitRow)| found.slices.get(&row.0) != Some(&row.1);
    let written: BTreeMap<_, _> = slices.iter().filter(is_changed).cloned().collect();
    let mut plan = ExchangePlan {
        group: Some(found.group.clone()),
        is_marked,
        member: Some(member),
        slices: written,
        superseded,
        has_orders: !exchange.orders.is_empty(),
        ..ExchangePlan::without_writes(Reply::Rejected(MemberRejection::Restored))
    };
    if found.group.is_restored {
        return plan;
    }
    plan.role = changed_role(found, exchange);
    let mut all = found.slices.clone();
    all.extend(slices);
    let role = plan.role.clone().or_else(|| found.role.clone());
    let state = View { found, slices: &all, role: &role };
    plan.reply = Reply::Done(state.confirmed(exchange, version));
    plan
}

/// Returns the slice that a demand gets.
fn granted(found: &Found, limit: &Limit, demand: Demand) -> i64 {
    let slice = found.slices.get(limit).map_or(0, |row| row.slice);
    let max = if *limit == Limit::Total { found.group.total } else { demand.max };
    let sum = found.sums.get(limit).copied().unwrap_or(0);
    let free = max.saturating_sub(sum).saturating_sub(slice).max(0);
    let granted = if demand.wanted <= slice {
        demand.wanted
    } else if found.group.is_restored {
        slice
    } else {
        slice.saturating_add(free.min(demand.wanted.saturating_sub(slice)))
    };
    granted.max(demand.used).max(0)
}

/// Returns the row of the role if the exchange changes it.
fn changed_role(found: &Found, exchange: &Exchange) -> Option<RoleRecord> {
    exchange.standby.as_ref()?;
    let (row, now_ms) = (found.role.as_ref(), found.now_ms);
    let own = |epoch: u64| {
        let is_own = |row: &&RoleRecord| {
            let role = &row.role;
            role.active == exchange.member && role.epoch == epoch && !role.is_resigned
        };
        row.filter(is_own).cloned()
    };
    match exchange.role {
        RoleRequest::None | RoleRequest::Watch => None,
        RoleRequest::Renew { epoch } => {
            let mut row = own(epoch)?;
            row.role.renewals = row.role.renewals.saturating_add(1);
            row.renewed_ms = now_ms;
            Some(row)
        }
        RoleRequest::Resign { epoch } => {
            let mut row = own(epoch)?;
            row.role.is_resigned = true;
            Some(row)
        }
        RoleRequest::TakeOver { epoch, renewals } => {
            let current = row.map_or((0, 0), |row| (row.role.epoch, row.role.renewals));
            // A clock that was set back must not prevent every takeover.
            let has_ended = row.is_none_or(|row| {
                row.role.is_resigned
                    || now_ms >= row.renewed_ms.saturating_add(found.group.term_ms)
                    || now_ms < row.renewed_ms
            });
            let role = Role {
                active: exchange.member.clone(),
                epoch: current.0.saturating_add(1),
                renewals: 0,
                since_ms: now_ms,
                is_resigned: false,
            };
            let is_allowed = current == (epoch, renewals) && has_ended;
            is_allowed.then_some(RoleRecord { role, renewed_ms: now_ms })
        }
    }
}

/// State of the database after an exchange.
struct View<'a> {
    found: &'a Found,
    slices: &'a BTreeMap<Limit, LimitRow>,
    role: &'a Option<RoleRecord>,
}

impl View<'_> {
    fn confirmed(&self, exchange: &Exchange, version: i64) -> Confirmed {
        let (found, group) = (self.found, &self.found.group);
        let total = self.slices.get(&Limit::Total);
        let sum = found.sums.get(&Limit::Total).copied().unwrap_or(0);
        let sum = sum.saturating_add(total.map_or(0, |row| row.slice));
        let peers = found.members.iter().filter(|it| it.name != exchange.member && !it.is_released);
        let mut peers: Vec<Peer> = peers
            .map(|row| Peer {
                name: row.name.clone(),
                market: row.market.clone(),
                account: row.account.clone(),
                standby: row.standby.clone(),
                version: unsigned(row.version),
                can_order: row.can_order,
                whitelist: row.whitelist,
                silent_ms: found.now_ms.saturating_sub(row.seen_ms).max(0),
                slice: row.total.slice,
                used: row.total.used,
            })
            .collect();
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        Confirmed {
            version: unsigned(version),
            sequence: unsigned(group.sequence),
            slices: self.slices.iter().map(|(limit, row)| (limit.clone(), row.slice)).collect(),
            others: found.others.clone(),
            free: group.total.saturating_sub(sum),
            role: exchange.standby.as_ref().and(self.role.as_ref()).map(|row| row.role.clone()),
            term_ms: group.term_ms,
            peers,
        }
    }
}

/// Converts a count into the type of the database.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Converts a count of the database, which is never negative.
pub(super) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
