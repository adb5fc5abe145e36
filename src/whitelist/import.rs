//! Converts CSV or JSON whitelists of other tools into entries of a JSON whitelist. Pure.
//!
//! Columns are found by their names. Numbers are kept as they are written.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::{
    domain::{
        money::Amount,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    prices::parse::split_csv,
    text::composed,
};

/// Maximum number of rows of one file.
pub const ROWS_MAX: usize = 100_000;

/// Keys of an entry, each with the column names that other tools use for it, in lower case.
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
    #[error("row {row} {problem}")]
    Row { row: usize, problem: String },
}

/// One entry of a JSON whitelist.
pub type EntryObject = Map<String, Value>;

/// Whitelist after an import, and its changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportPlan {
    /// The whole whitelist after the import.
    pub entries: Vec<EntryObject>,
    /// Names of new entries.
    pub added: Vec<String>,
    /// Names of entries that get other values.
    pub changed: Vec<String>,
    /// Number of entries that are in the whitelist already.
    pub unchanged: usize,
    /// Names that occur again in the file; the first row counts.
    pub duplicates: Vec<String>,
}

/// Reads the rows of a file. `ceiling` is the `max_price` of rows without a price.
///
/// # Errors
///
/// Returns an [`ImportError`] for the first row that cannot be read.
pub fn read(text: &str, ceiling: Option<&str>) -> Result<Vec<EntryObject>, ImportError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let rows = if text.starts_with(['[', '{']) { read_json(text)? } else { read_csv(text)? };
    if rows.len() > ROWS_MAX {
        return Err(ImportError::TooManyRows);
    }
    let entry = |Row { number, cells }: Row| {
        entry(cells, ceiling).map_err(|problem| ImportError::Row { row: number, problem })
    };
    rows.into_iter().map(entry).collect()
}

fn column(name: &str) -> Option<&'static str> {
    let name = name.trim().to_lowercase();
    let found = COLUMNS.iter().find(|(_, names)| names.contains(&name.as_str()));
    found.map(|(key, _)| *key)
}

