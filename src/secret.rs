//! Credentials, and masking of their values in all output.
//!
//! A server or a proxy can repeat a credential in any text that it sends: error messages, feed
//! messages, close reasons, headers, ids. Every [`Credential`](crate::config::Credential), and
//! every key in the query of a dialed address, is [registered](register) for the whole process.
//! All writers replace the registered values, at the same length: the log thread, the ledger, the
//! recording, the control channel, and standard output and standard error ([`Masking`]). Untrusted
//! text that is shortened for display ([`Escaped`](crate::text::Escaped)) is masked before it is
//! cut, so that a cut value is not missed.
//!
//! A value is found in every spelling of the common encoders: plain, percent-encoded once or
//! several times, and escaped for JSON or HTML. A longer value is also found if its end or its
//! first characters are missing, as long as [`PIECE_BYTES_MIN`] of its characters are present.
//! Base64 or encrypted forms are not found.
//!
//! Nothing between a message and an order calls this module, except one check of the id of a
//! listing that is about to be ordered.

mod needle;

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use self::needle::{Grams, Needle};

/// Minimum length of a masked value, in bytes. Shorter values would match ordinary words.
pub const MASKED_BYTES_MIN: usize = 8;

/// Minimum length of a masked piece of a longer value, in characters.
pub const PIECE_BYTES_MIN: usize = 16;

/// Maximum number of registered values. Beyond it the oldest is dropped.
pub const VALUES_MAX: usize = 1_024;

/// A query parameter whose name contains one of these words holds a key.
const KEY_NAMES: [&str; 7] = ["auth", "key", "pass", "secret", "session", "sign", "token"];

/// Byte that replaces each byte of a value.
const MASK: u8 = b'*';

/// A credential. It has no `Display`, its `Debug` prints no content, and only [`Secret::reveal`]
/// returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the credential, for use on the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Values that this process masks.
static REGISTERED: RwLock<Option<Arc<Redactor>>> = RwLock::new(None);

/// Filter over the same values, for [`appears_in`].
static GRAMS: Grams = Grams::new();

/// Registers a value to be masked in all output of this process. Values shorter than
/// [`MASKED_BYTES_MIN`] are ignored.
pub fn register(value: &str) {
    let Some(needle) = Needle::new(value) else { return };
    GRAMS.add(&needle);
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    let mut redactor = registered.as_deref().cloned().unwrap_or_default();
    if redactor.add(needle) {
        *registered = Some(Arc::new(redactor));
    }
}

/// Registers the value of each cookie of a `Cookie` header, or the whole header if every value is
/// too short.
pub fn register_cookies(header: &str) {
    let values = || cookie_values(header);
    if values().any(is_masked) {
        values().for_each(register);
    } else {
        register(header);
    }
}

/// Registers the keys in the query of an address: the values of parameters with a name from
/// [`KEY_NAMES`].
pub fn register_query(address: &str) {
    let Some((_path, query)) = address.split_once('?') else { return };
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let name = name.to_ascii_lowercase();
        if KEY_NAMES.iter().any(|word| name.contains(word)) {
            register(value);
        }
    }
}

/// Returns the values of a `Cookie` header, without surrounding quotes.
pub fn cookie_values(header: &str) -> impl Iterator<Item = &str> {
    let value = |pair: &'_ str| pair.find('=').map_or(0, |at| at.saturating_add(1));
    header
        .split(';')
        .map(move |pair| pair.get(value(pair)..).unwrap_or_default().trim().trim_matches('"'))
}

/// Returns `true` if a value is long enough to be masked.
pub const fn is_masked(value: &str) -> bool {
    value.len() >= MASKED_BYTES_MIN
}

/// Replaces every registered value in a text, at the same length.
pub fn mask(text: &str) -> Cow<'_, str> {
    let Some(redactor) = registered() else { return Cow::Borrowed(text) };
    redactor.mask(text)
}

/// Replaces every registered value in place. Returns `true` if there was one.
pub fn mask_bytes(bytes: &mut [u8]) -> bool {
    registered().is_some_and(|redactor| redactor.mask_bytes(bytes, Keys::Masked))
}

