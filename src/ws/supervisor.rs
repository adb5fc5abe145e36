//! Reconnect loop of the market's feed.
//!
//! Each connection runs its own loop: acquire a permit, connect, run the session, classify its end,
//! wait. [`policy`](super::policy) takes the decisions; this module sleeps and connects.

use std::{cell::RefCell, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    connect::{Dial, TcpDial},
    error::{FeedError, SettingNames},
    feed::{Feed, FeedState},
    host_cooldown::Host,
    reconnector::{Reconnector, fresh_credential},
    watchdog::ArrivalStats,
};
use crate::{
    config::{CONNECTIONS_MAX, Config, Credential},
    domain::trade::Trade,
    markets::Marketplace,
};

/// Reports that `max_retries` is used up. Without `max_retries` it never occurs.
#[derive(Debug, thiserror::Error)]
#[error("gave up on the feed after {attempts} failed attempts")]
pub struct RetriesExhausted {
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The last error; `None` if no attempt was made.
    #[source]
    pub last: Option<FeedError>,
}

/// Delivers listings and reconnects after each end of a connection.
///
/// Returns only when `max_retries` is set and used up. `on_trade` runs in this task as soon as a
/// frame is read; it must not block.
///
/// # Cancel safety
///
/// Cancel safe: `on_trade` is never interrupted. Dropping the future closes the sockets.
pub async fn run_with_reconnect<M: Marketplace>(
    feed: &Feed<M>,
    on_trade: impl FnMut(Trade<'_>),
) -> RetriesExhausted {
    match TcpDial::from_config(&feed.config) {
        Ok(dial) => run_with_dial(feed, dial, on_trade).await,
        Err(error) => RetriesExhausted { attempts: 0, last: Some(error) },
    }
}

/// Does the same as [`run_with_reconnect`] over a custom [`Dial`].
///
/// # Cancel safety
///
/// Cancel safe, like [`run_with_reconnect`].
pub async fn run_with_dial<M: Marketplace, D: Dial>(
    feed: &Feed<M>,
    dial: D,
    on_trade: impl FnMut(Trade<'_>),
) -> RetriesExhausted {
    let supervisor = Supervisor {
        host: feed.hosts.host(&dial.host(), &feed.config.reconnection),
        dial,
        credential: RefCell::new(feed.config.credential.clone()),
        feed_state: FeedState::new(feed, on_trade),
    };
    let backfilling = async {
        if let Some(receiver) = feed.backfill.as_ref().and_then(|backfill| backfill.take_receiver())
        {
            supervisor.feed_state.run_backfill(receiver).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        gave_up = supervisor.run_all() => gave_up,
        gave_up = backfilling => gave_up,
    }
}

/// Owns the connections of one feed.
pub(super) struct Supervisor<'c, M, D, F> {
    pub(super) feed_state: FeedState<'c, M, F>,
    pub(super) dial: D,
    pub(super) host: Arc<Host>,
    pub(super) credential: RefCell<Option<Credential>>,
}

impl<M: Marketplace, D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, M, D, F> {
    /// Runs all connections; returns when each of them has given up.
    async fn run_all(&self) -> RetriesExhausted {
        let connections = self.feed_state.feed.config.feed.connections.clamp(1, CONNECTIONS_MAX);
        if connections == 1 {
            return self.run_connection(0).await;
        }
        let mut all: FuturesUnordered<_> =
            (0..connections).map(|connection| self.run_connection(connection)).collect();
        let mut gave_up = RetriesExhausted { attempts: 0, last: None };
        while let Some(next) = all.next().await {
            gave_up = next;
        }
        gave_up
    }

    /// Runs one connection and reconnects it.
    async fn run_connection(&self, connection: usize) -> RetriesExhausted {
        let Feed { config, metrics, .. } = self.feed_state.feed;
        let Config { feed, reconnection, credential_source, .. } = config;
        let tag = match feed.connections {
            0 | 1 => String::new(),
            _ => format!(" [connection {}]", connection.saturating_add(1)),
        };
        let (host, metrics) = (Arc::clone(&self.host), Arc::clone(metrics));
        let mut reconnector = Reconnector::new(*reconnection, host, metrics, "trades", tag)
            .with_setting_names(SettingNames::of::<M>());
        let mut arrival_stats = ArrivalStats::default();
        loop {
            reconnector.acquire_permit().await;
            let lifetime =
                self.run_with_rotation(connection, &reconnector, &mut arrival_stats).await;
            let delay = reconnector.on_connection_ended(&lifetime);
            if delay.is_last {
                return RetriesExhausted { attempts: delay.attempt, last: Some(lifetime.error) };
            }
            tokio::time::sleep(delay.wait).await;
            if delay.needs_credential
                && let Some(fresh) = fresh_credential(credential_source.as_ref()).await
            {
                self.credential.replace(Some(fresh));
            }
        }
    }
}
