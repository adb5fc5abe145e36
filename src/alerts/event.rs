//! Events that are alerted, and their texts. Pure.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{
    domain::alert_kind::AlertKind,
    domain::money::Amount,
    domain::outcome::RejectReason,
    domain::time::{OffsetTime, UnixMs, format_duration},
    domain::unit,
    ledger::{HaltReason, Obstacle, intent::CrashLoss},
    secret,
    text::{counted, is_safe_to_print},
};

/// Maximum length of a text of the market, in characters.
const MARKET_CHARS_MAX: usize = 120;
/// Maximum length of a reason in which the bot names an item or a cause, in characters.
const REASON_CHARS_MAX: usize = 300;

/// Character without width. Inside a mention, a link or a command, it prevents channels from
/// recognizing it.
const JOINER: char = '\u{2060}';

/// Something that the user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Wall clock.
    pub at: UnixMs,
    pub event: AlertEvent,
}

/// Order or purchase of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertOrder {
    /// Untrusted text of the market; `None` for an order of an earlier session.
    pub item: Option<String>,
    pub price: Amount,
}

/// Remaining budget and balance after a purchase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetLeft {
    pub spent: Amount,
    pub total: Amount,
    pub balance: Option<Amount>,
}

/// Figures of a session, for the daily summary and the status of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFigures {
    pub is_live: bool,
    /// Why no order is sent.
    pub obstacle: Option<Obstacle>,
    /// Dry run: orders that would have been sent.
    pub would_buy: u64,
    pub listings: u64,
    pub bought: u64,
    pub rejected: u64,
    /// Orders whose outcome was unknown at first.
    pub unknown: u64,
    pub skipped: u64,
    pub spent_in_day: Amount,
    pub left: BudgetLeft,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertEvent {
    Started {
        is_live: bool,
        entries: usize,
    },
    Stopped {
        reason: String,
        is_failure: bool,
    },
    Bought {
        order: AlertOrder,
        /// `None` for an order whose outcome was unknown before.
        left: Option<BudgetLeft>,
    },
    /// Dry run.
    WouldBuy {
        order: AlertOrder,
    },
    Rejected {
        order: AlertOrder,
        reason: RejectReason,
    },
    Unknown {
        order: AlertOrder,
        reason: String,
    },
    /// Orders of earlier runs whose outcome is unknown at the start.
    Unresolved {
        orders: u32,
        coins: Amount,
        /// Orders that a power loss may have hidden.
        lost: CrashLoss,
    },
    /// An order of unknown outcome was not bought.
    NotBought {
        order: AlertOrder,
    },
    /// A purchase was cancelled; its coins are not back.
    Cancelled {
        order: AlertOrder,
    },
    /// The coins of a cancelled purchase are back.
    Refunded {
        order: AlertOrder,
    },
    Halted {
        since: OffsetTime,
        reason: HaltReason,
        /// The reason with its item. Untrusted.
        text: String,
    },
    Resumed,
    /// The account cannot be read. With `is_needed`, no order is sent until it was read.
    AccountUnread {
        since: OffsetTime,
        cause: String,
        remedy: String,
        is_needed: bool,
    },
    AccountRead,
    /// No order can be sent, for a reason without an event of its own.
    NoOrders {
        obstacle: Obstacle,
    },
    /// This reason has ended.
    OrdersAgain {
        obstacle: Obstacle,
    },
    /// An entry has reached its `max_quantity`.
    EntryComplete {
        entry: String,
        max: u32,
    },
    /// The market rejects the feed's connection until the user acts.
    FeedBlocked {
        block: FeedBlock,
        cause: String,
    },
    FeedDown {
        after: Duration,
        cause: Option<String>,
    },
    /// The feed is repeatedly lost soon after it is back.
    FeedFlapping {
        cause: Option<String>,
    },
    FeedBack {
        after: Duration,
        was_flapping: bool,
    },
    LimitReached {
        /// Name of the setting.
        limit: &'static str,
        text: String,
        item: String,
    },
    BalanceLow {
        balance: Amount,
        min: Amount,
    },
    BalanceRestored {
        balance: Amount,
    },
    DiskLow {
        free_mb: u64,
    },
    DiskRestored {
        free_mb: u64,
    },
    /// The ledger cannot be written.
    LedgerFailed {
        cause: String,
    },
    LedgerRestored,
    /// `source` identifies the source also after a change of the settings.
    PricesStale {
        source: usize,
        name: String,
        /// `None` if the source was never read.
        age: Option<Duration>,
        max_age: Duration,
    },
    PricesFresh {
        source: usize,
        name: String,
    },
    /// A source with too old prices is no longer in the settings.
    PricesRemoved {
        source: usize,
        name: String,
    },
    /// The database of the shared budget does not answer.
    SharedDown {
        cause: String,
        /// `true` if the database has confirmed a slice since the start.
        has_slice: bool,
    },
    SharedBack {
        after: Duration,
    },
    /// The shared budget rejects this bot until the user acts.
    SharedRejected {
        reason: &'static str,
    },
    /// The time is over for which the database has permitted orders, or another bot orders with the
    /// same account.
    SharedProblem {
        title: &'static str,
        text: String,
    },
    /// This bot became the active one of its standby name. `before` describes what the previous one
    /// may have spent.
    TookOver {
        standby: String,
        before: String,
    },
    /// This bot is no longer the active one.
    OnStandby {
        standby: String,
    },
    DailySummary {
        /// Since the last summary, or the start.
        day: SessionFigures,
        period: Duration,
        gaps: u64,
        down: Duration,
    },
}

