//! `sniper profit`: compares the prices paid for the bought items with their value today.
//!
//! Reads the ledger and the stored price tables only: it works beside a running bot, and without a
//! network.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{AppError, CommandContext, LedgerCommandError};
use crate::{
    account::prices::PriceStore,
    clock,
    config::prices::PricesConfig,
    domain::money::{Amount, Percent},
    domain::percent_rule::{CoinUsd, PriceCurrency, QuoteSide},
    domain::time::{UnixMs, format_duration},
    domain::unit,
    ledger::{OrderState, OrderedItem, Sequence, intent::Intent, reader::LedgerReader},
    prices::{ItemKey, PriceBook, Reference, book::BookSource},
    shutdown::parse_duration,
    text::{Escaped, counted},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper prices update
  sniper profit
  sniper profit --since 30d --json";

/// Maximum number of items without a price that are named.
const NAMES_MAX: usize = 10;

/// Arguments of `sniper profit`.
#[derive(Clone, Debug, Args)]
pub struct ProfitArgs {
    /// Only orders of the last days or hours, such as 30d or 12h [default: all]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub since: Option<Duration>,
}

/// Source and side of the prices at which the items would be sold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ResaleQuote {
    source: String,
    /// Position of the source.
    index: usize,
    side: QuoteSide,
    fee: Percent,
    /// Value of a coin in dollars; `None` if the source has prices in coins.
    coin_usd: Option<CoinUsd>,
    /// Time of the newest price; `None` without a table.
    priced_at: Option<UnixMs>,
    max_age: Duration,
}

impl ResaleQuote {
    /// Returns the source of `sell_on` with its lowest ask, as in the expected margin; without that
    /// setting the default reference of the rules. `None` without a source, or without the value of
    /// a coin.
    fn of(config: &PricesConfig, book: &PriceBook) -> Option<Self> {
        let index = config.sell_on.unwrap_or(0);
        let (source, table) = (config.sources.get(index)?, book.sources().get(index)?);
        let is_in_usd = source.currency.currency() == PriceCurrency::Usd;
        let coin = config.coin(source)?;
        Some(Self {
            source: source.name.clone(),
            index,
            side: if config.sell_on.is_some() { QuoteSide::Ask } else { table.default_side() },
            fee: config.sell_fee.unwrap_or_default(),
            coin_usd: is_in_usd.then_some(coin),
            priced_at: table.has_table().then_some(table.newest),
            max_age: source.max_age,
        })
    }

    fn age(&self, now: UnixMs) -> Option<Duration> {
        self.priced_at.map(|at| now.since(at))
    }

    fn is_stale(&self, now: UnixMs) -> bool {
        self.age(now).is_some_and(|age| age > self.max_age)
    }
}

/// A number of orders and their price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OrderTotal {
    count: u64,
    coins: Amount,
}

impl OrderTotal {
    fn add(&mut self, coins: Amount) {
        self.count = self.count.saturating_add(1);
        self.coins = self.coins.saturating_add(coins);
    }

    fn plus(self, other: Self) -> Self {
        let (count, coins) =
            (self.count.saturating_add(other.count), self.coins.saturating_add(other.coins));
        Self { count, coins }
    }

    fn to_json(self) -> Value {
        json!({ "count": self.count, "paid": self.coins.to_string() })
    }
}

/// Orders whose items have a price today.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Valued {
    paid: OrderTotal,
    /// After the fee of the sale.
    market_value: Amount,
}

impl Valued {
    fn plus(self, other: Self) -> Self {
        let market_value = self.market_value.saturating_add(other.market_value);
        Self { paid: self.paid.plus(other.paid), market_value }
    }

    const fn unrealized_pnl(self) -> Amount {
        self.market_value.saturating_sub(self.paid.coins)
    }

    /// Returns the unrealized profit or loss as a percentage of the paid amount, rounded down;
    /// `None` if nothing was paid.
    fn percent(self) -> Option<Percent> {
        let paid = i128::from(self.paid.coins.thousandths());
        let change = i128::from(self.unrealized_pnl().thousandths()).saturating_mul(10_000);
        let percent = change.checked_div_euclid(paid).filter(|_| 0 < paid)?;
        Some(Percent::from_hundredths(i64::try_from(percent).unwrap_or(i64::MAX)))
    }

    fn to_json(self) -> Value {
        json!({
            "count": self.paid.count,
            "paid": self.paid.coins.to_string(),
            "worth": self.market_value.to_string(),
            "difference": self.unrealized_pnl().to_string(),
            "difference_percent": self.percent().map(|percent| percent.to_string()),
        })
    }
}

/// Totals of the orders by state, and the value of the bought items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    /// Bought and not delivered yet.
    bought: Valued,
    delivered: Valued,
    /// Number of valued orders whose price is too old.
    stale: u64,
    /// Bought orders whose item has no price.
    unpriced: OrderTotal,
    /// Number of these orders by name of the item.
    unpriced_items: BTreeMap<String, u64>,
    /// Bought orders whose item is not in the ledger.
    unnamed: OrderTotal,
    returning: OrderTotal,
    returned: OrderTotal,
    unknown: OrderTotal,
}

