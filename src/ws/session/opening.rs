//! The beginning of a session: the greeting, its acknowledgement, the subscriptions.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Session, driver::Nobody, now, talk::Taken};
use crate::{
    clock,
    latency::Arrival,
    ws::{error::FeedError, frames::Message, liveness::Clocks, protocol::Dialect},
};

impl<S: AsyncRead + AsyncWrite + Unpin, L: Dialect> Session<S, L> {
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
                let arrival = Arrival::at(now());
                if let Taken::Closed = self.talk.take(message, arrival, &mut Nobody)? {
                    let reason = ": before it acknowledged the session".to_owned();
                    return Poll::Ready(Err(FeedError::Closed { code: 1_000, reason }));
                }
            }
        })
        .await
    }

    /// Writes the subscriptions, to the last byte.
    pub(in crate::ws) async fn subscribe(&mut self) -> Result<(), FeedError> {
        self.talk.queue_due(now())?;
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
        self.talk.clocks = Clocks::new(&self.talk.limits, now, clock::now());
        Ok(())
    }

    /// A write failed: what the server said before it left says more than that it is gone.
    fn last_words(&mut self, cx: &mut Context<'_>, error: FeedError) -> FeedError {
        while let Poll::Ready(Ok(heard)) = self.socket.poll_next(cx) {
            if let Message::Close(Some((code, reason))) = heard.message
                && let Err(words) = FeedError::from_close(Some(code), reason)
            {
                return words;
            }
        }
        error
    }
}