/// Cause for which the market rejects the feed's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedBlock {
    /// Status 401, 403 or 451, or a rejection within the connection.
    Credential,
    Challenge,
    /// HTML that is no challenge.
    WebPage,
}

/// State that begins with one event and ends with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertCondition {
    Feed,
    Halt,
    Account,
    /// [`Obstacle::name`].
    Obstacle(&'static str),
    Balance,
    Disk,
    Ledger,
    Prices(usize),
    SharedDatabase,
}

/// Change of an [`AlertCondition`] that an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertTransition {
    /// The condition begins.
    Firing(AlertCondition),
    /// The condition ends.
    Resolved(AlertCondition),
    None,
}

impl AlertEvent {
    pub const fn kind(&self) -> AlertKind {
        match self {
            Self::Started { .. } => AlertKind::Started,
            Self::Stopped { .. } => AlertKind::Stopped,
            Self::Bought { .. } | Self::WouldBuy { .. } | Self::EntryComplete { .. } => {
                AlertKind::Bought
            }
            Self::Rejected { .. } => AlertKind::Rejected,
            Self::Unknown { .. } | Self::Unresolved { .. } | Self::NotBought { .. } => {
                AlertKind::Unknown
            }
            Self::Cancelled { .. } | Self::Refunded { .. } => AlertKind::Returned,
            Self::Halted { reason, .. } => match reason {
                HaltReason::Rejected(
                    RejectReason::Unauthenticated
                    | RejectReason::Forbidden { .. }
                    | RejectReason::KeyRejected { .. },
                ) => AlertKind::CredentialRefused,
                HaltReason::Rejected(RejectReason::Challenge | RejectReason::Captcha) => {
                    AlertKind::Challenge
                }
                _ => AlertKind::Halted,
            },
            Self::AccountUnread { .. } | Self::NoOrders { .. } => AlertKind::Halted,
            Self::Resumed | Self::AccountRead | Self::OrdersAgain { .. } => AlertKind::Resumed,
            Self::FeedBlocked { block: FeedBlock::Challenge, .. } => AlertKind::Challenge,
            Self::FeedBlocked { .. } => AlertKind::CredentialRefused,
            Self::FeedDown { .. } | Self::FeedFlapping { .. } => AlertKind::FeedDown,
            Self::FeedBack { .. } => AlertKind::FeedBack,
            Self::LimitReached { .. } => AlertKind::LimitReached,
            Self::BalanceLow { .. } | Self::BalanceRestored { .. } => AlertKind::BalanceLow,
            Self::DiskLow { .. }
            | Self::DiskRestored { .. }
            | Self::LedgerFailed { .. }
            | Self::LedgerRestored => AlertKind::Disk,
            Self::PricesStale { .. } | Self::PricesFresh { .. } | Self::PricesRemoved { .. } => {
                AlertKind::PricesStale
            }
            Self::SharedDown { .. }
            | Self::SharedBack { .. }
            | Self::SharedRejected { .. }
            | Self::SharedProblem { .. }
            | Self::TookOver { .. }
            | Self::OnStandby { .. } => AlertKind::Shared,
            Self::DailySummary { .. } => AlertKind::DailySummary,
        }
    }

