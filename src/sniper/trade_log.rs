//! Log lines about listings, orders, halts and the account. A line about an order is written after
//! its request, never before.

use std::{borrow::Cow, fmt::Display, time::Duration};

use tracing::{Level, debug, error, info, warn};

use crate::{
    account::{ReadKind, purchases::UnknownStatus},
    clock,
    domain::account::User,
    domain::item_name::Wear,
    domain::latency::LatencyBreakdown,
    domain::latency::format_latency,
    domain::money::{Amount, Percent},
    domain::outcome::Outcome,
    domain::time::{UnixMs, format_duration},
    domain::trade::{PaintWear, Trade, TradeId},
    domain::unit,
    ledger::{
        Effects, HaltReason, Intent, InvalidTransition, LedgerError, OrderState, OrderedItem,
        Snapshot, StateChange, control::ControlRequest,
    },
    prices::ComparedReference,
    text::{Escaped, counted},
    whitelist::{WhitelistEntry, price_limit},
};

/// Number of digits of a float that are shown.
const FLOAT_DIGITS: usize = 4;

/// Raw fields of a listing: `id=… markup=1.50% price=10.15 …`.
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

/// Market name with the wear abbreviated: `AK-47 | Redline (FT)`.
struct ItemLabel<'a>(&'a str);

impl Display for ItemLabel<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let abbreviated = Wear::ALL.into_iter().find_map(|wear| {
            let name = self.0.strip_suffix(')')?.strip_suffix(wear.as_str())?.strip_suffix('(')?;
            Some((name, wear.short()))
        });
        match abbreviated {
            Some((name, wear)) => write!(f, "{}({wear})", Escaped(name)),
            None if self.0.is_empty() => f.write_str("(no item)"),
            None => Escaped(self.0).fmt(f),
        }
    }
}

/// Price and item, which follow the first word of a line.
struct PricedItem<'a> {
    price: Option<Amount>,
    name: Cow<'a, str>,
}

impl<'a> PricedItem<'a> {
    fn of(trade: &'a Trade<'_>) -> Self {
        Self { price: trade.total_value, name: trade.full_name() }
    }
}

impl Display for PricedItem<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.price {
            Some(price) => write!(f, "{price:>8}  {}", ItemLabel(&self.name)),
            None => write!(f, "{:>8}  {}", "?", ItemLabel(&self.name)),
        }
    }
}

/// The entry that matched, and the reference price that it compared.
pub(super) struct MatchedEntry<'a> {
    pub(super) entry: Option<&'a WhitelistEntry>,
    pub(super) reference: Option<ComparedReference>,
    /// Expected margin, if the settings say where items are sold.
    pub(super) margin: Option<Percent>,
}

/// Values that the whitelist compared: `  float 0.215  limit 12.50  [redline]`, and
/// `  2.31 = 84.1 % of reference 2.75` before the limit of a percent rule.
struct MatchDetails<'a> {
    trade: &'a Trade<'a>,
    matched: &'a MatchedEntry<'a>,
}

impl Display for MatchDetails<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = |float: PaintWear| -> String {
            float.to_string().chars().take(FLOAT_DIGITS.saturating_add(2)).collect()
        };
        match (self.trade.float, self.trade.float_range) {
            (Some(float), _) => write!(f, "  float {}", digits(float))?,
            (None, Some((min, max))) => write!(f, "  float {} to {}", digits(min), digits(max))?,
            (None, None) if self.trade.wear.is_some() => f.write_str("  float unknown")?,
            (None, None) => {}
        }
        if let Some(decided) = self.matched.reference {
            write!(f, "  {}", decided.share)?;
        }
        if let Some(margin) = self.matched.margin {
            write!(f, "  margin {margin} %")?;
        }
        match self.matched.entry {
            Some(entry) => {
                let reference = self.matched.reference.map(|compared| compared.share.reference);
                let limit = price_limit(entry, reference);
                write!(f, "  limit {limit}  [{}]", Escaped(entry.label()))
            }
            None => Ok(()),
        }
    }
}

