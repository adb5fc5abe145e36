//! JSON trees with ordered fields and exact numbers.
//!
//! As in GraphQL, a response contains exactly the requested fields in the requested order:
//! [`JsonValue::select`] writes a tree through the selection of a query. A field missing in the tree
//! is an error, so a query for an unknown field fails here before it fails on the marketplace. Pure.

use std::fmt::Write as _;

use super::query::QueryField;
use crate::domain::money::{Amount, Percent};

/// A JSON value that keeps the order of fields and the text of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonValue {
    Null,
    Bool(bool),
    /// A number in its JSON text form.
    Number(String),
    Text(String),
    List(Vec<JsonValue>),
    /// An object with the name of its GraphQL type.
    Object(&'static str, Vec<(&'static str, JsonValue)>),
}

/// A selection that does not fit the tree. The texts are those of GraphQL servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("Cannot query field \"{field}\" on type \"{of}\".")]
    Field { field: String, of: &'static str },
    #[error("Field \"{field}\" of an object type must have a selection of subfields.")]
    Bare { field: String },
    #[error("Field \"{field}\" must not have a selection since it has no subfields.")]
    Leaf { field: String },
}

impl JsonValue {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Creates a number from an amount, without trailing zeros, as the marketplace writes it.
    pub fn coins(coins: Amount) -> Self {
        Self::hundredths(coins.cents())
    }

    /// Creates a number from a percentage, without trailing zeros.
    pub fn percent(percent: Percent) -> Self {
        Self::hundredths(percent.hundredths())
    }

    fn hundredths(value: i64) -> Self {
        let (sign, size) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
        Self::Number(match (size / 100, size % 100) {
            (whole, 0) => format!("{sign}{whole}"),
            (whole, part) if part % 10 == 0 => format!("{sign}{whole}.{}", part / 10),
            (whole, part) => format!("{sign}{whole}.{part:02}"),
        })
    }

    /// Removes the named fields of an object, for a generation that does not have them.
    #[must_use]
    pub fn without(self, names: &[&str]) -> Self {
        match self {
            Self::Object(of, fields) => Self::Object(
                of,
                fields.into_iter().filter(|(name, _)| !names.contains(name)).collect(),
            ),
            other => other,
        }
    }

    /// Writes the whole tree.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(text) => out.push_str(text),
            Self::Text(text) => write_text(text, out),
            Self::List(values) => write_list(values, out, |value, out| {
                value.write(out);
                Ok(())
            })
            .unwrap_or(()),
            Self::Object(_, fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    open_field(index, name, out);
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Writes the selected fields of the tree.
    ///
    /// # Errors
    ///
    /// Returns a [`SelectError`] if the selection does not fit the tree.
    pub fn select(&self, selection: &[QueryField], out: &mut String) -> Result<(), SelectError> {
        match self {
            Self::List(values) => {
                write_list(values, out, |value, out| value.select(selection, out))
            }
            Self::Object(of, fields) => {
                out.push('{');
                for (index, field) in selection.iter().enumerate() {
                    open_field(index, &field.key, out);
                    if field.name == "__typename" {
                        write_text(of, out);
                        continue;
                    }
                    let found = fields.iter().find(|(name, _)| *name == field.name);
                    let (_, value) = found
                        .ok_or_else(|| SelectError::Field { field: field.name.clone(), of })?;
                    value.select_field(field, out)?;
                }
                out.push('}');
                Ok(())
            }
            leaf => {
                leaf.write(out);
                Ok(())
            }
        }
    }

    fn select_field(&self, field: &QueryField, out: &mut String) -> Result<(), SelectError> {
        let bare = field.selection.is_empty();
        match self {
            Self::Object(..) if bare => Err(SelectError::Bare { field: field.name.clone() }),
            Self::List(values)
                if bare && values.iter().any(|value| matches!(value, Self::Object(..))) =>
            {
                Err(SelectError::Bare { field: field.name.clone() })
            }
            Self::Bool(_) | Self::Number(_) | Self::Text(_) if !bare => {
                Err(SelectError::Leaf { field: field.name.clone() })
            }
            value => value.select(&field.selection, out),
        }
    }
}

fn write_list(
    values: &[JsonValue],
    out: &mut String,
    mut each: impl FnMut(&JsonValue, &mut String) -> Result<(), SelectError>,
) -> Result<(), SelectError> {
    out.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(value, out)?;
    }
    out.push(']');
    Ok(())
}

fn open_field(index: usize, name: &str, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
    write_text(name, out);
    out.push(':');
}

/// Appends a JSON string.
pub fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                write!(out, "\\u{:04x}", u32::from(control)).unwrap_or(());
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

/// Returns a text as a JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    write_text(text, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::query;

    fn sample() -> JsonValue {
        let item = JsonValue::Object(
            "Item",
            vec![("name", JsonValue::text("a \"b\"\n")), ("n", JsonValue::Null)],
        );
        JsonValue::Object(
            "Trade",
            vec![
                ("id", JsonValue::text("x")),
                ("items", JsonValue::List(vec![item])),
                ("open", JsonValue::Bool(true)),
            ],
        )
    }

    #[track_caller]
    fn check(query: &str, expected: Result<&str, &str>) {
        let fields = query::parse(query).unwrap().fields;
        let mut out = String::new();
        let result = sample().select(&fields, &mut out);
        let shown = result.map(|()| out).map_err(|error| error.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "query: {query}");
    }

    #[test]
    fn a_response_has_the_selected_fields_in_the_selected_order() {
        check("{ open id }", Ok(r#"{"open":true,"id":"x"}"#));
        check(
            "{ items { __typename called: name } }",
            Ok("{\"items\":[{\"__typename\":\"Item\",\"called\":\"a \\\"b\\\"\\u000a\"}]}"),
        );
        check("{ items { n } }", Ok(r#"{"items":[{"n":null}]}"#));
    }

    #[test]
    fn a_selection_that_does_not_fit_is_an_error() {
        check("{ price }", Err("Cannot query field \"price\" on type \"Trade\"."));
        check(
            "{ items }",
            Err("Field \"items\" of an object type must have a selection of subfields."),
        );
        check(
            "{ id { x } }",
            Err("Field \"id\" must not have a selection since it has no subfields."),
        );
    }

    #[test]
    fn amounts_have_no_trailing_zeros() {
        let shown = |cents| match JsonValue::coins(Amount::from_cents(cents)) {
            JsonValue::Number(text) => text,
            _ => String::new(),
        };
        assert_eq!(
            [shown(1_000), shown(1_010), shown(1_015), shown(102)],
            ["10", "10.1", "10.15", "1.02"]
        );
    }

    #[test]
    fn the_output_is_valid_json() {
        let mut out = String::new();
        sample().write(&mut out);
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["items"][0]["name"], "a \"b\"\n");
    }
}