    pub const fn transition(&self) -> AlertTransition {
        use AlertTransition::{Firing, Resolved};
        match self {
            Self::FeedBlocked { .. } | Self::FeedDown { .. } | Self::FeedFlapping { .. } => {
                Firing(AlertCondition::Feed)
            }
            Self::FeedBack { .. } => Resolved(AlertCondition::Feed),
            Self::Halted { .. } => Firing(AlertCondition::Halt),
            Self::Resumed => Resolved(AlertCondition::Halt),
            Self::AccountUnread { .. } => Firing(AlertCondition::Account),
            Self::AccountRead => Resolved(AlertCondition::Account),
            Self::NoOrders { obstacle } => Firing(AlertCondition::Obstacle(obstacle.name())),
            Self::OrdersAgain { obstacle } => Resolved(AlertCondition::Obstacle(obstacle.name())),
            Self::BalanceLow { .. } => Firing(AlertCondition::Balance),
            Self::BalanceRestored { .. } => Resolved(AlertCondition::Balance),
            Self::DiskLow { .. } => Firing(AlertCondition::Disk),
            Self::DiskRestored { .. } => Resolved(AlertCondition::Disk),
            Self::LedgerFailed { .. } => Firing(AlertCondition::Ledger),
            Self::LedgerRestored => Resolved(AlertCondition::Ledger),
            Self::PricesStale { source, .. } => Firing(AlertCondition::Prices(*source)),
            Self::PricesFresh { source, .. } | Self::PricesRemoved { source, .. } => {
                Resolved(AlertCondition::Prices(*source))
            }
            Self::SharedDown { .. } => Firing(AlertCondition::SharedDatabase),
            Self::SharedBack { .. } => Resolved(AlertCondition::SharedDatabase),
            Self::Started { .. }
            | Self::Stopped { .. }
            | Self::Bought { .. }
            | Self::WouldBuy { .. }
            | Self::Rejected { .. }
            | Self::Unknown { .. }
            | Self::Unresolved { .. }
            | Self::NotBought { .. }
            | Self::Cancelled { .. }
            | Self::Refunded { .. }
            | Self::EntryComplete { .. }
            | Self::LimitReached { .. }
            | Self::SharedRejected { .. }
            | Self::SharedProblem { .. }
            | Self::TookOver { .. }
            | Self::OnStandby { .. }
            | Self::DailySummary { .. } => AlertTransition::None,
        }
    }

    /// Returns the order of an event about one, and the word that follows the number of such events
    /// in a digest: `12 bought`. Many of them can arrive at once, so they are collected.
    pub const fn order(&self) -> Option<(&AlertOrder, &'static str)> {
        Some(match self {
            Self::Bought { order, .. } => (order, "bought"),
            Self::WouldBuy { order } => (order, "would buy (dry run)"),
            Self::Rejected { order, .. } => (order, "rejected"),
            Self::Unknown { order, .. } => (order, "unknown"),
            Self::NotBought { order } => (order, "not bought"),
            Self::Cancelled { order } => (order, "cancelled"),
            Self::Refunded { order } => (order, "returned"),
            _ => return None,
        })
    }

