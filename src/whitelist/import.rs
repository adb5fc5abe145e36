//! Converts CSV or JSON whitelists of other tools into entries of a JSON whitelist. Pure.
//!
//! Columns are found by their names. Numbers are kept as they are written. A lost condition would
//! buy too much. So every key is kept, an invalid cell is an error, and unknown columns are
//! reported.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    config::{document::corrected_amount, settings::ENTRY_KEYS},
    domain::{
        money::Decimals,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    prices::parse::split_csv,
    text::composed,
};

/// Maximum number of rows of one file.
const ROWS_MAX: usize = 100_000;

/// Keys of an entry, each with the column names that other tools use for it, in lower case. Any
/// other key of an entry is a column of its own name.
const COLUMNS: [(&str, &[&str]); 9] = [
    ("item", &["item", "name", "market_hash_name", "market name", "skin"]),
    ("max_price", &["max_price", "price", "max price", "target"]),
    ("max_percent", &["max_percent", "percent", "max percent"]),
    ("reference", &["reference"]),
    ("wear", &["wear", "exterior", "condition"]),
    ("float_min", &["float_min", "min_float"]),
    ("float_max", &["float_max", "max_float", "float"]),
    ("max_quantity", &["max_quantity", "quantity", "qty", "amount"]),
    ("max_total", &["max_total", "max total"]),
];

/// Reason why a file cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("it is neither CSV with a header nor a JSON list of objects")]
    Shape,
    #[error("it has no column for the name; write `name` into its header")]
    NoName,
    #[error("it has more than {ROWS_MAX} rows")]
    TooManyRows,
    #[error("row {row}: {problem}")]
    Row { row: usize, problem: String },
}

/// One entry of a JSON whitelist. A value is JSON text, in which a number has all its digits.
pub type EntryObject = BTreeMap<String, Box<RawValue>>;

/// Returns a value as JSON text; `None` never occurs.
pub fn json_text(value: impl Into<Value>) -> Option<Box<RawValue>> {
    RawValue::from_string(value.into().to_string()).ok()
}

/// Reads a decimal number, with or without a percent sign, and leaves out zeros at its end. Returns
/// `None` for any other text.
pub fn json_number(text: &str) -> Option<Box<RawValue>> {
    let text = text.trim().trim_end_matches('%').trim_end();
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    let is_decimal = |byte: u8| byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    RawValue::from_string(text.to_owned()).ok().filter(|_| text.bytes().all(is_decimal))
}

/// Content of a file.
#[derive(Clone, Debug, Default)]
pub struct ImportedRows {
    pub entries: Vec<EntryObject>,
    /// Names of the columns that are no key of an entry.
    pub ignored: BTreeSet<String>,
}

/// Whitelist after an import, and its changes.
#[derive(Clone, Debug, Default)]
pub struct ImportPlan {
    /// The whole whitelist after the import.
    pub entries: Vec<EntryObject>,
    /// Names of new entries.
    pub added: Vec<String>,
    /// Names of entries that get other values, each with its changes.
    pub changed: Vec<(String, String)>,
    /// Number of entries that are in the whitelist already.
    pub unchanged: usize,
    /// Rows about the same listings as an entry of `sniper.toml`, which is tried first, each with
    /// its changes.
    pub in_settings: Vec<String>,
    /// Names that occur again in the file; the first row counts.
    pub duplicates: Vec<String>,
    /// Columns of the file that were not read.
    pub ignored: BTreeSet<String>,
}

impl ImportPlan {
    /// Describes each changed entry: `AK-47 | Redline: max_price 12.5 -> 125`.
    pub fn changes(&self) -> Vec<String> {
        self.changed.iter().map(|(name, changes)| format!("{name}: {changes}")).collect()
    }
}

/// Reads the `max_price` of rows without a price.
///
/// # Errors
///
/// Returns the remedy if the text is not a number.
pub fn parse_max_price(text: &str) -> Result<Box<RawValue>, &'static str> {
    value("max_price", text.into()).ok().flatten().ok_or("must be a number, such as 50")
}

