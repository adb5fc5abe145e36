//! Rows of the table `items`: the item of each order, as far as it is known.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::{
    event::Sequence,
    item::{OrderedItem, OrderedReference},
    schema::integer,
};
use crate::{
    domain::item_name::Wear,
    domain::money::Percent,
    domain::percent_rule::{CoinUsd, PriceCurrency},
    prices::RefPrice,
};

const COLUMNS: &str = "number, item, wear, float, entry, reference, reference_price, currency, \
                       coin, percent, margin";

pub(super) fn write(
    connection: &Connection,
    sequence: Sequence,
    item: &OrderedItem,
) -> rusqlite::Result<()> {
    let item = item.clone().bounded();
    let reference = item.reference.as_ref();
    let micros = |price: RefPrice| i64::try_from(price.micros()).unwrap_or(i64::MAX);
    let sql = format!(
        "INSERT OR REPLACE INTO items ({COLUMNS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        integer(sequence),
        item.name,
        item.wear.map(Wear::as_str),
        item.float,
        item.entry,
        reference.map(|reference| reference.name.as_str()),
        reference.map(|reference| micros(reference.price)),
        reference.map(|reference| reference.currency.as_str()),
        reference.map(|reference| reference.coin.ten_thousandths()),
        reference.map(|reference| reference.percent.hundredths()),
        item.margin.map(Percent::hundredths),
    ])?;
    Ok(())
}

/// Reads the item of one order.
pub(super) fn read_one(
    connection: &Connection,
    sequence: Sequence,
) -> rusqlite::Result<Option<OrderedItem>> {
    let sql = format!("SELECT {COLUMNS} FROM items WHERE number = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([integer(sequence)])?;
    rows.next()?.map(|row| read(row).map(|(_sequence, item)| item)).transpose()
}

/// Reads the items of all orders.
pub(super) fn read_all(
    connection: &Connection,
) -> rusqlite::Result<HashMap<Sequence, OrderedItem>> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM items"))?;
    let rows = statement.query_map([], read)?;
    rows.collect()
}

/// Reads a row. A value that this version cannot interpret counts as absent.
fn read(row: &Row<'_>) -> rusqlite::Result<(Sequence, OrderedItem)> {
    let number: i64 = row.get(0)?;
    let wear: Option<String> = row.get(2)?;
    let item = OrderedItem {
        name: row.get(1)?,
        wear: wear.as_deref().and_then(Wear::from_market),
        float: row.get(3)?,
        entry: row.get(4)?,
        reference: read_reference(row)?,
        margin: row.get::<_, Option<i64>>(10)?.map(Percent::from_hundredths),
    };
    Ok((Sequence(u64::try_from(number).unwrap_or_default()), item))
}

fn read_reference(row: &Row<'_>) -> rusqlite::Result<Option<OrderedReference>> {
    let (name, currency): (Option<String>, Option<String>) = (row.get(5)?, row.get(7)?);
    let (micros, coin): (Option<i64>, Option<i64>) = (row.get(6)?, row.get(8)?);
    let percent: Option<i64> = row.get(9)?;
    let micros = micros.and_then(|micros| u64::try_from(micros).ok());
    let coin = coin.and_then(|coin| u32::try_from(coin).ok());
    Ok((|| {
        Some(OrderedReference {
            name: name?,
            price: RefPrice::from_micros(micros?)?,
            currency: PriceCurrency::parse(&currency?)?,
            coin: CoinUsd::from_ten_thousandths(coin?)?,
            percent: Percent::from_hundredths(percent?),
        })
    })())
}
