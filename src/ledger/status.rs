//! How things stand, in the form in which a person or a script asks for it. Pure.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;
use crate::{
    domain::money::Amount,
    domain::time::{UnixMs, lasting},
};

/// A live bot that has not compared its account with the ledger so long after its start needs the
/// user.
pub const RECONCILED_WITHIN: Duration = Duration::from_secs(30);

/// The mode of a bot that buys.
pub const LIVE: &str = "live";
/// The mode of a bot that only looks.
pub const DRY: &str = "dry";
/// Instead of a mode, where no bot runs.
pub const NOT_RUNNING: &str = "not running";

/// One limit: how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Its name in `sniper.toml`.
    pub name: String,
    /// What is used of it.
    pub used: String,
    /// The bound.
    pub bound: String,
    /// What is left.
    pub left: String,
}

/// A halt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltStatus {
    /// Since when.
    pub since: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// How the feed of a running bot stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// `connecting`, `connected`, `no listings` (connected, but the subscription to the listings has
    /// ended), `disconnected`, or `blocked` (refused until the user has acted).
    pub state: String,
    /// Since when a connection is up without a break.
    pub connected_since: Option<String>,
    /// How long that is, in milliseconds.
    pub connected_ms: Option<u64>,
    /// When the last listing came.
    pub last_listing: Option<String>,
    /// How long ago that is, in milliseconds.
    pub last_listing_ms: Option<u64>,
    /// How many listings came, duplicates apart.
    pub listings: u64,
    /// How often it was up again after it had been down.
    pub reconnects: u64,
    /// How many times there were without listings, one that still lasts included.
    pub gaps: u64,
    /// How long these lasted together, in milliseconds, until now for one that still lasts.
    pub gap_ms: u64,
    /// How long the longest lasted, in milliseconds.
    pub longest_gap_ms: u64,
    /// Whether one still lasts.
    pub gap_is_open: bool,
}

/// A read of the account that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFailure {
    /// What is read: `balance`, `own purchases`, and so on.
    pub read: String,
    /// Since when it fails.
    pub since: String,
    /// The newest cause.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// `dry`, `live`, or `not running`.
    pub mode: String,
    /// `on`, or why nothing is bought: `halted`, `paused`, `not reconciled`, `unwritable`.
    pub buying: String,
    /// Every limit that is set, with what is used of it.
    pub limits: Vec<LimitStatus>,
    /// The balance that was read last.
    pub balance: Option<String>,
    /// What is surely left of it.
    pub balance_least: Option<String>,
    /// Buys that wait for their answers.
    pub in_flight: u32,
    /// Buys of which nobody knows what became.
    pub unknown: u32,
    /// What they cost, all of them; counted as spent.
    pub unknown_coins: String,
    /// Bought and not yet delivered.
    pub undelivered: u32,
    /// Why buying is halted.
    pub halts: Vec<HaltStatus>,
    /// Until when buying pauses.
    pub paused_until: Option<String>,
    /// Coins that power loss may have made the ledger forget; counted as spent.
    pub lost_coins: String,
    /// Buys that power loss may have made the ledger forget.
    pub lost_buys: u32,
    /// Why the ledger cannot be used.
    pub failure: Option<String>,
    /// Whether the account was compared with the ledger since the start.
    #[serde(default)]
    pub reconciled: bool,
    /// How long the bot has run, in milliseconds; `None`: none runs.
    #[serde(default)]
    pub running_ms: Option<u64>,
    /// How its feed stands; `None`: no bot runs.
    #[serde(default)]
    pub feed: Option<FeedStatus>,
    /// Reads of the account that fail. The ledger does not know them; the session adds them.
    #[serde(default)]
    pub account_failures: Vec<AccountFailure>,
}

