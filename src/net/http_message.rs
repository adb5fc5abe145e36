//! HTTP requests and responses as plain values, and the credentials in requests. Pure.

use std::fmt;

use super::http_head::{ResponseHead, WebPage};
use crate::config::Credential;

/// Media type of a JSON body.
pub const JSON: &str = "application/json";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// A request without its host. Its `Debug` prints no value of a header or of the query.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: Method,
    /// Path with its query, beginning with `/`.
    pub path_and_query: String,
    /// Headers except `Host` and `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// A complete response.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    pub head: ResponseHead,
    /// Body without any coding.
    pub body: Vec<u8>,
}

/// Part of a request in which the marketplace expects the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Cookie` header.
    Cookie,
    /// `Authorization: Bearer` header with an API key.
    Bearer,
    /// Parameter of the query with an API key, such as `?key=…`.
    ApiKeyQuery { name: &'static str },
    /// Header with an API key.
    ApiKeyHeader { name: &'static str },
}

/// A request to which headers and parameters can be added.
pub trait RequestParts {
    fn push_header(&mut self, name: &'static str, value: &str);

    /// Adds `name=value`, percent-encoded, to the query.
    fn push_to_query(&mut self, encoded: &str);

    /// Adds a parameter to the query, percent-encoded.
    fn push_query(&mut self, name: &str, value: &str) {
        let mut encoded = String::new();
        percent_encode(name, &mut encoded);
        encoded.push('=');
        percent_encode(value, &mut encoded);
        self.push_to_query(&encoded);
    }
}

/// A header whose value contains a line break or another control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {header} header contains a line break or another control character; write it on one line"
)]
pub struct InvalidHeader {
    /// Name of the header. Its value is not shown.
    pub header: &'static str,
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl HttpRequest {
    pub fn get(path_and_query: impl Into<String>) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { method: Method::Get, path_and_query: path_and_query.into(), headers, body }
    }

    /// Creates a request with a JSON body.
    pub fn post_json(path_and_query: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", JSON.to_owned())];
        let (path_and_query, body) = (path_and_query.into(), body.into());
        Self { method: Method::Post, path_and_query, headers, body }
    }

    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a parameter to the query, percent-encoded.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.push_query(name, value);
        self
    }

    /// Returns the request line and the headers, without `Content-Length` and without the empty
    /// line. They contain the credential.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidHeader`] for a value that could inject a header.
    pub fn head_bytes(&self, authority: &str) -> Result<Vec<u8>, InvalidHeader> {
        let Self { method, path_and_query, headers, .. } = self;
        let mut head = format!("{} {path_and_query} HTTP/1.1\r\n", method.as_str());
        let host = [("Host", authority)];
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (header, value) in host.into_iter().chain(headers) {
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                return Err(InvalidHeader { header });
            }
            for part in [header, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        }
        Ok(head.into_bytes())
    }
}

impl HttpResponse {
    /// Returns the body as text.
    ///
    /// # Errors
    ///
    /// Returns an error for a body that is not UTF-8.
    pub const fn text(&self) -> Result<&str, std::str::Utf8Error> {
        str::from_utf8(self.body.as_slice())
    }

    /// Classifies a web page in place of an answer of the API. A body that begins like HTML is
    /// HTML, with any `Content-Type`.
    pub fn page(&self) -> Option<WebPage> {
        let html = self.head.html || self.body.trim_ascii_start().first() == Some(&b'<');
        ResponseHead { html, ..self.head }.page()
    }
}

impl RequestParts for HttpRequest {
    fn push_header(&mut self, name: &'static str, value: &str) {
        self.headers.push((name, value.to_owned()));
    }

    fn push_to_query(&mut self, encoded: &str) {
        self.path_and_query.push(if self.path_and_query.contains('?') { '&' } else { '?' });
        self.path_and_query.push_str(encoded);
    }
}