/// Logs a listing at debug, or at info if there is no whitelist.
pub(super) fn listing(trade: &Trade<'_>, has_no_whitelist: bool) {
    if has_no_whitelist {
        info!("[trade] {}", ListingLine(trade));
    } else {
        debug!("[trade] {}", ListingLine(trade));
    }
}

/// Returns `true` if an event with this number of repeats is logged.
pub(super) fn is_repeat_logged(repeats: Option<u64>) -> bool {
    match repeats {
        Some(_) => tracing::enabled!(Level::INFO),
        None => tracing::enabled!(Level::DEBUG),
    }
}

/// Logs why an entry does not match a listing of its item. `repeats` is the number of listings
/// since the last line for this reason, which were logged at debug only. It is `None` if this one
/// is also logged at debug only.
pub(super) fn mismatch(trade: &Trade<'_>, label: &str, reason: &str, repeats: Option<u64>) {
    let (id, item, label) = (trade.id, PricedItem::of(trade), Escaped(label));
    match repeats {
        Some(repeats) => {
            info!("NO MATCH  {item}: {reason}  [{label}]{}", Repeats(repeats));
        }
        None => debug!("NO MATCH  {item}: {reason}  [{label}]  id={id}"),
    }
}

/// Logs the fields of a listing that cannot be read. `repeats` is the number of listings since the
/// last such warning, which were logged at debug only. It is `None` if this one is also logged at
/// debug only.
pub(super) fn unreadable(trade: &Trade<'_>, repeats: Option<u64>) {
    if repeats.is_none() && !tracing::enabled!(Level::DEBUG) {
        return;
    }
    let fields: Vec<&str> = trade.defects.iter().map(|defect| defect.label()).collect();
    let fields = fields.join(", ");
    debug!("Listing ignored: cannot read {fields}: {}", ListingLine(trade));
    if let Some(repeats) = repeats {
        let item = ItemLabel(&trade.market_name);
        warn!("Listing ignored: {item}, cannot read {fields}{}", Repeats(repeats));
    }
}

/// Logs a matched listing that is not ordered. `repeats` is the number of skips since the last line
/// for this reason, which were logged at debug only. It is `None` if this one is also logged at
/// debug only.
pub(super) fn skipped(trade: &Trade<'_>, reason: &dyn Display, repeats: Option<u64>) {
    match repeats {
        Some(repeats) => {
            info!("SKIPPED   {}: {reason}{}", PricedItem::of(trade), Repeats(repeats));
            debug!("Listing skipped: {reason}: {}", ListingLine(trade));
        }
        None => debug!("SKIPPED   {}: {reason}  id={}", PricedItem::of(trade), trade.id),
    }
}

/// Logs like [`skipped`] with the share of the reference price that the listing costs.
pub(super) fn skipped_match(
    trade: &Trade<'_>,
    matched: &MatchedEntry<'_>,
    reason: &dyn Display,
    repeats: Option<u64>,
) {
    match matched.reference {
        Some(decided) => skipped(trade, &format_args!("{reason}; {}", decided.share), repeats),
        None => skipped(trade, reason, repeats),
    }
}

/// Number of similar events that have no line of their own.
struct Repeats(u64);

impl Display for Repeats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, "  (and {count} more since the last such line)"),
        }
    }
}

/// Logs a listing that is held until it opens. `server_time` is the earliest time that the server's
/// clock can show, if it is known.
pub(super) fn held(
    trade: &Trade<'_>,
    matched: &MatchedEntry<'_>,
    available_at: UnixMs,
    server_time: Option<UnixMs>,
) {
    let (item, details) = (PricedItem::of(trade), MatchDetails { trade, matched });
    match server_time {
        Some(time) => {
            let wait = format_duration(available_at.since(time));
            info!("WAIT      {item}  opens in {wait}{details}");
        }
        None => info!("WAIT      {item}  opens at {available_at} (server time){details}"),
    }
    debug!("Listing held until {available_at} (server time): {}", ListingLine(trade));
}

