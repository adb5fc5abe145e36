//! Back-fill of gaps: the channel between the feed and the task that reads the open listings.
//!
//! The feed sends a [`BackfillRequest`] at the end of a gap, after it has subscribed, so no listing
//! is missed in between. The reading task runs on another thread and sends the listings that it
//! finds; the feed delivers each of them once, in its own task. A new gap cancels the back-fill of
//! an older one.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::{domain::time::UnixMs, domain::trade::Trade};

/// Maximum number of found listings that wait for delivery. A slow closure only slows the
/// back-fill.
pub const BACKFILL_QUEUED_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackfillRequest {
    /// Number of the gap; 0 is the sweep at start.
    pub number: u64,
    /// Start of the missed interval, by the wall clock; `None` requests all open listings.
    pub since: Option<UnixMs>,
}

/// Completion of a back-fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BackfillResult {
    number: u64,
}

/// The feed's end, stored in [`Config`](crate::config::Config).
#[derive(Debug)]
pub struct Backfill {
    requests: watch::Sender<Option<BackfillRequest>>,
    receiver: Mutex<Option<BackfillReceiver>>,
}

/// The feed's end of the data channels.
#[derive(Debug)]
pub(super) struct BackfillReceiver {
    listings: mpsc::Receiver<Trade<'static>>,
    done: mpsc::Receiver<BackfillResult>,
}

/// The reader's end.
#[derive(Debug)]
pub struct BackfillSender {
    requests: watch::Receiver<Option<BackfillRequest>>,
    listings: mpsc::Sender<Trade<'static>>,
    done: mpsc::Sender<BackfillResult>,
}

/// Creates a connected pair.
pub fn backfill() -> (Backfill, BackfillSender) {
    let (requests, requests_out) = watch::channel(None);
    let (listings, listings_rx) = mpsc::channel(BACKFILL_QUEUED_MAX);
    let (done, done_rx) = mpsc::channel(1);
    let receiver = Mutex::new(Some(BackfillReceiver { listings: listings_rx, done: done_rx }));
    (Backfill { requests, receiver }, BackfillSender { requests: requests_out, listings, done })
}

impl Backfill {
    /// Requests a back-fill and replaces one in progress.
    pub(super) fn request(&self, request: BackfillRequest) {
        self.requests.send_replace(Some(request));
    }

    /// Cancels the back-fill in progress, because a new gap has begun.
    pub(super) fn cancel(&self) {
        self.requests.send_replace(None);
    }

    /// Takes the receiver. Only the first call returns it.
    pub(super) fn take_receiver(&self) -> Option<BackfillReceiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(super) enum BackfillMessage {
    Listing(Box<Trade<'static>>),
    /// All listings for the gap with this number have been sent.
    All(u64),
}

impl BackfillReceiver {
    /// Returns the next message, or `None` once the sender is dropped.
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
    /// Waits for a request. Returns `None` once the feed is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a request that was not returned is returned by the next call.
    pub async fn next_request(&mut self) -> Option<BackfillRequest> {
        self.requests.wait_for(Option::is_some).await.ok().and_then(|request| *request)
    }

    /// Waits until this request is obsolete because of a new gap or a dropped feed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future has no effect.
    pub async fn superseded(&self, request: BackfillRequest) {
        let mut requests = self.requests.clone();
        // An error means that the feed was dropped, which makes every request obsolete.
        let _gone = requests.wait_for(|now| *now != Some(request)).await.is_err();
    }

    /// The channel for found listings.
    pub const fn listings(&self) -> &mpsc::Sender<Trade<'static>> {
        &self.listings
    }

    /// Reports the end of the work on this request, then waits for the next one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the report is either sent or not.
    pub async fn done(&mut self, request: BackfillRequest) {
        // If the feed is dropped, the report has no receiver.
        let _gone = self.done.send(BackfillResult { number: request.number }).await.is_err();
        self.superseded(request).await;
    }
}
