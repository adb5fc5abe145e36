//! One line of a recording: `{"ns":1772359200120000000,"conn":1,"raw":"…"}`. Pure.
//!
//! `ns` is when the message was received, by our wall clock, in nanoseconds since 1970; `conn` the
//! number of the connection that it came over, counted from 1; `raw` the message itself, as a
//! string, so that every byte of it comes back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine<'a> {
    /// When it was received, in nanoseconds since 1970.
    pub ns: u64,
    /// Over which connection, counted from 1.
    pub conn: u32,
    /// What was received.
    #[serde(borrow)]
    pub raw: Cow<'a, str>,
}

impl RecordLine<'_> {
    /// Appends it to a text, with its line break.
    pub fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        match serde_json::to_writer(&mut *to, self) {
            Ok(()) => to.push(b'\n'),
            // A vector takes everything, and these fields always have a form.
            Err(_impossible) => to.truncate(start),
        }
    }
}

impl<'a> RecordLine<'a> {
    /// Reads one line; `None` if it is none, as the last one may be after a crash.
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_what_the_documentation_says() {
        let mut text = Vec::new();
        RecordLine { ns: 17, conn: 2, raw: Cow::Borrowed(r#"{"a":"b\n"}"#) }.write(&mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            concat!(r#"{"ns":17,"conn":2,"raw":"{\"a\":\"b\\n\"}"}"#, "\n")
        );
    }

    #[test]
    fn a_torn_line_is_no_line() {
        let whole = r#"{"ns":17,"conn":2,"raw":"x"}"#;
        assert!(RecordLine::read(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(RecordLine::read(&whole[..end]), None, "{end}");
        }
    }

    proptest! {
        /// Line breaks, quotes, controls: whatever came in comes out, and stands on one line.
        #[test]
        fn every_message_comes_back_exactly(ns: u64, conn: u32, raw in any::<String>()) {
            let mut text = Vec::new();
            let line = RecordLine { ns, conn, raw: Cow::Owned(raw) };
            line.write(&mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(RecordLine::read(&text), Some(line));
        }
    }
}
