//! The member's side of the protocol as a pure state machine. Times are milliseconds of a clock
//! that includes suspends; they are compared with each other only.
//!
//! The caller sends one exchange at a time: it calls [`Member::next`], then [`Member::on_reply`] or
//! [`Member::on_failure`]. After each of these calls it passes [`Member::usable`] to the ledger.
//!
//! # Invariants
//!
//! 1. [`Member::usable`] never permits more of a limit than the member's slice in the database,
//!    except for amounts that were already used.
//! 2. It permits nothing after the term of an active member or [`CONTACT_MAX_MS`] after the last
//!    contact.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::collections::BTreeMap;

use super::exchange::{
    Confirmed, Demand, Exchange, LIMITS_MAX, Limit, MemberName, MemberRejection, OtherMembers,
    Peer, REPORTS_MAX, Reply, ReportedOrder, RoleRequest,
};
use super::rules::{ProtocolRules, Rule};
use super::slice::{DemandContext, Slice};
use super::standby::{RoleReply, Standby, last_moment};

/// Time that a raise of a slice waits for its second confirmation. A database that loses at most
/// its commits of the last two seconds loses nothing that is used.
pub const SETTLE_MS: i64 = 2_000;
/// Time after the sending of the last confirmed exchange after which nothing is approved.
pub const CONTACT_MAX_MS: i64 = 60 * 60 * 1_000;
/// Time between two exchanges.
const INTERVAL_MS: i64 = 1_000;
/// Time between two exchanges of a standby. It is short, so that a standby sees each renewal soon.
const WATCH_INTERVAL_MS: i64 = 500;
/// Time before a takeover at which a standby takes slices, so that they have settled.
const SLICE_LEAD_MS: i64 = SETTLE_MS + INTERVAL_MS;
/// Time without a renewal before which it takes none.
const OVERDUE_MS: i64 = 2 * INTERVAL_MS;
/// Time between two exchanges if a limit needs more, and after a stale one.
const NEED_INTERVAL_MS: i64 = 100;
/// Time between two exchanges of a rejected member.
const REJECTED_INTERVAL_MS: i64 = 10_000;
/// Number of versions by another process after which the member stops. One may be due to a late
/// exchange of this member before its restart.
const FOREIGN_VERSIONS_MAX: u32 = 2;

/// Identity of a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberSettings {
    pub name: MemberName,
    /// Id of the ledger.
    pub ledger: String,
    pub market: String,
    /// Hash of the account; empty if there is none.
    pub account: String,
    pub standby: Option<String>,
    /// Highest [`Member::seen`] before the start; 0 if it was not kept.
    pub seen: u64,
}

/// Usage of a limit by the ledger, and the amount that it needs for the next seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Sum of reserved, spent, unknown and returning orders.
    pub used: i64,
    /// The limit in the settings. `i64::MAX` for [`Limit::Total`].
    pub max: i64,
    /// Amount for the orders of the next seconds.
    pub reserve: i64,
    /// As [`Demand::is_denied`].
    pub is_denied: bool,
}

/// State of the ledger for an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// At most [`LIMITS_MAX`].
    pub usage: BTreeMap<Limit, Usage>,
    /// Orders that changed since they were last stored; the first [`REPORTS_MAX`] are sent.
    pub orders: Vec<ReportedOrder>,
    /// [`Permission::revision`] that applied in the ledger when `usage` was read. A part of a slice
    /// is given back only after the ledger uses the lower slice.
    pub in_force: u64,
    /// The ledger and the whitelist permit orders.
    pub can_order: bool,
    /// The member could not order for a while, so the others do not share a limit with it.
    pub is_idle: bool,
    /// As [`Exchange::whitelist`].
    pub whitelist: u64,
    /// As [`Exchange::approved`].
    pub approved: u64,
}

