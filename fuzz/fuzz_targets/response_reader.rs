//! Response reader: the result does not depend on the pieces, and the body stays within its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sniper::{
    domain::time::UnixMs,
    execution::{
        response::ResponseError,
        response_reader::{BODY_BYTES_MAX, KeepAlive, ReadProgress, ResponseReader},
    },
    net::http_message::HttpResponse,
};

type Read = Result<(HttpResponse, KeepAlive, usize), ResponseError>;

/// Reads a response from a connection that delivers these pieces and then closes.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, length: usize) -> Read {
    let mut reader = ResponseReader::new();
    let mut fed = 0;
    for piece in pieces {
        if let ReadProgress::Done { taken } = reader.feed(piece, UnixMs(0))? {
            let keep_alive = reader.keep_alive();
            let response = reader.take_response().expect("done");
            return Ok((response, keep_alive, length - fed - taken));
        }
        fed += piece.len();
    }
    reader.end()?;
    let keep_alive = reader.keep_alive();
    Ok((reader.take_response().expect("ended"), keep_alive, 0))
}

fuzz_target!(|data: (u8, &[u8])| {
    let (cut, bytes) = data;
    let whole = read(std::iter::once(bytes), bytes.len());
    let pieces = read(bytes.chunks(usize::from(cut).max(1)), bytes.len());
    assert_eq!(whole, pieces);
    if let Ok((response, ..)) = whole {
        assert!(response.body.len() <= BODY_BYTES_MAX);
    }
});