/// Masks JSON that this program generated: object keys are the program's own words and stay, even
/// if a cookie has such a word as its value.
pub fn mask_own_json(bytes: &mut [u8]) -> bool {
    registered().is_some_and(|redactor| redactor.mask_bytes(bytes, Keys::Kept))
}

/// The same as [`mask_own_json`], for a string.
pub fn mask_own_json_string(json: String) -> String {
    let mut bytes = json.into_bytes();
    mask_own_json(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// Returns `true` if a registered value appears in a text. A filter precedes the search, because
/// this is on the order path.
pub fn appears_in(text: &str) -> bool {
    GRAMS.may_match(text.as_bytes())
        && registered().is_some_and(|redactor| !redactor.find(text.as_bytes()).is_empty())
}

fn registered() -> Option<Arc<Redactor>> {
    REGISTERED.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Treatment of a JSON key that equals a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Masked,
    Kept,
}

/// Masks a set of values.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    needles: Vec<Arc<Needle>>,
}

impl Redactor {
    /// Values shorter than [`MASKED_BYTES_MIN`] are ignored.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut redactor = Self::default();
        for needle in values.into_iter().filter_map(Needle::new) {
            redactor.add(needle);
        }
        redactor
    }

    /// Returns `true` if the value is new.
    fn add(&mut self, needle: Needle) -> bool {
        if self.needles.iter().any(|known| **known == needle) {
            return false;
        }
        if self.needles.len() >= VALUES_MAX {
            self.needles.remove(0);
        }
        self.needles.push(Arc::new(needle));
        true
    }

    /// Replaces every value in a text, at the same length. Borrows the text if it contains none.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.find(text.as_bytes()).is_empty() {
            return Cow::Borrowed(text);
        }
        let mut bytes = text.as_bytes().to_vec();
        self.mask_bytes(&mut bytes, Keys::Masked);
        // Whole characters are replaced, by characters of one byte.
        Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len())))
    }

    fn mask_bytes(&self, bytes: &mut [u8], keys: Keys) -> bool {
        // All are found before any is replaced: values can overlap.
        let found = self.find(bytes);
        let mut is_changed = false;
        for range in found {
            if keys == Keys::Kept && is_key(bytes, &range) {
                continue;
            }
            if let Some(value) = bytes.get_mut(range) {
                value.fill(mask_for(value));
                is_changed = true;
            }
        }
        is_changed
    }

    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        self.needles.iter().flat_map(|needle| needle.find(bytes)).collect()
    }
}

/// Returns `true` if this range is a whole key of a JSON object.
fn is_key(bytes: &[u8], range: &Range<usize>) -> bool {
    let before = bytes.get(..range.start).unwrap_or_default();
    let behind = bytes.get(range.end..).unwrap_or_default();
    before.ends_with(b"\"") && !before.ends_with(b"\\\"") && behind.starts_with(b"\":")
}

/// Digits are replaced by a digit, so that a JSON number stays a number.
fn mask_for(value: &[u8]) -> u8 {
    if !value.iter().all(u8::is_ascii_digit) {
        return MASK;
    }
    if value.iter().all(|digit| *digit == b'1') { b'2' } else { b'1' }
}

/// Writer that masks its output line by line, so that a value written in several pieces is found.
/// An incomplete line is buffered until [`flush`](Write::flush).
#[derive(Debug)]
pub struct Masking<W: Write> {
    to: W,
    line: Vec<u8>,
}

impl<W: Write> Masking<W> {
    pub const fn new(to: W) -> Self {
        Self { to, line: Vec::new() }
    }

    /// Masks and writes the buffer up to `end`.
    fn write_masked(&mut self, end: usize) -> io::Result<()> {
        let rest = self.line.split_off(end);
        let mut lines = std::mem::replace(&mut self.line, rest);
        for line in lines.split_inclusive_mut(|byte| *byte == b'\n') {
            if line.starts_with(b"{") {
                mask_own_json(line)
            } else {
                mask_bytes(line)
            };
        }
        self.to.write_all(&lines)
    }
}

impl<W: Write> Write for Masking<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(last) = memchr::memrchr(b'\n', bytes) {
            let behind = bytes.len().saturating_sub(last).saturating_sub(1);
            self.write_masked(self.line.len().saturating_sub(behind))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_masked(self.line.len())?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