/// Reads the rows of a file. `max_price` is that of rows without a price.
///
/// # Errors
///
/// Returns an [`ImportError`] for the first row that cannot be read.
pub fn read(text: &str, max_price: Option<&RawValue>) -> Result<ImportedRows, ImportError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let mut ignored = BTreeSet::new();
    let rows = match text.starts_with(['[', '{']) {
        true => read_json(text, &mut ignored)?,
        false => read_csv(text, &mut ignored)?,
    };
    if rows.len() > ROWS_MAX {
        return Err(ImportError::TooManyRows);
    }
    let entry = |Row { number, cells }: Row| {
        entry(cells, max_price).map_err(|problem| ImportError::Row { row: number, problem })
    };
    let entries = rows.into_iter().map(entry).collect::<Result<_, _>>()?;
    Ok(ImportedRows { entries, ignored })
}

/// Formats an entry as JSON.
pub fn format_entry(entry: &EntryObject) -> String {
    // Serializing strings and raw JSON cannot fail.
    serde_json::to_string(entry).unwrap_or_default()
}

/// Reads the list of entries of a JSON whitelist: the whole file, or a member of it.
///
/// # Errors
///
/// Returns the error of the JSON, also if it is no such list.
pub fn read_entries(text: &str) -> Result<Vec<EntryObject>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Member {
        whitelist: Vec<EntryObject>,
    }
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map(|Member { whitelist }| whitelist),
        false => serde_json::from_str(text),
    }
}

/// Returns the key of each column; `None` for one of another name.
fn keys<'n>(
    columns: impl Iterator<Item = &'n str>,
    ignored: &mut BTreeSet<String>,
) -> Vec<Option<&'static str>> {
    let columns: Vec<(&str, String)> =
        columns.map(|name| (name, name.trim().to_lowercase())).collect();
    // If there is an `item` column, `name` is the name of the entry.
    let has_item = columns.iter().any(|(_, lower)| lower == "item");
    let key = |(name, lower): &(&str, String)| {
        let is_entry_name = has_item && lower == "name";
        let known = COLUMNS.iter().find(|(_, names)| names.contains(&lower.as_str()));
        let found = match known.filter(|_| !is_entry_name) {
            Some((key, _)) => Some(*key),
            None => ENTRY_KEYS.into_iter().find(|key| key == lower),
        };
        if found.is_none() && !lower.is_empty() && !ignored.contains(*name) {
            ignored.insert((*name).to_owned());
        }
        found
    };
    columns.iter().map(key).collect()
}

/// Row of a file.
struct Row {
    /// Position in the file, from 1, with blank lines but without the header.
    number: usize,
    /// Cells by the keys of an entry. Columns of other names are dropped.
    cells: Vec<(&'static str, Value)>,
}

fn read_csv(text: &str, ignored: &mut BTreeSet<String>) -> Result<Vec<Row>, ImportError> {
    let mut lines = text.lines();
    let header = lines.next().and_then(split_csv).ok_or(ImportError::Shape)?;
    let columns = keys(header.iter().map(AsRef::as_ref), ignored);
    if !columns.contains(&Some("item")) {
        return Err(ImportError::NoName);
    }
    let mut rows = Vec::new();
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index.saturating_add(1);
        let problem = |problem: &str| ImportError::Row { row: number, problem: problem.to_owned() };
        let cells = split_csv(line).ok_or(problem("a quote is not closed"))?;
        // A truncated row could lack conditions.
        if cells.len() != columns.len() {
            return Err(problem("it does not have as many cells as the header"));
        }
        let named = columns.iter().zip(&cells);
        let cells = named.filter_map(|(key, cell)| Some(((*key)?, cell.as_ref().into()))).collect();
        rows.push(Row { number, cells });
    }
    Ok(rows)
}

fn read_json(text: &str, ignored: &mut BTreeSet<String>) -> Result<Vec<Row>, ImportError> {
    let list = read_entries(text).map_err(|_error| ImportError::Shape)?;
    let row = |(index, object): (usize, EntryObject)| {
        let keys = keys(object.keys().map(String::as_str), ignored);
        let cells = keys.into_iter().zip(object.values());
        let cells = cells.filter_map(|(key, cell)| Some((key?, cell_of(cell))));
        Row { number: index.saturating_add(1), cells: cells.collect() }
    };
    Ok(list.into_iter().enumerate().map(row).collect())
}

