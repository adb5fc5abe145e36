//! Runs one connection and replaces it before it reaches `max_age`.
//!
//! Servers close old connections. The replacement is connected first, and both deliver for a while
//! before the old one is closed, so no listing is missed.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{
    connect::Dial,
    error::FeedError,
    feed::FeedSession,
    gap_tracker::Seconds,
    metrics::add,
    policy::{Permit, RetryDecision},
    reconnector::{ConnectionLifetime, Reconnector},
    session::now,
    supervisor::Supervisor,
    watchdog::ArrivalStats,
};
use crate::{domain::trade::Trade, markets::Marketplace};

/// Time during which the old and the new connection both deliver.
const OVERLAP: Duration = Duration::from_secs(5);

/// Minimum wait after a failed rotation.
const ROTATION_RETRY: Duration = Duration::from_secs(15);

enum RotationOutcome<M: Marketplace, D: Dial> {
    /// The connection has ended.
    Ended(FeedError),
    /// The new connection is up.
    Successor(Box<FeedSession<M, D::Stream>>),
    /// The new connection could not be made.
    NoSuccessor(FeedError),
}

impl<M: Marketplace, D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, M, D, F> {
    /// Connects and runs the session, including its replacements, until the end.
    pub(super) async fn run_with_rotation(
        &self,
        connection: usize,
        reconnector: &Reconnector,
        arrival_stats: &mut ArrivalStats,
    ) -> ConnectionLifetime {
        self.feed_state.gap_tracker.on_dial();
        let mut session = match self.open().await {
            Ok(session) => session,
            Err(error) => {
                self.feed_state.gap_tracker.on_dial_failed(&error.chain());
                return ConnectionLifetime::failed(error);
            }
        };
        let tag = reconnector.tag();
        info!("Connected{tag}");
        self.feed_state.gap_tracker.on_connected();
        arrival_stats.interrupt();
        let since = now();
        let mut handler = self.feed_state.handler(
            connection,
            reconnector.healthy_on_delivery(),
            reconnector.healthy_callback(),
        );
        let mut rotate_at = self.rotation_time(since);
        let ended = loop {
            let outcome = tokio::select! {
                biased;
                ended = session.run(&mut handler, arrival_stats) => RotationOutcome::Ended(ended),
                outcome = self.connect_successor(rotate_at) => outcome,
            };
            match outcome {
                RotationOutcome::Ended(ended) => break ended,
                RotationOutcome::NoSuccessor(error) => {
                    let wait = self.rotation_retry_delay(&error);
                    rotate_at = later(now(), wait);
                    let (wait, error) = (Seconds(wait), error.chain());
                    warn!("Could not renew the connection, retrying in {wait}{tag}: {error}");
                }
                RotationOutcome::Successor(successor) => {
                    let mut old = std::mem::replace(&mut session, *successor);
                    rotate_at = self.rotation_time(now());
                    let mut old_arrival_stats = ArrivalStats::default();
                    let mut old_handler =
                        self.feed_state.handler(connection, false, || {}).superseded();
                    handler.on_subscribed();
                    std::mem::swap(&mut old_handler.number, &mut handler.number);
                    let hand_over = async {
                        let run = old.run(&mut old_handler, &mut old_arrival_stats);
                        if tokio::time::timeout(OVERLAP, run).await.is_err() {
                            old.close(1_000).await;
                        }
                    };
                    add(&self.feed_state.feed.metrics.rotations, 1);
                    info!("Connection renewed before its maximum age{tag}");
                    tokio::select! {
                        biased;
                        ended = session.run(&mut handler, arrival_stats) => break ended,
                        () = hand_over => {}
                    }
                }
            }
        };
        handler.on_disconnected(session.alive_until(&ended), &ended);
        ConnectionLifetime::ended(now().saturating_duration_since(since), handler.listings(), ended)
    }

    /// Makes the new connection at the given time.
    async fn connect_successor(&self, at: Instant) -> RotationOutcome<M, D> {
        tokio::time::sleep_until(at.into()).await;
        while let Permit::Wait(wait) = self.host.try_acquire(now()) {
            tokio::time::sleep(wait).await;
        }
        add(&self.feed_state.feed.metrics.dials, 1);
        match self.open().await {
            Ok(successor) => RotationOutcome::Successor(Box::new(successor)),
            Err(error) => {
                self.host.record_failure(now());
                RotationOutcome::NoSuccessor(error)
            }
        }
    }

    /// Returns the wait after a failed rotation: at least a requested `Retry-After`, and after an
    /// error that suspends retries at least the cooldown.
    fn rotation_retry_delay(&self, error: &FeedError) -> Duration {
        let cooldown = self.feed_state.feed.config.reconnection.limits().circuit_breaker_cooldown;
        let wait_min = match error.retry_decision() {
            RetryDecision::RetryAfter(requested) => requested,
            RetryDecision::Suspend => cooldown,
            RetryDecision::SuspendAtLeast(requested) => cooldown.max(requested),
            RetryDecision::Retry | RetryDecision::RetryLater | RetryDecision::RenewCredential => {
                Duration::ZERO
            }
        };
        if !wait_min.is_zero() {
            let now = now();
            self.host.block_until(now, later(now, wait_min));
        }
        wait_min.max(ROTATION_RETRY)
    }

    async fn open(&self) -> Result<FeedSession<M, D::Stream>, FeedError> {
        let credential = self.credential.borrow().clone();
        self.feed_state.open(&self.dial, credential.as_ref()).await
    }

    /// Returns the rotation time of a connection that is up since `since`: 80 to 95 % of `max_age`,
    /// at random, so that connections do not rotate together.
    fn rotation_time(&self, since: Instant) -> Instant {
        let thousandths = fastrand::u32(800..950);
        let age = self.feed_state.feed.config.feed.max_age.saturating_mul(thousandths);
        later(since, age.checked_div(1_000).unwrap_or(age))
    }
}

fn later(instant: Instant, wait: Duration) -> Instant {
    instant.checked_add(wait).unwrap_or(instant)
}
