//! `sniper whitelist suggest`: items that a recording listed below a share of their reference.

use std::{
    fs,
    ops::ControlFlow,
    path::{self, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    commands::{
        AppError, CommandContext,
        capture::MarketSource,
        progress::{Progress, ProgressCount, ProgressCounter},
        replay::{ReplayDecision, ReplayRules, input::ReplayInput},
    },
    config::{Config, prices::SourceCurrency},
    domain::{
        money::{Amount, Decimals, Percent},
        percent_rule::{PercentRule, PriceReference, QuoteSide, ReferenceRule},
        trade::{Trade, TradeStatus},
        unit,
    },
    text::{Escaped, counted, is_safe_to_print},
    whitelist::{
        PriceView, Whitelist,
        suggest::{PricedListing, Suggestion, SuggestionCollector},
    },
};

/// Maximum number of items to show as text.
const SHOWN_MAX: usize = 50;

/// Arguments of `whitelist suggest`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SuggestArgs {
    /// Highest price, in percent of the reference
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub percent: Percent,
    /// Coins to divide among the items
    #[arg(long, value_name = "AMOUNT", value_parser = parse_budget)]
    pub budget: Amount,
    /// Directory of one session [default: the newest one of `sniper run --record`]
    #[arg(long, value_name = "RECORDING")]
    pub recording: Option<PathBuf>,
    /// File with prices, as kind "file" reads, or folder with stored tables, instead of the
    /// recorded prices
    #[arg(long, value_name = "PATH")]
    pub prices: Option<PathBuf>,
    /// Unit of a file with prices: usd, cents or coins
    #[arg(long, default_value = "usd", requires = "prices", value_parser = parse_unit)]
    pub unit: SourceCurrency,
    /// Reference, such as buff.bid, or file.ask with a file [default: the bid of the first source,
    /// or its ask]
    #[arg(long, value_name = "SOURCE.SIDE")]
    pub reference: Option<String>,
    /// CSV file that receives the items within the budget, for `sniper whitelist import`
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

fn parse_percent(text: &str) -> Result<Percent, &'static str> {
    let percent = Percent::parse(text).ok();
    percent.filter(|percent| *percent > Percent::default()).ok_or("must be a number above 0")
}

fn parse_budget(text: &str) -> Result<Amount, &'static str> {
    let budget = Amount::parse(text, Decimals::Three).ok();
    budget.filter(|budget| *budget > Amount::ZERO).ok_or("must be an amount above 0")
}

fn parse_unit(text: &str) -> Result<SourceCurrency, &'static str> {
    SourceCurrency::parse(text).ok_or("must be usd, cents or coins")
}

/// Prints the suggestions.
///
/// # Errors
///
/// Returns an [`AppError`] if there is no price source or no recording, or if the result cannot be
/// printed or written.
pub(super) fn run(
    context: CommandContext<'_>,
    config: &Config,
    args: &SuggestArgs,
    market: impl FnOnce(&Config) -> MarketSource,
) -> Result<(), AppError> {
    let failed = |error: String| AppError::Failed(format!("cannot suggest entries: {error}"));
    let mut config = config.clone();
    if let Some(path) = args.prices.as_ref().filter(|path| path.is_file()) {
        config.prices = config.prices.with_file(path.clone(), args.unit);
    }
    let config = &config;
    let reference = reference(config, args.reference.as_deref()).map_err(failed)?;
    let source = config.prices.sources.get(reference.index);
    if let Some(source) = source.filter(|source| config.prices.coin(source).is_none()) {
        return Err(failed(config.prices.without_coin(source)));
    }
    let input = ReplayInput::open(config, args.recording.as_deref(), args.prices.as_deref())?;
    let entries = Whitelist::new(Vec::new());
    let rules =
        ReplayRules { whitelist: entries.into(), ..ReplayRules::of(config, input.prices.clone()) };
    let rule = PercentRule {
        max_percent: args.percent,
        references: vec![reference],
        rule: ReferenceRule::First,
        min_count: None,
        min_reference: None,
    };
    let mut collector = SuggestionCollector::new(args.percent);
    let fee = config.prices.sell_fee.unwrap_or_default();
    let resale_fee = config.prices.sell_on.is_none().then_some(fee);
    let source = market(config);
    let counter = ProgressCounter::default();
    let progress = Progress::start("Replaying", &ProgressCount::Of("listings"), counter.clone());
    let mut collect = |decision: ReplayDecision<'_, '_>| {
        counter.add(1);
        let ReplayDecision { trade, prices, .. } = decision;
        if is_open(trade)
            && let Some(listing) = priced(trade, prices, (&rule, resale_fee))
        {
            collector.add(&trade.full_name(), listing);
        }
        ControlFlow::Continue(())
    };
    let result = source.replay(&input.recording, &rules, &mut collect);
    drop(progress);
    let result = result.map_err(|error| AppError::failed("replay the recording", &error))?;
    let left_out = collector.left_out();
    let suggestions = collector.finish(args.budget);
    let report = SuggestReport { args, reference: &rule, suggestions: &suggestions, left_out };
    if let Some(target) = &args.write {
        fs::write(target, report.to_csv())
            .map_err(|error| failed(format!("{} cannot be written: {error}", target.display())))?;
    }
    let text = input.describe(result.span_ns) + &report.to_text();
    context.output.print(&text, || report.to_json(&input, result.span_ns))
}

