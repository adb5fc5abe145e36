//! Back-fill: reads what is for sale, newest first, back to what is already known.
//!
//! Each listing comes out of a bounded queue, owned and marked with its age, so that the thread
//! that decides takes one at a time between two frames and never reads a page. A sweep is cancelled
//! by dropping it. [`back_fill`] runs one whenever it is asked for: an older one that is still
//! under way is cancelled, and what it left is read by the newer.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{failure::ReadFailure, reader::Reader};
use crate::{
    clock,
    time::UnixMs,
    trade::{Event, Trade},
};

/// How many pages one sweep reads at most: five thousand listings.
pub const PAGES_MAX: u32 = 20;

/// How many listings wait to be taken. A slow taker slows the sweep down and nothing else.
pub const LISTINGS_QUEUED_MAX: usize = 256;

/// How far back beyond the gap a sweep reads: the two clocks differ, and the feed is not sorted to
/// the millisecond.
pub const OVERLAP: Duration = Duration::from_secs(10);

/// How often a sweep that failed for a passing reason is tried.
pub const ATTEMPTS_MAX: u32 = 3;

/// What comes out of a back-fill.
#[derive(Debug)]
pub enum Found {
    /// A listing that is for sale, marked with its age. It may be known already.
    Listing(Box<Trade<'static>>),
    /// The sweep for this request, and for all before it, has ended.
    Ended {
        /// The number that [`BackFills::ask`] returned.
        request: u64,
        /// What it did, or why it was given up.
        swept: Result<Swept, ReadFailure>,
    },
}

/// Asks for back-fills, from any thread and without waiting.
#[derive(Clone, Debug)]
pub struct BackFills(watch::Sender<Asked>);

/// What has been asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How often.
    request: u64,
    /// Back to when, by our wall clock; `None`: everything.
    back_to: Option<UnixMs>,
    /// The last request whose sweep has ended.
    ended: u64,
}

impl Default for BackFills {
    fn default() -> Self {
        Self(watch::Sender::new(Asked::default()))
    }
}

impl BackFills {
    /// Asks for what was listed since `back_to`, by our wall clock; `None`: for all that is for
    /// sale. Returns the number of this request.
    pub fn ask(&self, back_to: Option<UnixMs>) -> u64 {
        let mut request = 0;
        self.0.send_modify(|asked| {
            // What an unfinished sweep was to read must still be read.
            let is_waiting = asked.ended < asked.request;
            asked.back_to = match (is_waiting, asked.back_to, back_to) {
                (true, Some(before), Some(now)) => Some(before.min(now)),
                (true, _, _) => None,
                (false, _, now) => now,
            };
            asked.request = asked.request.saturating_add(1);
            request = asked.request;
        });
        request
    }
}

/// Sweeps whenever it is asked to, until nobody takes what is found or nobody can ask any more.
///
/// # Cancel safety
///
/// Safe: it only reads, and each listing is handed out whole.
pub async fn back_fill(reader: &Reader, requests: &BackFills, found: &mpsc::Sender<Found>) {
    let mut asked = requests.0.subscribe();
    loop {
        let Asked { request, back_to, ended } = *asked.borrow_and_update();
        if ended < request {
            let swept = tokio::select! {
                biased;
                _newer = asked.changed() => continue,
                swept = insist(reader, back_to, found) => swept,
            };
            requests.0.send_if_modified(|asked| {
                asked.ended = asked.ended.max(request);
                false
            });
            if found.send(Found::Ended { request, swept }).await.is_err() {
                return;
            }
        }
        tokio::select! {
            changed = asked.changed() => if changed.is_err() { return },
            () = found.closed() => return,
        }
    }
}

/// Sweeps again after what may pass. The reader's pace keeps the distance.
async fn insist(
    reader: &Reader,
    back_to: Option<UnixMs>,
    found: &mpsc::Sender<Found>,
) -> Result<Swept, ReadFailure> {
    let mut attempts = 1;
    loop {
        match sweep(reader, back_to, found).await {
            Err(failure) if attempts < ATTEMPTS_MAX && failure.may_pass() => {
                attempts = attempts.saturating_add(1);
            }
            ended => return ended,
        }
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
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
    reader: &Reader,
    back_to: Option<UnixMs>,
    found: &mpsc::Sender<Found>,
) -> Result<Swept, ReadFailure> {
    let mut swept = Swept::default();
    let mut after: Option<String> = None;
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
            let trade = Trade { event: Event::BackFilled { age }, ..trade.into_owned() };
            if found.send(Found::Listing(Box::new(trade))).await.is_err() {
                // Nobody wants them any more.
                return Ok(swept);
            }
            swept.listings = swept.listings.saturating_add(1);
        }
        after = read.next;
        if reached || after.is_none() {
            swept.complete = true;
            break;
        }
    }
    Ok(swept)
}
