//! Credentials, and replacing them wherever they appear.
//!
//! A site or a proxy can repeat a credential in any text that it sends: error messages, messages of
//! the feed, close reasons, headers, ids. Every [`Credential`](crate::config::Credential) that is
//! made, and every key in the query of an address that is dialled, is [remembered](remember) for the
//! whole process, and whatever writes a text out replaces the
//! remembered values in it, at the same length: the log's thread, the ledger's, the recording's, the
//! control channel, and standard output and standard error ([`Masking`]). Foreign text that is
//! shortened to be shown ([`Escaped`](crate::text::Escaped)) is masked before it is cut, so that a
//! cut value is not missed.
//!
//! A value is found in every spelling that common encoders give it: as it is, percent-encoded once
//! or several times, and escaped for JSON or HTML. A longer one is also found where its end is cut
//! off or its first characters are missing, as long as [`PIECE_BYTES_MIN`] of its characters are
//! there. What base64 or a cipher has changed altogether is not found.
//!
//! Nothing on the way from a message to an order calls this, but for one look at the id of a listing
//! that is about to be ordered.

mod needle;

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use self::needle::{Grams, Needle};

/// The shortest value that is replaced, in bytes. Shorter ones would be found in ordinary words.
pub const MASKED_BYTES_MIN: usize = 8;

/// The shortest piece of a longer value that is replaced, in characters.
pub const PIECE_BYTES_MIN: usize = 16;

/// How many values are remembered. Beyond that the oldest is forgotten.
pub const VALUES_MAX: usize = 1_024;

/// A parameter with one of these words in its name holds a key.
const KEY_NAMES: [&str; 7] = ["auth", "key", "pass", "secret", "session", "sign", "token"];

/// What stands where a value was.
const MASK: u8 = b'*';

/// A credential. It has no `Display`, its `Debug` says nothing, and it is read in one way only.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a credential into custody.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The credential itself, for the wire and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The values that this process replaces.
static REMEMBERED: RwLock<Option<Arc<Redactor>>> = RwLock::new(None);

/// The same values, for [`stands_in`].
static GRAMS: Grams = Grams::new();

/// Replaces this value from now on in everything that this process writes. Values shorter than
/// [`MASKED_BYTES_MIN`] are not remembered.
pub fn remember(value: &str) {
    let Some(needle) = Needle::new(value) else { return };
    GRAMS.add(&needle);
    let mut remembered = REMEMBERED.write().unwrap_or_else(PoisonError::into_inner);
    let mut redactor = remembered.as_deref().cloned().unwrap_or_default();
    if redactor.add(needle) {
        *remembered = Some(Arc::new(redactor));
    }
}

/// Remembers the value of each cookie of a `Cookie` header; the whole header where every value is
/// too short to be looked for alone.
pub fn remember_cookies(header: &str) {
    let values = || cookie_values(header);
    if values().any(is_masked) {
        values().for_each(remember);
    } else {
        remember(header);
    }
}

/// Remembers the keys in the query of an address: the values of parameters whose name says that they
/// are one.
pub fn remember_query(address: &str) {
    let Some((_path, query)) = address.split_once('?') else { return };
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let name = name.to_ascii_lowercase();
        if KEY_NAMES.iter().any(|word| name.contains(word)) {
            remember(value);
        }
    }
}

/// The values of a `Cookie` header, without the quotes that may be around them.
pub fn cookie_values(header: &str) -> impl Iterator<Item = &str> {
    let value = |pair: &'_ str| pair.find('=').map_or(0, |at| at.saturating_add(1));
    header
        .split(';')
        .map(move |pair| pair.get(value(pair)..).unwrap_or_default().trim().trim_matches('"'))
}

/// Whether a value is long enough to be replaced.
pub const fn is_masked(value: &str) -> bool {
    value.len() >= MASKED_BYTES_MIN
}

/// The same text with every remembered value replaced, at the same length.
pub fn mask(text: &str) -> Cow<'_, str> {
    let Some(redactor) = remembered() else { return Cow::Borrowed(text) };
    redactor.mask(text)
}

/// Replaces every remembered value in place. Says whether there was one.
pub fn mask_bytes(bytes: &mut [u8]) -> bool {
    remembered().is_some_and(|redactor| redactor.mask_bytes(bytes, Keys::Masked))
}

/// Masks JSON that this program has made: a key of an object is one of its own words and stays, even
/// if a cookie has that word for a value.
pub fn mask_own_json(bytes: &mut [u8]) -> bool {
    remembered().is_some_and(|redactor| redactor.mask_bytes(bytes, Keys::Kept))
}

/// The same as [`mask_own_json`], for a text.
pub fn own_json(json: String) -> String {
    let mut bytes = json.into_bytes();
    mask_own_json(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether a remembered value stands in a text. This is on the way to an order, so a filter comes
/// before the search.
pub fn stands_in(text: &str) -> bool {
    GRAMS.may_match(text.as_bytes())
        && remembered().is_some_and(|redactor| !redactor.find(text.as_bytes()).is_empty())
}

fn remembered() -> Option<Arc<Redactor>> {
    REMEMBERED.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What happens to a JSON key that equals a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Masked,
    Kept,
}

/// Replaces values that are known.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    needles: Vec<Arc<Needle>>,
}

impl Redactor {
    /// Replaces these values; those shorter than [`MASKED_BYTES_MIN`] are left out.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut redactor = Self::default();
        for needle in values.into_iter().filter_map(Needle::new) {
            redactor.add(needle);
        }
        redactor
    }

    /// Says whether the value is new.
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

    /// The same text with every value replaced, at the same length. Borrowed if there is none.
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

    /// Where values stand.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        self.needles.iter().flat_map(|needle| needle.find(bytes)).collect()
    }
}

/// Whether this range is a whole key of a JSON object.
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

/// Masks what is written through it, line by line, so that a value that is written in pieces is
/// found. What has no line break is kept until [`flush`](Write::flush).
#[derive(Debug)]
pub struct Masking<W: Write> {
    to: W,
    line: Vec<u8>,
}

impl<W: Write> Masking<W> {
    /// Masks what goes to this writer.
    pub const fn new(to: W) -> Self {
        Self { to, line: Vec::new() }
    }

    /// Passes on what is kept up to here.
    fn pass_on(&mut self, end: usize) -> io::Result<()> {
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
            self.pass_on(self.line.len().saturating_sub(behind))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on(self.line.len())?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
