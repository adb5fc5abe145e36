//! The beginning of a session: the greeting, its acknowledgement, the subscriptions.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

use super::{Session, Taken, driver::Nobody, ending::closed, now};
use crate::{
    clock,
    ws::{error::FeedError, liveness::Clocks, protocol::Dialect},
};

impl<S: AsyncRead + AsyncWrite + Unpin, L: Dialect> Session<S, L> {
    /// Greets the server and waits until it acknowledges, answering pings meanwhile.
    pub(in crate::ws) async fn greet(&mut self) -> Result<(), FeedError> {
        if let Some(greeting) = self.machine.open() {
            self.outbox.push_text(greeting)?;
        }
        poll_fn(|cx| {
            loop {
                if let Err(error) = self.outbox.poll(&mut self.socket, cx, now()) {
                    return Poll::Ready(Err(self.last_words(cx, error)));
                }
                if self.machine.is_live() {
                    return Poll::Ready(Ok(()));
                }
                let message = ready!(self.poll_message(cx))?;
                if let Taken::Closed = self.take(message, self.arrival(now()), &mut Nobody)? {
                    let reason = ": before it acknowledged the session".to_owned();
                    return Poll::Ready(Err(FeedError::Closed { code: 1_000, reason }));
                }
            }
        })
        .await
    }

    /// Writes the subscriptions, to the last byte.
    pub(in crate::ws) async fn subscribe(&mut self) -> Result<(), FeedError> {
        self.queue_due(now())?;
        poll_fn(|cx| {
            if let Err(error) = self.outbox.poll(&mut self.socket, cx, now()) {
                return Poll::Ready(Err(self.last_words(cx, error)));
            }
            if !self.outbox.is_written() {
                return Poll::Pending;
            }
            Poll::Ready(Ok::<(), FeedError>(()))
        })
        .await?;
        let now = now();
        self.since = now;
        self.clocks = Clocks::new(&self.limits, now, clock::now());
        Ok(())
    }

    /// A write failed: what the server said before it left says more than that it is gone.
    fn last_words(&mut self, cx: &mut Context<'_>, error: FeedError) -> FeedError {
        while let Poll::Ready(Ok(message)) = self.poll_message(cx) {
            if let Message::Close(Some(frame)) = message
                && let Err(words) = closed(Some(frame))
            {
                return words;
            }
        }
        error
    }
}
