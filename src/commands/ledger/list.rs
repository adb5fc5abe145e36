//! `sniper ledger list`: one line per order, with the item and the reference that decided.

use std::{collections::HashMap, fmt};

use serde_json::{Map, Value, json};

use super::orders::cell;
use crate::{
    clock::format_local,
    domain::item_name::Wear,
    domain::percent_rule::PriceCurrency,
    domain::time::UnixMs,
    domain::unit,
    ledger::{
        OrderTotals, OrderedItem, OrderedReference, Sequence, error::LedgerError, intent::Intent,
        reader::LedgerReader,
    },
    text::{Escaped, counted},
};

/// Maximum widths of the columns with text of the market or the user, in characters.
const ITEM_CHARS_MAX: usize = 56;
const ENTRY_CHARS_MAX: usize = 28;

/// Characters of a float that the text shows: `0.2150`.
const FLOAT_CHARS: usize = 6;

/// Columns of an item in CSV, and its keys in JSON.
pub(super) const ITEM_COLUMNS: [&str; 9] = [
    "item",
    "wear",
    "float",
    "reference",
    "reference_price",
    "reference_currency",
    "coin_usd",
    "percent",
    "margin",
];

/// Returns the values of [`ITEM_COLUMNS`]; `None` where they are not known.
pub(super) fn item_columns(item: Option<&OrderedItem>) -> [Option<String>; 9] {
    let reference = item.and_then(|item| item.reference.as_ref());
    let in_usd = |reference: &&OrderedReference| reference.currency == PriceCurrency::Usd;
    [
        item.map(|item| item.name.clone()),
        item.and_then(|item| item.wear).map(|wear| Wear::as_str(wear).to_owned()),
        item.and_then(|item| item.float.clone()),
        reference.map(|reference| reference.name.clone()),
        reference.map(|reference| reference.price.to_string()),
        reference.map(|reference| reference.currency.as_str().to_owned()),
        reference.filter(in_usd).map(|reference| reference.coin.to_string()),
        reference.map(|reference| reference.percent.to_string()),
        item.and_then(|item| item.margin).map(|margin| margin.to_string()),
    ]
}

/// Adds the item to the JSON object of an order.
pub(super) fn add_item(order: &mut Map<String, Value>, item: Option<&OrderedItem>) {
    for (key, value) in ITEM_COLUMNS.into_iter().zip(item_columns(item)) {
        order.insert(key.to_owned(), json!(value));
    }
}

/// One order with its item, if it is known.
#[derive(Clone, Debug)]
struct ListedOrder {
    intent: Intent,
    entry: String,
    item: Option<OrderedItem>,
}

/// Orders since a time, oldest first.
#[derive(Clone, Debug)]
pub(super) struct OrderList {
    orders: Vec<ListedOrder>,
    since: Option<UnixMs>,
}

impl OrderList {
    /// Lists the orders that were approved from `since` on, or all with `None`.
    pub(super) fn of(reader: &LedgerReader, since: Option<UnixMs>) -> Result<Self, LedgerError> {
        let mut items: HashMap<Sequence, OrderedItem> = reader.items()?;
        let intents = reader.state().intents().iter();
        let listed = intents.filter(|intent| since.is_none_or(|since| since <= intent.reserved_at));
        let orders = listed.map(|intent| {
            let item = items.remove(&intent.sequence);
            let entry = item.as_ref().map(|item| item.entry.clone());
            let entry = entry.unwrap_or_else(|| reader.label(intent).to_owned());
            ListedOrder { intent: *intent, entry, item }
        });
        Ok(Self { orders: orders.collect(), since })
    }

    pub(super) fn to_json(&self) -> Value {
        let orders: Vec<Value> = self.orders.iter().map(ListedOrder::to_json).collect();
        json!({ "orders": orders, "since": self.since.map(|since| since.to_string()) })
    }

