//! Id of a listing. Pure.
//!
//! An id is text, or a number, which is stored as its digits. Text is often base64 of `Trade:` and
//! a number, which has several spellings: with and without padding, in either base64 alphabet,
//! percent-encoded, and with other values in the bits that a decoder drops. All spellings of one id
//! compare equal, so that no second order is sent for a listing that arrives in another spelling.
//! [`TradeId::as_str`] is the received spelling, which is sent and stored.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

/// Maximum length of an id, in bytes. Recorded ones have 20.
pub const TRADE_ID_BYTES_MAX: usize = 62;

/// Number of digits of the largest number.
const NUMBER_DIGITS_MAX: usize = 20;

/// Flag of an id that contains a character that is not allowed.
const FORBIDDEN: u8 = 1 << 0;
/// Flag of an id that contains a character that the normal form does not have.
const NOT_NORMAL: u8 = 1 << 1;

/// Base64 of `Trade:`, whose six bytes are two complete groups, so the prefix is independent of the
/// number.
const TRADE_PREFIX: &[u8] = b"VHJhZGU6";

/// Opaque id of a listing, compared by its [normal form](self) and case-sensitive.
///
/// Stored inline, so that copies do not allocate.
#[derive(Clone, Copy)]
pub struct TradeId {
    len: u8,
    /// `true` if the spelling is the normal form, which is the case for nearly all ids.
    is_normal: bool,
    bytes: [u8; TRADE_ID_BYTES_MAX],
}

impl TradeId {
    /// Placeholder that is not the id of any listing.
    pub(crate) const FILLER: Self =
        Self { len: 0, is_normal: true, bytes: [0; TRADE_ID_BYTES_MAX] };

    /// Creates an id from 1 to [`TRADE_ID_BYTES_MAX`] printable ASCII characters without quotes,
    /// backslashes and spaces, so that it needs no escaping in a JSON string.
    pub fn new(text: &str) -> Option<Self> {
        // Without an early exit, so that the loop is vectorized.
        let flags = text.bytes().fold(0_u8, |flags, byte| {
            flags | u8::from(is_forbidden(byte)) | (u8::from(is_not_normal(byte)) << 1)
        });
        if text.is_empty() || flags & FORBIDDEN != 0 {
            return None;
        }
        let len = u8::try_from(text.len()).ok()?;
        let mut bytes = [0; TRADE_ID_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        let is_normal = flags & NOT_NORMAL == 0 && !has_dropped_bits(text.as_bytes());
        Some(Self { len, is_normal, bytes })
    }

    /// Creates an id from a number, for markets whose ids are numbers: its decimal digits, as in
    /// their messages. Does not allocate.
    pub fn from_number(number: u64) -> Self {
        let (mut digits, mut rest) = ([b'0'; NUMBER_DIGITS_MAX], number);
        for digit in digits.iter_mut().rev() {
            *digit = digit.wrapping_add(u8::try_from(rest % 10).unwrap_or_default());
            rest /= 10;
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let digits = digits.get(zeros.min(NUMBER_DIGITS_MAX - 1)..).unwrap_or_default();
        let mut bytes = [0; TRADE_ID_BYTES_MAX];
        if let Some(target) = bytes.get_mut(..digits.len()) {
            target.copy_from_slice(digits);
        }
        Self { len: u8::try_from(digits.len()).unwrap_or_default(), is_normal: true, bytes }
    }

    /// Returns the received spelling.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.spelling()).unwrap_or_default()
    }

    fn spelling(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Returns the normal form, which is the same for all spellings of this id.
    fn normal(&self) -> NormalForm {
        if self.is_normal {
            return NormalForm { len: usize::from(self.len), bytes: self.bytes };
        }
        let mut normal = NormalForm { len: usize::from(self.len), bytes: self.bytes };
        while normal.decode_percent() {}
        normal.strip_padding();
        for byte in &mut normal.bytes {
            match byte {
                b'-' => *byte = b'+',
                b'_' => *byte = b'/',
                _ => {}
            }
        }
        normal.clear_dropped_bits();
        normal
    }
}

/// Normal form of an id: no percent-encoding, no padding, the standard alphabet, and zero in the
/// bits that a decoder drops. The bytes after `len` are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct NormalForm {
    len: usize,
    bytes: [u8; TRADE_ID_BYTES_MAX],
}

impl NormalForm {
    fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Decodes each `%XX` of an allowed character once. Returns `true` if it decoded any. Each one
    /// makes the text shorter, so a loop of calls ends.
    fn decode_percent(&mut self) -> bool {
        let (mut decoded, mut len) = ([0; TRADE_ID_BYTES_MAX], 0_usize);
        let mut rest = self.text();
        let before = rest.len();
        while let [byte, behind @ ..] = rest {
            let escaped = match rest {
                [b'%', high, low, behind @ ..] => {
                    hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, behind))
                }
                _ => None,
            };
            let escaped = escaped.filter(|(byte, _)| !is_forbidden(*byte));
            let (byte, behind) = escaped.unwrap_or((*byte, behind));
            if let Some(place) = decoded.get_mut(len) {
                *place = byte;
            }
            len = len.saturating_add(1);
            rest = behind;
        }
        *self = Self { len, bytes: decoded };
        len < before
    }

    /// Removes trailing `=`, unless the text consists of nothing else.
    fn strip_padding(&mut self) {
        let kept = self.text().iter().rposition(|byte| *byte != b'=');
        let Some(last) = kept else { return };
        self.len = last.saturating_add(1);
        if let Some(padding) = self.bytes.get_mut(self.len..) {
            padding.fill(0);
        }
    }

    fn clear_dropped_bits(&mut self) {
        let Some(last) = self.len.checked_sub(1) else { return };
        let dropped = dropped_bits(self.text());
        let Some(place) = self.bytes.get_mut(last) else { return };
        if let Some(cleared) = sextet(*place).and_then(|value| base64_char(value & !dropped)) {
            *place = cleared;
        }
    }
}

