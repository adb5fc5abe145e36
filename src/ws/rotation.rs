//! One connection in office: from its dial to its end, with every successor that took over from it
//! because of its age.
//!
//! A server cuts connections that are old; each is replaced before that. The successor is up, and
//! both are heard for a while, before the old one says goodbye, so nothing falls between.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{
    connect::Dial,
    error::FeedError,
    feed::FeedSession,
    metrics::add,
    policy::{Permit, RetryDecision},
    reconnector::{ConnectionLifetime, Reconnector},
    session::now,
    supervisor::Supervisor,
    watchdog::ArrivalStats,
};
use crate::domain::trade::Trade;

/// How long both the old connection and its successor are heard.
const OVERLAP: Duration = Duration::from_secs(5);

/// How long after a failed rotation the next is tried.
const ROTATION_RETRY: Duration = Duration::from_secs(15);

/// How a stretch of listening ended.
enum RotationOutcome<D: Dial> {
    /// The connection is gone.
    Ended(FeedError),
    /// A successor is up.
    Successor(Box<FeedSession<D::Stream>>),
    /// No successor came about.
    NoSuccessor(FeedError),
}

impl<D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, D, F> {
    /// Connects, and listens until the connection and its successors have ended.
    pub(super) async fn tenure(
        &self,
        connection: usize,
        cycle: &Reconnector,
        rhythm: &mut ArrivalStats,
    ) -> ConnectionLifetime {
        self.hub.link.dials();
        let mut session = match self.open().await {
            Ok(session) => session,
            Err(error) => {
                self.hub.link.failed(&error.chain());
                return ConnectionLifetime::failed(error);
            }
        };
        let tag = cycle.tag();
        info!("Connected{tag}");
        self.hub.link.up();
        rhythm.interrupt();
        let since = now();
        let mut listener = self.hub.listener(connection, cycle.proves_by_delivery(), cycle.proof());
        let mut rotate_at = self.rotation_after(since);
        let ended = loop {
            let stretch = tokio::select! {
                biased;
                ended = session.run(&mut listener, rhythm) => RotationOutcome::Ended(ended),
                stretch = self.succeed(rotate_at) => stretch,
            };
            match stretch {
                RotationOutcome::Ended(ended) => break ended,
                RotationOutcome::NoSuccessor(error) => {
                    warn!("No successor for an old connection yet{tag}: {}", error.chain());
                    rotate_at = later(now(), self.rotation_pause(&error));
                }
                RotationOutcome::Successor(successor) => {
                    let mut old = std::mem::replace(&mut session, *successor);
                    rotate_at = self.rotation_after(now());
                    let mut old_rhythm = ArrivalStats::default();
                    let mut hears_old = self.hub.listener(connection, false, || {}).superseded();
                    listener.subscribed();
                    std::mem::swap(&mut hears_old.number, &mut listener.number);
                    let handing_over = async {
                        let run = old.run(&mut hears_old, &mut old_rhythm);
                        if tokio::time::timeout(OVERLAP, run).await.is_err() {
                            old.farewell(1_000).await;
                        }
                    };
                    add(&self.hub.config.taps.rotations, 1);
                    info!("Replaced by a fresh connection because of its age{tag}");
                    tokio::select! {
                        biased;
                        ended = session.run(&mut listener, rhythm) => break ended,
                        () = handing_over => {}
                    }
                }
            }
        };
        listener.disconnected(session.alive_until(&ended), &ended);
        ConnectionLifetime::over(now().saturating_duration_since(since), listener.listings(), ended)
    }

    /// Connects a successor when the time has come.
    async fn succeed(&self, at: Instant) -> RotationOutcome<D> {
        tokio::time::sleep_until(at.into()).await;
        while let Permit::Wait(wait) = self.host.admit(now()) {
            tokio::time::sleep(wait).await;
        }
        add(&self.hub.config.taps.dials, 1);
        match self.open().await {
            Ok(successor) => RotationOutcome::Successor(Box::new(successor)),
            Err(error) => {
                self.host.failed(now());
                RotationOutcome::NoSuccessor(error)
            }
        }
    }

    /// How long after a failed rotation the next is tried: no sooner than the server asks, and after
    /// a refusal that haste cannot heal no sooner than a parked feed would dial.
    fn rotation_pause(&self, error: &FeedError) -> Duration {
        let cooldown = self.hub.config.reconnection.limits().circuit_breaker_cooldown;
        let least = match error.verdict() {
            RetryDecision::RetryAfter(asked) => asked,
            RetryDecision::Park => cooldown,
            RetryDecision::ParkAtLeast(asked) => cooldown.max(asked),
            RetryDecision::Retry | RetryDecision::RetryLater | RetryDecision::RenewCredential => {
                Duration::ZERO
            }
        };
        if !least.is_zero() {
            self.host.stay_away(now(), least);
        }
        least.max(ROTATION_RETRY)
    }

    async fn open(&self) -> Result<FeedSession<D::Stream>, FeedError> {
        let credential = self.credential.borrow().clone();
        self.hub.open(&self.dial, credential.as_ref()).await
    }

    /// When a connection that is up since then is old: some time before the server's limit, and not
    /// all of them at once.
    fn rotation_after(&self, since: Instant) -> Instant {
        let thousandths = fastrand::u32(800..950);
        let age = self.hub.config.feed.max_age.saturating_mul(thousandths);
        later(since, age.checked_div(1_000).unwrap_or(age))
    }
}

fn later(instant: Instant, wait: Duration) -> Instant {
    instant.checked_add(wait).unwrap_or(instant)
}
