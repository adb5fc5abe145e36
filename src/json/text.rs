//! JSON strings: their ends and their escapes.
//!
//! Only strings that the cursor has validated reach the functions that decode.

use std::borrow::Cow;

/// A validated string between its quotes, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonStr<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> JsonStr<'a> {
    /// Takes the validated text between two quotes.
    #[inline]
    pub(super) const fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

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
pub(super) fn find_special_byte(bytes: &[u8], at: usize) -> usize {
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

/// The same for the last few bytes of a text, where no string of a whole message ends.
#[cold]
fn find_special_byte_in_tail(bytes: &[u8], at: usize) -> usize {
    let tail = bytes.get(at..).unwrap_or_default();
    let offset = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    at.saturating_add(offset.unwrap_or(tail.len()))
}

/// Parses the four hexadecimal digits at `at`.
pub(super) fn hex_at(text: &str, at: usize) -> Option<u32> {
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
