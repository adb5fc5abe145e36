//! Decompresses response bodies, within a bound.
//!
//! Requests accept `identity` only, but a proxy may compress nevertheless. The length of the result
//! is bounded during decompression, so that a few kilobytes cannot exhaust the memory.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::secret;

/// Maximum number of codings of one body.
const CODINGS_MAX: usize = 2;

/// Maximum length of a coding's name in an error, in characters.
const NAME_CHARS_MAX: usize = 32;

/// Buffer size of the Brotli decoder.
const BROTLI_BUFFER_BYTES: usize = 4_096;

/// Maximum window of zstd, as a power of two: 8 MiB, the limit of RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Cause of a failed decompression.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("Content-Encoding '{0}' is not supported")]
    Unsupported(String),
    #[error("the decompressed body is longer than {0} bytes")]
    TooLong(usize),
    /// The body does not match its `Content-Encoding`.
    #[error("the body could not be decompressed as {coding}")]
    Corrupt { coding: &'static str, source: io::Error },
}

/// Removes every coding of a `Content-Encoding` value. The result has at most `bytes_max` bytes.
///
/// # Errors
///
/// Returns a [`DecodeError`] if a coding is not supported, or the body is corrupt or too long.
pub fn decode(codings: &str, body: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let names = codings.split(',').map(str::trim);
    let names: Vec<&str> = names.filter(|name| !is_identity(name)).collect();
    if names.len() > CODINGS_MAX {
        return Err(unsupported(codings));
    }
    // The header lists them in the order in which they were applied.
    names.into_iter().rev().try_fold(body, |body, name| decode_one(name, &body, bytes_max))
}

fn is_identity(name: &str) -> bool {
    name.is_empty() || name.eq_ignore_ascii_case("identity")
}

fn decode_one(name: &str, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("gzip") || is("x-gzip") {
        read("gzip", MultiGzDecoder::new(body), bytes_max)
    } else if is("deflate") {
        deflate(body, bytes_max)
    } else if is("br") {
        let decoder = brotli_decompressor::Decompressor::new(body, BROTLI_BUFFER_BYTES);
        read("br", decoder, bytes_max)
    } else if is("zstd") {
        let corrupt = |source| DecodeError::Corrupt { coding: "zstd", source };
        let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(corrupt)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
        read("zstd", decoder, bytes_max)
    } else {
        Err(unsupported(name))
    }
}

/// Decompresses `deflate`, which is zlib by the standard, and lacks the zlib header on some
/// servers.
fn deflate(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    match read("deflate", ZlibDecoder::new(body), bytes_max) {
        Err(DecodeError::Corrupt { .. }) => read("deflate", DeflateDecoder::new(body), bytes_max),
        decoded => decoded,
    }
}

fn read(coding: &'static str, decoder: impl Read, max: usize) -> Result<Vec<u8>, DecodeError> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut decoded = Vec::new();
    match decoder.take(limit).read_to_end(&mut decoded) {
        Ok(length) if length > max => Err(DecodeError::TooLong(max)),
        Ok(_length) => Ok(decoded),
        Err(source) => Err(DecodeError::Corrupt { coding, source }),
    }
}

fn unsupported(name: &str) -> DecodeError {
    DecodeError::Unsupported(secret::mask(name).chars().take(NAME_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;
    const TEXT: &[u8] = br#"{"data":{"currentUser":null}}"#;
    /// [`TEXT`] compressed by the encoder of node.js.
    const BROTLI: &[u8] = &[
        11, 14, 128, 123, 34, 100, 97, 116, 97, 34, 58, 123, 34, 99, 117, 114, 114, 101, 110, 116,
        85, 115, 101, 114, 34, 58, 110, 117, 108, 108, 125, 125, 3,
    ];
    /// 2 MiB of zeros, compressed likewise.
    const BROTLI_BOMB: &[u8] = &[155, 255, 255, 31, 248, 39, 0, 226, 177, 64, 32, 247, 254, 3];

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(body, 3).unwrap()
    }

    #[track_caller]
    fn check(codings: &str, body: Vec<u8>) {
        assert_eq!(decode(codings, body, MAX).unwrap(), TEXT, "{codings}");
    }

    #[test]
    fn every_supported_coding_is_decoded_in_any_case() {
        check("", TEXT.to_vec());
        check("identity", TEXT.to_vec());
        check("gzip", gzip(TEXT));
        check("X-GZIP", gzip(TEXT));
        check("deflate", zlib(TEXT));
        check("deflate", raw_deflate(TEXT));
        check("br", BROTLI.to_vec());
        check("zstd", zstd(TEXT));
        check("deflate, gzip", gzip(&zlib(TEXT)));
    }

    #[test]
    fn a_gzip_body_of_several_members_is_read_to_its_end() {
        let (first, second) = TEXT.split_at(10);
        check("gzip", [gzip(first), gzip(second)].concat());
    }

    #[test]
    fn errors_name_the_coding() {
        let error_text = |codings, body| decode(codings, body, MAX).unwrap_err().to_string();
        assert_eq!(error_text("lzma", Vec::new()), "Content-Encoding 'lzma' is not supported");
        assert_eq!(
            error_text("gzip, gzip, gzip", Vec::new()),
            "Content-Encoding 'gzip, gzip, gzip' is not supported"
        );
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let expected = format!("the body could not be decompressed as {coding}");
            assert_eq!(error_text(coding, b"<html>".to_vec()), expected);
        }
    }

    #[test]
    fn a_truncated_body_is_an_error() {
        for (coding, body) in [("gzip", gzip(TEXT)), ("deflate", zlib(TEXT)), ("zstd", zstd(TEXT))]
        {
            let cut = body.get(..body.len() - 5).unwrap().to_vec();
            assert!(
                matches!(decode(coding, cut, MAX), Err(DecodeError::Corrupt { .. })),
                "{coding}"
            );
        }
        let cut = BROTLI.get(..BROTLI.len() - 5).unwrap().to_vec();
        assert!(matches!(decode("br", cut, MAX), Err(DecodeError::Corrupt { .. })));
    }

    #[test]
    fn a_decompression_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for (coding, bomb) in
            [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("zstd", zstd(&zeros))]
        {
            assert!(bomb.len() < MAX, "{coding}: {} bytes", bomb.len());
            // The decoder never reaches the damage at the end.
            let bomb = bomb.get(..bomb.len() - 4).unwrap().to_vec();
            assert!(
                matches!(decode(coding, bomb, MAX), Err(DecodeError::TooLong(MAX))),
                "{coding}"
            );
        }
        let bomb = decode("br", BROTLI_BOMB.to_vec(), MAX);
        assert!(matches!(bomb, Err(DecodeError::TooLong(MAX))), "{bomb:?}");
        assert_eq!(decode("br", BROTLI_BOMB.to_vec(), 2 << 20).unwrap(), vec![0; 2 << 20]);
        // A body of exactly the bound is allowed.
        let body = vec![7; MAX];
        assert_eq!(decode("gzip", gzip(&body), MAX).unwrap(), body);
    }

    proptest! {
        #[test]
        fn no_input_causes_a_panic_or_exceeds_the_limit(
            body in prop::collection::vec(any::<u8>(), 0..512),
            coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd"]),
        ) {
            if let Ok(decoded) = decode(coding, body, 256) {
                prop_assert!(decoded.len() <= 256);
            }
        }
    }
}
