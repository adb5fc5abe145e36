//! Queue of messages to write, with a deadline for stalled writes.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::Sink as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, Utf8Bytes},
};

use super::ending::write_error;
use crate::{protocol::ClientMessage, ws::error::FeedError};

/// Maximum number of queued messages.
pub const OUTBOX_MAX: usize = 1_024;

/// Progress of a message that is not known to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteProgress {
    /// No byte was written.
    Nothing,
    /// Some or all of it may have been written.
    Unknown,
}

#[derive(Debug)]
struct PendingWrite {
    message: Message,
    is_tracked: bool,
}

impl PendingWrite {
    const fn tracked(&self) -> Option<&Utf8Bytes> {
        match &self.message {
            Message::Text(text) if self.is_tracked => Some(text),
            _ => None,
        }
    }
}

/// Messages that the socket has not accepted yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<PendingWrite>,
    /// Tracked texts that were passed to the socket and not flushed yet.
    unflushed: Vec<Utf8Bytes>,
    /// Payload of the pong that is due.
    pong: Option<Bytes>,
    needs_flush: bool,
    stalled_since: Option<Instant>,
}

impl Outbox {
    pub(super) fn push(&mut self, message: Message) -> Result<(), FeedError> {
        self.push_entry(PendingWrite { message, is_tracked: false })
    }

    pub(super) fn push_message(&mut self, message: ClientMessage) -> Result<(), FeedError> {
        self.push(match message {
            ClientMessage::Text(text) => Message::text(text),
            ClientMessage::Binary(bytes) => Message::binary(bytes),
        })
    }

    /// Queues a text that [`unwritten`](Self::unwritten) reports until it is flushed.
    pub(super) fn push_tracked(&mut self, text: String) -> Result<(), FeedError> {
        self.push_entry(PendingWrite { message: Message::text(text), is_tracked: true })
    }

    /// Queues a pong. It replaces an unsent one, as RFC 6455 5.5.3 allows.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.pong = Some(Bytes::copy_from_slice(payload));
    }

    fn push_entry(&mut self, waiting: PendingWrite) -> Result<(), FeedError> {
        if !self.has_space() {
            return Err(FeedError::Congested);
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    pub(super) fn has_space(&self) -> bool {
        self.waiting.len() < OUTBOX_MAX
    }

    /// Returns the tracked texts that are not known to be written, in order.
    pub(super) fn unwritten(&self) -> Vec<(String, WriteProgress)> {
        let unknown = self.unflushed.iter().map(|text| (text.to_string(), WriteProgress::Unknown));
        let waiting = self.waiting.iter().filter_map(PendingWrite::tracked);
        unknown.chain(waiting.map(|text| (text.to_string(), WriteProgress::Nothing))).collect()
    }

    /// Returns `true` if everything was passed to the operating system.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty() && self.pong.is_none() && !self.needs_flush
    }

    /// Returns the deadline of a stalled write.
    pub(super) fn deadline(&self, within: Duration) -> Option<Instant> {
        self.stalled_since?.checked_add(within)
    }

    /// Fails if a write has stalled beyond its deadline.
    pub(super) fn check(&self, within: Duration, now: Instant) -> Result<(), FeedError> {
        match self.deadline(within) {
            Some(deadline) if now >= deadline => Err(FeedError::WriteStalled(within)),
            _ => Ok(()),
        }
    }

    /// Writes as much as the socket accepts.
    #[inline]
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), FeedError> {
        let mut socket = Pin::new(socket);
        while !self.is_written() {
            let progress = if self.waiting.is_empty() && self.pong.is_none() {
                socket.as_mut().poll_flush(cx).map_ok(|()| {
                    self.needs_flush = false;
                    self.unflushed.clear();
                })
            } else {
                socket.as_mut().poll_ready(cx).map(|ready| {
                    ready?;
                    if let Some(payload) = self.pong.take() {
                        self.needs_flush = true;
                        socket.as_mut().start_send(Message::Pong(payload))?;
                    } else if let Some(waiting) = self.waiting.pop_front() {
                        self.needs_flush = true;
                        self.unflushed.extend(waiting.tracked().cloned());
                        socket.as_mut().start_send(waiting.message)?;
                    }
                    Ok(())
                })
            };
            match progress {
                Poll::Ready(result) => result.map_err(write_error)?,
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