    pub fn title(&self) -> String {
        let title = match self {
            Self::Started { .. } => "Started",
            Self::Stopped { is_failure: false, .. } => "Stopped",
            Self::Stopped { is_failure: true, .. } => "Stopped by a failure",
            Self::Bought { .. } => "Bought",
            Self::WouldBuy { .. } => "Would buy (dry run)",
            Self::Rejected { .. } => "Rejected",
            Self::Unknown { .. } => "Outcome unknown",
            Self::Unresolved { .. } => "Orders of an earlier run are unresolved",
            Self::NotBought { .. } => "Unknown order was not bought",
            Self::Cancelled { .. } => "Purchase cancelled",
            Self::Refunded { .. } => "Purchase returned",
            Self::Halted { .. } => match self.kind() {
                AlertKind::CredentialRefused => "Credential rejected, ordering halted",
                AlertKind::Challenge => "Challenge, ordering halted",
                _ => "Ordering halted",
            },
            Self::Resumed => "Ordering resumed",
            Self::AccountUnread { is_needed: true, .. } => "No orders: the account cannot be read",
            Self::AccountUnread { is_needed: false, .. } => "The account cannot be read",
            Self::AccountRead => "The account can be read",
            Self::NoOrders { obstacle } => return format!("No orders: {obstacle}"),
            Self::OrdersAgain { .. } => "Orders can be sent again",
            Self::EntryComplete { .. } => "Entry complete",
            Self::FeedBlocked { block, .. } => match block {
                FeedBlock::Challenge => "Challenge: the feed is blocked",
                FeedBlock::Credential => "Credential rejected by the feed",
                FeedBlock::WebPage => "The feed's address returned a web page instead of the feed",
            },
            Self::FeedDown { .. } => "Feed down",
            Self::FeedFlapping { .. } => "Feed lost again and again",
            Self::FeedBack { .. } => "Feed back",
            Self::LimitReached { limit, .. } => return format!("Limit reached: {limit}"),
            Self::BalanceLow { .. } => "Balance low",
            Self::BalanceRestored { .. } => "Balance restored",
            Self::DiskLow { .. } => "Disk almost full",
            Self::DiskRestored { .. } => "Disk has space again",
            Self::LedgerFailed { .. } => "Ledger not writable",
            Self::LedgerRestored => "Ledger writable again",
            Self::PricesStale { .. } => "Prices too old",
            Self::PricesFresh { .. } => "Prices fresh again",
            Self::PricesRemoved { .. } => "Price source removed",
            Self::SharedDown { .. } => "Shared budget not reachable",
            Self::SharedBack { .. } => "Shared budget reachable again",
            Self::SharedRejected { .. } => "Shared budget rejects this bot",
            Self::SharedProblem { title, .. } => title,
            Self::TookOver { .. } => "Took over",
            Self::OnStandby { .. } => "On standby",
            Self::DailySummary { .. } => "Daily summary",
        };
        title.to_owned()
    }

    /// Returns the text below the title. No channel recognizes a mention, a link or a command in a
    /// text of the market.
    pub fn text(&self) -> String {
        match self {
            Self::Started { is_live, entries } => {
                let mode = if *is_live { "Live" } else { "Dry run" };
                let entries = counted(*entries, "whitelist entry", "whitelist entries");
                format!("{mode}, {entries}")
            }
            Self::Stopped { reason, .. } => market_text(reason),
            Self::Bought { order, left: Some(left) } => {
                format!("{}\n{}", order.line(), left.text())
            }
            Self::Bought { order, left: None } => {
                format!("{}\nIts outcome was unknown before.", order.line())
            }
            Self::WouldBuy { order }
            | Self::NotBought { order }
            | Self::Cancelled { order }
            | Self::Refunded { order } => order.line(),
            Self::Rejected { order, reason } => format!("{}: {reason}", order.line()),
            Self::Unknown { order, reason } => format!(
                "{}: {}\nIt counts as spent until your account shows the result.",
                order.line(),
                market_text(reason)
            ),
            Self::Halted { since, reason, text } => {
                let (text, remedy) = (escaped(text, REASON_CHARS_MAX), reason.remedy());
                let since = since.to_the_second();
                format!(
                    "{text}.\nHalted since {since}. What to do: {remedy}. Still watching, sending no \
                     orders."
                )
            }
            Self::Unresolved { orders, coins, lost } => {
                let hidden = (lost.count, &lost.coins, "at most, hidden by a power loss");
                let parts = [(*orders, coins, "of unknown outcome"), hidden];
                let parts = parts.iter().filter(|(count, ..)| *count > 0);
                let lines = parts.map(|(count, coins, what)| {
                    format!("{} for {coins} {what}\n", counted(*count, "order", "orders"))
                });
                lines.collect::<String>() + "Counted as spent until resolved. See: sniper ledger"
            }
            Self::Resumed => "Orders are sent again.".to_owned(),
            Self::AccountUnread { .. }
            | Self::NoOrders { .. }
            | Self::OrdersAgain { .. }
            | Self::EntryComplete { .. } => self.obstacle_text(),
            Self::FeedBlocked { .. }
            | Self::FeedDown { .. }
            | Self::FeedFlapping { .. }
            | Self::FeedBack { .. }
            | Self::LimitReached { .. }
            | Self::BalanceLow { .. }
            | Self::BalanceRestored { .. }
            | Self::DiskLow { .. }
            | Self::DiskRestored { .. }
            | Self::LedgerFailed { .. }
            | Self::PricesStale { .. }
            | Self::PricesFresh { .. }
            | Self::PricesRemoved { .. }
            | Self::SharedDown { .. }
            | Self::SharedBack { .. }
            | Self::SharedRejected { .. }
            | Self::SharedProblem { .. }
            | Self::TookOver { .. }
            | Self::OnStandby { .. }
            | Self::DailySummary { .. } => self.condition_text(),
            Self::AccountRead | Self::LedgerRestored => String::new(),
        }
    }

