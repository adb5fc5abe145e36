//! Lists of items with one ask each, bare or within an object with a status.

use super::{
    PriceUnit, RowError, TableError, UnreadableTime, check_size, count, is_true, members, price,
    read_json, text, time,
};
use crate::{
    json::{Cursor, JsonError, ValueKind},
    prices::{
        item_key::Phase,
        table::{Offer, PriceTable, Quote},
        value::RefPrice,
    },
    text::{Escaped, truncated},
};

/// Longest currency shown in an error, in bytes.
const CURRENCY_BYTES_MAX: usize = 16;

/// Keys and unit of one source's list.
pub(super) struct ItemList {
    name: &'static str,
    price: &'static str,
    /// Key of the number of offers behind the ask; `None` if the source states none.
    count: Option<&'static str>,
    /// Key of the last change of each row. An item that did not change is for sale as before, so
    /// the newest change is the time of all rows.
    row_time: Option<&'static str>,
    /// Key of the time of the whole file.
    file_time: Option<&'static str>,
    /// Key of the list within an object.
    list: &'static str,
    unit: PriceUnit,
}

pub(super) const SKINPORT: ItemList = ItemList {
    name: "market_hash_name",
    price: "min_price",
    count: Some("quantity"),
    row_time: Some("updated_at"),
    file_time: None,
    list: "items",
    unit: PriceUnit::Whole,
};

pub(super) const CSFLOAT: ItemList = ItemList {
    name: "market_hash_name",
    price: "min_price",
    count: Some("quantity"),
    row_time: None,
    file_time: None,
    list: "data",
    unit: PriceUnit::Cents,
};

pub(super) const WAXPEER: ItemList = ItemList {
    name: "name",
    price: "min",
    count: Some("count"),
    row_time: None,
    file_time: None,
    list: "items",
    unit: PriceUnit::Mills,
};

/// Its `volume` may count sales, so it is not used as the number of offers.
pub(super) const MARKET_CSGO: ItemList = ItemList {
    name: "market_hash_name",
    price: "price",
    count: None,
    row_time: None,
    file_time: Some("time"),
    list: "items",
    unit: PriceUnit::Whole,
};

pub(super) const LIS_SKINS: ItemList = ItemList {
    name: "name",
    price: "price",
    count: Some("count"),
    row_time: None,
    file_time: Some("last_update"),
    list: "items",
    unit: PriceUnit::Whole,
};

/// Content of the object around a list, and errors of its rows.
struct Reader<'l> {
    list: &'l ItemList,
    table: PriceTable,
    error: Option<TableError>,
    has_list: bool,
    has_unreadable_time: bool,
}

pub(super) fn parse(text: &str, list: &ItemList) -> Result<PriceTable, TableError> {
    let (error, table) = (None, PriceTable::default());
    let mut reader = Reader { list, table, error, has_list: false, has_unreadable_time: false };
    read_json(text, |cursor| {
        match cursor.peek()? {
            ValueKind::Object => reader.wrapped(cursor)?,
            _ => reader.rows(cursor)?,
        }
        match reader.error.take() {
            Some(error) => Err(RowError::Table(error)),
            None if !reader.has_list => Err(RowError::Table(TableError::Shape)),
            None if reader.has_unreadable_time && reader.table.at.is_none() => {
                Err(RowError::Table(TableError::Shape))
            }
            None => Ok(()),
        }
    })?;
    Ok(reader.table)
}

impl Reader<'_> {
    /// Reads `{"success": true, "currency": "USD", "items": […]}`.
    fn wrapped(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        let list = self.list;
        cursor.object(|key, cursor| match key.decode().as_ref() {
            "success" => {
                if !is_true(cursor)? {
                    self.fail(TableError::Failure);
                }
                Ok(())
            }
            "status" => {
                if text(cursor)?.as_deref() != Some("success") {
                    self.fail(TableError::Failure);
                }
                Ok(())
            }
            "currency" => self.currency(cursor),
            key if Some(key) == list.file_time => self.time(cursor),
            key if key == list.list => self.rows(cursor),
            _ => cursor.skip().map(drop),
        })
    }

    fn rows(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        self.has_list = true;
        cursor.array(|cursor| {
            self.row(cursor)?;
            if let Err(RowError::Table(error)) = check_size(&self.table) {
                self.fail(error);
            }
            Ok(())
        })
    }

    fn row(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        let list = self.list;
        let mut name = None;
        let (mut phase, mut is_phase_unknown) = (None, false);
        let (mut ask, mut offers): (Option<RefPrice>, Option<u32>) = (None, None);
        members(cursor, |key, cursor| {
            match key {
                "currency" => self.currency(cursor)?,
                "phase_name" => {
                    let text = text(cursor)?;
                    phase = text.as_deref().and_then(Phase::parse);
                    is_phase_unknown = text.is_some() && phase.is_none();
                }
                key if key == list.name => name = text(cursor)?,
                key if key == list.price => ask = price(cursor, list.unit)?,
                key if Some(key) == list.count => offers = count(cursor)?,
                key if Some(key) == list.row_time => self.time(cursor)?,
                _ => cursor.skip().map(drop)?,
            }
            Ok(())
        })?;
        // The price of an unknown phase is not that of the name without a phase.
        if let Some(name) = name.filter(|_| !is_phase_unknown) {
            let ask = ask.map(|ask| Offer::new(ask).with_count(offers));
            self.table.add(&name, phase, Quote { ask, bid: None });
        }
        Ok(())
    }

    fn currency(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        let currency = text(cursor)?.unwrap_or_default();
        if !currency.eq_ignore_ascii_case("usd") {
            let shown = Escaped(truncated(&currency, CURRENCY_BYTES_MAX)).to_string();
            self.fail(TableError::Currency(shown));
        }
        Ok(())
    }

    /// Reads the time of the file, or of a row.
    fn time(&mut self, cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        match time(cursor)? {
            Ok(at) => self.table.at = self.table.at.max(at),
            Err(UnreadableTime) => self.has_unreadable_time = true,
        }
        Ok(())
    }

    /// Keeps the first error.
    fn fail(&mut self, error: TableError) {
        self.error.get_or_insert(error);
    }
}
