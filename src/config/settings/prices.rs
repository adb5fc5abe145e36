//! Parses `[prices]` and `[[prices.source]]`. Pure.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{
        document::{ConfigNode, ParseContext, TableFields, Value},
        endpoint::{Endpoint, Scheme},
        prices::{PriceLocation, PriceSource, PricesConfig, SourceCurrency},
        problem::SourceLocation,
    },
    alerts::variable,
};
use crate::{
    domain::{money::Percent, percent_rule::CoinUsd},
    prices::{PriceUnit, RefPrice, SourceKind},
    secret,
    text::Escaped,
};

pub(super) const PRICES_KEYS: [&str; 5] =
    ["coin_usd", "refresh_minutes", "sell_fee_percent", "sell_on", "source"];

pub(super) const SOURCE_KEYS: [&str; 7] =
    ["name", "kind", "url", "path", "unit", "max_age_minutes", "key_env"];

/// Maximum number of sources.
const SOURCES_MAX: usize = 16;

/// Bounds of `refresh_minutes` and `max_age_minutes`: up to 30 days.
const MINUTES: (u32, u32) = (1, 43_200);

/// Maximum length of a source's name, which is also the name of a file.
const NAME_BYTES_MAX: usize = 32;

/// Default of `key_env`.
const KEY_ENV: &str = "PRICEMPIRE_KEY";

/// Number of decimals of `coin_usd`.
const COIN_DECIMALS: usize = 4;

/// Content of `[prices]`, and the parts that are checked with the environment and the whitelist.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct ParsedPrices {
    pub(in crate::config) config: PricesConfig,
    /// Variable with the key of the source at this position, and its place.
    pub(in crate::config) keys: Vec<(usize, String, SourceLocation)>,
    /// Location of the section, if there is one.
    pub(in crate::config) place: Option<SourceLocation>,
    /// `true` if a source is invalid, so that its name may be missing.
    pub(in crate::config) is_incomplete: bool,
}

pub(super) fn read_prices(
    node: &ConfigNode<'_>,
    context: &mut ParseContext<'_, '_>,
) -> ParsedPrices {
    let fields = TableFields::new(node, "[prices]", &PRICES_KEYS, context);
    let mut parsed =
        ParsedPrices { place: Some(context.document.place(fields.at)), ..ParsedPrices::default() };
    let minutes = |key, context: &mut ParseContext<'_, '_>| read_minutes(&fields, key, context);
    if let Some(refresh) = minutes("refresh_minutes", context) {
        parsed.config.refresh = refresh;
    }
    parsed.config.coin_usd = read_coin(&fields, context);
    read_sources(&fields, &mut parsed, context);
    let fee = fields.decimal("sell_fee_percent", (0, 9_999), context);
    parsed.config.sell_fee = fee.map(|fee| Percent::from_hundredths(i64::from(fee)));
    if let Some(name) = fields.text("sell_on", context) {
        let names: Vec<&str> = names(&parsed.config.sources);
        parsed.config.sell_on = names.iter().position(|known| *known == name);
        if parsed.config.sell_on.is_none() && !parsed.is_incomplete {
            let message = format!("`sell_on` names no source: \"{}\"", Escaped(name));
            context.problem(fields.at("sell_on"), message, known_names(&names));
        }
    } else if fee.is_some() {
        let message = "without `sell_on`, no margin is shown".to_owned();
        let remedy = "add the source where bought items are sold, such as sell_on = \"buff\"";
        context.warning(fields.at("sell_fee_percent"), message, remedy);
    }
    parsed
}

pub(super) fn names(sources: &[PriceSource]) -> Vec<&str> {
    sources.iter().map(|source| source.name.as_str()).collect()
}

/// Returns a remedy that lists the names of the sources.
pub(super) fn known_names(names: &[&str]) -> String {
    match names {
        [] => "add a [[prices.source]] with this name".to_owned(),
        names => format!("write one of: {}", names.join(", ")),
    }
}

fn read_minutes(
    fields: &TableFields<'_, '_>,
    key: &str,
    context: &mut ParseContext<'_, '_>,
) -> Option<Duration> {
    let minutes = fields.whole(key, MINUTES, context)?;
    Some(Duration::from_secs(u64::from(minutes).saturating_mul(60)))
}

fn read_coin(fields: &TableFields<'_, '_>, context: &mut ParseContext<'_, '_>) -> Option<CoinUsd> {
    let (at, text) = fields.number("coin_usd", context)?;
    let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_exact = is_plain && decimals.trim_end_matches('0').len() <= COIN_DECIMALS;
    let value = RefPrice::parse(text, PriceUnit::Whole)
        .filter(|_value| is_exact)
        .and_then(|value| u32::try_from(value.micros() / 100).ok())
        .and_then(CoinUsd::from_ten_thousandths);
    if value.is_none() {
        let message = "`coin_usd` is not the value of a coin".to_owned();
        let remedy = "write dollars per coin with at most four decimals, such as coin_usd = 0.65";
        context.problem(at, message, remedy);
    }
    value
}

fn read_sources(
    fields: &TableFields<'_, '_>,
    parsed: &mut ParsedPrices,
    context: &mut ParseContext<'_, '_>,
) {
    let Some(node) = fields.get("source") else { return };
    let list = match &node.value {
        Value::List(list) if list.len() <= SOURCES_MAX => list,
        Value::List(_) => {
            let message = format!("there are more than {SOURCES_MAX} sources");
            context.problem(node.at, message, "remove some");
            return;
        }
        other => {
            let message = format!("`source` must be a list of tables, not {}", other.kind());
            context.problem(node.at, message, "begin each source with [[prices.source]]");
            return;
        }
    };
    for node in list {
        match read_source(node, context) {
            Some((source, key)) if parsed.config.source(&source.name).is_none() => {
                let index = parsed.config.sources.len();
                parsed.keys.extend(key.map(|(name, at)| (index, name, at)));
                parsed.config.sources.push(source);
            }
            Some((source, _)) => {
                let message = format!("duplicate source name \"{}\"", source.name);
                context.problem(node.at, message, "give each source its own name");
            }
            None => parsed.is_incomplete = true,
        }
    }
}

