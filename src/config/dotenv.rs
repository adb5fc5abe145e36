//! The text of a `.env` file → variables with their lines. Pure but for one thing: outside single
//! quotes `dotenvy` replaces `$NAME` by that variable, and the process environment comes first.
//!
//! A line may hold a secret, so nothing here repeats a line: a problem has its number and no more.

use std::{
    cell::Cell,
    io::{self, Read},
};

use super::problem::{Diagnostics, Problem, SourceLocation};

/// One variable of the file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    /// The line it ends on, from 1.
    pub(super) line: usize,
    /// Whether a `$` of the file was replaced.
    pub(super) substituted: bool,
}

/// The variables of a text that problems will call `file`.
pub(super) fn read(file: &str, text: &str, findings: &mut Diagnostics) -> Vec<Variable> {
    let lines_read = Cell::new(0);
    let mut variables = Vec::new();
    for item in dotenvy::from_read_iter(LineReader { rest: text, lines_read: &lines_read }) {
        let line = lines_read.get();
        match item {
            Ok((name, value)) => {
                let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
                let substituted = dollars(written) > dollars(&value);
                variables.push(Variable { name, value, line, substituted });
            }
            Err(error) => {
                let line = match error {
                    // The text that could not be read begins this many lines above.
                    dotenvy::Error::LineParse(text, _) => {
                        line.saturating_sub(text.trim_end_matches('\n').matches('\n').count())
                    }
                    _ => line,
                };
                findings.problem(Problem::new(
                    SourceLocation::Line { file: file.to_owned(), line },
                    "this line cannot be read",
                    "write NAME=value, and put a value with spaces, quotes or $ between single quotes",
                ));
            }
        }
    }
    variables
}

fn dollars(text: &str) -> usize {
    let before_comment = text.split(" #").next().unwrap_or(text);
    before_comment.matches('$').count()
}

/// Hands out a text line by line and counts the lines, so that whoever reads them one at a time
/// knows where it is.
struct LineReader<'t, 'c> {
    rest: &'t str,
    lines_read: &'c Cell<usize>,
}

impl Read for LineReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at.saturating_add(1));
        let mut count = end.min(buffer.len());
        while !self.rest.is_char_boundary(count) {
            count = count.saturating_sub(1);
        }
        let (now, later) = self.rest.split_at_checked(count).unwrap_or((self.rest, ""));
        if let Some(space) = buffer.get_mut(..now.len()) {
            space.copy_from_slice(now.as_bytes());
        }
        if count == end && count > 0 {
            self.lines_read.set(self.lines_read.get().saturating_add(1));
        }
        self.rest = later;
        Ok(now.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, usize)], wrong_lines: &[usize]) {
        let mut findings = Diagnostics::default();
        let variables = read(".env", text, &mut findings);
        let read: Vec<(&str, &str, usize)> = variables
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_str(), variable.line))
            .collect();
        let lines: Vec<usize> = findings.problem_lines().collect();
        assert_eq!((read.as_slice(), lines.as_slice()), (expected, wrong_lines), "text: {text:?}");
    }

    #[test]
    fn variables_know_their_line() {
        check("", &[], &[]);
        check("# c\n\nA=1\r\nexport B='x y; z=$1'\n", &[("A", "1", 3), ("B", "x y; z=$1", 4)], &[]);
        check("A=\nB=2 # two\n", &[("A", "", 1), ("B", "2", 2)], &[]);
        check("A='1\n2'\nB=3\n", &[("A", "1\n2", 2), ("B", "3", 3)], &[]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_the_others_are_read() {
        check("A=1\nnonsense\nB=a b\nC=3\n", &[("A", "1", 1), ("C", "3", 4)], &[2, 3]);
        check("A=1\n\nB='never closed\nC=3\n", &[("A", "1", 1)], &[3]);
    }

    #[test]
    fn a_replaced_dollar_is_noticed() {
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
        fn any_text_is_read_without_panic(text in "[A-C='\"\\\\$#{} \n\r\t\u{e9}a-c]{0,60}") {
            let mut findings = Diagnostics::default();
            let lines = text.lines().count() + 1;
            for variable in read(".env", &text, &mut findings) {
                prop_assert!((1..=lines).contains(&variable.line));
            }
            for line in findings.problem_lines() {
                prop_assert!((1..=lines).contains(&line), "{line}");
            }
        }
    }
}
