//! The whitelist, which turns a `Trade` into a [`Decision`]. Pure.
//!
//! `sniper::eligibility` checks whether a listing can be bought, and the ledger checks the limits.
//!
//! # Invariants
//!
//! 1. The first entry that matches decides.
//! 2. A listing with an unreadable required field never matches.
//! 3. A decision does one look-up by name, then checks only the entries for that item, in order;
//!    other entries cost nothing. An entry with a percent rule takes one more look-up.
//! 4. `max_price` is compared first. An entry with a percent rule matches only with a fresh
//!    reference price of this very item.

pub mod import;
mod near_miss;
mod paused;
pub mod suggest;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::FixedState;

use self::paused::PausedEntries;
pub use crate::domain::whitelist_entry::{ItemPattern, WearSet, WhitelistEntry};
use crate::{
    domain::item_filter::{ItemCategory, ItemFilter, has_star},
    domain::item_name::Wear,
    domain::money::{Amount, Percent},
    domain::percent_rule::PercentRule,
    domain::time::UnixMs,
    domain::trade::{Defects, PaintWear, RarityWord, Trade, TradeEvent},
    prices::{ComparedReference, NoReference, PercentOfReference, PriceBook, Reference},
};

/// Compiled whitelist: entries indexed by item.
#[derive(Clone, Debug, Default)]
pub struct Whitelist {
    entries: Vec<WhitelistEntry>,
    /// Entries that can match an item, those for `"*"` included, in order.
    ///
    /// The keys come from the user's own settings, so the hash has to be fast, not resistant to
    /// collisions.
    by_item: HashMap<Box<str>, Box<[usize]>, FixedState>,
    /// Entries for `"*"`, used for items that no other entry names.
    for_any: Box<[usize]>,
    paused: PausedEntries,
    /// Names of the groups, sorted.
    groups: Box<[Arc<str>]>,
    /// Groups that are paused as a whole, by position.
    paused_groups: PausedEntries,
    /// Hash of the entries.
    hash: u64,
}

