//! How things stand, in the form in which a person or a script asks for it. Pure.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;
use crate::{money::Coins, time::UnixMs};

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
pub struct Status {
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
    /// Reads of the account that fail. The ledger does not know them; the session adds them.
    #[serde(default)]
    pub account_failures: Vec<AccountFailure>,
}

impl Status {
    /// How things stand, from a snapshot.
    pub fn of(snapshot: &Snapshot, mode: &str, failure: Option<String>) -> Self {
        let amount = |coins: Coins| coins.to_string();
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
    let coins = |name: &str, used: Coins, bound: Option<Coins>| {
        bound.map(|bound| LimitStatus {
            name: name.to_owned(),
            used: used.to_string(),
            bound: bound.to_string(),
            left: bound.saturating_sub(used).max(Coins::ZERO).to_string(),
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
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mode            {}", self.mode)?;
        writeln!(f, "buying          {}", self.buying)?;
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