/// Returns `true` for a character that is not allowed in an id.
const fn is_forbidden(byte: u8) -> bool {
    !byte.is_ascii_graphic() | (byte == b'"') | (byte == b'\\')
}

/// Returns `true` for a character that does not occur in the normal form.
const fn is_not_normal(byte: u8) -> bool {
    (byte == b'=') | (byte == b'-') | (byte == b'_') | (byte == b'%')
}

/// Returns the bits of the last character that a base64 decoder drops. Zero for an id without the
/// known prefix, which may not be base64.
fn dropped_bits(text: &[u8]) -> u8 {
    match (text.starts_with(TRADE_PREFIX), text.len() % 4) {
        (true, 2) => 0b1111,
        (true, 3) => 0b11,
        _ => 0,
    }
}

/// Returns `true` if a bit is set that a decoder drops.
fn has_dropped_bits(text: &[u8]) -> bool {
    let dropped = dropped_bits(text);
    dropped != 0
        && text.last().and_then(|last| sextet(*last)).is_some_and(|bits| bits & dropped != 0)
}

/// Returns the value of a base64 character.
const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(byte.wrapping_sub(b'a').wrapping_add(26)),
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0').wrapping_add(52)),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Returns the base64 character of a value.
const fn base64_char(sextet: u8) -> Option<u8> {
    match sextet {
        0..=25 => Some(b'A'.wrapping_add(sextet)),
        26..=51 => Some(b'a'.wrapping_add(sextet).wrapping_sub(26)),
        52..=61 => Some(b'0'.wrapping_add(sextet).wrapping_sub(52)),
        62 => Some(b'+'),
        63 => Some(b'/'),
        _ => None,
    }
}

/// Returns the value of a hexadecimal digit.
const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

impl PartialEq for TradeId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        if self.bytes == other.bytes {
            return true;
        }
        !(self.is_normal && other.is_normal) && self.normal() == other.normal()
    }
}

impl Eq for TradeId {}

impl PartialOrd for TradeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TradeId {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_normal && other.is_normal {
            return self.len.cmp(&other.len).then_with(|| self.bytes.cmp(&other.bytes));
        }
        self.normal().cmp(&other.normal())
    }
}

/// Hashes only the used bytes of the normal form, a third of the buffer.
impl Hash for TradeId {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.is_normal {
            state.write(self.spelling());
        } else {
            state.write(self.normal().text());
        }
        // Terminates the bytes, as the hash of `str` does, so that no two ids hash the same bytes.
        state.write_u8(0xff);
    }
}

impl fmt::Debug for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TradeId({self})")
    }
}

