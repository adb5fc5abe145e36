//! One line of a recording: `{"ns":1772359200120000000,"conn":1,"raw":"…"}`. Pure.
//!
//! `ns` is the time of receipt by the local wall clock, in nanoseconds since 1970; `conn` is the
//! number of the connection, counted from 1; `raw` is the message as a string, which preserves
//! every byte.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine<'a> {
    /// Time of receipt, in nanoseconds since 1970.
    pub ns: u64,
    /// Number of the connection, counted from 1.
    pub conn: u32,
    #[serde(borrow)]
    pub raw: Cow<'a, str>,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_the_documented_format() {
        let mut text = Vec::new();
        RecordLine { ns: 17, conn: 2, raw: Cow::Borrowed(r#"{"a":"b\n"}"#) }.write(&mut text);
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
            let line = RecordLine { ns, conn, raw: Cow::Owned(raw) };
            line.write(&mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(RecordLine::read(&text), Some(line));
        }
    }
}
