//! Escaping of text in HTML. Pure.

use std::fmt::{self, Write as _};

use crate::text::is_safe_to_print;

/// Displays a value as HTML text or as the content of a quoted attribute. Characters that could
/// control the reading direction or are invisible are replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Html<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Html<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape(f), "{}", self.0)
    }
}

struct Escape<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| match char {
            '&' => self.0.write_str("&amp;"),
            '<' => self.0.write_str("&lt;"),
            '>' => self.0.write_str("&gt;"),
            '"' => self.0.write_str("&quot;"),
            '\'' => self.0.write_str("&#39;"),
            safe if is_safe_to_print(safe) => self.0.write_char(safe),
            _ => self.0.write_char('\u{fffd}'),
        })
    }
}

/// Displays a text as one segment of a URL's path.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathSegment<'a>(pub(super) &'a str);

impl fmt::Display for PathSegment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => f.write_char(byte.into()),
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_quotes_and_invisible_characters_are_escaped() {
        let hostile = "<img src=x onerror='a(\"b\")'>&\u{202e}\n★";
        assert_eq!(
            Html(hostile).to_string(),
            "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;\u{fffd}\u{fffd}★"
        );
        assert_eq!(PathSegment("AK-47 | a/b?").to_string(), "AK-47%20%7C%20a%2Fb%3F");
    }
}
