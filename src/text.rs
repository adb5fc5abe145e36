//! Escaping of untrusted text, and suggestions for misspelled words. Pure.
//!
//! A seller, a rival or a proxy can put anything into a name: escape sequences that repaint a
//! terminal, characters that reverse the reading direction, line breaks that forge a log line.
//! [`Escaped`] prints such text as plain characters, and without credentials that a server may have
//! put into it.

use std::{borrow::Cow, fmt};

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::secret;

/// Maximum length of escaped text, in characters of the input.
const ESCAPED_CHARS_MAX: usize = 200;

/// Length of the prefix that is masked before it is cut, in bytes: the part that is shown, and a
/// credential that begins at its end.
const MASK_SCAN_BYTES_MAX: usize = 32 * 1024;

/// Minimum similarity (Jaro-Winkler) of a suggested word.
const SIMILARITY_MIN: f64 = 0.8;

/// Displays untrusted text with its dangerous characters escaped, cut at [`ESCAPED_CHARS_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        // Masked before it is cut: a cut credential might not be found any more.
        let masked = secret::mask(truncated(self.0, MASK_SCAN_BYTES_MAX));
        for (count, char) in masked.chars().enumerate() {
            if count == ESCAPED_CHARS_MAX {
                return f.write_str("…");
            }
            match char {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                safe if is_safe_to_print(safe) => f.write_char(safe)?,
                other => write!(f, "\\u{{{:x}}}", u32::from(other))?,
            }
        }
        Ok(())
    }
}

/// Returns the longest prefix of whole characters with at most this many bytes.
pub fn truncated(text: &str, bytes_max: usize) -> &str {
    (0..=bytes_max.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// Returns `true` for a character that only draws itself: no control character, no bidirectional
/// override, no zero-width character, no line or paragraph separator, no private use or tag
/// character.
pub fn is_safe_to_print(char: char) -> bool {
    !char.is_control()
        && !matches!(
            char,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{e000}'..='\u{f8ff}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{10ffff}'
        )
}

/// Returns a name in Unicode's composed form (NFC), in which names that look the same are equal.
/// Characters below U+0300, where the combining characters begin, and the marks of item names have
/// no other form.
pub fn composed(name: &str) -> Cow<'_, str> {
    if name.chars().all(|char| char < '\u{300}' || matches!(char, '™' | '★')) {
        return Cow::Borrowed(name);
    }
    ComposingNormalizerBorrowed::new_nfc().normalize(name)
}

/// Returns the most similar known word, if one is similar enough.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    // The comparison is quadratic in the length, and no key is this long.
    let word: String = plain(word).chars().take(64).collect();
    let similarity = |known: &&&str| strsim::jaro_winkler(&word, &plain(known));
    known
        .iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|best| similarity(best) >= SIMILARITY_MIN)
        .copied()
}

/// Joins an error and its sources into one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// Returns `true` if a value is enclosed in quotation marks. A comment may follow, because
/// `docker --env-file` keeps comments, too.
pub fn is_quoted(value: &str) -> bool {
    let value = value.trim();
    ['\'', '"'].into_iter().any(|quote| {
        let behind = value.strip_prefix(quote).and_then(|rest| rest.rsplit_once(quote));
        behind.is_some_and(|(_inside, behind)| {
            behind.is_empty() || behind.starts_with([' ', '\t']) && behind.trim().starts_with('#')
        })
    })
}

/// Returns a count with its noun: `1 entry`, `2 entries`.
pub fn counted<N>(count: N, one: &str, many: &str) -> String
where
    N: fmt::Display + PartialEq + From<u8>,
{
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(Escaped(text).to_string(), expected);
    }

    #[test]
    fn ordinary_names_are_shown_unchanged() {
        check(
            "★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)",
            "★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)",
        );
        check("M4A4 | 龍王 (Dragon King)", "M4A4 | 龍王 (Dragon King)");
    }

    #[test]
    fn names_without_combining_characters_are_in_composed_form() {
        let text: String = ('\0'..'\u{300}').chain(['™', '★']).collect();
        let pairs = format!("{text}{}", text.chars().rev().collect::<String>());
        assert_eq!(composed(&pairs), ComposingNormalizerBorrowed::new_nfc().normalize(&pairs));
        assert!(matches!(composed(&pairs), Cow::Borrowed(_)));
        assert_eq!(composed("Gru\u{308}n"), "Grün");
    }

    #[test]
    fn terminal_escapes_and_line_breaks_become_text() {
        check("a\u{1b}[2Jb", "a\\u{1b}[2Jb");
        check("a\nINFO forged", "a\\u{a}INFO forged");
        check("\u{202e}drawkcab", "\\u{202e}drawkcab");
        check("zero\u{200b}width", "zero\\u{200b}width");
        check("\"quoted\"\\", "\\\"quoted\\\"\\\\");
    }

    #[test]
    fn a_credential_at_the_cut_is_not_shown_in_part() {
        secret::register("session-of-the-test-of-escaped");
        for padding in 180..ESCAPED_CHARS_MAX {
            let text = format!("{}session-of-the-test-of-escaped", "ä".repeat(padding));
            let escaped = Escaped(&text).to_string();
            assert!(!escaped.contains("ses"), "{escaped}");
            assert_eq!(escaped.chars().count(), ESCAPED_CHARS_MAX + usize::from(padding > 170));
        }
    }

    #[test]
    fn a_truncated_text_ends_with_a_whole_character() {
        assert_eq!(truncated("aäb", 2), "a");
        assert_eq!(truncated("aäb", 3), "aä");
        assert_eq!(truncated("aäb", 99), "aäb");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(Escaped(&"x".repeat(1_000)).to_string().chars().count(), ESCAPED_CHARS_MAX + 1);
    }

    #[test]
    fn a_misspelled_key_is_matched() {
        let known = ["max_price", "min_price", "max_quantity", "float_min"];
        assert_eq!(nearest("max_pric", &known), Some("max_price"));
        assert_eq!(nearest("Max-Price", &known), Some("max_price"));
        assert_eq!(nearest("flaot_min", &known), Some("float_min"));
        assert_eq!(nearest("zebra", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    proptest! {
        #[test]
        fn escaped_text_is_safe_to_print_and_bounded(text in any::<String>()) {
            let escaped = Escaped(&text).to_string();
            prop_assert!(escaped.chars().all(is_safe_to_print));
            prop_assert!(escaped.chars().count() <= ESCAPED_CHARS_MAX * 10 + 1);
        }
    }
}
