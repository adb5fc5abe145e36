//! What is waiting to be written, and for how long.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::Sink as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::ending::broken;
use crate::ws::error::FeedError;

/// How many messages may wait to be written.
pub const OUTBOX_MAX: usize = 1_024;

/// Messages that the socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Message>,
    is_dirty: bool,
    stalled_since: Option<Instant>,
}

impl Outbox {
    /// Puts a message at the end.
    pub(super) fn push(&mut self, message: Message) -> Result<(), FeedError> {
        if self.waiting.len() >= OUTBOX_MAX {
            return Err(FeedError::Congested);
        }
        self.waiting.push_back(message);
        Ok(())
    }

    /// Puts a text at the end.
    pub(super) fn push_text(&mut self, text: String) -> Result<(), FeedError> {
        self.push(Message::text(text))
    }

    /// Whether everything was handed to the system.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty() && !self.is_dirty
    }

    /// When a write that has not gone through is too old.
    pub(super) fn deadline(&self, within: Duration) -> Option<Instant> {
        self.stalled_since?.checked_add(within)
    }

    /// Fails when a write has not gone through in time.
    pub(super) fn check(&self, within: Duration, now: Instant) -> Result<(), FeedError> {
        match self.deadline(within) {
            Some(deadline) if now >= deadline => Err(FeedError::WriteStalled(within)),
            _ => Ok(()),
        }
    }

    /// Writes as much as the socket takes.
    #[inline]
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), FeedError> {
        let mut socket = Pin::new(socket);
        while !self.is_written() {
            let progress = if self.waiting.is_empty() {
                socket.as_mut().poll_flush(cx).map_ok(|()| self.is_dirty = false)
            } else {
                socket.as_mut().poll_ready(cx).map(|ready| {
                    ready?;
                    if let Some(message) = self.waiting.pop_front() {
                        self.is_dirty = true;
                        socket.as_mut().start_send(message)?;
                    }
                    Ok(())
                })
            };
            match progress {
                Poll::Ready(result) => result.map_err(broken)?,
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
            }
        }
        self.stalled_since = None;
        Ok(())
    }
}
