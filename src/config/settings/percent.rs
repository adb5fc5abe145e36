//! Parses the percent rule and the item filter of a whitelist entry, and resolves the sources that
//! rules name. Pure.

use std::fmt::Display;

use super::{
    super::{
        Market,
        document::{ConfigNode, ParseContext, TableFields, Value, suggestion},
        prices::{COIN_USD_REMEDY, PriceLocation, PriceSource, SourceCurrency},
        problem::{Diagnostics, Problem, SourceLocation},
    },
    ParsedEntry,
    item::misspelled,
    prices::{ParsedPrices, known_names, names},
};
use crate::{
    domain::{
        item_filter::{ItemCategory, ItemFilter, NamePattern},
        money::Percent,
        percent_rule::{PercentRule, PriceReference, QuoteSide, ReferenceRule},
        trade::RarityWord,
    },
    prices::SourceKind,
    text::{Escaped, composed},
};

/// Bounds of `max_percent`, in hundredths: up to ten times the reference.
const PERCENT: (u32, u32) = (1, 100_000);

/// Maximum number of references of one rule.
const REFERENCES_MAX: usize = 8;

/// Keys that belong to a percent rule.
const RULE_KEYS: [&str; 4] = ["reference", "reference_rule", "min_count", "min_reference"];

/// Reads `max_percent` and the keys that belong to it. The sources are resolved later.
pub(super) fn read_rule(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<PercentRule> {
    let max_percent = fields.decimal("max_percent", PERCENT, context);
    let references = read_references(fields, context);
    let words = ReferenceRule::ALL.map(ReferenceRule::as_str);
    let rule = fields.choice("reference_rule", &words, ReferenceRule::parse, context);
    let min_count = fields.whole("min_count", (1, u32::MAX), context);
    let min_reference = fields.limit("min_reference", context);
    if fields.get("max_percent").is_none() {
        for key in RULE_KEYS.into_iter().filter(|key| fields.get(key).is_some()) {
            let message = format!("`{key}` has no effect without `max_percent`");
            context.problem(fields.at(key), message, "add max_percent = 88, or remove this key");
        }
        return None;
    }
    Some(PercentRule {
        max_percent: Percent::from_hundredths(i64::from(max_percent?)),
        references,
        rule: rule.unwrap_or_default(),
        min_count,
        min_reference,
    })
}

/// Reads texts: one, or a list of them.
fn texts<'n>(
    fields: &TableFields<'n, '_>,
    key: &str,
    example: &str,
    context: &mut ParseContext<'_, '_>,
) -> Vec<(usize, &'n str)> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let remedy = format!("write {key} = {example}, or a list of such texts");
    let list = match &node.value {
        Value::List(list) if list.is_empty() => {
            context.problem(node.at, format!("`{key}` is an empty list"), remedy);
            return Vec::new();
        }
        Value::List(list) => list.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut found = Vec::new();
    for ConfigNode { at, value } in list {
        match value {
            Value::Text(text) => found.push((*at, text.as_ref())),
            other => {
                let message = format!("`{key}` must be text, not {}", other.kind());
                context.problem(*at, message, remedy.clone());
            }
        }
    }
    found
}

fn read_references(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Vec<PriceReference> {
    let mut references: Vec<PriceReference> = Vec::new();
    for (at, text) in texts(fields, "reference", "\"buff.bid\"", context) {
        let parts = text.trim().rsplit_once('.').and_then(|(source, side)| {
            let side = QuoteSide::ALL.into_iter().find(|known| known.as_str() == side)?;
            Some((source, side))
        });
        let Some((source, side)) = parts else {
            let message = format!("`reference` cannot be \"{}\"", Escaped(text));
            let remedy = "write the name of a source with .bid or .ask, such as \"buff.bid\"";
            context.problem(at, message, remedy);
            continue;
        };
        references.push(PriceReference {
            source: source.to_owned(),
            index: usize::MAX,
            side: Some(side),
        });
    }
    if references.len() > REFERENCES_MAX {
        let message = format!("`reference` has more than {REFERENCES_MAX} sources");
        context.problem(fields.at("reference"), message, "remove some");
    }
    references
}

/// Reads `category`, `rarity` and `exclude`. Returns `None` without any of them.
pub(super) fn read_filter(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<Box<ItemFilter>> {
    let mut filter = ItemFilter::default();
    let words = ItemCategory::ALL.map(ItemCategory::as_str);
    for (at, text) in texts(fields, "category", "\"knife\"", context) {
        match ItemCategory::parse(text) {
            Some(category) => filter.categories = filter.categories.with(category),
            None => {
                let message = format!("unknown category \"{}\"", Escaped(text));
                context.problem(at, message, suggestion(text, &words));
            }
        }
    }
    for (at, text) in texts(fields, "rarity", "\"covert\"", context) {
        match RarityWord::new(text.trim()) {
            Some(word) => filter.rarities.push(word),
            None => {
                let message = format!("`rarity` cannot be \"{}\"", Escaped(text));
                context.problem(at, message, "write a word of the market, such as \"covert\"");
            }
        }
    }
    for (at, text) in texts(fields, "exclude", "\"Sticker | *\"", context) {
        let pattern = NamePattern::parse(&composed(text));
        let name = pattern.as_ref().and_then(NamePattern::name);
        let remedy = match (&pattern, name.and_then(|name| misspelled(&name.base))) {
            (None, _) => "write a name as in `item`, with * only at its start or end".to_owned(),
            (Some(_), Some(remedy)) => remedy,
            (Some(_), None) => {
                filter.exclude.extend(pattern);
                continue;
            }
        };
        let message = format!("`exclude` cannot contain \"{}\"", Escaped(text));
        context.problem(at, message, remedy);
    }
    (!filter.is_any()).then(|| Box::new(filter))
}

/// Resolves the sources of every percent rule, and checks that each rule can have a reference.
/// Removes the default bound on the markup on a market without one.
pub(in crate::config) fn resolve(
    entries: &mut [ParsedEntry],
    prices: &ParsedPrices,
    market: Market,
    diagnostics: &mut Diagnostics,
) {
    let sold_in_dollars = prices.config.sell_on.is_some_and(|on| is_in_dollars(prices, on));
    let mut needs_coin = prices.place.clone().filter(|_| sold_in_dollars).zip(Some("`sell_on`"));
    for ParsedEntry { entry, percent_at, is_markup_set, .. } in entries {
        if !*is_markup_set && !market.settings().has_markup {
            entry.max_markup = None;
        }
        let (Some(rule), Some(place)) = (&mut entry.percent, percent_at) else { continue };
        let report = |message: String, remedy: &dyn Display| {
            Problem::new(place.clone(), message, remedy.to_string())
        };
        if prices.config.sources.is_empty() {
            if !prices.is_incomplete {
                let remedy = "add a [[prices.source]], as sniper.example.toml shows";
                diagnostics.problem(report("`max_percent` needs a price source".into(), &remedy));
            }
            continue;
        }
        if rule.references.is_empty() {
            rule.references.extend(default_reference(prices));
        }
        for reference in &mut rule.references {
            let names = names(&prices.config.sources);
            match names.iter().position(|name| *name == reference.source) {
                Some(index) => reference.index = index,
                None if prices.is_incomplete => {}
                None => {
                    let name = Escaped(&reference.source);
                    let message = format!("`reference` names no source: \"{name}\"");
                    diagnostics.problem(report(message, &known_names(&names)));
                }
            }
        }
        check_kinds(rule, place, prices, diagnostics);
        if rule.references.iter().any(|reference| is_in_dollars(prices, reference.index)) {
            needs_coin = needs_coin.or(Some((place.clone(), "a rule with `max_percent`")));
        }
    }
    let is_missing = market.is_priced_in_coins() && prices.config.coin_usd.is_none();
    if let Some((first, what)) = needs_coin.filter(|_| is_missing) {
        let place = prices.place.clone().unwrap_or(first);
        let message = format!("missing `coin_usd`, which {what} needs on this market");
        diagnostics.problem(Problem::new(place, message, COIN_USD_REMEDY));
    }
}

/// Returns the bid of the first source, or its ask if it has no bids.
fn default_reference(prices: &ParsedPrices) -> Option<PriceReference> {
    let source = prices.config.sources.first()?;
    let side = match source.kind {
        // Only its content shows whether it has bids.
        SourceKind::File => None,
        _ if has_bids(source) => Some(QuoteSide::Bid),
        _ => Some(QuoteSide::Ask),
    };
    Some(PriceReference { source: source.name.clone(), index: 0, side })
}

/// Returns `true` if a source may have bids: its address may name providers, and none with bids.
fn has_bids(source: &PriceSource) -> bool {
    let requests_only_asks = match &source.location {
        PriceLocation::Url(url) => {
            source.kind == SourceKind::Pricempire
                && url.path().contains("sources=")
                && !url.path().contains("_buy")
        }
        PriceLocation::File(_) => false,
    };
    source.kind.has_bids() && !requests_only_asks
}

/// Reports references to a side that a source does not have, and warns of sources without counts.
fn check_kinds(
    rule: &PercentRule,
    place: &SourceLocation,
    prices: &ParsedPrices,
    diagnostics: &mut Diagnostics,
) {
    for reference in &rule.references {
        let Some(source) = prices.config.sources.get(reference.index) else { continue };
        let (name, kind) = (&source.name, source.kind);
        if reference.side == Some(QuoteSide::Bid) && !has_bids(source) {
            let why = if kind.has_bids() {
                "its address requests no bids".to_owned()
            } else {
                format!("{} has no bids", kind.name())
            };
            let message = format!("\"{reference}\" has no prices: {why}");
            let remedy = format!("write {name}.ask, or another source");
            diagnostics.problem(Problem::new(place.clone(), message, remedy));
        }
        if rule.min_count.is_some() && !kind.has_counts() {
            let message = format!(
                "\"{name}\" states no number of offers, so `min_count` allows no order by it"
            );
            let remedy = "remove `min_count`, or use a source that counts offers";
            diagnostics.warning(Problem::new(place.clone(), message, remedy));
        }
    }
}

fn is_in_dollars(prices: &ParsedPrices, source: usize) -> bool {
    let source = prices.config.sources.get(source);
    source.is_some_and(|source| source.currency != SourceCurrency::Coins)
}

/// Returns the place of the percent rule of an entry, for problems that are found later.
pub(super) fn place(
    fields: &TableFields<'_, '_>,
    context: &ParseContext<'_, '_>,
) -> Option<SourceLocation> {
    let key = if fields.get("reference").is_some() { "reference" } else { "max_percent" };
    fields.get("max_percent").map(|_| context.document.place(fields.at(key)))
}