impl Whitelist {
    /// Compiles validated entries. Their order is their precedence.
    pub fn new(entries: Vec<WhitelistEntry>) -> Self {
        let mut named: HashMap<Box<str>, Vec<usize>, FixedState> = HashMap::default();
        let mut for_any = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match &entry.item {
                ItemPattern::Named(item) => {
                    named.entry(item.as_str().into()).or_default().push(index);
                }
                ItemPattern::Any => for_any.push(index),
            }
        }
        let merged = |mut indices: Vec<usize>| {
            indices.extend_from_slice(&for_any);
            indices.sort_unstable();
            indices.into_boxed_slice()
        };
        let by_item = named.into_iter().map(|(item, indices)| (item, merged(indices))).collect();
        let paused = PausedEntries::new(entries.len());
        let groups =
            entries.iter().filter_map(|entry| Some(Arc::clone(&entry.group.as_ref()?.name)));
        let groups: Box<[_]> = groups.collect::<BTreeSet<_>>().into_iter().collect();
        let paused_groups = PausedEntries::new(groups.len());
        let mut hasher = DefaultHasher::new();
        format!("{entries:?}").hash(&mut hasher);
        let hash = hasher.finish();
        let for_any = for_any.into_boxed_slice();
        Self { entries, by_item, for_any, paused, groups, paused_groups, hash }
    }

    /// Returns the hash, which is the same in every process of this version.
    pub const fn entries_hash(&self) -> u64 {
        self.hash
    }

    pub fn entries(&self) -> &[WhitelistEntry] {
        &self.entries
    }

    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns `true` if an entry names this item, or every item.
    #[inline]
    pub fn has_entry_for(&self, item: &str) -> bool {
        !self.for_any.is_empty() || self.by_item.contains_key(item)
    }

    /// Matches a listing without reference prices: an entry with a percent rule matches nothing.
    #[inline]
    pub fn decide(&self, trade: &Trade<'_>) -> Decision {
        self.decide_with(trade, PriceView::NONE)
    }

    /// Matches a listing against the entries for its item.
    #[inline]
    pub fn decide_with(&self, trade: &Trade<'_>, prices: PriceView<'_>) -> Decision {
        let candidates = self.by_item.get(trade.item.as_ref()).unwrap_or(&self.for_any);
        if candidates.is_empty() {
            return Decision::NoEntry;
        }
        let (Some(price), true) = (trade.total_value, trade.defects.is_empty()) else {
            return Decision::Unreadable(trade.defects);
        };
        let mut decision = Decision::NoEntry;
        let has_paused = !self.paused.is_empty();
        for &index in candidates {
            let Some(entry) = self.entries.get(index) else { continue };
            if has_paused && self.paused.contains(index) {
                // The mismatch of another entry stays the reported reason.
                if matches!(decision, Decision::NoEntry) {
                    decision = Decision::Mismatched { entry: index, mismatch: Mismatch::Paused };
                }
                continue;
            }
            match mismatch(entry, trade, price, prices) {
                None => return Decision::Matched(index),
                Some(mismatch) => decision = Decision::Mismatched { entry: index, mismatch },
            }
        }
        decision
    }

    /// Pauses or enables every entry with this [label](WhitelistEntry::label). A paused entry
    /// matches nothing, as if it were not in the list. Returns the number of these entries.
    pub fn set_paused(&self, label: &str, is_paused: bool) -> usize {
        self.set_paused_where(is_paused, |entry| entry.label() == label)
    }

    /// Pauses or enables every entry that the function selects. A group with an enabled entry is
    /// not paused as a whole. Returns the number of these entries.
    pub fn set_paused_where(
        &self,
        is_paused: bool,
        mut selects: impl FnMut(&WhitelistEntry) -> bool,
    ) -> usize {
        let all = self.entries.iter().enumerate();
        let selected = all.filter(|(_, entry)| selects(entry));
        let set = |(index, entry): (usize, &WhitelistEntry)| {
            self.paused.set(index, is_paused);
            if let Some(group) = entry.group_name().filter(|_| !is_paused) {
                self.mark_group_paused(group, false);
            }
        };
        selected.map(set).count()
    }

    /// Pauses or enables every entry of this group. Returns the number of these entries.
    pub fn set_group_paused(&self, name: &str, is_paused: bool) -> usize {
        self.mark_group_paused(name, is_paused);
        self.set_paused_where(is_paused, |entry| entry.group_name() == Some(name))
    }

    /// Sets only the group's own paused flag; its entries keep theirs. Returns `false` if no entry
    /// is in this group.
    pub fn mark_group_paused(&self, name: &str, is_paused: bool) -> bool {
        let at = self.groups.binary_search_by(|group| (**group).cmp(name));
        at.map(|at| self.paused_groups.set(at, is_paused)).is_ok()
    }

    #[inline]
    pub fn is_paused(&self, index: usize) -> bool {
        !self.paused.is_empty() && self.paused.contains(index)
    }

    /// Returns the groups that are paused as a whole, not only entry by entry.
    pub fn paused_groups(&self) -> BTreeSet<&str> {
        let all = self.groups.iter().enumerate();
        let paused = all.filter(|(index, _)| self.paused_groups.contains(*index));
        paused.map(|(_, group)| &**group).collect()
    }

    /// Iterates over the positions of the paused entries.
    pub fn paused(&self) -> impl Iterator<Item = usize> {
        let all = if self.paused.is_empty() { 0 } else { self.entries.len() };
        (0..all).filter(|index| self.paused.contains(*index))
    }
}

impl Whitelist {
    /// Returns `true` if a listing is another kind of item than the entry wants, also if another
    /// condition was found not to be met before: prices are compared first, because that is faster.
    pub fn is_about_other_items(
        &self,
        entry: usize,
        mismatch: &Mismatch,
        trade: &Trade<'_>,
    ) -> bool {
        let other = || {
            let entry = self.entries.get(entry)?;
            kind_mismatch(entry, trade, trade.total_value?)
                .filter(Mismatch::is_other_item)
                .or_else(|| filter_mismatch(entry.filter.as_deref()?, trade))
        };
        mismatch.is_other_item() || other().is_some()
    }