impl fmt::Display for TradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> TradeId {
        TradeId::new(text).unwrap()
    }

    /// Equal ids must have the same order and hash, or a map would contain one listing twice.
    #[track_caller]
    fn check(one: &str, other: &str, are_equal: bool) {
        let hasher = RandomState::new();
        let hash = |text| hasher.hash_one(id(text));
        assert_eq!(id(one) == id(other), are_equal, "{one} {other}");
        assert_eq!(id(one).cmp(&id(other)) == Ordering::Equal, are_equal, "{one} {other}");
        assert_eq!(hash(one) == hash(other), are_equal, "{one} {other}");
    }

    #[test]
    fn all_spellings_of_an_id_are_equal() {
        for spelling in [
            "VHJhZGU6MQ",
            "VHJhZGU6MQ==",
            "VHJhZGU6MQ=",
            "VHJhZGU6MR",
            "VHJhZGU6Mf==",
            "VHJhZGU6MQ%3D%3D",
            "VHJhZGU6MQ%3d%3D",
            "VHJhZGU6MQ%253D%253D",
            "%56HJhZGU6MQ",
        ] {
            check("VHJhZGU6MQ==", spelling, true);
            assert_eq!(id(spelling).as_str(), spelling);
        }
        check("ab-cd_ef", "ab+cd/ef", true);
        check("ab%2Bcd%2Fef=", "ab-cd_ef", true);
    }

    #[test]
    fn different_ids_stay_different() {
        check("VHJhZGU6MQ", "VHJhZGU6Mg", false);
        check("VHJhZGU6MQ", "vHJhZGU6MQ", false);
        check("VHJhZGU6MTA", "VHJhZGU6MQ", false);
        check("VHJhZGU6MTI", "VHJhZGU6MTM", false);
        // Without the prefix every character is significant.
        check("t1", "t2", false);
        check("=", "==", false);
        check("%", "%25", true);
    }

    fn base64(bytes: &[u8]) -> String {
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..=group.len() {
                let six = u8::try_from(bits >> (18 - 6 * place) & 0x3f).unwrap();
                text.push(char::from(base64_char(six).unwrap()));
            }
        }
        text
    }

    /// Returns another spelling of an id, chosen by `noise`.
    fn respell(text: &str, noise: u64) -> String {
        let mut text = text.to_owned();
        let dropped = dropped_bits(text.as_bytes());
        if let Some(bits) = text.bytes().last().and_then(sextet) {
            let other = base64_char(bits | (u8::try_from(noise & 0xf).unwrap() & dropped)).unwrap();
            text.pop();
            text.push(char::from(other));
        }
        for _ in 0..(noise >> 4 & 3) {
            text.push('=');
        }
        if noise >> 6 & 1 == 1 {
            text = text.replace('+', "-").replace('/', "_");
        }
        let escapes = noise >> 7 & 3;
        for _ in 0..escapes {
            let last = text.bytes().last().unwrap();
            text.pop();
            text.push_str(&format!("%{last:02x}"));
        }
        text
    }

    proptest! {
        #[test]
        fn a_number_is_the_id_of_its_digits(number: u64, digits in 0_u32..20) {
            for number in [number, number % 10_u64.pow(digits), u64::MAX] {
                let (found, digits) = (TradeId::from_number(number), number.to_string());
                prop_assert_eq!((found, found.as_str()), (id(&digits), digits.as_str()));
            }
        }

        #[test]
        fn every_spelling_of_a_number_is_one_id(number in 0_u64..10_000_000_000_000, one: u64, other: u64) {
            let plain = base64(format!("Trade:{number}").as_bytes());
            check(&respell(&plain, one), &respell(&plain, other), true);
            check(&respell(&plain, one), &plain, true);
        }

        #[test]
        fn different_numbers_are_different_ids_however_they_are_spelled(
            a in 0_u64..1_000_000, b in 0_u64..1_000_000, one: u64, other: u64,
        ) {
            let spelled = |number: u64, noise| respell(&base64(format!("Trade:{number}").as_bytes()), noise);
            check(&spelled(a, one), &spelled(b, other), a == b);
        }

        /// Normalization is idempotent, and `is_normal` is correct.
        #[test]
        fn normal_forms_are_stable(text in "[!#-\\[\\]-~]{1,62}") {
            let spelled = id(&text);
            let normal = spelled.normal();
            let again = id(str::from_utf8(normal.text()).unwrap());
            prop_assert!(again.normal() == normal, "{text}");
            prop_assert_eq!(again, spelled);
            prop_assert!(!spelled.is_normal || normal.text() == text.as_bytes());
        }

        #[test]
        fn ids_are_ordered_totally(a in "[A-Za-z0-9=%_+-]{1,9}", b in "[A-Za-z0-9=%_+-]{1,9}", c in "[A-Za-z0-9=%_+-]{1,9}") {
            let (a, b, c) = (id(&a), id(&b), id(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(!(a <= b && b <= c) || a <= c);
            prop_assert_eq!(a == b, a.cmp(&b) == Ordering::Equal);
        }
    }
}
