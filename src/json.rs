//! JSON parser that works in place: a strict cursor that borrows from the text and allocates
//! nothing.
//!
//! A listing is 1.5 kB of JSON of which a dozen fields matter; building a tree of it costs more
//! than everything else this program does between message and order. [`Cursor`] traverses the text
//! once, returns borrowed strings and the exact text of numbers, and validates the values it skips,
//! so a message is either valid JSON or rejected.
//!
//! # Invariants
//!
//! 1. It accepts exactly what `serde_json` accepts as a `Value` (except numbers out of a float's
//!    range, which are returned as text), so both parsers agree.
//! 2. It never panics, never recurses deeper than [`DEPTH_MAX`], and never reads past the text.
//! 3. It allocates only in [`JsonStr::decode`] of a string that contains an escape.

mod elements;
mod text;
mod token;

pub use self::{elements::Elements, text::JsonStr};

/// Maximum nesting depth of arrays and objects; the bound of `serde_json`.
pub const DEPTH_MAX: u8 = 127;

/// Cause and place of a failed parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// An invalid character, or the end of the text.
    #[error("invalid JSON at byte {at}")]
    Syntax { at: usize },
    #[error("JSON nested deeper than {DEPTH_MAX} at byte {at}")]
    TooDeep { at: usize },
    /// Well-formed, but not of the requested type.
    #[error("unexpected JSON type at byte {at}")]
    Shape { at: usize },
}

/// Kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A type that is parsed from a cursor in one pass.
pub trait FromCursor<'a>: Sized {
    /// Consumes exactly one value.
    ///
    /// # Errors
    ///
    /// Returns a [`JsonError`] when the text is not JSON. A well-formed value of an unexpected type
    /// should be consumed and represented, not be an error.
    fn from_cursor(cursor: &mut Cursor<'a>) -> Result<Self, JsonError>;
}

/// Any value, as its exact text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawValue<'a>(pub &'a str);

impl<'a> FromCursor<'a> for RawValue<'a> {
    fn from_cursor(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        cursor.skip().map(Self)
    }
}

/// Parses a whole text as one value.
///
/// # Errors
///
/// Returns a [`JsonError`] when the text is not exactly one JSON value.
pub fn read<'a, T: FromCursor<'a>>(text: &'a str) -> Result<T, JsonError> {
    let mut cursor = Cursor::new(text);
    let value = T::from_cursor(&mut cursor)?;
    cursor.end()?;
    Ok(value)
}

/// A position in a JSON text.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
}

impl<'a> Cursor<'a> {
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Returns the number of consumed bytes.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// Returns the kind of the next value, after white space.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Syntax`] where no value can start.
    #[inline]
    pub fn peek(&mut self) -> Result<ValueKind, JsonError> {
        match self.next_significant() {
            Some(b'"') => Ok(ValueKind::String),
            Some(b'{') => Ok(ValueKind::Object),
            Some(b'[') => Ok(ValueKind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(ValueKind::Number),
            Some(b't' | b'f') => Ok(ValueKind::Bool),
            Some(b'n') => Ok(ValueKind::Null),
            _ => Err(self.syntax()),
        }
    }

    /// Parses an object. `on_entry` receives each key and must consume its value.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Shape`] when the next value is not an object; otherwise a syntax error
    /// or the error of `on_entry`.
    #[inline]
    pub fn object(
        &mut self,
        mut on_entry: impl FnMut(JsonStr<'a>, &mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.next_significant() != Some(b'{') {
            return Err(self.unexpected());
        }
        self.enter()?;
        if self.next_significant() == Some(b'}') {
            return self.leave();
        }
        loop {
            if self.next_significant() != Some(b'"') {
                return Err(self.syntax());
            }
            let key = self.parse_quoted()?;
            if self.next_significant() != Some(b':') {
                return Err(self.syntax());
            }
            self.step();
            on_entry(key, self)?;
            match self.next_significant() {
                Some(b',') => self.step(),
                Some(b'}') => return self.leave(),
                _ => return Err(self.syntax()),
            }
        }
    }

    /// Parses an array. `on_element` must consume one value.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Shape`] when the next value is not an array; otherwise a syntax error
    /// or the error of `on_element`.
    #[inline]
    pub fn array(
        &mut self,
        mut on_element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.next_significant() != Some(b'[') {
            return Err(self.unexpected());
        }
        self.enter()?;
        if self.next_significant() == Some(b']') {
            return self.leave();
        }
        loop {
            on_element(self)?;
            match self.next_significant() {
                Some(b',') => self.step(),
                Some(b']') => return self.leave(),
                _ => return Err(self.syntax()),
            }
        }
    }

    /// Parses a string without decoding it.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Shape`] when the next value is not a string, [`JsonError::Syntax`] when
    /// the string is not terminated or contains a control character or an invalid escape.
    #[inline]
    pub fn string(&mut self) -> Result<JsonStr<'a>, JsonError> {
        if self.next_significant() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.parse_quoted()
    }

    /// Parses a number and returns its exact text.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Shape`] when the next value is not a number, [`JsonError::Syntax`] when
    /// the number is malformed.
    #[inline]
    pub fn number(&mut self) -> Result<&'a str, JsonError> {
        if !matches!(self.next_significant(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.unexpected());
        }
        let start = self.at;
        self.skip_number()?;
        Ok(self.slice(start))
    }

