//! The beginning of a session: the greeting, its acknowledgement, the subscriptions.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, handler::NoopHandler, now};
use crate::{
    clock,
    latency::RxTimestamps,
    ws::{error::FeedError, frames::WsMessage, protocol::FeedProtocol, watchdog::Watchdog},
};

/// A close before the session was acknowledged says so beside its own code and reason.
fn too_soon(error: FeedError) -> FeedError {
    const WHEN: &str = "before it acknowledged the session";
    match error {
        FeedError::Closed { code, reason } if reason.is_empty() => {
            FeedError::Closed { code, reason: format!(": {WHEN}") }
        }
        FeedError::Closed { code, reason } => {
            FeedError::Closed { code, reason: format!("{reason} ({WHEN})") }
        }
        other => other,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, L: FeedProtocol> Session<S, L> {
    /// Greets the server and waits until it acknowledges, answering pings meanwhile.
    pub(in crate::ws) async fn greet(&mut self) -> Result<(), FeedError> {
        if let Some(greeting) = self.talk.machine.open() {
            self.talk.outbox.push_text(greeting)?;
        }
        poll_fn(|cx| {
            loop {
                if let Err(error) = self.poll_outbox(cx, now()) {
                    return Poll::Ready(Err(self.last_words(cx, error)));
                }
                if self.talk.machine.is_live() {
                    return Poll::Ready(Ok(()));
                }
                let message = ready!(self.socket.poll_next(cx))?.message;
                let arrival = RxTimestamps::at(now());
                self.talk.take(message, arrival, &mut NoopHandler).map_err(too_soon)?;
            }
        })
        .await
    }

    /// Writes the subscriptions, to the last byte.
    pub(in crate::ws) async fn subscribe(&mut self) -> Result<(), FeedError> {
        self.talk.queue_due(now(), |_operation| {})?;
        poll_fn(|cx| {
            if let Err(error) = self.poll_outbox(cx, now()) {
                return Poll::Ready(Err(self.last_words(cx, error)));
            }
            if !self.talk.outbox.is_written() {
                return Poll::Pending;
            }
            Poll::Ready(Ok::<(), FeedError>(()))
        })
        .await?;
        let now = now();
        self.talk.since = now;
        self.talk.clocks = Watchdog::new(&self.talk.limits, now, clock::now());
        Ok(())
    }

    /// A write failed: what the server said before it left says more than that it is gone.
    fn last_words(&mut self, cx: &mut Context<'_>, error: FeedError) -> FeedError {
        while let Poll::Ready(Ok(heard)) = self.socket.poll_next(cx) {
            if let WsMessage::Close(farewell) = heard.message {
                let (code, reason) = farewell.unzip();
                return FeedError::from_close(code, reason.unwrap_or(""));
            }
        }
        error
    }
}
