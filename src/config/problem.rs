//! What is wrong with the settings: every mistake with its place and what to write instead.
//!
//! A message never holds a value that could be secret: of variables it names the name alone.

use std::fmt;

use crate::text::Escaped;

/// How many problems are told in full. A file of a hundred thousand wrong entries should not fill
/// a terminal; the rest is counted.
pub const PROBLEMS_TOLD_MAX: usize = 100;

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceLocation {
    /// The command line.
    CommandLine,
    /// The process environment.
    Environment,
    /// A file as a whole.
    File(String),
    /// A line of a file.
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A character of a file.
    Column {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The character in that line, from 1.
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

/// One mistake, or one thing worth a second look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: SourceLocation,
    /// What is wrong there.
    pub message: String,
    /// What to write or do instead.
    pub remedy: String,
}

impl Problem {
    /// A problem with its remedy.
    pub fn new(
        place: SourceLocation,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { place, message: message.into(), remedy: remedy.into() }
    }
}

/// `sniper.toml:12:9: message; what to write instead`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.message, self.remedy)
    }
}

/// What was found while reading the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    problems: Vec<Problem>,
    problems_untold: usize,
    warnings: Vec<Problem>,
    warnings_untold: usize,
}

impl Diagnostics {
    /// Adds something that forbids a start.
    pub fn problem(&mut self, problem: Problem) {
        add(&mut self.problems, &mut self.problems_untold, problem);
    }

    /// Adds something that a person should know and that forbids nothing.
    pub fn warning(&mut self, warning: Problem) {
        add(&mut self.warnings, &mut self.warnings_untold, warning);
    }

    /// Whether nothing forbids a start.
    pub fn is_fine(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds what was found elsewhere, in the order of its places.
    pub fn append(&mut self, mut other: Self) {
        other.problems.sort();
        other.warnings.sort();
        self.problems_untold = self.problems_untold.saturating_add(other.problems_untold);
        self.warnings_untold = self.warnings_untold.saturating_add(other.warnings_untold);
        other.problems.into_iter().for_each(|problem| self.problem(problem));
        other.warnings.into_iter().for_each(|warning| self.warning(warning));
    }

    /// The lines on which there are problems.
    pub(super) fn problem_lines(&self) -> impl Iterator<Item = usize> {
        self.problems.iter().filter_map(|problem| match problem.place {
            SourceLocation::Line { line, .. } | SourceLocation::Column { line, .. } => Some(line),
            SourceLocation::CommandLine | SourceLocation::Environment | SourceLocation::File(_) => {
                None
            }
        })
    }

    /// Drops the problems that `keep` does not want.
    pub(super) fn retain_problems(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.problems.retain(keep);
    }

    /// The warnings alone, if nothing forbids a start.
    ///
    /// # Errors
    ///
    /// All of it, if something does.
    pub fn into_warnings(self) -> Result<Vec<Problem>, ConfigErrors> {
        if self.is_fine() { Ok(self.warnings) } else { Err(ConfigErrors(self)) }
    }
}

fn add(list: &mut Vec<Problem>, untold: &mut usize, problem: Problem) {
    if list.len() < PROBLEMS_TOLD_MAX {
        list.push(problem);
    } else {
        *untold = untold.saturating_add(1);
    }
}

/// Why there is no configuration: at least one problem, and the warnings beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Diagnostics);

impl ConfigErrors {
    /// A single problem.
    pub fn one(problem: Problem) -> Self {
        let mut findings = Diagnostics::default();
        findings.problem(problem);
        Self(findings)
    }

    /// Every problem that is told in full, at most [`PROBLEMS_TOLD_MAX`].
    pub fn list(&self) -> &[Problem] {
        &self.0.problems
    }

    /// How many there are beyond those.
    pub const fn untold(&self) -> usize {
        self.0.problems_untold
    }

    /// The warnings found on the way.
    pub fn warnings(&self) -> &[Problem] {
        &self.0.warnings
    }
}

/// A line for each problem.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list().iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.untold() {
            0 => Ok(()),
            untold => write!(f, "\n… and {untold} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_begins_with_its_place() {
        let place = SourceLocation::Column { file: "sniper.toml".into(), line: 12, column: 9 };
        let problem = Problem::new(place, "`max_pric` is unknown", "write `max_price`");
        let shown = problem.to_string();
        assert_eq!(shown, "sniper.toml:12:9: `max_pric` is unknown; write `max_price`");
    }

    #[test]
    fn beyond_the_bound_problems_are_counted() {
        let mut findings = Diagnostics::default();
        for line in 0..PROBLEMS_TOLD_MAX + 7 {
            let place = SourceLocation::Line { file: "f".into(), line };
            findings.problem(Problem::new(place, "wrong", "mend it"));
        }
        let problems = findings.into_warnings().unwrap_err();
        assert_eq!((problems.list().len(), problems.untold()), (PROBLEMS_TOLD_MAX, 7));
        assert!(problems.to_string().ends_with("\n… and 7 more"));
    }
}
