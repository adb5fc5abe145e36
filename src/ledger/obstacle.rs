//! Reason why no order is sent, for every place that shows it: log, alerts, page, status, exit
//! code, readiness, systemd. Pure.

use std::{fmt, time::Duration};

use super::{
    event::HaltReason,
    shared_status::SharedStatus,
    state::Snapshot,
    status::{DRY, LIVE},
};
use crate::{domain::money::Amount, ws::FeedCondition};

/// Time for which a state that usually ends by itself may last before it needs the user.
pub const GRACE: Duration = Duration::from_secs(30);
/// Time without an order connection from which it is an obstacle, and time without a feed from
/// which that needs the user: a reconnect takes some seconds.
pub const OUTAGE_MIN: Duration = Duration::from_secs(60);
/// Time after a start or a reload within which stale prices do not need the user: a download may
/// take some minutes.
pub const PRICES_GRACE: Duration = Duration::from_secs(120);

/// What the user can do about a feed without listings, or without readable ones.
pub const SILENT_REMEDY: &str = "compare with the market in your browser; if it shows new listings, \
                                 it has changed: halt the bot and look for a new version";

/// Follows the rest of a limit that is lower than what it has prevented.
const TOO_LOW: &str = ", less than the recent matches cost";

/// Limits in coins, in the order of the checks of an order.
pub const COIN_LIMITS: [&str; 4] = ["total", "per_hour", "per_day", "min_balance"];

/// Reason why no entry of the whitelist permits an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedEntries {
    /// Each is paused.
    Paused,
    /// Each is paused or has used up a limit of its own or its group.
    UsedUp,
    /// Each that is open otherwise needs prices that are too old.
    StalePrices,
}

/// Everything from which the obstacle is derived, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct OrderingFacts<'a> {
    pub snapshot: &'a Snapshot,
    /// `live`, `dry` or `not running`.
    pub mode: &'a str,
    pub is_writable: bool,
    /// Time since the start.
    pub running: Duration,
    /// Time since the start or the last reload of the price sources.
    pub priced: Duration,
    /// State of the feed, and the time for which listings could not arrive.
    pub feed: (FeedCondition, Duration),
    /// `true` if a read of the account that orders need has failed for [`GRACE`].
    pub is_account_unread: bool,
    /// Time without an order connection.
    pub disconnected: Duration,
    pub shared: Option<&'a SharedStatus>,
    /// `true` if some listing had a time of creation.
    pub has_creation_times: bool,
    /// `true` if most of the last listings cannot be read.
    pub is_market_unreadable: bool,
    /// For each of [`COIN_LIMITS`], the lowest price that it has prevented recently.
    pub prevented: [Option<Amount>; COIN_LIMITS.len()],
    pub entries: Option<ClosedEntries>,
}

impl<'a> OrderingFacts<'a> {
    /// Returns the facts of a session in which nothing but its ledger prevents orders.
    pub const fn of_ledger(snapshot: &'a Snapshot, mode: &'a str, is_writable: bool) -> Self {
        Self {
            snapshot,
            mode,
            is_writable,
            running: Duration::ZERO,
            priced: Duration::ZERO,
            feed: (FeedCondition::Connected, Duration::ZERO),
            is_account_unread: false,
            disconnected: Duration::ZERO,
            shared: None,
            has_creation_times: false,
            is_market_unreadable: false,
            prevented: [None; COIN_LIMITS.len()],
            entries: None,
        }
    }

