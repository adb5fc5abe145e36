//! The lines that a person watches. Said after the deed, never before.

use std::{fmt::Display, time::Duration};

use tracing::{Level, debug, error, info, warn};

use crate::{
    account::ReadFailure,
    csgoroll::account::User,
    latency::Steps,
    ledger::{Aftermath, Contradiction, Halt, Intent, LedgerError, control::Request},
    money::Coins,
    outcome::{NotSent, Outcome, Refusal, Unknown},
    summary::short,
    text::Escaped,
    time::UnixMs,
    trade::{Trade, TradeId},
    whitelist::{Verdict, Whitelist},
};

/// A listing in one line: `id=… markup=1.50% price=10.15 …`.
struct Line<'a>(&'a Trade<'a>);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let trade = self.0;
        write!(f, "id={} markup=", trade.id)?;
        match trade.markup_percent {
            Some(markup) => write!(f, "{markup}%")?,
            None => f.write_str("?")?,
        }
        match trade.total_value {
            Some(price) => write!(f, " price={price}")?,
            None => f.write_str(" price=?")?,
        }
        match trade.can_join {
            Some(can_join) => write!(f, " canJoin={can_join}")?,
            None => f.write_str(" canJoin=?")?,
        }
        let (status, name) = (trade.status, Escaped(&trade.market_name));
        write!(f, " status={status} item=\"{name}\" stattrak={}", trade.is_stattrak)
    }
}

/// Every listing, at debug; at info while there is nothing else to see.
pub(super) fn listing(trade: &Trade<'_>, is_all_there_is: bool) {
    if is_all_there_is {
        info!("[trade] {}", Line(trade));
    } else {
        debug!("[trade] {}", Line(trade));
    }
}

/// Why an entry about this item does not want it, at debug.
pub(super) fn verdict(trade: &Trade<'_>, verdict: &Verdict, whitelist: &Whitelist) {
    if !tracing::enabled!(Level::DEBUG) {
        return;
    }
    if let Verdict::Refused { entry, because } = verdict {
        let label = whitelist.entries().get(*entry).map_or("", |entry| entry.label());
        debug!("[no] id={} \"{}\": {because}", trade.id, Escaped(label));
    }
}

pub(super) fn unreadable(trade: &Trade<'_>, is_shown: bool) {
    if !is_shown && !tracing::enabled!(Level::DEBUG) {
        return;
    }
    let fields: Vec<&str> = trade.defects.iter().map(|defect| defect.field()).collect();
    let fields = fields.join(", ");
    if is_shown {
        warn!("Unbuyable, cannot read {fields}: {}", Line(trade));
    } else {
        debug!("Unbuyable, cannot read {fields}: {}", Line(trade));
    }
}

pub(super) fn left_alone(trade: &Trade<'_>, because: &dyn Display) {
    info!("[match] left alone, {because}: {}", Line(trade));
}

pub(super) fn held(trade: &Trade<'_>, mark: UnixMs) {
    info!("[match] held, it can be bought from {mark} (server time): {}", Line(trade));
}

pub(super) fn would_buy(trade: &Trade<'_>, label: &str) {
    info!("[match] would buy for \"{}\": {}", Escaped(label), Line(trade));
}

pub(super) fn asked(trade: &Trade<'_>, label: &str, steps: &Steps) {
    let took = short(steps.total());
    info!("[match] buying for \"{}\", asked in {took}: {}", Escaped(label), Line(trade));
    debug!("[steps] id={} {steps}", trade.id);
}

pub(super) fn not_sent(trade: &Trade<'_>, reason: NotSent) {
    warn!("[buy] not sent, {reason}: {}", Line(trade));
}

/// What became of a buy.
pub(super) fn outcome(outcome: &Outcome, name: &str, price: Coins, answered: Duration) {
    let (name, took) = (Escaped(name), short(answered));
    match outcome {
        Outcome::Bought { price: said, .. } => {
            let price = said.unwrap_or(price);
            info!("[buy] BOUGHT \"{name}\" for {price}, answered in {took}");
        }
        Outcome::Refused(refusal) => refused(*refusal, &name, price, &took),
        Outcome::NotSent(reason) => warn!("[buy] not sent, {reason}: \"{name}\" for {price}"),
        Outcome::Unknown(reason) => unknown(*reason, &name, price),
    }
}