    /// Returns the text of an event about the feed, limits, the disk, prices or the shared budget.
    fn condition_text(&self) -> String {
        match self {
            Self::FeedBlocked { block: FeedBlock::WebPage, cause } => format!(
                "{}\nWhat to do: open the market in your browser; pass the challenge, if there is \
                 one, and copy the cookie again, if the market uses one; if it works there, check \
                 the addresses in .env.",
                market_text(cause)
            ),
            Self::FeedBlocked { cause, .. } => format!(
                "{}\nWhat to do: open the market in your browser and pass the challenge, if there is \
                 one. Where a cookie is the credential, log in, copy it into .env again, and restart the bot, \
                 because only the feed reads it by itself; where a \
                 key is, check at the market that it is valid and may be used from the IP address \
                 of this machine.",
                market_text(cause)
            ),
            Self::FeedDown { after, cause } => {
                with_cause(format!("No listings for {}", format_duration(*after)), cause.as_deref())
            }
            Self::FeedFlapping { cause } => {
                with_cause("The feed keeps disconnecting".to_owned(), cause.as_deref())
            }
            Self::FeedBack { after, was_flapping: true } => {
                format!("It was lost again and again for {}", format_duration(*after))
            }
            Self::LimitReached { text, item, .. } => {
                format!("{}\nFirst listing not ordered: {}", market_text(text), market_text(item))
            }
            Self::BalanceLow { balance, min } => {
                format!("{balance}; orders must leave min_balance {min}. Deposit, or lower it.")
            }
            Self::BalanceRestored { balance } => format!("{balance} {}", unit::name()),
            Self::DiskLow { free_mb } => format!(
                "{free_mb} MB free below SNIPER_DATA\nFree space: without it, no order is sent."
            ),
            Self::DiskRestored { free_mb } => format!("{free_mb} MB free below SNIPER_DATA"),
            Self::LedgerFailed { cause } => {
                let remedy = "What to do: check the free space and permissions of SNIPER_DATA.";
                format!("{}\nNo order is sent. {remedy}", market_text(cause))
            }
            Self::PricesStale { name, age, max_age, .. } => {
                let max = format_duration(*max_age);
                let age = match age {
                    None => "no prices yet".to_owned(),
                    // Only prices from the future are stale at an age of zero.
                    Some(Duration::ZERO) => "prices from the future, check the clock".to_owned(),
                    Some(age) => format!("prices {} old (limit {max})", format_duration(*age)),
                };
                format!("{name}: {age}; rules based on it buy nothing. Run: sniper prices update")
            }
            Self::PricesFresh { name, .. } | Self::PricesRemoved { name, .. } => name.clone(),
            Self::SharedDown { cause, has_slice } => {
                format!("{}\n{}", market_text(cause), without_database(*has_slice))
            }
            Self::FeedBack { after, .. } | Self::SharedBack { after } => {
                format!("After {}", format_duration(*after))
            }
            Self::SharedRejected { reason } => format!("{reason}. No order is sent."),
            Self::SharedProblem { text, .. } => limited(text, REASON_CHARS_MAX),
            Self::TookOver { standby, before } => {
                format!("This bot is the active one of {standby} now and sends orders. {before}")
            }
            Self::OnStandby { standby } => {
                format!("This bot sends no orders while another one of {standby} is active.")
            }
            Self::DailySummary { day, period, gaps, down } => day.summary(*period, *gaps, *down),
            _ => String::new(),
        }
    }

