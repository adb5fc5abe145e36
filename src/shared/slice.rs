//! The slice of one limit that a member may use.
//!
//! # Invariants
//!
//! 1. `usable ≤ settled ≤ confirmed`: only a reply raises what is usable, and only after a later
//!    confirmed exchange.
//! 2. A demand below `confirmed` is sent only after the ledger obeys a ceiling that is not above
//!    the demand, and the ceiling stays until the next reply with a version.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::database::is_outdated;
use super::exchange::{Demand, Limit};
use super::member::{SETTLE_MS, Usage};
use super::rules::{ProtocolRules, Rule};

/// Slice of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slice {
    /// Slice in the last reply with a version.
    confirmed: i64,
    /// Part of `confirmed` that a later exchange has confirmed again.
    settled: i64,
    raise: Option<Raise>,
    ceiling: Option<SliceCeiling>,
    /// Usage as last reported.
    used: Option<i64>,
    /// `true` if the last reply gave less than was wanted.
    is_exhausted: bool,
    /// Limit of the settings as last reported.
    max: Option<i64>,
    /// `true` if the limit was lowered and the slice still exceeds the usage. The slice may then
    /// exceed its share, so the rest is given back.
    is_lowered: bool,
    /// Time since which the limit is not in the settings.
    absent_since_ms: Option<i64>,
}

/// Raise of a slice that does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Raise {
    slice: i64,
    since_ms: i64,
}

/// Bound that the ledger must obey before the member gives back the rest of its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SliceCeiling {
    amount: i64,
    /// Revision of the permission that contains this ceiling.
    revision: u64,
    is_sent: bool,
}

/// State of the ledger and the group that a demand depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemandContext {
    /// Revision of the permission that the ledger obeyed when the usage was read.
    pub(super) in_force: u64,
    /// `true` if the slices of the group exceed its limit, so that the unused part is given back.
    pub(super) is_over: bool,
    /// As [`Report::is_idle`](super::member::Report::is_idle).
    pub(super) is_idle: bool,
    pub(super) rules: ProtocolRules,
}

impl Slice {
    pub(super) fn usable(&self, rules: ProtocolRules) -> i64 {
        let settled = if rules.hold(Rule::Settle) { self.settled } else { self.confirmed };
        self.ceiling
            .filter(|_| rules.hold(Rule::LowerFirst))
            .map_or(settled, |ceiling| settled.min(ceiling.amount))
    }

    /// Returns the usage to report: for a limit that is no longer in the settings the last one, so
    /// that the rest of its slice is given back, until all orders have left its window. Returns
    /// `None` if it is not known.
    pub(super) fn usage(
        &mut self,
        reported: Option<Usage>,
        limit: &Limit,
        now_ms: i64,
    ) -> Option<Usage> {
        if reported.is_some() {
            self.absent_since_ms = None;
            return reported;
        }
        let since_ms = *self.absent_since_ms.get_or_insert(now_ms);
        let has_ended = is_outdated(limit, now_ms.saturating_sub(since_ms));
        let used = if has_ended { 0 } else { self.used? };
        Some(Usage { used, max: used, ..Usage::default() })
    }

    /// Returns `true` if more is wanted soon, and was not denied.
    pub(super) fn is_short(&self, usage: Usage) -> bool {
        !self.is_exhausted
            && target(usage) > self.confirmed
            && self.confirmed.saturating_sub(usage.used) < usage.reserve.saturating_add(1) / 2
    }

    /// Returns `true` if more was denied and nothing is left.
    pub(super) fn is_used_up(&self) -> bool {
        self.is_exhausted && self.confirmed <= self.used.unwrap_or_default()
    }

