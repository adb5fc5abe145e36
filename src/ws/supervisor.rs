//! The loop that keeps the feed up.
//!
//! One loop per connection: wait until the host may be dialled, connect, serve, judge how it ended,
//! say so, wait, again. Every decision is made in [`policy`](super::policy); this is where time
//! passes and lines are logged.

use std::{cell::RefCell, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{
    connect::{Dial, TcpDial},
    error::{FeedError, SettingNames},
    feed::FeedState,
    host_cooldown::Host,
    metrics::CONNECTIONS_MAX,
    reconnector::{Reconnector, fresh_credential},
    watchdog::ArrivalStats,
};
use crate::{
    config::{Config, Credential},
    domain::trade::Trade,
};

/// Why [`run_with_reconnect`] returned. It does so only where `max_retries` is set.
#[derive(Debug, thiserror::Error)]
#[error("the feed was given up after {attempts} attempts without success")]
pub struct RetriesExhausted {
    /// How many attempts in a row led to nothing.
    pub attempts: u32,
    /// How the last one ended; `None`: none was made.
    #[source]
    pub last: Option<FeedError>,
}

/// Hands out listings over as many connections, one after the other, as it takes.
///
/// Never returns unless `max_retries` is set and used up. `on_trade` runs in this task, as soon as a
/// frame was read; it must not wait.
///
/// # Cancel safety
///
/// Safe: `on_trade` never runs in part. Drop the future to stop; the server sees the sockets close.
pub async fn run_with_reconnect(
    config: &Config,
    on_trade: impl FnMut(Trade<'_>),
) -> RetriesExhausted {
    match TcpDial::of(config) {
        Ok(dial) => run_over(config, dial, on_trade).await,
        Err(error) => RetriesExhausted { attempts: 0, last: Some(error) },
    }
}

/// The same over any way to make a connection.
///
/// # Cancel safety
///
/// Safe, as [`run_with_reconnect`] is.
pub async fn run_over<D: Dial>(
    config: &Config,
    dial: D,
    on_trade: impl FnMut(Trade<'_>),
) -> RetriesExhausted {
    let supervisor = Supervisor {
        host: config.hosts.host(&dial.host(), &config.reconnection),
        dial,
        credential: RefCell::new(config.credential.clone()),
        hub: FeedState::new(config, on_trade),
    };
    let filling = async {
        if let Some(inlet) = config.backfill.as_ref().and_then(|backfill| backfill.take_inlet()) {
            supervisor.hub.fill(inlet).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        gave_up = supervisor.keep_all() => gave_up,
        gave_up = filling => gave_up,
    }
}

/// What keeps a feed up.
pub(super) struct Supervisor<'c, D, F> {
    pub(super) hub: FeedState<'c, F>,
    pub(super) dial: D,
    pub(super) host: Arc<Host>,
    pub(super) credential: RefCell<Option<Credential>>,
}

impl<D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, D, F> {
    /// Keeps every connection up; returns when all have given up.
    async fn keep_all(&self) -> RetriesExhausted {
        let connections = self.hub.config.feed.connections.clamp(1, CONNECTIONS_MAX);
        if connections == 1 {
            return self.keep(0).await;
        }
        let mut all: FuturesUnordered<_> =
            (0..connections).map(|connection| self.keep(connection)).collect();
        let mut gave_up = RetriesExhausted { attempts: 0, last: None };
        while let Some(next) = all.next().await {
            gave_up = next;
        }
        gave_up
    }

    /// Keeps one connection up.
    async fn keep(&self, connection: usize) -> RetriesExhausted {
        let Config { feed, reconnection, taps, credential_source, .. } = self.hub.config;
        let tag = match feed.connections {
            0 | 1 => String::new(),
            _ => format!(" [connection {}]", connection.saturating_add(1)),
        };
        let (host, taps) = (Arc::clone(&self.host), Arc::clone(taps));
        let mut cycle = Reconnector::new(*reconnection, host, taps, "trades", tag)
            .advising(SettingNames::MARKETPLACE);
        let mut rhythm = ArrivalStats::default();
        loop {
            cycle.admission().await;
            let tenure = self.tenure(connection, &cycle, &mut rhythm).await;
            let pause = cycle.ended(&tenure);
            if pause.is_last {
                return RetriesExhausted { attempts: pause.attempt, last: Some(tenure.ended) };
            }
            tokio::time::sleep(pause.wait).await;
            if pause.wants_credential
                && let Some(fresh) = fresh_credential(credential_source.as_ref()).await
            {
                self.credential.replace(Some(fresh));
            }
        }
    }
}
