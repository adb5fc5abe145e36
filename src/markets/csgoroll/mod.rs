//! Protocol of CSGORoll, the only module that depends on that market. Pure.
//!
//! [`operations`] creates the requests. [`feed`] parses subscription events, [`order_response`] the
//! responses to orders, and [`account`] the user, the balance, own purchases and open listings.
//!
//! All wire formats come from recordings and public clients of 2023–2026 and were never tested against
//! the live market. So parsing is tolerant: unknown fields are ignored, a missing required field makes
//! the listing unbuyable, and no value is guessed.

pub mod account;
mod api;
pub mod feed;
pub mod listing;
pub mod operations;
pub mod order_response;

use crate::{
    config::{Config, Endpoints, Generation},
    domain::money::Decimals,
    json::{Cursor, JsonError, ValueKind},
};

/// CSGORoll with its settings.
#[derive(Clone, Debug)]
pub struct Csgoroll {
    endpoints: Endpoints,
    generation: Generation,
}

impl Csgoroll {
    pub fn new(config: &Config) -> Self {
        Self::at(&config.endpoints, config.feed.generation)
    }

    pub fn at(endpoints: &Endpoints, generation: Generation) -> Self {
        Self { endpoints: endpoints.clone(), generation }
    }
}

/// Number of decimals of coins, as measured on 559 recorded listings.
pub const DECIMALS: Decimals = Decimals::Two;

/// Iterates over the entries of an object. Skips any other value and returns `false`.
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

/// Iterates over the elements of an array. Skips any other value and returns `false`.
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

/// Reads a string; skips any other value and returns `None`.
fn string(cursor: &mut Cursor<'_>) -> Result<Option<String>, JsonError> {
    if cursor.peek()? == ValueKind::String {
        return cursor.string().map(|text| Some(text.decode().into_owned()));
    }
    cursor.skip().map(|_other| None)
}

/// Reads the text of a number; skips any other value and returns `None`.
fn number<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, JsonError> {
    if cursor.peek()? == ValueKind::Number {
        return cursor.number().map(Some);
    }
    cursor.skip().map(|_other| None)
}
