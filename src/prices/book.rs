//! All sources' prices in one immutable snapshot, for look-ups while listings arrive.
//!
//! A refresh builds a new snapshot off the hot path and replaces the old one as a whole. A look-up
//! hashes the base name once and compares a few variants; it neither allocates nor waits.

use std::{collections::HashMap, fmt, time::Duration};

use foldhash::fast::FixedState;

use super::{
    item_key::{ItemKey, ItemVariant},
    reference::{ComparedReference, PercentOfReference, Reference},
    table::{Offer, PriceTable, Quote},
};
use crate::{
    domain::{
        money::{Amount, Percent},
        percent_rule::{
            CoinUsd, PercentRule, PriceCurrency, PriceReference, QuoteSide, ReferenceRule,
        },
        time::{UnixMs, format_duration},
        trade::Trade,
    },
    text::composed,
};

/// Maximum time by which a table may be ahead of the local clock.
const AHEAD_MAX: Duration = Duration::from_secs(300);

/// Maximum correction of the local clock: a price that exceeds its maximum age by more than this
/// stays too old.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(86_400);

/// A source's table for [`PriceBook::new`].
#[derive(Clone, Copy, Debug)]
pub struct BookTable<'t> {
    /// `None` if the source has no table yet.
    pub table: Option<&'t PriceTable>,
    /// Time of its prices.
    pub at: UnixMs,
    pub max_age: Duration,
    /// Value of a coin in the currency of the prices; `None` if the settings do not state it.
    pub coin: Option<CoinUsd>,
}

/// Properties of one source in a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookSource {
    /// Time of the table.
    pub at: UnixMs,
    /// Time of the newest price, which may be older than the table. If the table has asks and bids,
    /// the time of the newest of that side whose newest price is older.
    pub newest: UnixMs,
    pub max_age: Duration,
    /// `max_age` in milliseconds, the unit in which a look-up compares times.
    max_age_ms: i64,
    coin: Option<CoinUsd>,
    has_table: bool,
    has_bids: bool,
    /// `true` if prices that are newer than the time of a decision are accepted.
    is_timeless: bool,
}

/// Rows of one base name.
#[derive(Clone, Copy, Debug)]
struct BookRows {
    start: u32,
    len: u32,
}

/// Prices of all sources, by item.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    index: HashMap<Box<str>, BookRows, FixedState>,
    variants: Box<[ItemVariant]>,
    /// For each variant, one quote per source.
    quotes: Box<[Quote]>,
    sources: Box<[BookSource]>,
    /// For each source, in the same order; empty without labels.
    labels: Box<[SourceLabel]>,
    resale: Option<Resale>,
}

/// Name and currency of a source, for texts about its prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLabel {
    pub name: Box<str>,
    pub currency: PriceCurrency,
}

/// Market on which bought items are sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resale {
    /// Position of the source in the settings.
    pub source: usize,
    /// Share of the price that is lost.
    pub fee: Percent,
}

/// Reason for which a rule has no reference for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReference {
    /// The source was never read.
    NoTable,
    /// The source does not price this very item on this side.
    NoPrice,
    /// The price is older than `max_age_minutes`.
    Stale { age: Duration, max: Duration },
    /// The time of the price is later than the local clock.
    Ahead,
    /// Fewer offers than `min_count` are behind the price.
    FewOffers { actual: u32, min: u32 },
    /// The source does not state the number of offers.
    CountUnknown,
    /// The settings do not state the value of a coin.
    NoCoin,
    /// The reference is below `min_reference`.
    Below { actual: Amount, min: Amount },
}