pub(super) fn would_buy(trade: &Trade<'_>, matched: &MatchedEntry<'_>) {
    let (item, details) = (PricedItem::of(trade), MatchDetails { trade, matched });
    info!("WOULD BUY {item}{details}  (dry run)");
    debug!("Order simulated: {}", ListingLine(trade));
}

pub(super) fn order_sent(
    trade: &Trade<'_>,
    matched: &MatchedEntry<'_>,
    latency: &LatencyBreakdown,
    was_queued: bool,
) {
    let (item, details) = (PricedItem::of(trade), MatchDetails { trade, matched });
    let wait = if was_queued { ", most of it waiting until an order could be sent" } else { "" };
    info!("BUY sent  {item}{details}  {}{wait}", format_latency(latency.total()));
    debug!("Order sent after {latency}: {}", ListingLine(trade));
}

/// Logs a listing that waits until it can be ordered.
pub(super) fn queued(trade: &Trade<'_>, reason: &dyn Display) {
    debug!("Listing queued: {reason}: {}", ListingLine(trade));
}

/// Logs a listing whose order could not be sent. `repeats` is as in [`skipped`].
pub(super) fn not_sent(trade: &Trade<'_>, reason: &dyn Display, repeats: Option<u64>) {
    if let Some(repeats) = repeats {
        let (item, repeats) = (PricedItem::of(trade), Repeats(repeats));
        warn!("NOT SENT  {item}: {reason}; nothing was spent{repeats}");
    }
    debug!("Order not sent: {reason}: {}", ListingLine(trade));
}

/// Order with its final response.
pub(super) struct OrderResult<'a> {
    pub(super) id: TradeId,
    pub(super) item: &'a OrderedItem,
    pub(super) price: Amount,
    /// Time from request to response.
    pub(super) response_time: Duration,
    /// Error message of the market that this version does not know.
    pub(super) market_error: Option<String>,
}

/// Logs the final outcome of an order. `snapshot` is the ledger after a purchase.
pub(super) fn outcome(outcome: &Outcome, order: &OrderResult<'_>, snapshot: Option<&Snapshot>) {
    let OrderResult { id, price, response_time, ref market_error, .. } = *order;
    let (name, reference) = (order.item.name.as_str(), OrderedReferenceText(order.item));
    let took = format_latency(response_time);
    let item = PricedItem { price: Some(price), name: name.into() };
    match outcome {
        Outcome::Bought { price: paid, .. } => {
            let item = PricedItem { price: paid.or(Some(price)), name: name.into() };
            match snapshot {
                Some(snapshot) => {
                    info!("BOUGHT    {item}{reference}  ({})", AccountTotals(snapshot));
                }
                None => info!("BOUGHT    {item}{reference}"),
            }
        }
        Outcome::Rejected(reason) => info!("REJECTED  {item}: {reason}"),
        Outcome::NotSent(reason) => warn!("NOT SENT  {item}: {reason}; nothing was spent"),
        Outcome::Unknown(reason) => {
            let message = market_error.as_deref().filter(|message| !message.is_empty());
            let message = message.map(|message| format!(": \"{}\"", Escaped(message)));
            let message = message.unwrap_or_default();
            warn!(
                "UNKNOWN   {item}: {reason}{message}; counts as spent until your account shows the \
                 result, and is not sent again"
            );
        }
    }
    debug!("Response received: order {id}, {outcome:?}, after {took}");
}

/// `  84.1 % of buff.bid 2.74, margin 12.30 %`, or nothing.
struct OrderedReferenceText<'a>(&'a OrderedItem);

impl Display for OrderedReferenceText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OrderedItem { reference, margin, .. } = self.0;
        match (reference, margin) {
            (Some(reference), Some(margin)) => write!(f, "  {reference}, margin {margin} %"),
            (Some(reference), None) => write!(f, "  {reference}"),
            (None, Some(margin)) => write!(f, "  margin {margin} %"),
            (None, None) => Ok(()),
        }
    }
}

