//! Decompresses response bodies, within a bound.
//!
//! Requests ask for `identity`, but a proxy in between may compress all the same. The length of the
//! result is bounded while it is produced, so that a few kilobytes cannot fill the memory.

use std::io::{self, Read};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::secret;

/// How many codings may be applied on top of each other.
pub const CODINGS_MAX: usize = 2;

/// The longest name of a coding that an error shows, in characters.
const NAME_CHARS_MAX: usize = 32;

/// The buffer of the Brotli decoder, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4_096;

/// The largest window of zstd, as the power of two: 8 MiB, the limit of RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Why a body could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// `Content-Encoding` names a coding that is not supported.
    #[error("Content-Encoding '{0}' is not supported")]
    Unsupported(String),
    /// The decompressed body is longer than the bound.
    #[error("the decompressed body is longer than {0} bytes")]
    TooLong(usize),
    /// The body is not what `Content-Encoding` says.
    #[error("the body could not be decompressed as {coding}")]
    Corrupt {
        /// The name of the coding.
        coding: &'static str,
        /// What the decoder reported.
        source: io::Error,
    },
}

/// Undoes every coding of a `Content-Encoding` value. The result has at most `bytes_max` bytes.
///
/// # Errors
///
/// A [`DecodeError`].
pub fn decode(codings: &str, body: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let names = codings.split(',').map(str::trim);
    let names: Vec<&str> = names.filter(|name| !is_identity(name)).collect();
    if names.len() > CODINGS_MAX {
        return Err(unsupported(codings));
    }
    // The header names them in the order in which they were applied.
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

/// `deflate` is zlib by the standard, and without the header of zlib on some servers.
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
    /// [`TEXT`] as the encoder of node.js compresses it.
    const BROTLI: &[u8] = &[
        11, 14, 128, 123, 34, 100, 97, 116, 97, 34, 58, 123, 34, 99, 117, 114, 114, 101, 110, 116,
        85, 115, 101, 114, 34, 58, 110, 117, 108, 108, 125, 125, 3,
    ];
    /// 2 MiB of zeros, likewise.
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
    fn every_coding_that_servers_use_is_undone_whatever_its_case() {
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
    fn what_cannot_be_undone_is_named() {
        let shown = |codings, body| decode(codings, body, MAX).unwrap_err().to_string();
        assert_eq!(shown("lzma", Vec::new()), "Content-Encoding 'lzma' is not supported");
        assert_eq!(
            shown("gzip, gzip, gzip", Vec::new()),
            "Content-Encoding 'gzip, gzip, gzip' is not supported"
        );
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let named = format!("the body could not be decompressed as {coding}");
            assert_eq!(shown(coding, b"<html>".to_vec()), named);
        }
    }

    #[test]
    fn a_body_that_was_cut_is_not_taken_for_a_whole_one() {
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
    fn a_bomb_ends_at_the_bound() {
        let zeros = vec![0; 8 << 20];
        for (coding, bomb) in
            [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("zstd", zstd(&zeros))]
        {
            assert!(bomb.len() < MAX, "{coding}: {} bytes", bomb.len());
            // The decoder never gets to the fault at its end.
            let bomb = bomb.get(..bomb.len() - 4).unwrap().to_vec();
            assert!(
                matches!(decode(coding, bomb, MAX), Err(DecodeError::TooLong(MAX))),
                "{coding}"
            );
        }
        let bomb = decode("br", BROTLI_BOMB.to_vec(), MAX);
        assert!(matches!(bomb, Err(DecodeError::TooLong(MAX))), "{bomb:?}");
        assert_eq!(decode("br", BROTLI_BOMB.to_vec(), 2 << 20).unwrap(), vec![0; 2 << 20]);
        // The bound itself is allowed.
        let body = vec![7; MAX];
        assert_eq!(decode("gzip", gzip(&body), MAX).unwrap(), body);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_exceed_the_bound(
            body in prop::collection::vec(any::<u8>(), 0..512),
            coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd"]),
        ) {
            if let Ok(decoded) = decode(coding, body, 256) {
                prop_assert!(decoded.len() <= 256);
            }
        }
    }
}
