//! Whitelist entries from TOML or JSON: parses and validates each entry, and rejects duplicates.

use std::collections::HashMap;

use super::{
    document::{ConfigNode, Value},
    fields::{ParseContext, TableFields, suggestion},
    problem::{Diagnostics, Problem, SourceLocation},
};
use crate::{
    domain::item_name::{ItemName, Wear},
    domain::trade::PaintWear,
    domain::whitelist_entry::{ItemPattern, WearSet, WhitelistEntry},
    text::{Escaped, is_safe_to_print, nearest},
};

/// Keys of an entry.
pub(super) const ENTRY_KEYS: [&str; 13] = [
    "name",
    "item",
    "wear",
    "stattrak",
    "souvenir",
    "float_min",
    "float_max",
    "min_price",
    "max_price",
    "max_markup_percent",
    "max_quantity",
    "max_total",
    "max_age_s",
];

/// Maximum length of the name of an item or entry, in bytes. Market names are shorter than 120.
const NAME_BYTES_MAX: usize = 400;

/// Maximum of `max_age_s`: ten years, which is no limit in practice.
const AGE_S_MAX: u32 = 315_360_000;

/// Accepted names of wears.
const WEAR_WORDS: [&str; 10] = [
    "Factory New",
    "Minimal Wear",
    "Field-Tested",
    "Well-Worn",
    "Battle-Scarred",
    "FN",
    "MW",
    "FT",
    "WW",
    "BS",
];

/// An entry and its location.
#[derive(Clone, Debug)]
pub(super) struct ParsedEntry {
    pub(super) entry: WhitelistEntry,
    pub(super) place: SourceLocation,
}

/// Entries of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryList {
    pub(super) found: Vec<ParsedEntry>,
    /// Number of entries, including invalid ones.
    pub(super) count: usize,
}

/// Parses a list of entries.
pub(super) fn read(node: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> EntryList {
    let Value::List(list) = &node.value else {
        let message = format!("the whitelist must be a list, not {}", node.value.kind());
        context.problem(node.at, message, "begin each entry with [[whitelist]]");
        return EntryList { found: Vec::new(), count: 1 };
    };
    let mut found = Vec::with_capacity(list.len());
    for node in list {
        if let Some(entry) = read_entry(node, context) {
            found.push(ParsedEntry { entry, place: context.document.place(node.at) });
        }
    }
    EntryList { found, count: list.len() }
}

/// Reports duplicate entries: the ledger identifies an entry by its name, or without a name by its
/// conditions.
pub(super) fn check_distinct(found: &[ParsedEntry], diagnostics: &mut Diagnostics) {
    let mut names = HashMap::new();
    let mut conditions = HashMap::new();
    for ParsedEntry { entry, place } in found {
        let (first, message, remedy) = match &entry.name {
            Some(name) => (
                *names.entry(name.as_str()).or_insert(place),
                format!("duplicate name \"{}\"", Escaped(name)),
                "give each entry its own name",
            ),
            None => (
                *conditions.entry(entry).or_insert(place),
                "duplicate entry".to_owned(),
                "remove one and raise `max_quantity` of the other",
            ),
        };
        if !std::ptr::eq(first, place) {
            let message = format!("{message}, also defined at {first}");
            diagnostics.problem(Problem::new(place.clone(), message, remedy));
        }
    }
}

fn read_entry(node: &ConfigNode<'_>, context: &mut ParseContext<'_, '_>) -> Option<WhitelistEntry> {
    let fields = TableFields::new(node, "[[whitelist]]", &ENTRY_KEYS, context);
    if !matches!(node.value, Value::Table(_)) {
        return None;
    }
    let name = read_name(&fields, context);
    let item = read_item(&fields, context);
    let wears = read_wears(&fields, context);
    let float_min = read_float(&fields, "float_min", context);
    let float_max = read_float(&fields, "float_max", context);
    check_order(&fields, ("float_min", float_min), ("float_max", float_max), context);
    let min_price = fields.coins("min_price", context);
    let max_price = fields.limit("max_price", context);
    check_order(&fields, ("min_price", min_price), ("max_price", max_price), context);
    if fields.get("max_price").is_none() {
        let message = "missing `max_price`".to_owned();
        context.problem(fields.at, message, "add the maximum price: max_price = 12.50");
    }
    let max_markup = fields.percent("max_markup_percent", context).unwrap_or_default();
    let max_quantity = fields.whole("max_quantity", (1, u32::MAX), context).unwrap_or(1);
    let max_total = fields.limit("max_total", context);
    fields.warn_above(("max_price", max_price), ("max_total", max_total), context);
    let max_age = fields.seconds("max_age_s", (0, AGE_S_MAX), context);
    let (item, item_text) = item?;
    let (stattrak, souvenir, wears) = merge_market_name(&fields, &item_text, wears, context);
    Some(WhitelistEntry {
        name,
        item,
        wears,
        stattrak,
        souvenir,
        float_min,
        float_max,
        min_price: min_price.unwrap_or_default(),
        max_price: max_price?,
        max_markup: Some(max_markup),
        max_quantity,
        max_total,
        max_age,
    })
}

fn read_name(fields: &TableFields<'_, '_>, context: &mut ParseContext<'_, '_>) -> Option<String> {
    let name = fields.text("name", context)?;
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_safe_to_print)
    {
        let message = "`name` is empty, too long or contains invisible characters".to_owned();
        let remedy =
            format!("write plain text of at most {NAME_BYTES_MAX} bytes, or remove the key");
        context.problem(fields.at("name"), message, remedy);
        return None;
    }
    Some(name.to_owned())
}

