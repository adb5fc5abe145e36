//! Kinds of alerts. The settings switch each kind on, silent or off.

/// Subject of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    Started,
    Stopped,
    Bought,
    Rejected,
    /// The outcome of an order is unknown, or an unknown one was resolved.
    Unknown,
    /// A purchase was cancelled, or its coins are back.
    Returned,
    Halted,
    Resumed,
    /// The market does not accept the credential.
    CredentialRefused,
    /// The market wants a challenge or captcha to be solved.
    Challenge,
    FeedDown,
    FeedBack,
    /// A limit of the settings prevented an order.
    LimitReached,
    BalanceLow,
    /// The disk is almost full, or the ledger cannot be written.
    Disk,
    PricesStale,
    /// The database of a shared budget is away or rejects the bot, or another bot became active.
    Shared,
    DailySummary,
}

/// How a channel delivers a kind of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    On,
    /// Without sound or vibration.
    Silent,
    Off,
}

impl AlertKind {
    pub const ALL: [Self; 18] = [
        Self::Started,
        Self::Stopped,
        Self::Bought,
        Self::Rejected,
        Self::Unknown,
        Self::Returned,
        Self::Halted,
        Self::Resumed,
        Self::CredentialRefused,
        Self::Challenge,
        Self::FeedDown,
        Self::FeedBack,
        Self::LimitReached,
        Self::BalanceLow,
        Self::Disk,
        Self::PricesStale,
        Self::Shared,
        Self::DailySummary,
    ];

    /// Returns the identifier in the settings and in the JSON of a webhook.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Bought => "bought",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Returned => "returned",
            Self::Halted => "halted",
            Self::Resumed => "resumed",
            Self::CredentialRefused => "credential_refused",
            Self::Challenge => "challenge",
            Self::FeedDown => "feed_down",
            Self::FeedBack => "feed_back",
            Self::LimitReached => "limit_reached",
            Self::BalanceLow => "balance_low",
            Self::Disk => "disk",
            Self::PricesStale => "prices_stale",
            Self::Shared => "shared",
            Self::DailySummary => "daily_summary",
        }
    }

    /// Returns the kind with this [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the loudness without a setting: on for what may need the user, silent for the rest,
    /// and off for rejections, which are frequent.
    pub const fn default_loudness(self) -> Loudness {
        match self {
            Self::Rejected => Loudness::Off,
            Self::Started
            | Self::Bought
            | Self::Returned
            | Self::Resumed
            | Self::FeedBack
            | Self::DailySummary => Loudness::Silent,
            Self::Stopped
            | Self::Unknown
            | Self::Halted
            | Self::CredentialRefused
            | Self::Challenge
            | Self::FeedDown
            | Self::LimitReached
            | Self::BalanceLow
            | Self::Disk
            | Self::PricesStale
            | Self::Shared => Loudness::On,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_a_purchase_is_silent_a_problem_is_on_and_a_rejection_is_off() {
        let with = |loudness| {
            let kinds = AlertKind::ALL.into_iter();
            let kinds = kinds.filter(move |kind| kind.default_loudness() == loudness);
            kinds.map(AlertKind::name).collect::<Vec<_>>()
        };
        assert_eq!(with(Loudness::Off), ["rejected"]);
        assert_eq!(
            with(Loudness::Silent),
            ["started", "bought", "returned", "resumed", "feed_back", "daily_summary"]
        );
        assert_eq!(with(Loudness::On).len(), 11);
        for kind in AlertKind::ALL {
            assert_eq!(AlertKind::parse(kind.name()), Some(kind));
        }
    }
}