/// State of a member, which decides whether it may order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberState {
    Active,
    /// Another member with the same standby name is active, or none yet.
    Standby,
    /// No exchange was confirmed yet, or the last one is older than [`CONTACT_MAX_MS`]. With
    /// standbys, also if it is older than the time for which a renewal makes a member active.
    NoContact,
    Rejected(MemberRejection),
    /// [`Member::stop`] was called.
    Stopped,
}

/// Permission for the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// Rises with every change that may lower what is permitted.
    pub revision: u64,
    /// Maximum usage of each limit. A limit that is absent permits nothing.
    pub slices: BTreeMap<Limit, i64>,
    /// Nothing is approved at this moment or later.
    pub until_ms: i64,
    pub state: MemberState,
    /// Epoch of an active member with standbys.
    pub epoch: Option<u64>,
    /// Accounts of the live members on the member's market that can order, with its own, for
    /// [`split::owner`](super::split::owner).
    pub accounts: Vec<String>,
    /// Time at which the last confirmed exchange was sent.
    pub contact_ms: Option<i64>,
}

/// Exchange without a reply so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    attempt: u64,
    at_ms: i64,
}

/// Another member, and the time at which its version changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SeenPeer {
    peer: Peer,
    changed_ms: i64,
}

/// State of a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    settings: MemberSettings,
    pub(super) rules: ProtocolRules,
    version: u64,
    seen: u64,
    /// As last sent.
    whitelist: u64,
    attempt: u64,
    sent: Option<Sent>,
    /// Number of exchanges since the last reply with a version, including the pending one.
    unanswered: u64,
    /// Number of replies with a version that this process cannot have caused.
    foreign_versions: u32,
    last_sent_ms: Option<i64>,
    /// `true` if the next exchange need not wait for its interval.
    is_urgent: bool,
    /// Last reply with the state of the database.
    latest: Option<Latest>,
    rejection: Option<MemberRejection>,
    is_stopping: bool,
    is_stopped: bool,
    revision: u64,
    /// Revision at which the member stopped or was rejected.
    stop_revision: u64,
    slices: BTreeMap<Limit, Slice>,
    standby: Standby,
    peers: BTreeMap<MemberName, SeenPeer>,
    /// As of the last reply.
    others: BTreeMap<Limit, OtherMembers>,
}

/// Facts of the last reply with the state of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Latest {
    sent_ms: i64,
    received_ms: i64,
    term_ms: i64,
    free: i64,
}

impl Member {
    pub fn new(settings: MemberSettings) -> Self {
        Self {
            seen: settings.seen,
            settings,
            rules: ProtocolRules::default(),
            version: 0,
            whitelist: 0,
            attempt: 0,
            sent: None,
            unanswered: 0,
            foreign_versions: 0,
            last_sent_ms: None,
            is_urgent: false,
            latest: None,
            rejection: None,
            is_stopping: false,
            is_stopped: false,
            revision: 0,
            stop_revision: 0,
            slices: BTreeMap::new(),
            standby: Standby::default(),
            peers: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// Returns the highest sequence number of the group that the member has seen. It is kept across
    /// restarts, so that a restarted member detects a restored database.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the remainder of the group's `total`, as of the last reply.
    pub fn free(&self) -> Option<i64> {
        self.latest.map(|latest| latest.free)
    }

    /// Iterates over the limits of which the group had nothing left for this member.
    pub fn exhausted(&self) -> impl Iterator<Item = &Limit> {
        self.slices.iter().filter(|(_, slice)| slice.is_used_up()).map(|(limit, _)| limit)
    }

    /// Iterates over the other members, as of the last reply.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.peers.values().map(|seen| &seen.peer)
    }

    /// Returns the other live members of each limit, as of the last reply.
    pub const fn others(&self) -> &BTreeMap<Limit, OtherMembers> {
        &self.others
    }

    /// Stops approving permanently. The next exchange gives back what is not used, and the role.
    pub const fn stop(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.is_urgent = true;
            self.revision = self.revision.saturating_add(1);
            self.stop_revision = self.revision;
        }
    }