    /// Returns the demand of the next exchange. Sets a ceiling, with the next `revision`, before it
    /// gives back a part.
    pub(super) fn demand(
        &mut self,
        usage: Usage,
        context: DemandContext,
        revision: &mut u64,
    ) -> Demand {
        self.used = Some(usage.used);
        let used = usage.used.max(0);
        self.is_lowered |= self.max.replace(usage.max).is_some_and(|max| usage.max < max);
        self.is_lowered &= used < self.confirmed;
        let is_over = context.is_over || self.is_lowered;
        let target = if is_over { used } else { target(usage) };
        let surplus = self.confirmed.saturating_sub(target);
        // Without this hysteresis, each order would raise the slice and each rejection lower it.
        let gives_back =
            surplus > 0 && (surplus > usage.reserve / 2 || usage.reserve == 0 || is_over);
        let wanted = if gives_back {
            self.give_back(usage, target, context, revision)
        } else {
            self.ceiling = self.ceiling.filter(|ceiling| ceiling.is_sent);
            target.max(self.confirmed)
        };
        // Without a rest, the other members do not share the limit with it.
        let max = if context.is_idle { usage.used } else { usage.max };
        Demand { used: usage.used, wanted, max, is_denied: usage.is_denied }
    }

    fn give_back(
        &mut self,
        usage: Usage,
        target: i64,
        context: DemandContext,
        revision: &mut u64,
    ) -> i64 {
        if !context.rules.hold(Rule::LowerFirst) {
            return target;
        }
        match &mut self.ceiling {
            None => {
                *revision = revision.saturating_add(1);
                self.ceiling =
                    Some(SliceCeiling { amount: target, revision: *revision, is_sent: false });
                self.confirmed
            }
            Some(ceiling) if context.in_force >= ceiling.revision => {
                ceiling.is_sent = true;
                ceiling.amount.max(usage.used)
            }
            Some(_) => self.confirmed,
        }
    }

    /// Returns the demand of a member that must not lower its slice, because another process may
    /// have used more.
    pub(super) fn keep_all(&mut self, usage: Usage) -> Demand {
        self.used = Some(usage.used);
        let wanted = self.confirmed.max(usage.used);
        Demand { used: usage.used, wanted, max: usage.max, is_denied: false }
    }

    /// Returns the demand of a member that has stopped, which gives back the unused part.
    pub(super) const fn give_back_all(&mut self, usage: Usage) -> Demand {
        self.used = Some(usage.used);
        Demand { used: usage.used, wanted: 0, max: usage.max, is_denied: false }
    }

    /// Makes a raise usable if it is confirmed again by the reply to an exchange that was sent at
    /// `sent_ms`, [`SETTLE_MS`] or more after the raise. Notes whether the reply gave less than
    /// wanted.
    pub(super) fn settle(&mut self, sent_ms: i64, wanted: i64, slice: i64) {
        if let Some(raise) = self.raise
            && sent_ms.saturating_sub(raise.since_ms) >= SETTLE_MS
        {
            self.settled = self.settled.max(raise.slice);
            self.raise = None;
        }
        self.is_exhausted = slice < wanted;
    }

    /// Stores the slice of a reply with a version. Every earlier exchange is either part of it or
    /// has no effect any more.
    pub(super) fn confirm(&mut self, slice: i64, now_ms: i64, rules: ProtocolRules) {
        self.confirmed = slice;
        self.settled = self.settled.min(slice);
        if let Some(lowered) = self.ceiling.filter(|it| it.is_sent && rules.hold(Rule::Lowered)) {
            // The lower slice may have been committed and lost by the database since, so that
            // another member has used the rest.
            self.settled = self.settled.min(lowered.amount);
            self.raise = None;
        }
        let raise = self.raise.unwrap_or(Raise { slice, since_ms: now_ms });
        self.raise =
            (self.settled < slice).then_some(Raise { slice: raise.slice.min(slice), ..raise });
        self.ceiling = self.ceiling.filter(|ceiling| !ceiling.is_sent);
    }

    /// Makes nothing usable until the slice is confirmed again, after the member was rejected.
    pub(super) const fn revoke(&mut self) {
        self.settled = 0;
        self.raise = None;
        self.ceiling = None;
    }

    /// Uses a demand without a reply. Only tests that break rule M3 call it.
    pub(super) const fn assume(&mut self, wanted: i64) {
        if self.confirmed < wanted {
            self.confirmed = wanted;
        }
        self.settled = self.confirmed;
    }
}

/// Returns the slice that the member wants.
fn target(usage: Usage) -> i64 {
    usage.used.saturating_add(usage.reserve).min(usage.max).max(usage.used).max(0)
}
