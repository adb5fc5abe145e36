//! JSON parser that works in place: a strict cursor that borrows from the text. Pure.
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

use std::borrow::Cow;

pub use self::elements::Elements;

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

/// A validated string between its quotes, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonStr<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> JsonStr<'a> {
    /// Returns the string's value. Allocates only if it contains an escape.
    #[inline]
    pub fn decode(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// Returns the string's value if it contains no escape.
    pub const fn plain(self) -> Option<&'a str> {
        if self.escaped { None } else { Some(self.raw) }
    }
}

/// Returns the index of the first quote, backslash or control character at or after `at`, or the
/// end.
///
/// Eight bytes at a time: in each byte of `found` the highest bit is set if that byte of `word` is
/// one of the three. Flipping one bit puts the quote next to the control characters, so that one
/// subtraction finds both. A borrow can only raise false alarms above a true one, so the lowest set
/// bit is exact.
#[inline(always)]
fn find_special_byte(bytes: &[u8], at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let Some(rest) = bytes.get(at..) else { return at };
    let (words, _tail) = rest.as_chunks::<8>();
    let mut end = at;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote_or_control = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * 0x5C)).wrapping_sub(ONES);
        let found = (quote_or_control | backslash) & !word & HIGH;
        if found != 0 {
            let offset = usize::try_from(found.trailing_zeros() / 8).unwrap_or(0);
            return end.wrapping_add(offset);
        }
        end = end.wrapping_add(8);
    }
    find_special_byte_in_tail(bytes, end)
}

/// Does the same for the last few bytes of a text, where no string of a whole message ends.
#[cold]
fn find_special_byte_in_tail(bytes: &[u8], at: usize) -> usize {
    let tail = bytes.get(at..).unwrap_or_default();
    let offset = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    at.saturating_add(offset.unwrap_or(tail.len()))
}

/// Parses the four hexadecimal digits at `at`.
fn hex_at(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at.saturating_add(4))?;
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        u32::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// Replaces the escapes of a string that the cursor has validated.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let mut chars = after.chars();
        rest = match chars.next() {
            Some('u') => {
                let high = hex_at(after, 1).unwrap_or(0xFFFD);
                let (code, used) = match hex_at(after, 7) {
                    Some(low) if (0xD800..0xDC00).contains(&high) => {
                        let (high, low) = (high & 0x3FF, low & 0x3FF);
                        (0x1_0000_u32.saturating_add((high << 10) | low), 11)
                    }
                    _ => (high, 5),
                };
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                after.get(used..).unwrap_or_default()
            }
            Some(letter) => {
                out.push(match letter {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                });
                chars.as_str()
            }
            None => "",
        };
    }
    out.push_str(rest);
    out
}

impl<'a> Cursor<'a> {
    /// Consumes one value of any kind.
    #[inline]
    fn skip_value(&mut self) -> Result<(), JsonError> {
        match self.next_significant() {
            Some(b'"') => self.skip_string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b'n') => self.literal("null"),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'{' | b'[') => self.skip_nested(),
            _ => Err(self.syntax()),
        }
    }

    /// Consumes one object or array. Kept out of line, so that [`skip_value`](Self::skip_value) can
    /// be inlined.
    #[inline(never)]
    fn skip_nested(&mut self) -> Result<(), JsonError> {
        if self.byte() == Some(b'{') {
            self.object(|_key, cursor| cursor.skip_value())
        } else {
            self.array(Self::skip_value)
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    #[inline]
    fn next_significant(&mut self) -> Option<u8> {
        match self.byte() {
            Some(b' ' | b'\n' | b'\r' | b'\t') => self.skip_white_space(),
            byte => byte,
        }
    }

    /// Skips white space and returns the next byte. Out of line, because the markets send none.
    #[cold]
    fn skip_white_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.step();
        }
        self.byte()
    }

    /// Returns the error for a value of another kind, or for no value at all.
    #[cold]
    fn unexpected(&mut self) -> JsonError {
        match self.peek() {
            Ok(_other) => JsonError::Shape { at: self.at },
            Err(error) => error,
        }
    }

    #[inline]
    fn enter(&mut self) -> Result<(), JsonError> {
        self.step();
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX { Err(JsonError::TooDeep { at: self.at }) } else { Ok(()) }
    }

    #[inline]
    fn leave(&mut self) -> Result<(), JsonError> {
        self.step();
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Returns the text from `start` to the cursor. Every token begins and ends with an ASCII
    /// character.
    #[inline]
    fn slice(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Parses the string whose first quote is at the cursor.
    #[inline(always)]
    fn parse_quoted(&mut self) -> Result<JsonStr<'a>, JsonError> {
        let start = self.at.wrapping_add(1);
        let escaped = self.skip_string()?;
        let end = self.at.wrapping_sub(1);
        Ok(JsonStr { raw: self.text.get(start..end).unwrap_or_default(), escaped })
    }

    /// Consumes the string whose first quote is at the cursor. Returns `true` if it contains an
    /// escape.
    #[inline(always)]
    fn skip_string(&mut self) -> Result<bool, JsonError> {
        self.at = find_special_byte(self.text.as_bytes(), self.at.wrapping_add(1));
        if self.byte() == Some(b'"') {
            self.step();
            return Ok(false);
        }
        self.skip_escaped_string().map(|()| true)
    }

    /// Consumes the rest of a string that contains an escape or is malformed.
    #[cold]
    fn skip_escaped_string(&mut self) -> Result<(), JsonError> {
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.step();
                    return Ok(());
                }
                Some(b'\\') => self.skip_escape()?,
                _ => return Err(self.syntax()),
            }
            self.at = find_special_byte(self.text.as_bytes(), self.at);
        }
    }

    /// Consumes the number whose first character is at the cursor.
    #[inline]
    fn skip_number(&mut self) -> Result<(), JsonError> {
        if self.byte() == Some(b'-') {
            self.step();
        }
        match self.byte() {
            Some(b'0') => self.step(),
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.syntax()),
        }
        if self.byte() == Some(b'.') {
            self.step();
            self.expect_digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            return self.exponent();
        }
        Ok(())
    }

    #[cold]
    fn exponent(&mut self) -> Result<(), JsonError> {
        self.step();
        if let Some(b'+' | b'-') = self.byte() {
            self.step();
        }
        self.expect_digits()
    }

    #[inline]
    fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(literal.as_bytes()) {
            self.at = self.at.saturating_add(literal.len());
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    #[inline]
    fn skip_digits(&mut self) {
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.step();
        }
    }

    #[inline]
    fn expect_digits(&mut self) -> Result<(), JsonError> {
        if !self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.syntax());
        }
        self.skip_digits();
        Ok(())
    }

    /// Validates the escape whose backslash is at the cursor.
    fn skip_escape(&mut self) -> Result<(), JsonError> {
        self.step();
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.step();
                Ok(())
            }
            Some(b'u') => {
                self.step();
                match self.parse_hex()? {
                    0xDC00..=0xDFFF => Err(self.syntax()),
                    0xD800..=0xDBFF => {
                        self.literal("\\u")?;
                        match self.parse_hex()? {
                            0xDC00..=0xDFFF => Ok(()),
                            _ => Err(self.syntax()),
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(self.syntax()),
        }
    }

    fn parse_hex(&mut self) -> Result<u32, JsonError> {
        let value = hex_at(self.text, self.at).ok_or_else(|| self.syntax())?;
        self.at = self.at.saturating_add(4);
        Ok(value)
    }

    const fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

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