/// `total 61.20 of 400.00, balance 438.80`.
struct AccountTotals<'a>(&'a Snapshot);

impl Display for AccountTotals<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Snapshot { spent, budget, available_estimate, .. } = self.0;
        write!(f, "total {spent} of {}", budget.total)?;
        match available_estimate {
            Some(balance) => write!(f, ", balance {balance}"),
            None => Ok(()),
        }
    }
}

/// Logs a rejection that is not yet attributed to its order. The final line follows.
pub(super) fn unconfirmed(id: &TradeId, outcome: &Outcome) {
    if let Outcome::Unknown(reason) = outcome {
        debug!("Rejection not confirmed yet: order {id}, {reason}; it counts as spent meanwhile");
    }
}

/// Logs new halts and pauses. `describe` describes a reason with its item.
pub(super) fn effects(effects: &Effects, describe: impl Fn(&HaltReason) -> String) {
    for halt in &effects.halts {
        error!(
            "Ordering halted: {}. What to do: {}. Still watching, sending no orders.",
            describe(&halt.reason),
            halt.reason.remedy()
        );
    }
    if let Some(until) = effects.paused_until {
        let wait = format_duration(until.since(clock::now()));
        warn!("Ordering paused by the market: resumes in {wait}");
    }
}

pub(super) fn invalid_transition(error: &InvalidTransition) {
    error!("Internal error, please report it: the ledger rejected an update: {error}");
}

/// Logs the first successful read of the account.
pub(super) fn signed_in(user: &User, clock_width: Option<Duration>) {
    let balance = match user.balance {
        Some(balance) => format!("balance {balance} {}", unit::name()),
        None => "balance unknown".to_owned(),
    };
    let flagged = match user.is_flagged {
        Some(true) => ", flagged as a suspected trader: listings open later for this account",
        _ => "",
    };
    let clock = match clock_width {
        Some(width) => format!(" (server clock known to within {})", format_latency(width)),
        None => String::new(),
    };
    let name = user.name.iter().map(|name| format!("{}, ", Escaped(name)));
    info!("Signed in: {}{balance}{flagged}{clock}", name.collect::<String>());
}

/// Logs a read of the account that began to fail, or whose cause changed.
pub(super) fn read_failed(read: ReadKind, cause: &str, consequence: &str, remedy: &str) {
    warn!("Account read failed: {}, {cause}. {consequence} What to do: {remedy}.", read.name());
}

/// Logs a read of the account that succeeds again.
pub(super) fn read_succeeded(read: ReadKind, duration: Duration) {
    info!("Account read succeeded again: {}, after {}", read.name(), format_duration(duration));
}

/// Logs a purchase whose status this version does not know. `state` is that of its order in the
/// ledger.
pub(super) fn unknown_status(unknown: &UnknownStatus, state: Option<OrderState>, item: &str) {
    let (item, word) = (ItemLabel(item), Escaped(&unknown.word));
    let consequence = match state {
        Some(OrderState::Reserved | OrderState::Sent | OrderState::Unknown) => {
            "it stays unknown and counts as spent".to_owned()
        }
        Some(state) => format!("it stays {state}"),
        None => "it is not in this ledger".to_owned(),
    };
    warn!(
        "Purchase listed with a status this version does not know: {item}, status {word}; \
         {consequence}. What to do: check it at the market, and update sniper"
    );
}

fn priced_order(price: Amount, id: &TradeId, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{price}  {}", ItemLabel(name)),
        None => format!("{price}  order {id}"),
    }
}

/// Logs a state change of an order that did not come from its own response.
pub(super) fn change(change: &StateChange, name: Option<&str>) {
    let StateChange { id, from, to, price } = change;
    let item = priced_order(*price, id, name);
    match (from, to) {
        (OrderState::Unknown, OrderState::NotBought) => {
            info!("Unknown order resolved as not bought: {item}; its price is available again");
        }
        (OrderState::Unknown, OrderState::Bought | OrderState::Completed) => {
            info!("Unknown order resolved as bought: {item}");
        }
        (_, OrderState::Completed) => info!("Purchase delivered: {item}"),
        (_, OrderState::Returning) => {
            warn!("Purchase cancelled: {item}; counts as spent until the balance shows the refund");
        }
        (_, OrderState::Returned) => {
            info!("Purchase returned: {item}; its price is available again");
        }
        (from, to) => warn!("Order changed: {item}, {from} to {to}"),
    }
    debug!("Order changed: {id}, {from} to {to}, {price} {}", unit::name());
}

