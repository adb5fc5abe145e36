//! Splits a message into its objects, which are separated by line breaks or by nothing.

use memchr::{memchr2_iter, memchr3};

/// Splits the first object off a message. A line that is not one object is a part of its own, so
/// that it does not hide the objects behind it. The parts contain every character but the white
/// space around the objects.
#[inline]
pub(super) fn split_first(text: &str) -> (&str, Option<&str>) {
    if may_have_several(text.as_bytes()) { split_at_end(text) } else { (text, None) }
}

/// Returns `false` if a message certainly contains one object at most: it has no line break, and no
/// brace that opens behind a closed one or behind white space. Reads no further than the second
/// object.
#[inline]
pub(super) fn may_have_several(bytes: &[u8]) -> bool {
    memchr2_iter(b'\n', b'{', bytes).any(|at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        bytes.get(at) == Some(&b'\n')
            || before.is_some_and(|before| *before == b'}' || before.is_ascii_whitespace())
    })
}

#[cold]
fn split_at_end(text: &str) -> (&str, Option<&str>) {
    let text = text.trim_ascii_start();
    // An end is next to an ASCII character, so it is a boundary.
    let (first, rest) = text.split_at_checked(end_of_first(text.as_bytes())).unwrap_or((text, ""));
    let rest = rest.trim_ascii_start();
    (first, (!rest.is_empty()).then_some(rest))
}

/// Returns the end of the first object or malformed line of a text that begins with neither white
/// space nor a line break. Reads no further than that.
fn end_of_first(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let next = at.saturating_add(1);
        match byte {
            b'"' => match end_of_string(bytes, next) {
                Ok(end) => {
                    at = end;
                    continue;
                }
                Err(end) => return end,
            },
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return next;
                }
            }
            b'\n' if depth == 0 => return at,
            _ => {}
        }
        at = next;
    }
    bytes.len()
}

/// Returns the position behind the quote that ends a string, or as an error the end of a line or a
/// text within it, because a string contains no line break.
fn end_of_string(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let mut at = start;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr3(b'"', b'\\', b'\n', rest)) {
        at = at.saturating_add(found);
        match bytes.get(at) {
            Some(b'"') => return Ok(at.saturating_add(1)),
            Some(b'\\') if bytes.get(at.saturating_add(1)) != Some(&b'\n') => {
                at = at.saturating_add(2);
            }
            Some(b'\\') => return Err(at.saturating_add(1)),
            _ => return Err(at),
        }
    }
    Err(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        let (mut parts, mut rest) = (Vec::new(), Some(text));
        while let Some(text) = rest {
            let (first, behind) = split_first(text);
            assert!(behind.is_none_or(|behind| behind.len() < text.len()), "{text:?}");
            parts.push(first);
            rest = behind;
        }
        parts
    }

    #[test]
    fn objects_are_separated_by_line_breaks_or_by_nothing() {
        for (text, expected) in [
            (r#"{"a":1}"#, vec![r#"{"a":1}"#]),
            ("{}\n", vec!["{}"]),
            ("{}\n{}", vec!["{}", "{}"]),
            ("{}{}", vec!["{}", "{}"]),
            ("{}\r\n\n {}", vec!["{}", "{}"]),
            ("{} {}", vec!["{}", "{}"]),
            (r#"{"a":"}{"}"#, vec![r#"{"a":"}{"}"#]),
            (r#"{"a":"\"}{"}{"b":[{}]}"#, vec![r#"{"a":"\"}{"}"#, r#"{"b":[{}]}"#]),
            ("{\n\"a\" : [\n{ }]\n}\n{}", vec!["{\n\"a\" : [\n{ }]\n}", "{}"]),
            ("\n{}", vec!["{}"]),
        ] {
            assert_eq!(parts(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_line_does_not_hide_the_next_object() {
        for (text, expected) in [
            ("{\"a\":\"b\n{}", vec!["{\"a\":\"b", "{}"]),
            ("{\"a\":\"b\\\n{}", vec!["{\"a\":\"b\\", "{}"]),
            ("garbage\n{}", vec!["garbage", "{}"]),
            ("}\n{}", vec!["}", "{}"]),
            ("{}}{}", vec!["{}", "}", "{}"]),
        ] {
            assert_eq!(parts(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_object_is_lost_or_duplicated(
            objects in prop::collection::vec("\\PC{0,12}", 1..12),
            separators in prop::collection::vec("[\n ]{0,2}", 12),
            tail in "[\n ]{0,2}",
        ) {
            let objects: Vec<String> = objects
                .iter()
                .map(|text| serde_json::json!({"push": [text, {"a{}": "}{"}]}).to_string())
                .collect();
            let mut message = String::new();
            for (object, separator) in objects.iter().zip(&separators) {
                message.push_str(object);
                message.push_str(separator);
            }
            message.push_str(&tail);
            let found: Vec<&str> = parts(&message).iter().map(|part| part.trim_ascii()).collect();
            prop_assert_eq!(found, objects);
        }

        #[test]
        fn any_text_is_split_into_all_its_characters(text in "[{}\\[\\]\"\\\\\n a\u{e9}]{0,40}") {
            let without = |text: &str| text.replace(|char: char| char.is_ascii_whitespace(), "");
            let joined: String = parts(&text).concat();
            prop_assert_eq!(without(&joined), without(&text));
        }
    }
}