    /// Returns `true` after [`Self::stop`] when nothing is left to give back.
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Returns the time of the next exchange, if no limit needs more before.
    pub fn next_at(&self) -> i64 {
        let Some(last_ms) = self.last_sent_ms else { return i64::MIN };
        let after = |interval_ms| last_ms.saturating_add(interval_ms);
        if self.is_urgent {
            return after(NEED_INTERVAL_MS);
        }
        if self.rejection.as_ref().is_some_and(|rejection| *rejection != MemberRejection::Restored)
        {
            return after(REJECTED_INTERVAL_MS);
        }
        if self.settings.standby.is_none() || self.standby.active(self.rules).is_some() {
            return after(INTERVAL_MS);
        }
        let take_over_ms = self.latest.and_then(|it| self.standby.take_over_ms(it.term_ms));
        take_over_ms.unwrap_or(i64::MAX).clamp(after(NEED_INTERVAL_MS), after(WATCH_INTERVAL_MS))
    }

    /// Returns the exchange to send now; `None` if it is too early. A member that stops, or
    /// was rejected because the database was restored, waits until the ledger approves nothing any
    /// more.
    pub fn next(&mut self, report: &Report, now_ms: i64) -> Option<Exchange> {
        if self.is_stopped || !self.is_due(report, now_ms) {
            return None;
        }
        let gives_up = self.is_stopping || self.rejection == Some(MemberRejection::Restored);
        let is_obeyed = report.in_force >= self.stop_revision || !self.rules.hold(Rule::StopFirst);
        if gives_up && !is_obeyed {
            return None;
        }
        if self.sent.is_some() {
            self.standby.on_failure(self.rules);
        }
        self.attempt = self.attempt.saturating_add(1);
        self.sent = Some(Sent { attempt: self.attempt, at_ms: now_ms });
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_sent_ms = Some(now_ms);
        self.is_urgent = false;
        self.whitelist = report.whitelist;
        Some(Exchange {
            member: self.settings.name.clone(),
            ledger: self.settings.ledger.clone(),
            market: self.settings.market.clone(),
            account: self.settings.account.clone(),
            standby: self.settings.standby.clone(),
            attempt: self.attempt,
            version: self.version,
            seen: self.seen,
            can_order: report.can_order && self.can_order(report, now_ms),
            whitelist: report.whitelist,
            approved: report.approved,
            demands: self.demands(report, gives_up, now_ms),
            orders: report.orders.iter().take(REPORTS_MAX).cloned().collect(),
            role: self.role_request(now_ms),
        })
    }

    /// Returns `true` if the member is active and has a part of its slices left that every order
    /// needs.
    fn can_order(&self, report: &Report, now_ms: i64) -> bool {
        let Permission { state, slices, .. } = self.usable(now_ms);
        let has_left = |limit: &Limit| {
            let used = report.usage.get(limit).map_or(0, |usage| usage.used);
            slices.get(limit).is_some_and(|slice| used < *slice)
        };
        let windows = [Limit::PerHour, Limit::PerDay];
        let mut windows = windows.iter().filter(|limit| report.usage.contains_key(limit));
        state == MemberState::Active && has_left(&Limit::Total) && windows.all(has_left)
    }

    fn is_due(&self, report: &Report, now_ms: i64) -> bool {
        if now_ms >= self.next_at() {
            return true;
        }
        let is_rested = self
            .last_sent_ms
            .is_none_or(|last_ms| now_ms >= last_ms.saturating_add(NEED_INTERVAL_MS));
        is_rested
            && self.rejection.is_none()
            && self.latest.is_some()
            && report.usage.iter().any(|(limit, usage)| {
                self.slices.get(limit).copied().unwrap_or_default().is_short(*usage)
            })
    }

