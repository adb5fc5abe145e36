//! `sniper prices`: reads the price sources now, and shows their prices, ages and changes.

use std::{fmt, process::ExitCode, sync::Arc};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    AppError, CommandContext, block_on,
    progress::{Progress, ProgressCount, ProgressCounter},
};
use crate::{
    account::prices::{
        PricePublisher, PriceReader, PriceReading, PriceStore, StoredAs, StoredTable,
        refresh_prices,
    },
    clock,
    config::{
        Config,
        prices::{PriceSource, PricesConfig},
    },
    domain::unit,
    domain::{
        percent_rule::QuoteSide,
        time::{UnixMs, format_duration},
    },
    net::tls::Tls,
    prices::{
        BookTable, ItemKey, Offer, PriceBook, PriceSnapshot, PriceTable, Quote, Reference,
        book::BookSource,
    },
    text::{Escaped, counted, nearest},
    threads::{Alarm, ThreadGuard, ThreadName, priority, wait_for_failpoint},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper prices update
  sniper prices show \"AK-47 | Redline (Field-Tested)\"
  sniper prices status
  sniper prices diff buff
  sniper prices update buff --accept";

/// Maximum number of differences to show for each source.
const DIFFERENCES_MAX: usize = 20;

/// Arguments of `prices`.
#[derive(Clone, Debug, Args)]
pub struct PricesArgs {
    #[command(subcommand)]
    pub command: PricesCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PricesCommand {
    /// Read the sources now; without names: all of them
    Update {
        /// Names of sources in the settings
        #[arg(value_name = "SOURCE")]
        sources: Vec<String>,
        /// Accept a table that differs too much from the last good one
        #[arg(long)]
        accept: bool,
    },
    /// Show the prices of an item
    Show {
        /// Name of the item, with or without wear, StatTrak™ and Souvenir
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show the number of items and the age of each source
    Status,
    /// Compare a rejected table with the last good one, or the last good one with the one before
    Diff {
        /// Names of sources in the settings; without names: all of them
        #[arg(value_name = "SOURCE")]
        sources: Vec<String>,
    },
}

/// Result of a subcommand.
struct PricesReport {
    text: String,
    json: Value,
    is_success: bool,
}

/// Runs `sniper prices`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid, or the result cannot be printed.
pub fn run(context: CommandContext<'_>, args: &PricesArgs) -> Result<ExitCode, AppError> {
    let config = context.load()?.config;
    let report = match &args.command {
        _ if config.prices.sources.is_empty() => PricesReport {
            text: "There is no price source; add a [[prices.source]] to sniper.toml.\n".to_owned(),
            json: json!({"sources": []}),
            is_success: false,
        },
        PricesCommand::Update { sources, accept } => update(&config, sources, *accept)?,
        PricesCommand::Show { name } => show(&config, name),
        PricesCommand::Status => status(&config),
        PricesCommand::Diff { sources } => diff(&config, sources),
    };
    context.output.print(&report.text, || report.json)?;
    Ok(if report.is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stored prices, and a queue of new snapshots.
pub type PriceFeed = (PriceSnapshot, mpsc::Receiver<PriceSnapshot>);

/// Starts reading the price sources in a thread. Returns the stored prices, and a queue of new
/// snapshots; dropping the queue ends the thread. Returns `None` without sources.
///
/// # Errors
///
/// Returns [`AppError::Start`] if the thread or a client cannot be created.
pub fn start(config: &Config, tls: &Tls) -> Result<Option<PriceFeed>, AppError> {
    const WHAT: &str = "the price thread";
    if config.prices.sources.is_empty() {
        return Ok(None);
    }
    let reader = reader(config, tls)?;
    for (name, failure) in reader.read_files() {
        warn!("Prices not updated: {name}, {failure}. The last good table stays in use.");
    }
    let (snapshots, receiver) = mpsc::channel(1);
    let mut publisher = PricePublisher::new(Arc::clone(&config.whitelist), snapshots);
    let stored = publisher.snapshot(reader.book());
    if config.prices.is_offline {
        return Ok(Some((stored, receiver)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AppError::start(WHAT, error))?;
    let guard = ThreadGuard::new(ThreadName::Prices, Alarm::global());
    let work = move || {
        priority::lower(ThreadName::Prices);
        runtime.block_on(async {
            tokio::select! {
                () = refresh_prices(reader, publisher) => guard.finished(),
                () = wait_for_failpoint(ThreadName::Prices) => {}
            }
        });
    };
    std::thread::Builder::new()
        .name(ThreadName::Prices.to_string())
        .spawn(work)
        .map_err(|error| AppError::start(WHAT, error))?;
    Ok(Some((stored, receiver)))
}

fn reader(config: &Config, tls: &Tls) -> Result<PriceReader, AppError> {
    PriceReader::new(&config.prices, &config.data_dir, tls)
        .map_err(|error| AppError::start("the price reader", error))
}

/// Returns the stored prices of all sources.
pub fn stored_book(config: &Config) -> PriceBook {
    PriceStore::new(&config.data_dir).book(&config.prices)
}

/// Returns the positions of the named sources, or of all without names, and the unknown names.
fn chosen<'n>(prices: &PricesConfig, names: &'n [String]) -> (Vec<usize>, Vec<&'n str>) {
    if names.is_empty() {
        return ((0..prices.sources.len()).collect(), Vec::new());
    }
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match prices.sources.iter().position(|source| source.name == *name) {
            Some(index) => found.push(index),
            None => unknown.push(name.as_str()),
        }
    }
    (found, unknown)
}

/// Returns a line and a row of JSON for each name that is not in the settings.
fn unknown_sources(names: &[&str], prices: &PricesConfig) -> (String, Vec<Value>) {
    let known: Vec<&str> = prices.sources.iter().map(|source| source.name.as_str()).collect();
    let error = format!("no such source; the settings have {}", known.join(", "));
    let line = |name: &&str| format!("{}: {error}\n", Escaped(name));
    let row = |name: &&str| json!({"name": name, "result": "failed", "error": error});
    (names.iter().map(line).collect(), names.iter().map(row).collect())
}

fn update(config: &Config, names: &[String], accept: bool) -> Result<PricesReport, AppError> {
    let tls = Tls::from_config(config).map_err(|error| AppError::start("TLS", error))?;
    let reader = reader(config, &tls)?;
    let (chosen, unknown) = chosen(&config.prices, names);
    let (mut text, mut rows) = unknown_sources(&unknown, &config.prices);
    let mut is_success = unknown.is_empty();
    for index in chosen {
        let Some(source) = config.prices.sources.get(index) else { continue };
        let name = source.name.as_str();
        let text_shown = format!("Reading {}", Escaped(name));
        let progress =
            Progress::start(&text_shown, &ProgressCount::Time, ProgressCounter::default());
        let result = block_on(async { Ok(reader.read(index, accept).await) })?;
        drop(progress);
        let age = |at| format_duration(clock::wall().since(at));
        let (line, row) = match result {
            Ok(PriceReading::New { items, at }) => (
                format!("updated, {}, {} old", counted(items, "item", "items"), age(at)),
                json!({"name": name, "result": "updated", "items": items, "at": at.to_string()}),
            ),
            Ok(PriceReading::Unchanged { at }) => (
                format!("unchanged, {} old", age(at)),
                json!({"name": name, "result": "unchanged", "at": at.to_string()}),
            ),
            Err(failure) => {
                is_success = false;
                let failure = failure.to_string();
                let row = json!({"name": name, "result": "failed", "error": failure});
                (failure, row)
            }
        };
        text.push_str(&format!("{name}: {line}\n"));
        rows.push(row);
    }
    Ok(PricesReport { text, json: json!({"sources": rows}), is_success })
}

fn load(store: &PriceStore, source: &PriceSource, stored: StoredAs) -> Option<StoredTable> {
    store.load(source, stored).ok().flatten()
}

fn status(config: &Config) -> PricesReport {
    let (store, now) = (PriceStore::new(&config.data_dir), clock::wall());
    let (mut text, mut rows, mut is_success) = (String::new(), Vec::new(), true);
    for source in &config.prices.sources {
        let stored = load(&store, source, StoredAs::Current);
        let rejected = load(&store, source, StoredAs::Rejected);
        let line = source_line(source, stored.as_ref(), now);
        is_success &= line.is_fresh;
        text.push_str(&format!("{}: {}\n", source.name, line.text));
        if let Some(rejected) = &rejected {
            text.push_str(&format!(
                "  A table of {} with {} was rejected; compare it with `sniper prices diff {}`\n",
                clock::format_local(rejected.at),
                counted(rejected.table.len(), "item", "items"),
                source.name
            ));
        }
        rows.push(json!({
            "name": source.name,
            "kind": source.kind.name(),
            "items": stored.as_ref().map(|stored| stored.table.len()),
            "at": stored.as_ref().map(|stored| stored.at.to_string()),
            "checked_at": stored.as_ref().map(|stored| stored.checked_at.to_string()),
            "max_age_minutes": source.max_age.as_secs() / 60,
            "fresh": line.is_fresh,
            "refused": rejected.is_some(),
        }));
    }
    PricesReport { text, json: json!({"sources": rows}), is_success }
}

struct SourceLine {
    text: String,
    is_fresh: bool,
}

fn source_line(source: &PriceSource, stored: Option<&StoredTable>, now: UnixMs) -> SourceLine {
    let Some(stored) = stored else {
        let text = "no prices yet; run `sniper prices update`".to_owned();
        return SourceLine { text, is_fresh: false };
    };
    let (table, max_age) = (Some(&stored.table), source.max_age);
    let table = BookSource::of(&BookTable { table, at: stored.at, max_age, coin: None });
    let (age, is_fresh) = (now.since(table.newest), !table.is_stale(now));
    let is_old = |quote: &Quote| {
        !QuoteSide::ALL
            .into_iter()
            .filter_map(|side| quote.side(side))
            .any(|offer| table.is_fresh(offer, now))
    };
    let old = stored.table.iter().filter(|(_, quote)| is_old(quote)).count();
    let warning = if is_fresh && old == 0 {
        String::new()
    } else if is_fresh {
        format!("; {old} of them are too old for rules")
    } else if table.is_ahead(now) {
        "; from the future, rules based on it send no orders: check the clock".to_owned()
    } else {
        format!(
            "; too old, rules based on it send no orders (max_age_minutes = {})",
            source.max_age.as_secs() / 60
        )
    };
    let (items, age) = (counted(stored.table.len(), "item", "items"), format_duration(age));
    let text = format!("{}, {items}, {age} old{warning}", source.kind.name());
    SourceLine { text, is_fresh }
}

fn show(config: &Config, name: &str) -> PricesReport {
    let book = stored_book(config);
    let key = ItemKey::parse(name);
    let base = key.as_ref().map_or(name, |key| key.base.as_ref());
    let is_exact = key.as_ref().is_some_and(|key| book.quotes(key).is_some());
    let variants = book.variants(base).filter(|(variant, _)| {
        !is_exact || key.as_ref().is_some_and(|key| key.variant == *variant)
    });
    let (mut text, mut rows) = (String::new(), Vec::new());
    for (variant, quotes) in variants {
        let shown = ItemKey { base: base.into(), variant }.to_string();
        text.push_str(&format!("{}\n", Escaped(&shown)));
        for (source, quote) in config.prices.sources.iter().zip(quotes) {
            for side in QuoteSide::ALL {
                let Some(offer) = quote.side(side) else { continue };
                let (line, row) = offer_row(&config.prices, (source, side), offer);
                text.push_str(&line);
                rows.push(json!({"item": shown, "price": row}));
            }
        }
    }
    let is_success = !rows.is_empty();
    if !is_success {
        let known: Vec<&str> = book.bases().collect();
        let hint = nearest(base, &known).map(|known| format!("; did you mean {}?", Escaped(known)));
        let hint = hint.unwrap_or_default();
        text = format!("No source has a price for {}{hint}\n", Escaped(name));
    }
    PricesReport { text, json: json!({"prices": rows}), is_success }
}

/// Formats one price, in the currency of its source and in coins.
fn offer_row(
    prices: &PricesConfig,
    (source, side): (&PriceSource, QuoteSide),
    offer: Offer,
) -> (String, Value) {
    let coins = prices.coin(source).map(|coin| Reference::new(offer.price, coin).in_coins());
    let name = format!("{}.{}", source.name, side.as_str());
    let count = offer
        .count()
        .map(|count| format!(", {}", counted(count, "offer", "offers")))
        .unwrap_or_default();
    let own_unit = unit::name();
    let unit = source.currency.currency().as_str();
    let price = offer.price.to_string();
    let worth = coins.map_or_else(
        || format!("unknown {own_unit} without `coin_usd`"),
        |coins| format!("{coins} {own_unit}"),
    );
    let line = format!("  {name:<20} {price:>12} {unit} = {worth}{count}\n");
    let row = json!({
        "reference": name,
        "price": price,
        "unit": unit,
        "coins": coins.map(|coins| coins.to_string()),
        "count": offer.count(),
    });
    (line, row)
}

/// A price that differs between two tables.
struct Difference {
    item: String,
    side: QuoteSide,
    before: Option<Offer>,
    after: Option<Offer>,
}

impl Difference {
    /// Returns the change relative to the price before, in ten-thousandths; zero for a price that
    /// appears or vanishes, so that these are listed last.
    fn relative_change(&self) -> u64 {
        match (self.before, self.after) {
            (Some(before), Some(after)) => {
                let difference = before.price.micros().abs_diff(after.price.micros());
                difference.saturating_mul(10_000).checked_div(before.price.micros()).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let price = |offer: Option<Offer>| {
            offer.map_or_else(|| "none".to_owned(), |offer| offer.price.to_string())
        };
        let (before, after) = (price(self.before), price(self.after));
        write!(f, "{} {}: {before} to {after}", Escaped(&self.item), self.side.as_str())
    }
}

/// Returns the prices that differ, the largest relative change first.
fn differences(before: &PriceTable, after: &PriceTable) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |item: &ItemKey<'static>, one: &Quote, other: &Quote| {
        for side in QuoteSide::ALL {
            let (before, after) = (one.side(side), other.side(side));
            if before.map(|offer| offer.price) != after.map(|offer| offer.price) {
                found.push(Difference { item: item.to_string(), side, before, after });
            }
        }
    };
    for (item, quote) in before.iter() {
        compare(item, quote, &after.get(item).copied().unwrap_or_default());
    }
    for (item, quote) in after.iter().filter(|(item, _)| before.get(item).is_none()) {
        compare(item, &Quote::default(), quote);
    }
    found.sort_by_key(|difference| std::cmp::Reverse(difference.relative_change()));
    found
}

fn diff(config: &Config, names: &[String]) -> PricesReport {
    let store = PriceStore::new(&config.data_dir);
    let (chosen, unknown) = chosen(&config.prices, names);
    let (mut text, mut rows) = unknown_sources(&unknown, &config.prices);
    for source in chosen.into_iter().filter_map(|index| config.prices.sources.get(index)) {
        let of = |stored| load(&store, source, stored);
        let rejected = of(StoredAs::Rejected);
        let what = if rejected.is_some() { "rejected table" } else { "last good table" };
        let (before, after) = match rejected {
            Some(rejected) => (of(StoredAs::Current), Some(rejected)),
            None => (of(StoredAs::Previous), of(StoredAs::Current)),
        };
        let has_table = before.is_some() || after.is_some();
        let (Some(before), Some(after)) = (before, after) else {
            let reason = if has_table {
                "nothing to compare: only one table is stored"
            } else {
                "no prices yet; run `sniper prices update`"
            };
            text.push_str(&format!("{}: {reason}\n", source.name));
            continue;
        };
        let found = differences(&before.table, &after.table);
        text.push_str(&format!(
            "{}: {what}, {}, was {}; {}\n",
            source.name,
            counted(after.table.len(), "item", "items"),
            before.table.len(),
            counted(found.len(), "price differs", "prices differ")
        ));
        for difference in found.iter().take(DIFFERENCES_MAX) {
            text.push_str(&format!("  {difference}\n"));
        }
        if found.len() > DIFFERENCES_MAX {
            text.push_str(&format!(
                "  … and {} more\n",
                found.len().saturating_sub(DIFFERENCES_MAX)
            ));
        }
        rows.push(json!({
            "name": source.name,
            "table": what,
            "items": after.table.len(),
            "items_before": before.table.len(),
            "differences": found.len(),
        }));
    }
    PricesReport { text, json: json!({"sources": rows}), is_success: unknown.is_empty() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::prices::SourceCurrency,
        prices::{PriceUnit, SourceKind, parse::parse},
    };

    #[test]
    fn the_old_prices_of_a_fresh_table_are_counted() {
        let row = |name: &str, at: u32| {
            let ask = json!({"provider_key": "buff163", "price": 1, "updated_at": at});
            json!({"market_hash_name": name, "prices": [ask]})
        };
        let rows = json!([row("Fracture Case", 20_000), row("Recoil Case", 12_800)]).to_string();
        let now = UnixMs(20_000_000);
        let table = parse(SourceKind::Pricempire, PriceUnit::Cents, rows.as_bytes()).unwrap();
        let stored = StoredTable { table, at: now, ..StoredTable::default() };
        let config = PricesConfig::default().with_file("p".into(), SourceCurrency::Usd);
        let source =
            PriceSource { max_age: Duration::from_secs(1_800), ..config.sources[0].clone() };
        let line = source_line(&source, Some(&stored), now);
        let old = " old; 1 of them are too old for rules";
        assert!(line.is_fresh && line.text.ends_with(old), "{}", line.text);
    }
}
