//! The client for cold reads: balance, own trades, open listings, diagnosis.
//!
//! It never buys. It follows no redirect, repeats nothing, uses no proxy that a variable of the
//! environment names, and reads no more than a bounded answer within a bounded time. What an answer
//! means is for whoever asked.

use std::{
    io,
    time::{Duration, Instant},
};

use reqwest::{
    Client,
    header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, ORIGIN, REFERER},
    redirect, retry,
};

use super::{deadline, tls::Tls};
use crate::{
    config::{Credential, Endpoints},
    http_head::Head,
    server_clock::Exchange,
};

/// The longest answer that is read. A page of 250 listings has about 700 kB.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long one read may take, from DNS to the last byte.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// How long connecting may take.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long an idle connection is kept for the next read.
const IDLE: Duration = Duration::from_secs(30);

/// Asks the marketplace what it may answer to anybody who is us.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    url: String,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What counts of its head.
    pub head: Head,
    /// Its body.
    pub body: String,
    /// When the request left and when the head of its answer was here.
    pub exchange: Exchange,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client cannot be set up.
    #[error("the HTTP client could not be set up")]
    SetUp(#[source] reqwest::Error),
    /// A header's value holds a character that cannot stand there.
    #[error("the {header} header holds a character that cannot stand there; check the settings")]
    Header {
        /// Which header. Its value is not shown.
        header: &'static str,
    },
    /// The server could not be reached, or broke off.
    #[error("the marketplace could not be reached over HTTP; check the network and the address")]
    Unreachable(#[source] reqwest::Error),
    /// The deadline passed.
    #[error("the marketplace did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// The answer is longer than [`BODY_BYTES_MAX`].
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// The answer is not UTF-8.
    #[error("the answer is not text")]
    NotText(#[source] io::Error),
}

impl HttpClient {
    /// Sets it up. Without a credential it asks as anybody.
    ///
    /// # Errors
    ///
    /// [`HttpError::SetUp`] or [`HttpError::Header`].
    pub fn new(
        endpoints: &Endpoints,
        credential: Option<&Credential>,
        tls: &Tls,
    ) -> Result<Self, HttpError> {
        let value = |header, text: &str| {
            HeaderValue::from_str(text).map_err(|_invalid| HttpError::Header { header })
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ORIGIN, value("Origin", &endpoints.origin)?);
        headers.insert(REFERER, value("Referer", &format!("{}/", endpoints.origin))?);
        if let Some(credential) = credential {
            let mut cookie = value("Cookie", credential.header().reveal())?;
            cookie.set_sensitive(true);
            headers.insert(COOKIE, cookie);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls.config().as_ref().clone())
            .https_only(endpoints.http.is_tls())
            .user_agent(value("User-Agent", &endpoints.user_agent)?)
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .build()
            .map_err(HttpError::SetUp)?;
        Ok(Self { client, url: endpoints.http.to_string() })
    }

    /// Posts a JSON body and returns what comes back, whatever its status.
    ///
    /// # Errors
    ///
    /// An [`HttpError`] if no whole answer came.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads. The request may have left.
    pub async fn post(&self, body: String) -> Result<Reply, HttpError> {
        // The client's own deadline looks at the clock before it looks at the socket.
        deadline::timeout(DEADLINE, self.exchange(body)).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn exchange(&self, body: String) -> Result<Reply, HttpError> {
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        let sent = Instant::now();
        let mut answer = request.body(body).send().await.map_err(failure)?;
        let exchange = Exchange { sent, received: Instant::now() };
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let head = Head::read(answer.status().as_u16(), headers);
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failure)? {
            if BODY_BYTES_MAX.saturating_sub(bytes.len()) < piece.len() {
                return Err(HttpError::TooLong);
            }
            bytes.extend_from_slice(&piece);
        }
        let body = String::from_utf8(bytes).map_err(|error| {
            HttpError::NotText(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
        })?;
        Ok(Reply { head, body, exchange })
    }
}

fn failure(error: reqwest::Error) -> HttpError {
    if error.is_timeout() {
        HttpError::Timeout
    } else {
        HttpError::Unreachable(error.without_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_credential() {
        let endpoints =
            Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/graphql").unwrap();
        let credential = Credential::from_session("hunter2").unwrap();
        let tls = Tls::new().unwrap();
        let client = HttpClient::new(&endpoints, Some(&credential), &tls).unwrap();
        let shown = format!("{client:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_line_break_in_a_header_is_refused() {
        let endpoints =
            Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/graphql").unwrap();
        let endpoints = Endpoints { user_agent: "a\nX: y".to_owned(), ..endpoints };
        let refused = HttpClient::new(&endpoints, None, &Tls::new().unwrap());
        assert!(matches!(refused, Err(HttpError::Header { header: "User-Agent" })), "{refused:?}");
    }
}