impl LedgerStatus {
    /// What needs the user: why `sniper status` exits with 1. Nothing in a dry run, which buys
    /// nothing either way.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_live = self.mode == LIVE;
        if is_live || self.mode == NOT_RUNNING {
            let what = if is_live { "buying is halted" } else { "the ledger holds a halt" };
            let halts = self.halts.iter().map(|halt| format!("{what}: {}", halt.reason));
            problems.extend(halts);
        }
        if let Some(failure) = self.failure.as_ref().filter(|_| is_live) {
            problems.push(format!("the ledger cannot be written: {failure}"));
        }
        let running = self.running_ms.map(Duration::from_millis);
        if is_live
            && !self.reconciled
            && let Some(running) = running.filter(|running| *running >= RECONCILED_WITHIN)
        {
            let running = lasting(running);
            problems.push(format!("{running} after the start the account is not reconciled"));
        }
        problems
    }

    /// How things stand, from a snapshot.
    pub fn of(snapshot: &Snapshot, mode: &str, failure: Option<String>) -> Self {
        let amount = |coins: Amount| coins.to_string();
        let halts = snapshot.halts.iter().map(|halt| HaltStatus {
            since: halt.at.to_string(),
            reason: halt.reason.to_string(),
            remedy: halt.reason.remedy().to_owned(),
        });
        Self {
            mode: mode.to_owned(),
            buying: buying(snapshot, failure.is_some()).to_owned(),
            limits: limits(snapshot),
            balance: snapshot.balance.map(amount),
            balance_least: snapshot.balance_least.map(amount),
            in_flight: snapshot.in_flight,
            unknown: snapshot.unknown,
            unknown_coins: amount(snapshot.unknown_coins),
            undelivered: snapshot.undelivered,
            halts: halts.collect(),
            paused_until: snapshot.paused_until.as_ref().map(UnixMs::to_string),
            lost_coins: amount(snapshot.loss.coins),
            lost_buys: snapshot.loss.count,
            failure,
            reconciled: snapshot.reconciled,
            running_ms: None,
            feed: None,
            account_failures: Vec::new(),
        }
    }
}

const fn buying(snapshot: &Snapshot, has_failed: bool) -> &'static str {
    if !snapshot.halts.is_empty() {
        "halted"
    } else if has_failed {
        "unwritable"
    } else if !snapshot.reconciled {
        "not reconciled"
    } else if snapshot.paused_until.is_some() {
        "paused"
    } else {
        "on"
    }
}

fn limits(snapshot: &Snapshot) -> Vec<LimitStatus> {
    let budget = &snapshot.budget;
    let coins = |name: &str, used: Amount, bound: Option<Amount>| {
        bound.map(|bound| LimitStatus {
            name: name.to_owned(),
            used: used.to_string(),
            bound: bound.to_string(),
            left: bound.saturating_sub(used).max(Amount::ZERO).to_string(),
        })
    };
    let count = |name: &str, used: u32, bound: u32| {
        Some(LimitStatus {
            name: name.to_owned(),
            used: used.to_string(),
            bound: bound.to_string(),
            left: bound.saturating_sub(used).to_string(),
        })
    };
    [
        coins("total", snapshot.spent, Some(budget.total)),
        coins("per_hour", snapshot.spent_in_hour, budget.per_hour),
        coins("per_day", snapshot.spent_in_day, budget.per_day),
        count("max_buys_per_minute", snapshot.sent_in_minute, budget.max_buys_per_minute),
        count("max_in_flight", snapshot.in_flight, budget.max_in_flight),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A few lines for a person.
impl fmt::Display for LedgerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mode            {}", self.mode)?;
        writeln!(f, "buying          {}", self.buying)?;
        if let Some(running) = self.running_ms {
            writeln!(f, "running         {}", lasting(Duration::from_millis(running)))?;
        }
        if let Some(feed) = &self.feed {
            write!(f, "{feed}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "ledger          cannot be used: {failure}")?;
        }
        for AccountFailure { read, since, cause, remedy } in &self.account_failures {
            writeln!(f, "account read    {read} failing since {since}: {cause}")?;
            writeln!(f, "                what to do: {remedy}")?;
        }
        for halt in &self.halts {
            writeln!(f, "halted          since {}: {}", halt.since, halt.reason)?;
            writeln!(f, "                {}", halt.remedy)?;
        }
        if let Some(until) = &self.paused_until {
            writeln!(f, "paused          until {until}")?;
        }
        let balance = self.balance.as_deref().unwrap_or("not known");
        write!(f, "balance         {balance}")?;
        match &self.balance_least {
            Some(least) if *least != balance => writeln!(f, ", of which {least} surely left")?,
            _ => f.write_char('\n')?,
        }
        writeln!(f, "in flight       {}", self.in_flight)?;
        writeln!(f, "unknown         {} ({} counted as spent)", self.unknown, self.unknown_coins)?;
        writeln!(f, "undelivered     {}", self.undelivered)?;
        if self.lost_buys > 0 {
            let (count, coins) = (self.lost_buys, &self.lost_coins);
            writeln!(f, "power loss      up to {count} buys for {coins} counted as spent")?;
        }
        write!(f, "\n{}", LimitTable(&self.limits))
    }
}

impl fmt::Display for FeedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, reconnects, gaps, .. } = self;
        let for_ms = |ms: u64| lasting(Duration::from_millis(ms));
        write!(f, "feed            {state}")?;
        match (&self.connected_since, self.connected_ms) {
            (Some(since), Some(ms)) => writeln!(f, ", connection since {since} ({})", for_ms(ms))?,
            _ => f.write_char('\n')?,
        }
        match (&self.last_listing, self.last_listing_ms) {
            (Some(at), Some(ms)) => writeln!(f, "last listing    {} ago, at {at}", for_ms(ms))?,
            _ => writeln!(f, "last listing    none yet")?,
        }
        write!(f, "gaps            {gaps}")?;
        if *gaps > 0 {
            let (all, longest) = (for_ms(self.gap_ms), for_ms(self.longest_gap_ms));
            write!(f, " ({all} without listings, {longest} the longest")?;
            f.write_str(if self.gap_is_open { ", one still lasts)" } else { ")" })?;
        }
        writeln!(f, ", {reconnects} reconnects")
    }
}

