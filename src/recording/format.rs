//! The lines of a recording and the names of its files. Pure.
//!
//! A line is `{"ns":1772359200120000000,"conn":1,"raw":"…"}`: `ns` is the time of receipt by the
//! local wall clock, in nanoseconds since 1970; `conn` is the number of the connection, counted
//! from 1; `"more":true` says that the next message of the connection arrived in the same read;
//! `raw` is the message as a string, which preserves every byte.
//!
//! External names are reduced to a few safe characters, so that no name leads out of the session's
//! directory.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::time::UnixMs;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine<'a> {
    /// Time of receipt, in nanoseconds since 1970.
    pub ns: u64,
    /// Number of the connection, counted from 1.
    pub conn: u32,
    /// `true` if the next message of the connection arrived in the same read.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    #[serde(borrow)]
    pub raw: Cow<'a, str>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl RecordLine<'_> {
    /// Appends the line with its line break.
    pub fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        match serde_json::to_writer(&mut *to, self) {
            Ok(()) => to.push(b'\n'),
            // A vector accepts all bytes, and these fields can always be serialized.
            Err(_impossible) => to.truncate(start),
        }
    }
}

impl<'a> RecordLine<'a> {
    /// Parses one line; `None` if it is malformed, as the last line may be after a crash.
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Maximum length of a symbol's or stream's name.
pub const NAME_CHARS_MAX: usize = 64;
/// File extension of a plain stream.
pub const PLAIN_EXTENSION: &str = "jsonl";
/// File extension of a compressed stream.
pub const COMPRESSED_EXTENSION: &str = "jsonl.zst";

/// Converts a text to a safe name of a file or directory: letters, digits, `-`, `_` and inner dots;
/// every other character becomes `_`.
pub fn sanitize_file_name(text: &str) -> String {
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

/// Returns the name of a session by its start time: `2026-03-01T10-00-00Z`, with `-2`, `-3` … for
/// later attempts.
pub fn session_name(started: UnixMs, attempt: u32) -> String {
    let time = started.to_string().replace(':', "-");
    let seconds = time.split('.').next().unwrap_or_default();
    match attempt {
        0 | 1 => format!("{seconds}Z"),
        attempt => format!("{seconds}Z-{attempt}"),
    }
}

/// Returns the file name of a stream's part, counted from 1: `bookTicker.jsonl`, then
/// `bookTicker.2.jsonl`.
pub fn part_file_name(stream: &str, part: u32, is_compressed: bool) -> String {
    let end = if is_compressed { COMPRESSED_EXTENSION } else { PLAIN_EXTENSION };
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
    fn a_line_has_the_documented_format() {
        let mut text = Vec::new();
        RecordLine { ns: 17, conn: 2, more: false, raw: Cow::Borrowed(r#"{"a":"b\n"}"#) }
            .write(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            concat!(r#"{"ns":17,"conn":2,"raw":"{\"a\":\"b\\n\"}"}"#, "\n")
        );
    }

    #[test]
    fn a_torn_line_is_not_parsed() {
        let whole = r#"{"ns":17,"conn":2,"raw":"x"}"#;
        assert!(RecordLine::read(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(RecordLine::read(&whole[..end]), None, "{end}");
        }
    }

    proptest! {
        /// Line breaks, quotes and control characters are preserved, and the line stays a single
        /// one.
        #[test]
        fn every_message_is_preserved(ns: u64, conn: u32, raw in any::<String>()) {
            let mut text = Vec::new();
            let line = RecordLine { ns, conn, more: ns % 2 == 0, raw: Cow::Owned(raw) };
            line.write(&mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(RecordLine::read(&text), Some(line));
        }
    }

    #[test]
    fn ordinary_names_are_unchanged() {
        for name in ["BTCUSDT", "bookTicker", "depth", "router.csgoroll.com", "1000PEPE-USDT"] {
            assert_eq!(sanitize_file_name(name), name);
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
            assert_eq!(sanitize_file_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn sessions_of_the_same_second_have_different_names() {
        let started = UnixMs::parse("2026-03-01T10:00:00.120Z").unwrap();
        assert_eq!(session_name(started, 1), "2026-03-01T10-00-00Z");
        assert_eq!(session_name(started, 2), "2026-03-01T10-00-00Z-2");
    }

    #[test]
    fn the_first_part_has_the_plain_name() {
        assert_eq!(part_file_name("depth", 1, false), "depth.jsonl");
        assert_eq!(part_file_name("depth", 2, true), "depth.2.jsonl.zst");
    }

    proptest! {
        #[test]
        fn a_sanitized_name_is_one_path_component(text in any::<String>()) {
            let name = sanitize_file_name(&text);
            prop_assert!(!name.is_empty() && name.len() <= NAME_CHARS_MAX + 1);
            prop_assert!(!name.starts_with('.') && !name.ends_with('.'));
            prop_assert!(!name.contains(['/', '\\', ':', '\0']));
        }
    }
}
