//! Closing of a session.

use std::{
    io,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::Sink as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::Session;
use crate::{protocol::FeedProtocol, ws::error::FeedError};

/// Maximum time for a close.
pub const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl<S: AsyncRead + AsyncWrite + Unpin, L: FeedProtocol> Session<S, L> {
    /// Sends a close frame with a code, then reads until the server has closed.
    pub(in crate::ws) async fn close(&mut self, code: u16) {
        let close = async {
            let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
            if self.socket.writer().close(Some(frame)).await.is_ok() {
                self.socket.drain().await;
            }
        };
        // The server may not wait for the close; the result is irrelevant.
        let _courtesy = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }

    /// Answers the server's close with its own code.
    pub(super) async fn answer_close(&mut self) {
        let code = self.state.received_close.flatten();
        let frame = code.map(|code| CloseFrame { code: code.into(), reason: "".into() });
        // Best effort: the connection is gone either way.
        let _courtesy =
            tokio::time::timeout(CLOSE_TIMEOUT, self.socket.writer().close(frame)).await;
    }
}

/// Sends a close frame without blocking, as far as the socket accepts it.
impl<S, L> Drop for Session<S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let code = self.state.received_close.flatten().map_or(CloseCode::Normal, CloseCode::from);
        let frame = CloseFrame { code, reason: "".into() };
        let mut socket = Pin::new(self.socket.writer());
        // A closed or blocked socket is dropped without a close frame.
        if socket.as_mut().start_send(Message::Close(Some(frame))).is_ok() {
            let _courtesy = socket.poll_flush(&mut cx);
        }
    }
}

/// Converts a write error of tungstenite.
pub(super) fn write_error(error: WsError) -> FeedError {
    match error {
        WsError::Io(error) => FeedError::Lost(error),
        WsError::ConnectionClosed | WsError::AlreadyClosed => FeedError::Cut,
        WsError::WriteBufferFull(_) => FeedError::Congested,
        other => FeedError::Lost(io::Error::other(other)),
    }
}