/// A rejection whose connection is being shown to be in step; the final line follows.
pub(super) fn unconfirmed(id: &TradeId, outcome: &Outcome) {
    if let Outcome::Unknown(reason) = outcome {
        debug!("Rejection not confirmed yet: order {id}, {reason}; it counts as spent meanwhile");
    }
}

fn refused(refusal: Refusal, name: &Escaped<'_>, price: Coins, took: &str) {
    info!("[buy] refused, {refusal}: \"{name}\" for {price}, answered in {took}");
}

fn unknown(reason: Unknown, name: &Escaped<'_>, price: Coins) {
    warn!(
        "[buy] UNKNOWN, {reason}: \"{name}\" for {price} counts as spent until proven otherwise \
         and is never sent again"
    );
}

/// New halts and pauses, loudly.
pub(super) fn aftermath(aftermath: &Aftermath) {
    for halt in &aftermath.halts {
        error!(
            "BUYING STOPPED: {}. What to do: {}. The feed goes on.",
            halt.reason,
            halt.reason.remedy()
        );
    }
    if let Some(until) = aftermath.paused_until {
        warn!("Buying pauses until {until}: the marketplace asks for it.");
    }
}

pub(super) fn contradiction(contradiction: &Contradiction) {
    error!("The ledger contradicts itself, please report this: {contradiction}");
}

/// The account can be seen.
pub(super) fn signed_in(user: &User, clock_width: Option<Duration>) {
    let balance = match user.balance {
        Some(balance) => format!("balance {balance}"),
        None => "balance not told".to_owned(),
    };
    let flagged = match user.suspected_trader {
        Some(true) => ", flagged as a suspected trader: listings open later for it",
        _ => "",
    };
    let clock = match clock_width {
        Some(width) => format!("; the server's clock is known to {}", short(width)),
        None => String::new(),
    };
    info!("Signed in: {balance}{flagged}{clock}");
}

pub(super) fn account_unreadable(failure: &ReadFailure) {
    warn!("The account cannot be read: {}", Escaped(&failure.to_string()));
}

/// A cancelled order whose coins no balance has shown.
pub(super) fn return_overdue(order: &Intent) {
    let Intent { id, price, changed_at, .. } = order;
    warn!(
        "Refund overdue: {id} was cancelled at {changed_at}, and no balance has shown its {price} \
         coins. It counts as spent. If they are back, run `sniper ledger resolve {id} --returned`"
    );
}

/// The wall clock was set.
pub(super) fn clock_moved(moved_ms: i64) {
    let (seconds, ms) = (moved_ms.unsigned_abs() / 1_000, moved_ms.unsigned_abs() % 1_000);
    let direction = if moved_ms < 0 { "back" } else { "forward" };
    warn!(
        "Wall clock was set {direction} by {seconds}.{ms:03} s: limits per hour, day and minute \
         stay as they are until the account has been read again"
    );
}

/// The ledger belongs to somebody else, or cannot be written.
pub(super) fn unbound(error: &LedgerError) {
    error!("BUYING STOPPED: {error}. The feed goes on.");
}

/// What a person has asked for over the control channel, where it changes something.
pub(super) fn asked_for(request: &Request, halts_before: usize, halts: &[Halt]) {
    match request {
        Request::Status => {}
        Request::Halt { by } => {
            error!("BUYING STOPPED by {}: `sniper halt`. The feed goes on.", Escaped(by));
        }
        Request::Resume { by } => {
            info!("{} has looked: {halts_before} halts lifted, {} left", Escaped(by), halts.len());
        }
        Request::NewBudget { by } => info!("{} says that `total` counts from now", Escaped(by)),
        Request::Resolve { id, verdict, by } => {
            info!("Order resolved by {}: {}, {}", Escaped(by), Escaped(id), verdict.as_str());
        }
    }
}
