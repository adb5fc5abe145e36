//! Parses the item of a whitelist entry, and the other keys that a complete market name determines.
//! Pure.

use std::borrow::Cow;

use super::{
    super::document::{ParseContext, TableFields},
    NAME_BYTES_MAX,
};
use crate::{
    domain::{
        item_name::{ItemName, Wear},
        trade::PaintWear,
        whitelist_entry::{ItemPattern, WearSet},
    },
    text::{Escaped, composed, is_safe_to_print, nearest},
};

/// Properties given by the text of `item` beyond the base name.
#[derive(Debug, Default)]
pub(super) struct ItemText<'n> {
    item: &'n str,
    /// `true` for a market name, which determines StatTrak and Souvenir, unlike a base name.
    decides: bool,
    stattrak: bool,
    souvenir: bool,
    wear: Option<Wear>,
    /// `true` for the market name of an item without wear.
    wearless: bool,
}

pub(super) fn read_item<'n>(
    fields: &TableFields<'n, '_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<(ItemPattern, ItemText<'n>)> {
    const REMEDY: &str =
        "write the name, such as item = \"AK-47 | Redline\", or item = \"*\" for every item";
    if fields.get("item").is_none() {
        context.problem(fields.at, "missing `item`".to_owned(), REMEDY);
        return None;
    }
    let at = fields.at("item");
    let item = fields.text("item", context)?;
    if item.trim() == "*" {
        return Some((ItemPattern::Any, ItemText { item, ..ItemText::default() }));
    }
    let exact = with_exact_wear(item);
    let parsed = ItemName::parse(&exact);
    if parsed.base.trim().is_empty() {
        context.problem(at, "`item` is empty".to_owned(), REMEDY);
        return None;
    }
    if item.len() > NAME_BYTES_MAX || !item.chars().all(is_safe_to_print) {
        let message = "`item` is too long or contains invisible characters".to_owned();
        context.problem(at, message, "copy the name again as plain text");
        return None;
    }
    if let Some(remedy) = misspelled(&parsed.base) {
        let message = format!("no item is named \"{}\"", Escaped(item));
        context.problem(at, message, remedy);
        return None;
    }
    // The market name of a vanilla knife is a star and the name. A market name with a finish ends
    // in a wear, so a star before a name with a finish and no wear does not make it a market name.
    let vanilla = parsed.is_star && !parsed.base.contains('|');
    let item_text = ItemText {
        item,
        decides: parsed.wear.is_some() || parsed.is_stattrak || parsed.is_souvenir || vanilla,
        stattrak: parsed.is_stattrak,
        souvenir: parsed.is_souvenir,
        wear: parsed.wear,
        wearless: vanilla,
    };
    Some((ItemPattern::Named(spaced_bars(&composed(&parsed.base))), item_text))
}

/// Returns a name with the wear in parentheses, which may be in any case, as in market names.
fn with_exact_wear(item: &str) -> Cow<'_, str> {
    let inside = item.trim_end().strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
    let wear = |text: &str| Wear::ALL.into_iter().find(|it| it.as_str().eq_ignore_ascii_case(text));
    match inside.and_then(|(base, text)| Some((base, wear(text.trim())?))) {
        Some((base, wear)) => Cow::Owned(format!("{base}({})", wear.as_str())),
        None => Cow::Borrowed(item),
    }
}

/// Writes each `|` with one blank on both sides, as in market names.
pub(in crate::config) fn spaced_bars(base: &str) -> String {
    let parts: Vec<&str> = base.split('|').map(str::trim).collect();
    parts.join(" | ").trim().to_owned()
}

/// Returns the remedy for a base name that still contains a misspelled StatTrak, Souvenir or wear.
pub(super) fn misspelled(base: &str) -> Option<String> {
    let lower = base.to_lowercase();
    if lower.starts_with("stattrak") {
        return Some(
            "write StatTrak™ with the ™ sign, or the base name and stattrak = true".to_owned(),
        );
    }
    if lower.starts_with("souvenir ") && lower.contains('|') {
        return Some(
            "write Souvenir with a capital S, or the base name and souvenir = true".to_owned(),
        );
    }
    let (_name, last) = base.strip_suffix(')')?.rsplit_once('(')?;
    let wear = match Wear::parse_user_input(last) {
        Some(wear) => wear.as_str(),
        None => nearest(last, &Wear::ALL.map(Wear::as_str))?,
    };
    Some(format!("did you mean `({wear})`?"))
}