    /// Returns why no order is sent; in a dry run, why none would be sent. The first reason is the
    /// one that the user must remove first.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let snapshot = self.snapshot;
        if let Some(halt) = snapshot.halts.first() {
            return Some(Obstacle::Halted(halt.reason));
        }
        if ![LIVE, DRY].contains(&self.mode) {
            return Some(Obstacle::Off);
        }
        if !self.is_writable {
            return Some(Obstacle::Unwritable);
        }
        let (state, lasts) = self.feed;
        if state != FeedCondition::Connected {
            let feed = Obstacle::Feed { state, is_long: OUTAGE_MIN <= lasts };
            // A feed that reconnects by itself does not hide an account that is late.
            let is_hidden = feed.needs_user() || self.mode != LIVE;
            let unchecked = self.unchecked_account().filter(|it| !is_hidden && it.needs_user());
            return unchecked.or(Some(feed));
        }
        self.live_obstacle().filter(|_| self.mode == LIVE).or_else(|| self.used_up())
    }

    /// Returns the obstacle of an account that was not compared with the ledger since the start.
    fn unchecked_account(&self) -> Option<Obstacle> {
        let obstacle = match self.is_account_unread {
            true => Obstacle::AccountUnread,
            false => Obstacle::NotReconciled { is_late: GRACE <= self.running },
        };
        (!self.snapshot.reconciled).then_some(obstacle)
    }

    /// Returns what prevents the orders of a live bot alone.
    fn live_obstacle(&self) -> Option<Obstacle> {
        let snapshot = self.snapshot;
        let is_late = GRACE <= self.running;
        if let Some(unchecked) = self.unchecked_account() {
            return Some(unchecked);
        }
        let shared = self.shared.filter(|shared| !shared.is_active());
        if let Some(shared) = shared {
            return Some(match shared.state.as_str() {
                "standby" => Obstacle::Standby,
                "refused" => Obstacle::SharedRejected,
                "no contact" => Obstacle::NoContact,
                "stopping" => Obstacle::SharedStarting { is_late: false },
                _ => Obstacle::SharedStarting { is_late },
            });
        }
        if OUTAGE_MIN <= self.disconnected {
            return Some(Obstacle::NoOrderConnection);
        }
        if snapshot.loss.count > 0 && snapshot.loss_until.is_none() && !self.has_creation_times {
            return Some(Obstacle::PowerLoss);
        }
        snapshot.paused_until.map(|_until| Obstacle::Paused)
    }

    /// Returns the limit or the cause at the entries or the listings that permits no order.
    fn used_up(&self) -> Option<Obstacle> {
        if self.is_market_unreadable {
            return Some(Obstacle::MarketUnreadable);
        }
        let (snapshot, budget) = (self.snapshot, &self.snapshot.budget);
        let rest = |max: Option<Amount>, used| max.map(|max| max.saturating_sub(used));
        let balance = snapshot.available_min;
        let rests = [
            rest(Some(budget.total), snapshot.spent),
            rest(budget.per_hour, snapshot.spent_in_hour),
            rest(budget.per_day, snapshot.spent_in_day),
            balance.map(|left| left.saturating_sub(budget.min_balance)),
        ];
        for ((limit, rest), prevented) in COIN_LIMITS.into_iter().zip(rests).zip(self.prevented) {
            let Some(left) = rest.map(|rest| rest.max(Amount::ZERO)) else { continue };
            if left == Amount::ZERO || prevented.is_some_and(|price| left < price) {
                return Some(Obstacle::UsedUp { limit, left });
            }
        }
        // An approval counts lost orders too.
        if budget.max_buys_per_minute <= snapshot.sent_in_minute.saturating_add(snapshot.loss.count)
        {
            return Some(Obstacle::UsedUp { limit: "max_buys_per_minute", left: Amount::ZERO });
        }
        if self.shared.is_some_and(|shared| shared.slice <= shared.used) {
            return Some(Obstacle::SliceUsedUp);
        }
        let is_late = PRICES_GRACE <= self.priced;
        self.entries.map(|entries| Obstacle::Entries { entries, is_late })
    }
}

/// Reason why no order is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    Halted(HaltReason),
    /// No bot runs.
    Off,
    /// The ledger cannot be written.
    Unwritable,
    /// Listings cannot arrive. `is_long`: for at least [`OUTAGE_MIN`].
    Feed {
        state: FeedCondition,
        is_long: bool,
    },
    /// The account was not compared with the ledger since the start. `is_late`: for [`GRACE`].
    NotReconciled {
        is_late: bool,
    },
    /// Like `NotReconciled`, because reads of the account fail.
    AccountUnread,
    /// The market asked to slow down.
    Paused,
    Standby,
    SharedRejected,
    NoContact,
    SharedStarting {
        is_late: bool,
    },
    NoOrderConnection,
    /// A power loss may have hidden orders, and the listings of the market have no time by which
    /// later ones are recognized.
    PowerLoss,
    MarketUnreadable,
    /// A limit has nothing left, or less than a listing cost that it prevented.
    UsedUp {
        limit: &'static str,
        left: Amount,
    },
    SliceUsedUp,
    Entries {
        entries: ClosedEntries,
        is_late: bool,
    },
}