impl PriceBook {
    /// Combines the tables of the sources, in the order of the settings.
    pub fn new(tables: &[BookTable<'_>]) -> Self {
        let mut rows: HashMap<&ItemKey<'static>, Vec<Quote>, FixedState> = HashMap::default();
        for (source, table) in tables.iter().enumerate() {
            for (key, quote) in table.table.iter().flat_map(|table| table.iter()) {
                let row = rows.entry(key).or_insert_with(|| vec![Quote::default(); tables.len()]);
                if let Some(slot) = row.get_mut(source) {
                    *slot = *quote;
                }
            }
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        let mut index: HashMap<Box<str>, BookRows, FixedState> = HashMap::default();
        for (at, (key, _)) in rows.iter().enumerate() {
            let start = u32::try_from(at).unwrap_or(u32::MAX);
            let of_base = index.entry(key.base.as_ref().into());
            let of_base = of_base.or_insert(BookRows { start, len: 0 });
            of_base.len = of_base.len.saturating_add(1);
        }
        index.shrink_to_fit();
        Self {
            index,
            variants: rows.iter().map(|(key, _)| key.variant).collect(),
            quotes: rows.into_iter().flat_map(|(_, quotes)| quotes).collect(),
            sources: tables.iter().map(BookSource::of).collect(),
            labels: Box::default(),
            resale: None,
        }
    }

    /// Sets the names and currencies of the sources.
    #[must_use]
    pub fn with_labels(self, labels: impl Iterator<Item = SourceLabel>) -> Self {
        Self { labels: labels.collect(), ..self }
    }

    pub const fn labels(&self) -> &[SourceLabel] {
        &self.labels
    }

    /// Sets where bought items are sold, for expected margins.
    #[must_use]
    pub fn with_resale(self, resale: Option<Resale>) -> Self {
        Self { resale, ..self }
    }

    /// Accepts prices that are newer than the time of a decision, for a replay with tables of
    /// another time. The age of older prices is still checked.
    #[must_use]
    pub fn accepting_later_prices(mut self) -> Self {
        for source in &mut self.sources {
            source.is_timeless = true;
        }
        self
    }

    /// Returns the expected margin of buying a listing and selling the item at the lowest ask.
    pub fn margin(&self, trade: &Trade<'_>, now: UnixMs) -> Option<Percent> {
        let Resale { source: index, fee } = self.resale?;
        let source = self.sources.get(index)?;
        let offer = self.quotes_of(trade).get(index)?.ask?;
        source.check_age(offer, now).ok()?;
        Reference::new(offer.price, source.coin?).margin(trade.total_value?, fee)
    }

    /// Returns the number of items with a price of any source.
    pub const fn len(&self) -> usize {
        self.variants.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.variants.is_empty()
    }

    pub const fn sources(&self) -> &[BookSource] {
        &self.sources
    }

    /// Iterates over the variants of a base name, each with its quotes by source.
    pub fn variants(&self, base: &str) -> impl Iterator<Item = (ItemVariant, &[Quote])> {
        let rows = self.rows_of(base).unwrap_or(BookRows { start: 0, len: 0 });
        let end = rows.start.saturating_add(rows.len);
        (rows.start..end).filter_map(|row| {
            let row = usize::try_from(row).ok()?;
            Some((*self.variants.get(row)?, self.row(row)?))
        })
    }

    /// Iterates over all items: base name, variant, and quotes by source.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, ItemVariant, &[Quote])> {
        self.bases().flat_map(|base| {
            self.variants(base).map(move |(variant, quotes)| (base, variant, quotes))
        })
    }

    /// Iterates over all base names.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(AsRef::as_ref)
    }

    /// Returns the rows of a base name. The names of the index are in composed form, so only a name
    /// that is not found can be in another one.
    #[inline]
    fn rows_of(&self, base: &str) -> Option<BookRows> {
        match self.index.get(base) {
            Some(rows) => Some(*rows),
            None if base.is_ascii() => None,
            None => self.rows_of_other_form(base),
        }
    }

    #[cold]
    fn rows_of_other_form(&self, base: &str) -> Option<BookRows> {
        self.index.get(composed(base).as_ref()).copied()
    }

    /// Returns the prices of one source, sorted by item.
    pub fn table_of(&self, source: usize) -> Vec<(ItemKey<'_>, Quote)> {
        let mut bases: Vec<&str> = self.bases().collect();
        bases.sort_unstable();
        let items = bases.into_iter().flat_map(|base| {
            self.variants(base).filter_map(move |(variant, quotes)| {
                let quote = quotes.get(source).filter(|quote| !quote.is_empty())?;
                Some((ItemKey { base: base.into(), variant }, *quote))
            })
        });
        items.collect()
    }

    fn row(&self, row: usize) -> Option<&[Quote]> {
        let count = self.sources.len();
        let start = row.checked_mul(count)?;
        self.quotes.get(start..start.checked_add(count)?)
    }

    /// Returns the quotes of one item, by source.
    #[inline]
    pub fn quotes(&self, key: &ItemKey<'_>) -> Option<&[Quote]> {
        let BookRows { start, len } = self.rows_of(&key.base)?;
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        let variants = self.variants.get(start..end)?;
        let at = variants.iter().position(|variant| *variant == key.variant)?;
        self.row(start.checked_add(at)?)
    }

    /// Returns the quotes of a listing, by source; none for a Doppler of unknown phase.
    #[inline]
    fn quotes_of(&self, trade: &Trade<'_>) -> &[Quote] {
        let key = ItemKey::of_trade(trade);
        if key.lacks_phase() { &[] } else { self.quotes(&key).unwrap_or_default() }
    }

