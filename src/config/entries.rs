//! What a person wants, read from TOML or JSON: each entry checked, alone and beside the others.

use std::collections::HashMap;

use super::{
    document::{ConfigNode, Value},
    fields::{ParseContext, TableFields, suggestion},
    problem::{Diagnostics, Problem, SourceLocation},
};
use crate::{
    domain::item_name::{ItemName, Wear},
    domain::trade::PaintWear,
    text::{Escaped, is_harmless, nearest},
    whitelist::{ItemPattern, WearSet, WhitelistEntry},
};

/// Every key of an entry.
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

/// The longest name of an item or an entry, in bytes. Market names stay below 120.
const NAME_BYTES_MAX: usize = 400;

/// How old a back-filled listing may be allowed to be, in seconds: ten years, so: any.
const AGE_S_MAX: u32 = 315_360_000;

/// The wears as a person may write them.
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

/// An entry and where it stands.
#[derive(Clone, Debug)]
pub(super) struct ParsedEntry {
    pub(super) entry: WhitelistEntry,
    pub(super) place: SourceLocation,
}

/// What was found in one file.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryList {
    /// The entries that are right.
    pub(super) found: Vec<ParsedEntry>,
    /// How many there are, right or wrong.
    pub(super) count: usize,
}

/// Reads a list of entries.
pub(super) fn read(node: &ConfigNode<'_>, reading: &mut ParseContext<'_, '_>) -> EntryList {
    let Value::List(list) = &node.value else {
        let message = format!("the whitelist is {} where a list belongs", node.value.kind());
        reading.problem(node.at, message, "begin each entry with [[whitelist]]");
        return EntryList { found: Vec::new(), count: 1 };
    };
    let mut found = Vec::with_capacity(list.len());
    for node in list {
        if let Some(entry) = read_entry(node, reading) {
            found.push(ParsedEntry { entry, place: reading.document.place(node.at) });
        }
    }
    EntryList { found, count: list.len() }
}

/// Reports entries that cannot be told apart: in the books, an entry is known by its name, and
/// without one by its conditions.
pub(super) fn check_distinct(found: &[ParsedEntry], findings: &mut Diagnostics) {
    let mut names = HashMap::new();
    let mut conditions = HashMap::new();
    for ParsedEntry { entry, place } in found {
        let (first, message, remedy) = match &entry.name {
            Some(name) => (
                names.insert(name.as_str(), place),
                format!("the name \"{}\" is taken", Escaped(name)),
                "give each entry a name of its own",
            ),
            None => (
                conditions.insert(entry, place),
                "this entry says the same as another".to_owned(),
                "remove one and raise `max_quantity` of the other",
            ),
        };
        if let Some(first) = first {
            let message = format!("{message} already at {first}");
            findings.problem(Problem::new(place.clone(), message, remedy));
        }
    }
}

fn read_entry(node: &ConfigNode<'_>, reading: &mut ParseContext<'_, '_>) -> Option<WhitelistEntry> {
    let fields = TableFields::new(node, "[[whitelist]]", &ENTRY_KEYS, reading);
    if !matches!(node.value, Value::Table(_)) {
        return None;
    }
    let name = read_name(&fields, reading);
    let item = read_item(&fields, reading);
    let wears = read_wears(&fields, reading);
    let float_min = read_float(&fields, "float_min", reading);
    let float_max = read_float(&fields, "float_max", reading);
    check_order(&fields, ("float_min", float_min), ("float_max", float_max), reading);
    let min_price = fields.coins("min_price", reading);
    let max_price = fields.limit("max_price", reading);
    check_order(&fields, ("min_price", min_price), ("max_price", max_price), reading);
    if fields.get("max_price").is_none() {
        let message = "an entry without `max_price`".to_owned();
        reading.problem(fields.at, message, "write what it may cost at most: max_price = 12.50");
    }
    let max_markup = fields.percent("max_markup_percent", reading).unwrap_or_default();
    let max_quantity = fields.whole("max_quantity", (1, u32::MAX), reading).unwrap_or(1);
    let max_total = fields.limit("max_total", reading);
    fields.warn_above(("max_price", max_price), ("max_total", max_total), reading);
    let max_age = fields.seconds("max_age_s", (0, AGE_S_MAX), reading);
    let (item, said) = item?;
    let (stattrak, souvenir, wears) = settle(&fields, &said, wears, reading);
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
        max_markup,
        max_quantity,
        max_total,
        max_age,
    })
}

