//! Text from the market, made fit to be shown.
//!
//! A seller, a rival or a proxy may put anything into a name: escape sequences that repaint a
//! terminal, characters that reverse the reading direction, line breaks that forge a log line.
//! [`Escaped`] prints such text so that it can only be text, and without the credentials that a site
//! may have put into it. Beside it, what a person may have meant
//! who wrote [`nearest`] to a word that is known.

use std::fmt;

use crate::secret;

/// The longest piece of foreign text that is shown, in characters.
pub const SHOWN_CHARS_MAX: usize = 200;

/// How much of a text is searched for credentials before it is cut, in bytes: what is shown, and a
/// credential that begins at its end.
const SEARCHED_BYTES_MAX: usize = 32 * 1024;

/// How alike two words must be for one to be suggested for the other, by Jaro and Winkler.
const ALIKE_MIN: f64 = 0.8;

/// Shows foreign text with its dangerous characters escaped, and cut at [`SHOWN_CHARS_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        // Before it is cut: a cut credential might not be found any more.
        let masked = secret::mask(beginning(self.0, SEARCHED_BYTES_MAX));
        for (count, char) in masked.chars().enumerate() {
            if count == SHOWN_CHARS_MAX {
                return f.write_str("…");
            }
            match char {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                harmless if is_harmless(harmless) => f.write_char(harmless)?,
                other => write!(f, "\\u{{{:x}}}", u32::from(other))?,
            }
        }
        Ok(())
    }
}

/// The beginning of a text, in whole characters and at most this many bytes.
pub fn beginning(text: &str, bytes_max: usize) -> &str {
    (0..=bytes_max.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// Whether a character only ever draws itself: no control, no bidirectional override, nothing of
/// no width, no line or paragraph separator, no private use or tag character.
pub fn is_harmless(char: char) -> bool {
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

/// The known word that this one is most like, if it is like any.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    // Comparing is quadratic in the length, and no key is this long.
    let word: String = plain(word).chars().take(64).collect();
    let alike = |known: &&&str| strsim::jaro_winkler(&word, &plain(known));
    known
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|best| alike(best) >= ALIKE_MIN)
        .copied()
}

/// An error with everything that led to it, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
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
    fn names_are_shown_as_they_are() {
        check(
            "★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)",
            "★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)",
        );
        check("M4A4 | 龍王 (Dragon King)", "M4A4 | 龍王 (Dragon King)");
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
    fn a_credential_that_the_cut_would_split_is_not_shown_in_part() {
        secret::remember("session-of-the-test-of-escaped");
        for padding in 180..SHOWN_CHARS_MAX {
            let text = format!("{}session-of-the-test-of-escaped", "ä".repeat(padding));
            let shown = Escaped(&text).to_string();
            assert!(!shown.contains("ses"), "{shown}");
            assert_eq!(shown.chars().count(), SHOWN_CHARS_MAX + usize::from(padding > 170));
        }
    }

    #[test]
    fn the_beginning_of_a_text_ends_with_a_whole_character() {
        assert_eq!(beginning("aäb", 2), "a");
        assert_eq!(beginning("aäb", 3), "aä");
        assert_eq!(beginning("aäb", 99), "aäb");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(Escaped(&"x".repeat(1_000)).to_string().chars().count(), SHOWN_CHARS_MAX + 1);
    }

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known = ["max_price", "min_price", "max_quantity", "float_min"];
        assert_eq!(nearest("max_pric", &known), Some("max_price"));
        assert_eq!(nearest("Max-Price", &known), Some("max_price"));
        assert_eq!(nearest("flaot_min", &known), Some("float_min"));
        assert_eq!(nearest("zebra", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    proptest! {
        #[test]
        fn shown_text_is_harmless_and_bounded(text in any::<String>()) {
            let shown = Escaped(&text).to_string();
            prop_assert!(shown.chars().all(is_harmless));
            prop_assert!(shown.chars().count() <= SHOWN_CHARS_MAX * 10 + 1);
        }
    }
}
