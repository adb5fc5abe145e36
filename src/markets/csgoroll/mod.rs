//! How CSGORoll speaks: the only room that knows the site. Pure.
//!
//! What goes out is text made by [`operations`]; what comes in is read by [`feed`] (events of the
//! subscriptions), [`answer`] (the answer to a buy) and [`account`] (who we are, what we hold, what
//! is for sale). A second marketplace would be a second such room.
//!
//! Every wire fact here comes from recordings and public clients of 2023–2026 and was never tried
//! against the live site, so everything is read with tolerance: an unknown field is ignored, a
//! missing one makes the listing unbuyable, and nothing is guessed.

pub mod account;
pub mod answer;
pub mod feed;
pub mod listing;
pub mod operations;

use crate::json::{Cursor, JsonError, ValueKind};

/// Walks an object by its keys; any other value is skipped, and `false` says so.
fn object<'a>(
    cursor: &mut Cursor<'a>,
    mut on_entry: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<bool, JsonError> {
    if cursor.peek()? != ValueKind::Object {
        cursor.skip()?;
        return Ok(false);
    }
    cursor.object(|key, cursor| match key.plain() {
        Some(key) => on_entry(key, cursor),
        None => on_entry(&key.decode(), cursor),
    })?;
    Ok(true)
}

/// Walks an array; any other value is skipped, and `false` says so.
fn array<'a>(
    cursor: &mut Cursor<'a>,
    on_element: impl FnMut(&mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<bool, JsonError> {
    if cursor.peek()? != ValueKind::Array {
        cursor.skip()?;
        return Ok(false);
    }
    cursor.array(on_element)?;
    Ok(true)
}

/// A string's value; `None` for any other value.
fn string(cursor: &mut Cursor<'_>) -> Result<Option<String>, JsonError> {
    if cursor.peek()? == ValueKind::String {
        return cursor.string().map(|text| Some(text.decode().into_owned()));
    }
    cursor.skip().map(|_other| None)
}

/// A number's text; `None` for any other value.
fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, JsonError> {
    if cursor.peek()? == ValueKind::Number {
        return cursor.number().map(Some);
    }
    cursor.skip().map(|_other| None)
}
