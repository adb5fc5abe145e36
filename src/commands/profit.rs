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

use super::{AppError, CommandContext, LedgerCommandError, report};
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

/// Where the items would be sold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sale {
    source: String,
    /// Position of the source.
    index: usize,
    side: QuoteSide,
    fee: Percent,
    /// Value of a coin in dollars; `None` if the source has prices in coins.
    coin_usd: Option<CoinUsd>,
    /// `None` without a table.
    at: Option<UnixMs>,
    max_age: Duration,
}

impl Sale {
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
            at: table.has_table().then_some(table.newest),
            max_age: source.max_age,
        })
    }

    fn age(&self, now: UnixMs) -> Option<Duration> {
        self.at.map(|at| now.since(at))
    }

    fn is_stale(&self, now: UnixMs) -> bool {
        self.age(now).is_some_and(|age| age > self.max_age)
    }
}

/// A number of orders and their price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Paid {
    count: u64,
    coins: Amount,
}

impl Paid {
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
struct Compared {
    paid: Paid,
    worth: Amount,
}

impl Compared {
    fn plus(self, other: Self) -> Self {
        Self { paid: self.paid.plus(other.paid), worth: self.worth.saturating_add(other.worth) }
    }

    const fn difference(self) -> Amount {
        self.worth.saturating_sub(self.paid.coins)
    }

    /// Returns the difference as a percentage of the paid amount, rounded down; `None` if nothing
    /// was paid.
    fn percent(self) -> Option<Percent> {
        let paid = i128::from(self.paid.coins.thousandths());
        let change = i128::from(self.difference().thousandths()).saturating_mul(10_000);
        let percent = change.checked_div_euclid(paid).filter(|_| 0 < paid)?;
        Some(Percent::from_hundredths(i64::try_from(percent).unwrap_or(i64::MAX)))
    }

    fn to_json(self) -> Value {
        json!({
            "count": self.paid.count,
            "paid": self.paid.coins.to_string(),
            "worth": self.worth.to_string(),
            "difference": self.difference().to_string(),
            "difference_percent": self.percent().map(|percent| percent.to_string()),
        })
    }
}

/// Totals of the bought items, and their value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Profit {
    sale: Sale,
    now: UnixMs,
    since: Option<UnixMs>,
    bought: Compared,
    delivered: Compared,
    /// Orders that are compared at a price that is too old.
    stale: u64,
    /// Orders whose item has no price.
    unpriced: Paid,
    /// Number of these orders by item.
    unpriced_items: BTreeMap<String, u64>,
    /// Orders whose item is not in the ledger.
    unnamed: Paid,
    returning: Paid,
    returned: Paid,
    unknown: Paid,
}