    /// Returns the text of the events about what prevents orders without a halt.
    fn obstacle_text(&self) -> String {
        match self {
            Self::AccountUnread { since, cause, remedy, is_needed } => {
                let [cause, remedy] = [cause, remedy].map(|text| escaped(text, REASON_CHARS_MAX));
                let since = since.to_the_second();
                let meanwhile = if *is_needed {
                    ""
                } else {
                    " Orders go on with the last balance; unknown ones stay unknown."
                };
                format!("{cause}.\nFailing since {since}.{meanwhile} What to do: {remedy}.")
            }
            Self::NoOrders { obstacle } => {
                obstacle.remedy().map_or_else(String::new, |it| format!("What to do: {it}."))
            }
            Self::OrdersAgain { obstacle } => format!("It is over: {obstacle}"),
            Self::EntryComplete { entry, max } => {
                format!("{}: {max} of {max} bought", market_text(entry))
            }
            _ => String::new(),
        }
    }

    /// Returns the fields for programs. Unlike `text`, `item` and `reason` may contain mentions,
    /// links and commands of the market.
    pub fn data(&self) -> Map<String, Value> {
        let mut data = Map::new();
        let mut set = |key: &str, value: Value| data.insert(key.to_owned(), value);
        set("title", self.title().into());
        set("text", self.text().into());
        if let Some((order, _word)) = self.order() {
            set("item", order.item.as_deref().map(printable).into());
            set("price", order.price.to_string().into());
        }
        match self {
            Self::Halted { since, reason, text } => {
                set("since", since.at.to_string().into());
                set("reason", printable(text).into());
                set("remedy", reason.remedy().into());
            }
            Self::Rejected { reason, .. } => {
                set("reason", reason.name().into());
            }
            Self::Unresolved { orders, coins, lost } => {
                set("orders", (*orders).into());
                set("coins", coins.to_string().into());
                set("lost_orders", lost.count.into());
                set("lost_coins", lost.coins.to_string().into());
            }
            Self::LimitReached { limit, .. } => {
                set("limit", (*limit).into());
            }
            Self::DailySummary { day, .. } => {
                set("bought", day.bought.into());
                set("rejected", day.rejected.into());
                set("unknown", day.unknown.into());
                set("spent_in_day", day.spent_in_day.to_string().into());
                set("balance", json!(day.left.balance.map(|balance| balance.to_string())));
            }
            _ => {}
        }
        data
    }
}

impl AlertOrder {
    /// Returns a line such as `12.50  AK-47 | Redline (Field-Tested)`.
    pub fn line(&self) -> String {
        match &self.item {
            Some(item) => format!("{}  {}", self.price, market_text(item)),
            None => format!("{}  (an order of an earlier run)", self.price),
        }
    }
}

impl BudgetLeft {
    fn text(&self) -> String {
        let balance = self.balance.map(|balance| format!(", balance {balance}"));
        format!("Total {} of {}{}", self.spent, self.total, balance.unwrap_or_default())
    }
}

impl SessionFigures {
    /// Returns the counts since `earlier`.
    #[must_use]
    pub const fn since(mut self, earlier: &Self) -> Self {
        self.would_buy = self.would_buy.saturating_sub(earlier.would_buy);
        self.listings = self.listings.saturating_sub(earlier.listings);
        self.bought = self.bought.saturating_sub(earlier.bought);
        self.rejected = self.rejected.saturating_sub(earlier.rejected);
        self.unknown = self.unknown.saturating_sub(earlier.unknown);
        self.skipped = self.skipped.saturating_sub(earlier.skipped);
        self
    }

