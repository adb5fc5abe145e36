//! Checks of a listing that do not depend on the whitelist or the limits: status, opening time,
//! expiry, markup. Pure.
//!
//! The market's clock is known only as an interval. A listing is open once the *earliest*
//! possible server time reaches its opening time, and expired once the *latest* reaches its expiry.

use std::fmt;

use crate::{
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::{Trade, TradeStatus},
};

/// Bounds of the server's current time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTime {
    /// Lower bound; `None` while the server's clock is unknown.
    pub earliest: Option<UnixMs>,
    /// Upper bound; the local time while the server's clock has no upper bound.
    pub latest: UnixMs,
}

/// Result of [`eligibility`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// The listing can be ordered now.
    Now,
    /// The listing can be ordered once the server's clock has certainly reached this time.
    From(UnixMs),
    Never(SkipReason),
}

/// Reason for which a matched listing is not ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The status is not `LISTED`.
    Status(TradeStatus),
    /// `canJoin` is false.
    CannotJoin,
    /// The listing is our own.
    Own,
    /// The listing does not have exactly one item.
    Items(u32),
    /// The listing has expired, or expires before it opens.
    Expired,
    /// The markup contradicts the prices, so one of the three is wrong.
    Markup { claimed: Option<Percent>, total: Option<Amount>, base: Option<Amount> },
}

/// Decides if and when a listing can be ordered. `is_flagged` is `true` if the market has flagged
/// the account as a suspected trader, for which listings open later.
#[inline]
pub fn eligibility(trade: &Trade<'_>, time: ServerTime, is_flagged: bool) -> Eligibility {
    if let Some(skip_reason) = skip_reason(trade) {
        return Eligibility::Never(skip_reason);
    }
    let flagged = trade.suspected_trader_can_join_after.filter(|_mark| is_flagged);
    let available_at = trade.can_join_after.max(flagged);
    let is_expired = |at: UnixMs| trade.expires_at.is_some_and(|expires| expires <= at);
    if is_expired(time.latest) || available_at.is_some_and(is_expired) {
        return Eligibility::Never(SkipReason::Expired);
    }
    match available_at {
        Some(available_at) if time.earliest.is_none_or(|earliest| earliest < available_at) => {
            Eligibility::From(available_at)
        }
        _ => Eligibility::Now,
    }
}

#[inline]
fn skip_reason(trade: &Trade<'_>) -> Option<SkipReason> {
    if trade.status != TradeStatus::Listed {
        return Some(SkipReason::Status(trade.status));
    }
    if trade.can_join == Some(false) {
        return Some(SkipReason::CannotJoin);
    }
    if trade.is_own {
        return Some(SkipReason::Own);
    }
    if trade.items != 1 {
        return Some(SkipReason::Items(trade.items));
    }
    let (claimed, total, base) = (trade.markup_percent, trade.total_value, trade.base_value);
    let agrees = match (claimed, total, base) {
        (Some(claimed), Some(total), Some(base)) => claimed.is_markup_of(total, base),
        // The market states neither. On a market that states them, their absence is a defect.
        (None, _, None) => true,
        _ => false,
    };
    (!agrees).then_some(SkipReason::Markup { claimed, total, base })
}

