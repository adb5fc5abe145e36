//! Start of a session: the opening message, its acknowledgment, the subscriptions.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, handler::NoopHandler, now};
use crate::{
    domain::latency::RxTimestamps,
    protocol::FeedProtocol,
    ws::{error::FeedError, frames::WsMessage},
};

/// Adds to a close error that the session was not acknowledged yet.
fn closed_before_ack(error: FeedError) -> FeedError {
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
    /// Sends the opening message and waits for the acknowledgment; answers pings meanwhile.
    pub(in crate::ws) async fn init(&mut self) -> Result<(), FeedError> {
        if let Some(opening) = self.state.subscriptions.open() {
            self.state.outbox.push_message(opening)?;
        }
        poll_fn(|cx| {
            loop {
                if let Err(error) = self.poll_outbox(cx, now()) {
                    return Poll::Ready(Err(self.drain_close(cx, error)));
                }
                if self.state.subscriptions.is_live() {
                    return Poll::Ready(Ok(()));
                }
                let message = ready!(self.socket.poll_next(cx))?.message;
                let arrival = RxTimestamps::at(now());
                self.state
                    .handle_message(message, arrival, &mut NoopHandler)
                    .map_err(closed_before_ack)?;
            }
        })
        .await
    }

    /// Writes and flushes the subscriptions.
    pub(in crate::ws) async fn subscribe(&mut self) -> Result<(), FeedError> {
        self.state.queue_due(now(), |_operation| {})?;
        poll_fn(|cx| {
            if let Err(error) = self.poll_outbox(cx, now()) {
                return Poll::Ready(Err(self.drain_close(cx, error)));
            }
            if !self.state.outbox.is_written() {
                return Poll::Pending;
            }
            Poll::Ready(Ok::<(), FeedError>(()))
        })
        .await?;
        self.state.start_watchdog(now());
        Ok(())
    }

    /// Returns the close that the server sent before a failed write, if there is one, else the
    /// write error: the close reports the cause.
    fn drain_close(&mut self, cx: &mut Context<'_>, error: FeedError) -> FeedError {
        while let Poll::Ready(Ok(event)) = self.socket.poll_next(cx) {
            if let WsMessage::Close(close) = event.message {
                let (code, reason) = close.unzip();
                return FeedError::from_close(code, reason.unwrap_or(""));
            }
        }
        error
    }
}
