//! Which reads of the account fail at the moment, since when, and why. Pure.
//!
//! A failing read is reported when it begins to fail, when its cause changes, and when it succeeds
//! again; what is reported in between is in `status`.

use std::time::Duration;

use crate::{
    domain::time::UnixMs,
    secret,
    text::{Escaped, is_harmless},
};

/// The longest cause that is shown, in characters.
const CAUSE_CHARS_MAX: usize = 400;

/// What is read of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// Who is signed in, and the balance.
    Balance,
    /// The list of own purchases, back to the oldest open order.
    Purchases,
    /// The prices in that list.
    Prices,
    /// The rest of the list, for purchases of the last days.
    History,
}

/// Why a read fails, fit to be shown, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCause {
    /// What tells this cause from another. Figures that change with every read are not in it.
    key: String,
    text: String,
    remedy: &'static str,
}

/// A read that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingRead {
    /// Since when.
    pub since: UnixMs,
    /// The newest cause.
    pub cause: FailureCause,
}

/// The state of every read.
#[derive(Debug, Default)]
pub struct ReadHealth {
    failing: [Option<FailingRead>; ReadKind::ALL.len()],
}

impl ReadKind {
    /// Every read.
    pub const ALL: [Self; 4] = [Self::Balance, Self::Purchases, Self::Prices, Self::History];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Purchases => "own purchases",
            Self::Prices => "prices of own purchases",
            Self::History => "own purchases of the last 8 days",
        }
    }
}

impl FailureCause {
    /// A cause. `text` is cut, credentials in it are replaced, and it is escaped unless that was
    /// done before.
    pub fn new(key: String, text: &str, remedy: &'static str) -> Self {
        let masked = secret::mask(text);
        let text = if masked.chars().all(is_harmless) {
            masked.chars().take(CAUSE_CHARS_MAX).collect()
        } else {
            Escaped(&masked).to_string()
        };
        Self { key, text, remedy }
    }

    /// The same cause with more to be shown of it.
    #[must_use]
    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.text.push_str(detail);
        self
    }

    /// The cause in words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to do about it.
    pub const fn remedy(&self) -> &'static str {
        self.remedy
    }

    /// Whether it is the same cause, whatever its figures.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl ReadHealth {
    /// A read failed. Returns whether that should be reported: it did not fail before, or for
    /// another cause.
    pub fn failed(&mut self, read: ReadKind, cause: FailureCause, now: UnixMs) -> bool {
        let Some(slot) = self.slot(read) else { return true };
        let is_news = slot.as_ref().is_none_or(|before| !before.cause.is_same(&cause));
        let since = slot.as_ref().map_or(now, |before| before.since);
        *slot = Some(FailingRead { since, cause });
        is_news
    }

    /// A read succeeded. Returns for how long it had failed, if it had.
    pub fn succeeded(&mut self, read: ReadKind, now: UnixMs) -> Option<Duration> {
        let failing = self.slot(read).and_then(Option::take);
        failing.map(|failing| now.since(failing.since))
    }

    /// Every read that fails.
    pub fn failing(&self) -> impl Iterator<Item = (ReadKind, &FailingRead)> {
        let slots = ReadKind::ALL.into_iter().zip(&self.failing);
        slots.filter_map(|(read, slot)| Some((read, slot.as_ref()?)))
    }

    fn slot(&mut self, read: ReadKind) -> Option<&mut Option<FailingRead>> {
        let slots = ReadKind::ALL.into_iter().zip(&mut self.failing);
        slots.into_iter().find_map(|(of, slot)| (of == read).then_some(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(key: &str, text: &str) -> FailureCause {
        FailureCause::new(key.to_owned(), text, "do something")
    }

    #[test]
    fn a_failure_is_reported_once_and_again_only_with_another_cause() {
        let mut health = ReadHealth::default();
        assert!(health.failed(ReadKind::Balance, cause("a", "3 of 4"), UnixMs(1_000)));
        assert!(!health.failed(ReadKind::Balance, cause("a", "5 of 6"), UnixMs(2_000)));
        assert!(health.failed(ReadKind::Balance, cause("b", "other"), UnixMs(3_000)));
        let failing: Vec<_> = health.failing().collect();
        let expected = FailingRead { since: UnixMs(1_000), cause: cause("b", "other") };
        assert_eq!(failing, [(ReadKind::Balance, &expected)]);
    }

    #[test]
    fn a_success_ends_the_failure_of_that_read_only() {
        let mut health = ReadHealth::default();
        assert_eq!(health.succeeded(ReadKind::Balance, UnixMs(0)), None);
        for read in ReadKind::ALL {
            assert!(health.failed(read, cause("a", "a"), UnixMs(1_000)));
        }
        let lasted = health.succeeded(ReadKind::Balance, UnixMs(66_000));
        assert_eq!(lasted, Some(Duration::from_secs(65)));
        let left: Vec<ReadKind> = health.failing().map(|(read, _)| read).collect();
        assert_eq!(left, [ReadKind::Purchases, ReadKind::Prices, ReadKind::History]);
        assert!(health.failed(ReadKind::Balance, cause("a", "a"), UnixMs(70_000)), "a new failure");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_failure_last_for_ever() {
        let mut health = ReadHealth::default();
        assert!(health.failed(ReadKind::Balance, cause("a", "a"), UnixMs(10_000)));
        assert_eq!(health.succeeded(ReadKind::Balance, UnixMs(0)), Some(Duration::ZERO));
    }
}
