//! The subscriptions of a feed, which another whitelist may replace while it runs.
//!
//! A change reaches the market by a new connection for each old one. Both deliver for a while, so no
//! listing is missed.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::{config::CONNECTIONS_MAX, markets::MarketSubscription, threads::lock};

/// Current subscriptions of a feed. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FeedSubscriptions(Arc<SharedSubscriptions>);

#[derive(Debug, Default)]
struct SharedSubscriptions {
    /// `None` before the feed runs.
    current: Mutex<Option<Arc<[MarketSubscription]>>>,
    /// One per connection: notified when the connection has old subscriptions.
    changed: [Notify; CONNECTIONS_MAX],
}

impl FeedSubscriptions {
    /// Returns the current subscriptions, which are the given ones at first.
    pub(super) fn current_or(
        &self,
        first: impl FnOnce() -> Vec<MarketSubscription>,
    ) -> Arc<[MarketSubscription]> {
        Arc::clone(lock(&self.0.current).get_or_insert_with(|| first().into()))
    }

    /// Replaces the subscriptions of a running feed. Returns `false` if they are the same, or the feed
    /// does not run.
    pub fn replace(&self, new: Vec<MarketSubscription>) -> bool {
        let mut current = lock(&self.0.current);
        if current.as_ref().is_none_or(|current| **current == *new) {
            return false;
        }
        *current = Some(new.into());
        drop(current);
        self.0.changed.iter().for_each(Notify::notify_one);
        true
    }

    /// Waits until this connection has old subscriptions.
    ///
    /// # Cancel safety
    ///
    /// Safe: a change that nothing waits for is reported to the next call.
    pub(super) async fn changed(&self, connection: usize) {
        match self.0.changed.get(connection) {
            Some(changed) => changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Forgets the change of a connection, which is opened with the current subscriptions.
    pub(super) fn on_opening(&self, connection: usize) {
        if let Some(changed) = self.0.changed.get(connection) {
            // A permit without a waiter is taken by the next `notified`, which must not see it.
            let mut permit = std::pin::pin!(changed.notified());
            let _had_permit = permit.as_mut().enable();
        }
    }
}