/// Properties given by the text of `item` beyond the base name.
#[derive(Debug, Default)]
struct ItemText<'n> {
    item: &'n str,
    /// `true` for a market name, which determines StatTrak and Souvenir, unlike a base name.
    decides: bool,
    stattrak: bool,
    souvenir: bool,
    wear: Option<Wear>,
    /// `true` for the market name of an item without wear.
    wearless: bool,
}

fn read_item<'n>(
    fields: &TableFields<'n, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<(ItemPattern, ItemText<'n>)> {
    const REMEDY: &str =
        "write the name, such as item = \"AK-47 | Redline\", or item = \"*\" for every item";
    if fields.get("item").is_none() {
        context.problem(fields.at, "missing `item`".to_owned(), REMEDY);
        return None;
    }
    let at = fields.at("item");
    let item = fields.text("item", context)?;
    if item.trim() == "*" {
        return Some((ItemPattern::Any, ItemText { item, ..ItemText::default() }));
    }
    let parsed = ItemName::parse(item);
    if parsed.base.trim().is_empty() {
        context.problem(at, "`item` is empty".to_owned(), REMEDY);
        return None;
    }
    if item.len() > NAME_BYTES_MAX || !item.chars().all(is_safe_to_print) {
        let message = "`item` is too long or contains invisible characters".to_owned();
        context.problem(at, message, "copy the name again as plain text");
        return None;
    }
    if let Some(remedy) = misspelled(&parsed.base) {
        let message = format!("no item is named \"{}\"", Escaped(item));
        context.problem(at, message, remedy);
        return None;
    }
    // The market name of a vanilla knife is a star and the name. A market name with a finish ends
    // in a wear, so a star before a name with a finish and no wear does not make it a market name.
    let vanilla = parsed.is_star && !parsed.base.contains('|');
    let item_text = ItemText {
        item,
        decides: parsed.wear.is_some() || parsed.is_stattrak || parsed.is_souvenir || vanilla,
        stattrak: parsed.is_stattrak,
        souvenir: parsed.is_souvenir,
        wear: parsed.wear,
        wearless: vanilla,
    };
    Some((ItemPattern::Named(parsed.base.into_owned()), item_text))
}

/// Returns the remedy for a base name that still contains a misspelled StatTrak, Souvenir or wear.
fn misspelled(base: &str) -> Option<String> {
    let lower = base.to_lowercase();
    if lower.starts_with("stattrak") {
        return Some(
            "write StatTrak™ with the ™ sign, or the base name and stattrak = true".to_owned(),
        );
    }
    if lower.starts_with("souvenir ") && lower.contains('|') {
        return Some(
            "write Souvenir with a capital S, or the base name and souvenir = true".to_owned(),
        );
    }
    let (_name, last) = base.strip_suffix(')')?.rsplit_once('(')?;
    let wear = match Wear::parse_user_input(last) {
        Some(wear) => wear.as_str(),
        None => nearest(last, &Wear::ALL.map(Wear::as_str))?,
    };
    Some(format!("did you mean `({wear})`?"))
}

