//! Tokens of JSON: the characters and literals that the cursor consumes.
//!
//! Only [`Cursor::skip_value`] recurses, no deeper than [`DEPTH_MAX`].

use super::{
    Cursor, DEPTH_MAX, JsonError, JsonStr,
    text::{find_special_byte, hex_at},
};

impl<'a> Cursor<'a> {
    /// Consumes one value of any kind.
    #[inline]
    pub(super) fn skip_value(&mut self) -> Result<(), JsonError> {
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
    pub(super) fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    pub(super) fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    #[inline]
    pub(super) fn next_significant(&mut self) -> Option<u8> {
        match self.byte() {
            Some(b' ' | b'\n' | b'\r' | b'\t') => self.skip_white_space(),
            byte => byte,
        }
    }

    /// The market sends no white space, so this is kept out of line.
    #[cold]
    fn skip_white_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.step();
        }
        self.byte()
    }

    /// Returns the error for a value of another kind, or for no value at all.
    #[cold]
    pub(super) fn unexpected(&mut self) -> JsonError {
        match self.peek() {
            Ok(_other) => JsonError::Shape { at: self.at },
            Err(error) => error,
        }
    }

    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), JsonError> {
        self.step();
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX { Err(JsonError::TooDeep { at: self.at }) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn leave(&mut self) -> Result<(), JsonError> {
        self.step();
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Returns the text from `start` to the cursor. Every token begins and ends with an ASCII
    /// character.
    #[inline]
    pub(super) fn slice(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Parses the string whose first quote is at the cursor.
    #[inline(always)]
    pub(super) fn parse_quoted(&mut self) -> Result<JsonStr<'a>, JsonError> {
        let start = self.at.wrapping_add(1);
        let escaped = self.skip_string()?;
        let end = self.at.wrapping_sub(1);
        Ok(JsonStr::new(self.text.get(start..end).unwrap_or_default(), escaped))
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
    pub(super) fn skip_number(&mut self) -> Result<(), JsonError> {
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
    pub(super) fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
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

    pub(super) const fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}