    /// Formats a condition of an entry that is not met, with the name of the reference.
    pub fn reason(&self, entry: usize, mismatch: &Mismatch) -> String {
        let position = match mismatch {
            Mismatch::NoReference { reference, .. } => *reference,
            Mismatch::PercentAbove { share, .. } => share.reference.position(),
            _ => return mismatch.to_string(),
        };
        let rule = self.entries.get(entry).and_then(|entry| entry.percent.as_ref());
        match (rule.and_then(|rule| rule.references.get(position)), mismatch) {
            (Some(name), Mismatch::NoReference { reason, .. }) => format!("{name} {reason}"),
            (Some(name), Mismatch::PercentAbove { share, max }) => {
                format!("{}, above {max} %", share.of(name))
            }
            _ => mismatch.to_string(),
        }
    }

    /// Formats a mismatch and, if the item is of the wanted kind, the price as a percentage of the
    /// reference.
    pub fn reason_with_share(
        &self,
        entry: usize,
        mismatch: &Mismatch,
        share: Option<PercentOfReference>,
    ) -> String {
        let reason = self.reason(entry, mismatch);
        let has_share = matches!(mismatch, Mismatch::PercentAbove { .. });
        let share = share.filter(|_| !has_share && !mismatch.is_other_item());
        share.map_or_else(|| reason.clone(), |share| format!("{reason}; {share}"))
    }
}

/// Reference prices at a time.
#[derive(Clone, Copy, Debug)]
pub struct PriceView<'p> {
    book: Option<&'p PriceBook>,
    now: UnixMs,
}

impl<'p> PriceView<'p> {
    /// No reference prices at all.
    pub const NONE: Self = Self { book: None, now: UnixMs(0) };

    /// Creates a view that computes the ages of tables against `now`, which must follow corrections
    /// of the wall clock, because the times of tables come from it and from the sites.
    pub const fn new(book: &'p PriceBook, now: UnixMs) -> Self {
        Self { book: Some(book), now }
    }

    fn reference(
        self,
        rule: &PercentRule,
        trade: &Trade<'_>,
    ) -> Result<Reference, (usize, NoReference)> {
        match self.book {
            Some(book) => book.reference(rule, trade, self.now),
            None => Err((0, NoReference::NoTable)),
        }
    }

    /// Returns the reference that the percent rule of an entry compares with the listing's price;
    /// `None` without a rule or a reference.
    pub fn compared_reference(
        self,
        entry: &WhitelistEntry,
        trade: &Trade<'_>,
    ) -> Option<ComparedReference> {
        self.book?.compared_reference(entry.percent.as_ref()?, trade, self.now)
    }

    /// Returns the price of a listing as a share of the reference of a rule, if the item has one.
    pub fn share_of(self, rule: &PercentRule, trade: &Trade<'_>) -> Option<PercentOfReference> {
        let reference = self.reference(rule, trade).ok()?;
        Some(PercentOfReference { price: trade.total_value?, reference })
    }

    /// Returns the margin expected from selling an item, if the settings say where it is sold.
    pub fn margin(self, trade: &Trade<'_>) -> Option<Percent> {
        self.book?.margin(trade, self.now)
    }
}

/// Returns the highest price that an entry pays for an item with this reference: `max_price`, or
/// the maximum price of its percent rule if that is less.
pub fn price_limit(entry: &WhitelistEntry, reference: Option<Reference>) -> Amount {
    let rule = reference.zip(entry.percent.as_ref());
    let allowed = rule.map(|(reference, rule)| reference.max_price(rule.max_percent));
    allowed.map_or(entry.max_price, |allowed| allowed.min(entry.max_price))
}

/// Returns the reason for which the percent rule of an entry does not allow a listing.
#[inline]
pub fn percent_mismatch(
    entry: &WhitelistEntry,
    trade: &Trade<'_>,
    prices: PriceView<'_>,
) -> Option<Mismatch> {
    let rule = entry.percent.as_ref()?;
    let price = trade.total_value?;
    match prices.reference(rule, trade) {
        Ok(reference) if reference.allows(price, rule.max_percent) => None,
        Ok(reference) => {
            let share = PercentOfReference { price, reference };
            Some(Mismatch::PercentAbove { share, max: rule.max_percent })
        }
        Err((reference, reason)) => Some(Mismatch::NoReference { reference, reason }),
    }
}

/// Result of matching one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The entry at this index matches.
    Matched(usize),
    /// No entry names this item.
    NoEntry,
    /// Entries name this item, but none matches. Contains the last one that is not paused, if there
    /// is one.
    Mismatched {
        /// Index of the entry.
        entry: usize,
        /// First condition of the entry that is not met.
        mismatch: Mismatch,
    },
    /// A required field could not be read.
    Unreadable(Defects),
}

