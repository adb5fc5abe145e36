//! One secret value, and where it stands in a text, whatever encoder it went through.
//!
//! Encoders leave letters, digits, `-`, `_` and `.` as they are. A run of those, the anchor, is
//! searched for; from there the value is compared in both directions, where each of its characters
//! may be written as itself or escaped.

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use memchr::memmem::Finder;

use super::{MASKED_BYTES_MIN, PIECE_BYTES_MIN};

/// A run of this many bytes is long enough to be searched for. No more of it is, so that a value is
/// found also where its end was cut off.
const ANCHOR_BYTES: usize = 8;
/// The longest way to write one character that is understood, in bytes, such as `%25253A`.
const UNIT_BYTES_MAX: usize = 12;

/// How many bytes of an anchor are in [`Grams`].
pub(super) const GRAM_BYTES: usize = 4;
/// How many words of 64 bits [`Grams`] have.
const GRAM_WORDS: usize = 16;

/// A Bloom filter of the first bytes of each anchor. It is read without a lock, and a text that it
/// does not match contains no value.
pub(super) struct Grams {
    bits: [AtomicU64; GRAM_WORDS],
    /// A value without an anchor that is long enough was added.
    is_any: AtomicBool,
}

impl Grams {
    pub(super) const fn new() -> Self {
        Self { bits: [const { AtomicU64::new(0) }; GRAM_WORDS], is_any: AtomicBool::new(false) }
    }

    pub(super) fn add(&self, needle: &Needle) {
        match needle.gram().map(Self::place) {
            Some((word, bit)) => {
                if let Some(word) = self.bits.get(word) {
                    word.fetch_or(bit, Ordering::Release);
                }
            }
            None => self.is_any.store(true, Ordering::Release),
        }
    }

    /// Whether a value may be in a text.
    pub(super) fn may_match(&self, text: &[u8]) -> bool {
        self.is_any.load(Ordering::Acquire)
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

/// A value that is looked for.
pub(super) struct Needle {
    /// The value, decoded.
    value: Box<[u8]>,
    /// Where its anchor begins.
    anchor_at: usize,
    /// `None` for a value without any letter or digit, which is looked for everywhere.
    anchor: Option<Finder<'static>>,
}

impl Needle {
    /// `None` for a value that is too short to be looked for.
    pub(super) fn new(value: &str) -> Option<Self> {
        let value = value.trim();
        if value.len() < MASKED_BYTES_MIN {
            return None;
        }
        let decoded = decoded(value.as_bytes());
        // What is short once it is decoded is looked for as it was set.
        let value =
            if decoded.len() < MASKED_BYTES_MIN { value.as_bytes().to_vec() } else { decoded };
        let anchor = anchor(&value);
        let run = value.get(anchor.clone()).filter(|run| !run.is_empty());
        Some(Self {
            anchor: run.map(|run| Finder::new(run).into_owned()),
            anchor_at: anchor.start,
            value: value.into(),
        })
    }

    /// Where the value, or a piece of it, stands.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| self.find_anchor(rest)) {
            let at = from.saturating_add(at);
            found.extend(self.around(text, at));
            from = at.saturating_add(1);
        }
        found
    }

    /// What [`Grams`] look for; `None` if the value has no anchor of that length.
    pub(super) fn gram(&self) -> Option<[u8; GRAM_BYTES]> {
        self.anchor.as_ref()?.needle().first_chunk().copied()
    }

    fn find_anchor(&self, text: &[u8]) -> Option<usize> {
        let Some(anchor) = &self.anchor else {
            let first = *self.value.first()?;
            let begins = |at: &usize| text.get(*at..).and_then(|rest| unit(rest, first)).is_some();
            return (0..text.len()).find(begins);
        };
        anchor.find(text)
    }

