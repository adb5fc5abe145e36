//! What `RUST_LOG` selects, and which of its words select nothing.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::LogError;
use crate::{
    config::environment::is_quoted,
    text::{Escaped, nearest},
};

/// The target of lines that pass every filter.
pub const ALWAYS_SHOWN: &str = "sniper::always_shown";

/// The words for how much is logged.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// The crates beneath this program that log.
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

/// How many unknown words a report names.
const UNKNOWN_SHOWN_MAX: usize = 5;

/// What a text of `RUST_LOG` says.
#[derive(Debug)]
pub struct LogFilter {
    selected: EnvFilter,
    unknown: Vec<String>,
}

impl LogFilter {
    /// Reads a filter; `None`: everything from `info`. Directives whose target does not exist would
    /// hide everything else, so they are left out; [`unknown_words`](Self::unknown_words) names
    /// them.
    ///
    /// # Errors
    ///
    /// [`LogError::Filter`] if it is none, [`LogError::Misspelt`] if it can hardly be meant,
    /// [`LogError::Quoted`] if it is in quotes.
    pub fn parse(text: Option<&str>) -> Result<Self, LogError> {
        let text = text.unwrap_or("info");
        if is_quoted(text) {
            return Err(LogError::Quoted);
        }
        if let Some(level) = text.split(',').find_map(misspelt) {
            return Err(LogError::Misspelt { level });
        }
        let parse = |text: &str| {
            let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
            filter.parse(text).map_err(|_said_in_our_words| LogError::Filter)
        };
        // What cannot be read is an error, whatever its words are.
        let _readable = parse(text)?;
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            text.split(',').partition(|directive| is_known(target(directive)));
        let unknown = unknown.into_iter().map(|directive| target(directive).to_owned()).collect();
        Ok(Self { selected: parse(&known.join(","))?, unknown })
    }

    /// What a person should be told about words that name nothing.
    pub fn unknown_words(&self) -> Option<String> {
        let shown: Vec<String> = self
            .unknown
            .iter()
            .take(UNKNOWN_SHOWN_MAX)
            .map(|word| format!("`{}`", Escaped(word)))
            .collect();
        (!shown.is_empty()).then(|| {
            let shown = shown.join(", ");
            format!("names what is no level and no module of this program: {shown}")
        })
    }

    /// What may be written instead of an unknown word.
    pub fn known_words() -> String {
        let modules: Vec<String> = modules().map(|module| format!("sniper::{module}")).collect();
        format!("write {}, sniper, or {}", LEVELS.join(", "), modules.join(", "))
    }

    pub(super) fn into_inner(self) -> EnvFilter {
        self.selected
    }
}

/// A bare word in a filter is the name of a module, of which everything is shown, and nothing of
/// any other: someone who writes `inof` would see nothing at all, this remark included.
fn misspelt(directive: &str) -> Option<&'static str> {
    let word = directive.trim().to_lowercase();
    if word.contains(['=', ':', '[']) || is_level(&word) {
        return None;
    }
    nearest(&word, &LEVELS)
}

fn is_level(word: &str) -> bool {
    // The number of a level is a level too.
    LEVELS.contains(&word.to_lowercase().as_str()) || matches!(word.as_bytes(), [b'0'..=b'5'])
}

/// What a directive is about: `a::b` in `a::b[span]=debug`.
fn target(directive: &str) -> &str {
    directive.split(['=', '[']).next().unwrap_or_default().trim()
}

/// Whether a target exists as far as its first two words say: deeper names change with the code.
fn is_known(target: &str) -> bool {
    let mut words = target.split("::");
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    if first != env!("CARGO_PKG_NAME") {
        return target.is_empty() || is_level(target) || LIBRARIES.contains(&first);
    }
    second.is_none_or(|second| modules().any(|module| module == second))
}

/// The modules of this program.
fn modules() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../lib.rs").lines();
    lines.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
}

/// Whether a target is in this program.
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
    fn a_filter_that_is_none_or_misspelt_is_an_error() {
        for text in ["sniper=loud", "sniper=wran", "foo=wran", "a=b=c"] {
            assert!(matches!(LogFilter::parse(Some(text)), Err(LogError::Filter)), "{text}");
        }
        let misspelt = LogFilter::parse(Some("inof")).unwrap_err();
        assert_eq!(misspelt.to_string(), "RUST_LOG is not a filter; did you mean `info`?");
        for text in ["DEBUG", "sniper::ws=trace,info", "off", "sniper", "", "3", "[span]=debug"] {
            assert_eq!(unknown(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(LogFilter::parse(None).unwrap().unknown_words(), None);
    }

    #[test]
    fn a_word_that_names_nothing_is_told_and_selects_nothing() {
        assert_eq!(unknown("foo"), ["foo"]);
        assert_eq!(unknown("snipper=debug,warn"), ["snipper"]);
        assert_eq!(unknown("sniper::wss::session=debug"), ["sniper::wss::session"]);
        assert_eq!(unknown("sniper::ws::session=debug,hyper::client=warn"), Vec::<String>::new());
        let filter = LogFilter::parse(Some("foo,b\u{1b}r=debug")).unwrap();
        assert_eq!(filter.selected.to_string(), "info");
        let told = filter.unknown_words().unwrap();
        assert_eq!(
            told,
            "names what is no level and no module of this program: `foo`, `b\\u{1b}r`"
        );
        assert!(LogFilter::known_words().contains("trace, off, sniper, or sniper::account, "));
    }

    #[test]
    fn only_whole_words_are_ours() {
        assert!(is_ours("sniper") && is_ours("sniper::ws") && is_ours(ALWAYS_SHOWN));
        assert!(!is_ours("sniper_elsewhere") && !is_ours("hyper"));
    }
}
