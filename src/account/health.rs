//! Failing reads of the account, with the time and the cause. Pure.
//!
//! A failing read is logged when it begins to fail, when its cause changes and when it succeeds
//! again. `sniper status` lists the failing reads.

use std::{borrow::Cow, time::Duration};

use crate::{
    domain::time::UnixMs,
    secret,
    text::{Escaped, is_safe_to_print},
};

/// Maximum length of a cause, in characters.
const CAUSE_CHARS_MAX: usize = 400;

/// Kind of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadKind {
    /// The user and the balance.
    Balance,
    /// The list of own purchases back to the oldest open order.
    Purchases,
    /// The prices in that list.
    Prices,
    /// The rest of the list, for purchases of the last days.
    History,
    /// Orders by their own ids.
    Orders,
}

/// Cause of a failed read, safe to print, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCause {
    /// Identity of the cause. Excludes figures that change with every read.
    key: String,
    text: String,
    remedy: Cow<'static, str>,
}

/// Read that fails at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingRead {
    pub since: UnixMs,
    pub cause: FailureCause,
}

/// State of all reads.
#[derive(Debug, Default)]
pub struct ReadHealth {
    failing: [Option<FailingRead>; ReadKind::ALL.len()],
}

impl ReadKind {
    pub const ALL: [Self; 5] =
        [Self::Balance, Self::Purchases, Self::Prices, Self::History, Self::Orders];

    /// Returns the name that messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Purchases => "own purchases",
            Self::Prices => "prices of own purchases",
            Self::History => "own purchases of the last 8 days",
            Self::Orders => "orders by their own ids",
        }
    }
}

impl FailureCause {
    /// Creates a cause. Masks credentials in `text`, cuts it, and escapes it unless it is escaped
    /// already.
    pub fn new(key: String, text: &str, remedy: impl Into<Cow<'static, str>>) -> Self {
        let masked = secret::mask(text);
        let text = if masked.chars().all(is_safe_to_print) {
            masked.chars().take(CAUSE_CHARS_MAX).collect()
        } else {
            Escaped(&masked).to_string()
        };
        Self { key, text, remedy: remedy.into() }
    }

    /// Appends a detail to the text.
    #[must_use]
    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.text.push_str(detail);
        self
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Returns `true` if both are the same cause, regardless of figures.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl ReadHealth {
    /// Records a failed read. Returns `true` if it should be reported, because the read did not fail
    /// before or failed for another cause.
    pub fn on_failure(&mut self, read: ReadKind, cause: FailureCause, now: UnixMs) -> bool {
        let Some(slot) = self.slot(read) else { return true };
        let is_changed = slot.as_ref().is_none_or(|before| !before.cause.is_same(&cause));
        let since = slot.as_ref().map_or(now, |before| before.since);
        *slot = Some(FailingRead { since, cause });
        is_changed
    }

    /// Records a successful read. Returns the duration of the failure that it ends.
    pub fn on_success(&mut self, read: ReadKind, now: UnixMs) -> Option<Duration> {
        let failing = self.slot(read).and_then(Option::take);
        failing.map(|failing| now.since(failing.since))
    }

    /// Returns the failing reads.
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
        assert!(health.on_failure(ReadKind::Balance, cause("a", "3 of 4"), UnixMs(1_000)));
        assert!(!health.on_failure(ReadKind::Balance, cause("a", "5 of 6"), UnixMs(2_000)));
        assert!(health.on_failure(ReadKind::Balance, cause("b", "other"), UnixMs(3_000)));
        let failing: Vec<_> = health.failing().collect();
        let expected = FailingRead { since: UnixMs(1_000), cause: cause("b", "other") };
        assert_eq!(failing, [(ReadKind::Balance, &expected)]);
    }

    #[test]
    fn a_success_ends_the_failure_of_that_read_only() {
        let mut health = ReadHealth::default();
        assert_eq!(health.on_success(ReadKind::Balance, UnixMs(0)), None);
        for read in ReadKind::ALL {
            assert!(health.on_failure(read, cause("a", "a"), UnixMs(1_000)));
        }
        let lasted = health.on_success(ReadKind::Balance, UnixMs(66_000));
        assert_eq!(lasted, Some(Duration::from_secs(65)));
        let left: Vec<ReadKind> = health.failing().map(|(read, _)| read).collect();
        assert_eq!(left, ReadKind::ALL[1..]);
        assert!(
            health.on_failure(ReadKind::Balance, cause("a", "a"), UnixMs(70_000)),
            "a new failure"
        );
    }

    #[test]
    fn a_failure_lasts_zero_seconds_after_the_clock_was_set_back() {
        let mut health = ReadHealth::default();
        assert!(health.on_failure(ReadKind::Balance, cause("a", "a"), UnixMs(10_000)));
        assert_eq!(health.on_success(ReadKind::Balance, UnixMs(0)), Some(Duration::ZERO));
    }
}