impl Profit {
    /// Sums the orders up. `items` are the items of the orders, as far as they are known.
    fn of<'a>(
        orders: impl Iterator<Item = &'a Intent>,
        items: &HashMap<Sequence, OrderedItem>,
        (book, sale): (&PriceBook, Sale),
        (now, since): (UnixMs, Option<UnixMs>),
    ) -> Self {
        let mut profit = Self {
            sale,
            now,
            since,
            bought: Compared::default(),
            delivered: Compared::default(),
            stale: 0,
            unpriced: Paid::default(),
            unpriced_items: BTreeMap::new(),
            unnamed: Paid::default(),
            returning: Paid::default(),
            returned: Paid::default(),
            unknown: Paid::default(),
        };
        for order in orders.filter(|order| since.is_none_or(|since| since <= order.reserved_at)) {
            match order.state {
                OrderState::Bought | OrderState::Completed => {
                    profit.compare(order, items.get(&order.sequence), book);
                }
                OrderState::Returning => profit.returning.add(order.price),
                OrderState::Returned => profit.returned.add(order.price),
                OrderState::Unknown | OrderState::Reserved | OrderState::Sent => {
                    profit.unknown.add(order.price);
                }
                OrderState::Rejected | OrderState::NotSent | OrderState::NotBought => {}
            }
        }
        profit
    }

    fn compare(&mut self, order: &Intent, item: Option<&OrderedItem>, book: &PriceBook) {
        let Some(item) = item else { return self.unnamed.add(order.price) };
        let quotes = ItemKey::parse(&item.name).and_then(|key| book.quotes(&key));
        let quote = quotes.and_then(|quotes| quotes.get(self.sale.index));
        let offer = quote.and_then(|quote| quote.side(self.sale.side));
        let source = book.sources().get(self.sale.index);
        let coin = source.and_then(BookSource::coin);
        let (Some(offer), Some(source), Some(coin)) = (offer, source, coin) else {
            self.unpriced.add(order.price);
            let count = self.unpriced_items.entry(item.name.clone()).or_default();
            *count = count.saturating_add(1);
            return;
        };
        if !source.is_fresh(offer, self.now) {
            self.stale = self.stale.saturating_add(1);
        }
        let worth = Reference::new(offer.price, coin).in_coins_after(self.sale.fee);
        // Hundredths are enough for an estimate.
        let worth = Amount::from_cents(worth.cents());
        let compared = match order.state {
            OrderState::Completed => &mut self.delivered,
            _ => &mut self.bought,
        };
        compared.paid.add(order.price);
        compared.worth = compared.worth.saturating_add(worth);
    }

    fn compared(&self) -> Compared {
        self.bought.plus(self.delivered)
    }

    /// Returns the total of all bought orders, with or without a price today.
    fn all(&self) -> Paid {
        self.compared().paid.plus(self.unpriced).plus(self.unnamed)
    }

    fn to_json(&self) -> Value {
        let Sale { source, side, fee, coin_usd, at, max_age, .. } = &self.sale;
        let unpriced: Vec<Value> = self
            .unpriced_items
            .iter()
            .take(NAMES_MAX)
            .map(|(item, count)| json!({ "item": item, "count": count }))
            .collect();
        let mut compared = self.compared().to_json();
        if let Some(compared) = compared.as_object_mut() {
            compared.insert("bought".to_owned(), self.bought.to_json());
            compared.insert("delivered".to_owned(), self.delivered.to_json());
            compared.insert("with_stale_price".to_owned(), json!(self.stale));
        }
        json!({
            "since": self.since.map(|since| since.to_string()),
            "unit": unit::name(),
            "coin_usd": coin_usd.map(|coin| coin.to_string()),
            "count": self.all().count,
            "paid": self.all().coins.to_string(),
            "compared": compared,
            "without_price": {
                "count": self.unpriced.count,
                "paid": self.unpriced.coins.to_string(),
                "different_items": self.unpriced_items.len(),
                "items": unpriced,
            },
            "without_name": self.unnamed.to_json(),
            "excluded": {
                "returning": self.returning.to_json(),
                "returned": self.returned.to_json(),
                "unknown": self.unknown.to_json(),
            },
            "prices": {
                "reference": format!("{source}.{}", side.as_str()),
                "fee_percent": fee.to_string(),
                "at": at.map(|at| at.to_string()),
                "age_minutes": self.sale.age(self.now).map(|age| age.as_secs() / 60),
                "max_age_minutes": max_age.as_secs() / 60,
                "stale": self.sale.is_stale(self.now),
            },
        })
    }

    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<12} {:>8} {:>12} {:>12} {:>12}",
            "", "orders", "paid", "worth now", "difference"
        )?;
        for (name, compared) in
            [("bought", self.bought), ("delivered", self.delivered), ("total", self.compared())]
        {
            let Compared { paid: Paid { count, coins }, worth } = compared;
            let difference = signed(&compared.difference());
            write!(f, "{name:<12} {count:>8} {coins:>12} {worth:>12} {difference:>12}")?;
            match compared.percent() {
                Some(percent) => writeln!(f, "  {} %", signed(&percent))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }

    /// Writes where the prices come from, and how old they are.
    fn write_prices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sale { source, side, fee, coin_usd, .. } = &self.sale;
        let what = match side {
            QuoteSide::Ask => "the lowest ask",
            QuoteSide::Bid => "the highest bid",
        };
        write!(f, "\nWorth now: {what} of {source}, less a fee of {fee} %")?;
        match coin_usd {
            Some(coin) => writeln!(f, "; 1 coin = {coin} USD.")?,
            None => writeln!(f, ".")?,
        }
        let Some(age) = self.sale.age(self.now) else {
            return writeln!(f, "There are no prices of {source} yet; run `sniper prices update`.");
        };
        let (age, limit) = (format_duration(age), format_duration(self.sale.max_age));
        if self.sale.is_stale(self.now) {
            writeln!(f, "The prices are too old: {age}, limit {limit}; run `sniper prices update`.")
        } else if 0 < self.stale {
            let stale = counted(self.stale, "order", "orders");
            writeln!(f, "The prices are {age} old; those of {stale} are older than {limit}.")
        } else {
            writeln!(f, "The prices are {age} old.")
        }
    }

    /// Writes the orders that are not in the table, with the reason.
    fn write_others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit::name();
        let mut line = |paid: Paid, reason: &str| match paid {
            Paid { count: 0, .. } => Ok(()),
            Paid { count, coins } => {
                let orders = counted(count, "order", "orders");
                writeln!(f, "Not in the table: {orders} for {coins} {unit}, {reason}")
            }
        };
        let items = self.unpriced_items.iter().take(NAMES_MAX);
        let names: Vec<String> = items
            .map(|(item, count)| match count {
                1 => format!("\"{}\"", Escaped(item)),
                count => format!("{count} × \"{}\"", Escaped(item)),
            })
            .collect();
        let more = match self.unpriced_items.len().saturating_sub(NAMES_MAX) {
            0 => String::new(),
            more => format!(" and {more} more items"),
        };
        let names = names.join(", ");
        line(self.unpriced, &format!("without a price today: {names}{more}"))?;
        line(self.unnamed, "whose items are not in the ledger")?;
        line(self.unknown, "whose outcome is not known yet")?;
        line(self.returning, "cancelled, counted as spent until the balance shows the refund")?;
        line(self.returned, "cancelled and refunded")
    }
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
        let Paid { count, coins } = self.all();
        let orders = counted(count, "order", "orders");
        write!(f, "Bought: {orders} for {coins} {}", unit::name())?;
        match self.since {
            Some(since) => writeln!(f, " since {}", clock::format_local(since))?,
            None => writeln!(f)?,
        }
        if 0 < self.compared().paid.count {
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
    let config = context.load(false)?.config;
    let book = PriceStore::new(&config.data_dir).book(&config.prices);
    let Some(sale) = Sale::of(&config.prices, &book) else {
        let text = match config.prices.sources.first() {
            None => "There is no price source; add a [[prices.source]] to sniper.toml.".to_owned(),
            Some(source) => config.prices.without_coin(source),
        };
        match context.output.is_json() {
            true => context.output.json(&json!({ "error": text }))?,
            false => report::print(&format!("{text}\n"))?,
        }
        return Ok(ExitCode::FAILURE);
    };
    let reader = LedgerReader::open_or_copy(&config.data_dir, config.state_dir.as_deref())
        .map_err(LedgerCommandError::from)?;
    let items = reader.items().map_err(LedgerCommandError::from)?;
    let now = clock::now();
    let since = args.since.map(|since| now.minus(since));
    let orders = reader.state().intents().iter();
    let profit = Profit::of(orders, &items, (&book, sale), (now, since));
    match context.output.is_json() {
        true => context.output.json(&profit.to_json())?,
        false => report::print(&profit.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
