//! Comparison of the market's history with the limits and with the ledger.

use std::{fmt, fmt::Write as _, time::Duration};

use sniper::{
    config::Market,
    domain::money::Amount,
    domain::trade::TradeId,
    ledger::{
        LedgerState, OrderState,
        intent::Intent,
        reader::{LedgerReader, OrderDetails},
    },
    sim::{
        MarketHistory, OrderDecision,
        faults::FaultKind,
        history::{ListingRecord, OrderRecord, PurchaseRecord},
        random,
        repricing::books::SalesBooks,
    },
};

/// Initial balance of the account.
pub(super) const BALANCE: Amount = Amount::from_cents(1_000_000);
/// Maximum price of an order.
const MAX_PRICE: Amount = Amount::from_cents(500);
/// Maximum price of the first whitelist entry. The second entry matches higher prices.
const CHEAP_MAX: Amount = Amount::from_cents(200);
/// Answer deadline of the bot.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A minute of the ledger's clock as measured at the market, less the variation of the delay
/// between a decision and the arrival of its request on a busy machine.
const MINUTE_MIN: Duration = Duration::from_secs(55);
const HOUR: Duration = Duration::from_secs(3_600);

/// Limits in the bot's settings.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    total: Amount,
    per_hour: Amount,
    per_day: Amount,
    min_balance: Amount,
    per_minute: usize,
    in_flight: usize,
    /// `max_quantity` of the first whitelist entry.
    cheap_count: usize,
    /// `max_total` of the second whitelist entry.
    dear_total: Amount,
}

impl Limits {
    /// Returns limits that depend on the seed. Each limit is the first to bind for some seed, after
    /// about two thirds of the kills.
    pub(super) fn of(seed: u64, kills: u32) -> Self {
        let mut rng = random::stream(seed, 91);
        let (tight, kills) = (seed % 6, i64::from(kills));
        let mut coins = |which: u64| {
            let cents = kills * rng.i64(1_200..=1_900);
            Amount::from_cents(if which == tight { cents } else { cents * 3 })
        };
        let (total, per_hour, per_day) = (coins(0), coins(1), coins(2));
        let (spendable, dear_total) = (coins(3), coins(4));
        Self {
            total,
            per_hour,
            per_day,
            min_balance: BALANCE.saturating_sub(spendable).max(Amount::ZERO),
            per_minute: if tight == 5 { 60 } else { 200 },
            in_flight: 3,
            cheap_count: usize::try_from(kills * if tight == 4 { 2 } else { 6 }).unwrap(),
            dear_total,
        }
    }

    /// Returns limits that do not bind.
    pub(super) const fn ample() -> Self {
        let ample = Amount::from_cents(50_000);
        Self {
            total: ample,
            per_hour: ample,
            per_day: ample,
            min_balance: Amount::ZERO,
            per_minute: 3_000,
            in_flight: 8,
            cheap_count: 10_000,
            dear_total: ample,
        }
    }

    pub(super) const fn min_balance(&self) -> Amount {
        self.min_balance
    }

    /// Formats the limits as `sniper.toml`.
    pub(super) fn policy(&self, market: Market) -> String {
        let policy = self.policy_with_markup();
        if market.settings().has_markup {
            return policy;
        }
        let lines = policy.lines().filter(|line| !line.starts_with("max_markup_percent"));
        let lines: Vec<&str> = lines.collect();
        format!("market = \"{}\"\n{}\n", market.name(), lines.join("\n"))
    }

    fn policy_with_markup(&self) -> String {
        let Self { total, per_hour, per_day, min_balance, per_minute, in_flight, .. } = self;
        let (count, dear_total) = (self.cheap_count, self.dear_total);
        let dear_min = CHEAP_MAX.saturating_add(Amount::from_cents(1));
        format!(
            "[budget]\nmax_price = {MAX_PRICE}\ntotal = {total}\nper_hour = {per_hour}\n\
             per_day = {per_day}\nmin_balance = {min_balance}\nmax_buys_per_minute = {per_minute}\n\
             max_in_flight = {in_flight}\n[reconnection]\ninitial_delay_ms = 250\n\
             [[whitelist]]\nname = \"cheap\"\nitem = \"*\"\nmax_price = {CHEAP_MAX}\n\
             max_markup_percent = 1000\nmax_quantity = {count}\n\
             [[whitelist]]\nname = \"dear\"\nitem = \"*\"\nmin_price = {dear_min}\n\
             max_price = {MAX_PRICE}\nmax_markup_percent = 1000\nmax_quantity = 100000\n\
             max_total = {dear_total}\n"
        )
    }