fn read_name(fields: &TableFields<'_, '_>, reading: &mut ParseContext<'_, '_>) -> Option<String> {
    let name = fields.text("name", reading)?;
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_harmless) {
        let message = "`name` is empty, too long or holds invisible characters".to_owned();
        let remedy =
            format!("write a short plain text, or leave it out (at most {NAME_BYTES_MAX} bytes)");
        reading.problem(fields.at("name"), message, remedy);
        return None;
    }
    Some(name.to_owned())
}

/// What an item's text says beyond the base name.
#[derive(Debug, Default)]
struct ItemText<'n> {
    item: &'n str,
    /// Whether it decides StatTrak and Souvenir: it is a market name and not a base name.
    decides: bool,
    stattrak: bool,
    souvenir: bool,
    wear: Option<Wear>,
    /// Whether it is the whole name of something without wear.
    wearless: bool,
}

fn read_item<'n>(
    fields: &TableFields<'n, '_>,
    reading: &mut ParseContext<'_, '_>,
) -> Option<(ItemPattern, ItemText<'n>)> {
    const REMEDY: &str =
        "write its name, such as item = \"AK-47 | Redline\", or item = \"*\" for every item";
    if fields.get("item").is_none() {
        reading.problem(fields.at, "an entry without `item`".to_owned(), REMEDY);
        return None;
    }
    let at = fields.at("item");
    let item = fields.text("item", reading)?;
    if item.trim() == "*" {
        return Some((ItemPattern::Any, ItemText { item, ..ItemText::default() }));
    }
    let parsed = ItemName::parse(item);
    if parsed.base.trim().is_empty() {
        reading.problem(at, "`item` is empty".to_owned(), REMEDY);
        return None;
    }
    if item.len() > NAME_BYTES_MAX || !item.chars().all(is_harmless) {
        let message = "`item` is too long or holds invisible characters".to_owned();
        reading.problem(at, message, "copy the name again, as plain text");
        return None;
    }
    if let Some(remedy) = misspelt(&parsed.base) {
        let message = format!("`item` is \"{}\", which no item is called", Escaped(item));
        reading.problem(at, message, remedy);
        return None;
    }
    // A vanilla knife's market name is a star and its name; with a finish, a market name would
    // end in a wear, so the star of one without is only an ornament.
    let vanilla = parsed.is_star && !parsed.base.contains('|');
    let said = ItemText {
        item,
        decides: parsed.wear.is_some() || parsed.is_stattrak || parsed.is_souvenir || vanilla,
        stattrak: parsed.is_stattrak,
        souvenir: parsed.is_souvenir,
        wear: parsed.wear,
        wearless: vanilla,
    };
    Some((ItemPattern::Named(parsed.base.into_owned()), said))
}

/// What to write instead of a base name that still holds what looks like StatTrak or a wear.
fn misspelt(base: &str) -> Option<String> {
    let lower = base.to_lowercase();
    if lower.starts_with("stattrak") {
        return Some(
            "write StatTrak™ with its sign, or the bare name and stattrak = true".to_owned(),
        );
    }
    if lower.starts_with("souvenir ") && lower.contains('|') {
        return Some(
            "write Souvenir with a capital, or the bare name and souvenir = true".to_owned(),
        );
    }
    let (_name, last) = base.strip_suffix(')')?.rsplit_once('(')?;
    let wear = match Wear::from_person(last) {
        Some(wear) => wear.as_str(),
        None => nearest(last, &Wear::ALL.map(Wear::as_str))?,
    };
    Some(format!("did you mean `({wear})`?"))
}

