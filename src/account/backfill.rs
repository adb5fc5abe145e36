//! Back-fill: reads open listings, newest first, back to those that the feed has delivered.
//!
//! Each listing is sent through a bounded queue, owned and with its age, so that the thread that
//! decides takes one at a time between two frames and never parses a page. Dropping the future of a
//! sweep cancels it. [`fill_gaps`] runs a sweep for each gap of the feed. A newer gap cancels the
//! sweep of an older one, and its sweep includes the range that was not read.

use std::{collections::HashSet, time::Duration};

use tokio::{sync::mpsc, time::sleep};
use tracing::{debug, info, warn};

use super::{failure::ReadFailure, reader::AccountReader};
use crate::{
    clock,
    domain::account::NextPage,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent},
    markets::{EnvironmentNames, MarketApi},
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
        let page = reader.open_listings(after.as_deref()).await?;
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
            let age = trade.created_at.map_or(Duration::MAX, |created| now.since(created));
            let trade = Trade { event: TradeEvent::BackFilled { age }, ..trade.into_owned() };
            if listings.send(trade).await.is_err() {
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
            if let Some((lag, since)) = late {
                sleep(lag).await;
                let swept = sweep_with_retries(reader, Some(since), sender.listings()).await;
                log_result(gap.number, &swept, &M::CAPABILITIES.environment);
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

fn log_result(gap: u64, swept: &Result<SweepResult, ReadFailure>, names: &EnvironmentNames) {
    let read = |result: &SweepResult| {
        let listings = counted(result.listings, "listing", "listings");
        format!("{listings}, {}", counted(result.pages, "page", "pages"))
    };
    match swept {
        Ok(result) if result.complete && gap == 0 => info!("Open listings read: {}", read(result)),
        Ok(result) if result.complete => debug!("Gap back-filled: {}", read(result)),
        Ok(result) => {
            warn!("Back-fill incomplete: {}; older listings may be missing", read(result));
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
