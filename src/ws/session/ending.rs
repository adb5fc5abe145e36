//! What the end of a socket means, in our own words.

use std::{
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::Sink as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{READ_BYTES, Session};
use crate::ws::{
    error::{FeedError, Violation},
    protocol::Dialect,
};

/// How long a farewell may take.
pub const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// How much of what a server still sends is read after a farewell.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin, L: Dialect> Session<S, L> {
    /// Closes with a code, and reads on until the server has seen it: a socket dropped with unread
    /// bytes is reset, and the code would be lost.
    pub(in crate::ws) async fn farewell(&mut self, code: u16) {
        let farewell = async {
            let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
            if self.socket.close(Some(frame)).await.is_err() {
                return;
            }
            let mut drained = 0_usize;
            let mut buffer = vec![0_u8; READ_BYTES];
            while drained < DRAIN_BYTES_MAX {
                match self.socket.get_mut().read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => drained = drained.saturating_add(count),
                }
            }
        };
        // Whether the server listens to the end is its own affair.
        let _courtesy = tokio::time::timeout(FAREWELL_MAX, farewell).await;
    }
}

/// Whoever drops a session leaves; the server is told, as far as the socket takes it at once.
impl<S, L> Drop for Session<S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let mut socket = Pin::new(&mut self.socket);
        // A socket that is closed already, or takes nothing, is left as it is.
        if socket.as_mut().start_send(Message::Close(Some(frame))).is_ok() {
            let _courtesy = socket.poll_flush(&mut cx);
        }
    }
}

/// What the peer's close frame means. A code that must not stand in one, which the library replaces
/// by these very words, is a broken rule and no complaint of the server's.
pub(super) fn closed(frame: Option<CloseFrame>) -> Result<(), FeedError> {
    let Some(CloseFrame { code, reason }) = frame else { return Ok(()) };
    if code == CloseCode::Protocol && reason.as_str() == "Protocol violation" {
        let source = "a close code that must not be sent".into();
        return Err(FeedError::Violation { violation: Violation::Protocol, source });
    }
    FeedError::from_close(Some(code.into()), &reason)
}

/// What an error of the library means.
pub(super) fn broken(error: WsError) -> FeedError {
    let violation = match error {
        WsError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return FeedError::Cut;
        }
        WsError::Io(error) => return FeedError::Lost(error),
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return FeedError::Cut,
        WsError::WriteBufferFull(_) => return FeedError::Congested,
        WsError::Capacity(_) => Violation::TooBig,
        WsError::Utf8(_) => Violation::NotUtf8,
        _ => Violation::Protocol,
    };
    // The library repeats the source in its own message; the innermost one says it once.
    let source = match error {
        WsError::Capacity(error) => error.into(),
        WsError::Protocol(error) => error.into(),
        WsError::Utf8(_) => "text that is not UTF-8".into(),
        other => other.into(),
    };
    FeedError::Violation { violation, source }
}
