//! Rules of the protocol. All of them hold in the program; a test leaves one out, to see that the model
//! check notices.

/// Rule that `docs/shared.md` numbers and explains.
#[cfg_attr(not(test), expect(dead_code, reason = "read by `Rules::hold` in tests only"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// D1: an exchange with another version than the row changes nothing.
    Version,
    /// D2: an exchange that knows more than the database marks it as restored.
    Restored,
    /// D3: a marked database raises no slice.
    NoRaiseWhileRestored,
    /// D4: the sum of all slices is at most the limit.
    Limit,
    /// D5: a slice is never below what was used.
    UsedIsKept,
    /// D6: a takeover needs the observed epoch and renewals.
    TakeOverObserved,
    /// D7: a takeover needs the end of the term by the database's clock.
    TakeOverClock,
    /// D8: a renewal needs the epoch.
    RenewEpoch,
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
    /// M10: a refused member approves nothing.
    RefusedStops,
}

/// The rules that hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    #[cfg(test)]
    pub(super) broken: Option<Rule>,
}

impl Rules {
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
