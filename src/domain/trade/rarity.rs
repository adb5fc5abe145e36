//! Rarity of an item, in the market's own word.

use std::fmt;

/// Maximum length of a word, in bytes.
const WORD_BYTES_MAX: usize = 24;

/// Rarity in the market's own word, in lower case, such as `covert`. Stored without allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RarityWord([u8; WORD_BYTES_MAX]);

impl RarityWord {
    /// Reads a word of ASCII letters, digits, spaces, `-` and `_`. Returns `None` for other text.
    #[inline]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_');
        if text.is_empty() || !text.bytes().all(is_plain) {
            return None;
        }
        let mut word = [0; WORD_BYTES_MAX];
        word.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        word.make_ascii_lowercase();
        Some(Self(word))
    }

    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(WORD_BYTES_MAX);
        self.0.get(..length).and_then(|word| str::from_utf8(word).ok()).unwrap_or_default()
    }
}

impl fmt::Display for RarityWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RarityWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RarityWord({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_compared_in_any_case_and_shown_in_lower_case() {
        assert_eq!(RarityWord::new("Covert"), RarityWord::new("covert"));
        assert_eq!(RarityWord::new("Mil_Spec").unwrap().to_string(), "mil_spec");
        assert_eq!(RarityWord::new("a".repeat(24).as_str()).unwrap().as_str(), "a".repeat(24));
        for text in ["", "a\u{1b}[2J", "überragend", &"a".repeat(25)] {
            assert_eq!(RarityWord::new(text), None, "{text}");
        }
    }
}
