//! Request and response of the WebSocket upgrade. Pure.
//!
//! The response may arrive byte by byte or together with the first frame; bytes after its head
//! belong to the WebSocket. Interim responses (1xx) are skipped. Of a final response other than
//! `101` only the head is read.

use httparse::Status;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::error::FeedError;
use crate::{
    config::Credential,
    domain::time::UnixMs,
    net::http_head::ResponseHead,
    net::http_message::{Auth, HttpRequest, InvalidHeader},
};

/// Size in bytes, interim responses included, from which an incomplete response head is rejected.
const UPGRADE_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of headers of one response.
const UPGRADE_HEADERS_MAX: usize = 100;

/// Maximum number of interim responses (100, 102, 103) before the final one.
const UPGRADE_INTERIM_MAX: u32 = 8;

/// Adds the headers of the upgrade to the path and headers of a feed. The result contains the
/// credential and must not be logged.
pub(super) fn request_bytes(
    authority: &str,
    feed: &HttpRequest,
    subprotocol: Option<&str>,
    key: &str,
) -> Result<Vec<u8>, InvalidHeader> {
    let mut request = HttpRequest::get(feed.path_and_query.as_str());
    request.headers = [
        ("Connection", Some("Upgrade")),
        ("Upgrade", Some("websocket")),
        ("Sec-WebSocket-Version", Some("13")),
        ("Sec-WebSocket-Key", Some(key)),
        ("Sec-WebSocket-Protocol", subprotocol),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value.to_owned())))
    .collect();
    request.headers.extend(feed.headers.iter().cloned());
    let mut bytes = request.head_bytes(authority)?;
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}

/// Returns the request of a connection without a `Planner`.
pub(super) fn request(
    path: &str,
    origin: Option<&str>,
    user_agent: Option<&str>,
    credential: Option<&Credential>,
) -> HttpRequest {
    let mut request = HttpRequest::get(path);
    for (name, value) in [("Origin", origin), ("User-Agent", user_agent)] {
        if let Some(value) = value {
            request = request.with_header(name, value);
        }
    }
    match credential {
        Some(credential) => Auth::Cookie.apply(credential, request),
        None => request,
    }
}

/// Parses the response head. Returns its length, interim responses included, or `None` if it is
/// incomplete.
///
/// # Errors
///
/// Returns a [`FeedError`] if the response is invalid or does not match the request.
pub(super) fn read_head(
    bytes: &[u8],
    key: &str,
    subprotocol: Option<&'static str>,
    now: UnixMs,
) -> Result<Option<usize>, FeedError> {
    let mut rest = bytes;
    for _interim in 0..=UPGRADE_INTERIM_MAX {
        let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(rest) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) if bytes.len() < UPGRADE_HEAD_BYTES_MAX => return Ok(None),
            Ok(Status::Partial) => {
                return Err(FeedError::Handshake { what: "head too long" });
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Err(FeedError::Handshake { what: "too many headers" });
            }
            Err(_not_http) => return Err(FeedError::Handshake { what: "not HTTP" }),
        };
        let status = response.code.unwrap_or(0);
        let remaining = rest.get(len..).unwrap_or_default();
        if status == 101 {
            check_upgrade_response(&Headers(response.headers), key, subprotocol)?;
            return Ok(Some(bytes.len().saturating_sub(remaining.len())));
        }
        if !(100..200).contains(&status) {
            let headers = response.headers.iter().map(|header| (header.name, header.value));
            let head = ResponseHead::parse_at(status, headers, now);
            return Err(FeedError::UpgradeRejected(head));
        }
        rest = remaining;
    }
    Err(FeedError::Handshake { what: "too many interim responses" })
}

