//! Pricempire: asks and bids of Buff163 in cents. Version 4 is a list with an entry per provider,
//! version 3 an object of names.

use super::{
    PriceUnit, RowError, TableError, UnreadableTime, check_size, count, is_true, members, price,
    read_json, text, time,
};
use crate::{
    domain::percent_rule::QuoteSide,
    json::{Cursor, JsonError, ValueKind},
    prices::table::{Offer, PriceTable, Quote},
};

pub(super) fn parse(text: &str) -> Result<PriceTable, TableError> {
    let mut table = PriceTable::default();
    read_json(text, |cursor| {
        match cursor.peek()? {
            ValueKind::Object => version_3(cursor, &mut table)?,
            _ => cursor.array(|cursor| version_4(cursor, &mut table))?,
        }
        check_size(&table)
    })?;
    Ok(table)
}

/// Returns the side of a provider; others than Buff163 are not read.
fn side(provider: &str) -> Option<QuoteSide> {
    match provider {
        "buff163" | "buff" => Some(QuoteSide::Ask),
        "buff163_buy" | "buff_buy" => Some(QuoteSide::Bid),
        _ => None,
    }
}

fn set(quote: &mut Quote, side: QuoteSide, offer: Option<Offer>) {
    match side {
        QuoteSide::Ask => quote.ask = offer,
        QuoteSide::Bid => quote.bid = offer,
    }
}

/// Reads `{"market_hash_name": …, "prices": [{"provider_key": …, "price": cents, "count": n}]}`.
fn version_4(cursor: &mut Cursor<'_>, table: &mut PriceTable) -> Result<(), JsonError> {
    let (mut name, mut quote) = (None, Quote::default());
    members(cursor, |key, cursor| match key {
        "market_hash_name" => {
            name = text(cursor)?;
            Ok(())
        }
        "prices" if cursor.peek()? == ValueKind::Array => cursor.array(|cursor| {
            let mut provider = None;
            let offer = offer(cursor, |key, cursor| {
                if key != "provider_key" {
                    return cursor.skip().map(drop);
                }
                provider = text(cursor)?;
                Ok(())
            })?;
            if let Some(side) = provider.as_deref().and_then(side) {
                set(&mut quote, side, offer);
            }
            Ok(())
        }),
        _ => cursor.skip().map(drop),
    })?;
    if let Some(name) = name {
        table.add(&name, None, quote);
    }
    Ok(())
}

/// Reads `{name: {"buff": {"price": cents, "count": n, "isInflated": false}, "buff_buy": {…}}}`.
fn version_3(cursor: &mut Cursor<'_>, table: &mut PriceTable) -> Result<(), RowError> {
    cursor.object(|name, cursor| {
        let mut quote = Quote::default();
        members(cursor, |provider, cursor| match side(provider) {
            Some(side) => {
                let offer = offer(cursor, |_key, cursor| cursor.skip().map(drop))?;
                set(&mut quote, side, offer);
                Ok(())
            }
            None => cursor.skip().map(drop),
        })?;
        table.add(&name.decode(), None, quote);
        Ok(())
    })?;
    Ok(())
}

/// Reads the price of one provider. An inflated price, which the source marks as manipulated, is
/// none, and neither is one whose time cannot be read, because its age is unknown.
fn offer<'a>(
    cursor: &mut Cursor<'a>,
    mut on_other: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<Option<Offer>, JsonError> {
    let (mut found, mut offers, mut at, mut is_usable) = (None, None, None, true);
    members(cursor, |key, cursor| {
        match key {
            "price" => found = price(cursor, PriceUnit::Cents)?,
            "count" => offers = count(cursor)?,
            "updated_at" | "createdAt" => match time(cursor)? {
                Ok(stated) => at = stated.or(at),
                Err(UnreadableTime) => is_usable = false,
            },
            "isInflated" => is_usable &= !is_true(cursor)?,
            _ => on_other(key, cursor)?,
        }
        Ok(())
    })?;
    let found = found.filter(|_price| is_usable);
    Ok(found.map(|price| Offer::new(price).with_count(offers).with_time(at)))
}