impl Obstacle {
    /// Returns `true` if it lasts until the user acts, or longer than usual. What the user has
    /// decided and what ends by itself does not.
    pub const fn needs_user(self) -> bool {
        match self {
            Self::Halted(_)
            | Self::Unwritable
            | Self::Feed { state: FeedCondition::Blocked | FeedCondition::Silent, .. }
            | Self::AccountUnread
            | Self::SharedRejected
            | Self::NoContact
            | Self::NoOrderConnection
            | Self::PowerLoss
            | Self::MarketUnreadable => true,
            Self::Feed { is_long, .. } => is_long,
            Self::NotReconciled { is_late } | Self::SharedStarting { is_late } => is_late,
            Self::Entries { entries, is_late } => {
                is_late && matches!(entries, ClosedEntries::StalePrices)
            }
            Self::Off | Self::Paused | Self::Standby | Self::UsedUp { .. } | Self::SliceUsedUp => {
                false
            }
        }
    }

    /// Returns the word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halted(_) => "halted",
            Self::Off => "off",
            Self::Unwritable => "unwritable",
            Self::Feed { state, .. } => match state {
                FeedCondition::Blocked => "feed blocked",
                FeedCondition::Silent => "feed silent",
                FeedCondition::Connecting => "connecting",
                _ => "feed down",
            },
            Self::NotReconciled { .. } | Self::AccountUnread => "not reconciled",
            Self::Paused => "paused",
            Self::Standby => "standby",
            Self::SharedRejected | Self::NoContact | Self::SharedStarting { .. } => "no permit",
            Self::NoOrderConnection => "no connection",
            Self::PowerLoss => "power loss",
            Self::MarketUnreadable => "unreadable",
            Self::UsedUp { .. } | Self::SliceUsedUp => "used up",
            Self::Entries { entries: ClosedEntries::StalePrices, .. } => "stale prices",
            Self::Entries { .. } => "no entries",
        }
    }

    /// Returns what the user can do, without a full stop.
    pub const fn remedy(self) -> Option<&'static str> {
        Some(match self {
            // These end by themselves after some seconds.
            Self::Feed { .. } | Self::NotReconciled { .. } | Self::SharedStarting { .. }
                if !self.needs_user() =>
            {
                return None;
            }
            Self::Halted(reason) => reason.remedy(),
            Self::Unwritable => {
                "free space below SNIPER_DATA, or make it writable; the log has the cause"
            }
            Self::Feed { state: FeedCondition::Blocked, .. } => {
                "open the market in your browser; if the credential has changed, copy it into .env \
                 again and restart the bot"
            }
            Self::Feed { state: FeedCondition::Silent, .. } | Self::MarketUnreadable => {
                SILENT_REMEDY
            }
            Self::Feed { .. } | Self::NoOrderConnection => {
                "check the network and the market: sniper doctor"
            }
            Self::NotReconciled { .. } | Self::AccountUnread => {
                "look for failing reads of the account: sniper status, sniper doctor"
            }
            Self::SharedRejected | Self::NoContact | Self::SharedStarting { .. } => {
                "check the database of [shared]: sniper shared status"
            }
            Self::PowerLoss => {
                "look at the market for purchases that the bot does not know; without any, run \
                 `sniper ledger resolve lost --not-bought`"
            }
            Self::UsedUp { limit, .. } => match limit.as_bytes() {
                b"min_balance" => "deposit, or lower min_balance",
                b"total" => "raise total, or run `sniper ledger new-budget`",
                _ => return None,
            },
            Self::Entries { entries: ClosedEntries::Paused, .. } => {
                "to continue, run `sniper whitelist enable NAME`"
            }
            Self::Entries { entries: ClosedEntries::StalePrices, .. } => {
                "run `sniper prices update`"
            }
            Self::Off
            | Self::Paused
            | Self::Standby
            | Self::SliceUsedUp
            | Self::Entries { entries: ClosedEntries::UsedUp, .. } => return None,
        })
    }
}

