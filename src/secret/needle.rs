//! One secret value, and the search for it in text of any encoding.
//!
//! Encoders leave letters, digits, `-`, `_` and `.` unchanged. A run of those, the anchor, is
//! searched for; from there the value is compared in both directions, where each of its characters
//! may be plain or escaped.

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use memchr::memmem::Finder;

use super::{MASKED_BYTES_MIN, PIECE_BYTES_MIN};

/// Maximum length of an anchor. A longer one would miss values whose end was cut off.
const ANCHOR_BYTES: usize = 8;
/// Maximum length of one encoded character, in bytes, such as `%25253A`.
const ENCODED_CHAR_BYTES_MAX: usize = 12;

/// Bytes of an anchor that are in [`Grams`].
pub(super) const GRAM_BYTES: usize = 4;
/// Size of [`Grams`], in words of 64 bits.
const GRAM_WORDS: usize = 16;

/// A Bloom filter of the first bytes of each anchor. It is read without a lock, and a text that it
/// does not match contains no value.
pub(super) struct Grams {
    bits: [AtomicU64; GRAM_WORDS],
    /// Set after a value without an anchor of [`GRAM_BYTES`] was added: every text matches.
    matches_all: AtomicBool,
}

impl Grams {
    pub(super) const fn new() -> Self {
        Self {
            bits: [const { AtomicU64::new(0) }; GRAM_WORDS],
            matches_all: AtomicBool::new(false),
        }
    }

    pub(super) fn add(&self, needle: &Needle) {
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
    pub(super) fn may_match(&self, text: &[u8]) -> bool {
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
pub(super) struct Needle {
    /// The value, percent-decoded.
    value: Box<[u8]>,
    /// Offset of the anchor in the value.
    anchor_at: usize,
    /// `None` for a value without letters or digits, for which every position is compared.
    anchor: Option<Finder<'static>>,
}

impl Needle {
    /// Returns `None` for a value that is too short.
    pub(super) fn new(value: &str) -> Option<Self> {
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
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
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
    pub(super) fn gram(&self) -> Option<[u8; GRAM_BYTES]> {
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