    fn summary(&self, period: Duration, gaps: u64, down: Duration) -> String {
        let Self { listings, bought, rejected, unknown, skipped, spent_in_day, left, .. } = self;
        let state = match (self.is_live, self.obstacle) {
            (true, Some(why)) => format!("Not buying: {why}."),
            (false, Some(why)) => format!("Dry run, {why}."),
            (true, None) => "Buying.".to_owned(),
            (false, None) => "Dry run.".to_owned(),
        };
        let outcome = if self.is_live {
            format!(
                "{bought} bought, {spent_in_day} {} in 24 h; {rejected} rejected, {unknown} unknown",
                unit::name()
            )
        } else {
            format!("{} would be bought", self.would_buy)
        };
        let gaps = match gaps {
            0 => "no gap".to_owned(),
            1 => format!("1 gap, {}", format_duration(down)),
            gaps => format!("{gaps} gaps, {}", format_duration(down)),
        };
        format!(
            "{state} In the last {}: {outcome}; {skipped} skipped.\n{}\nFeed: {}, {gaps}",
            format_duration(period),
            left.text(),
            counted(*listings, "listing", "listings")
        )
    }
}

/// Returns what a bot does while the database of its shared budget does not answer.
const fn without_database(has_slice: bool) -> &'static str {
    if has_slice {
        "Orders go on within the slice that was confirmed, and end with it or an hour after the last \
         contact."
    } else {
        "No order is sent until it answers: no slice was confirmed since the start."
    }
}

fn with_cause(text: String, cause: Option<&str>) -> String {
    let cause = cause.map(|cause| format!(": {}", market_text(cause))).unwrap_or_default();
    text + &cause + "\nIf it lasts, run: sniper doctor"
}

/// Returns a text of the market without credentials, control characters and invisible characters,
/// cut after [`MARKET_CHARS_MAX`].
pub(super) fn printable(text: &str) -> String {
    limited(text, MARKET_CHARS_MAX)
}

fn limited(text: &str, chars_max: usize) -> String {
    let masked = secret::mask(text);
    let mut shown = String::new();
    for (count, char) in masked.chars().enumerate() {
        if count == chars_max {
            shown.push('…');
            break;
        }
        shown.push(if is_safe_to_print(char) { char } else { '\u{fffd}' });
    }
    shown
}

/// Escapes like [`printable`], and keeps channels from recognizing mentions, links and commands.
pub fn market_text(text: &str) -> String {
    escaped(text, MARKET_CHARS_MAX)
}

