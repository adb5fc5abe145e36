//! Parsers: the bytes of a source's file → [`PriceTable`]. One per shape; the unit of the prices
//! belongs to the source.
//!
//! All wire formats come from documents and public clients of 2020–2026 and were never tested
//! against a live source. A web page, or a file that is cut off or in another currency, is an error
//! as a whole; a row without a usable price is skipped.

mod csgotrader;
mod file;
mod items;
mod pricempire;

use std::borrow::Cow;

pub(crate) use self::file::split_csv;

use super::{
    source::SourceKind,
    table::{ITEMS_MAX, PriceTable},
    value::{PriceUnit, RefPrice},
};
use crate::{
    domain::time::UnixMs,
    json::{Cursor, JsonError, ValueKind},
};

/// Cause of a file that is not a price table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("it is empty")]
    Empty,
    #[error("it is a web page, not prices")]
    Html,
    #[error("it is an XML document, not prices")]
    Xml,
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("it ends in the middle: cut off after {bytes} bytes")]
    CutOff { bytes: usize },
    #[error("it is not JSON at byte {at}")]
    NotJson { at: usize },
    #[error("it does not have the shape of this source")]
    Shape,
    #[error("the source reports a failure")]
    Failure,
    #[error("its prices are in {0}, not in USD")]
    Currency(String),
    #[error("it has more than {ITEMS_MAX} items")]
    TooManyItems,
    #[error("it has no price")]
    NoPrices,
    #[error("line {line} {problem}")]
    Csv { line: usize, problem: &'static str },
}

/// Reads the file of a source. `unit` is the unit of a local file; other kinds have their own.
///
/// # Errors
///
/// Returns a [`TableError`] if the bytes are not a whole price table.
pub fn parse(kind: SourceKind, unit: PriceUnit, bytes: &[u8]) -> Result<PriceTable, TableError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_terminated = bytes.ends_with(b"\n");
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Err(TableError::Empty);
    }
    if bytes.starts_with(b"<") {
        return Err(markup(bytes));
    }
    let text = str::from_utf8(bytes).map_err(|error| match error.error_len() {
        // The last character is incomplete.
        None => TableError::CutOff { bytes: bytes.len() },
        Some(_) => TableError::NotText,
    })?;
    let table = match kind {
        SourceKind::File => file::parse(text, unit, is_terminated),
        SourceKind::CsgoTrader(file) => csgotrader::parse(text, file),
        SourceKind::Pricempire => pricempire::parse(text),
        SourceKind::Skinport => items::parse(text, &items::SKINPORT),
        SourceKind::CsFloat => items::parse(text, &items::CSFLOAT),
        SourceKind::Waxpeer => items::parse(text, &items::WAXPEER),
        SourceKind::MarketCsgo => items::parse(text, &items::MARKET_CSGO),
        SourceKind::LisSkins => items::parse(text, &items::LIS_SKINS),
    }?;
    if table.is_empty() { Err(TableError::NoPrices) } else { Ok(table) }
}

/// Distinguishes a web page from the XML error of a file store.
fn markup(bytes: &[u8]) -> TableError {
    let head = bytes.get(..512).unwrap_or(bytes).to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&head, word).is_some();
    if has(b"<html") || has(b"<!doctype html") { TableError::Html } else { TableError::Xml }
}

/// Reads a text as one JSON value.
fn read_json<'a>(
    text: &'a str,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<(), RowError>,
) -> Result<(), TableError> {
    let mut cursor = Cursor::new(text);
    let result = read(&mut cursor).and_then(|()| Ok(cursor.end()?));
    result.map_err(|error| match error {
        RowError::Table(error) => error,
        RowError::Json(JsonError::Syntax { at }) if at >= text.len() => {
            TableError::CutOff { bytes: text.len() }
        }
        RowError::Json(JsonError::Shape { .. }) => TableError::Shape,
        RowError::Json(JsonError::Syntax { at } | JsonError::TooDeep { at }) => {
            TableError::NotJson { at }
        }
    })
}

