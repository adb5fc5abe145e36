//! What the end of a socket means, in our own words.

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
use crate::ws::{error::FeedError, protocol::FeedProtocol};

/// How long a farewell may take.
pub const FAREWELL_MAX: Duration = Duration::from_millis(500);

impl<S: AsyncRead + AsyncWrite + Unpin, L: FeedProtocol> Session<S, L> {
    /// Closes with a code, and reads on until the server has seen it.
    pub(in crate::ws) async fn farewell(&mut self, code: u16) {
        let farewell = async {
            let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
            if self.socket.writer().close(Some(frame)).await.is_ok() {
                self.socket.drain().await;
            }
        };
        // Whether the server listens to the end is its own affair.
        let _courtesy = tokio::time::timeout(FAREWELL_MAX, farewell).await;
    }

    /// Returns the server's farewell, with its own code.
    pub(super) async fn return_farewell(&mut self) {
        let code = self.talk.farewell.flatten();
        let frame = code.map(|code| CloseFrame { code: code.into(), reason: "".into() });
        // A courtesy; the connection is gone either way.
        let _courtesy = tokio::time::timeout(FAREWELL_MAX, self.socket.writer().close(frame)).await;
    }
}

/// Whoever drops a session leaves; the server is told, or answered, as far as the socket takes it at
/// once.
impl<S, L> Drop for Session<S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let code = self.talk.farewell.flatten().map_or(CloseCode::Normal, CloseCode::from);
        let frame = CloseFrame { code, reason: "".into() };
        let mut socket = Pin::new(self.socket.writer());
        // A socket that is closed already, or takes nothing, is left as it is.
        if socket.as_mut().start_send(Message::Close(Some(frame))).is_ok() {
            let _courtesy = socket.poll_flush(&mut cx);
        }
    }
}

/// What an error of the library means, which only writes.
pub(super) fn unwritable(error: WsError) -> FeedError {
    match error {
        WsError::Io(error) => FeedError::Lost(error),
        WsError::ConnectionClosed | WsError::AlreadyClosed => FeedError::Cut,
        WsError::WriteBufferFull(_) => FeedError::Congested,
        other => FeedError::Lost(io::Error::other(other)),
    }
}
