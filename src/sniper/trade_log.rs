//! The lines that a person watches. Said after the deed, never before.

use std::{fmt::Display, time::Duration};

use tracing::{Level, debug, error, info, warn};

use crate::{
    account::{ReadKind, purchases::UnknownStatus},
    domain::money::Amount,
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::time::UnixMs,
    domain::trade::{Trade, TradeId},
    latency::LatencyBreakdown,
    ledger::{
        Effects, Halt, Intent, InvalidTransition, LedgerError, OrderState, StateChange,
        control::ControlRequest,
    },
    markets::csgoroll::account::User,
    summary::short,
    text::Escaped,
    whitelist::{Decision, Whitelist},
};

/// A listing in one line: `id=… markup=1.50% price=10.15 …`.
struct ListingLine<'a>(&'a Trade<'a>);

impl Display for ListingLine<'_> {
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
        info!("[trade] {}", ListingLine(trade));
    } else {
        debug!("[trade] {}", ListingLine(trade));
    }
}

/// Why an entry about this item does not want it, at debug.
pub(super) fn verdict(trade: &Trade<'_>, verdict: &Decision, whitelist: &Whitelist) {
    if !tracing::enabled!(Level::DEBUG) {
        return;
    }
    if let Decision::Refused { entry, because } = verdict {
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
        warn!("Unbuyable, cannot read {fields}: {}", ListingLine(trade));
    } else {
        debug!("Unbuyable, cannot read {fields}: {}", ListingLine(trade));
    }
}

pub(super) fn left_alone(trade: &Trade<'_>, because: &dyn Display) {
    info!("[match] left alone, {because}: {}", ListingLine(trade));
}

pub(super) fn held(trade: &Trade<'_>, mark: UnixMs) {
    info!("[match] held, it can be bought from {mark} (server time): {}", ListingLine(trade));
}

pub(super) fn would_buy(trade: &Trade<'_>, label: &str) {
    info!("[match] would buy for \"{}\": {}", Escaped(label), ListingLine(trade));
}

pub(super) fn asked(trade: &Trade<'_>, label: &str, steps: &LatencyBreakdown) {
    let took = short(steps.total());
    info!("[match] buying for \"{}\", asked in {took}: {}", Escaped(label), ListingLine(trade));
    debug!("[steps] id={} {steps}", trade.id);
}

pub(super) fn not_sent(trade: &Trade<'_>, reason: NotSent) {
    warn!("[buy] not sent, {reason}: {}", ListingLine(trade));
}

/// What became of a buy.
pub(super) fn outcome(outcome: &Outcome, name: &str, price: Amount, answered: Duration) {
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

fn refused(refusal: RejectReason, name: &Escaped<'_>, price: Amount, took: &str) {
    info!("[buy] refused, {refusal}: \"{name}\" for {price}, answered in {took}");
}

fn unknown(reason: Unknown, name: &Escaped<'_>, price: Amount) {
    warn!(
        "[buy] UNKNOWN, {reason}: \"{name}\" for {price} counts as spent until proven otherwise \
         and is never sent again"
    );
}

/// New halts and pauses, loudly.
pub(super) fn aftermath(aftermath: &Effects) {
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

pub(super) fn contradiction(contradiction: &InvalidTransition) {
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

/// A read of the account began to fail, or has another cause now.
pub(super) fn read_failed(read: ReadKind, cause: &str, follows: &str, remedy: &str) {
    warn!("Account read failed: {}, {cause}. {follows} What to do: {remedy}.", read.name());
}

/// A read of the account succeeded that had failed.
pub(super) fn read_succeeded(read: ReadKind, lasted: Duration) {
    info!("Account read succeeded again: {}, after {}", read.name(), short(lasted));
}

/// A purchase is listed whose status this version does not know. `state`: what the ledger holds.
pub(super) fn unknown_status(unknown: &UnknownStatus, state: Option<OrderState>) {
    let (id, word) = (unknown.id, Escaped(&unknown.word));
    let follows = match state {
        Some(OrderState::Reserved | OrderState::Sent | OrderState::Unknown) => {
            "it stays unknown and counts as spent".to_owned()
        }
        Some(state) => format!("it stays {state}"),
        None => "it is not in this ledger".to_owned(),
    };
    warn!(
        "Purchase listed with a status this version does not know: {id}, status {word}; {follows}"
    );
}

/// An order that moved to another state other than by its own answer.
pub(super) fn change(change: &StateChange, name: Option<&str>) {
    let StateChange { id, from, to, price } = change;
    let item = match name {
        Some(name) => format!("\"{}\" ({id})", Escaped(name)),
        None => id.to_string(),
    };
    match (from, to) {
        (OrderState::Unknown, OrderState::NotBought) => {
            info!("Unknown order resolved: {item}, not bought; {price} coins are free again");
        }
        (OrderState::Unknown, OrderState::Bought | OrderState::Completed) => {
            info!("Unknown order resolved: {item}, bought for {price} coins");
        }
        (_, OrderState::Completed) => info!("Purchase delivered: {item}, {price} coins"),
        (_, OrderState::Returning) => warn!(
            "Purchase cancelled: {item}, {price} coins count as spent until a balance shows them"
        ),
        (_, OrderState::Returned) => {
            info!("Purchase refunded: {item}, {price} coins are free again")
        }
        (from, to) => warn!("Order changed: {item}, {from} to {to}, {price} coins"),
    }
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
pub(super) fn asked_for(request: &ControlRequest, halts_before: usize, halts: &[Halt]) {
    match request {
        ControlRequest::Status => {}
        ControlRequest::Halt { by } => {
            error!("BUYING STOPPED by {}: `sniper halt`. The feed goes on.", Escaped(by));
        }
        ControlRequest::Resume { by } => {
            info!("{} has looked: {halts_before} halts lifted, {} left", Escaped(by), halts.len());
        }
        ControlRequest::NewBudget { by } => {
            info!("{} says that `total` counts from now", Escaped(by))
        }
        ControlRequest::Resolve { id, verdict, by } => {
            info!("Order resolved by {}: {}, {}", Escaped(by), Escaped(id), verdict.as_str());
        }
    }
}