impl Totals {
    /// Returns the total of the bought orders whose items have a price today.
    fn valued(&self) -> Valued {
        self.bought.plus(self.delivered)
    }

    /// Returns the total of all bought orders, with or without a price today.
    fn all(&self) -> OrderTotal {
        self.valued().paid.plus(self.unpriced).plus(self.unnamed)
    }
}

/// Totals of the orders, and the prices that their items are valued at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Profit {
    quote: ResaleQuote,
    now: UnixMs,
    since: Option<UnixMs>,
    totals: Totals,
}

impl Profit {
    /// Adds the orders since [`since`](Self::since). `items` are the items of the orders, as far as
    /// they are known.
    fn with_orders<'a>(
        mut self,
        orders: impl Iterator<Item = &'a Intent>,
        items: &HashMap<Sequence, OrderedItem>,
        book: &PriceBook,
    ) -> Self {
        let since = self.since;
        for order in orders.filter(|order| since.is_none_or(|since| since <= order.reserved_at)) {
            match order.state {
                OrderState::Bought | OrderState::Completed => {
                    self.add_bought(order, items.get(&order.sequence), book);
                }
                OrderState::Returning => self.totals.returning.add(order.price),
                OrderState::Returned => self.totals.returned.add(order.price),
                OrderState::Unknown | OrderState::Reserved | OrderState::Sent => {
                    self.totals.unknown.add(order.price);
                }
                OrderState::Rejected | OrderState::NotSent | OrderState::NotBought => {}
            }
        }
        self
    }

    fn add_bought(&mut self, order: &Intent, item: Option<&OrderedItem>, book: &PriceBook) {
        let (quote, totals) = (&self.quote, &mut self.totals);
        let Some(item) = item else { return totals.unnamed.add(order.price) };
        let key = ItemKey::parse(&item.name).filter(|key| !key.lacks_phase());
        let quotes = key.and_then(|key| book.quotes(&key));
        let prices = quotes.and_then(|quotes| quotes.get(quote.index));
        let offer = prices.and_then(|prices| prices.side(quote.side));
        let source = book.sources().get(quote.index);
        let coin = source.and_then(BookSource::coin);
        let (Some(offer), Some(source), Some(coin)) = (offer, source, coin) else {
            totals.unpriced.add(order.price);
            let count = totals.unpriced_items.entry(item.name.clone()).or_default();
            *count = count.saturating_add(1);
            return;
        };
        if !source.is_fresh(offer, self.now) {
            totals.stale = totals.stale.saturating_add(1);
        }
        let value = Reference::new(offer.price, coin).in_coins_after(quote.fee);
        // Hundredths are enough for an estimate.
        let value = Amount::from_cents(value.cents());
        let valued = match order.state {
            OrderState::Completed => &mut totals.delivered,
            _ => &mut totals.bought,
        };
        valued.paid.add(order.price);
        valued.market_value = valued.market_value.saturating_add(value);
    }

    fn to_json(&self) -> Value {
        let ResaleQuote { source, side, fee, coin_usd, priced_at, max_age, .. } = &self.quote;
        let Totals { bought, delivered, unpriced, unpriced_items, .. } = &self.totals;
        let (valued, all) = (self.totals.valued(), self.totals.all());
        let items = unpriced_items.iter().take(NAMES_MAX);
        let items = items.map(|(item, count)| {
            json!({ "item": item, "count": count, "phase_unknown": lacks_phase(item) })
        });
        let mut compared = valued.to_json();
        if let Some(compared) = compared.as_object_mut() {
            compared.insert("bought".to_owned(), bought.to_json());
            compared.insert("delivered".to_owned(), delivered.to_json());
            compared.insert("with_stale_price".to_owned(), json!(self.totals.stale));
        }
        json!({
            "since": self.since.map(|since| since.to_string()),
            "unit": unit::name(),
            "coin_usd": coin_usd.map(|coin| coin.to_string()),
            "count": all.count,
            "paid": all.coins.to_string(),
            "compared": compared,
            "without_price": {
                "count": unpriced.count,
                "paid": unpriced.coins.to_string(),
                "different_items": unpriced_items.len(),
                "items": items.collect::<Vec<_>>(),
            },
            "without_name": self.totals.unnamed.to_json(),
            "excluded": {
                "returning": self.totals.returning.to_json(),
                "returned": self.totals.returned.to_json(),
                "unknown": self.totals.unknown.to_json(),
            },
            "prices": {
                "reference": format!("{source}.{}", side.as_str()),
                "fee_percent": fee.to_string(),
                "at": priced_at.map(|at| at.to_string()),
                "age_minutes": self.quote.age(self.now).map(|age| age.as_secs() / 60),
                "max_age_minutes": max_age.as_secs() / 60,
                "stale": self.quote.is_stale(self.now),
            },
        })
    }

    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<12} {:>8} {:>12} {:>12} {:>12}",
            "", "orders", "paid", "worth now", "difference"
        )?;
        let Totals { bought, delivered, .. } = self.totals;
        let rows = [("bought", bought), ("delivered", delivered), ("total", self.totals.valued())];
        for (name, valued) in rows {
            let Valued { paid: OrderTotal { count, coins }, market_value } = valued;
            let pnl = signed(&valued.unrealized_pnl());
            write!(f, "{name:<12} {count:>8} {coins:>12} {market_value:>12} {pnl:>12}")?;
            match valued.percent() {
                Some(percent) => writeln!(f, "  {} %", signed(&percent))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }

    /// Writes where the prices come from, and how old they are.
    fn write_prices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResaleQuote { source, side, fee, coin_usd, .. } = &self.quote;
        let what = match side {
            QuoteSide::Ask => "the lowest ask",
            QuoteSide::Bid => "the highest bid",
        };
        write!(f, "\nWorth now: {what} of {source}, less a fee of {fee} %")?;
        match coin_usd {
            Some(coin) => writeln!(f, "; 1 coin = {coin} USD.")?,
            None => writeln!(f, ".")?,
        }
        let Some(age) = self.quote.age(self.now) else {
            return writeln!(f, "There are no prices of {source} yet; run `sniper prices update`.");
        };
        let (age, limit) = (format_duration(age), format_duration(self.quote.max_age));
        if self.quote.is_stale(self.now) {
            writeln!(f, "The prices are too old: {age}, limit {limit}; run `sniper prices update`.")
        } else if 0 < self.totals.stale {
            let stale = counted(self.totals.stale, "order", "orders");
            writeln!(f, "The prices are {age} old; those of {stale} are older than {limit}.")
        } else {
            writeln!(f, "The prices are {age} old.")
        }
    }

    /// Writes the orders that are not in the table, with the reason.
    fn write_others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit::name();
        let mut line = |OrderTotal { count, coins }: OrderTotal, reason: &str| {
            if count == 0 {
                return Ok(());
            }
            let orders = counted(count, "order", "orders");
            writeln!(f, "Not in the table: {orders} for {coins} {unit}, {reason}")
        };
        let totals = &self.totals;
        let items = totals.unpriced_items.iter().take(NAMES_MAX);
        let names: Vec<String> = items
            .map(|(item, count)| {
                let times = if *count == 1 { String::new() } else { format!("{count} × ") };
                let note = if lacks_phase(item) { " (phase unknown)" } else { "" };
                format!("{times}\"{}\"{note}", Escaped(item))
            })
            .collect();
        let more = match totals.unpriced_items.len().saturating_sub(NAMES_MAX) {
            0 => String::new(),
            more => format!(" and {more} more items"),
        };
        let names = names.join(", ");
        line(totals.unpriced, &format!("without a price today: {names}{more}"))?;
        line(totals.unnamed, "whose items are not in the ledger")?;
        line(totals.unknown, "whose outcome is not known yet")?;
        line(totals.returning, "cancelled, counted as spent until the balance shows the refund")?;
        line(totals.returned, "cancelled and refunded")
    }
}