/// Row of a file.
struct Row {
    /// Position in the file, from 1, with blank lines but without the header.
    number: usize,
    /// Cells by the keys of an entry. Columns of other names are dropped.
    cells: Vec<(&'static str, String)>,
}

fn read_csv(text: &str) -> Result<Vec<Row>, ImportError> {
    let mut lines = text.lines();
    let header = lines.next().and_then(split_csv).ok_or(ImportError::Shape)?;
    let columns: Vec<Option<&str>> = header.iter().map(|name| column(name)).collect();
    if !columns.contains(&Some("item")) {
        return Err(ImportError::NoName);
    }
    let mut rows = Vec::new();
    for (index, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index.saturating_add(1);
        let problem = |problem: &str| ImportError::Row { row: number, problem: problem.to_owned() };
        let cells = split_csv(line).ok_or(problem("has a quote that is not closed"))?;
        if cells.len() > columns.len() {
            return Err(problem("has more cells than the header"));
        }
        let named = columns.iter().zip(&cells);
        let cells = named.filter_map(|(key, cell)| Some(((*key)?, cell.to_string()))).collect();
        rows.push(Row { number, cells });
    }
    Ok(rows)
}

fn read_json(text: &str) -> Result<Vec<Row>, ImportError> {
    let Ok(Value::Array(list)) = serde_json::from_str(text) else {
        return Err(ImportError::Shape);
    };
    let cell = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let row = |(index, value): (usize, &Value)| {
        let object = value.as_object().ok_or(ImportError::Shape)?;
        let cells = object.iter().filter_map(|(name, value)| Some((column(name)?, cell(value)?)));
        Ok(Row { number: index.saturating_add(1), cells: cells.collect() })
    };
    list.iter().enumerate().map(row).collect()
}

/// Converts the cells of a row. Empty cells count as absent.
fn entry(cells: Vec<(&'static str, String)>, ceiling: Option<&str>) -> Result<EntryObject, String> {
    let mut entry = Map::new();
    for (key, cell) in cells {
        let cell = cell.trim();
        if cell.is_empty() {
            continue;
        }
        let value = match key {
            "item" | "reference" => Value::from(cell),
            "wear" => cell.split(['/', '|', ';']).map(|wear| Value::from(wear.trim())).collect(),
            _ => number(cell).ok_or_else(|| format!("has {cell:?} as `{key}`, not a number"))?,
        };
        entry.insert(key.to_owned(), value);
    }
    if !entry.contains_key("item") {
        return Err("has no name".to_owned());
    }
    if let (false, Some(ceiling)) = (entry.contains_key("max_price"), ceiling) {
        let ceiling = number(ceiling).ok_or("needs a number as ceiling")?;
        entry.insert("max_price".to_owned(), ceiling);
    }
    if !entry.contains_key("max_price") {
        return Err("has no price; use --max-price for a ceiling of such rows".to_owned());
    }
    Ok(entry)
}

/// Parses a number, with or without a percent sign.
fn number(text: &str) -> Option<Value> {
    let text = text.trim().trim_end_matches('%').trim_end();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: Value = serde_json::from_str(text).ok()?;
    (is_plain && number.is_number()).then_some(number)
}

/// Merges rows into a whitelist. A row replaces the values of the entry that selects the same
/// listings, as `parse` reads both. Entries that `parse` cannot read are the same if their JSON is.
pub fn plan(
    existing: Vec<EntryObject>,
    rows: Vec<EntryObject>,
    parse: impl Fn(&EntryObject) -> Option<WhitelistEntry>,
) -> ImportPlan {
    let mut plan = ImportPlan { entries: existing, ..ImportPlan::default() };
    let mut positions: HashMap<EntryIdentity, usize> = HashMap::new();
    for (position, entry) in plan.entries.iter().enumerate() {
        positions.entry(identity(entry, &parse)).or_insert(position);
    }
    let mut known = HashSet::new();
    for row in rows {
        let name = row.get("item").and_then(Value::as_str).unwrap_or_default().to_owned();
        let identity = identity(&row, &parse);
        let position = positions.get(&identity).copied();
        if !known.insert(identity) {
            plan.duplicates.push(name);
            continue;
        }
        match position.and_then(|position| plan.entries.get_mut(position)) {
            None => {
                plan.added.push(name);
                plan.entries.push(row);
            }
            Some(entry) => {
                let before = entry.clone();
                // The entry keeps its own spelling of the keys that select its listings.
                entry.extend(row.into_iter().filter(|(key, _)| !SELECTING.contains(&key.as_str())));
                if parse(entry) == parse(&before) {
                    plan.unchanged = plan.unchanged.saturating_add(1);
                } else {
                    plan.changed.push(name);
                }
            }
        }
    }
    plan
}

/// Keys of a row that select listings.
const SELECTING: [&str; 4] = ["item", "wear", "float_min", "float_max"];

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
        return EntryIdentity::Unreadable(Value::Object(entry.clone()).to_string());
    };
    let item = match &entry.item {
        ItemPattern::Any => ItemPattern::Any,
        ItemPattern::Named(item) => ItemPattern::Named(composed(item).to_lowercase()),
    };
    EntryIdentity::Entry(Box::new(WhitelistEntry {
        name: None,
        item,
        min_price: Amount::ZERO,
        max_price: Amount::ZERO,
        max_markup: None,
        max_quantity: 0,
        max_total: None,
        max_age: None,
        percent: None,
        group: None,
        ..entry
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::load::parse_entry, domain::money::Decimals, whitelist::tests::entry};

    fn parse(entry: &EntryObject) -> Option<WhitelistEntry> {
        let text = Value::Array(vec![Value::Object(entry.clone())]).to_string();
        parse_entry(&text, Decimals::Two)
    }

    fn rows(text: &str) -> Vec<Value> {
        read(text, None).unwrap().into_iter().map(Value::Object).collect()
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
            "row 2 has \"12 coins\" as `max_price`, not a number"
        );
        assert_eq!(error("name,price\n\nx,1\n\n,1\n"), "row 4 has no name");
        assert_eq!(error("name,price\n\"x,1\n"), "row 1 has a quote that is not closed");
        assert_eq!(error("[1]"), "it is neither CSV with a header nor a JSON list of objects");
        let without = "name,percent\nx,80\n";
        assert!(error(without).starts_with("row 1 has no price; use --max-price"));
        assert_eq!(read(without, Some("50")).unwrap()[0]["max_price"], 50);
    }

    #[test]
    fn a_plan_tells_new_changed_unchanged_and_repeated_rows() {
        let entries = |text: &str| read(text, None).unwrap();
        let existing = entries("name,price,quantity\na,1,7\nb,2,7\n");
        let plan = plan(existing, entries("name,price\na,1\nb,3\nc,4\nc,5\n"), parse);
        assert_eq!((plan.added, plan.changed), (vec!["c".to_owned()], vec!["b".to_owned()]));
        assert_eq!((plan.unchanged, plan.duplicates), (1, vec!["c".to_owned()]));
        let expected = entries("name,price,quantity\na,1,7\nb,3,7\nc,4,\n");
        assert_eq!(plan.entries, expected);
    }

    #[test]
    fn the_same_item_in_other_spellings_is_no_new_entry() {
        let existing =
            read("name,price,wear\nSticker | J\u{f6},1,Field-Tested/MW\n", None).unwrap();
        let other = "name,price,wear\nSticker  | Jo\u{308},1,MW/ft\n";
        let plan = plan(existing, read(other, None).unwrap(), parse);
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
        let existing: Vec<EntryObject> = serde_json::from_value(existing).unwrap();
        let csv = "name,price,wear,float\nX (Field-Tested),21,,\nx,31,ft,0.2\nX,25,FT,0.18\n*,9,,\n\
                   StatTrak™ X (Field-Tested),95,,\nX,26,Field-Tested,\n";
        let plan = plan(existing, read(csv, None).unwrap(), parse);
        let prices: Vec<&Value> = plan.entries.iter().map(|entry| &entry["max_price"]).collect();
        assert_eq!(prices, [95, 31, 21, 70, 25, 9]);
        assert_eq!((plan.added, plan.duplicates), (vec!["X".into(), "*".into()], vec!["X".into()]));
        assert_eq!(plan.changed, ["X (Field-Tested)", "x", "StatTrak™ X (Field-Tested)"]);
        assert_eq!(
            (&plan.entries[2]["item"], &plan.entries[0]["stattrak"]),
            (&"X".into(), &true.into())
        );
    }

    #[test]
    fn a_large_import_takes_a_time_that_grows_with_its_rows_only() {
        let rows: String = (0..ROWS_MAX).map(|row| format!("item {row},1\n")).collect();
        let rows = read(&format!("name,price\n{rows}"), None).unwrap();
        let parse = |row: &EntryObject| {
            let item = ItemPattern::Named(row["item"].as_str()?.to_owned());
            Some(WhitelistEntry { item, ..entry() })
        };
        let started = std::time::Instant::now();
        let plan = plan(rows.clone(), rows, parse);
        assert_eq!((plan.unchanged, plan.entries.len()), (ROWS_MAX, ROWS_MAX));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}
