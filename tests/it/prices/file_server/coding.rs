//! Compression of bodies.

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};

/// Maximum length of one uncompressed block of Brotli.
const BLOCK_BYTES: usize = 1 << 16;

/// Compresses with gzip.
///
/// # Errors
///
/// Returns the error of the encoder, which a vector does not cause.
pub(super) fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Encodes as Brotli in uncompressed blocks (RFC 7932, section 9.2).
pub(super) fn brotli(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len().saturating_add(64));
    for (number, block) in body.chunks(BLOCK_BYTES).enumerate() {
        let length = u32::try_from(block.len().saturating_sub(1)).unwrap_or(0);
        // From the lowest bit: not the last block, four nibbles of length, length - 1,
        // uncompressed.
        let header = (length << 3) | (1 << 19);
        // The stream begins with one bit for a window of 64 kB.
        let header = if number == 0 { header << 1 } else { header };
        out.extend(header.to_le_bytes().into_iter().take(3));
        out.extend_from_slice(block);
    }
    if body.is_empty() {
        // The window, and the last block, which is empty.
        out.push(0b110);
    } else {
        out.push(0b11);
    }
    out
}
