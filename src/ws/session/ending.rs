//! What the end of a socket means, in our own words.

use tokio_tungstenite::tungstenite::{
    Error as WsError,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::ws::error::{FeedError, Violation};

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
