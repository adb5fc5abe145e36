//! Listings that were missed, found elsewhere and handed in: the bridge between the feed and
//! whoever reads what is for sale.
//!
//! The feed says when a gap has ended (after it has subscribed, so nothing falls between) and from
//! which moment on something may be missing; the reader, on a thread of its own, hands in what it
//! finds, and the feed passes it to the closure in its own task, each listing once. A newer gap
//! cancels the reading for an older one.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::{domain::time::UnixMs, domain::trade::Trade};

/// How many listings wait to be passed on. A slow closure slows the reading down and nothing else.
pub const BACKFILL_QUEUED_MAX: usize = 256;

/// What is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillRequest {
    /// Which gap it is for; 0: none, but the sweep at start.
    pub number: u64,
    /// What was listed since then may have been missed, by our wall clock; `None`: all of it.
    pub since: Option<UnixMs>,
}

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BackfillResult {
    number: u64,
}

/// The feed's end. Put into [`Config`](crate::config::Config).
#[derive(Debug)]
pub struct Backfill {
    wants: watch::Sender<Option<BackfillRequest>>,
    inlet: Mutex<Option<BackfillReceiver>>,
}

/// What comes in at the feed's end.
#[derive(Debug)]
pub(super) struct BackfillReceiver {
    listings: mpsc::Receiver<Trade<'static>>,
    done: mpsc::Receiver<BackfillResult>,
}

/// The reader's end.
#[derive(Debug)]
pub struct BackfillSender {
    wants: watch::Receiver<Option<BackfillRequest>>,
    listings: mpsc::Sender<Trade<'static>>,
    done: mpsc::Sender<BackfillResult>,
}

/// Makes both ends.
pub fn backfill() -> (Backfill, BackfillSender) {
    let (wants, wanted) = watch::channel(None);
    let (listings, listings_in) = mpsc::channel(BACKFILL_QUEUED_MAX);
    let (done, done_in) = mpsc::channel(1);
    let inlet = Mutex::new(Some(BackfillReceiver { listings: listings_in, done: done_in }));
    (Backfill { wants, inlet }, BackfillSender { wants: wanted, listings, done })
}

impl Backfill {
    /// Asks for a reading, in place of any that is under way.
    pub(super) fn want(&self, want: BackfillRequest) {
        self.wants.send_replace(Some(want));
    }

    /// Whatever is being read is not wanted any more: a newer gap has begun.
    pub(super) fn cancel(&self) {
        self.wants.send_replace(None);
    }

    /// What comes in; once.
    pub(super) fn take_inlet(&self) -> Option<BackfillReceiver> {
        self.inlet.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What came in.
pub(super) enum BackfillMessage {
    /// A listing.
    Listing(Box<Trade<'static>>),
    /// Everything for this gap has come in.
    All(u64),
}

impl BackfillReceiver {
    /// What comes in next; `None` when the reader is gone.
    pub(super) async fn next(&mut self) -> Option<BackfillMessage> {
        tokio::select! {
            biased;
            Some(trade) = self.listings.recv() => Some(BackfillMessage::Listing(Box::new(trade))),
            Some(done) = self.done.recv() => Some(BackfillMessage::All(done.number)),
            else => None,
        }
    }
}

impl BackfillSender {
    /// Waits until something is to be read; `None` when the feed is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe: a want that was not returned comes again.
    pub async fn wanted(&mut self) -> Option<BackfillRequest> {
        self.wants.wait_for(Option::is_some).await.ok().and_then(|want| *want)
    }

    /// Returns when this want is not wanted any more, because a newer gap began or the feed is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn superseded(&self, want: BackfillRequest) {
        let mut wants = self.wants.clone();
        // An error says that the feed is gone, which supersedes everything.
        let _gone = wants.wait_for(|now| *now != Some(want)).await.is_err();
    }

    /// Where listings are handed in.
    pub const fn listings(&self) -> &mpsc::Sender<Trade<'static>> {
        &self.listings
    }

    /// Says that everything for this want was handed in, or that no more can be, and waits for the
    /// next one.
    ///
    /// # Cancel safety
    ///
    /// Safe: it is said or not.
    pub async fn done(&mut self, want: BackfillRequest) {
        // If the feed is gone nobody is interested.
        let _gone = self.done.send(BackfillResult { number: want.number }).await.is_err();
        self.superseded(want).await;
    }
}
