//! How sessions, streams and their parts are called. Pure.
//!
//! A name that comes from outside becomes a file only if it is made of a few harmless characters,
//! so that no name leads out of the session's directory.

use crate::domain::time::UnixMs;

/// The longest name of a symbol or stream.
pub const NAME_CHARS_MAX: usize = 64;
/// What a plain stream's file ends in.
pub const PLAIN: &str = "jsonl";
/// What a compressed stream's file ends in.
pub const COMPRESSED: &str = "jsonl.zst";

/// Makes a text fit to be the name of a file or directory: letters, digits, `-`, `_` and inner dots;
/// whatever else stands in it becomes `_`.
pub fn harmless(text: &str) -> String {
    let mut name: String = text
        .chars()
        .take(NAME_CHARS_MAX)
        .map(|char| match char {
            '-' | '.' => char,
            char if char.is_ascii_alphanumeric() => char,
            _ => '_',
        })
        .collect();
    let is_device = |stem: &str| {
        let stem = stem.to_ascii_uppercase();
        let numbered = |of: &str| {
            stem.strip_prefix(of).is_some_and(|rest| matches!(rest.as_bytes(), [b'1'..=b'9']))
        };
        matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
    };
    if name.starts_with('.') || is_device(name.split('.').next().unwrap_or("")) {
        name.insert(0, '_');
    }
    while name.ends_with('.') {
        name.pop();
    }
    if name.is_empty() { "_".to_owned() } else { name }
}

/// The name of a session that began then: `2026-03-01T10-00-00Z`, and `-2`, `-3` … where that is
/// taken.
pub fn session(began: UnixMs, attempt: u32) -> String {
    let moment = began.to_string().replace(':', "-");
    let seconds = moment.split('.').next().unwrap_or_default();
    match attempt {
        0 | 1 => format!("{seconds}Z"),
        attempt => format!("{seconds}Z-{attempt}"),
    }
}

/// The file of a stream's part, counted from 1: `bookTicker.jsonl`, then `bookTicker.2.jsonl`.
pub fn part(stream: &str, part: u32, is_compressed: bool) -> String {
    let end = if is_compressed { COMPRESSED } else { PLAIN };
    match part {
        0 | 1 => format!("{stream}.{end}"),
        part => format!("{stream}.{part}.{end}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in ["BTCUSDT", "bookTicker", "depth", "router.csgoroll.com", "1000PEPE-USDT"] {
            assert_eq!(harmless(name), name);
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory_or_to_a_device() {
        for (name, expected) in [
            ("..", "_"),
            ("../x", "_.._x"),
            (".hidden", "_.hidden"),
            ("a/b\\c", "a_b_c"),
            ("", "_"),
            ("nul", "_nul"),
            ("COM1.x", "_COM1.x"),
            ("COMP", "COMP"),
            ("a.", "a"),
            ("★", "_"),
        ] {
            assert_eq!(harmless(name), expected, "{name:?}");
        }
    }

    #[test]
    fn sessions_of_the_same_second_have_names_of_their_own() {
        let began = UnixMs::parse("2026-03-01T10:00:00.120Z").unwrap();
        assert_eq!(session(began, 1), "2026-03-01T10-00-00Z");
        assert_eq!(session(began, 2), "2026-03-01T10-00-00Z-2");
    }

    #[test]
    fn the_first_part_has_the_plain_name() {
        assert_eq!(part("depth", 1, false), "depth.jsonl");
        assert_eq!(part("depth", 2, true), "depth.2.jsonl.zst");
    }

    proptest! {
        #[test]
        fn a_harmless_name_is_one_plain_component(text in any::<String>()) {
            let name = harmless(&text);
            prop_assert!(!name.is_empty() && name.len() <= NAME_CHARS_MAX + 1);
            prop_assert!(!name.starts_with('.') && !name.ends_with('.'));
            prop_assert!(!name.contains(['/', '\\', ':', '\0']));
        }
    }
}