/// Returns a JSON value as a cell: a number as text, because [`Value`] would round it. A number
/// with an exponent is written without one.
fn cell_of(json: &RawValue) -> Value {
    let text = json.get();
    match text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        true if text.contains(['e', 'E']) => {
            text.parse().map_or(Value::Null, |number: f64| number.to_string().into())
        }
        true => text.into(),
        false => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// Converts the cells of a row. Empty cells count as absent.
fn entry(
    cells: Vec<(&'static str, Value)>,
    max_price: Option<&RawValue>,
) -> Result<EntryObject, String> {
    let mut entry = EntryObject::new();
    for (key, cell) in cells {
        let Some(value) = value(key, cell)? else { continue };
        if entry.get(key).is_some_and(|other| other.get() != value.get()) {
            return Err(format!("two values for `{key}`; remove one of the columns"));
        }
        entry.insert(key.to_owned(), value);
    }
    if !entry.contains_key("item") {
        return Err("no name".to_owned());
    }
    if let (false, Some(max_price)) = (entry.contains_key("max_price"), max_price) {
        entry.insert("max_price".to_owned(), max_price.to_owned());
    }
    if !entry.contains_key("max_price") {
        return Err("no price; set one for such rows with --max-price".to_owned());
    }
    Ok(entry)
}

/// Kinds of values, as `sniper check` names them.
const FLAG: &str = "true or false";
const LIST: &str = "a list";
const NUMBER: &str = "a number";
const TEXT: &str = "text";

/// Returns the kind of the values of a key.
fn kind_of(key: &str) -> &'static str {
    match key {
        "stattrak" | "souvenir" => FLAG,
        "wear" | "reference" | "category" | "rarity" | "exclude" => LIST,
        "item" | "name" | "group" | "reference_rule" => TEXT,
        _ => NUMBER,
    }
}

/// Converts the cell of a key; `None` if it is empty.
fn value(key: &str, cell: Value) -> Result<Option<Box<RawValue>>, String> {
    let kind = kind_of(key);
    let mistake = |found: &str| format!("`{key}` must be {kind}, not {found}");
    let text = match (kind, cell) {
        (_, Value::Null) => return Ok(None),
        (_, Value::String(text)) => text,
        (FLAG, flag @ Value::Bool(_)) => return Ok(json_text(flag)),
        (LIST, list @ Value::Array(_)) => return Ok(json_text(list)),
        (_, Value::Array(_)) => return Err(mistake(LIST)),
        (_, Value::Bool(_)) => return Err(mistake(FLAG)),
        (_, Value::Object(_)) => return Err(mistake("a table")),
        (_, Value::Number(_)) => return Err(mistake(NUMBER)),
    };
    let text = text.trim();
    let list = |separators: &[char]| {
        let parts = text.split(separators).map(|part| Value::from(part.trim()));
        json_text(parts.collect::<Value>())
    };
    let value = match kind {
        _ if text.is_empty() => return Ok(None),
        FLAG => text.to_lowercase().parse::<bool>().ok().and_then(json_text),
        LIST if key == "wear" => list(&['/', '|', ';']),
        LIST if text.contains(';') => list(&[';']),
        LIST | TEXT => json_text(text),
        // A percentage in the column of a price is not one.
        NUMBER if text.ends_with('%') && !key.ends_with("percent") => None,
        _ => json_number(text),
    };
    value.map(Some).ok_or_else(|| match corrected_amount(text, Decimals::Three) {
        Some(number) if kind == NUMBER => {
            format!("`{key}` must be a number: {number}")
        }
        _ => mistake(&format!("{text:?}")),
    })
}

/// Merges rows into a whitelist. A row replaces the values of the entry that selects the same
/// listings, as `parse` reads both. Entries that `parse` cannot read are the same if their JSON is.
/// Rows about the listings of an entry of the settings file are also listed in `in_settings`.
pub fn plan(
    existing: Vec<EntryObject>,
    rows: Vec<EntryObject>,
    settings: Vec<EntryObject>,
    parse: impl Fn(&EntryObject) -> Option<WhitelistEntry>,
) -> ImportPlan {
    // A name belongs to one entry.
    let unnamed = |mut entry: EntryObject| {
        entry.remove("name");
        entry
    };
    let of_settings = settings.into_iter().map(|entry| (identity(&entry, &parse), unnamed(entry)));
    let of_settings: HashMap<EntryIdentity, EntryObject> = of_settings.collect();
    let mut plan = ImportPlan { entries: existing, ..ImportPlan::default() };
    // The first one of several entries about the same listings decides.
    let entries = plan.entries.iter().enumerate().rev();
    let positions = entries.map(|(position, entry)| (identity(entry, &parse), position));
    let positions: HashMap<EntryIdentity, usize> = positions.collect();
    let mut known = HashSet::new();
    for row in rows {
        let item = row.get("item").and_then(|item| serde_json::from_str(item.get()).ok());
        let name: String = item.unwrap_or_default();
        let identity = identity(&row, &parse);
        let position = positions.get(&identity).copied();
        let in_settings = of_settings.get(&identity);
        if !known.insert(identity) {
            plan.duplicates.push(name);
            continue;
        }
        // A row changes only what it states, so it keeps the other conditions of that entry.
        let before = position.and_then(|position| plan.entries.get(position));
        let after = merged(before.or(in_settings).cloned().unwrap_or_default(), &row);
        let compared = |before: &EntryObject| {
            let is_same = parse(&after) == parse(before);
            (!is_same).then(|| changes(before, &after))
        };
        match in_settings.map(compared) {
            None => {}
            Some(None) => plan.in_settings.push(name.clone()),
            Some(Some(changes)) => plan.in_settings.push(format!("{name}: {changes}")),
        }
        match before.map(compared) {
            None => {
                plan.added.push(name);
                plan.entries.push(after);
            }
            Some(change) => {
                match change {
                    None => plan.unchanged = plan.unchanged.saturating_add(1),
                    Some(changes) => plan.changed.push((name, changes)),
                }
                if let Some(entry) = position.and_then(|position| plan.entries.get_mut(position)) {
                    *entry = after;
                }
            }
        }
    }
    plan
}

/// Returns an entry with the values of a row. It keeps its own spelling of the keys that select its
/// listings, and its name, to which its counts and its pause belong.
fn merged(mut entry: EntryObject, row: &EntryObject) -> EntryObject {
    let (is_new, has_name) = (entry.is_empty(), entry.contains_key("name"));
    let is_kept = |key: &str| !is_new && SELECTING.contains(&key) || key == "name" && has_name;
    let values = row.iter().filter(|(key, _)| !is_kept(key));
    entry.extend(values.map(|(key, value)| (key.clone(), value.clone())));
    entry
}

/// Describes the keys whose values differ: `max_price 12.5 -> 125`.
fn changes(before: &EntryObject, after: &EntryObject) -> String {
    let change = |key: &String| {
        let shown =
            |entry: &EntryObject| entry.get(key).map_or("unset".into(), ToString::to_string);
        let [before, after] = [before, after].map(shown);
        (before != after).then(|| format!("{key} {before} -> {after}"))
    };
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    after.keys().chain(removed).filter_map(change).collect::<Vec<_>>().join(", ")
}

/// Keys of a row that select listings.
const SELECTING: [&str; 9] = [
    "item",
    "wear",
    "stattrak",
    "souvenir",
    "float_min",
    "float_max",
    "category",
    "rarity",
    "exclude",
];

/// The listings that an entry is about.
#[derive(PartialEq, Eq, Hash)]
enum EntryIdentity {
    /// The entry without name and limits.
    Entry(Box<WhitelistEntry>),
    /// JSON of an entry that cannot be read.
    Unreadable(String),
}

fn identity(
    entry: &EntryObject,
    parse: impl Fn(&EntryObject) -> Option<WhitelistEntry>,
) -> EntryIdentity {
    let Some(entry) = parse(entry) else {
        return EntryIdentity::Unreadable(format_entry(entry));
    };
    let item = match &entry.item {
        ItemPattern::Any => ItemPattern::Any,
        ItemPattern::Named(item) => ItemPattern::Named(composed(item).to_lowercase()),
    };
    EntryIdentity::Entry(Box::new(WhitelistEntry {
        item,
        wears: entry.wears,
        stattrak: entry.stattrak,
        souvenir: entry.souvenir,
        float_min: entry.float_min,
        float_max: entry.float_max,
        filter: entry.filter,
        ..WhitelistEntry::default()
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::load::parse_entry, domain::money::Decimals, whitelist::tests::entry};

    fn parse(entry: &EntryObject) -> Option<WhitelistEntry> {
        parse_entry(&format!("[{}]", format_entry(entry)), Decimals::Two)
    }

    /// Returns the values of an entry.
    fn json(entry: &EntryObject) -> Value {
        serde_json::from_str(&format_entry(entry)).unwrap()
    }

    fn string_of(json: &RawValue) -> String {
        serde_json::from_str(json.get()).unwrap()
    }

    fn all(entries: &[EntryObject]) -> Vec<Value> {
        entries.iter().map(json).collect()
    }

    fn rows(text: &str) -> Vec<Value> {
        all(&read(text, None).unwrap().entries)
    }

    fn plan(existing: Vec<EntryObject>, rows: Vec<EntryObject>) -> ImportPlan {
        super::plan(existing, rows, Vec::new(), parse)
    }

    #[test]
    fn columns_are_found_by_their_names_in_csv_and_json() {
        let expected = [json!({
            "item": "AK-47 | Redline", "max_price": 12.5, "max_percent": 88,
            "wear": ["FT", "MW"], "float_max": 0.22, "max_quantity": 3
        })];
        let csv = "Name,note,Price,Percent,Exterior,Float,Qty\nAK-47 | Redline,x,12.5,88 %,FT/MW,0.22,3\n";
        assert_eq!(rows(csv), expected);
        let json = r#"[{"market_hash_name":"AK-47 | Redline","price":12.5,"percent":"88","wear":"FT;MW","float":0.22,"quantity":3,"note":null}]"#;
        assert_eq!(rows(json), expected);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_named() {
        let error = |text: &str| read(text, None).unwrap_err().to_string();
        assert_eq!(
            error("price\n1\n"),
            "it has no column for the name; write `name` into its header"
        );
        assert_eq!(
            error("name,price\nx,1\ny,12 coins\n"),
            "row 2: `max_price` must be a number: 12"
        );
        assert_eq!(error("name,price\n\nx,1\n\n,1\n"), "row 4: no name");
        assert_eq!(error("name,price\n\"x,1\n"), "row 1: a quote is not closed");
        for row in ["x,1", "x,1,FT,2"] {
            assert_eq!(
                error(&format!("name,price,wear\n{row}\n")),
                "row 1: it does not have as many cells as the header"
            );
        }
        assert_eq!(error("[1]"), "it is neither CSV with a header nor a JSON list of objects");
        let without = "name,percent\nx,80\n";
        let max_price = parse_max_price(" 50.0 ").unwrap();
        assert!(error(without).starts_with("row 1: no price; "));
        assert_eq!(json(&read(without, Some(&max_price)).unwrap().entries[0])["max_price"], 50);
        for (cell, problem) in [
            (r#""price":[5]"#, "`max_price` must be a number, not a list"),
            (r#""price":"5 %""#, r#"`max_price` must be a number, not "5 %""#),
            (r#""price":"12,50 USD""#, "`max_price` must be a number: 12.50"),
            (r#""item":{}"#, "`item` must be text, not a table"),
            (r#""wear":true"#, "`wear` must be a list, not true or false"),
            (r#""stattrak":"yes""#, r#"`stattrak` must be true or false, not "yes""#),
            (r#""max_price":6,"price":5"#, "two values for `max_price`; remove one of the columns"),
        ] {
            let text = format!(r#"[{{"name":"x","price":5}},{{"skin":"x",{cell}}}]"#);
            assert_eq!(error(&text), format!("row 2: {problem}"));
        }
    }

    #[test]
    fn each_key_of_an_entry_is_kept_and_other_columns_are_named() {
        let entries = json!([
            {"name": "knives", "item": "*", "category": ["knife"], "exclude": ["* | Night"],
             "rarity": ["covert"], "max_percent": 80, "max_price": 500, "min_price": 10,
             "reference": ["buff.bid", "own.ask"], "reference_rule": "first", "min_count": 5,
             "min_reference": 20, "max_quantity": 2, "group": "g"},
            {"item": "X", "stattrak": true, "souvenir": false, "wear": ["FT", "MW"],
             "float_min": 0.15, "float_max": 0.2, "max_price": 1.5, "max_total": 9,
             "max_markup_percent": 2.5, "max_age_s": 60},
        ]);
        assert_eq!(Value::Array(rows(&entries.to_string())), entries);
        let keys: BTreeSet<&String> = entries
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|it| it.as_object().unwrap().keys())
            .collect();
        assert_eq!(keys.len(), ENTRY_KEYS.len(), "{keys:?}");
        let whitelist = json!({ "whitelist": entries });
        assert_eq!(Value::Array(rows(&whitelist.to_string())), entries);
        let csv = "item,price,StatTrak,category,min_price,exclude,Note,seller\n\
                   *,5,TRUE,knife,1.5,A | B; C | D,,\n";
        let read = read(csv, None).unwrap();
        let expected = json!({
            "item": "*", "max_price": 5, "stattrak": true, "category": "knife", "min_price": 1.5,
            "exclude": ["A | B", "C | D"]
        });
        assert_eq!(json(&read.entries[0]), expected);
        assert_eq!(read.ignored, ["Note".to_owned(), "seller".to_owned()].into());
    }

    #[test]
    fn a_plan_separates_new_changed_unchanged_and_repeated_rows() {
        let entries = |text: &str| read(text, None).unwrap().entries;
        let existing = entries("name,price,quantity\na,1,7\nb,2,7\n");
        let plan = plan(existing, entries("name,price\na,1\nb,3\nc,4\nc,5\n"));
        let changed = vec![("b".to_owned(), "max_price 2 -> 3".to_owned())];
        assert_eq!((plan.added, plan.changed), (vec!["c".to_owned()], changed));
        assert_eq!((plan.unchanged, plan.duplicates), (1, vec!["c".to_owned()]));
        assert_eq!(all(&plan.entries), rows("name,price,quantity\na,1,7\nb,3,7\nc,4,\n"));
    }

    #[test]
    fn rows_about_an_entry_of_the_settings_are_listed_separately() {
        let entries = |text: &str| read(text, None).unwrap().entries;
        let settings = entries("name,price\na,1\nb,2\n");
        let existing = entries("name,price\nb,2\nc,3\n");
        let plan = super::plan(existing, entries("name,price\na,1\nb,5\nc,3\n"), settings, parse);
        assert_eq!(plan.in_settings, ["a", "b: max_price 2 -> 5"]);
        let changed = vec![("b".to_owned(), "max_price 2 -> 5".to_owned())];
        assert_eq!((plan.added, plan.changed, plan.unchanged), (vec!["a".to_owned()], changed, 1));
        assert_eq!(all(&plan.entries), rows("name,price\nb,5\nc,3\na,1\n"));
    }

    #[test]
    fn a_row_about_an_entry_of_the_settings_keeps_its_other_conditions() {
        let entries = |text: &str| read(text, None).unwrap().entries;
        let settings = entries("name,price,max_total,quantity\na,50,100,5\n");
        let plan = super::plan(Vec::new(), entries("name,price\na,40\n"), settings, parse);
        assert_eq!(plan.in_settings, ["a: max_price 50 -> 40"]);
        assert_eq!(plan.added, ["a"]);
        assert_eq!(all(&plan.entries), rows("name,price,max_total,quantity\na,40,100,5\n"));
        // An entry of the file lacks a condition of the entry in sniper.toml.
        let settings = entries("name,price,max_total\na,50,100\n");
        let existing = entries("name,price\na,15\n");
        let plan = super::plan(existing, entries("name,price\na,30\n"), settings, parse);
        assert_eq!(plan.in_settings, ["a: max_price 50 -> 30, max_total 100 -> unset"]);
        assert_eq!(plan.changed, [("a".to_owned(), "max_price 15 -> 30".to_owned())]);
    }

    #[test]
    fn numbers_keep_all_their_digits() {
        let float = "0.069999999999999999";
        let expected = format!("{{\"float_max\":{float},\"item\":\"x\",\"max_price\":12.5}}");
        let existing = read_entries(&format!("{{\"whitelist\":[{expected}]}}")).unwrap();
        for rows in [
            format!("name,price,float\nx,12.50,{float}\n"),
            format!("[{{\"name\":\"x\",\"price\":12.50,\"float_max\":{float}}}]"),
        ] {
            let rows = read(&rows, None).unwrap().entries;
            assert_eq!(format_entry(&rows[0]), expected);
            let plan = plan(existing.clone(), rows);
            assert_eq!((plan.unchanged, format_entry(&plan.entries[0])), (1, expected.clone()));
        }
        assert!(read("name,price\nx,1e2\n", None).is_err());
        let rows = read("[{\"name\":\"x\",\"price\":1.25e1,\"float_max\":5e-05}]", None).unwrap();
        let expected = "{\"float_max\":0.00005,\"item\":\"x\",\"max_price\":12.5}";
        assert_eq!(format_entry(&rows.entries[0]), expected);
    }

    #[test]
    fn an_import_keeps_the_name_of_an_entry() {
        let entries = |text: &str| read(text, None).unwrap().entries;
        let existing = entries("item,price,name\na,1,redline\nb,1,\n");
        let plan = plan(existing, entries("item,price,name\na,2,AK\nb,1,new\n"));
        let names: Vec<String> =
            plan.entries.iter().map(|entry| string_of(&entry["name"])).collect();
        assert_eq!(names, ["redline", "new"]);
    }

    #[test]
    fn the_same_item_in_other_spellings_is_no_new_entry() {
        let existing =
            read("name,price,wear\nSticker | J\u{f6},1,Field-Tested/MW\n", None).unwrap().entries;
        let other = "name,price,wear\nSticker  | Jo\u{308},1,MW/ft\n";
        let plan = plan(existing, read(other, None).unwrap().entries);
        assert_eq!((plan.added.len(), plan.unchanged, plan.entries.len()), (0, 1, 1));
    }

    #[test]
    fn an_entry_is_the_same_only_for_the_same_listings() {
        let existing = json!([
            {"item": "X", "wear": ["FT"], "stattrak": true, "max_price": 90},
            {"item": "X", "wear": ["FT"], "float_max": 0.2, "max_price": 30},
            {"item": "X", "wear": ["FT"], "max_price": 20},
            {"item": "*", "category": "knife", "max_price": 70},
        ]);
        let existing = read_entries(&existing.to_string()).unwrap();
        let csv = "name,price,wear,float\nX (Field-Tested),21,,\nx,31,ft,0.2\nX,25,FT,0.18\n*,9,,\n\
                   StatTrak™ X (Field-Tested),95,,\nX,26,Field-Tested,\n";
        let plan = plan(existing, read(csv, None).unwrap().entries);
        let prices = plan.entries.iter().map(|entry| entry["max_price"].to_string());
        assert_eq!(prices.collect::<Vec<_>>(), ["95", "31", "21", "70", "25", "9"]);
        assert_eq!((plan.added, plan.duplicates), (vec!["X".into(), "*".into()], vec!["X".into()]));
        let changed: Vec<&str> = plan.changed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(changed, ["X (Field-Tested)", "x", "StatTrak™ X (Field-Tested)"]);
        assert_eq!(
            (string_of(&plan.entries[2]["item"]), plan.entries[0]["stattrak"].to_string()),
            ("X".to_owned(), "true".to_owned())
        );
    }

    #[test]
    fn a_large_import_takes_a_time_that_grows_with_its_rows_only() {
        let rows: String = (0..ROWS_MAX).map(|row| format!("item {row},1\n")).collect();
        let rows = read(&format!("name,price\n{rows}"), None).unwrap().entries;
        let parse = |row: &EntryObject| {
            let item = ItemPattern::Named(string_of(&row["item"]));
            Some(WhitelistEntry { item, ..entry() })
        };
        let started = std::time::Instant::now();
        let plan = super::plan(rows.clone(), rows, Vec::new(), parse);
        assert_eq!((plan.unchanged, plan.entries.len()), (ROWS_MAX, ROWS_MAX));
        assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
    }
}