    fn demands(&mut self, report: &Report, gives_up: bool, now_ms: i64) -> BTreeMap<Limit, Demand> {
        let free = self.free().unwrap_or_default();
        let known = self.slices.iter_mut().filter_map(|(limit, slice)| {
            let reported = report.usage.get(limit).copied();
            Some((limit.clone(), slice.usage(reported, limit, now_ms)?))
        });
        let mut usages: BTreeMap<Limit, Usage> = known.collect();
        usages.extend(report.usage.iter().map(|(limit, usage)| (limit.clone(), *usage)));
        let mut demands = BTreeMap::new();
        for (limit, usage) in usages.into_iter().take(LIMITS_MAX) {
            let slice = self.slices.entry(limit.clone()).or_default();
            let context = DemandContext {
                in_force: report.in_force,
                is_over: limit == Limit::Total && free < 0,
                is_idle: report.is_idle,
                rules: self.rules,
            };
            let demand = if self.rejection == Some(MemberRejection::OtherProcess) {
                slice.keep_all(usage)
            } else if gives_up {
                slice.give_back_all(usage)
            } else {
                slice.demand(usage, context, &mut self.revision)
            };
            demands.insert(limit, demand);
        }
        demands
    }

    fn role_request(&mut self, now_ms: i64) -> RoleRequest {
        match (&self.settings.standby, self.latest) {
            (None, _) => RoleRequest::None,
            (Some(_), None) => RoleRequest::Watch,
            (Some(_), Some(latest)) => {
                let is_stopping = self.is_stopping;
                self.standby.request(now_ms, latest.term_ms, is_stopping, self.rules)
            }
        }
    }

    /// Processes a reply. Returns `true` if the exchange was carried out, so that its orders are
    /// stored. A reply to an earlier exchange changes nothing.
    pub fn on_reply(&mut self, exchange: &Exchange, reply: &Reply, now_ms: i64) -> bool {
        let Some(sent) = self.sent.filter(|sent| sent.attempt == exchange.attempt) else {
            return false;
        };
        self.sent = None;
        self.revision = self.revision.saturating_add(1);
        if self.is_of_other_process(reply) {
            // The next exchange reports the usage of this process, and the other process detects
            // it.
            if let Reply::Done(confirmed) | Reply::Stale(confirmed) = reply {
                self.confirm(exchange, confirmed, Received { sent, now_ms, is_done: false });
            }
            self.reject(&MemberRejection::OtherProcess);
            self.is_urgent = matches!(reply, Reply::Stale(_));
            return false;
        }
        match reply {
            Reply::Done(confirmed) => {
                self.rejection = None;
                self.settle(exchange, confirmed, sent.at_ms);
                self.confirm(exchange, confirmed, Received { sent, now_ms, is_done: true });
                self.is_stopped = self.is_stopping;
                true
            }
            Reply::Stale(confirmed) => {
                self.confirm(exchange, confirmed, Received { sent, now_ms, is_done: false });
                self.is_urgent = true;
                false
            }
            Reply::Rejected(rejection) => {
                self.reject(rejection);
                false
            }
        }
    }

    /// Counts the versions in replies that this process cannot have caused. Returns `true` if they
    /// are as many as [`FOREIGN_VERSIONS_MAX`].
    fn is_of_other_process(&mut self, reply: &Reply) -> bool {
        let (confirmed, own) = match reply {
            Reply::Done(confirmed) => (confirmed, self.unanswered),
            // This exchange was not carried out.
            Reply::Stale(confirmed) => (confirmed, self.unanswered.saturating_sub(1)),
            Reply::Rejected(_) => return false,
        };
        self.unanswered = 0;
        if self.version != 0 && confirmed.version > self.version.saturating_add(own) {
            self.foreign_versions = self.foreign_versions.saturating_add(1);
        }
        self.foreign_versions >= FOREIGN_VERSIONS_MAX
    }

    fn settle(&mut self, exchange: &Exchange, confirmed: &Confirmed, sent_ms: i64) {
        for (limit, slice) in &mut self.slices {
            let wanted = exchange.demands.get(limit).map_or(0, |demand| demand.wanted);
            let given = confirmed.slices.get(limit).copied().unwrap_or_default();
            slice.settle(sent_ms, wanted, given);
        }
    }