fn escaped(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    let mut before = ' ';
    for char in limited(text, chars_max).chars() {
        let is_link = (before, char) == ('/', '/') || before == '.' && char.is_alphabetic();
        let is_command = char == '/' && before == ' ';
        if is_link || is_command {
            shown.push(JOINER);
        }
        shown.push(char);
        if matches!(char, '@' | '#') || is_command {
            shown.push(JOINER);
        }
        before = char;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(item: &str) -> AlertOrder {
        AlertOrder { item: Some(item.to_owned()), price: Amount::from_cents(1_250) }
    }

    #[test]
    fn ordinary_item_names_are_unchanged() {
        for name in [
            "AK-47 | Redline (Field-Tested)",
            "★ StatTrak™ Karambit | Doppler (Factory New)",
            "M4A4 | 龍王 (Dragon King)",
        ] {
            assert_eq!(market_text(name), name);
        }
        assert_eq!(
            order("AK-47 | Redline (Field-Tested)").line(),
            "12.50  AK-47 | Redline (Field-Tested)"
        );
    }

    #[test]
    fn market_text_cannot_mention_link_or_command_and_hides_nothing() {
        let text = market_text("@everyone http://evil.example/x t.me/a /stop #chan a\nb \u{202e}c");
        for part in
            ["@everyone", "://", "evil.example", "t.me", " /stop", "#chan", "\n", "\u{202e}"]
        {
            assert!(!text.contains(part), "{part}: {text:?}");
        }
        let visible: String = text.chars().filter(|char| *char != JOINER).collect();
        assert_eq!(
            visible,
            "@everyone http://evil.example/x t.me/a /stop #chan a\u{fffd}b \u{fffd}c"
        );
        assert_eq!(market_text(&"x".repeat(1_000)).chars().count(), MARKET_CHARS_MAX + 1);
    }

    #[test]
    fn a_credential_in_a_name_is_masked() {
        secret::register("credential-of-the-alerts-event-test");
        let event = AlertEvent::WouldBuy { order: order("x credential-of-the-alerts-event-test") };
        let shown = format!("{} {:?}", event.text(), event.data());
        assert!(!shown.contains("credential-of"), "{shown}");
    }

    #[test]
    fn a_halt_because_of_the_credential_or_a_challenge_has_its_own_kind() {
        let since = OffsetTime { at: UnixMs(1_772_359_200_000), offset_s: 9 * 3_600 };
        let kind = |reason: HaltReason| {
            let text = reason.to_string();
            let event = AlertEvent::Halted { since, reason, text };
            assert_eq!(event.transition(), AlertTransition::Firing(AlertCondition::Halt));
            assert!(event.text().contains("Halted since 2026-03-01 19:00:00 +09:00. "));
            assert_eq!(event.data()["since"], "2026-03-01T10:00:00.000Z");
            event.kind()
        };
        let rejected = HaltReason::Rejected;
        assert_eq!(kind(rejected(RejectReason::Unauthenticated)), AlertKind::CredentialRefused);
        assert_eq!(kind(rejected(RejectReason::Challenge)), AlertKind::Challenge);
        assert_eq!(kind(rejected(RejectReason::DailyLimit)), AlertKind::Halted);
        assert_eq!(kind(HaltReason::OtherAccount), AlertKind::Halted);
    }

    #[test]
    fn advice_without_a_market_is_right_for_a_cookie_and_for_a_key() {
        for block in [FeedBlock::Challenge, FeedBlock::Credential] {
            let text = AlertEvent::FeedBlocked { block, cause: String::new() }.text();
            for part in ["Where a cookie is the credential, ", "; where a key is, check at the"] {
                assert!(text.contains(part), "{text}");
            }
        }
        let remedy = RejectReason::Challenge.remedy().unwrap();
        assert!(remedy.contains("; where a cookie is the credential, copy"), "{remedy}");
    }

    #[test]
    fn a_purchase_names_what_is_left() {
        let left = BudgetLeft {
            spent: Amount::from_cents(6_120),
            total: Amount::from_cents(40_000),
            balance: Some(Amount::from_cents(43_880)),
        };
        let event = AlertEvent::Bought { order: order("A"), left: Some(left) };
        assert_eq!(event.text(), "12.50  A\nTotal 61.20 of 400.00, balance 438.80");
        assert_eq!(event.data()["price"], "12.50");
    }

    #[test]
    fn a_low_balance_old_prices_and_a_failed_ledger_say_what_to_do() {
        let (balance, min) = (Amount::from_cents(1_920), Amount::from_cents(2_000));
        assert_eq!(
            AlertEvent::BalanceLow { balance, min }.text(),
            "19.20; orders must leave min_balance 20.00. Deposit, or lower it."
        );
        let hour = Duration::from_secs(3_600);
        let prices = |age| {
            let (name, max_age) = ("buff".to_owned(), hour.saturating_mul(6));
            AlertEvent::PricesStale { source: 0, name, age, max_age }.text()
        };
        assert_eq!(
            prices(Some(hour.saturating_mul(9))),
            "buff: prices 9 h 0 min old (limit 6 h 0 min); rules based on it buy nothing. Run: sniper \
             prices update"
        );
        assert!(prices(Some(Duration::ZERO)).contains("check the clock"));
        let failed = AlertEvent::LedgerFailed { cause: "disk full".to_owned() }.text();
        assert!(failed.contains("What to do: check the free space"), "{failed}");
    }

    #[test]
    fn what_an_earlier_run_left_unresolved_is_named_with_its_coins() {
        let coins = Amount::from_cents(3_120);
        let lost =
            CrashLoss { coins: Amount::from_cents(32_000), count: 64, ..CrashLoss::default() };
        let event = AlertEvent::Unresolved { orders: 1, coins, lost };
        let unknown = "1 order for 31.20 of unknown outcome\n";
        let hidden = "64 orders for 320.00 at most, hidden by a power loss\n";
        let end = "Counted as spent until resolved. See: sniper ledger";
        assert_eq!(event.text(), format!("{unknown}{hidden}{end}"));
        let text = |orders, lost| AlertEvent::Unresolved { orders, coins, lost }.text();
        assert_eq!(text(1, CrashLoss::default()), format!("{unknown}{end}"));
        assert_eq!(text(0, lost), format!("{hidden}{end}"));
        assert_eq!((event.kind(), &event.data()["lost_orders"]), (AlertKind::Unknown, &json!(64)));
    }
}