/// Condition that is not met. `actual` is the listing's value, and the other field is the entry's
/// bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The operator has paused the entry.
    Paused,
    StatTrak {
        actual: bool,
    },
    Souvenir {
        actual: bool,
    },
    /// The listing has another wear, or none.
    Wear {
        actual: Option<Wear>,
        wanted: WearSet,
    },
    PriceAbove {
        actual: Amount,
        max: Amount,
    },
    PriceBelow {
        actual: Amount,
        min: Amount,
    },
    MarkupAbove {
        actual: Percent,
        max: Percent,
    },
    /// The entry bounds the markup and the listing has none.
    MarkupUnknown,
    /// The entry bounds the float and the listing has none.
    FloatUnknown,
    /// The float, or the upper end of its range, is above the bound.
    FloatAbove {
        actual: PaintWear,
        max: PaintWear,
    },
    /// The float, or the lower end of its range, is below the bound.
    FloatBelow {
        actual: PaintWear,
        min: PaintWear,
    },
    /// The age of a back-filled listing is above the bound.
    TooOld {
        actual: Duration,
        max: Duration,
    },
    /// The item is of another category.
    Category {
        actual: ItemCategory,
    },
    /// The item has another rarity, or the market does not name it.
    Rarity {
        actual: Option<RarityWord>,
    },
    /// A pattern of `exclude` matches.
    Excluded,
    /// The price is above the percentage of the reference.
    PercentAbove {
        share: PercentOfReference,
        max: Percent,
    },
    /// A reference has no price that can be used.
    NoReference {
        /// Position of the reference in the rule.
        reference: usize,
        reason: NoReference,
    },
}

impl Mismatch {
    /// Returns the kind of the condition, under which mismatches are counted.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StatTrak { .. } => "StatTrak™ or not",
            Self::Souvenir { .. } => "Souvenir or not",
            Self::Wear { .. } => "another wear",
            Self::PriceAbove { .. } => "above max_price",
            Self::PriceBelow { .. } => "below min_price",
            Self::MarkupAbove { .. } | Self::MarkupUnknown => "markup above the maximum or unknown",
            Self::FloatUnknown | Self::FloatAbove { .. } | Self::FloatBelow { .. } => {
                "float outside the bounds or unknown"
            }
            Self::TooOld { .. } => "too old",
            Self::Category { .. } => "another category",
            Self::Rarity { .. } => "another rarity",
            Self::Excluded => "excluded",
            Self::Paused => "its entry is paused",
            Self::PercentAbove { .. } => "above max_percent of the reference",
            Self::NoReference { reason, .. } => reason.name(),
        }
    }

    /// Returns `true` if the mismatch shows that the entry is about other items, which is usual for
    /// an entry about many items.
    pub const fn is_other_item(&self) -> bool {
        matches!(
            self,
            Self::StatTrak { .. }
                | Self::Souvenir { .. }
                | Self::Wear { .. }
                | Self::Category { .. }
                | Self::Rarity { .. }
                | Self::Excluded
        )
    }
}

/// Returns the first condition of an entry that a readable listing does not meet. The caller must
/// have compared the item.
#[inline]
pub(super) fn mismatch(
    entry: &WhitelistEntry,
    trade: &Trade<'_>,
    price: Amount,
    prices: PriceView<'_>,
) -> Option<Mismatch> {
    if price > entry.max_price {
        return Some(Mismatch::PriceAbove { actual: price, max: entry.max_price });
    }
    if let Some(max) = entry.max_markup {
        match trade.markup_percent {
            Some(markup) if markup > max => {
                return Some(Mismatch::MarkupAbove { actual: markup, max });
            }
            Some(_) => {}
            None => return Some(Mismatch::MarkupUnknown),
        }
    }
    kind_mismatch(entry, trade, price)
        .or_else(|| float_mismatch(entry, trade))
        .or_else(|| age_mismatch(entry, trade))
        .or_else(|| filter_mismatch(entry.filter.as_deref()?, trade))
        .or_else(|| percent_mismatch(entry, trade, prices))
}