impl Auth {
    /// Puts the credential into a request.
    #[must_use]
    pub fn apply<R: RequestParts>(self, credential: &Credential, mut request: R) -> R {
        let value = credential.value().reveal();
        match self {
            Self::Cookie => request.push_header("Cookie", value),
            Self::Bearer => request.push_header("Authorization", &format!("Bearer {value}")),
            Self::ApiKeyQuery { name } => request.push_query(name, value),
            Self::ApiKeyHeader { name } => request.push_header(name, value),
        }
        request
    }
}

/// Appends a text of which everything but the unreserved characters of RFC 3986 is percent-encoded.
pub fn percent_encode(text: &str, encoded: &mut String) {
    for byte in text.bytes() {
        let (escape, length) = percent_encoded(byte);
        encoded.extend(escape.iter().take(length).copied().map(char::from));
    }
}

/// Returns the encoded form of a byte and its length, 1 or 3.
pub fn percent_encoded(byte: u8) -> ([u8; 3], usize) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        return ([byte, 0, 0], 1);
    }
    let digit = |value: u8| HEX.get(usize::from(value & 0xf)).copied().unwrap_or(b'0');
    ([b'%', digit(byte >> 4), digit(byte)], 3)
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        let names = self.headers.iter().map(|(name, _value)| *name);
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &path)
            .field("headers", &names.collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Prints the body's length only: the body may contain anything.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("head", &self.head)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http_head::tests::PAGES;

    #[track_caller]
    fn check(auth: Auth, expected: &str) {
        let credential = match auth {
            Auth::Cookie => Credential::from_session("hunter2/+"),
            _ => Credential::from_key("hunter2/+"),
        };
        let request = auth.apply(&credential.unwrap(), HttpRequest::get("/v1/user?a=b"));
        let head = request.head_bytes("example.com").unwrap();
        assert_eq!(str::from_utf8(&head).unwrap(), expected);
        assert!(!format!("{request:?}").contains("hunter2"), "{request:?}");
    }

    #[test]
    fn a_credential_goes_where_the_marketplace_expects_it() {
        let line = "GET /v1/user?a=b HTTP/1.1\r\nHost: example.com\r\n";
        check(Auth::Cookie, &format!("{line}Cookie: session=hunter2/+\r\n"));
        check(Auth::Bearer, &format!("{line}Authorization: Bearer hunter2/+\r\n"));
        check(Auth::ApiKeyHeader { name: "X-Api-Key" }, &format!("{line}X-Api-Key: hunter2/+\r\n"));
        let with_key = "GET /v1/user?a=b&api=hunter2%2F%2B HTTP/1.1\r\n";
        let name = Auth::ApiKeyQuery { name: "api" };
        check(name, &format!("{with_key}Host: example.com\r\n"));
    }

    #[test]
    fn a_query_begins_with_a_question_mark_and_is_percent_encoded() {
        let request = HttpRequest::get("/buy").with_query("id", "a b&c=é").with_query("n", "1");
        assert_eq!(request.path_and_query, "/buy?id=a%20b%26c%3D%C3%A9&n=1");
    }

    #[test]
    fn a_header_with_a_line_break_is_rejected() {
        let request = HttpRequest::post_json("/", "{}").with_header("User-Agent", "a\r\nX: y");
        let rejected = request.head_bytes("example.com");
        assert_eq!(rejected, Err(InvalidHeader { header: "User-Agent" }));
    }

    #[test]
    fn a_body_that_begins_like_html_is_a_page() {
        for (status, headers, page) in PAGES {
            let html = headers.iter().any(|(name, _value)| *name == "Content-Type");
            let headers = headers.iter().filter(|(name, _value)| *name != "Content-Type");
            let headers = headers.map(|(name, value)| (*name, value.as_bytes()));
            let head = ResponseHead::parse(status, headers);
            let body = if html { " <!DOCTYPE html>" } else { "{}" }.into();
            let response = HttpResponse { head, body };
            assert_eq!(response.page(), page, "{response:?}");
        }
    }
}