/// The reason, such as `limit total is used up`.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Halted(_) => "ordering halted",
            Self::Off => "no bot is running",
            Self::Unwritable => "the ledger is not writable",
            Self::Feed { state, .. } => match state {
                FeedCondition::Blocked => "the market blocks the feed",
                FeedCondition::Silent => "the feed is connected, but no listings arrive",
                FeedCondition::NoListings => "the subscription to the listings has ended",
                FeedCondition::Connecting => "the feed is connecting",
                FeedCondition::Disconnected | FeedCondition::Connected => {
                    "the feed is disconnected"
                }
            },
            Self::NotReconciled { is_late: false } => "the account is being checked",
            Self::NotReconciled { is_late: true } => "the account is not reconciled",
            Self::AccountUnread => "the account cannot be read",
            Self::Paused => "the market asked to slow down",
            Self::Standby => "on standby",
            Self::SharedRejected => "the shared budget rejects this bot",
            Self::NoContact => "no contact with the shared budget",
            Self::SharedStarting { .. } => "waiting for the shared budget",
            Self::NoOrderConnection => "no order connection to the market",
            Self::PowerLoss => "a power loss may have hidden orders for any listing",
            Self::MarketUnreadable => "most listings cannot be read",
            Self::UsedUp { limit: "min_balance", left: Amount::ZERO } => {
                "the balance is at min_balance"
            }
            Self::UsedUp { limit: "min_balance", left } => {
                return write!(f, "{left} of the balance left above min_balance{TOO_LOW}");
            }
            Self::UsedUp { limit, left: Amount::ZERO } => {
                return write!(f, "limit {limit} is used up");
            }
            Self::UsedUp { limit, left } => return write!(f, "{left} of {limit} left{TOO_LOW}"),
            Self::SliceUsedUp => "its slice of the shared budget is used up",
            Self::Entries { entries, .. } => match entries {
                ClosedEntries::Paused => "every entry is paused",
                ClosedEntries::UsedUp => {
                    "every entry is paused or has used up a limit of its own or its group"
                }
                ClosedEntries::StalePrices => {
                    "each entry that could order needs prices that are too old"
                }
            },
        })
    }
}

#[cfg(test)]
impl Obstacle {
    /// Returns one of each kind.
    pub(crate) fn samples() -> Vec<Self> {
        use FeedCondition::{Blocked, Connecting, Disconnected, NoListings, Silent};
        let used_up = |limit, cents| Self::UsedUp { limit, left: Amount::from_cents(cents) };
        let feeds = [Blocked, Connecting, Disconnected, NoListings, Silent];
        let feeds = feeds.map(|state| Self::Feed { state, is_long: true });
        let entries = [ClosedEntries::Paused, ClosedEntries::UsedUp, ClosedEntries::StalePrices];
        let entries = entries.map(|entries| Self::Entries { entries, is_late: true });
        let others = [
            Self::Halted(HaltReason::OtherAccount),
            Self::Off,
            Self::Unwritable,
            Self::NotReconciled { is_late: false },
            Self::AccountUnread,
            Self::Paused,
            Self::Standby,
            Self::SharedRejected,
            Self::NoContact,
            Self::SharedStarting { is_late: true },
            Self::NoOrderConnection,
            Self::PowerLoss,
            Self::MarketUnreadable,
            used_up("total", 0),
            used_up("per_day", 30),
            used_up("min_balance", 30),
            Self::SliceUsedUp,
        ];
        others.into_iter().chain(feeds).chain(entries).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Budget,
        domain::time::UnixMs,
        ledger::{Halt, LedgerState, intent::CrashLoss, shared_status::ACTIVE},
    };

    fn snapshot() -> Snapshot {
        let budget = Budget {
            total: Amount::from_cents(1_000),
            max_buys_per_minute: 10,
            min_balance: Amount::from_cents(2_000),
            ..Budget::default()
        };
        let mut snapshot = LedgerState::new(budget, true).snapshot(UnixMs(0));
        (snapshot.reconciled, snapshot.available_min) = (true, Some(Amount::from_cents(10_000)));
        snapshot
    }

