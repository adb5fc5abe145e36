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

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    ops::Range,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use memchr::memmem::Finder;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Minimum length of a masked value, in bytes. Shorter values would match ordinary words.
pub const MASKED_BYTES_MIN: usize = 8;

/// Minimum length of a masked piece of a longer value, in bytes of the value.
const PIECE_BYTES_MIN: usize = 16;

/// Maximum number of registered values. Beyond it the oldest is dropped.
pub const VALUES_MAX: usize = 1_024;

/// Maximum number of registered tokens of connections. Beyond it the oldest is dropped.
const TOKENS_MAX: usize = 8;

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

/// Returns random bytes for a key, a token or an id.
///
/// # Errors
///
/// Returns an error if the system provides no random bytes.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_unspecified| io::Error::other("the system has no randomness"))?;
    Ok(bytes)
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

/// Registers a value that belongs to one connection and is replaced by that of the next one. Only
/// the last [`TOKENS_MAX`] are masked, and none displaces a value of [`register`].
pub fn register_token(value: &str) {
    let Some(needle) = Needle::new(value) else { return };
    GRAMS.add(&needle);
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    let mut redactor = registered.as_deref().cloned().unwrap_or_default();
    redactor.add_token(needle);
    *registered = Some(Arc::new(redactor));
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

/// Registers the keys in the query of an address.
pub fn register_query(address: &str) {
    query_keys(address).for_each(register);
}

/// Returns the keys in the query of an address: the values of parameters with a name from
/// [`KEY_NAMES`].
pub fn query_keys(address: &str) -> impl Iterator<Item = &str> {
    let (_path, query) = address.split_once('?').unwrap_or_default();
    let parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    parameters.filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        KEY_NAMES.iter().any(|word| name.contains(word)).then_some(value)
    })
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

/// Does the same as [`mask_own_json`], for a string.
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
    /// Tokens of connections, the oldest first.
    tokens: Vec<Arc<Needle>>,
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

    fn add_token(&mut self, needle: Needle) {
        self.tokens.retain(|known| **known != needle);
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.remove(0);
        }
        self.tokens.push(Arc::new(needle));
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
        self.needles.iter().chain(&self.tokens).flat_map(|needle| needle.find(bytes)).collect()
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

/// Maximum length of an anchor. A longer one would miss values whose end was cut off.
const ANCHOR_BYTES: usize = 8;
/// Maximum length of one encoded character, in bytes, such as `%25253A`.
const ENCODED_CHAR_BYTES_MAX: usize = 12;

/// Bytes of an anchor that are in [`Grams`].
const GRAM_BYTES: usize = 4;
/// Size of [`Grams`], in words of 64 bits.
const GRAM_WORDS: usize = 16;

/// A Bloom filter of the first bytes of each anchor. It is read without a lock, and a text that it
/// does not match contains no value.
struct Grams {
    bits: [AtomicU64; GRAM_WORDS],
    /// Set after a value without an anchor of [`GRAM_BYTES`] was added: every text matches.
    matches_all: AtomicBool,
}

impl Grams {
    const fn new() -> Self {
        Self {
            bits: [const { AtomicU64::new(0) }; GRAM_WORDS],
            matches_all: AtomicBool::new(false),
        }
    }

    fn add(&self, needle: &Needle) {
        match needle.gram().map(Self::place) {
            Some((word, bit)) => {
                if let Some(word) = self.bits.get(word) {
                    word.fetch_or(bit, Ordering::Release);
                }
            }
            None => self.matches_all.store(true, Ordering::Release),
        }
    }

    /// Returns `false` if a text contains no value.
    fn may_match(&self, text: &[u8]) -> bool {
        self.matches_all.load(Ordering::Acquire)
            || text.windows(GRAM_BYTES).filter_map(|gram| gram.first_chunk()).any(|gram| {
                let (word, bit) = Self::place(*gram);
                self.bits.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
            })
    }

    fn place(gram: [u8; GRAM_BYTES]) -> (usize, u64) {
        // A multiplicative hash: the upper bits depend on every byte.
        let [.., low, high] = u32::from_le_bytes(gram).wrapping_mul(0x9E37_79B1).to_le_bytes();
        (usize::from(high) % GRAM_WORDS, 1 << (low % 64))
    }
}

