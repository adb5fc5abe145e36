//! Ages of the price sources, for `sniper status`. Pure.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        percent_rule::ReferenceRule,
        time::{UnixMs, format_duration},
        whitelist_entry::WhitelistEntry,
    },
    prices::PriceBook,
};

/// Age of one price source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceStatus {
    pub name: String,
    /// Time of the prices; `None` if there are none yet.
    pub at: Option<String>,
    pub age_ms: Option<u64>,
    /// Age from which the prices are not used.
    pub max_age_ms: u64,
    /// `true` if the prices are too old or missing.
    pub stale: bool,
    /// Number of whitelist entries that send no orders without these prices.
    pub entries: usize,
}

impl PriceStatus {
    /// Returns the status of each source, in the order of the settings.
    pub fn all(book: &PriceBook, entries: &[WhitelistEntry], now: UnixMs) -> Vec<Self> {
        let sources = book.labels().iter().zip(book.sources()).enumerate();
        let status = sources.map(|(index, (label, source))| {
            let at = source.has_table().then_some(source.newest);
            let needs = |entry: &&WhitelistEntry| needs(entry, index, book, now);
            Self {
                name: label.name.to_string(),
                at: at.map(|at| at.to_string()),
                age_ms: at.map(|at| millis(now.since(at))),
                max_age_ms: millis(source.max_age),
                stale: source.is_stale(now),
                entries: entries.iter().filter(needs).count(),
            }
        });
        status.collect()
    }
}

/// Returns `true` if an entry sends no orders without this source.
pub fn is_needed(index: usize, book: &PriceBook, entries: &[WhitelistEntry], now: UnixMs) -> bool {
    entries.iter().any(|entry| needs(entry, index, book, now))
}

/// Returns `true` if the percent rule of an entry cannot be applied because prices are too old.
pub fn has_stale_prices(entry: &WhitelistEntry, book: &PriceBook, now: UnixMs) -> bool {
    let Some(rule) = &entry.percent else { return false };
    let mut stale = rule.references.iter().map(|reference| {
        book.sources().get(reference.index).is_none_or(|source| source.is_stale(now))
    });
    if rule.rule == ReferenceRule::First { stale.all(|it| it) } else { stale.any(|it| it) }
}

/// Returns `true` if the percent rule of an entry cannot be applied without this source.
fn needs(entry: &WhitelistEntry, index: usize, book: &PriceBook, now: UnixMs) -> bool {
    let Some(rule) = &entry.percent else { return false };
    if rule.references.iter().all(|reference| reference.index != index) {
        return false;
    }
    let is_stale = |index: usize| book.sources().get(index).is_none_or(|it| it.is_stale(now));
    let mut others = rule.references.iter().map(|reference| reference.index);
    rule.rule != ReferenceRule::First || others.all(|other| other == index || is_stale(other))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for PriceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, age_ms, max_age_ms, stale, entries, .. } = self;
        let text = |ms: u64| format_duration(Duration::from_millis(ms));
        match (age_ms, stale) {
            (Some(age), false) => return write!(f, "{name} {} old", text(*age)),
            // Prices that are not too old are stale only if they are from the future.
            (Some(age), true) if age <= max_age_ms => {
                write!(f, "{name} has prices from the future; check the clock")?;
            }
            (Some(age), true) => {
                write!(f, "{name} too old ({}, limit {})", text(*age), text(*max_age_ms))?;
            }
            (None, _) => write!(f, "{name} has no prices yet")?,
        }
        match entries {
            0 => f.write_str("; no entry needs it"),
            1 => f.write_str(": 1 entry that needs it sends no orders"),
            count => write!(f, ": {count} entries that need it send no orders"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::percent_rule::{PercentRule, PriceCurrency, PriceReference},
        prices::book::SourceLabel,
        whitelist::tests::{book_at, percent_entry},
    };

    fn book(at: UnixMs) -> PriceBook {
        let label = SourceLabel { name: "buff".into(), currency: PriceCurrency::Usd };
        book_at(at).with_labels([label].into_iter())
    }

    fn shown(book: &PriceBook, entries: &[WhitelistEntry], now: i64) -> String {
        let all = PriceStatus::all(book, entries, UnixMs(now));
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_age_of_a_source_and_the_entries_that_need_it_are_shown() {
        let (one, plain) = (percent_entry(), crate::whitelist::tests::entry());
        let book = book(UnixMs(0));
        let entries = [one.clone(), plain.clone()];
        assert_eq!(shown(&book, &entries, 60_000), "buff 1 min 0 s old");
        let late = "buff too old (1 min 1 s, limit 1 min 0 s)";
        assert_eq!(
            shown(&book, &entries, 61_000),
            format!("{late}: 1 entry that needs it sends no orders")
        );
        assert_eq!(
            shown(&book, &[one.clone(), one], 61_000),
            format!("{late}: 2 entries that need it send no orders")
        );
        assert_eq!(shown(&book, &[plain], 61_000), format!("{late}; no entry needs it"));
        assert_eq!(shown(&PriceBook::default(), &entries, 0), "");
        let ahead = "buff has prices from the future; check the clock; no entry needs it";
        assert_eq!(shown(&self::book(UnixMs(300_001)), &[], 0), ahead);
    }

    #[test]
    fn a_source_without_prices_is_stale() {
        let status = PriceStatus { name: "own".to_owned(), stale: true, ..PriceStatus::default() };
        assert_eq!(status.to_string(), "own has no prices yet; no entry needs it");
    }

    #[test]
    fn an_entry_that_takes_the_first_of_several_references_needs_none_while_another_is_fresh() {
        let at = |index| PriceReference { source: "x".to_owned(), index, side: None };
        let entry = |rule, indices: &[usize]| {
            let references = indices.iter().map(|index| at(*index)).collect();
            let percent = percent_entry().percent.unwrap();
            let percent = Some(PercentRule { references, rule, ..percent });
            WhitelistEntry { percent, ..percent_entry() }
        };
        let (book, fresh, late) = (book(UnixMs(0)), UnixMs(0), UnixMs(61_000));
        // The second source does not exist, so it is stale.
        let first = entry(ReferenceRule::First, &[0, 1]);
        assert!(!needs(&first, 1, &book, fresh) && needs(&first, 1, &book, late));
        assert!(needs(&first, 0, &book, fresh), "the other one is stale");
        assert!(needs(&entry(ReferenceRule::Lowest, &[0, 1]), 1, &book, fresh));
        assert!(!needs(&entry(ReferenceRule::Lowest, &[0]), 1, &book, fresh));
    }
}