/// Error within a file: its JSON, or its content.
enum RowError {
    Json(JsonError),
    Table(TableError),
}

impl From<JsonError> for RowError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

/// Iterates over the members of an object, with the decoded key. Any other value is skipped.
fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut on_member: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    if cursor.peek()? != ValueKind::Object {
        return cursor.skip().map(drop);
    }
    cursor.object(|key, cursor| on_member(&key.decode(), cursor))
}

/// Reads a number, or a string with a number in it, as its text. Anything else is consumed.
fn number_text<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, JsonError> {
    Ok(match cursor.peek()? {
        ValueKind::Number => Some(Cow::Borrowed(cursor.number()?)),
        ValueKind::String => Some(cursor.string()?.decode()),
        _ => {
            cursor.skip()?;
            None
        }
    })
}

/// Reads a price in this unit. `null`, `"null"`, zero and other values are `None`.
fn price(cursor: &mut Cursor<'_>, unit: PriceUnit) -> Result<Option<RefPrice>, JsonError> {
    Ok(number_text(cursor)?.and_then(|text| RefPrice::parse(&text, unit)))
}

/// Reads a whole number that is not negative.
fn whole(cursor: &mut Cursor<'_>) -> Result<Option<u64>, JsonError> {
    Ok(number_text(cursor)?.and_then(|text| text.trim().parse().ok()))
}

/// Reads a count.
fn count(cursor: &mut Cursor<'_>) -> Result<Option<u32>, JsonError> {
    let count = whole(cursor)?;
    Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
}

/// Reads a string. Anything else is consumed.
fn text<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Cow<'a, str>>, JsonError> {
    if cursor.peek()? == ValueKind::String {
        return Ok(Some(cursor.string()?.decode()));
    }
    cursor.skip()?;
    Ok(None)
}

/// A time that a source states in an unknown form. It must not count as no time, with which prices
/// are as new as their download.
struct UnreadableTime;

/// Reads a time: seconds or milliseconds since 1970, whose fraction is left out, or a text such as
/// `2026-03-01T10:00:00.000Z` or `2026-03-01T11:00:00+01:00`. `null` and 0 are no time.
fn time(cursor: &mut Cursor<'_>) -> Result<Result<Option<UnixMs>, UnreadableTime>, JsonError> {
    if cursor.peek()? == ValueKind::Null {
        return cursor.skip().map(|_null| Ok(None));
    }
    let Some(text) = number_text(cursor)? else { return Ok(Err(UnreadableTime)) };
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, digits)) if digits.bytes().all(|digit| digit.is_ascii_digit()) => whole,
        _ => text,
    };
    Ok(if whole == "0" { Ok(None) } else { parse_time(whole).map(Some).ok_or(UnreadableTime) })
}

/// Returns a time from 1970 to 2106, which an offer can have.
fn parse_time(text: &str) -> Option<UnixMs> {
    let seconds_max = i64::from(u32::MAX);
    let ms = match text.parse::<i64>() {
        Ok(seconds) if seconds <= seconds_max => seconds.checked_mul(1_000)?,
        Ok(ms) => ms,
        Err(_not_a_number) => text.parse::<jiff::Timestamp>().ok()?.as_millisecond(),
    };
    (1..=seconds_max).contains(&ms.div_euclid(1_000)).then_some(UnixMs(ms))
}

/// Returns `true` for the value `true`. Anything else is consumed.
fn is_true(cursor: &mut Cursor<'_>) -> Result<bool, JsonError> {
    if cursor.peek()? == ValueKind::Bool {
        return cursor.boolean();
    }
    cursor.skip().map(|_other| false)
}

/// Returns an error if a table grew beyond [`ITEMS_MAX`].
fn check_size(table: &PriceTable) -> Result<(), RowError> {
    if table.len() > ITEMS_MAX {
        return Err(RowError::Table(TableError::TooManyItems));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
