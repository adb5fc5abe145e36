//! A WebSocket over any connection: messages in by our own reader, messages out by the library.
//!
//! Reading is on the way from frame to order. The library's own reader fills the rest of its buffer
//! with zeros before each read, and reads the frame at its end, every eleventh or so, in two pieces;
//! ours does neither. Writing is not on that way, and stays where masks, closing and partial writes
//! are dealt with already.

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

/// How much of what a server still sends is read after a farewell.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A WebSocket.
#[derive(Debug)]
pub(super) struct Socket<S> {
    /// It writes; nobody reads from it.
    library: WebSocketStream<S>,
    decoder: FrameDecoder,
    /// When the read began that brought the latest bytes, and when it was done.
    asked: Instant,
    read: Instant,
    /// How long it is asked again and again before others get a turn; `None`: once.
    turn: Option<Duration>,
}

/// What came in.
#[derive(Debug)]
pub(super) struct SocketEvent<'a> {
    pub(super) message: WsMessage<'a>,
    /// When the socket was asked for its last bytes.
    pub(super) asked: Instant,
    /// When they were off the socket, and decrypted where they had to be.
    pub(super) read: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `rest`: what came in behind the answer to the upgrade.
    pub(super) fn new(library: WebSocketStream<S>, rest: &[u8]) -> Self {
        let now = now();
        Self { library, decoder: FrameDecoder::after(rest), asked: now, read: now, turn: None }
    }

    /// Where reading never sleeps, asks for so long before others get a turn.
    pub(super) fn asking_for(self, turn: Option<Duration>) -> Self {
        Self { turn, ..self }
    }

    /// The next message.
    #[inline]
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SocketEvent<'_>, FeedError>> {
        while !self.decoder.advance()? {
            ready!(self.poll_read(cx))?;
        }
        let Self { asked, read, .. } = *self;
        Poll::Ready(Ok(SocketEvent { message: self.decoder.message()?, asked, read }))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FeedError>> {
        let begun = now();
        let mut asked = begun;
        let mut bytes = ReadBuf::new(self.decoder.space());
        let mut stream = Pin::new(self.library.get_mut());
        let read = loop {
            let read = stream.as_mut().poll_read(cx, &mut bytes);
            let asks_again = |turn| asked.saturating_duration_since(begun) < turn;
            if read.is_ready() || !self.turn.is_some_and(asks_again) {
                break read;
            }
            asked = now();
        };
        ready!(read).map_err(ended)?;
        let count = bytes.filled().len();
        if count == 0 {
            return Poll::Ready(Err(FeedError::Cut));
        }
        self.decoder.filled(count);
        (self.asked, self.read) = (asked, now());
        Poll::Ready(Ok(()))
    }

    /// What writes.
    pub(super) const fn writer(&mut self) -> &mut WebSocketStream<S> {
        &mut self.library
    }

    /// Reads on until the server has closed, a bounded while: a socket dropped with unread bytes is
    /// reset, and what was said last would be lost.
    pub(super) async fn drain(&mut self) {
        let mut drained = 0_usize;
        let mut buffer = vec![0_u8; READ_BYTES];
        while drained < DRAIN_BYTES_MAX {
            match self.library.get_mut().read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => drained = drained.saturating_add(count),
            }
        }
    }
}

fn ended(error: io::Error) -> FeedError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FeedError::Cut,
        _ => FeedError::Lost(error),
    }
}

impl From<ProtocolError> for FeedError {
    fn from(broken: ProtocolError) -> Self {
        Self::Violation { violation: broken.violation, source: broken.into() }
    }
}
