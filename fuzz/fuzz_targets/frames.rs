//! Any bytes, whole and in pieces: the same messages, and nothing kept beyond its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sniper::ws::{
    MESSAGE_BYTES_MAX,
    frames::{FrameDecoder, WsMessage, READ_BYTES},
};

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let whole = heard(bytes, usize::MAX);
    assert_eq!(whole, heard(bytes, usize::from(step).max(1)), "pieces change what is heard");
});

/// What is heard, and how it ends.
fn heard(bytes: &[u8], step: usize) -> Vec<String> {
    let mut decoder = FrameDecoder::default();
    let mut rest = bytes;
    let mut heard = Vec::new();
    loop {
        match decoder.advance().and_then(|any| any.then(|| decoder.message()).transpose()) {
            Ok(Some(message)) => {
                heard.push(format!("{message:?}"));
                if matches!(message, WsMessage::Close(_)) {
                    return heard;
                }
            }
            Ok(None) if rest.is_empty() => return heard,
            Ok(None) => {
                let space = decoder.space();
                assert!(!space.is_empty() && space.len() <= READ_BYTES.min(MESSAGE_BYTES_MAX));
                let count = space.len().min(step).min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                decoder.filled(count);
                rest = &rest[count..];
            }
            Err(broken) => {
                heard.push(broken.to_string());
                return heard;
            }
        }
    }
}
