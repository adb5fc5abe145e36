//! Compares the items of the whitelist with the names that the stored prices have, and `sniper check` also
//! with those of the newest own recording: corrects their case,
//! and warns of unknown items and of variants that do not exist.
//!
//! Listings are looked up by their exact name, so a name is corrected in the settings, at no cost for a
//! listing.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    capture::MarketSource,
    prices,
    progress::{Progress, ProgressCount, ProgressCounter},
    replay::input::ReplayInput,
};
use crate::{
    config::{Config, Loaded, Problem},
    domain::{
        item_name::Wear,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    prices::known_names::KnownNames,
    text::Escaped,
};

/// Maximum number of entries that are warned of. The search for a similar name compares all names.
const WARNINGS_MAX: usize = 20;

/// Corrects the items of the whitelist and adds the warnings, if prices of all items are on disk.
pub fn apply(loaded: &mut Loaded) {
    if !loaded.config.prices.sources.is_empty() {
        apply_with(loaded, &BTreeSet::new());
    }
}

/// Same as [`apply`], with the market names of a recording besides those of the prices.
pub fn apply_with(loaded: &mut Loaded, recorded: &BTreeSet<String>) {
    let recorded = recorded.iter().map(String::as_str);
    if let Some(names) = KnownNames::with_recorded(&prices::stored_book(&loaded.config), recorded) {
        correct(loaded, &names);
        warn(loaded, &names);
    }
}

/// Returns the market names in the newest own recording; empty without one.
pub fn recorded(config: &Config, market: impl FnOnce(&Config) -> MarketSource) -> BTreeSet<String> {
    let Ok(recording) = ReplayInput::newest(config) else { return BTreeSet::new() };
    let counter = ProgressCounter::default();
    let _progress = Progress::start("Reading the newest recording", &ProgressCount::Time, counter);
    market(config).names(&recording)
}

fn correct(loaded: &mut Loaded, names: &KnownNames) {
    let corrected = |entry: &WhitelistEntry| match &entry.item {
        ItemPattern::Named(item) => names.corrected(item).map(str::to_owned),
        ItemPattern::Any => None,
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
    let (mut count, mut hidden) = (0_usize, 0_usize);
    for (entry, place) in loaded.config.whitelist.iter().zip(&loaded.entry_places) {
        let ItemPattern::Named(item) = &entry.item else { continue };
        let found = match names.is_known(item) {
            true => missing_variant(entry, item, names),
            false if count < WARNINGS_MAX => Some(unknown(item, names)),
            false => Some(Default::default()),
        };
        let Some((message, remedy)) = found else { continue };
        count = count.saturating_add(1);
        if WARNINGS_MAX < count {
            hidden = hidden.saturating_add(1);
            continue;
        }
        loaded.warnings.push(Problem::new(place.clone(), message, remedy));
    }
    if let (1.., Some(first)) = (hidden, loaded.entry_places.first()) {
        let message = format!("{hidden} more entries have items that no price source knows");
        let remedy = "correct those above first";
        loaded.warnings.push(Problem::new(first.clone(), message, remedy));
    }
}

fn unknown(item: &str, names: &KnownNames) -> (String, String) {
    let remedy = match names.nearest(item) {
        Some(name) => format!("did you mean `{}`?", Escaped(name)),
        None => "look for its name with: sniper prices show NAME".to_owned(),
    };
    (format!("`{}` is not a known item", Escaped(item)), remedy)
}

/// Returns the warning about an entry that no known variant of its item can match.
fn missing_variant(
    entry: &WhitelistEntry,
    item: &str,
    names: &KnownNames,
) -> Option<(String, String)> {
    const REMEDY: &str = "an entry for it matches nothing";
    let kind = match (entry.stattrak, entry.souvenir) {
        (true, _) => "StatTrak™ ",
        (_, true) => "Souvenir ",
        _ => "",
    };
    if names.is_only_recorded(item) {
        // A recording has not seen every variant.
        return None;
    }
    let item = Escaped(item);
    let Some(known) = names.wears(item.0, (entry.stattrak, entry.souvenir)) else {
        let kind = if kind.is_empty() { "plain " } else { kind };
        return Some((format!("no price source knows a {kind}`{item}`"), REMEDY.to_owned()));
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
    Some((format!("there is no {missing} `{kind}{item}`: {exists}"), REMEDY.to_owned()))
}