impl SkipReason {
    /// Returns the name in counters and reports, and the text for users, without figures.
    pub const fn name_and_text(&self) -> (&'static str, &'static str) {
        match self {
            Self::Status(_) => ("not listed any more", "it is not listed any more"),
            Self::CannotJoin => {
                ("cannot be joined", "the market does not allow this account to buy it now")
            }
            Self::Own => ("own listing", "it is your own listing"),
            Self::Items(_) => ("not exactly one item", "it does not have exactly one item"),
            Self::Expired => ("expired", "it has expired"),
            Self::Markup { .. } => {
                ("markup does not agree", "its markup does not match its prices")
            }
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name_and_text().1)?;
        match self {
            Self::Status(status) => write!(f, " ({status})"),
            Self::Items(count) => write!(f, ", but {count}"),
            Self::Markup { claimed: Some(claimed), total: Some(total), base: Some(base) } => {
                write!(f, ": markup {claimed}%, price {total}, base price {base}")
            }
            Self::Markup { .. } => f.write_str(": one of them is missing"),
            Self::CannotJoin | Self::Own | Self::Expired => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::whitelist::tests::{REDLINE, trade};

    /// The server's time is between 2,000,000 and 2,001,000 ms.
    const NOW: ServerTime =
        ServerTime { earliest: Some(UnixMs(2_000_000)), latest: UnixMs(2_001_000) };

    #[track_caller]
    fn check(change: impl FnOnce(&mut Trade<'_>), expected: Eligibility) {
        let mut trade = trade("a", REDLINE);
        change(&mut trade);
        assert_eq!(eligibility(&trade, NOW, false), expected);
    }

    fn never(skip_reason: SkipReason) -> Eligibility {
        Eligibility::Never(skip_reason)
    }

    #[test]
    fn a_complete_listing_is_eligible_now() {
        check(|_trade| {}, Eligibility::Now);
        check(|trade| trade.can_join = None, Eligibility::Now);
    }

    #[test]
    fn each_skip_reason_applies_alone() {
        check(
            |trade| trade.status = TradeStatus::Joined,
            never(SkipReason::Status(TradeStatus::Joined)),
        );
        check(
            |trade| trade.status = TradeStatus::Other,
            never(SkipReason::Status(TradeStatus::Other)),
        );
        check(|trade| trade.can_join = Some(false), never(SkipReason::CannotJoin));
        check(|trade| trade.is_own = true, never(SkipReason::Own));
        check(|trade| trade.items = 0, never(SkipReason::Items(0)));
        check(|trade| trade.items = 2, never(SkipReason::Items(2)));
        check(|trade| trade.expires_at = Some(UnixMs(2_001_000)), never(SkipReason::Expired));
        check(|trade| trade.expires_at = Some(UnixMs(2_001_001)), Eligibility::Now);
    }

    #[test]
    fn a_listing_whose_markup_contradicts_its_prices_is_skipped() {
        let claim = |hundredths| {
            let mut trade = trade("a", REDLINE);
            trade.markup_percent = Some(Percent::from_hundredths(hundredths));
            eligibility(&trade, NOW, false)
        };
        assert_eq!(claim(150), Eligibility::Now);
        assert!(matches!(claim(0), Eligibility::Never(SkipReason::Markup { .. })));
        assert!(matches!(claim(151), Eligibility::Never(SkipReason::Markup { .. })));
        check(
            |trade| trade.base_value = None,
            never(SkipReason::Markup {
                claimed: Some(Percent::from_hundredths(150)),
                total: Some(Amount::from_cents(1_015)),
                base: None,
            }),
        );
    }

    #[test]
    fn a_listing_of_a_market_without_markup_is_eligible() {
        check(|trade| (trade.markup_percent, trade.base_value) = (None, None), Eligibility::Now);
    }

    #[test]
    fn a_listing_of_a_market_without_expiry_is_eligible() {
        check(|trade| trade.expires_at = None, Eligibility::Now);
        check(
            |trade| {
                trade.expires_at = None;
                trade.can_join_after = Some(UnixMs(2_000_900));
            },
            Eligibility::From(UnixMs(2_000_900)),
        );
    }

    #[test]
    fn a_listing_is_not_eligible_before_its_opening_time_is_certain() {
        let from = |available_at| Eligibility::From(UnixMs(available_at));
        check(|trade| trade.can_join_after = Some(UnixMs(2_000_000)), Eligibility::Now);
        check(|trade| trade.can_join_after = Some(UnixMs(2_000_001)), from(2_000_001));
        check(|trade| trade.can_join_after = Some(UnixMs(2_000_900)), from(2_000_900));
    }

    #[test]
    fn no_opening_time_is_certain_while_the_server_clock_is_unknown() {
        let mut trade = trade("a", REDLINE);
        trade.can_join_after = Some(UnixMs(1));
        let unknown = ServerTime { earliest: None, latest: UnixMs(2_000_000) };
        assert_eq!(eligibility(&trade, unknown, false), Eligibility::From(UnixMs(1)));
    }

    #[test]
    fn the_opening_time_for_flagged_accounts_applies_only_to_them() {
        let mut trade = trade("a", REDLINE);
        trade.suspected_trader_can_join_after = Some(UnixMs(2_002_000));
        assert_eq!(eligibility(&trade, NOW, false), Eligibility::Now);
        assert_eq!(eligibility(&trade, NOW, true), Eligibility::From(UnixMs(2_002_000)));
        trade.can_join_after = Some(UnixMs(2_003_000));
        assert_eq!(eligibility(&trade, NOW, true), Eligibility::From(UnixMs(2_003_000)));
    }

    #[test]
    fn a_listing_that_expires_before_it_opens_is_skipped() {
        check(
            |trade| {
                trade.can_join_after = Some(UnixMs(3_000_000));
                trade.expires_at = Some(UnixMs(3_000_000));
            },
            never(SkipReason::Expired),
        );
    }

    proptest! {
        #[test]
        fn no_listing_is_eligible_before_its_opening_time(available_at in 0_i64..4_000_000, earliest in 0_i64..4_000_000, width in 0_i64..2_000) {
            let mut trade = trade("a", REDLINE);
            trade.can_join_after = Some(UnixMs(available_at));
            let time = ServerTime { earliest: Some(UnixMs(earliest)), latest: UnixMs(earliest + width) };
            let now = eligibility(&trade, time, false) == Eligibility::Now;
            prop_assert_eq!(now, available_at <= earliest);
        }

        /// A listing that is observed late raises the lower bound of the server's time.
        #[test]
        fn a_raised_lower_bound_only_opens_a_held_listing(available_at in 0_i64..3_000, expires in 2_900_i64..6_000, earliest in 0_i64..3_000, raised in 0_i64..1_000) {
            let mut trade = trade("a", REDLINE);
            trade.can_join_after = Some(UnixMs(available_at));
            trade.expires_at = Some(UnixMs(expires));
            let at = |earliest| ServerTime { earliest: Some(UnixMs(earliest)), latest: UnixMs(3_000) };
            let before = eligibility(&trade, at(earliest), false);
            let after = eligibility(&trade, at(earliest + raised), false);
            let is_opened = after == Eligibility::Now && matches!(before, Eligibility::From(_));
            prop_assert!(before == after || is_opened);
        }
    }
}
