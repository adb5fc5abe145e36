//! May this listing be bought, now or at all? Whether it is wanted and paid for is asked elsewhere.
//! Pure.
//!
//! The marketplace's clock is known only as an interval. A listing is bought when the *earliest*
//! time that it can be there has reached the mark, and counts as expired when the *latest* has.

use std::fmt;

use crate::{
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::{Trade, TradeStatus},
};

/// What time it can be at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTime {
    /// Not before; `None` while nothing is known.
    pub earliest: Option<UnixMs>,
    /// Not after. Where nothing is known, our own clock's time has to do.
    pub latest: UnixMs,
}

/// Whether a listing may be bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// At once.
    Now,
    /// When the server's clock has surely reached this moment.
    From(UnixMs),
    /// Not at all.
    Never(SkipReason),
}

/// Why a listing must not be bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// It is not for sale.
    Status(TradeStatus),
    /// The marketplace says that it cannot be joined.
    CannotJoin,
    /// It is one's own.
    Own,
    /// It sells no item, or several.
    Items(u32),
    /// It has run out, or will have before it may be bought.
    Expired,
    /// The markup it claims is not what its prices say, so one of the three is wrong.
    Markup {
        /// What it claims.
        claimed: Option<Percent>,
        /// Its price.
        total: Option<Amount>,
        /// The item's base price.
        base: Option<Amount>,
    },
}

/// Decides about one listing. `is_flagged`: the site has flagged our account as a suspected trader.
#[inline]
pub fn eligibility(trade: &Trade<'_>, time: ServerTime, is_flagged: bool) -> Eligibility {
    if let Some(obstacle) = obstacle(trade) {
        return Eligibility::Never(obstacle);
    }
    let flagged = trade.suspected_trader_can_join_after.filter(|_mark| is_flagged);
    let mark = trade.can_join_after.max(flagged);
    let is_expired = |at: UnixMs| trade.expires_at.is_none_or(|expires| expires <= at);
    if is_expired(time.latest) || mark.is_some_and(is_expired) {
        return Eligibility::Never(SkipReason::Expired);
    }
    match mark {
        Some(mark) if time.earliest.is_none_or(|earliest| earliest < mark) => {
            Eligibility::From(mark)
        }
        _ => Eligibility::Now,
    }
}

#[inline]
fn obstacle(trade: &Trade<'_>) -> Option<SkipReason> {
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
        _ => false,
    };
    (!agrees).then_some(SkipReason::Markup { claimed, total, base })
}

impl SkipReason {
    /// A short name, for counters and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "not listed any more",
            Self::CannotJoin => "cannot be joined",
            Self::Own => "own listing",
            Self::Items(_) => "not exactly one item",
            Self::Expired => "expired",
            Self::Markup { .. } => "markup does not agree",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status is {status}"),
            Self::CannotJoin => f.write_str("the site says it cannot be joined"),
            Self::Own => f.write_str("it is your own"),
            Self::Items(0) => f.write_str("it sells no item"),
            Self::Items(count) => write!(f, "it sells {count} items together"),
            Self::Expired => f.write_str("it has run out"),
            Self::Markup { claimed: Some(claimed), total: Some(total), base: Some(base) } => {
                write!(f, "its markup of {claimed}% is not that of {total} over {base}")
            }
            Self::Markup { .. } => f.write_str("its markup cannot be checked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::whitelist::tests::{REDLINE, trade};

    /// Between 2,000,000 and 2,001,000 ms.
    const NOW: ServerTime =
        ServerTime { earliest: Some(UnixMs(2_000_000)), latest: UnixMs(2_001_000) };

    #[track_caller]
    fn check(change: impl FnOnce(&mut Trade<'_>), expected: Eligibility) {
        let mut trade = trade("a", REDLINE);
        change(&mut trade);
        assert_eq!(eligibility(&trade, NOW, false), expected);
    }

    fn never(obstacle: SkipReason) -> Eligibility {
        Eligibility::Never(obstacle)
    }

    #[test]
    fn a_whole_listing_may_be_bought_at_once() {
        check(|_trade| {}, Eligibility::Now);
        check(|trade| trade.can_join = None, Eligibility::Now);
    }

    #[test]
    fn each_obstacle_stands_alone() {
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
        check(|trade| trade.expires_at = None, never(SkipReason::Expired));
    }

    #[test]
    fn a_markup_that_the_prices_do_not_bear_out_is_never_bought() {
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
    fn a_mark_is_waited_for_until_it_is_surely_reached() {
        let from = |mark| Eligibility::From(UnixMs(mark));
        check(|trade| trade.can_join_after = Some(UnixMs(2_000_000)), Eligibility::Now);
        check(|trade| trade.can_join_after = Some(UnixMs(2_000_001)), from(2_000_001));
        check(|trade| trade.can_join_after = Some(UnixMs(2_000_900)), from(2_000_900));
    }

    #[test]
    fn nothing_is_surely_reached_while_the_servers_clock_is_unknown() {
        let mut trade = trade("a", REDLINE);
        trade.can_join_after = Some(UnixMs(1));
        let unknown = ServerTime { earliest: None, latest: UnixMs(2_000_000) };
        assert_eq!(eligibility(&trade, unknown, false), Eligibility::From(UnixMs(1)));
    }

    #[test]
    fn the_mark_for_flagged_accounts_counts_only_for_them() {
        let mut trade = trade("a", REDLINE);
        trade.suspected_trader_can_join_after = Some(UnixMs(2_002_000));
        assert_eq!(eligibility(&trade, NOW, false), Eligibility::Now);
        assert_eq!(eligibility(&trade, NOW, true), Eligibility::From(UnixMs(2_002_000)));
        trade.can_join_after = Some(UnixMs(2_003_000));
        assert_eq!(eligibility(&trade, NOW, true), Eligibility::From(UnixMs(2_003_000)));
    }

    #[test]
    fn what_runs_out_before_it_may_be_bought_is_not_waited_for() {
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
        fn a_buy_is_never_allowed_before_its_mark(mark in 0_i64..4_000_000, earliest in 0_i64..4_000_000, width in 0_i64..2_000) {
            let mut trade = trade("a", REDLINE);
            trade.can_join_after = Some(UnixMs(mark));
            let time = ServerTime { earliest: Some(UnixMs(earliest)), latest: UnixMs(earliest + width) };
            let now = eligibility(&trade, time, false) == Eligibility::Now;
            prop_assert_eq!(now, mark <= earliest);
        }
    }
}
