//! Frame decoder: any bytes yield the same messages whole and in pieces, within the size limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sniper::ws::{
    MESSAGE_BYTES_MAX,
    frames::{FrameDecoder, READ_BYTES, WsMessage},
};

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = decode(bytes, usize::MAX);
    assert_eq!(whole, decode(bytes, usize::from(step).max(1)), "pieces change the messages");
});

/// Returns the decoded messages, followed by the error if there is one.
fn decode(bytes: &[u8], step: usize) -> Vec<String> {
    let mut decoder = FrameDecoder::default();
    let mut rest = bytes;
    let mut messages = Vec::new();
    loop {
        decoder.release();
        let next = decoder.advance();
        match next.and_then(|next| next.map(|next| decoder.message(&next)).transpose()) {
            Ok(Some(message)) => {
                messages.push(format!("{message:?}"));
                if matches!(message, WsMessage::Close(_)) {
                    return messages;
                }
            }
            Ok(None) if rest.is_empty() => return messages,
            Ok(None) => {
                let space = decoder.space();
                assert!(!space.is_empty() && space.len() <= READ_BYTES.min(MESSAGE_BYTES_MAX));
                let count = space.len().min(step).min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                decoder.filled(count);
                rest = &rest[count..];
            }
            Err(error) => {
                messages.push(error.to_string());
                return messages;
            }
        }
    }
}
