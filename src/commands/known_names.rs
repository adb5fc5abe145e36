//! Compares the items of the whitelist with the names in the stored prices and in price files, and
//! `sniper check` also with those of the newest own recording: corrects their case, and warns of
//! unknown items and of variants that do not exist, of `exclude` that leaves out nothing, and of
//! `min_count` by a table without counts.
//!
//! Listings are looked up by their exact name, so the case is corrected once, in the loaded
//! settings, and comparing a listing costs no more.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    capture::MarketSource,
    prices,
    progress::{Progress, ProgressCount, ProgressCounter},
    replay::input::ReplayInput,
};
use crate::{
    account::prices::{PriceStore, read_table},
    config::{Config, Loaded, Problem, prices::PriceLocation},
    domain::{
        item_filter::ItemCategory,
        item_name::Wear,
        percent_rule::PriceReference,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    prices::{Offer, PriceBook, Quote, item_key::ItemVariant, known_names::KnownNames},
    text::{Escaped, counted},
};

/// Maximum number of entries with a warning each: the search for a similar name compares all names.
const WARNINGS_MAX: usize = 20;

/// Maximum number of entries that are compared with every name of a short list.
const SEARCHES_MAX: usize = 1_000;
/// Number of letters from which a finish without a lower-case letter is unusual. Some short ones
/// are right, such as `BOOM`.
const CAPITALS_MIN: usize = 5;
/// Longer finishes that are right.
const UPPER_FINISHES: [&str; 3] = ["CAUTION!", "PC-GRN", "POP AWP"];

/// Corrects the items of the whitelist by the stored prices, and adds the warnings.
pub fn apply(loaded: &mut Loaded) {
    apply_with(loaded, &BTreeSet::new());
}

/// Does the same as [`apply`], with further warnings by the market names of a recording. They
/// correct nothing, because `run` and `reload` read no recording.
pub fn apply_with(loaded: &mut Loaded, recorded: &BTreeSet<String>) {
    let in_files = names_of_files(&loaded.config);
    let recorded = recorded.iter().chain(&in_files).map(String::as_str);
    let book = prices::stored_book(&loaded.config);
    let names = KnownNames::with_recorded(&book, recorded);
    correct(loaded, &names);
    warn(loaded, &names);
    if names.are_all() {
        warn_of_patterns(loaded, &names);
    }
    warn_of_counts(loaded, &book);
}

/// Returns the market names in the newest own recording; empty without one.
pub fn recorded(config: &Config, market: impl FnOnce(&Config) -> MarketSource) -> BTreeSet<String> {
    let Ok(recording) = ReplayInput::newest(config) else { return BTreeSet::new() };
    let counter = ProgressCounter::default();
    let _progress = Progress::start("Reading the newest recording", &ProgressCount::Time, counter);
    market(config).names(&recording)
}

/// Returns the names in the price files of which no table is stored, as before the first start.
/// A file that cannot be read is reported when its prices are needed.
fn names_of_files(config: &Config) -> BTreeSet<String> {
    let store = PriceStore::new(&config.data_dir);
    let mut names = BTreeSet::new();
    for source in &config.prices.sources {
        if let PriceLocation::File(path) = &source.location
            && store.written_at(source).is_none()
            && let Ok((table, _changed_at)) = read_table(path, source.unit())
        {
            names.extend(table.iter().map(|(key, _quote)| key.to_string()));
        }
    }
    names
}

fn correct(loaded: &mut Loaded, names: &KnownNames) {
    let corrected = |entry: &WhitelistEntry| match &entry.item {
        ItemPattern::Named(item) if !names.is_only_recorded(item) => {
            names.corrected(item).map(str::to_owned)
        }
        ItemPattern::Named(_) | ItemPattern::Any => None,
    };
    if !loaded.config.whitelist.iter().any(|entry| corrected(entry).is_some()) {
        return;
    }
    let entries = loaded.config.whitelist.iter().map(|entry| match corrected(entry) {
        Some(item) => WhitelistEntry { item: ItemPattern::Named(item), ..entry.clone() },
        None => entry.clone(),
    });
    loaded.config.whitelist = entries.collect::<Arc<[WhitelistEntry]>>();
}

fn warn(loaded: &mut Loaded, names: &KnownNames) {
    let (mut count, mut searches_left) = (0_usize, SEARCHES_MAX);
    for (entry, place) in loaded.config.whitelist.iter().zip(&loaded.entry_places) {
        let ItemPattern::Named(item) = &entry.item else { continue };
        let missing = missing_variant(entry, item, names);
        let is_known = names.is_known(item);
        let has_other_case = names.corrected(item).is_some()
            || !names.are_all() && !is_known && has_unusual_case(item);
        let is_unknown = !is_known && names.are_all();
        let mut typo = None;
        if !is_known && !names.are_all() && !has_other_case && 0 < searches_left {
            searches_left = searches_left.saturating_sub(1);
            typo = names.typo_of(item);
        }
        if missing.is_none() && !has_other_case && !is_unknown && typo.is_none() {
            continue;
        }
        count = count.saturating_add(1);
        if count <= WARNINGS_MAX {
            let similar = || typo.or_else(|| names.nearest(item));
            let wrong =
                || if has_other_case { other_case(item, names) } else { unknown(item, similar()) };
            let (message, remedy) = missing.unwrap_or_else(wrong);
            loaded.warnings.push(Problem::new(place.clone(), message, remedy));
        }
    }
    let hidden = count.saturating_sub(WARNINGS_MAX);
    if let (1.., Some(first)) = (hidden, loaded.entry_places.first()) {
        let entries = counted(hidden, "more entry names", "more entries name");
        let message = format!("{entries} items or variants that no price source knows");
        let remedy = "correct those above first";
        loaded.warnings.push(Problem::new(first.clone(), message, remedy));
    }
}

/// Returns `true` for a name in lower case, and for a gun's finish in lower or upper case. The
/// names of agents, stickers and others have any case.
fn has_unusual_case(item: &str) -> bool {
    let is_lower = |text: &str| text.starts_with(|char: char| char.is_ascii_lowercase());
    let finish = item.split_once(" | ").map_or("", |(_gun, finish)| finish);
    let is_gun = matches!(
        ItemCategory::of(item, false),
        ItemCategory::Pistol | ItemCategory::Rifle | ItemCategory::Smg | ItemCategory::Heavy
    );
    let capitals = finish.chars().filter(char::is_ascii_uppercase).count();
    let is_upper = CAPITALS_MIN <= capitals
        && !finish.contains(|char: char| char.is_ascii_lowercase())
        && !UPPER_FINISHES.contains(&finish);
    is_lower(item) || is_gun && (is_lower(finish) || is_upper)
}

/// Returns the warning about an item that no stored price corrects. Names begin with a capital.
fn other_case(item: &str, names: &KnownNames) -> (String, String) {
    let right = match names.corrected(item) {
        Some(name) => format!("matches no listing: the market writes `{}`", Escaped(name)),
        None if item.starts_with(|char: char| char.is_ascii_lowercase()) => {
            "matches no listing: names begin with a capital letter".to_owned()
        }
        None => "may match no listing: its upper and lower case is unusual, and no stored price \
                 shows the right one"
            .to_owned(),
    };
    let message = format!("`{}` {right}", Escaped(item));
    (message, "copy the name from the market".to_owned())
}

/// Warns of each pattern of `exclude` that matches no known item.
fn warn_of_patterns(loaded: &mut Loaded, names: &KnownNames) {
    let mut seen = HashSet::new();
    let mut count = 0_usize;
    for (entry, place) in loaded.config.whitelist.iter().zip(&loaded.entry_places) {
        for pattern in entry.filter.iter().flat_map(|filter| &filter.exclude) {
            if WARNINGS_MAX <= count || !seen.insert(pattern) || !names.is_without_match(pattern) {
                continue;
            }
            count = count.saturating_add(1);
            let message =
                format!("`exclude` \"{}\" leaves out no known item", Escaped(pattern.as_str()));
            let remedy = "correct it; compare with: sniper prices show NAME";
            loaded.warnings.push(Problem::new(place.clone(), message, remedy));
        }
    }
}

/// Warns of `min_count` by a stored table that has no counts, although its kind of source may have
/// them.
fn warn_of_counts(loaded: &mut Loaded, book: &PriceBook) {
    let mut seen = HashSet::new();
    for (entry, place) in loaded.config.whitelist.iter().zip(&loaded.entry_places) {
        let rule = entry.percent.as_ref().filter(|rule| rule.min_count.is_some());
        for &PriceReference { index, side, .. } in rule.iter().flat_map(|rule| &rule.references) {
            let Some(table) = book.sources().get(index).filter(|table| table.has_table()) else {
                continue;
            };
            let side = side.unwrap_or_else(|| table.default_side());
            let sources = &loaded.config.prices.sources;
            let source = sources.get(index).filter(|source| source.kind.has_counts());
            let has_no_counts = |rows: &[(_, Quote)]| {
                rows.iter().all(|(_, quote)| quote.side(side).and_then(Offer::count).is_none())
            };
            if let Some(source) = source.filter(|_| seen.insert((index, side)))
                && has_no_counts(&book.table_of(index))
            {
                let reference = format!("{}.{}", source.name, side.as_str());
                let message = format!("\"{reference}\" states no number of offers");
                let remedy = "remove `min_count`, which allows no order by it";
                loaded.warnings.push(Problem::new(place.clone(), message, remedy));
            }
        }
    }
}

fn unknown(item: &str, similar: Option<&str>) -> (String, String) {
    let remedy = match similar {
        Some(name) => format!("did you mean `{}`?", Escaped(name)),
        None => "look for its name with: sniper prices show NAME".to_owned(),
    };
    (format!("`{}` is not a known item", Escaped(item)), remedy)
}

/// Returns the warning about wears or a kind of the entry's item that no price source knows.
fn missing_variant(
    entry: &WhitelistEntry,
    item: &str,
    names: &KnownNames,
) -> Option<(String, String)> {
    let kind = match (entry.stattrak, entry.souvenir) {
        (true, _) => "StatTrak™ ",
        (_, true) => "Souvenir ",
        _ => "",
    };
    // Neither a recording nor a short list of prices has every variant.
    if !names.are_all() || !names.is_known(item) || names.is_only_recorded(item) {
        return None;
    }
    let item = Escaped(item);
    let variant = ItemVariant::new(entry.stattrak, entry.souvenir, None, None);
    let Some(known) = names.wears(item.0, variant) else {
        let kind = if kind.is_empty() { "plain " } else { kind };
        let message = format!("no price source knows a {kind}`{item}`");
        return Some((message, "the entry matches no listing; correct or remove it".to_owned()));
    };
    let missing: Vec<&str> =
        entry.wears.iter().filter(|wear| !known.contains(wear)).map(Wear::as_str).collect();
    if missing.is_empty() {
        return None;
    }
    let exists = match known.as_slice() {
        [] => "it has no wear".to_owned(),
        wears => {
            let wears: Vec<&str> = wears.iter().map(|wear| wear.short()).collect();
            format!("it is known in {}", wears.join(", "))
        }
    };
    let missing = missing.join(" and no ");
    let message = format!("there is no {missing} `{kind}{item}`: {exists}");
    Some((message, "correct `wear`; these wears match no listing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_no_market_uses_is_noticed_without_prices() {
        for unusual in ["ak-47 | Redline", "AK-47 | REDLINE", "AK-47 | redline", "fracture case"] {
            assert!(has_unusual_case(unusual), "{unusual}");
        }
        for usual in [
            "AK-47 | Redline",
            "AWP | BOOM",
            "Sticker | apEX | Cologne 2016",
            "Sticker | FURIA",
            "Fracture Case",
            "Karambit",
            "M4A4 | 龍王 (Dragon King)",
            "Operator | FBI SWAT",
            "Lt. Commander Ricksaw | NSWC SEAL",
            "D Squadron Officer | NZSAS",
            "Sticker Slab | apEX | Cologne 2016",
            "Galil AR | CAUTION!",
        ] {
            assert!(!has_unusual_case(usual), "{usual}");
        }
    }
}