    /// How far the text around an anchor agrees with the value, if that is far enough.
    fn around(&self, text: &[u8], anchor: usize) -> Option<Range<usize>> {
        let (before, behind) = self.value.split_at_checked(self.anchor_at)?;
        let mut agreed = 0_usize;
        let mut start = anchor;
        for expected in before.iter().rev() {
            let Some(len) = unit_before(text.get(..start)?, *expected) else { break };
            start = start.saturating_sub(len);
            agreed = agreed.saturating_add(1);
        }
        let mut end = anchor;
        for expected in behind {
            let Some(len) = unit(text.get(end..)?, *expected) else { break };
            end = end.saturating_add(len);
            agreed = agreed.saturating_add(1);
        }
        if agreed < self.value.len().min(PIECE_BYTES_MIN) {
            return None;
        }
        let range = whole_characters(text, behind_escape(text, start)..end);
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

/// The first run that is long enough to be searched for, or else the longest; empty if there is none.
fn anchor(value: &[u8]) -> Range<usize> {
    let stays = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let mut best = 0..0;
    let mut at = 0_usize;
    for run in value.chunk_by(|one, other| stays(one) == stays(other)) {
        let end = at.saturating_add(run.len());
        if run.first().is_some_and(stays) && best.len() < run.len() {
            best = at..end.min(at.saturating_add(ANCHOR_BYTES));
            if run.len() >= ANCHOR_BYTES {
                break;
            }
        }
        at = end;
    }
    best
}

/// Decodes percent-encoding until there is none left.
fn decoded(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    loop {
        let mut once = Vec::with_capacity(value.len());
        let mut rest = value.as_slice();
        while let [first, behind @ ..] = rest {
            let (byte, behind) = escape(rest).unwrap_or((*first, behind));
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

/// Reads one `%XX`, and what is behind it.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'%', behind @ ..] => pair(behind),
        _ => None,
    }
}

/// Reads two hexadecimal digits, and what is behind them.
fn pair(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = text.split_at_checked(2)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    is_hex.then_some((byte, behind))
}

/// How many bytes at the beginning of a text stand for this character, if they do.
fn unit(text: &[u8], expected: u8) -> Option<usize> {
    let first = text.first()?;
    let escaped = match first {
        b'%' => percent(text, expected),
        b'\\' => backslash(text, expected),
        b'&' => entity(text, expected),
        _ => None,
    };
    escaped.or_else(|| (*first == expected).then_some(1))
}

/// How many bytes at the end of a text stand for this character, if they do.
fn unit_before(text: &[u8], expected: u8) -> Option<usize> {
    (1..=UNIT_BYTES_MAX.min(text.len())).rev().find(|len| {
        let tail = text.len().checked_sub(*len).and_then(|at| text.get(at..));
        tail.is_some_and(|tail| unit(tail, expected) == Some(*len))
    })
}

/// `%3A`, `%253A`, `%25253A`.
fn percent(text: &[u8], expected: u8) -> Option<usize> {
    let (mut byte, mut behind) = escape(text)?;
    while byte != expected {
        if byte != b'%' {
            return None;
        }
        (byte, behind) = pair(behind)?;
    }
    text.len().checked_sub(behind.len())
}

/// `\"`, `\/`, `\\`, `\u003a`, and the same with the backslash escaped again.
fn backslash(text: &[u8], expected: u8) -> Option<usize> {
    let run = text.iter().take_while(|byte| **byte == b'\\').count();
    if expected == b'\\' {
        // A last backslash of an odd number escapes what follows.
        return Some(if run > 1 { run & !1 } else { run });
    }
    let behind = text.get(run..)?;
    let len = match behind {
        [b'u', code @ ..] => {
            let (high, rest) = pair(code)?;
            let (low, _behind) = pair(rest)?;
            (high == 0 && low == expected).then_some(5)?
        }
        [byte @ (b'"' | b'/' | b'\''), ..] if *byte == expected => 1,
        _ => return None,
    };
    run.checked_add(len)
}

/// `&amp;`, `&#39;`, `&#x27;`.
fn entity(text: &[u8], expected: u8) -> Option<usize> {
    let text = text.get(..UNIT_BYTES_MAX.min(text.len()))?;
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

/// Where to begin so that no escape of JSON is torn: `\n` followed by the rest of a value is a line
/// break, and `\*` would be no JSON.
fn behind_escape(text: &[u8], start: usize) -> usize {
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

/// A range without the pieces of characters at its ends.
fn whole_characters(text: &[u8], range: Range<usize>) -> Range<usize> {
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
