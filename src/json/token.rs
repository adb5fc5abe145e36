//! The single characters and words of JSON: what the cursor steps over.
//!
//! Nothing here recurses but [`Cursor::pass`], and that no deeper than the cursor allows.

use super::{
    Cursor, DEPTH_MAX, JsonError, JsonStr,
    text::{hex_at, special_byte},
};

impl<'a> Cursor<'a> {
    /// Consumes one value of any kind.
    #[inline]
    pub(super) fn pass(&mut self) -> Result<(), JsonError> {
        match self.next_significant() {
            Some(b'"') => self.pass_string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.digits(),
            Some(b'n') => self.word("null"),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'{' | b'[') => self.pass_nested(),
            _ => Err(self.syntax()),
        }
    }

    /// Consumes one object or array. Kept out of line, so that [`pass`](Self::pass) need not be.
    #[inline(never)]
    fn pass_nested(&mut self) -> Result<(), JsonError> {
        if self.byte() == Some(b'{') {
            self.object(|_key, cursor| cursor.pass())
        } else {
            self.array(Self::pass)
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
            Some(b' ' | b'\n' | b'\r' | b'\t') => self.after_space(),
            byte => byte,
        }
    }

    /// The marketplace writes no white space, so this is kept out of the way.
    #[cold]
    fn after_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.step();
        }
        self.byte()
    }

    /// A value that is there, and of another kind; or none at all.
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

    /// What was read from `start` on. Every token begins and ends with an ASCII character.
    #[inline]
    pub(super) fn slice(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Reads the string on whose first quote the cursor stands.
    #[inline(always)]
    pub(super) fn quoted(&mut self) -> Result<JsonStr<'a>, JsonError> {
        let start = self.at.wrapping_add(1);
        let escaped = self.pass_string()?;
        let end = self.at.wrapping_sub(1);
        Ok(JsonStr::new(self.text.get(start..end).unwrap_or_default(), escaped))
    }

    /// Consumes the string on whose first quote the cursor stands; says whether it holds an escape.
    #[inline(always)]
    fn pass_string(&mut self) -> Result<bool, JsonError> {
        self.at = special_byte(self.text.as_bytes(), self.at.wrapping_add(1));
        if self.byte() == Some(b'"') {
            self.step();
            return Ok(false);
        }
        self.pass_escapes().map(|()| true)
    }

    /// The rest of a string that holds an escape, or is wrong.
    #[cold]
    fn pass_escapes(&mut self) -> Result<(), JsonError> {
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.step();
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax()),
            }
            self.at = special_byte(self.text.as_bytes(), self.at);
        }
    }

    /// Consumes the number on whose first character the cursor stands.
    #[inline]
    pub(super) fn digits(&mut self) -> Result<(), JsonError> {
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
            self.need_digits()?;
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
        self.need_digits()
    }

    #[inline]
    pub(super) fn word(&mut self, word: &str) -> Result<(), JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at = self.at.saturating_add(word.len());
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
    fn need_digits(&mut self) -> Result<(), JsonError> {
        if !self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.syntax());
        }
        self.skip_digits();
        Ok(())
    }

    /// Validates one escape, the cursor standing on its backslash.
    fn escape(&mut self) -> Result<(), JsonError> {
        self.step();
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.step();
                Ok(())
            }
            Some(b'u') => {
                self.step();
                match self.hex()? {
                    0xDC00..=0xDFFF => Err(self.syntax()),
                    0xD800..=0xDBFF => {
                        self.word("\\u")?;
                        match self.hex()? {
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

    fn hex(&mut self) -> Result<u32, JsonError> {
        let value = hex_at(self.text, self.at).ok_or_else(|| self.syntax())?;
        self.at = self.at.saturating_add(4);
        Ok(value)
    }

    pub(super) const fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}