/// Checks variant, wear and minimum price.
#[inline]
fn kind_mismatch(entry: &WhitelistEntry, trade: &Trade<'_>, price: Amount) -> Option<Mismatch> {
    if trade.is_stattrak != entry.stattrak {
        return Some(Mismatch::StatTrak { actual: trade.is_stattrak });
    }
    if trade.is_souvenir != entry.souvenir {
        return Some(Mismatch::Souvenir { actual: trade.is_souvenir });
    }
    if !entry.wears.accepts(trade.wear) {
        return Some(Mismatch::Wear { actual: trade.wear, wanted: entry.wears });
    }
    if price < entry.min_price {
        return Some(Mismatch::PriceBelow { actual: price, min: entry.min_price });
    }
    None
}

fn float_mismatch(entry: &WhitelistEntry, trade: &Trade<'_>) -> Option<Mismatch> {
    if entry.float_min.is_none() && entry.float_max.is_none() {
        return None;
    }
    let range = trade.float.map(|float| (float, float)).or(trade.float_range);
    let Some((least, greatest)) = range else {
        return Some(Mismatch::FloatUnknown);
    };
    let above = |max: &PaintWear| *max < greatest;
    let below = |min: &PaintWear| least < *min;
    let above =
        entry.float_max.filter(above).map(|max| Mismatch::FloatAbove { actual: greatest, max });
    let below =
        entry.float_min.filter(below).map(|min| Mismatch::FloatBelow { actual: least, min });
    above.or(below)
}

fn filter_mismatch(filter: &ItemFilter, trade: &Trade<'_>) -> Option<Mismatch> {
    if !filter.categories.is_any() {
        let actual = ItemCategory::of(&trade.item, has_star(&trade.market_name));
        if !filter.categories.accepts(actual) {
            return Some(Mismatch::Category { actual });
        }
    }
    let is_named = |rarity: RarityWord| filter.rarities.contains(&rarity);
    if !filter.rarities.is_empty() && !trade.rarity.is_some_and(is_named) {
        return Some(Mismatch::Rarity { actual: trade.rarity });
    }
    let is_excluded = filter.exclude.iter().any(|pattern| pattern.matches(trade));
    is_excluded.then_some(Mismatch::Excluded)
}

fn age_mismatch(entry: &WhitelistEntry, trade: &Trade<'_>) -> Option<Mismatch> {
    match (trade.event, entry.max_age) {
        (TradeEvent::BackFilled { age }, Some(max)) if max < age => {
            Some(Mismatch::TooOld { actual: age, max })
        }
        _ => None,
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_or_not = |actual: bool| if actual { "is" } else { "is not" };
        match self {
            Self::Paused => f.write_str("it is paused"),
            Self::StatTrak { actual } => write!(f, "{} StatTrak™", is_or_not(*actual)),
            Self::Souvenir { actual } => write!(f, "{} a Souvenir", is_or_not(*actual)),
            Self::Wear { actual, wanted } => {
                write!(f, "wear {} is not among", actual.map_or("none", Wear::as_str))?;
                wanted.iter().try_for_each(|wear| write!(f, " {}", wear.short()))
            }
            Self::PriceAbove { actual, max } => write!(f, "price {actual} is above {max}"),
            Self::PriceBelow { actual, min } => write!(f, "price {actual} is below {min}"),
            Self::MarkupAbove { actual, max } => write!(f, "markup {actual}% is above {max}%"),
            Self::MarkupUnknown => f.write_str("this market states no markup"),
            Self::FloatUnknown => f.write_str("float is unknown"),
            Self::FloatAbove { actual, max } => write!(f, "float {actual} is above {max}"),
            Self::FloatBelow { actual, min } => write!(f, "float {actual} is below {min}"),
            Self::TooOld { actual, max } => {
                write!(f, "age {}s is above {}s", actual.as_secs(), max.as_secs())
            }
            Self::Category { actual } => write!(f, "category is {}", actual.as_str()),
            Self::Rarity { actual: Some(actual) } => write!(f, "rarity is {actual}"),
            Self::Rarity { actual: None } => f.write_str("rarity is unknown"),
            Self::Excluded => f.write_str("it is excluded"),
            Self::PercentAbove { share, max } => write!(f, "{share}, above {max} %"),
            Self::NoReference { reference, reason } => {
                write!(f, "reference {} {reason}", reference.saturating_add(1))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