fn lacks_phase(item: &str) -> bool {
    ItemKey::parse(item).is_some_and(|key| key.lacks_phase())
}

fn signed(value: &impl fmt::Display) -> String {
    let text = value.to_string();
    if text.starts_with('-') || text.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        text
    } else {
        format!("+{text}")
    }
}

impl fmt::Display for Profit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OrderTotal { count, coins } = self.totals.all();
        let orders = counted(count, "order", "orders");
        write!(f, "Bought: {orders} for {coins} {}", unit::name())?;
        match self.since {
            Some(since) => writeln!(f, " since {}", clock::format_local(since))?,
            None => writeln!(f)?,
        }
        if 0 < self.totals.valued().paid.count {
            self.write_table(f)?;
        }
        self.write_prices(f)?;
        self.write_others(f)
    }
}

/// Runs `sniper profit`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid, the ledger cannot be read, or the result
/// cannot be printed.
pub fn run(context: CommandContext<'_>, args: &ProfitArgs) -> Result<ExitCode, AppError> {
    let config = context.load()?.config;
    let book = PriceStore::new(&config.data_dir).book(&config.prices);
    let Some(quote) = ResaleQuote::of(&config.prices, &book) else {
        let text = match config.prices.sources.first() {
            None => "There is no price source; add a [[prices.source]] to sniper.toml.".to_owned(),
            Some(source) => config.prices.without_coin(source),
        };
        context.output.print(&format_args!("{text}\n"), || json!({ "error": text }))?;
        return Ok(ExitCode::FAILURE);
    };
    let reader = LedgerReader::open_or_copy(&config.data_dir, config.state_dir.as_deref())
        .map_err(LedgerCommandError::from)?;
    let items = reader.items().map_err(LedgerCommandError::from)?;
    let now = clock::now();
    let since = args.since.map(|since| now.minus(since));
    let orders = reader.state().intents().iter();
    let profit = Profit { quote, now, since, totals: Totals::default() };
    let profit = profit.with_orders(orders, &items, &book);
    context.output.print(&profit, || profit.to_json())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
