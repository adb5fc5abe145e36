//! Parses `RUST_LOG` and finds directives that match nothing.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::LogError;
use crate::text::{Escaped, is_quoted, nearest};

/// Target of lines that pass every filter.
pub const ALWAYS_SHOWN: &str = "sniper::always_shown";

/// Names of the log levels.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Dependencies that write log lines.
const LIBRARIES: [&str; 11] = [
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "mio",
    "reqwest",
    "rustls",
    "tokio",
    "tokio_rustls",
    "tokio_tungstenite",
    "tower",
    "tungstenite",
];

/// Maximum number of unknown words to list.
const UNKNOWN_SHOWN_MAX: usize = 5;

/// Parsed value of `RUST_LOG`.
#[derive(Debug)]
pub struct LogFilter {
    selected: EnvFilter,
    unknown: Vec<String>,
}

impl LogFilter {
    /// Parses a filter; `None` selects level INFO. Directives with an unknown target would disable
    /// all others, so they are ignored; [`unknown_words`](Self::unknown_words) returns them.
    ///
    /// # Errors
    ///
    /// Returns [`LogError::Filter`] if the filter is invalid, [`LogError::Misspelled`] for a
    /// misspelled level, [`LogError::Quoted`] if it is in quotes.
    pub fn parse(text: Option<&str>) -> Result<Self, LogError> {
        let text = text.unwrap_or("info");
        if is_quoted(text) {
            return Err(LogError::Quoted);
        }
        if let Some(level) = text.split(',').find_map(misspelled) {
            return Err(LogError::Misspelled { level });
        }
        let parse = |text: &str| {
            let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
            filter.parse(text).map_err(|_error| LogError::Filter)
        };
        // Validates the whole text, including unknown directives.
        let _valid = parse(text)?;
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            text.split(',').partition(|directive| is_known(target(directive)));
        let unknown = unknown.into_iter().map(|directive| target(directive).to_owned()).collect();
        Ok(Self { selected: parse(&known.join(","))?, unknown })
    }

    /// Returns a message about directives with an unknown target.
    pub fn unknown_words(&self) -> Option<String> {
        let shown: Vec<String> = self
            .unknown
            .iter()
            .take(UNKNOWN_SHOWN_MAX)
            .map(|word| format!("`{}`", Escaped(word)))
            .collect();
        (!shown.is_empty()).then(|| {
            let shown = shown.join(", ");
            format!("contains words that are neither levels nor modules: {shown}")
        })
    }

    /// Returns the remedy for an unknown word: the list of levels and modules.
    pub fn known_words() -> String {
        let mut modules: Vec<String> =
            modules().map(|module| format!("sniper::{module}")).collect();
        modules.sort_unstable();
        format!("write {}, sniper, or {}", LEVELS.join(", "), modules.join(", "))
    }

    pub(super) fn into_inner(self) -> EnvFilter {
        self.selected
    }
}

/// Returns the level that a directive misspells. A bare word is a module name and disables all
/// other modules, so `inof` would hide everything, including a warning about it.
fn misspelled(directive: &str) -> Option<&'static str> {
    let word = directive.trim().to_lowercase();
    if word.contains(['=', ':', '[']) || is_level(&word) {
        return None;
    }
    nearest(&word, &LEVELS)
}

fn is_level(word: &str) -> bool {
    // Levels can also be written as numbers.
    LEVELS.contains(&word.to_lowercase().as_str()) || matches!(word.as_bytes(), [b'0'..=b'5'])
}

/// Returns the target of a directive: `a::b` of `a::b[span]=debug`.
fn target(directive: &str) -> &str {
    directive.split(['=', '[']).next().unwrap_or_default().trim()
}

/// Returns `true` if the first two segments of a target exist. Deeper modules may change.
fn is_known(target: &str) -> bool {
    let mut words = target.split("::");
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    if first != env!("CARGO_PKG_NAME") {
        return target.is_empty() || is_level(target) || LIBRARIES.contains(&first);
    }
    second.is_none_or(|second| modules().any(|module| module == second))
}

/// Returns the top-level modules of this crate.
fn modules() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../lib.rs").lines();
    lines.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
}

/// Returns `true` if a target is in this crate.
pub(super) fn is_ours(target: &str) -> bool {
    let rest = target.strip_prefix(env!("CARGO_PKG_NAME"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(text: &str) -> Vec<String> {
        LogFilter::parse(Some(text)).unwrap().unknown
    }

    #[test]
    fn an_invalid_or_misspelled_filter_is_an_error() {
        for text in ["sniper=loud", "sniper=wran", "foo=wran", "a=b=c"] {
            assert!(matches!(LogFilter::parse(Some(text)), Err(LogError::Filter)), "{text}");
        }
        let misspelled = LogFilter::parse(Some("inof")).unwrap_err();
        assert_eq!(misspelled.to_string(), "RUST_LOG is not a valid filter; did you mean `info`?");
        for text in ["DEBUG", "sniper::ws=trace,info", "off", "sniper", "", "3", "[span]=debug"] {
            assert_eq!(unknown(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(LogFilter::parse(None).unwrap().unknown_words(), None);
    }

    #[test]
    fn an_unknown_word_is_reported_and_ignored() {
        assert_eq!(unknown("foo"), ["foo"]);
        assert_eq!(unknown("snipper=debug,warn"), ["snipper"]);
        assert_eq!(unknown("sniper::wss::session=debug"), ["sniper::wss::session"]);
        assert_eq!(unknown("sniper::ws::session=debug,hyper::client=warn"), Vec::<String>::new());
        let filter = LogFilter::parse(Some("foo,b\u{1b}r=debug")).unwrap();
        assert_eq!(filter.selected.to_string(), "info");
        let message = filter.unknown_words().unwrap();
        assert_eq!(
            message,
            "contains words that are neither levels nor modules: `foo`, `b\\u{1b}r`"
        );
        assert!(LogFilter::known_words().contains("trace, off, sniper, or sniper::account, "));
    }

    #[test]
    fn targets_are_matched_by_whole_segments() {
        assert!(is_ours("sniper") && is_ours("sniper::ws") && is_ours(ALWAYS_SHOWN));
        assert!(!is_ours("sniper_elsewhere") && !is_ours("hyper"));
    }
}