/// Validates a `101` response.
fn check_upgrade_response(
    headers: &Headers<'_, '_>,
    key: &str,
    subprotocol: Option<&'static str>,
) -> Result<(), FeedError> {
    let wrong = |what| Err(FeedError::Handshake { what });
    if !headers.has_token("upgrade", "websocket") {
        return wrong("no `Upgrade: websocket`");
    }
    if !headers.has_token("connection", "upgrade") {
        return wrong("no `Connection: Upgrade`");
    }
    if headers.get_unique("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        return wrong("accept key does not match");
    }
    // Some proxies add an empty list, which negotiates nothing.
    if headers.has_elements("sec-websocket-extensions") {
        return wrong("extension that was not requested");
    }
    match subprotocol {
        Some(requested) if headers.get_unique("sec-websocket-protocol") != Some(requested) => {
            Err(FeedError::Subprotocol { requested })
        }
        None if headers.has_elements("sec-websocket-protocol") => {
            wrong("subprotocol that was not requested")
        }
        _ => Ok(()),
    }
}

struct Headers<'h, 'b>(&'h [httparse::Header<'b>]);

impl Headers<'_, '_> {
    fn get_all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| str::from_utf8(header.value).ok())
            .map(str::trim)
    }

    /// Returns the value of a header that occurs exactly once.
    fn get_unique(&self, name: &str) -> Option<&str> {
        let mut values = self.get_all(name);
        values.next().filter(|_| values.next().is_none())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// Returns `true` if the list of the header has an element, valid or not.
    fn has_elements(&self, name: &str) -> bool {
        let is_element = |byte: &u8| !matches!(byte, b',' | b' ' | b'\t');
        self.0
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .any(|header| header.value.iter().any(is_element))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        net::http_head::{WebPage, tests::PAGES},
        ws::policy::RetryDecision,
    };

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const PROTOCOL: Option<&str> = Some("graphql-transport-ws");
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
        Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";

    fn read(text: &str) -> Result<Option<usize>, FeedError> {
        read_head(text.as_bytes(), KEY, PROTOCOL, UnixMs(0))
    }

    #[track_caller]
    fn rejected(text: &str) -> FeedError {
        read(text).unwrap_err()
    }

    #[test]
    fn the_request_contains_the_configured_headers_or_names_an_invalid_one() {
        let credential = Credential::from_session("s%3Aabc").unwrap();
        let feed = request("/ws", Some("https://www.example.com"), None, Some(&credential));
        let bytes = request_bytes("example.com", &feed, PROTOCOL, KEY);
        let text = String::from_utf8(bytes.unwrap()).unwrap();
        assert!(text.starts_with("GET /ws HTTP/1.1\r\nHost: example.com\r\n"));
        assert!(text.contains("\r\nOrigin: https://www.example.com\r\n"));
        assert!(text.contains("\r\nCookie: session=s%3Aabc\r\n"));
        assert!(text.contains("\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
        let invalid = request("/ws", None, Some("evil\r\nX: y"), None);
        let error = request_bytes("example.com", &invalid, PROTOCOL, KEY).unwrap_err();
        assert_eq!(error, InvalidHeader { header: "User-Agent" });
        assert_eq!(FeedError::from(error).retry_decision(), RetryDecision::Suspend);
    }

    #[test]
    fn a_response_may_arrive_in_pieces_and_the_rest_is_kept() {
        for len in 0..GOOD.len() {
            assert_eq!(read(GOOD.get(..len).unwrap()).unwrap(), None, "{len}");
        }
        let with_frame = format!("{GOOD}\u{1}frame");
        assert_eq!(read(&with_frame).unwrap(), Some(GOOD.len()));
    }

    #[test]
    fn an_incomplete_101_response_is_rejected() {
        for (from, to) in [
            ("upgrade: WebSocket", "upgrade: h2c"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "AAAA"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Accept: other\r\n\r\n"),
        ] {
            let error = rejected(&GOOD.replace(from, to));
            assert!(matches!(error, FeedError::Handshake { .. }), "{to}: {error}");
            assert_eq!(error.retry_decision(), RetryDecision::Suspend);
        }
        let without = GOOD.replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
        assert!(matches!(rejected(&without), FeedError::Subprotocol { .. }));
        let other = GOOD.replace("graphql-transport-ws", "graphql-ws");
        assert!(matches!(rejected(&other), FeedError::Subprotocol { .. }));
    }

    #[test]
    fn retry_after_is_parsed_from_a_rejection() {
        let error = rejected("HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\n\r\n");
        assert_eq!(error.retry_decision(), RetryDecision::RetryAfter(Duration::from_secs(7)));
        let date = "HTTP/1.1 503 No\r\nRetry-After: Thu, 01 Jan 1970 00:01:30 GMT\r\n\r\n";
        assert_eq!(
            rejected(date).retry_decision(),
            RetryDecision::RetryAfter(Duration::from_secs(90))
        );
        let nonsense = rejected("HTTP/1.1 503 No\r\nRetry-After: soon\r\n\r\n");
        assert_eq!(nonsense.retry_decision(), RetryDecision::Retry);
    }

    #[test]
    fn a_web_page_blocks_and_a_challenge_is_named() {
        for (status, headers, page) in PAGES {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let error = rejected(&format!("HTTP/1.1 {status} Text\r\n{headers}\r\n<html>"));
            let is_blocked = page.is_some() || matches!(status, 401 | 403);
            assert_eq!(error.is_blocked(), is_blocked, "{status} {headers}");
            let is_named = error.to_string().contains("a challenge page");
            assert_eq!(is_named, page == Some(WebPage::Challenge), "{status} {headers}{error}");
        }
    }

    #[test]
    fn interim_responses_are_skipped_up_to_their_limit() {
        let interim = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: <x>; rel=preload\r\n\r\n",
        ];
        for interim in interim {
            let text = format!("{interim}{GOOD}");
            for len in 0..text.len() {
                assert_eq!(read(text.get(..len).unwrap()).unwrap(), None, "{len} of {interim}");
            }
            assert_eq!(read(&format!("{text}\u{1}frame")).unwrap(), Some(text.len()));
        }
        let most = interim[0].repeat(usize::try_from(UPGRADE_INTERIM_MAX).unwrap());
        assert_eq!(read(&format!("{most}{GOOD}")).unwrap(), Some(most.len() + GOOD.len()));
        let more = rejected(&format!("{most}{}{GOOD}", interim[0]));
        assert!(matches!(more, FeedError::Handshake { .. }), "{more}");
        let then_rejected = rejected(&format!("{}HTTP/1.1 404 No\r\n\r\n", interim[0]));
        assert!(matches!(then_rejected, FeedError::UpgradeRejected(_)), "{then_rejected}");
    }

    #[test]
    fn an_empty_extension_list_is_accepted_and_any_other_rejected() {
        let with = |value: &str| {
            let header = format!("\r\nSec-WebSocket-Extensions:{value}\r\n\r\n");
            GOOD.replace("\r\n\r\n", &header)
        };
        for empty in ["", " ", " ,", "\t, ,"] {
            let text = with(empty);
            assert_eq!(read(&text).unwrap(), Some(text.len()), "{empty:?}");
        }
        for used in [" permessage-deflate", " , x-webkit-deflate-frame", " \u{e9}"] {
            let error = rejected(&with(used));
            assert!(matches!(error, FeedError::Handshake { .. }), "{used:?}: {error}");
        }
    }

    #[test]
    fn an_endless_response_head_is_rejected() {
        let endless = format!("HTTP/1.1 101 X\r\nA: {}", "a".repeat(UPGRADE_HEAD_BYTES_MAX));
        assert!(matches!(rejected(&endless), FeedError::Handshake { .. }));
        let many = format!("HTTP/1.1 101 X\r\n{}\r\n", "A: b\r\n".repeat(UPGRADE_HEADERS_MAX + 1));
        assert!(matches!(rejected(&many), FeedError::Handshake { .. }));
        assert!(matches!(rejected("SSH-2.0-OpenSSH\r\n\r\n"), FeedError::Handshake { .. }));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(len)) = read_head(&bytes, KEY, PROTOCOL, UnixMs(0)) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