    /// Checks the reason, and whether it needs the user.
    #[track_caller]
    fn check(facts: OrderingFacts<'_>, reason: Option<(&str, bool)>) {
        let facts = OrderingFacts { mode: LIVE, ..facts };
        let actual = facts.obstacle().map(|it| (it.to_string(), it.needs_user()));
        assert_eq!(actual, reason.map(|(text, needs_user)| (text.to_owned(), needs_user)));
    }

    #[test]
    fn each_state_of_a_session_has_its_reason() {
        let snapshot = snapshot();
        let fine = OrderingFacts::of_ledger(&snapshot, LIVE, true);
        check(fine, None);
        check(
            OrderingFacts { is_writable: false, ..fine },
            Some(("the ledger is not writable", true)),
        );
        let minute = Duration::from_secs(60);
        for (feed, reason, needs_user) in [
            ((FeedCondition::Blocked, Duration::ZERO), "the market blocks the feed", true),
            (
                (FeedCondition::Silent, minute),
                "the feed is connected, but no listings arrive",
                true,
            ),
            ((FeedCondition::Disconnected, minute / 2), "the feed is disconnected", false),
            ((FeedCondition::Disconnected, minute), "the feed is disconnected", true),
            (
                (FeedCondition::NoListings, minute),
                "the subscription to the listings has ended",
                true,
            ),
        ] {
            check(OrderingFacts { feed, ..fine }, Some((reason, needs_user)));
        }
        let disconnected = OrderingFacts { disconnected: minute, ..fine };
        check(disconnected, Some(("no order connection to the market", true)));
        check(OrderingFacts { disconnected: minute / 2, ..fine }, None);
        let unreadable = OrderingFacts { is_market_unreadable: true, ..fine };
        check(unreadable, Some(("most listings cannot be read", true)));
        for (entries, reason, needs_user) in [
            (ClosedEntries::Paused, "every entry is paused", false),
            (
                ClosedEntries::StalePrices,
                "each entry that could order needs prices that are too old",
                true,
            ),
        ] {
            let facts = OrderingFacts { entries: Some(entries), priced: PRICES_GRACE, ..fine };
            check(facts, Some((reason, needs_user)));
        }
        let stale = Some(ClosedEntries::StalePrices);
        let downloading = OrderingFacts { entries: stale, running: minute * 60, ..fine };
        let reason = "each entry that could order needs prices that are too old";
        check(downloading, Some((reason, false)));
        let dry = OrderingFacts { mode: DRY, disconnected: minute, ..fine };
        assert_eq!(dry.obstacle(), None, "a dry run needs no order connection");
    }

    #[test]
    fn a_state_that_ends_by_itself_has_no_remedy_and_one_that_needs_the_user_has() {
        use FeedCondition::{Connecting, Disconnected, NoListings};
        let feed = |state, is_long| Obstacle::Feed { state, is_long };
        for (obstacle, has_remedy) in [
            (feed(Connecting, false), false),
            (feed(Disconnected, false), false),
            (feed(NoListings, true), true),
            (Obstacle::NotReconciled { is_late: false }, false),
            (Obstacle::NotReconciled { is_late: true }, true),
            (Obstacle::SharedStarting { is_late: false }, false),
            (Obstacle::SharedStarting { is_late: true }, true),
        ] {
            assert_eq!(obstacle.remedy().is_some(), has_remedy, "{obstacle:?}");
        }
        for obstacle in Obstacle::samples().into_iter().filter(|it| it.needs_user()) {
            assert!(obstacle.remedy().is_some(), "{obstacle:?}");
        }
    }

