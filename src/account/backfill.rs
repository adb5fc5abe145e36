//! Back-fill: reads what is for sale, newest first, back to what is already known.
//!
//! Each listing comes out of a bounded queue, owned and marked with its age, so that the thread
//! that decides takes one at a time between two frames and never reads a page. A sweep is cancelled
//! by dropping it. [`fill_gaps`] runs one for each gap that the feed tells of: an older one that is
//! still under way is cancelled, and what it left is read with the newer.

use std::{collections::HashSet, time::Duration};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{failure::ReadFailure, reader::AccountReader};
use crate::{
    clock,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent},
    markets::csgoroll::account::NextPage,
    ws::BackfillSender,
};

/// How many pages one sweep reads at most: five thousand listings.
pub const PAGES_MAX: u32 = 20;

/// How far back beyond the gap a sweep reads: the two clocks differ, and the feed is not sorted to
/// the millisecond.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// How often a sweep that failed for a passing reason is tried.
pub const ATTEMPTS_MAX: u32 = 3;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepResult {
    /// Listings handed out.
    pub listings: u32,
    /// Pages read.
    pub pages: u32,
    /// Listings that could not be read.
    pub unreadable: u32,
    /// Whether it got back to where it should.
    pub complete: bool,
}

/// Reads what is for sale back to `back_to`, by our wall clock; `None`: all of it.
///
/// # Errors
///
/// A [`ReadFailure`], after what was handed out so far.
///
/// # Cancel safety
///
/// Safe: it only reads, and each listing is handed out whole.
pub async fn sweep(
    reader: &AccountReader,
    back_to: Option<UnixMs>,
    listings: &mpsc::Sender<Trade<'static>>,
) -> Result<SweepResult, ReadFailure> {
    let mut swept = SweepResult::default();
    let mut after: Option<String> = None;
    let mut cursors = HashSet::new();
    while swept.pages < PAGES_MAX {
        let page = reader.open_listings(after.as_deref()).await?;
        swept.pages = swept.pages.saturating_add(1);
        // What cannot be told is told by our own clock.
        let now = page.latest().unwrap_or_else(clock::now);
        let read = page.listings()?;
        swept.unreadable = swept.unreadable.saturating_add(read.unreadable);
        let mut reached = false;
        for trade in read.nodes {
            let is_known = back_to
                .zip(trade.created_at)
                .is_some_and(|(back_to, created)| created.plus(OVERLAP) < back_to);
            if is_known {
                reached = true;
                break;
            }
            let age = trade.created_at.map_or(Duration::MAX, |created| now.since(created));
            let trade = Trade { event: TradeEvent::BackFilled { age }, ..trade.into_owned() };
            if listings.send(trade).await.is_err() {
                // Nobody wants them any more.
                return Ok(swept);
            }
            swept.listings = swept.listings.saturating_add(1);
        }
        after = match read.next {
            _ if reached => None,
            // A cursor that was followed already leads in a circle.
            NextPage::After(cursor) if cursors.insert(cursor.clone()) => Some(cursor),
            NextPage::After(_) | NextPage::Unclear => return Ok(swept),
            NextPage::End => None,
        };
        if after.is_none() {
            swept.complete = true;
            break;
        }
    }
    Ok(swept)
}

/// Sweeps for each gap of the feed, and at its start if it wants that, until the feed is gone.
///
/// # Cancel safety
///
/// Safe: it only reads, and each listing is handed in whole.
pub async fn fill_gaps(reader: &AccountReader, mut filler: BackfillSender) {
    // What a cancelled sweep was to read and has not; the outer `None`: nothing.
    let mut owed: Option<Option<UnixMs>> = None;
    while let Some(want) = filler.wanted().await {
        let since = match owed {
            Some(owed) => owed.zip(want.since).map(|(owed, since)| owed.min(since)),
            None => want.since,
        };
        let swept = tokio::select! {
            biased;
            () = filler.superseded(want) => {
                owed = Some(since);
                continue;
            }
            swept = insist(reader, since, filler.listings()) => swept,
        };
        owed = None;
        tell(want.number, &swept);
        filler.done(want).await;
    }
}

fn tell(gap: u64, swept: &Result<SweepResult, ReadFailure>) {
    match swept {
        Ok(SweepResult { listings, pages, complete: true, .. }) if gap == 0 => {
            info!("Read what is for sale: {listings} listings on {pages} pages");
        }
        Ok(SweepResult { listings, pages, complete: true, .. }) => {
            debug!("Back-filled {listings} listings from {pages} pages");
        }
        Ok(SweepResult { listings, pages, .. }) => warn!(
            "Back-fill stopped after {listings} listings on {pages} pages: older ones may be missing"
        ),
        Err(failure) => {
            let cause = failure.cause();
            warn!(
                "Back-fill failed, some listings may be missing: {}. What to do: {}",
                cause.text(),
                cause.remedy()
            );
        }
    }
}

/// Sweeps again after what may pass. The reader's pace keeps the distance.
async fn insist(
    reader: &AccountReader,
    back_to: Option<UnixMs>,
    listings: &mpsc::Sender<Trade<'static>>,
) -> Result<SweepResult, ReadFailure> {
    let mut attempts = 1;
    loop {
        match sweep(reader, back_to, listings).await {
            Err(failure) if attempts < ATTEMPTS_MAX && failure.may_pass() => {
                attempts = attempts.saturating_add(1);
            }
            ended => return ended,
        }
    }
}
