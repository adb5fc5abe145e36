//! Logs near misses: listings that an entry is about but does not match.
//!
//! An entry with a percent rule may be about thousands of listings per hour, so by default each
//! reason has one line at info per minute. The others are logged at debug.

use std::time::{Duration, Instant};

use super::{
    OrderSender,
    engine::{Engine, Now},
    trade_log,
};
use crate::{
    domain::trade::Trade,
    prices::NoReference,
    whitelist::{Mismatch, WhitelistEntry},
};

/// Minimum interval of log lines for the same reason.
const INTERVAL: Duration = Duration::from_secs(60);

/// Number of reasons that a percent rule can have.
const REASONS: usize = 9;

/// Listings that are logged at info although no entry matches them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NearMisses {
    /// Logs one per minute for each reason of a percent rule.
    #[default]
    Sampled,
    /// Logs all except those of other categories and variants.
    All,
}

/// Last line of each reason, and the number of listings since.
#[derive(Debug, Default)]
pub(super) struct NearMissLog {
    pub(super) mode: NearMisses,
    last: [Option<(Instant, u64)>; REASONS],
}

impl NearMissLog {
    /// Returns the number of listings without a line since the last one for the same reason; `None`
    /// if this one has no line either.
    #[inline]
    pub(super) fn count(
        &mut self,
        mismatch: &Mismatch,
        is_about_other_items: impl FnOnce() -> bool,
        now: Instant,
    ) -> Option<u64> {
        if self.mode == NearMisses::All {
            return (!is_about_other_items()).then_some(0);
        }
        let last = self.last.get_mut(reason(mismatch)?)?;
        match last {
            Some((at, count)) if now.saturating_duration_since(*at) < INTERVAL => {
                *count = count.saturating_add(1);
                None
            }
            _ => Some(last.replace((now, 0)).map_or(0, |(_, count)| count)),
        }
    }
}

impl<B: OrderSender> Engine<B> {
    /// Logs the condition of an entry that a listing of its item does not meet.
    pub(super) fn log_mismatch(
        &mut self,
        trade: &Trade<'_>,
        entry: usize,
        mismatch: &Mismatch,
        now: Now,
    ) {
        let is_about_others = || self.whitelist.is_about_other_items(entry, mismatch, trade);
        let repeats = self.near_misses.count(mismatch, is_about_others, now.instant);
        if !trade_log::is_repeat_logged(repeats) {
            return;
        }
        let found = self.whitelist.entries().get(entry);
        let prices = self.price_view(now);
        let share = found.and_then(|entry| Some(prices.compared_reference(entry, trade)?.share));
        let reason = self.whitelist.reason_with_share(entry, mismatch, share);
        trade_log::mismatch(trade, found.map_or("", WhitelistEntry::label), &reason, repeats);
    }
}

/// Returns the index of a reason of a percent rule in [`NearMissLog`]; `None` for another
/// condition.
const fn reason(mismatch: &Mismatch) -> Option<usize> {
    let reason = match mismatch {
        Mismatch::PercentAbove { .. } => 0,
        Mismatch::NoReference { reason, .. } => match reason {
            NoReference::NoTable => 1,
            NoReference::NoPrice => 2,
            NoReference::Stale { .. } => 3,
            NoReference::Ahead => 4,
            NoReference::FewOffers { .. } => 5,
            NoReference::CountUnknown => 6,
            NoReference::Below { .. } => 7,
            NoReference::NoCoin => 8,
        },
        _ => return None,
    };
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item_filter::ItemCategory;

    const NO_PRICE: Mismatch = Mismatch::NoReference { reference: 0, reason: NoReference::NoPrice };
    const AHEAD: Mismatch = Mismatch::NoReference { reference: 0, reason: NoReference::Ahead };
    const CATEGORY: Mismatch = Mismatch::Category { actual: ItemCategory::Rifle };
    const UNKNOWN_FLOAT: Mismatch = Mismatch::FloatUnknown;

    #[test]
    fn each_reason_of_a_percent_rule_has_a_line_per_minute() {
        let (mut log, now) = (NearMissLog::default(), Instant::now());
        let second = |second| now + Duration::from_secs(second);
        assert_eq!(log.count(&NO_PRICE, || NO_PRICE.is_other_item(), now), Some(0));
        assert_eq!(log.count(&AHEAD, || AHEAD.is_other_item(), now), Some(0));
        assert_eq!(log.count(&NO_PRICE, || NO_PRICE.is_other_item(), second(1)), None);
        assert_eq!(log.count(&NO_PRICE, || NO_PRICE.is_other_item(), second(59)), None);
        assert_eq!(log.count(&NO_PRICE, || NO_PRICE.is_other_item(), second(60)), Some(2));
        assert_eq!(log.count(&NO_PRICE, || NO_PRICE.is_other_item(), second(61)), None);
        assert_eq!(log.count(&UNKNOWN_FLOAT, || UNKNOWN_FLOAT.is_other_item(), now), None);
        assert_eq!(log.count(&CATEGORY, || CATEGORY.is_other_item(), now), None);
    }

    #[test]
    fn on_request_every_near_miss_has_a_line() {
        let mut log = NearMissLog { mode: NearMisses::All, ..NearMissLog::default() };
        let now = Instant::now();
        for _ in 0..2 {
            assert_eq!(log.count(&NO_PRICE, || NO_PRICE.is_other_item(), now), Some(0));
            assert_eq!(log.count(&UNKNOWN_FLOAT, || UNKNOWN_FLOAT.is_other_item(), now), Some(0));
            assert_eq!(log.count(&CATEGORY, || CATEGORY.is_other_item(), now), None);
        }
    }
}
