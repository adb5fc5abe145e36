//! Downloads of whole files: conditional requests, with limits of their own.

use std::time::Duration;

use reqwest::header::{ETAG, LAST_MODIFIED};

use super::{HttpClient, HttpError, codings, header_map, read_bytes, to_http_error};
use crate::{
    clock,
    net::{
        content_encoding::{self, DecodeError},
        deadline,
        http_head::ResponseHead,
        http_message::HttpRequest,
    },
};

/// First bytes of a gzip file.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Maximum length of a validator, in bytes.
const VALIDATOR_BYTES_MAX: usize = 256;

/// Limits of one download.
#[derive(Clone, Copy, Debug)]
pub struct DownloadLimits {
    /// Maximum length of the body, both as received and decompressed.
    pub body_bytes_max: usize,
    /// Maximum time from DNS to the last byte.
    pub timeout: Duration,
}

/// A response with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    pub head: ResponseHead,
    /// `ETag` header, for the next conditional request.
    pub etag: Option<String>,
    /// `Last-Modified` header, for the next conditional request.
    pub last_modified: Option<String>,
    /// Body without any coding; empty if the status is not 200.
    pub body: Vec<u8>,
}

/// Cause of a failed download.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("it was not complete within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Encoding(DecodeError),
}

impl HttpClient {
    /// Sends a request and returns the response of any status. A gzip body is decompressed even if
    /// no header announces it.
    ///
    /// # Errors
    ///
    /// Returns a [`DownloadError`] if no complete response was received within the limits.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads. The request may have been sent.
    pub async fn download(
        &self,
        request: &HttpRequest,
        limits: DownloadLimits,
    ) -> Result<Download, DownloadError> {
        let exchange = self.receive(request, limits.body_bytes_max);
        let received = deadline::timeout(limits.timeout, exchange).await;
        received.unwrap_or(Err(DownloadError::Timeout(limits.timeout)))
    }

    async fn receive(
        &self,
        request: &HttpRequest,
        bytes_max: usize,
    ) -> Result<Download, DownloadError> {
        let url = format!("{}{}", self.origin, request.path_and_query);
        let sent = self.client.get(url).headers(header_map(&request.headers)?).send().await;
        let mut response = sent.map_err(to_http_error)?;
        let headers = response.headers();
        let validator = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= VALIDATOR_BYTES_MAX).then(|| value.to_owned())
        };
        let (etag, last_modified) = (validator(ETAG), validator(LAST_MODIFIED));
        let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let head = ResponseHead::parse_at(response.status().as_u16(), named, clock::wall());
        let codings = codings(&response);
        if head.status != 200 {
            return Ok(Download { head, etag, last_modified, body: Vec::new() });
        }
        let bytes = read_bytes(&mut response, bytes_max).await?;
        let bytes = bytes.ok_or(DownloadError::TooLong(bytes_max))?;
        let body = decode(&codings, bytes, bytes_max)?;
        Ok(Download { head, etag, last_modified, body })
    }
}

/// Removes the announced codings, and gzip that was not announced.
fn decode(codings: &str, bytes: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, DownloadError> {
    let decode = |codings, bytes| {
        content_encoding::decode(codings, bytes, bytes_max).map_err(|error| match error {
            DecodeError::TooLong(max) => DownloadError::TooLong(max),
            other => DownloadError::Encoding(other),
        })
    };
    let body = decode(codings, bytes)?;
    if body.starts_with(GZIP_MAGIC) { decode("gzip", body) } else { Ok(body) }
}
