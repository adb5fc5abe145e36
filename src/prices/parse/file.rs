//! The user's own file: JSON `{name: number or {ask, bid, count}}`, or CSV with a header of `name`,
//! `ask`, `bid` and `count`.

use std::borrow::Cow;

use super::{PriceUnit, TableError, check_size, count, members, price, read_json};
use crate::{
    json::{Cursor, JsonError, ValueKind},
    prices::{
        table::{ITEMS_MAX, Offer, PriceTable, Quote},
        value::RefPrice,
    },
};

/// `is_terminated` is `true` if the file ends in a line break.
pub(super) fn parse(
    text: &str,
    unit: PriceUnit,
    is_terminated: bool,
) -> Result<PriceTable, TableError> {
    if text.starts_with(['{', '[']) { json(text, unit) } else { csv(text, unit, is_terminated) }
}

fn json(text: &str, unit: PriceUnit) -> Result<PriceTable, TableError> {
    let mut table = PriceTable::default();
    read_json(text, |cursor| {
        cursor.object(|name, cursor| {
            let quote = quote(cursor, unit)?;
            table.add(&name.decode(), None, quote);
            Ok(())
        })?;
        check_size(&table)
    })?;
    Ok(table)
}

fn quote(cursor: &mut Cursor<'_>, unit: PriceUnit) -> Result<Quote, JsonError> {
    if cursor.peek()? != ValueKind::Object {
        return Ok(Quote { ask: price(cursor, unit)?.map(Offer::new), bid: None });
    }
    let (mut ask, mut bid, mut offers) = (None, None, None);
    members(cursor, |key, cursor| {
        match key {
            "ask" | "price" => ask = price(cursor, unit)?,
            "bid" => bid = price(cursor, unit)?,
            "count" => offers = count(cursor)?,
            _ => cursor.skip().map(drop)?,
        }
        Ok(())
    })?;
    Ok(counted(ask, bid, offers))
}

fn counted(ask: Option<RefPrice>, bid: Option<RefPrice>, offers: Option<u32>) -> Quote {
    let offer = |price: Option<RefPrice>| price.map(|price| Offer::new(price).with_count(offers));
    Quote { ask: offer(ask), bid: offer(bid) }
}

/// Columns of a CSV file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PriceColumn {
    Name,
    Ask,
    Bid,
    Count,
}

fn csv(text: &str, unit: PriceUnit, is_terminated: bool) -> Result<PriceTable, TableError> {
    let mut lines = text.lines().enumerate().map(|(index, line)| (index.saturating_add(1), line));
    let (_, header) = lines.next().ok_or(TableError::Empty)?;
    let columns = columns(header)?;
    // A name that was cut could be that of a cheaper item. A number that was cut is lower.
    if !is_terminated && columns.last() == Some(&PriceColumn::Name) {
        let problem = "does not end in a line break, so its name may be cut off; add one";
        return Err(TableError::Csv { line: text.lines().count(), problem });
    }
    let mut table = PriceTable::default();
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let problem = |problem| TableError::Csv { line, problem };
        let cells = split_csv(text).ok_or(problem("has a quote that is not closed"))?;
        if cells.len() != columns.len() {
            return Err(problem("does not have as many cells as the header"));
        }
        let (mut name, mut ask, mut bid, mut offers) = (None, None, None, None);
        for (column, cell) in columns.iter().zip(&cells) {
            match column {
                PriceColumn::Name => name = Some(cell),
                PriceColumn::Ask => ask = RefPrice::parse(cell, unit),
                PriceColumn::Bid => bid = RefPrice::parse(cell, unit),
                PriceColumn::Count => offers = cell.trim().parse().ok(),
            }
        }
        if let Some(name) = name {
            table.add(name, None, counted(ask, bid, offers));
        }
        if table.len() > ITEMS_MAX {
            return Err(TableError::TooManyItems);
        }
    }
    Ok(table)
}

fn columns(header: &str) -> Result<Vec<PriceColumn>, TableError> {
    let problem = |problem| TableError::Csv { line: 1, problem };
    let cells = split_csv(header).ok_or(problem("has a quote that is not closed"))?;
    let column = |cell: &Cow<'_, str>| match cell.trim().to_ascii_lowercase().as_str() {
        "name" => Some(PriceColumn::Name),
        "ask" | "price" => Some(PriceColumn::Ask),
        "bid" => Some(PriceColumn::Bid),
        "count" => Some(PriceColumn::Count),
        _ => None,
    };
    let columns: Option<Vec<PriceColumn>> = cells.iter().map(column).collect();
    let columns =
        columns.ok_or(problem("has a column other than `name`, `ask`, `bid` and `count`"))?;
    let number = |of| columns.iter().filter(|column| **column == of).count();
    let all = [PriceColumn::Name, PriceColumn::Ask, PriceColumn::Bid, PriceColumn::Count];
    if all.into_iter().any(|column| number(column) > 1) {
        return Err(problem("has a column twice"));
    }
    if number(PriceColumn::Name) == 0
        || number(PriceColumn::Ask) == 0 && number(PriceColumn::Bid) == 0
    {
        return Err(problem("lacks the column `name`, or both `ask` and `bid`"));
    }
    Ok(columns)
}

/// Splits a line at its commas. A cell in double quotes may contain commas, and quotes doubled.
/// Returns `None` if a quote is not closed.
pub(crate) fn split_csv(line: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut cells = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let trimmed = text.trim_start();
        if let Some(quoted) = trimmed.strip_prefix('"') {
            let (cell, after) = quoted_cell(quoted)?;
            cells.push(Cow::Owned(cell));
            rest = match after.trim_start() {
                "" => None,
                after => Some(after.strip_prefix(',')?),
            };
        } else {
            let (cell, after) = match text.split_once(',') {
                Some((cell, after)) => (cell, Some(after)),
                None => (text, None),
            };
            cells.push(Cow::Borrowed(cell.trim()));
            rest = after;
        }
    }
    Some(cells)
}

/// Returns the value of a cell behind its first quote, and the text behind its last one.
fn quoted_cell(text: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return Some((cell, after)),
        }
    }
}
