//! Problems of the configuration: each with its location and a remedy. Pure.
//!
//! A message never contains a value that could be secret: only the names of variables appear.

use std::fmt;

use crate::{
    secret::{self, MASKED_BYTES_MIN},
    text::Escaped,
};

/// Maximum number of problems that are listed; further ones are only counted, so that a file with
/// many invalid entries does not flood the terminal.
const PROBLEMS_SHOWN_MAX: usize = 100;

/// Location of a problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceLocation {
    CommandLine,
    Environment,
    File(String),
    Line {
        file: String,
        /// Line number, counted from 1.
        line: usize,
    },
    Column {
        file: String,
        /// Line number, counted from 1.
        line: usize,
        /// Character in the line, counted from 1.
        column: usize,
    },
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment => f.write_str("environment"),
            Self::File(file) => write!(f, "{}", Escaped(file)),
            Self::Line { file, line } => write!(f, "{}:{line}", Escaped(file)),
            Self::Column { file, line, column } => {
                write!(f, "{}:{line}:{column}", Escaped(file))
            }
        }
    }
}

/// An error or a warning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: SourceLocation,
    pub message: String,
    /// Action that fixes the problem.
    pub remedy: String,
}

impl Problem {
    pub fn new(
        place: SourceLocation,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { place, message: message.into(), remedy: remedy.into() }
    }
}

/// Formats as `sniper.toml:12:9: message; remedy`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.message, self.remedy)
    }
}

/// Errors and warnings found while reading the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    problems: Vec<Problem>,
    problems_suppressed: usize,
    warnings: Vec<Problem>,
}

impl Diagnostics {
    /// Adds an error, which prevents the start, unless the same one was added before.
    pub fn problem(&mut self, problem: Problem) {
        if self.problems.contains(&problem) {
            return;
        }
        if self.problems.len() < PROBLEMS_SHOWN_MAX {
            self.problems.push(problem);
        } else {
            self.problems_suppressed = self.problems_suppressed.saturating_add(1);
        }
    }

    /// Adds a warning, which does not prevent the start. Those beyond [`PROBLEMS_SHOWN_MAX`] are
    /// dropped.
    pub fn warning(&mut self, warning: Problem) {
        if self.warnings.len() < PROBLEMS_SHOWN_MAX {
            self.warnings.push(warning);
        }
    }

    /// Registers the secrets that a setting contains, and warns of those that are too short to be
    /// masked.
    pub fn register_secrets<'v>(
        &mut self,
        place: &SourceLocation,
        name: &str,
        secrets: impl IntoIterator<Item = &'v str>,
    ) {
        for value in secrets {
            secret::register(value);
            if !value.is_empty() && !secret::is_masked(value) {
                let subject = format!("{name} contains a secret");
                self.warn_of_short(place, &subject, "use a longer one if the server permits it");
            }
        }
    }

    /// Warns of a secret that is too short to be masked in the text of a server.
    pub fn warn_of_short(&mut self, place: &SourceLocation, subject: &str, remedy: &str) {
        let message = format!(
            "{subject} shorter than {MASKED_BYTES_MIN} bytes, too short to be masked in logs and \
             recordings if the server repeats it"
        );
        self.warning(Problem::new(place.clone(), message, remedy));
    }

    /// Returns `true` if there are no errors.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Appends other diagnostics, sorted by location.
    pub fn append(&mut self, mut other: Self) {
        other.problems.sort();
        other.warnings.sort();
        self.extend(other);
    }

    /// Appends other diagnostics in their order.
    pub(super) fn extend(&mut self, other: Self) {
        self.problems_suppressed =
            self.problems_suppressed.saturating_add(other.problems_suppressed);
        other.problems.into_iter().for_each(|problem| self.problem(problem));
        other.warnings.into_iter().for_each(|warning| self.warning(warning));
    }

    /// Returns the lines with errors.
    pub(super) fn problem_lines(&self) -> impl Iterator<Item = usize> {
        self.problems.iter().filter_map(|problem| match problem.place {
            SourceLocation::Line { line, .. } | SourceLocation::Column { line, .. } => Some(line),
            SourceLocation::CommandLine | SourceLocation::Environment | SourceLocation::File(_) => {
                None
            }
        })
    }

    /// Removes the errors for which `keep` returns `false`.
    pub(super) fn retain_problems(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.problems.retain(keep);
    }

    /// Returns the warnings if there are no errors.
    ///
    /// # Errors
    ///
    /// Returns all errors and warnings if there is an error.
    pub fn into_warnings(self) -> Result<Vec<Problem>, ConfigErrors> {
        if self.is_ok() { Ok(self.warnings) } else { Err(ConfigErrors(self)) }
    }
}

/// At least one configuration error, and the warnings found with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Diagnostics);

impl ConfigErrors {
    /// Creates the error from one problem.
    pub fn one(problem: Problem) -> Self {
        let mut diagnostics = Diagnostics::default();
        diagnostics.problem(problem);
        Self(diagnostics)
    }

    /// Returns the errors to list, at most [`PROBLEMS_SHOWN_MAX`].
    pub fn list(&self) -> &[Problem] {
        &self.0.problems
    }

    /// Returns the number of errors beyond the listed ones.
    pub const fn suppressed(&self) -> usize {
        self.0.problems_suppressed
    }

    pub fn warnings(&self) -> &[Problem] {
        &self.0.warnings
    }
}

/// Formats one line per error.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list().iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.suppressed() {
            0 => Ok(()),
            suppressed => write!(f, "\n… and {suppressed} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_starts_with_its_location() {
        let place = SourceLocation::Column { file: "sniper.toml".into(), line: 12, column: 9 };
        let problem = Problem::new(place, "`max_pric` is unknown", "write `max_price`");
        let shown = problem.to_string();
        assert_eq!(shown, "sniper.toml:12:9: `max_pric` is unknown; write `max_price`");
    }

    #[test]
    fn problems_beyond_the_maximum_are_only_counted() {
        let mut diagnostics = Diagnostics::default();
        for line in 0..PROBLEMS_SHOWN_MAX + 7 {
            let place = SourceLocation::Line { file: "f".into(), line };
            diagnostics.problem(Problem::new(place, "wrong", "fix it"));
        }
        let problems = diagnostics.into_warnings().unwrap_err();
        assert_eq!((problems.list().len(), problems.suppressed()), (PROBLEMS_SHOWN_MAX, 7));
        assert!(problems.to_string().ends_with("\n… and 7 more"));
    }
}