    /// Parses `true` or `false`.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Shape`] when the next value is not a boolean.
    pub fn boolean(&mut self) -> Result<bool, JsonError> {
        match self.next_significant() {
            Some(b't') => self.literal("true").map(|()| true),
            Some(b'f') => self.literal("false").map(|()| false),
            _ => Err(self.unexpected()),
        }
    }

    /// Consumes and validates one value of any kind, and returns its exact text.
    ///
    /// # Errors
    ///
    /// Returns a [`JsonError`] when the text is not JSON.
    #[inline]
    pub fn skip(&mut self) -> Result<&'a str, JsonError> {
        self.next_significant();
        let start = self.at;
        self.skip_value()?;
        Ok(self.slice(start))
    }

    /// Checks that only white space is left.
    ///
    /// # Errors
    ///
    /// Returns [`JsonError::Syntax`] otherwise.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.next_significant() {
            None => Ok(()),
            Some(_) => Err(self.syntax()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{text::find_special_byte, *};

    /// Builds the value that `serde_json` would build, through the cursor.
    fn rebuild(cursor: &mut Cursor<'_>) -> Result<Value, JsonError> {
        Ok(match cursor.peek()? {
            ValueKind::String => Value::String(cursor.string()?.decode().into_owned()),
            ValueKind::Number => serde_json::from_str(cursor.number()?).unwrap_or(Value::Null),
            ValueKind::Bool => Value::Bool(cursor.boolean()?),
            ValueKind::Null => cursor.skip().map(|_null| Value::Null)?,
            ValueKind::Array => {
                let mut values = Vec::new();
                cursor.array(|cursor| rebuild(cursor).map(|value| values.push(value)))?;
                Value::Array(values)
            }
            ValueKind::Object => {
                let mut map = serde_json::Map::new();
                cursor.object(|key, cursor| {
                    map.insert(key.decode().into_owned(), rebuild(cursor)?);
                    Ok(())
                })?;
                Value::Object(map)
            }
        })
    }

    #[track_caller]
    fn assert_agrees_with_serde_json(text: &str) {
        let mut cursor = Cursor::new(text);
        let ours = rebuild(&mut cursor).and_then(|value| cursor.end().map(|()| value));
        let skipped = read::<RawValue<'_>>(text);
        assert_eq!(ours.is_ok(), skipped.is_ok(), "reading and skipping differ on {text:?}");
        match serde_json::from_str::<Value>(text) {
            Ok(theirs) => assert_eq!(ours, Ok(theirs), "text: {text:?}"),
            Err(error) if error.to_string().starts_with("number out of range") => {}
            Err(error) => assert!(ours.is_err(), "serde_json rejects {text:?}: {error}"),
        }
    }

    #[test]
    fn valid_json_is_parsed_as_by_serde_json() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "1.5e-3",
            "\"\"",
            "\"a\\n\\u00e9\\ud83d\\ude00b\"",
            "[]",
            "[1, [2], {}]",
            "{}",
            "{\"a\": {\"b\": [null]}, \"a\": 2}",
            "\t{\"k\\u0065y\":1}\r\n",
            "\"1234567\\\"9\"",
            "\"exactly8\"",
            "\"ünïcödé — ★ StatTrak™\"",
        ] {
            assert_agrees_with_serde_json(text);
        }
    }

    #[test]
    fn malformed_json_is_rejected() {
        for text in [
            "",
            " ",
            "nul",
            "truee",
            "01",
            "1.",
            ".1",
            "-",
            "1e",
            "+1",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"a\nb\"",
            "\"\u{1f}\"",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "1 2",
            "[}",
            "{]",
            "\"\\u+123\"",
        ] {
            assert!(read::<RawValue<'_>>(text).is_err(), "accepted {text:?}");
            assert_agrees_with_serde_json(text);
        }
    }

    #[test]
    fn nesting_is_bounded_where_serde_json_bounds_it() {
        for depth in [126, 127, 128, 100_000] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(read::<RawValue<'_>>(&text).is_ok(), depth <= usize::from(DEPTH_MAX));
            assert_eq!(
                serde_json::from_str::<Value>(&text).is_ok(),
                depth <= usize::from(DEPTH_MAX)
            );
        }
    }

    #[test]
    fn a_wrong_type_is_a_shape_error_and_malformed_text_is_a_syntax_error() {
        assert_eq!(Cursor::new("12").string(), Err(JsonError::Shape { at: 0 }));
        assert_eq!(Cursor::new("}").string(), Err(JsonError::Syntax { at: 0 }));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_as_by_serde_json(text in "\\PC{0,60}") {
            assert_agrees_with_serde_json(&text);
        }

        /// Random JSON tokens, far more often nearly valid than random text is.
        #[test]
        fn any_token_sequence_is_parsed_as_by_serde_json(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u0061\"", "\"\\ud83d", "\\ude00\"", "1",
                "-1.5e3", "1e400", "true", "null", " ", "\"", "\\", "0", "\"é\u{7f}\"",
            ]), 0..14),
        ) {
            assert_agrees_with_serde_json(&tokens.concat());
        }

        #[test]
        fn the_word_scan_finds_what_a_byte_scan_finds(bytes in prop::collection::vec(any::<u8>(), 0..40), at in 0_usize..8) {
            let plain = bytes.iter().enumerate().skip(at)
                .find(|(_, byte)| matches!(byte, b'"' | b'\\' | 0..0x20))
                .map_or(bytes.len().max(at), |(index, _)| index);
            prop_assert_eq!(find_special_byte(&bytes, at), plain);
        }
    }
}
