//! The subscriptions of a feed, which another whitelist may replace while it runs.
//!
//! A change reaches the market by a new connection for each old one. Both deliver for a while, so
//! no listing is missed.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::{config::CONNECTIONS_MAX, markets::MarketSubscription, threads::lock};

/// Current subscriptions of a feed. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FeedSubscriptions(Arc<SharedSubscriptions>);

#[derive(Debug, Default)]
struct SharedSubscriptions {
    state: Mutex<SubscriptionsInForce>,
    /// One per connection: notified when the connection has old subscriptions.
    changed: [Notify; CONNECTIONS_MAX],
}

#[derive(Debug, Default)]
struct SubscriptionsInForce {
    /// `None` before the feed runs, unless they were replaced before.
    current: Option<Arc<[MarketSubscription]>>,
    /// `true` once a connection has used them.
    is_used: bool,
}

impl FeedSubscriptions {
    /// Returns the current subscriptions, which are the given ones at first.
    pub(super) fn current_or(
        &self,
        first: impl FnOnce() -> Vec<MarketSubscription>,
    ) -> Arc<[MarketSubscription]> {
        let mut state = lock(&self.0.state);
        state.is_used = true;
        Arc::clone(state.current.get_or_insert_with(|| first().into()))
    }

    /// Replaces the subscriptions. Returns `true` if a running feed renews them: they are others,
    /// and a connection has used the old ones.
    pub fn replace(&self, new: Vec<MarketSubscription>) -> bool {
        let mut state = lock(&self.0.state);
        if state.current.as_ref().is_some_and(|current| **current == *new) {
            return false;
        }
        state.current = Some(new.into());
        let is_used = state.is_used;
        drop(state);
        if is_used {
            self.0.changed.iter().for_each(Notify::notify_one);
        }
        is_used
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
