//! Values of the keys of a listing, as a parser in one pass reads them. Pure.

use crate::{
    domain::trade::{Defect, Defects},
    json::{Cursor, JsonError, JsonStr, ValueKind},
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