    /// Returns the reference of a rule for a listing.
    ///
    /// # Errors
    ///
    /// Returns the position of the reference and the reason for which there is none.
    #[inline]
    pub fn reference(
        &self,
        rule: &PercentRule,
        trade: &Trade<'_>,
        now: UnixMs,
    ) -> Result<Reference, (usize, NoReference)> {
        self.choose(rule, self.quotes_of(trade), now)
    }

    /// Returns the share of the reference that a rule compares, and what that reference is. For log
    /// lines and records, after the decision.
    pub fn compared_reference(
        &self,
        rule: &PercentRule,
        trade: &Trade<'_>,
        now: UnixMs,
    ) -> Option<ComparedReference> {
        let reference = self.choose(rule, self.quotes_of(trade), now).ok()?;
        let chosen = rule.references.get(reference.position())?;
        let source = self.sources.get(chosen.index)?;
        let side = chosen.side.unwrap_or_else(|| source.default_side());
        let share = PercentOfReference { price: trade.total_value?, reference };
        let currency = self.labels.get(chosen.index).map(|label| label.currency);
        Some(ComparedReference { share, side, currency: currency.unwrap_or_default() })
    }

    /// Returns the reference of a rule among the quotes of an item.
    ///
    /// # Errors
    ///
    /// As [`reference`](Self::reference).
    #[inline]
    pub fn choose(
        &self,
        rule: &PercentRule,
        quotes: &[Quote],
        now: UnixMs,
    ) -> Result<Reference, (usize, NoReference)> {
        let mut chosen: Option<Reference> = None;
        let mut missing = None;
        for (position, reference) in rule.references.iter().enumerate() {
            let found = match self.find(reference, quotes, rule.min_count, now) {
                Ok(found) => found,
                Err(reason) if rule.rule == ReferenceRule::First => {
                    missing = missing.or(Some((position, reason)));
                    continue;
                }
                Err(reason) => return Err((position, reason)),
            };
            let is_better = chosen.is_none_or(|chosen| match rule.rule {
                ReferenceRule::Lowest => found.cmp_value(chosen).is_lt(),
                ReferenceRule::Highest => found.cmp_value(chosen).is_gt(),
                ReferenceRule::First => false,
            });
            if is_better {
                chosen = Some(found.at_position(position));
            }
            if rule.rule == ReferenceRule::First {
                break;
            }
        }
        let chosen = chosen.ok_or(missing.unwrap_or((0, NoReference::NoTable)))?;
        match rule.min_reference {
            Some(min) if !chosen.is_at_least(min) => {
                Err((chosen.position(), NoReference::Below { actual: chosen.in_coins(), min }))
            }
            _ => Ok(chosen),
        }
    }

    /// Returns the greatest price that a rule allows for an item with these quotes, at this time or
    /// later. `None` if it allows none, as far as the quotes show.
    ///
    /// Ages count only beyond [`CLOCK_ERROR_MAX`], because the clock may be corrected. With
    /// [`ReferenceRule::First`] each reference counts, because those before it may become too old.
    pub(super) fn max_price(
        &self,
        rule: &PercentRule,
        quotes: &[Quote],
        now: UnixMs,
    ) -> Option<Amount> {
        let found = |reference: &PriceReference| {
            let (source, offer) = self.offer(reference, quotes).ok()?;
            let (at, coin) = (source.time_of(offer), source.coin?);
            check_count(rule.min_count, offer).ok()?;
            (now.since(at) <= source.max_age.saturating_add(CLOCK_ERROR_MAX))
                .then(|| Reference::new(offer.price, coin))
        };
        let is_enough =
            |found: &Reference| rule.min_reference.is_none_or(|min| found.is_at_least(min));
        let all = rule.references.iter().map(found);
        let found: Vec<Reference> = match rule.rule {
            ReferenceRule::First => all.flatten().filter(is_enough).collect(),
            ReferenceRule::Lowest | ReferenceRule::Highest => all.collect::<Option<_>>()?,
        };
        let by_value = |one: &Reference, other: &Reference| one.cmp_value(*other);
        let chosen = match rule.rule {
            ReferenceRule::Lowest => found.into_iter().min_by(by_value),
            ReferenceRule::First | ReferenceRule::Highest => found.into_iter().max_by(by_value),
        };
        Some(chosen.filter(is_enough)?.max_price(rule.max_percent))
    }

    /// Returns the offer of a reference of any age, with its source.
    #[inline]
    fn offer(
        &self,
        reference: &PriceReference,
        quotes: &[Quote],
    ) -> Result<(&BookSource, Offer), NoReference> {
        let source = self.sources.get(reference.index).ok_or(NoReference::NoTable)?;
        if !source.has_table {
            return Err(NoReference::NoTable);
        }
        let side = reference.side.unwrap_or_else(|| source.default_side());
        let offer = quotes.get(reference.index).and_then(|quote| quote.side(side));
        Ok((source, offer.ok_or(NoReference::NoPrice)?))
    }