/// Logs that the market does not know the own id of an order.
pub(super) fn order_absent(id: &TradeId) {
    debug!("Order not known to the market so far: {id}; it stays unknown and counts as spent");
}

/// Logs a cancelled order whose coins have not appeared in the balance.
pub(super) fn return_overdue(order: &Intent, name: Option<&str>) {
    let Intent { id, price, state_since, .. } = order;
    let item = priced_order(*price, id, name);
    warn!(
        "Return overdue: {item}, cancelled at {state_since}; the balance does not show \
         the coins, so it counts as spent. If they are back, run `sniper ledger resolve {id} \
         --returned`"
    );
}

/// Logs the number of overdue orders that are not named.
pub(super) fn more_overdue(count: usize) {
    warn!("Return overdue: and {count} more; `sniper ledger list` shows every order");
}

pub(super) fn clock_moved(moved_ms: i64) {
    let moved = format_duration(Duration::from_millis(moved_ms.unsigned_abs()));
    let direction = if moved_ms < 0 { "back" } else { "forward" };
    warn!(
        "The clock jumped {direction} by {moved}: check the time of this machine (NTP). Hourly and \
         daily limits stay as they are until the account has been read again"
    );
}

/// Logs that the ledger belongs to another account than the one signed in.
pub(super) fn other_account(error: &LedgerError) {
    error!("Ordering halted: {error}. Still watching, sending no orders.");
}

/// Logs a request over the control channel that was carried out. `before` and `after` are snapshots
/// of the ledger.
pub(super) fn control_request(request: &ControlRequest, before: &Snapshot, after: &Snapshot) {
    match request {
        // The thread that reloads the settings logs the changes.
        ControlRequest::Status | ControlRequest::Reload { .. } => {}
        ControlRequest::Halt { by } => warn!(
            "Ordering halted: requested by {}. What to do: run `sniper resume` to continue. Still \
             watching, sending no orders.",
            Escaped(by)
        ),
        ControlRequest::Resume { by } => {
            let by = Escaped(by);
            match (before.halts.len(), after.halts.len()) {
                (0, _) => info!("Resume requested by {by}, but ordering was not halted"),
                (count, 0) => {
                    let halts = counted(count, "halt", "halts");
                    info!("Ordering resumed by {by} ({halts} cleared)");
                }
                (count, left) => {
                    warn!("Ordering still halted: {left} of {count} halts left (asked by {by})");
                }
            }
        }
        ControlRequest::NewBudget { by } => info!(
            "Budget reset by {}: {} spent before no longer counts; {} available",
            Escaped(by),
            before.spent,
            after.budget.total.saturating_sub(after.spent)
        ),
        ControlRequest::PauseEntry { entry, by } => paused(by, "Entry", entry, ""),
        ControlRequest::EnableEntry { entry, by } => {
            info!("Entry enabled by {}: {}", Escaped(by), Escaped(entry));
        }
        ControlRequest::PauseGroup { group, by } => paused(by, "Group", group, "--group "),
        ControlRequest::EnableGroup { group, by } => {
            info!("Group enabled by {}: {}", Escaped(by), Escaped(group));
        }
        ControlRequest::Resolve { id, verdict, by } => {
            info!("Order resolved by {}: {}, {}", Escaped(by), Escaped(id), verdict.as_str());
        }
    }
}

fn paused(by: &str, what: &str, name: &str, option: &str) {
    let (by, name) = (Escaped(by), Escaped(name));
    warn!("{what} paused by {by}: {name}. To buy: sniper whitelist enable {option}\"{name}\"");
}
