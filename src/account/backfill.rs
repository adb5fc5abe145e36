//! Back-fill: reads open listings, newest first, back to those that the feed has delivered.
//!
//! A list of new listings does not show the price cut of an older one. A market that can search for
//! items is also asked for the cheapest listings of the wanted ones.
//!
//! Each listing is sent through a bounded queue, owned and with its age, so that the thread that
//! decides takes one at a time between two frames and never parses a page. Dropping the future of a
//! sweep cancels it. [`fill_gaps`] runs a sweep for each gap of the feed. A newer gap cancels the
//! sweep of an older one, and its sweep includes the range that was not read.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, info, warn};

use super::{failure::ReadFailure, reader::AccountReader};
use crate::{
    clock,
    domain::account::NextPage,
    domain::item_filter::ItemCategory,
    domain::item_name::{ItemName, Wear},
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent},
    markets::{AccountQuery, EnvironmentNames, MarketApi},
    prices::{ItemKey, item_key::KNIVES},
    text::counted,
    ws::BackfillSender,
};

/// Maximum number of pages of one sweep. The largest pages have 250 listings, so it is at most five
/// thousand listings.
pub const PAGES_MAX: u32 = 20;

/// Range before the gap that a sweep also reads, because the clocks differ and the feed is not
/// sorted to the millisecond.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// Maximum number of attempts of a sweep with transient failures.
pub const ATTEMPTS_MAX: u32 = 3;

/// Maximum number of items that are searched for after a gap. Each takes a request, and the account
/// is read in between.
pub const SEARCHES_MAX: usize = 40;

/// Range of open listings that a cancelled sweep did not read.
struct UnreadRange {
    /// `None` if the range includes all listings.
    since: Option<UnixMs>,
}

/// Result of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepResult {
    /// Number of listings that were sent.
    pub listings: u32,
    pub pages: u32,
    /// Number of listings that could not be read.
    pub unreadable: u32,
    /// `true` if the sweep reached the end of its range.
    pub complete: bool,
    /// Number of wanted items whose price cuts were not searched for.
    pub unsearched: usize,
}

/// Reads open listings back to `back_to` on [`clock::now`], or all of them for `None`.
///
/// # Errors
///
/// Returns a [`ReadFailure`] if a page cannot be read. Earlier pages were sent already.
///
/// # Cancel safety
///
/// Safe: it only reads, and each listing is sent in one step.
pub async fn sweep<M: MarketApi>(
    reader: &AccountReader<M>,
    back_to: Option<UnixMs>,
    listings: &mpsc::Sender<Trade<'static>>,
) -> Result<SweepResult, ReadFailure> {
    let mut swept = SweepResult::default();
    let mut after: Option<String> = None;
    let mut cursors = HashSet::new();
    while swept.pages < PAGES_MAX {
        let query = AccountQuery::OpenListings { after: after.as_deref() };
        let page = reader.listings(query).await?;
        swept.pages = swept.pages.saturating_add(1);
        // Without a `Date` header the local clock is used.
        let now = page.latest().unwrap_or_else(clock::now);
        let read = page.listings(reader)?;
        swept.unreadable = swept.unreadable.saturating_add(read.unreadable);
        // Only a page of nothing but known listings ends the sweep: the order is not exact.
        let mut reached = !read.nodes.is_empty();
        for trade in read.nodes {
            let is_known = back_to
                .zip(trade.created_at)
                .is_some_and(|(back_to, created)| created.plus(OVERLAP) < back_to);
            if is_known {
                continue;
            }
            reached = false;
            if listings.send(back_filled(trade, now)).await.is_err() {
                // The receiver was dropped.
                return Ok(swept);
            }
            swept.listings = swept.listings.saturating_add(1);
        }
        if reached || read.next == NextPage::End {
            swept.complete = true;
            break;
        }
        after = match read.next {
            // With a repeated cursor the same pages would be read again.
            NextPage::After(cursor) if cursors.insert(cursor.clone()) => Some(cursor),
            NextPage::After(_) | NextPage::Unclear | NextPage::End => break,
        };
    }
    Ok(swept)
}