/// A source, and the variable with its key.
type SourceWithKey = (PriceSource, Option<(String, SourceLocation)>);

fn read_source(node: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> Option<SourceWithKey> {
    let fields = TableFields::new(node, "[[prices.source]]", &SOURCE_KEYS, context);
    if !matches!(node.value, Value::Table(_)) {
        return None;
    }
    let name = read_source_name(&fields, context);
    let kind = read_kind(&fields, context);
    let max_age = read_minutes(&fields, "max_age_minutes", context);
    let kind = kind?;
    let location = match kind {
        SourceKind::File => read_path(&fields, context),
        _ => read_url(&fields, kind, context),
    };
    let currency = read_unit(&fields, kind, context);
    let key = read_key(&fields, kind, context);
    let source = PriceSource {
        name: name?,
        kind,
        location: location?,
        max_age: max_age.unwrap_or(kind.max_age()),
        currency: currency?,
        key: None,
    };
    Some((source, key))
}

/// Reports a key that a source of this kind does not have.
fn reject(
    fields: &TableFields<'_, '_>,
    key: &str,
    kind: SourceKind,
    remedy: &str,
    context: &mut ParseContext<'_, '_>,
) {
    if fields.get(key).is_some() {
        let message = format!("`{key}` does not belong to kind \"{}\"", kind.name());
        context.problem(fields.at(key), message, remedy);
    }
}

fn read_source_name(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<String> {
    if fields.get("name").is_none() {
        fields.missing("name", "\"buff\", by which rules refer to it", context);
    }
    let name = fields.text("name", context)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        let message = format!("`name` cannot be \"{}\"", Escaped(name));
        let remedy = format!("write up to {NAME_BYTES_MAX} letters, digits, - and _");
        context.problem(fields.at("name"), message, remedy);
        return None;
    }
    Some(name.to_owned())
}

fn read_kind(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<SourceKind> {
    if fields.get("kind").is_none() {
        fields.missing("kind", "\"csgotrader-buff163\"", context);
    }
    let kinds = SourceKind::ALL.map(|(_kind, name)| name);
    fields.choice("kind", &kinds, SourceKind::parse, context)
}

fn read_path(
    fields: &TableFields<'_, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<PriceLocation> {
    reject(fields, "url", SourceKind::File, "write `path`", context);
    if fields.get("path").is_none() {
        fields.missing("path", "\"prices.csv\"", context);
    }
    let path = fields.text("path", context)?;
    if path.trim().is_empty() || path.contains('\0') {
        let message = "`path` is not a path".to_owned();
        context.problem(fields.at("path"), message, "write a path, such as \"prices.csv\"");
        return None;
    }
    Some(PriceLocation::File(PathBuf::from(path)))
}

fn read_url(
    fields: &TableFields<'_, '_>,
    kind: SourceKind,
    context: &mut ParseContext<'_, '_>,
) -> Option<PriceLocation> {
    reject(fields, "path", kind, "write `url`, or kind = \"file\"", context);
    let example = kind.url().unwrap_or_default();
    let written = fields.text("url", context);
    if let Some(url) = written {
        let place = context.document.place(fields.at("url"));
        context.diagnostics.register_secrets(&place, "`url`", secret::query_keys(url));
    } else if fields.get("url").is_some() {
        return None;
    }
    let mut parts = written.unwrap_or_default().split(['?', '&']);
    let currency = parts.find_map(|part| {
        part.strip_prefix("currency=").filter(|value| !value.eq_ignore_ascii_case("usd"))
    });
    if let Some(currency) = currency {
        let message = format!("`url` requests prices in \"{}\"", Escaped(currency));
        context.problem(fields.at("url"), message, "write currency=USD into it");
    }
    match Endpoint::parse(written.unwrap_or(&example), Scheme::Http) {
        Ok(endpoint) => Some(PriceLocation::Url(endpoint)),
        Err(error) => {
            let remedy = format!("write an address such as {example}, or remove the key");
            context.problem(fields.at("url"), format!("`url` {error}"), remedy);
            None
        }
    }
}

/// Reads the unit of a local file; other kinds have their own.
fn read_unit(
    fields: &TableFields<'_, '_>,
    kind: SourceKind,
    context: &mut ParseContext<'_, '_>,
) -> Option<SourceCurrency> {
    if kind != SourceKind::File {
        reject(fields, "unit", kind, "remove it; the unit is known", context);
        return Some(SourceCurrency::Usd);
    }
    if fields.get("unit").is_none() {
        fields.missing("unit", "\"usd\", \"cents\" or \"coins\"", context);
    }
    let words = SourceCurrency::ALL.map(SourceCurrency::as_str);
    fields.choice("unit", &words, SourceCurrency::parse, context)
}

fn read_key(
    fields: &TableFields<'_, '_>,
    kind: SourceKind,
    context: &mut ParseContext<'_, '_>,
) -> Option<(String, SourceLocation)> {
    if !kind.needs_key() {
        reject(fields, "key_env", kind, "remove it; this kind needs no key", context);
        return None;
    }
    match fields.get("key_env") {
        Some(_) => variable(fields, "key_env", KEY_ENV, context),
        None => Some((KEY_ENV.to_owned(), context.document.place(fields.at("key_env")))),
    }
}