    /// Returns the price of a reference. Inlined, because a call would return its result through
    /// memory, for each reference of a rule.
    #[inline(always)]
    fn find(
        &self,
        reference: &PriceReference,
        quotes: &[Quote],
        min_count: Option<u32>,
        now: UnixMs,
    ) -> Result<Reference, NoReference> {
        let (source, offer) = self.offer(reference, quotes)?;
        source.check_age(offer, now)?;
        check_count(min_count, offer)?;
        Ok(Reference::new(offer.price, source.coin.ok_or(NoReference::NoCoin)?))
    }
}

#[inline]
fn check_count(min: Option<u32>, offer: Offer) -> Result<(), NoReference> {
    match (min, offer.count()) {
        (Some(_), None) => Err(NoReference::CountUnknown),
        (Some(min), Some(actual)) if actual < min => Err(NoReference::FewOffers { actual, min }),
        _ => Ok(()),
    }
}

impl BookSource {
    pub fn of(table: &BookTable<'_>) -> Self {
        let &BookTable { table, at, max_age, coin } = table;
        Self {
            at,
            newest: table.map_or(at, |table| table.newest(at)),
            max_age,
            max_age_ms: i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX),
            coin,
            has_table: table.is_some(),
            has_bids: table.is_some_and(|table| table.has_side(QuoteSide::Bid)),
            is_timeless: false,
        }
    }

    #[inline]
    fn time_of(&self, offer: Offer) -> UnixMs {
        offer.time_in(self.at)
    }

    /// Returns an error if an offer is too old, or later than the time of the decision.
    #[inline]
    fn check_age(&self, offer: Offer, now: UnixMs) -> Result<(), NoReference> {
        let at = self.time_of(offer);
        if at > now.plus(AHEAD_MAX) {
            return if self.is_timeless { Ok(()) } else { Err(NoReference::Ahead) };
        }
        if now.0.saturating_sub(at.0) > self.max_age_ms {
            return Err(NoReference::Stale { age: now.since(at), max: self.max_age });
        }
        Ok(())
    }

    /// Returns the side that a reference without a side means: the bid, or the ask of a source
    /// without any bid.
    #[inline]
    pub const fn default_side(&self) -> QuoteSide {
        if self.has_bids { QuoteSide::Bid } else { QuoteSide::Ask }
    }

    /// Returns the value of a coin in the currency of the prices.
    pub const fn coin(&self) -> Option<CoinUsd> {
        self.coin
    }

    /// Returns `true` if the source was read at least once.
    pub const fn has_table(&self) -> bool {
        self.has_table
    }

    /// Returns `true` if a rule could use this offer.
    pub fn is_fresh(&self, offer: Offer, now: UnixMs) -> bool {
        self.check_age(offer, now).is_ok()
    }

    /// Returns `true` if the table is missing or from the future, or all prices of a side are too
    /// old.
    pub fn is_stale(&self, now: UnixMs) -> bool {
        !self.has_table || now.since(self.newest) > self.max_age || self.is_ahead(now)
    }

    /// Returns `true` if rules do not use the prices because their time is later than the local
    /// clock.
    pub fn is_ahead(&self, now: UnixMs) -> bool {
        self.newest > now.plus(AHEAD_MAX)
    }
}

impl NoReference {
    /// Returns the kind of the reason, under which such listings are counted.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoTable => "no reference prices yet",
            Self::NoPrice => "no reference price of this item",
            Self::Stale { .. } => "reference price too old",
            Self::Ahead => "reference price from the future",
            Self::FewOffers { .. } | Self::CountUnknown => "too few offers behind the reference",
            Self::NoCoin => "no value of a coin",
            Self::Below { .. } => "below min_reference",
        }
    }
}

impl fmt::Display for NoReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("has no prices yet"),
            Self::NoPrice => f.write_str("has no price for this item"),
            Self::Stale { age, max } => {
                write!(f, "is {} old, more than {}", format_duration(*age), format_duration(*max))
            }
            Self::Ahead => f.write_str("has prices from the future; check the clock"),
            Self::FewOffers { actual, min } => write!(f, "has {actual} offers, fewer than {min}"),
            Self::CountUnknown => {
                f.write_str("states no number of offers, which `min_count` needs")
            }
            Self::NoCoin => f.write_str("has prices in USD; add `coin_usd` below [prices]"),
            Self::Below { actual, min } => write!(f, "is {actual}, below {min}"),
        }
    }
}

#[cfg(test)]
mod tests;