/// Returns the reference with this name, or the default one.
fn reference(config: &Config, name: Option<&str>) -> Result<PriceReference, String> {
    let sources = &config.prices.sources;
    let Some(name) = name else {
        let first = sources.first().ok_or("there is no [[prices.source]] in sniper.toml")?;
        return Ok(PriceReference { source: first.name.clone(), index: 0, side: None });
    };
    let found = name.rsplit_once('.').and_then(|(source, side)| {
        let side = QuoteSide::ALL.into_iter().find(|known| known.as_str() == side)?;
        let index = sources.iter().position(|known| known.name == source)?;
        Some(PriceReference { source: source.to_owned(), index, side: Some(side) })
    });
    found.ok_or_else(|| {
        let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let known = known.join(", ");
        format!("no reference \"{}\"; write .bid or .ask behind one of: {known}", Escaped(name))
    })
}

/// Returns `true` for a listing that could be ordered.
fn is_open(trade: &Trade<'_>) -> bool {
    trade.status == TradeStatus::Listed
        && trade.defects.is_empty()
        && !trade.is_own
        && trade.can_join != Some(false)
        && trade.market_name.chars().all(is_safe_to_print)
}

/// Returns price, share and margin of a listing. The item is sold at `sell_on`, or without it at
/// the reference less the fee.
fn priced(
    trade: &Trade<'_>,
    prices: PriceView<'_>,
    (rule, resale_fee): (&PercentRule, Option<Percent>),
) -> Option<PricedListing> {
    let share = prices.share_of(rule, trade)?;
    let margin = match resale_fee {
        Some(fee) => share.reference.margin(share.price, fee),
        None => prices.margin(trade),
    };
    Some(PricedListing {
        price: share.price,
        percent: share.reference.percent(share.price),
        margin,
    })
}

/// Result of `whitelist suggest`.
struct SuggestReport<'s> {
    args: &'s SuggestArgs,
    reference: &'s PercentRule,
    suggestions: &'s [Suggestion],
    left_out: u64,
}