/// A value to search for.
struct Needle {
    /// The value, percent-decoded.
    value: Box<[u8]>,
    /// Offset of the anchor in the value.
    anchor_at: usize,
    /// `None` for a value without letters or digits, for which every position is compared.
    anchor: Option<Finder<'static>>,
}

impl Needle {
    /// Returns `None` for a value that is too short.
    fn new(value: &str) -> Option<Self> {
        let value = value.trim();
        if value.len() < MASKED_BYTES_MIN {
            return None;
        }
        let decoded = percent_decode(value.as_bytes());
        // A value that is too short once decoded is searched for in its original form.
        let value =
            if decoded.len() < MASKED_BYTES_MIN { value.as_bytes().to_vec() } else { decoded };
        let anchor = find_anchor_range(&value);
        let run = value.get(anchor.clone()).filter(|run| !run.is_empty());
        Some(Self {
            anchor: run.map(|run| Finder::new(run).into_owned()),
            anchor_at: anchor.start,
            value: value.into(),
        })
    }

    /// Returns the ranges of the value and of pieces of it.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| self.find_anchor(rest)) {
            let at = from.saturating_add(at);
            found.extend(self.match_around(text, at));
            from = at.saturating_add(1);
        }
        found
    }

    /// Returns the entry for [`Grams`]; `None` if the value has no anchor of that length.
    fn gram(&self) -> Option<[u8; GRAM_BYTES]> {
        self.anchor.as_ref()?.needle().first_chunk().copied()
    }

    fn find_anchor(&self, text: &[u8]) -> Option<usize> {
        let Some(anchor) = &self.anchor else {
            let first = *self.value.first()?;
            let begins =
                |at: &usize| text.get(*at..).and_then(|rest| match_char(rest, first)).is_some();
            return (0..text.len()).find(begins);
        };
        anchor.find(text)
    }

    /// Compares the value around an anchor. Returns the matching range if it is long enough.
    fn match_around(&self, text: &[u8], anchor: usize) -> Option<Range<usize>> {
        let (before, behind) = self.value.split_at_checked(self.anchor_at)?;
        let mut agreed = 0_usize;
        let mut start = anchor;
        for expected in before.iter().rev() {
            let Some(len) = match_char_before(text.get(..start)?, *expected) else { break };
            start = start.saturating_sub(len);
            agreed = agreed.saturating_add(1);
        }
        let mut end = anchor;
        for expected in behind {
            let Some(len) = match_char(text.get(end..)?, *expected) else { break };
            end = end.saturating_add(len);
            agreed = agreed.saturating_add(1);
        }
        if agreed < self.value.len().min(PIECE_BYTES_MIN) {
            return None;
        }
        let range = trim_to_characters(text, after_split_escape(text, start)..end);
        (!range.is_empty()).then_some(range)
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needle(…)")
    }
}

/// Returns the first run that is long enough for an anchor, otherwise the longest; empty if there
/// is none.
fn find_anchor_range(value: &[u8]) -> Range<usize> {
    let is_unreserved =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut best = 0..0;
    let mut at = 0_usize;
    for run in value.chunk_by(|one, other| is_unreserved(one) == is_unreserved(other)) {
        let end = at.saturating_add(run.len());
        if run.first().is_some_and(is_unreserved) && best.len() < run.len() {
            best = at..end.min(at.saturating_add(ANCHOR_BYTES));
            if run.len() >= ANCHOR_BYTES {
                break;
            }
        }
        at = end;
    }
    best
}

/// Decodes percent-encoding repeatedly until none is left.
fn percent_decode(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    loop {
        let mut once = Vec::with_capacity(value.len());
        let mut rest = value.as_slice();
        while let [first, behind @ ..] = rest {
            let (byte, behind) = parse_percent(rest).unwrap_or((*first, behind));
            once.push(byte);
            rest = behind;
        }
        // Each escape makes it shorter.
        if once.len() == value.len() {
            return value;
        }
        value = once;
    }
}

/// Parses one `%XX`. Returns the byte and the rest.
fn parse_percent(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'%', behind @ ..] => parse_hex_pair(behind),
        _ => None,
    }
}