/// Combines the keys of an entry with a complete market name, and reports contradictions.
pub(super) fn merge_market_name(
    fields: &TableFields<'_, '_>,
    item_text: &ItemText<'_>,
    wears: Option<WearSet>,
    context: &mut ParseContext<'_, '_>,
) -> (bool, bool, WearSet) {
    let stattrak = merge_flag(fields, item_text, "stattrak", item_text.stattrak, context);
    let souvenir = merge_flag(fields, item_text, "souvenir", item_text.souvenir, context);
    if stattrak && souvenir && !item_text.decides {
        let message = "`stattrak` and `souvenir` are both true, but no item is both".to_owned();
        context.problem(fields.at("souvenir"), message, "remove one, or write two entries");
    }
    let decided = item_text.wear.map(|wear| WearSet::ANY.with(wear));
    let contradicts = wears.is_some_and(|wears| match decided {
        Some(decided) => wears != decided,
        None => item_text.wearless && wears != WearSet::ANY,
    });
    if contradicts {
        let what = item_text.wear.map_or("no wear", Wear::as_str);
        let message =
            format!("`wear` contradicts `item` = \"{}\" ({what})", Escaped(item_text.item));
        context.problem(fields.at("wear"), message, "remove `wear`, or the wear in `item`");
    }
    (stattrak, souvenir, decided.or(wears).unwrap_or_default())
}

/// Warns about wears whose floats the bounds exclude.
pub(super) fn warn_float_of_other_wear(
    fields: &TableFields<'_, '_>,
    wears: WearSet,
    float_min: Option<PaintWear>,
    float_max: Option<PaintWear>,
    context: &mut ParseContext<'_, '_>,
) {
    let is_excluded = |wear: &Wear| {
        let (from, below) = wear.float_hundredths();
        let [from, below] = [from, below].map(PaintWear::from_hundredths);
        // The last wear ends at 1, which it includes.
        let is_above = float_min.is_some_and(|min| below <= min && *wear != Wear::BattleScarred);
        is_above || float_max.is_some_and(|max| max < from)
    };
    let excluded: Vec<Wear> = wears.iter().filter(is_excluded).collect();
    if excluded.is_empty() {
        return;
    }
    let key = if float_min.is_some() { "float_min" } else { "float_max" };
    let message = if excluded.len() == wears.iter().count() {
        "this entry can match nothing, because its floats are outside its wear".to_owned()
    } else {
        let names: Vec<&str> = excluded.iter().map(|wear| wear.as_str()).collect();
        format!("no {} item has these floats", names.join(" or "))
    };
    let ranges: Vec<String> = excluded.into_iter().map(float_range).collect();
    let remedy = format!("{}; change the bounds, or the wear", ranges.join(", "));
    context.warning(fields.at(key), message, remedy);
}

fn float_range(wear: Wear) -> String {
    let (from, below) = wear.float_hundredths();
    let [from, below] = [from, below].map(PaintWear::from_hundredths);
    format!("{} is from {from} to {below}", wear.as_str())
}

fn merge_flag(
    fields: &TableFields<'_, '_>,
    item_text: &ItemText<'_>,
    key: &str,
    decided: bool,
    context: &mut ParseContext<'_, '_>,
) -> bool {
    let written = fields.flag(key, context);
    if !item_text.decides {
        return written.unwrap_or(false);
    }
    if let Some(written) = written.filter(|written| *written != decided) {
        let message =
            format!("`{key}` = {written} contradicts `item` = \"{}\"", Escaped(item_text.item));
        let remedy = format!("remove `{key}`, or write the base name into `item`");
        context.problem(fields.at(key), message, remedy);
    }
    decided
}