fn read_wears(fields: &TableFields<'_, '_>, context: &mut ParseContext<'_, '_>) -> Option<WearSet> {
    const REMEDY: &str =
        "write a list, such as wear = [\"FN\", \"MW\"], or remove the key for any wear";
    let node = fields.get("wear")?;
    let list = match &node.value {
        Value::List(list) if list.is_empty() => {
            context.problem(node.at, "`wear` is an empty list".to_owned(), REMEDY);
            return None;
        }
        Value::List(list) => list,
        other => {
            context.problem(
                node.at,
                format!("`wear` must be a list, not {}", other.kind()),
                REMEDY,
            );
            return None;
        }
    };
    let mut wears = WearSet::ANY;
    for word in list {
        let Value::Text(text) = &word.value else {
            let message = format!("`wear` must contain texts, not {}", word.value.kind());
            context.problem(word.at, message, REMEDY);
            continue;
        };
        match Wear::parse_user_input(text) {
            Some(wear) => wears = wears.with(wear),
            None => {
                let message = format!("unknown wear \"{}\"", Escaped(text));
                context.problem(word.at, message, suggestion(text, &WEAR_WORDS));
            }
        }
    }
    Some(wears)
}

fn read_float(
    fields: &TableFields<'_, '_>,
    key: &str,
    context: &mut ParseContext<'_, '_>,
) -> Option<PaintWear> {
    let (at, text) = fields.number(key, context)?;
    let float = PaintWear::parse(text);
    if float.is_none() {
        let message = format!("`{key}` is not a float value");
        context.problem(at, message, "write a number from 0 to 1, such as 0.15");
    }
    float
}

fn check_order<T: PartialOrd + std::fmt::Display>(
    fields: &TableFields<'_, '_>,
    (min_key, min): (&str, Option<T>),
    (max_key, max): (&str, Option<T>),
    context: &mut ParseContext<'_, '_>,
) {
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!("`{min_key}` {min} is above `{max_key}` {max}");
        context.problem(fields.at(min_key), message, "swap them, or fix one");
    }
}

/// Combines the keys of an entry with a complete market name, and reports contradictions.
fn merge_market_name(
    fields: &TableFields<'_, '_>,
    item_text: &ItemText<'_>,
    wears: Option<WearSet>,
    context: &mut ParseContext<'_, '_>,
) -> (bool, bool, WearSet) {
    let stattrak = merge_flag(fields, item_text, ("stattrak", item_text.stattrak), context);
    let souvenir = merge_flag(fields, item_text, ("souvenir", item_text.souvenir), context);
    if stattrak && souvenir && !item_text.decides {
        let message = "`stattrak` and `souvenir` are both true, but no item is both".to_owned();
        context.problem(fields.at("souvenir"), message, "remove one, or write two entries");
    }
    let decided = item_text.wear.map(|wear| WearSet::ANY.with(wear));
    let contradicts = wears.is_some_and(|wears| match decided {
        Some(decided) => wears != decided,
        None => item_text.wearless && wears != WearSet::ANY,
    });
    if contradicts {
        let what = item_text.wear.map_or("no wear", Wear::as_str);
        let message =
            format!("`wear` contradicts `item` = \"{}\" ({what})", Escaped(item_text.item));
        context.problem(fields.at("wear"), message, "remove `wear`, or the wear in `item`");
    }
    (stattrak, souvenir, decided.or(wears).unwrap_or_default())
}

fn merge_flag(
    fields: &TableFields<'_, '_>,
    item_text: &ItemText<'_>,
    (key, decided): (&str, bool),
    context: &mut ParseContext<'_, '_>,
) -> bool {
    let written = fields.flag(key, context);
    if !item_text.decides {
        return written.unwrap_or(false);
    }
    if let Some(written) = written.filter(|written| *written != decided) {
        let message =
            format!("`{key}` = {written} contradicts `item` = \"{}\"", Escaped(item_text.item));
        let remedy = format!("remove `{key}`, or write the base name into `item`");
        context.problem(fields.at(key), message, remedy);
    }
    decided
}