/// Limits as a table.
#[derive(Clone, Copy, Debug)]
pub struct LimitTable<'a>(pub &'a [LimitStatus]);

impl fmt::Display for LimitTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>14} {:>14} {:>14}", "limit", "used", "of", "left")?;
        for limit in self.0 {
            let LimitStatus { name, used, bound, left } = limit;
            writeln!(f, "{name:<20} {used:>14} {bound:>14} {left:>14}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Budget, ledger::state::LedgerState};

    fn status(mode: &str, halts: usize, reconciled: bool, running: Option<u64>) -> LedgerStatus {
        let budget = Budget { total: Amount::from_cents(1_000), ..Budget::default() };
        let snapshot = LedgerState::new(budget, true).snapshot(UnixMs(0));
        let halt = HaltStatus {
            since: "2026-03-01T10:00:00.000Z".to_owned(),
            reason: "eve stopped it".to_owned(),
            remedy: "look".to_owned(),
        };
        LedgerStatus {
            halts: vec![halt; halts],
            reconciled,
            running_ms: running.map(|seconds| seconds * 1_000),
            ..LedgerStatus::of(&snapshot, mode, None)
        }
    }

    #[test]
    fn what_needs_the_user_is_a_problem_and_nothing_else_is() {
        let count = |mode, halts, reconciled, running| {
            status(mode, halts, reconciled, running).problems().len()
        };
        assert_eq!(count(LIVE, 0, true, Some(3_600)), 0);
        assert_eq!(count(LIVE, 1, true, Some(3_600)), 1);
        assert_eq!(count(LIVE, 0, false, Some(29)), 0, "it has just started");
        assert_eq!(count(LIVE, 0, false, Some(30)), 1);
        assert_eq!(count(LIVE, 1, false, Some(30)), 2);
        assert_eq!(count(NOT_RUNNING, 1, false, None), 1);
        assert_eq!(count(NOT_RUNNING, 0, false, None), 0);
        assert_eq!(count(DRY, 1, false, Some(3_600)), 0, "a dry run buys nothing either way");
        let unwritable =
            LedgerStatus { failure: Some("full".to_owned()), ..status(LIVE, 0, true, Some(1)) };
        assert_eq!(unwritable.problems(), ["the ledger cannot be written: full"]);
    }

    #[test]
    fn the_feed_is_shown_with_its_connection_its_last_listing_and_its_gaps() {
        let feed = FeedStatus {
            state: "connected".to_owned(),
            connected_since: Some("2026-03-01T10:00:00.000Z".to_owned()),
            connected_ms: Some(200_000),
            last_listing: Some("2026-03-01T10:03:18.800Z".to_owned()),
            last_listing_ms: Some(1_200),
            reconnects: 2,
            gaps: 3,
            gap_ms: 62_340,
            longest_gap_ms: 61_000,
            ..FeedStatus::default()
        };
        assert_eq!(
            feed.to_string(),
            "feed            connected, connection since 2026-03-01T10:00:00.000Z (3 min 20 s)\n\
             last listing    1.2 s ago, at 2026-03-01T10:03:18.800Z\n\
             gaps            3 (1 min 2 s without listings, 1 min 1 s the longest), 2 reconnects\n"
        );
        let down = FeedStatus { state: "connecting".to_owned(), ..FeedStatus::default() };
        assert_eq!(
            down.to_string(),
            "feed            connecting\nlast listing    none yet\ngaps            0, 0 reconnects\n"
        );
    }

    #[test]
    fn an_answer_of_an_older_bot_is_read_without_the_newer_fields() {
        let mut value = serde_json::to_value(status(LIVE, 1, true, Some(1))).unwrap();
        let object = value.as_object_mut().unwrap();
        for key in ["feed", "running_ms", "reconciled"] {
            assert!(object.remove(key).is_some(), "{key}");
        }
        let read: LedgerStatus = serde_json::from_value(value).unwrap();
        assert_eq!((read.feed, read.running_ms, read.halts.len()), (None, None, 1));
    }
}