    fn confirm(&mut self, exchange: &Exchange, confirmed: &Confirmed, received: Received) {
        let Received { sent, now_ms, is_done } = received;
        self.version = confirmed.version;
        self.seen = self.seen.max(confirmed.sequence);
        for limit in confirmed.slices.keys() {
            if self.slices.len() < LIMITS_MAX {
                self.slices.entry(limit.clone()).or_default();
            }
        }
        for (limit, slice) in &mut self.slices {
            let given = confirmed.slices.get(limit).copied().unwrap_or_default();
            slice.confirm(given, now_ms, self.rules);
        }
        let reply = RoleReply {
            request: exchange.role,
            role: confirmed.role.as_ref(),
            is_done,
            sent_ms: sent.at_ms,
            now_ms,
            term_ms: confirmed.term_ms,
        };
        self.standby.on_reply(&self.settings.name, reply, self.rules);
        self.observe_peers(&confirmed.peers, now_ms);
        self.others.clone_from(&confirmed.others);
        self.latest = Some(Latest {
            sent_ms: sent.at_ms,
            received_ms: now_ms,
            term_ms: confirmed.term_ms,
            free: confirmed.free,
        });
    }

    fn observe_peers(&mut self, peers: &[Peer], now_ms: i64) {
        let mut before = std::mem::take(&mut self.peers);
        for peer in peers {
            let changed_ms = match before.remove(&peer.name) {
                Some(seen) if seen.peer.version == peer.version => seen.changed_ms,
                Some(_) | None => now_ms.saturating_sub(peer.silent_ms),
            };
            self.peers.insert(peer.name.clone(), SeenPeer { peer: peer.clone(), changed_ms });
        }
    }

    fn reject(&mut self, rejection: &MemberRejection) {
        let is_new = self.rejection.as_ref() != Some(rejection);
        self.rejection = Some(rejection.clone());
        // A rejected member cannot give anything back, so its stop is complete. After a restore it
        // still has to report.
        self.is_stopped = self.is_stopping && *rejection != MemberRejection::Restored;
        self.slices.values_mut().for_each(Slice::revoke);
        self.standby.revoke();
        if is_new && !self.is_stopping {
            self.stop_revision = self.revision;
        }
    }

    /// Processes the failure of an exchange, or the lack of a reply. The exchange may have been
    /// carried out nevertheless; the reply to the next one shows it.
    pub fn on_failure(&mut self, exchange: &Exchange) {
        if self.sent.is_some_and(|sent| sent.attempt == exchange.attempt) {
            self.sent = None;
            self.standby.on_failure(self.rules);
            // Without the database, no other member would get what this one gives back.
            self.others.values_mut().for_each(|others| others.is_short = false);
            if !self.rules.hold(Rule::OnlyConfirmed) {
                for (limit, demand) in &exchange.demands {
                    self.slices.entry(limit.clone()).or_default().assume(demand.wanted);
                }
            }
        }
    }

    /// Processes the loss of the connection outside of an exchange.
    pub fn on_lost_connection(&mut self) {
        self.standby.on_failure(self.rules);
    }

    /// Returns `true` unless the member is a standby of one that renews its role. Otherwise it
    /// needs slices, also to have them when it takes over.
    pub fn may_order_soon(&self, now_ms: i64) -> bool {
        let is_active =
            self.settings.standby.is_none() || self.standby.active(self.rules).is_some();
        let is_soon = |Latest { term_ms, .. }: Latest| {
            let lead_ms = SLICE_LEAD_MS.min(term_ms.saturating_sub(OVERDUE_MS));
            Some(self.standby.take_over_ms(term_ms)?.saturating_sub(lead_ms) <= now_ms)
        };
        is_active || self.latest.and_then(is_soon).unwrap_or_default()
    }

