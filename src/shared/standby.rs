//! Choice of the active member among standbys, from the member's side.
//!
//! # Invariants
//!
//! 1. The member is active only between the sending of a renewal or takeover that the database has
//!    confirmed and four fifths of a term later.
//! 2. It takes over only after a whole term of uninterrupted contact in which it saw no renewal, or
//!    at once after a resignation that it saw in such a contact. So the terms of two members do not
//!    overlap, regardless of the clock of the database, and even if the database lost its last
//!    commits.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::exchange::{MemberName, Role, RoleRequest};
use super::rules::{ProtocolRules, Rule};

/// An active member stops one part in this many of a term early. The margin covers clocks of
/// different rates, and the time from an approval to its request.
const MARGIN_DIVISOR: i64 = 5;

/// Epoch that this process has requested or has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Claim {
    epoch: u64,
    until_ms: i64,
    /// `true` if its takeover or a renewal was carried out.
    is_confirmed: bool,
    /// `true` if a reply has shown this epoch with this member.
    is_seen: bool,
}

/// Role as last seen, and since when it has been the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Observation {
    epoch: u64,
    renewals: u64,
    is_resigned: bool,
    since_ms: i64,
}

/// Part of a reply that concerns the role.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleReply<'a> {
    pub(super) request: RoleRequest,
    pub(super) role: Option<&'a Role>,
    /// `true` if the exchange was carried out.
    pub(super) is_done: bool,
    pub(super) sent_ms: i64,
    pub(super) now_ms: i64,
    pub(super) term_ms: i64,
}

/// State of a member that has standbys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Standby {
    observation: Option<Observation>,
    /// Time of the first reply since the last exchange without a reply.
    contact_since_ms: Option<i64>,
    claim: Option<Claim>,
}

impl Standby {
    /// Returns the epoch and the last moment of an active member.
    pub(super) fn active(&self, rules: ProtocolRules) -> Option<(u64, i64)> {
        let claim = self.claim.filter(|claim| claim.is_confirmed)?;
        let until_ms = if rules.hold(Rule::TermEnd) { claim.until_ms } else { i64::MAX };
        Some((claim.epoch, until_ms))
    }

    /// Returns the request of an exchange that is sent now.
    pub(super) fn request(
        &mut self,
        now_ms: i64,
        term_ms: i64,
        is_stopping: bool,
        rules: ProtocolRules,
    ) -> RoleRequest {
        if rules.hold(Rule::Lapsed) {
            self.claim = self.claim.filter(|claim| now_ms < claim.until_ms);
        }
        match self.claim {
            Some(claim) if is_stopping => return RoleRequest::Resign { epoch: claim.epoch },
            Some(claim) if claim.is_seen => return RoleRequest::Renew { epoch: claim.epoch },
            _ if is_stopping => return RoleRequest::Watch,
            _ => {}
        }
        match self.observation {
            Some(observation) if self.may_take_over(now_ms, term_ms, rules) => {
                self.claim = Some(Claim {
                    epoch: observation.epoch.saturating_add(1),
                    until_ms: last_moment(now_ms, term_ms),
                    is_confirmed: false,
                    is_seen: false,
                });
                let Observation { epoch, renewals, .. } = observation;
                RoleRequest::TakeOver { epoch, renewals }
            }
            _ => RoleRequest::Watch,
        }
    }

    fn may_take_over(&self, now_ms: i64, term_ms: i64, rules: ProtocolRules) -> bool {
        if !rules.hold(Rule::Observe) {
            return true;
        }
        self.take_over_ms(term_ms).is_some_and(|at_ms| now_ms >= at_ms)
    }

    /// Returns the first moment at which the member may take over, if nothing changes.
    pub(super) fn take_over_ms(&self, term_ms: i64) -> Option<i64> {
        let observation = self.observation?;
        let since_ms = if observation.is_resigned {
            self.contact_since_ms?
        } else {
            observation.since_ms.max(self.contact_since_ms?)
        };
        Some(since_ms.saturating_add(term_ms))
    }

    /// Processes a reply.
    pub(super) fn on_reply(
        &mut self,
        member: &MemberName,
        reply: RoleReply<'_>,
        rules: ProtocolRules,
    ) {
        self.contact_since_ms.get_or_insert(reply.now_ms);
        self.observe(reply.role, reply.now_ms);
        let Some(mut claim) = self.claim else {
            if !rules.hold(Rule::Restart) {
                self.continue_epoch(member, reply);
            }
            return;
        };
        let own = reply.role.filter(|role| {
            role.active == *member && role.epoch == claim.epoch && !role.is_resigned
        });
        if own.is_none() {
            self.claim = None;
            return;
        }
        claim.is_seen = true;
        let is_answer = match reply.request {
            RoleRequest::TakeOver { epoch, .. } => epoch.saturating_add(1) == claim.epoch,
            RoleRequest::Renew { epoch } => epoch == claim.epoch,
            RoleRequest::None | RoleRequest::Watch | RoleRequest::Resign { .. } => false,
        };
        if reply.is_done && is_answer {
            claim.is_confirmed = true;
            claim.until_ms = claim.until_ms.max(last_moment(reply.sent_ms, reply.term_ms));
        }
        self.claim = Some(claim);
    }

    /// Continues the epoch in the database after a restart. Only tests that break rule M9 reach it.
    fn continue_epoch(&mut self, member: &MemberName, reply: RoleReply<'_>) {
        self.claim = reply.role.filter(|role| role.active == *member).map(|role| Claim {
            epoch: role.epoch,
            until_ms: last_moment(reply.sent_ms, reply.term_ms),
            is_confirmed: true,
            is_seen: true,
        });
    }

    fn observe(&mut self, role: Option<&Role>, now_ms: i64) {
        let (epoch, renewals, is_resigned) =
            role.map_or((0, 0, false), |role| (role.epoch, role.renewals, role.is_resigned));
        let new = Observation { epoch, renewals, is_resigned, since_ms: now_ms };
        let last = self.observation.map(|last| Observation { since_ms: now_ms, ..last });
        if last != Some(new) {
            self.observation = Some(new);
        }
    }

    /// Restarts the observation after an exchange without a reply: the database may now be a
    /// replica without its last commits.
    pub(super) fn on_failure(&mut self, rules: ProtocolRules) {
        if rules.hold(Rule::FailureRestarts) {
            self.observation = None;
            self.contact_since_ms = None;
        }
    }

    /// Ends the role after the member was rejected.
    pub(super) const fn revoke(&mut self) {
        self.observation = None;
        self.contact_since_ms = None;
        self.claim = None;
    }
}

/// Returns the time until which a member is active whose renewal was sent at `sent_ms`.
pub(super) fn last_moment(sent_ms: i64, term_ms: i64) -> i64 {
    sent_ms.saturating_add(term_ms).saturating_sub(term_ms / MARGIN_DIVISOR)
}
