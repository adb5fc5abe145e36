//! What is waiting to be written, and for how long.

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

use super::ending::unwritable;
use crate::ws::error::FeedError;

/// How many messages may wait to be written.
pub const OUTBOX_MAX: usize = 1_024;

/// How far a message got that was not surely written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteProgress {
    /// Not a byte of it.
    Nothing,
    /// Perhaps some of it, perhaps all.
    Perhaps,
}

#[derive(Debug)]
struct PendingWrite {
    message: Message,
    is_owners: bool,
}

impl PendingWrite {
    const fn owners(&self) -> Option<&Utf8Bytes> {
        match &self.message {
            Message::Text(text) if self.is_owners => Some(text),
            _ => None,
        }
    }
}

/// Messages that the socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<PendingWrite>,
    /// The owner's, handed to the socket, and not surely written.
    handed_over: Vec<Utf8Bytes>,
    /// What the server's latest ping is to be answered with.
    pong: Option<Bytes>,
    is_dirty: bool,
    stalled_since: Option<Instant>,
}

impl Outbox {
    /// Puts a message at the end.
    pub(super) fn push(&mut self, message: Message) -> Result<(), FeedError> {
        self.put(PendingWrite { message, is_owners: false })
    }

    /// Puts a text at the end.
    pub(super) fn push_text(&mut self, text: String) -> Result<(), FeedError> {
        self.push(Message::text(text))
    }

    /// Puts a text at the end that its owner wants to hear about if it is not surely written.
    pub(super) fn push_owners(&mut self, text: String) -> Result<(), FeedError> {
        self.put(PendingWrite { message: Message::text(text), is_owners: true })
    }

    /// Answers a ping. Of several that were not answered yet only the latest is, as RFC 6455 5.5.3
    /// allows.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.pong = Some(Bytes::copy_from_slice(payload));
    }

    fn put(&mut self, waiting: PendingWrite) -> Result<(), FeedError> {
        if !self.has_room() {
            return Err(FeedError::Congested);
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Whether there is room for another message.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < OUTBOX_MAX
    }

    /// The owner's texts that were not surely written, in the order they were pushed.
    pub(super) fn unwritten(&self) -> Vec<(String, WriteProgress)> {
        let perhaps =
            self.handed_over.iter().map(|text| (text.to_string(), WriteProgress::Perhaps));
        let waiting = self.waiting.iter().filter_map(PendingWrite::owners);
        perhaps.chain(waiting.map(|text| (text.to_string(), WriteProgress::Nothing))).collect()
    }

    /// Whether everything was handed to the system.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty() && self.pong.is_none() && !self.is_dirty
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
            let progress = if self.waiting.is_empty() && self.pong.is_none() {
                socket.as_mut().poll_flush(cx).map_ok(|()| {
                    self.is_dirty = false;
                    self.handed_over.clear();
                })
            } else {
                socket.as_mut().poll_ready(cx).map(|ready| {
                    ready?;
                    if let Some(payload) = self.pong.take() {
                        self.is_dirty = true;
                        socket.as_mut().start_send(Message::Pong(payload))?;
                    } else if let Some(waiting) = self.waiting.pop_front() {
                        self.is_dirty = true;
                        self.handed_over.extend(waiting.owners().cloned());
                        socket.as_mut().start_send(waiting.message)?;
                    }
                    Ok(())
                })
            };
            match progress {
                Poll::Ready(result) => result.map_err(unwritable)?,
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