impl SuggestReport<'_> {
    /// Returns coins and expected profit of the items within the budget.
    fn totals(&self) -> (Amount, Amount) {
        let zero = (Amount::ZERO, Amount::ZERO);
        self.suggestions.iter().fold(zero, |(spent, profit), item| {
            let quantity = i64::try_from(item.quantity).unwrap_or(i64::MAX);
            let cost = item.typical.price.saturating_mul(quantity);
            (spent.saturating_add(cost), profit.saturating_add(item.profit))
        })
    }

    fn reference_name(&self) -> String {
        self.reference.references.iter().map(ToString::to_string).collect()
    }

    fn to_text(&self) -> String {
        let SuggestArgs { percent, budget, write, prices, unit, reference, .. } = self.args;
        let mut text = format!("Listed at or below {percent} % of {}:\n", self.reference_name());
        text.push_str(&format!(
            "{:>8} {:>8} {:>10} {:>8} {:>8} {:>7} {:>10}  item\n",
            "matches", "of", "price", "percent", "margin", "number", "profit"
        ));
        for item in self.suggestions.iter().take(SHOWN_MAX) {
            let PricedListing { price, percent, margin } = item.typical;
            text.push_str(&format!(
                "{:>8} {:>8} {:>10} {:>8} {:>8} {:>7} {:>10}  {}\n",
                item.matches,
                item.listings,
                price.to_string(),
                percent.to_string(),
                margin.map_or_else(|| "-".to_owned(), |margin| margin.to_string()),
                item.quantity,
                item.profit.to_string(),
                Escaped(&item.name)
            ));
        }
        if self.suggestions.len() > SHOWN_MAX {
            let more = self.suggestions.len().saturating_sub(SHOWN_MAX);
            text.push_str(&format!("… and {more} more; --json shows all\n"));
        }
        if self.left_out > 0 {
            let listings = counted(self.left_out, "listing", "listings");
            text.push_str(&format!("Left out: {listings} of further items\n"));
        }
        let (spent, profit) = self.totals();
        text.push_str(&format!("{spent} of {budget} {}, expected profit {profit}\n", unit::name()));
        if let Some(target) = write {
            let target = target.display();
            text.push_str(&format!(
                "Written to {target}; see `sniper whitelist import {target}`\n"
            ));
            // The entries refer to this source, which the settings do not have.
            if let Some(file) = prices.as_ref().filter(|path| path.is_file()) {
                let unit = unit.as_str();
                let place = match reference {
                    Some(_) => "These entries need a source in the settings",
                    None => {
                        "These entries need this source as the first one in the settings, which \
                             every other entry without `reference` then uses, too"
                    }
                };
                let file = path::absolute(file).unwrap_or_else(|_unknown| file.clone());
                text.push_str(&format!(
                    "{place}:\n[[prices.source]]\n\
                     name = \"file\"\nkind = \"file\"\npath = {file:?}\nunit = \"{unit}\"\n"
                ));
            }
        }
        text
    }

    fn to_json(&self, input: &ReplayInput, span_ns: Option<(u64, u64)>) -> Value {
        let item = |item: &Suggestion| {
            json!({
                "item": item.name,
                "matches": item.matches,
                "listings": item.listings,
                "price": item.typical.price.to_string(),
                "price_max": item.price_max.to_string(),
                "percent": item.typical.percent.to_string(),
                "margin_percent": item.typical.margin.map(|margin| margin.to_string()),
                "quantity": item.quantity,
                "profit": item.profit.to_string(),
            })
        };
        let (spent, profit) = self.totals();
        json!({
            "recording": input.recording.directory().display().to_string(),
            "prices": input.to_json(span_ns),
            "reference": self.reference_name(),
            "max_percent": self.args.percent.to_string(),
            "budget": self.args.budget.to_string(),
            "spent": spent.to_string(),
            "profit": profit.to_string(),
            "listings_left_out": self.left_out,
            "suggestions": self.suggestions.iter().map(item).collect::<Vec<_>>(),
        })
    }

    /// Returns the items within the budget, with the columns of an import. The highest matching
    /// price is the maximum price, and the part of the budget that was counted for the item is its
    /// `max_total`.
    fn to_csv(&self) -> String {
        let percent = self.args.percent;
        let reference = self.args.reference.as_deref().unwrap_or_default();
        let mut text = "name,percent,price,quantity,max_total,reference\n".to_owned();
        for item in self.suggestions.iter().filter(|item| item.quantity > 0) {
            let name = item.name.replace('"', "\"\"");
            let (price, quantity) = (item.price_max, item.quantity);
            let count = i64::try_from(quantity).unwrap_or(i64::MAX);
            // At least one of them, also at the maximum price.
            let total = item.typical.price.saturating_mul(count).max(price);
            text.push_str(&format!(
                "\"{name}\",{percent},{price},{quantity},{total},{reference}\n"
            ));
        }
        text
    }
}