/// Parses two hexadecimal digits. Returns the byte and the rest.
fn parse_hex_pair(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = text.split_at_checked(2)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    is_hex.then_some((byte, behind))
}

/// Returns the length of an encoding of `expected` at the start of a text.
fn match_char(text: &[u8], expected: u8) -> Option<usize> {
    let first = text.first()?;
    let escaped = match first {
        b'%' => match_percent(text, expected),
        b'\\' => match_backslash(text, expected),
        b'&' => match_entity(text, expected),
        _ => None,
    };
    escaped.or_else(|| (*first == expected).then_some(1))
}

/// Returns the length of an encoding of `expected` at the end of a text.
fn match_char_before(text: &[u8], expected: u8) -> Option<usize> {
    (1..=ENCODED_CHAR_BYTES_MAX.min(text.len())).rev().find(|len| {
        let tail = text.len().checked_sub(*len).and_then(|at| text.get(at..));
        tail.is_some_and(|tail| match_char(tail, expected) == Some(*len))
    })
}

/// Matches `%3A`, `%253A`, `%25253A`.
fn match_percent(text: &[u8], expected: u8) -> Option<usize> {
    let (mut byte, mut behind) = parse_percent(text)?;
    while byte != expected {
        if byte != b'%' {
            return None;
        }
        (byte, behind) = parse_hex_pair(behind)?;
    }
    text.len().checked_sub(behind.len())
}

/// Matches `\"`, `\/`, `\\`, `\u003a`, and the same with the backslash escaped again.
fn match_backslash(text: &[u8], expected: u8) -> Option<usize> {
    let run = text.iter().take_while(|byte| **byte == b'\\').count();
    if expected == b'\\' {
        // The last backslash of an odd number escapes the next character.
        return Some(if run > 1 { run & !1 } else { run });
    }
    let behind = text.get(run..)?;
    let len = match behind {
        [b'u', code @ ..] => {
            let (high, rest) = parse_hex_pair(code)?;
            let (low, _behind) = parse_hex_pair(rest)?;
            (high == 0 && low == expected).then_some(5)?
        }
        [byte @ (b'"' | b'/' | b'\''), ..] if *byte == expected => 1,
        _ => return None,
    };
    run.checked_add(len)
}

/// Matches `&amp;`, `&#39;`, `&#x27;`.
fn match_entity(text: &[u8], expected: u8) -> Option<usize> {
    let text = text.get(..ENCODED_CHAR_BYTES_MAX.min(text.len()))?;
    let end = memchr::memchr(b';', text)?;
    let name = str::from_utf8(text.get(1..end)?).ok()?;
    let code = match name {
        "amp" => u32::from(b'&'),
        "lt" => u32::from(b'<'),
        "gt" => u32::from(b'>'),
        "quot" => u32::from(b'"'),
        "apos" => u32::from(b'\''),
        _ => {
            let number = name.strip_prefix('#')?;
            match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            }
        }
    };
    (code == u32::from(expected)).then(|| end.saturating_add(1))
}

/// Moves `start` behind a JSON escape that it would split: `\n` followed by the rest of a value is
/// a line break, and `\*` would be invalid JSON.
fn after_split_escape(text: &[u8], start: usize) -> usize {
    let is_escaping = |at: usize| {
        let before = text.get(..=at).unwrap_or_default();
        before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
    };
    for distance in 1..=5_usize {
        let Some(at) = start.checked_sub(distance) else { break };
        if text.get(at) != Some(&b'\\') || !is_escaping(at) {
            continue;
        }
        let is_code = text.get(at.saturating_add(1)) == Some(&b'u');
        let end = at.saturating_add(if is_code { 6 } else { 2 });
        return start.max(end.min(text.len()));
    }
    start
}

/// Shrinks a range to whole characters.
fn trim_to_characters(text: &[u8], range: Range<usize>) -> Range<usize> {
    let continues = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let Range { mut start, mut end } = range;
    while start < end && continues(start) {
        start = start.saturating_add(1);
    }
    while start < end && continues(end) {
        end = end.saturating_sub(1);
    }
    start..end
}

#[cfg(test)]
mod tests;
