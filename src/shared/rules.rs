//! Rules of the protocol. All of them hold in the program. Tests break one at a time and expect the
//! model check to fail.

/// Rule of `docs/shared.md`, under the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// D1: an exchange with a lower version than the row changes nothing.
    Version,
    /// D2: an exchange with a higher sequence or version than the database marks the group as
    /// restored.
    Restored,
    /// D3: the sum of all slices is at most the limit.
    Limit,
    /// D4: a slice is never below what was used.
    UsedIsKept,
    /// D5: a takeover needs the observed epoch and renewals.
    TakeOverObserved,
    /// D6: a takeover needs the end of the term by the database's clock.
    TakeOverClock,
    /// D7: a renewal needs the member and its epoch.
    RenewOwn,
    /// D8: a mark ends only after every member has stopped and reported.
    AllReported,
    /// D9: a member is released only after a long silence, or if it was declared as stopped.
    Silent,
    /// D10: a mark counts as a contact of every member.
    MarkIsContact,
    /// D11: an older copy of a ledger is rejected.
    NewestLedger,
    /// D12: the slices of a released member end only by an exchange of its ledger.
    SameLedger,
    /// M1: a raise counts only after a later confirmed exchange.
    Settle,
    /// M2: a lower slice is requested only after the ledger obeys it.
    LowerFirst,
    /// M3: an exchange without a reply raises nothing.
    OnlyConfirmed,
    /// M4: nothing is approved long after the last contact.
    Contact,
    /// M5: the active member stops before its term ends.
    TermEnd,
    /// M6: a takeover needs a whole term in which the member itself saw no renewal.
    Observe,
    /// M7: a failed exchange restarts the observation.
    FailureRestarts,
    /// M8: a member whose term ended unrenewed takes over again instead of renewing.
    Lapsed,
    /// M9: after a restart, nothing of the earlier epoch is continued.
    Restart,
    /// M10: a member gives everything back only after the ledger obeys that it has stopped.
    StopFirst,
    /// M12: what exceeds a lower slice that was asked for is a raise.
    Lowered,
    /// M11: a lower slice is obeyed only once the ledger would not count more after a power loss.
    #[cfg(test)]
    DurableFirst,
}

#[cfg(test)]
impl Rule {
    pub(super) const ALL: [Self; 24] = [
        Self::Version,
        Self::Restored,
        Self::Limit,
        Self::UsedIsKept,
        Self::TakeOverObserved,
        Self::TakeOverClock,
        Self::RenewOwn,
        Self::AllReported,
        Self::Silent,
        Self::MarkIsContact,
        Self::NewestLedger,
        Self::SameLedger,
        Self::Settle,
        Self::LowerFirst,
        Self::OnlyConfirmed,
        Self::Contact,
        Self::TermEnd,
        Self::Observe,
        Self::FailureRestarts,
        Self::Lapsed,
        Self::Restart,
        Self::StopFirst,
        Self::Lowered,
        Self::DurableFirst,
    ];
}

/// The rules that hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ProtocolRules {
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

impl ProtocolRules {
    #[cfg(test)]
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests read it")]
    pub(super) const fn hold(self, _: Rule) -> bool {
        true
    }
}