    /// Returns `true` if the limits allow one more order at the maximum price.
    pub(super) fn allow_order(&self, history: &MarketHistory) -> bool {
        let at = Moment::of(history, Duration::MAX);
        let fits = |spent: Amount, most: Amount| spent.saturating_add(MAX_PRICE) <= most;
        let spendable = BALANCE.saturating_sub(self.min_balance);
        let most = [self.total, self.per_hour, self.per_day, spendable];
        most.into_iter().all(|most| fits(at.spent(), most))
            && fits(BALANCE.saturating_sub(history.balance), spendable)
            && at.cheap_count() < self.cheap_count
            && fits(at.dear_total(), self.dear_total)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A limit was exceeded.
    Overspent,
    /// A listing was requested twice.
    Doubled,
    /// A request is not in the ledger, or a purchase is not counted.
    Forgotten,
    /// The ledger cannot be read, or it disagrees with the history in the end.
    Wrong,
}

/// A violated invariant.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    what: String,
}

impl Violation {
    const fn new(kind: Kind, what: String) -> Self {
        Self { kind, what }
    }

    pub(super) const fn wrong(what: String) -> Self {
        Self::new(Kind::Wrong, what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// The account's purchases at one moment, at their listed prices. If the market charges more, the
/// bot learns that only afterwards.
struct Moment<'a> {
    at: Duration,
    bought: Vec<(&'a ListingRecord, &'a PurchaseRecord)>,
}

impl<'a> Moment<'a> {
    fn of(history: &'a MarketHistory, at: Duration) -> Self {
        let is_past = |moment: Option<Duration>| moment.is_some_and(|moment| moment <= at);
        let bought =
            history.purchases().filter(|(_, one)| one.at <= at && !is_past(one.refunded_at));
        Self { at, bought: bought.collect() }
    }

    /// Sum of all purchases that were not refunded.
    fn spent(&self) -> Amount {
        sum(self.bought.iter().map(|(entry, _)| entry.price))
    }

    fn spent_in_hour(&self) -> Amount {
        let recent = self.bought.iter().filter(|(_, one)| self.at < one.at.saturating_add(HOUR));
        sum(recent.map(|(entry, _)| entry.price))
    }

    /// Returns the purchases that were not cancelled. A refund does not name its purchase, so a
    /// cancelled purchase counts for no entry.
    fn kept(&self) -> impl Iterator<Item = &'a ListingRecord> {
        let is_cancelled =
            |one: &PurchaseRecord| one.cancelled_at.is_some_and(|moment| moment <= self.at);
        self.bought.iter().filter(move |(_, one)| !is_cancelled(one)).map(|(entry, _)| *entry)
    }

    fn cheap_count(&self) -> usize {
        self.kept().filter(|entry| entry.price <= CHEAP_MAX).count()
    }

    fn dear_total(&self) -> Amount {
        sum(self.kept().filter(|entry| CHEAP_MAX < entry.price).map(|entry| entry.price))
    }
}

fn sum(prices: impl Iterator<Item = Amount>) -> Amount {
    prices.fold(Amount::ZERO, Amount::saturating_add)
}

/// Returns all violations so far.
pub(super) fn violations(
    limits: &Limits,
    history: &MarketHistory,
    reader: &LedgerReader,
    session_from: Duration,
) -> Vec<Violation> {
    let ledger = reader.state();
    let mut found = Vec::new();
    for (_, purchase) in history.purchases() {
        found.extend(exceeded(limits, &Moment::of(history, purchase.at)));
    }
    found.extend(too_many(limits, history, reader, session_from));
    for entry in history.ordered_twice() {
        found.push(Violation::new(Kind::Doubled, describe(entry, ledger)));
    }
    for (id, request) in history.unmatched_orders() {
        found.push(Violation::new(Kind::Forgotten, format!("stray {id}: {request:?}")));
    }
    for (entry, request) in history.orders() {
        if is_forgotten(entry, request, ledger) {
            found.push(Violation::new(Kind::Forgotten, describe(entry, ledger)));
        }
    }
    let counted = ledger.intents().iter().filter(|intent| intent.state.counts());
    let approved = sum(counted.map(|intent| intent.approved));
    if limits.total < approved {
        let what = format!("{approved} of {} by the ledger itself", limits.total);
        found.push(Violation::new(Kind::Overspent, what));
    }
    found
}

/// Returns the own ids that were ordered or booked more than once.
pub(super) fn reused_own_ids(books: &SalesBooks) -> Vec<Violation> {
    let used = books.ordered_twice().chain(books.booked_twice());
    used.map(|own_id| Violation::new(Kind::Doubled, format!("own id {own_id}"))).collect()
}

fn exceeded(limits: &Limits, at: &Moment<'_>) -> Option<Violation> {
    let (spent, hour) = (at.spent(), at.spent_in_hour());
    let over = |name: &str, is: Amount, most: Amount| {
        (most < is).then(|| format!("{name}: {is} of {most} at {:?}", at.at))
    };
    let spendable = BALANCE.saturating_sub(limits.min_balance);
    let what = over("total", spent, limits.total)
        .or_else(|| over("per_hour", hour, limits.per_hour))
        .or_else(|| over("per_day", spent, limits.per_day))
        .or_else(|| over("min_balance", spent, spendable))
        .or_else(|| over("max_total", at.dear_total(), limits.dear_total))
        .or_else(|| {
            let (is, most) = (at.cheap_count(), limits.cheap_count);
            (most < is).then(|| format!("max_quantity: {is} of {most} at {:?}", at.at))
        })?;
    Some(Violation::new(Kind::Overspent, what))
}

/// Checks `max_in_flight` and `max_buys_per_minute`.
fn too_many(
    limits: &Limits,
    history: &MarketHistory,
    reader: &LedgerReader,
    session_from: Duration,
) -> Option<Violation> {
    type Request<'a> = (&'a ListingRecord, &'a OrderRecord);
    let requests: Vec<Request<'_>> = history.orders().collect();
    for (entry, last) in &requests {
        let within = |(_, one): &&Request<'_>| one.at <= last.at && last.at < one.at + MINUTE_MIN;
        let sent = requests.iter().filter(within).count();
        if limits.per_minute < sent {
            let what = format!("max_buys_per_minute: {sent} before {:?}", last.at);
            return Some(Violation::new(Kind::Overspent, what));
        }
        // Requests of an earlier process are not in flight. The bot gives up a request at its
        // deadline, before the market notices.
        let is_open = |(_, one): &&Request<'_>| {
            session_from <= one.connected_at
                && one.at <= last.at
                && last.at < one.at + ANSWER_MAX
                && one.answered_at.is_none_or(|answered| last.at < answered)
        };
        if last.connected_at < session_from
            || requests.iter().filter(is_open).count() <= limits.in_flight
        {
            continue;
        }
        // A rejection that belongs to no request can arrive in place of the answer. The order is
        // unknown from then on, while the market still works on it.
        let sent_at = details(&entry.id, reader).and_then(|last| last.sent_at);
        let is_unknown = |(entry, _): &&Request<'_>| {
            let answered_at = details(&entry.id, reader).and_then(|one| one.answered_at);
            answered_at.zip(sent_at).is_some_and(|(answered, sent)| answered <= sent)
        };
        let open = requests.iter().filter(is_open).filter(|one| !is_unknown(one));
        let in_flight = open.count();
        if limits.in_flight < in_flight {
            let what = format!("max_in_flight: {in_flight} at {:?}", last.at);
            return Some(Violation::new(Kind::Overspent, what));
        }
    }
    None
}

