//! A WebSocket: reads with [`FrameDecoder`], writes with tungstenite.
//!
//! Reading is on the hot path. Tungstenite zeroes the rest of its buffer before each read and
//! receives about every eleventh frame in two reads; the own decoder does neither. Writing is not
//! on the hot path, so tungstenite handles masks, closing and partial writes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;

use super::{
    error::FeedError,
    frames::{FrameDecoder, ProtocolError, READ_BYTES, WsMessage},
    session::now,
};

/// Maximum number of bytes that are read after a close.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Socket<S> {
    /// Used for writing only.
    writer: WebSocketStream<S>,
    decoder: FrameDecoder,
    /// Start of the read that returned the latest bytes, and its end.
    polled: Instant,
    read: Instant,
    /// Maximum time that a read spins before other tasks run; `None` disables busy polling.
    spin_budget: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct SocketEvent<'a> {
    pub(super) message: WsMessage<'a>,
    /// Start of the read that returned the latest bytes.
    pub(super) polled: Instant,
    /// Time at which they were read and decrypted.
    pub(super) read: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `rest` contains the bytes behind the response to the upgrade.
    pub(super) fn new(writer: WebSocketStream<S>, rest: &[u8]) -> Self {
        let now = now();
        Self {
            writer,
            decoder: FrameDecoder::with_bytes(rest),
            polled: now,
            read: now,
            spin_budget: None,
        }
    }

    /// Sets the maximum time that a read spins.
    pub(super) fn with_spin_budget(self, spin_budget: Option<Duration>) -> Self {
        Self { spin_budget, ..self }
    }

    /// Polls for the next message.
    #[inline]
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SocketEvent<'_>, FeedError>> {
        while !self.decoder.advance()? {
            ready!(self.poll_read(cx))?;
        }
        let Self { polled, read, .. } = *self;
        Poll::Ready(Ok(SocketEvent { message: self.decoder.message()?, polled, read }))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FeedError>> {
        let started = now();
        let mut polled = started;
        let mut bytes = ReadBuf::new(self.decoder.space());
        let mut stream = Pin::new(self.writer.get_mut());
        let read = loop {
            let read = stream.as_mut().poll_read(cx, &mut bytes);
            let spins_on = |budget| polled.saturating_duration_since(started) < budget;
            if read.is_ready() || !self.spin_budget.is_some_and(spins_on) {
                break read;
            }
            polled = now();
        };
        ready!(read).map_err(read_error)?;
        let count = bytes.filled().len();
        if count == 0 {
            return Poll::Ready(Err(FeedError::Cut));
        }
        self.decoder.filled(count);
        (self.polled, self.read) = (polled, now());
        Poll::Ready(Ok(()))
    }

    pub(super) const fn writer(&mut self) -> &mut WebSocketStream<S> {
        &mut self.writer
    }

    /// Reads until the server has closed, up to [`DRAIN_BYTES_MAX`]. A socket that is dropped with
    /// unread bytes is reset, and the last written message would be lost.
    pub(super) async fn drain(&mut self) {
        let mut drained = 0_usize;
        let mut buffer = vec![0_u8; READ_BYTES];
        while drained < DRAIN_BYTES_MAX {
            match self.writer.get_mut().read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => drained = drained.saturating_add(count),
            }
        }
    }
}

fn read_error(error: io::Error) -> FeedError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FeedError::Cut,
        _ => FeedError::Lost(error),
    }
}

impl From<ProtocolError> for FeedError {
    fn from(error: ProtocolError) -> Self {
        Self::Violation { violation: error.violation, source: error.into() }
    }
}