/// Returns a listing of a page, with its age at the time `now`.
fn back_filled(trade: Trade<'_>, now: UnixMs) -> Trade<'static> {
    let age = trade.created_at.map_or(Duration::MAX, |created| now.since(created));
    Trade { event: TradeEvent::BackFilled { age }, ..trade.into_owned() }
}

/// Sends the cheapest listings of the wanted items, up to the price that an entry pays, the dearest
/// items first.
async fn search_price_cuts<M: MarketApi>(
    reader: &AccountReader<M>,
    sender: &BackfillSender,
) -> Result<SweepResult, ReadFailure> {
    let wanted = sender.wanted();
    let mut items: Vec<(&str, Amount)> = wanted.max_prices().collect();
    items.sort_unstable_by_key(|(base, max_price)| (Reverse(*max_price), *base));
    let unsearched = items.len().saturating_sub(SEARCHES_MAX);
    let mut swept = SweepResult { complete: true, unsearched, ..SweepResult::default() };
    for (base, max_price) in items.into_iter().take(SEARCHES_MAX) {
        let query = AccountQuery::CheapestListings { names: &market_names(base), max_price };
        let page = match reader.listings(query).await {
            Ok(page) => page,
            Err(failure) if failure.is_transient() => {
                swept.unsearched = swept.unsearched.saturating_add(1);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let now = page.latest().unwrap_or_else(clock::now);
        swept.pages = swept.pages.saturating_add(1);
        for trade in page.listings(reader)?.nodes {
            if sender.listings().send(back_filled(trade, now)).await.is_err() {
                // The receiver was dropped.
                return Ok(swept);
            }
            swept.listings = swept.listings.saturating_add(1);
        }
    }
    Ok(swept)
}

/// Returns the market names that an item with this base name can have. A market may name a Doppler
/// with or without its phase.
fn market_names(base: &str) -> Vec<String> {
    let key = ItemKey::parse(base);
    let bases = [base, key.as_ref().map_or(base, |key| &key.base)];
    let weapon = base.split_once(" | ").map_or(base, |(weapon, _finish)| weapon);
    let is_star = KNIVES.contains(&weapon) || ItemCategory::of(base, true) == ItemCategory::Gloves;
    let wears = Wear::ALL.into_iter().map(Some).filter(|_| base.contains(" | ")).chain([None]);
    // StatTrak and Souvenir.
    let kinds = [(false, false), (true, false), (false, !is_star)];
    let variants = wears.flat_map(|wear| kinds.map(|kind| (wear, kind)));
    let names = variants.flat_map(|(wear, (is_stattrak, is_souvenir))| {
        bases.map(|base| {
            let base = base.into();
            ItemName { base, is_star, is_stattrak, is_souvenir, wear }.to_string()
        })
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Sweeps for each gap of the feed, and at its start if that is configured, until the feed is
/// dropped. If the market's list is behind by `lag`, sweeps once more after that time. On a market
/// without a list of open listings, every gap ends without a sweep.
///
/// # Cancel safety
///
/// Safe: it only reads, and each listing is sent in one step.
pub async fn fill_gaps<M: MarketApi>(
    reader: &AccountReader<M>,
    lag: Option<Duration>,
    mut sender: BackfillSender,
) {
    if !reader.has_open_listings() {
        info!("Gaps of the feed are not back-filled: the market has no list of open listings");
        while let Some(gap) = sender.next_request().await {
            sender.done(gap).await;
        }
        return;
    }
    let mut unread: Option<UnreadRange> = None;
    while let Some(gap) = sender.next_request().await {
        // `None` is less than any time.
        let since = unread.take().map_or(gap.since, |unread| unread.since.min(gap.since));
        let swept = tokio::select! {
            biased;
            () = sender.superseded(gap) => {
                unread = Some(UnreadRange { since });
                continue;
            }
            swept = sweep_with_retries(reader, since, sender.listings()) => swept,
        };
        log_result(gap.number, &swept, &M::CAPABILITIES.environment);
        // The list does not contain the newest listings yet, so it is read again after the lag.
        let mut late = lag.map(|lag| (lag, since.unwrap_or_else(|| clock::now().minus(lag))));
        let again = async {
            let search = async || {
                let cuts = search_price_cuts(reader, &sender).await;
                log_price_cuts(&cuts, &M::CAPABILITIES.environment);
            };
            if let Some((lag, since)) = late {
                search().await;
                sleep(lag).await;
                let swept = sweep_with_retries(reader, Some(since), sender.listings()).await;
                log_result(gap.number, &swept, &M::CAPABILITIES.environment);
                search().await;
                late = None;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sender.done(gap) => {}
            () = again => {}
        }
        unread = late.map(|(_lag, since)| UnreadRange { since: Some(since) });
    }
}

fn read_counts(result: &SweepResult) -> String {
    let listings = counted(result.listings, "listing", "listings");
    format!("{listings}, {}", counted(result.pages, "page", "pages"))
}

fn log_price_cuts(searched: &Result<SweepResult, ReadFailure>, names: &EnvironmentNames) {
    match searched {
        Ok(result) if result.unsearched == 0 => {
            debug!("Price cuts searched for: {}", read_counts(result));
        }
        Ok(result) => info!(
            "Price cuts searched for: {}; {} further wanted items were not searched for",
            read_counts(result),
            result.unsearched
        ),
        Err(failure) => {
            let cause = failure.cause(names);
            warn!(
                "The search for price cuts failed: {}. What to do: {}.",
                cause.text(),
                cause.remedy()
            );
        }
    }
}

fn log_result(gap: u64, swept: &Result<SweepResult, ReadFailure>, names: &EnvironmentNames) {
    match swept {
        Ok(result) if result.complete && gap == 0 => {
            info!("Open listings read: {}", read_counts(result));
        }
        Ok(result) if result.complete => debug!("Gap back-filled: {}", read_counts(result)),
        Ok(result) => {
            warn!("Back-fill incomplete: {}; older listings may be missing", read_counts(result));
        }
        Err(failure) => {
            let cause = failure.cause(names);
            warn!(
                "Back-fill failed: {}. Some listings may be missing. What to do: {}.",
                cause.text(),
                cause.remedy()
            );
        }
    }
}

/// Repeats a sweep after transient failures. The reader limits the rate of its requests.
async fn sweep_with_retries<M: MarketApi>(
    reader: &AccountReader<M>,
    back_to: Option<UnixMs>,
    listings: &mpsc::Sender<Trade<'static>>,
) -> Result<SweepResult, ReadFailure> {
    let mut attempts = 1;
    loop {
        match sweep(reader, back_to, listings).await {
            Err(failure) if attempts < ATTEMPTS_MAX && failure.is_transient() => {
                attempts = attempts.saturating_add(1);
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_searched_for_by_its_market_names() {
        assert_eq!(market_names("Karambit"), ["★ Karambit", "★ StatTrak™ Karambit"]);
        let redline = market_names("AK-47 | Redline");
        assert_eq!(redline.len(), 18);
        for name in ["AK-47 | Redline (Field-Tested)", "Souvenir AK-47 | Redline (Well-Worn)"] {
            assert!(redline.iter().any(|found| found == name), "{redline:?}");
        }
        for (base, name) in [
            ("Karambit | Doppler Phase 2", "★ StatTrak™ Karambit | Doppler (Factory New)"),
            ("Karambit | Doppler Phase 2", "★ Karambit | Doppler Phase 2 (Factory New)"),
            ("Karambit | Ruby", "★ Karambit | Doppler (Minimal Wear)"),
            ("Sport Gloves | Vice", "★ Sport Gloves | Vice (Battle-Scarred)"),
            ("Sticker | Example (Holo)", "Sticker | Example (Holo)"),
            ("Fracture Case", "Fracture Case"),
        ] {
            let names = market_names(base);
            assert!(names.iter().any(|found| found == name), "{base}: {names:?}");
        }
    }
}