fn details(id: &str, reader: &LedgerReader) -> Option<OrderDetails> {
    let intent = reader.state().intent(&TradeId::new(id)?)?;
    reader.details(intent.sequence).ok()
}

/// Returns `true` if a request is not in the ledger, or if its purchase is not counted although it
/// was not cancelled.
fn is_forgotten(entry: &ListingRecord, request: &OrderRecord, ledger: &LedgerState) -> bool {
    // Where prices change under one id, there may be an order for each price.
    let intents: Vec<&Intent> =
        TradeId::new(&entry.id).iter().flat_map(|id| ledger.orders_of(id)).collect();
    if intents.is_empty() {
        return true;
    }
    let Some(purchase) = entry.purchase.filter(|_| request.decision == OrderDecision::Sold) else {
        return false;
    };
    // A cancelled purchase may be released as returned because of another purchase's refund. After
    // its own refund, every state is valid.
    let has = |state: OrderState| intents.iter().any(|intent| intent.state == state);
    let may_be_released = purchase.cancelled_at.is_some() && has(OrderState::Returned);
    let counts = intents.iter().any(|intent| intent.state.counts());
    !counts && !purchase.is_refunded() && !may_be_released
}

/// Describes a listing in the history and in the ledger, in one line.
fn describe(entry: &ListingRecord, ledger: &LedgerState) -> String {
    let intent = TradeId::new(&entry.id).and_then(|id| ledger.intent(&id).copied());
    let mut text = describe_entry(entry);
    match intent {
        Some(intent) => {
            let (state, at, changed) = (intent.state, intent.reserved_at, intent.changed_at);
            write!(text, "; ledger: {state}, reserved {at}, changed {changed}").unwrap();
        }
        None => text.push_str("; not in the ledger"),
    }
    text
}

fn describe_entry(entry: &ListingRecord) -> String {
    let mut text = format!("{} for {}", entry.id, entry.price);
    for request in &entry.orders {
        let fault = request.fault.map_or_else(|| "no fault".to_owned(), FaultKind::name);
        let OrderRecord { at, connection, answered_at, decision, .. } = request;
        write!(
            text,
            "; request at {at:?} over connection {connection}: {decision:?}, {fault}, answered \
             {answered_at:?}"
        )
        .unwrap();
    }
    if let Some(PurchaseRecord { status, price, cancelled_at, refunded_at, .. }) = &entry.purchase {
        write!(
            text,
            "; bought for {price}, {status:?}, cancelled {cancelled_at:?}, refunded {refunded_at:?}"
        )
        .unwrap();
    }
    text
}

/// Describes all listings with requests, one per line, in the order of the requests.
pub(super) fn describe_all(history: &MarketHistory) -> String {
    let mut entries: Vec<&ListingRecord> = history.orders().map(|(entry, _)| entry).collect();
    entries.sort_by_key(|entry| entry.orders.first().map(|request| request.at));
    entries.iter().map(|entry| describe_entry(entry) + "\n").collect()
}