    pub(super) fn to_csv(&self) -> String {
        let mut header = vec!["number", "listing", "time", "state", "price", "entry"];
        header.extend(ITEM_COLUMNS);
        let mut text = header.join(",") + "\n";
        for order in &self.orders {
            let mut columns = order.columns().to_vec();
            columns.extend(item_columns(order.item.as_ref()).map(Option::unwrap_or_default));
            let columns: Vec<String> = columns.iter().map(|column| cell(column)).collect();
            text.push_str(&(columns.join(",") + "\n"));
        }
        text
    }
}

impl ListedOrder {
    fn columns(&self) -> [String; 6] {
        let Intent { sequence, id, reserved_at, state, price, .. } = self.intent;
        let entry = self.entry.clone();
        [
            sequence.to_string(),
            id.to_string(),
            reserved_at.to_string(),
            state.as_str().to_owned(),
            price.to_string(),
            entry,
        ]
    }

    fn to_json(&self) -> Value {
        let Intent { sequence, id, reserved_at, state, price, .. } = self.intent;
        let mut order = Map::new();
        for (key, value) in [
            ("number", json!(sequence.0)),
            ("listing", json!(id.as_str())),
            ("time", json!(reserved_at.to_string())),
            ("state", json!(state.as_str())),
            ("price", json!(price.to_string())),
            ("entry", json!(self.entry)),
        ] {
            order.insert(key.to_owned(), value);
        }
        add_item(&mut order, self.item.as_ref());
        Value::Object(order)
    }

    /// Returns the cells of the text: time, state, price, item, float, entry, reference.
    fn cells(&self) -> [String; 7] {
        let Intent { reserved_at, state, price, id, .. } = self.intent;
        let item = self.item.as_ref();
        let name = item.map_or_else(|| format!("listing {id}"), |item| shown(&item.name));
        let float = item.and_then(|item| item.float.as_deref()).map(short_float);
        let reference = item.and_then(|item| item.reference.as_ref());
        let margin = item.and_then(|item| item.margin).map(|margin| format!("margin {margin} %"));
        let reference = reference.map(ToString::to_string).into_iter().chain(margin);
        [
            format_local(reserved_at),
            state.to_string(),
            price.to_string(),
            cut(&name, ITEM_CHARS_MAX),
            float.unwrap_or_default(),
            cut(&shown(&self.entry), ENTRY_CHARS_MAX),
            reference.collect::<Vec<_>>().join(", "),
        ]
    }
}

fn shown(text: &str) -> String {
    Escaped(text).to_string()
}

fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// Shortens each number of a float or its range.
fn short_float(text: &str) -> String {
    let numbers = text.split(" to ").map(|number| number.chars().take(FLOAT_CHARS).collect());
    shown(&numbers.collect::<Vec<String>>().join(" to "))
}

const TITLES: [&str; 7] = ["time", "state", "price", "item", "float", "entry", "reference"];

impl fmt::Display for OrderList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.orders.is_empty() {
            return match self.since {
                Some(since) => writeln!(f, "No orders since {}.", format_local(since)),
                None => writeln!(f, "No orders yet."),
            };
        }
        let mut rows = vec![TITLES.map(str::to_owned)];
        rows.extend(self.orders.iter().map(ListedOrder::cells));
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let [time, state, price, item, float, entry, _reference] = [0, 1, 2, 3, 4, 5, 6].map(width);
        for [at, is, cost, name, worn, label, reference] in &rows {
            let line = format!(
                "{at:<time$}  {is:<state$}  {cost:>price$}  {name:<item$}  {worn:<float$}  \
                 {label:<entry$}  {reference}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        let totals = OrderTotals::of(self.orders.iter().map(|order| &order.intent));
        let orders = counted(self.orders.len(), "order", "orders");
        writeln!(
            f,
            "\n{orders}, {} of them bought for {} {}",
            totals.bought,
            totals.spent,
            unit::name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_floats_shortened() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äbcd", 3), "äb…");
        assert_eq!(short_float("0.15000000596046448"), "0.1500");
        assert_eq!(short_float("0.15 to 0.3799999"), "0.15 to 0.3799");
    }

    #[test]
    fn an_order_without_an_item_has_no_value_in_any_column() {
        assert_eq!(item_columns(None), [const { None }; 9]);
    }
}