    /// Returns the permission for the ledger.
    pub fn usable(&self, now_ms: i64) -> Permission {
        let contact_until_ms = match self.latest {
            Some(latest) if self.rules.hold(Rule::Contact) => {
                latest.sent_ms.saturating_add(CONTACT_MAX_MS)
            }
            Some(_) => i64::MAX,
            None => i64::MIN,
        };
        let active = self.standby.active(self.rules);
        let role_until_ms = match (&self.settings.standby, active) {
            (None, _) => i64::MAX,
            (Some(_), Some((_, until_ms))) => until_ms,
            (Some(_), None) => i64::MIN,
        };
        // A renewal by the last exchange would permit orders until this time.
        let renewed_until_ms =
            self.latest.map_or(i64::MIN, |latest| last_moment(latest.sent_ms, latest.term_ms));
        let state = match &self.rejection {
            Some(rejection) => MemberState::Rejected(rejection.clone()),
            _ if self.is_stopping => MemberState::Stopped,
            _ if now_ms >= contact_until_ms => MemberState::NoContact,
            _ if now_ms >= role_until_ms.max(renewed_until_ms) => MemberState::NoContact,
            _ if now_ms >= role_until_ms => MemberState::Standby,
            _ => MemberState::Active,
        };
        // A standby and a member without contact have slices too; `until_ms` prevents their use.
        let slices = self.slices.iter().map(|(limit, it)| (limit.clone(), it.usable(self.rules)));
        let until_ms = match state {
            MemberState::Rejected(_) | MemberState::Stopped => i64::MIN,
            MemberState::NoContact => contact_until_ms.min(role_until_ms.max(renewed_until_ms)),
            MemberState::Active | MemberState::Standby => contact_until_ms.min(role_until_ms),
        };
        Permission {
            revision: self.revision,
            slices: slices.collect(),
            until_ms,
            epoch: active.filter(|_| state == MemberState::Active).map(|(epoch, _)| epoch),
            state,
            accounts: self.accounts(),
            contact_ms: self.latest.map(|latest| latest.sent_ms),
        }
    }

    /// Iterates over the members of the same market that had an exchange within the last term
    /// before the last reply. Without contact the result does not change.
    fn live_peers(&self) -> impl Iterator<Item = &Peer> {
        let is_live = |seen: &&SeenPeer| {
            self.latest.is_some_and(|latest| {
                seen.changed_ms.saturating_add(latest.term_ms) > latest.received_ms
            })
        };
        let live = self.peers.values().filter(is_live).map(|seen| &seen.peer);
        live.filter(|peer| peer.market == self.settings.market)
    }

    /// Returns a live member with the same account that is not a standby of this one. Both would
    /// order every listing.
    pub fn same_account(&self) -> Option<&MemberName> {
        let MemberSettings { account, standby, .. } = &self.settings;
        let is_other = |peer: &&Peer| standby.is_none() || peer.standby != *standby;
        let mut same = self.live_peers().filter(|peer| peer.account == *account);
        same.find(is_other).map(|peer| &peer.name).filter(|_| !account.is_empty())
    }

    /// Returns a live member that can order with another account and another whitelist. Both order
    /// the listings that both want.
    pub fn other_whitelist(&self) -> Option<&MemberName> {
        let is_other = |peer: &&Peer| {
            peer.whitelist != self.whitelist && peer.account != self.settings.account
        };
        self.live_peers().filter(|peer| peer.can_order).find(is_other).map(|peer| &peer.name)
    }

    /// Returns the accounts of the live members with the same whitelist that can order, with the
    /// own one.
    fn accounts(&self) -> Vec<String> {
        let mut accounts: Vec<String> = self
            .live_peers()
            .filter(|peer| peer.can_order && peer.whitelist == self.whitelist)
            .map(|peer| peer.account.clone())
            .chain([self.settings.account.clone()])
            .filter(|account| !account.is_empty())
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts
    }
}

/// Times of an exchange and of its reply.
#[derive(Clone, Copy)]
struct Received {
    sent: Sent,
    now_ms: i64,
    /// `true` if the exchange was carried out.
    is_done: bool,
}
