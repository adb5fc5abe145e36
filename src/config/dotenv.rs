//! Parses the text of a `.env` file into variables with their line numbers. Pure except that
//! `dotenvy` expands `$NAME` outside single quotes, and the process environment takes precedence.
//!
//! A line may contain a secret, so problems contain the line number and never the line.

use std::{
    cell::Cell,
    io::{self, Read},
};

use memchr::memchr;

use super::problem::{Diagnostics, Problem, SourceLocation};

/// Variable of a `.env` file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    /// Last line of its value, counted from 1.
    pub(super) line: usize,
    /// `true` if a `$` of the file was expanded.
    pub(super) substituted: bool,
}

/// Parses the variables of a text; `file` is its name in problems.
pub(super) fn read(file: &str, text: &str, diagnostics: &mut Diagnostics) -> Vec<Variable> {
    let lines_read = Cell::new(0);
    let mut variables = Vec::new();
    for item in
        dotenvy::from_read_iter(LineReader { rest: text.as_bytes(), lines_read: &lines_read })
    {
        let line = lines_read.get();
        match item {
            Ok((name, value)) => {
                let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                let substituted = dollars(written) > dollars(&value);
                variables.push(Variable { name, value, line, substituted });
            }
            Err(error) => {
                let line = match error {
                    // An unclosed quote: the invalid text begins this many lines above.
                    dotenvy::Error::LineParse(text, _) => {
                        line.saturating_sub(text.trim_end_matches('\n').matches('\n').count())
                    }
                    _ => line,
                };
                diagnostics.problem(Problem::new(
                    SourceLocation::Line { file: file.to_owned(), line },
                    "invalid line",
                    "write NAME=value, with single quotes around a value with spaces, quotes or $",
                ));
            }
        }
    }
    variables
}

/// Returns a value as it is written in a file: in single quotes only if it needs them, because
/// `docker --env-file` keeps them.
pub(super) fn quote(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%-._~:/+=@,".contains(&byte);
    if value.bytes().all(is_plain) {
        return value.to_owned();
    }
    // Neither a backslash nor a single quote can be written between single quotes.
    let escaped = value.replace('\\', "\u{0}").replace('\'', "'\\''").replace('\u{0}', "'\\\\'");
    format!("'{escaped}'")
}

fn dollars(text: &str) -> usize {
    let before_comment = text.split(" #").next().unwrap_or(text);
    before_comment.matches('$').count()
}

/// Reads a text one line per call and counts the lines, because the errors and values of `dotenvy`
/// have no position.
struct LineReader<'t, 'c> {
    rest: &'t [u8],
    lines_read: &'c Cell<usize>,
}

impl Read for LineReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = memchr(b'\n', self.rest).map_or(self.rest.len(), |at| at.saturating_add(1));
        let mut line = self.rest.get(..end).unwrap_or_default();
        let count = line.read(buffer)?;
        if count == end && count > 0 {
            self.lines_read.set(self.lines_read.get().saturating_add(1));
        }
        self.rest = self.rest.get(count..).unwrap_or_default();
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, usize)], wrong_lines: &[usize]) {
        let mut diagnostics = Diagnostics::default();
        let variables = read(".env", text, &mut diagnostics);
        let read: Vec<(&str, &str, usize)> = variables
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_str(), variable.line))
            .collect();
        let lines: Vec<usize> = diagnostics.problem_lines().collect();
        assert_eq!((read.as_slice(), lines.as_slice()), (expected, wrong_lines), "text: {text:?}");
    }

    #[test]
    fn variables_have_their_line_number() {
        check("", &[], &[]);
        check("# c\n\nA=1\r\nexport B='x y; z=$1'\n", &[("A", "1", 3), ("B", "x y; z=$1", 4)], &[]);
        check("A=\nB=2 # two\n", &[("A", "", 1), ("B", "2", 2)], &[]);
        check("A='1\n2'\nB=3\n", &[("A", "1\n2", 2), ("B", "3", 3)], &[]);
    }

    #[test]
    fn an_invalid_line_is_reported_and_the_others_are_parsed() {
        check("A=1\nnonsense\nB=a b\nC=3\n", &[("A", "1", 1), ("C", "3", 4)], &[2, 3]);
        check("A=1\n\nB='never closed\nC=3\n", &[("A", "1", 1)], &[3]);
    }

    #[test]
    fn an_expanded_dollar_is_detected() {
        let substituted = |text: &str| {
            let variables = read(".env", text, &mut Diagnostics::default());
            variables.first().unwrap().substituted
        };
        assert!(substituted("A=x$surely_not_set_anywhere"));
        assert!(!substituted("A='x$surely_not_set_anywhere'"));
        assert!(!substituted("A=x\\$y"));
        assert!(!substituted("A=x # five $"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[A-C='\"\\\\$#{} \n\r\t\u{e9}a-c]{0,60}") {
            let mut diagnostics = Diagnostics::default();
            let lines = text.lines().count() + 1;
            for variable in read(".env", &text, &mut diagnostics) {
                prop_assert!((1..=lines).contains(&variable.line));
            }
            for line in diagnostics.problem_lines() {
                prop_assert!((1..=lines).contains(&line), "{line}");
            }
        }
    }
}
