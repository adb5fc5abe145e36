//! The slice of one limit that a member may use.
//!
//! # Invariants
//!
//! 1. `usable ≤ settled ≤ confirmed`: only a reply raises what is usable, and only after a later
//!    confirmed exchange.
//! 2. A demand below `confirmed` is sent only after the ledger obeys a ceiling that is not above it, and
//!    the ceiling stays until a reply with a new version.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::exchange::Demand;
use super::member::{SETTLE_MS, Usage};
use super::rules::{ProtocolRules, Rule};

/// Slice of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slice {
    /// As the last reply with a new version.
    confirmed: i64,
    /// Part of `confirmed` that a later exchange has confirmed again.
    settled: i64,
    raise: Option<Raise>,
    ceiling: Option<SliceCeiling>,
    /// As reported last.
    used: Option<i64>,
    /// The last reply gave less than was wanted.
    is_exhausted: bool,
    /// The limit of the settings, as reported last.
    max: Option<i64>,
    /// The limit was lowered, and more is confirmed than is used: other members may have as much.
    is_lowered: bool,
}

/// Raise of a slice that does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Raise {
    slice: i64,
    since_ms: i64,
}

/// Bound that the member keeps before it gives back the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SliceCeiling {
    amount: i64,
    /// Revision of the permission that contains this ceiling.
    revision: u64,
    is_sent: bool,
}

/// Facts about the ledger and the group for a demand.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemandContext {
    /// Revision of the permission that the ledger obeyed when the usage was read.
    pub(super) in_force: u64,
    /// The group has given out more than its limit: what is not used is given back.
    pub(super) is_over: bool,
    pub(super) rules: ProtocolRules,
}

impl Slice {
    pub(super) fn usable(&self, rules: ProtocolRules) -> i64 {
        let settled = if rules.hold(Rule::Settle) { self.settled } else { self.confirmed };
        self.ceiling
            .filter(|_| rules.hold(Rule::LowerFirst))
            .map_or(settled, |ceiling| settled.min(ceiling.amount))
    }

    pub(super) const fn used(&self) -> Option<i64> {
        self.used
    }

    /// Returns `true` if more is wanted soon, and was not denied.
    pub(super) fn is_short(&self, usage: Usage) -> bool {
        !self.is_exhausted
            && target(usage) > self.confirmed
            && self.confirmed.saturating_sub(usage.used) < usage.reserve / 2
    }

    /// Returns the demand of the next exchange. Sets a ceiling, with the next `revision`, before it gives
    /// back a part.
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
        // Without a hysteresis, each order would raise the slice and each rejection lower it.
        let gives_back =
            surplus > 0 && (surplus > usage.reserve / 2 || usage.reserve == 0 || is_over);
        let wanted = if gives_back {
            self.give_back(usage, target, context, revision)
        } else {
            self.ceiling = self.ceiling.filter(|ceiling| ceiling.is_sent);
            target.max(self.confirmed)
        };
        Demand { used: usage.used, wanted, max: usage.max }
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

    /// Demand of a member that must not lower its slice, because another process may have used more.
    pub(super) fn keep_all(&mut self, usage: Usage) -> Demand {
        self.used = Some(usage.used);
        Demand { used: usage.used, wanted: self.confirmed.max(usage.used), max: usage.max }
    }

    /// Demand of a member that has stopped: everything that is not used.
    pub(super) const fn give_back_all(&mut self, usage: Usage) -> Demand {
        self.used = Some(usage.used);
        Demand { used: usage.used, wanted: 0, max: usage.max }
    }

    /// A reply to an exchange that was sent at `sent_ms` has confirmed the slice again.
    pub(super) fn settle(&mut self, sent_ms: i64, wanted: i64, slice: i64) {
        if let Some(raise) = self.raise
            && sent_ms.saturating_sub(raise.since_ms) >= SETTLE_MS
        {
            self.settled = self.settled.max(raise.slice);
            self.raise = None;
        }
        self.is_exhausted = slice < wanted;
    }

    /// A reply with a new version: every earlier exchange is either part of it or void.
    pub(super) fn confirm(&mut self, slice: i64, now_ms: i64) {
        self.confirmed = slice;
        self.settled = self.settled.min(slice);
        self.raise = match self.raise {
            _ if slice <= self.settled => None,
            Some(raise) => Some(Raise { slice: raise.slice.min(slice), ..raise }),
            None => Some(Raise { slice, since_ms: now_ms }),
        };
        self.ceiling = self.ceiling.filter(|ceiling| !ceiling.is_sent);
    }

    /// The member was refused: nothing is usable until it is confirmed again.
    pub(super) const fn revoke(&mut self) {
        self.settled = 0;
        self.raise = None;
        self.ceiling = None;
    }

    /// Breaks rule M3: the member takes what it asked for.
    pub(super) const fn assume(&mut self, wanted: i64) {
        if self.confirmed < wanted {
            self.confirmed = wanted;
        }
        self.settled = self.confirmed;
    }
}

/// Slice that the member wants.
fn target(usage: Usage) -> i64 {
    usage.used.saturating_add(usage.reserve).min(usage.max).max(usage.used).max(0)
}