fn read_wears(fields: &TableFields<'_, '_>, reading: &mut ParseContext<'_, '_>) -> Option<WearSet> {
    const REMEDY: &str =
        "write a list, such as wear = [\"FN\", \"MW\"], or leave it out for any wear";
    let node = fields.get("wear")?;
    let list = match &node.value {
        Value::List(list) if list.is_empty() => {
            reading.problem(node.at, "`wear` is an empty list".to_owned(), REMEDY);
            return None;
        }
        Value::List(list) => list,
        other => {
            reading.problem(node.at, format!("`wear` is {}", other.kind()), REMEDY);
            return None;
        }
    };
    let mut wears = WearSet::ANY;
    for word in list {
        let Value::Text(text) = &word.value else {
            let message = format!("`wear` holds {}", word.value.kind());
            reading.problem(word.at, message, REMEDY);
            continue;
        };
        match Wear::from_person(text) {
            Some(wear) => wears = wears.with(wear),
            None => {
                let message = format!("there is no wear \"{}\"", Escaped(text));
                reading.problem(word.at, message, suggestion(text, &WEAR_WORDS));
            }
        }
    }
    Some(wears)
}

fn read_float(
    fields: &TableFields<'_, '_>,
    key: &str,
    reading: &mut ParseContext<'_, '_>,
) -> Option<PaintWear> {
    let (at, text) = fields.number(key, reading)?;
    let float = PaintWear::parse(text);
    if float.is_none() {
        let message = format!("`{key}` is no float");
        reading.problem(at, message, "write a number from 0 to 1, such as 0.15");
    }
    float
}

fn check_order<T: PartialOrd + std::fmt::Display>(
    fields: &TableFields<'_, '_>,
    (least_key, least): (&str, Option<T>),
    (greatest_key, greatest): (&str, Option<T>),
    reading: &mut ParseContext<'_, '_>,
) {
    if let (Some(least), Some(greatest)) = (least, greatest)
        && least > greatest
    {
        let message = format!("`{least_key}` {least} is above `{greatest_key}` {greatest}");
        reading.problem(fields.at(least_key), message, "exchange or change them");
    }
}

/// Settles what the keys and a complete market name both speak about.
fn settle(
    fields: &TableFields<'_, '_>,
    said: &ItemText<'_>,
    wears: Option<WearSet>,
    reading: &mut ParseContext<'_, '_>,
) -> (bool, bool, WearSet) {
    let stattrak = settle_flag(fields, said, ("stattrak", said.stattrak), reading);
    let souvenir = settle_flag(fields, said, ("souvenir", said.souvenir), reading);
    if stattrak && souvenir && !said.decides {
        let message = "`stattrak` and `souvenir` are both true, which nothing is".to_owned();
        reading.problem(fields.at("souvenir"), message, "keep one, or make two entries");
    }
    let decided = said.wear.map(|wear| WearSet::ANY.with(wear));
    let contradicts = wears.is_some_and(|wears| match decided {
        Some(decided) => wears != decided,
        None => said.wearless && wears != WearSet::ANY,
    });
    if contradicts {
        let what = said.wear.map_or("no wear", Wear::as_str);
        let message = format!("`wear` contradicts `item` = \"{}\" ({what})", Escaped(said.item));
        reading.problem(fields.at("wear"), message, "leave `wear` out, or the wear in `item`");
    }
    (stattrak, souvenir, decided.or(wears).unwrap_or_default())
}

fn settle_flag(
    fields: &TableFields<'_, '_>,
    said: &ItemText<'_>,
    (key, decided): (&str, bool),
    reading: &mut ParseContext<'_, '_>,
) -> bool {
    let written = fields.flag(key, reading);
    if !said.decides {
        return written.unwrap_or(false);
    }
    if let Some(written) = written.filter(|written| *written != decided) {
        let message =
            format!("`{key}` = {written} contradicts `item` = \"{}\"", Escaped(said.item));
        let remedy = format!("leave `{key}` out, or write the bare name into `item`");
        reading.problem(fields.at(key), message, remedy);
    }
    decided
}
