//! Values of the keys of a listing, as a parser in one pass reads them. Pure.

use std::borrow::Cow;

use crate::{
    domain::trade::{Defect, Defects},
    json::{Cursor, JsonError, JsonStr, ValueKind},
    text::composed,
};

/// Value of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListingField<T> {
    #[default]
    Missing,
    Null,
    Unreadable,
    Value(T),
}

/// Parses a value of one kind. Any other kind but null, and `None` from `read`, is unreadable.
#[inline]
pub(super) fn field<'a, T>(
    cursor: &mut Cursor<'a>,
    kind: ValueKind,
    read: impl FnOnce(&mut Cursor<'a>) -> Result<Option<T>, JsonError>,
) -> Result<ListingField<T>, JsonError> {
    let found = cursor.peek()?;
    if found == kind {
        return Ok(read(cursor)?.map_or(ListingField::Unreadable, ListingField::Value));
    }
    cursor.skip()?;
    Ok(if found == ValueKind::Null { ListingField::Null } else { ListingField::Unreadable })
}

#[inline]
pub(super) fn text<'a, T>(
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(JsonStr<'a>) -> Option<T>,
) -> Result<ListingField<T>, JsonError> {
    field(cursor, ValueKind::String, |cursor| cursor.string().map(read))
}

#[inline]
pub(super) fn number<'a, T>(
    cursor: &mut Cursor<'a>,
    read: impl FnOnce(&'a str) -> Option<T>,
) -> Result<ListingField<T>, JsonError> {
    field(cursor, ValueKind::Number, |cursor| cursor.number().map(read))
}

/// Returns a market name in composed form, as the names of the whitelist and of prices are. Only a
/// name in another form is allocated.
#[inline]
pub(super) fn market_name(name: Option<JsonStr<'_>>) -> Cow<'_, str> {
    match name.map(JsonStr::decode).unwrap_or_default() {
        Cow::Borrowed(name) => composed(name),
        Cow::Owned(name) => Cow::Owned(composed(&name).into_owned()),
    }
}

pub(super) fn value<T>(field: ListingField<T>) -> Option<T> {
    if let ListingField::Value(value) = field { Some(value) } else { None }
}

/// Returns a required field; adds a defect if it has no value.
pub(super) fn required<T>(
    field: ListingField<T>,
    defect: Defect,
    defects: &mut Defects,
) -> Option<T> {
    let value = value(field);
    if value.is_none() {
        defects.add(defect);
    }
    value
}