    #[test]
    fn the_account_and_the_shared_budget_need_the_user_once_they_are_late() {
        let mut snapshot = snapshot();
        snapshot.reconciled = false;
        let starting = OrderingFacts::of_ledger(&snapshot, LIVE, true);
        let late = OrderingFacts { running: GRACE, ..starting };
        check(starting, Some(("the account is being checked", false)));
        check(late, Some(("the account is not reconciled", true)));
        let (outage, down) = (Duration::from_secs(31), FeedCondition::Disconnected);
        let feed = (down, outage);
        check(OrderingFacts { feed, ..late }, Some(("the account is not reconciled", true)));
        check(OrderingFacts { feed, ..starting }, Some(("the feed is disconnected", false)));
        let feed = (down, OUTAGE_MIN);
        check(OrderingFacts { feed, ..late }, Some(("the feed is disconnected", true)));
        let unread = OrderingFacts { is_account_unread: true, ..starting };
        check(unread, Some(("the account cannot be read", true)));
        let unread = OrderingFacts { feed: (down, outage), ..unread };
        check(unread, Some(("the account cannot be read", true)));
        let dry = OrderingFacts { mode: DRY, ..unread };
        assert!(!dry.obstacle().unwrap().needs_user(), "a dry run needs no account");
        snapshot.reconciled = true;
        for (state, running, reason) in [
            ("standby", GRACE, Some(("on standby", false))),
            ("refused", GRACE, Some(("the shared budget rejects this bot", true))),
            ("no contact", GRACE, Some(("no contact with the shared budget", true))),
            ("starting", Duration::ZERO, Some(("waiting for the shared budget", false))),
            ("starting", GRACE, Some(("waiting for the shared budget", true))),
            ("stopping", GRACE, Some(("waiting for the shared budget", false))),
            (ACTIVE, GRACE, Some(("its slice of the shared budget is used up", false))),
        ] {
            let state = state.to_owned();
            let shared = SharedStatus { state, slice: 7, used: 7, ..SharedStatus::default() };
            let facts = OrderingFacts::of_ledger(&snapshot, LIVE, true);
            check(OrderingFacts { shared: Some(&shared), running, ..facts }, reason);
        }
    }

    #[test]
    fn a_rest_that_is_lower_than_what_it_has_prevented_is_used_up() {
        let mut snapshot = snapshot();
        let cents = Amount::from_cents;
        let prevented = |limit: usize, price| {
            let mut prevented = [None; COIN_LIMITS.len()];
            prevented[limit] = Some(cents(price));
            prevented
        };
        snapshot.spent = cents(970);
        let check_with = |snapshot: &Snapshot, prevented, reason: Option<&str>| {
            let facts = OrderingFacts::of_ledger(snapshot, LIVE, true);
            let reason = reason.map(|reason| (reason, false));
            check(OrderingFacts { prevented, ..facts }, reason);
        };
        check_with(
            &snapshot,
            prevented(0, 500),
            Some("0.30 of total left, less than the recent matches cost"),
        );
        check_with(&snapshot, prevented(0, 30), None);
        snapshot.spent = cents(1_000);
        check_with(&snapshot, prevented(0, 500), Some("limit total is used up"));
        snapshot.spent = Amount::ZERO;
        snapshot.available_min = Some(cents(2_100));
        let rest =
            Some("1.00 of the balance left above min_balance, less than the recent matches cost");
        check_with(&snapshot, prevented(3, 500), rest);
        snapshot.available_min = Some(cents(1_900));
        check_with(&snapshot, prevented(1, 1), Some("the balance is at min_balance"));
        snapshot.available_min = None;
        snapshot.sent_in_minute = 10;
        let rate = Some("limit max_buys_per_minute is used up");
        check_with(&snapshot, prevented(1, 1), rate);
    }

    #[test]
    fn a_power_loss_on_a_market_without_times_needs_the_user_and_a_halt_comes_first() {
        let mut snapshot = snapshot();
        snapshot.loss = CrashLoss { coins: Amount::from_cents(100), count: 2, ..snapshot.loss };
        let facts = OrderingFacts::of_ledger(&snapshot, LIVE, true);
        check(facts, Some(("a power loss may have hidden orders for any listing", true)));
        check(OrderingFacts { has_creation_times: true, ..facts }, None);
        let mut snapshot = snapshot.clone();
        snapshot.halts = vec![Halt { at: UnixMs(0), reason: HaltReason::OtherAccount, count: 1 }];
        let facts = OrderingFacts::of_ledger(&snapshot, LIVE, false);
        check(facts, Some(("ordering halted", true)));
    }
}
