//! Prepared bytes of a request, except for the listing's id.
//!
//! Pure. Orders differ in their id only, so the rest is built once and [`BuyRequest::for_id`]
//! copies the id into its place. Ids of one length, which is the usual case, leave the rest
//! untouched; another length changes `Content-Length` and rebuilds the request in the same memory.
//! Nothing is allocated.
//!
//! The bytes contain the credential, so these types print no content.

use std::fmt;

use crate::{
    config::{Credential, Endpoints},
    domain::trade::{TRADE_ID_BYTES_MAX, TradeId},
};

/// Maximum length of a request, in bytes: a browser's whole `Cookie` header fits many times over.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024;

/// Digits of the longest `Content-Length`.
const LENGTH_DIGITS_MAX: usize = 6;

/// Destination and credential of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestIdentity<'a> {
    pub endpoints: &'a Endpoints,
    pub credential: &'a Credential,
}

/// A body with a place for one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTemplate<'a> {
    pub before_id: &'a str,
    pub after_id: &'a str,
}

/// Cause of a failed preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A header's value contains a line break or another control character.
    #[error(
        "the {header} header contains a line break or another control character; write it on one line"
    )]
    Header {
        /// Name of the header. Its value is not shown.
        header: &'static str,
    },
    #[error("the request is longer than {REQUEST_BYTES_MAX} bytes; shorten the Cookie header")]
    TooLong,
}

/// An order request that is rebuilt for each id in the same memory.
pub struct BuyRequest {
    before_length: Vec<u8>,
    before_id: Vec<u8>,
    after_id: Vec<u8>,
    /// Bytes of the body without the id.
    fixed_body_bytes: usize,
    /// The request as it was last built.
    bytes: Vec<u8>,
    id_offset: usize,
    id_bytes: usize,
}

impl BuyRequest {
    /// Prepares the request, except for the id.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if a header is invalid or the request is too long.
    pub fn new(
        identity: RequestIdentity<'_>,
        body: BodyTemplate<'_>,
    ) -> Result<Self, RequestError> {
        let BodyTemplate { before_id, after_id } = body;
        let mut request = Self {
            before_length: head_before_length(identity)?,
            before_id: [b"\r\n\r\n", before_id.as_bytes()].concat(),
            after_id: after_id.as_bytes().to_vec(),
            fixed_body_bytes: before_id.len().saturating_add(after_id.len()),
            bytes: Vec::new(),
            id_offset: 0,
            id_bytes: 0,
        };
        let len_max = [&request.before_length, &request.before_id, &request.after_id]
            .iter()
            .map(|part| part.len())
            .fold(LENGTH_DIGITS_MAX.saturating_add(TRADE_ID_BYTES_MAX), usize::saturating_add);
        if len_max > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong);
        }
        request.bytes.reserve_exact(len_max);
        Ok(request)
    }

    /// Returns the complete request for this listing.
    pub fn for_id(&mut self, id: &TradeId) -> &[u8] {
        let id = id.as_str().as_bytes();
        if id.len() != self.id_bytes {
            self.rebuild(id.len());
        }
        let end = self.id_offset.saturating_add(id.len());
        if let Some(place) = self.bytes.get_mut(self.id_offset..end) {
            place.copy_from_slice(id);
        }
        &self.bytes
    }

    fn rebuild(&mut self, id_bytes: usize) {
        let mut digits = [0; LENGTH_DIGITS_MAX];
        let length = decimal(self.fixed_body_bytes.saturating_add(id_bytes), &mut digits);
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.before_length);
        self.bytes.extend_from_slice(length);
        self.bytes.extend_from_slice(&self.before_id);
        self.id_offset = self.bytes.len();
        self.id_bytes = id_bytes;
        self.bytes.resize(self.id_offset.saturating_add(id_bytes), b'0');
        self.bytes.extend_from_slice(&self.after_id);
    }
}

impl fmt::Debug for BuyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BuyRequest(…)")
    }
}

/// The keep-warm request, which has no side effects.
pub struct WarmRequest(Vec<u8>);

impl WarmRequest {
    /// # Errors
    ///
    /// Returns a [`RequestError`] if a header is invalid or the request is too long.
    pub fn new(identity: RequestIdentity<'_>, body: &str) -> Result<Self, RequestError> {
        let mut bytes = head_before_length(identity)?;
        bytes.extend_from_slice(body.len().to_string().as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(body.as_bytes());
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong);
        }
        Ok(Self(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WarmRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WarmRequest(…)")
    }
}

fn head_before_length(identity: RequestIdentity<'_>) -> Result<Vec<u8>, RequestError> {
    let Endpoints { http, origin, user_agent, .. } = identity.endpoints;
    let headers = [
        ("Host", http.authority()),
        ("User-Agent", user_agent.clone()),
        ("Accept", "application/json".to_owned()),
        // Decompression would cost time, and compressed responses arrive no sooner.
        ("Accept-Encoding", "identity".to_owned()),
        ("Origin", origin.clone()),
        ("Referer", format!("{origin}/")),
        ("Cookie", identity.credential.header().reveal().to_owned()),
        ("Content-Type", "application/json".to_owned()),
    ];
    let mut head = format!("POST {} HTTP/1.1\r\n", http.path()).into_bytes();
    for (header, value) in headers {
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(RequestError::Header { header });
        }
        for part in [header, ": ", &value, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
    head.extend_from_slice(b"Content-Length: ");
    Ok(head)
}

/// Formats a number without allocating. Numbers with more digits than the buffer cannot occur.
fn decimal(mut number: usize, digits: &mut [u8; LENGTH_DIGITS_MAX]) -> &[u8] {
    let mut first = LENGTH_DIGITS_MAX;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0'.saturating_add(u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        first = at;
        if number == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints() -> Endpoints {
        Endpoints {
            user_agent: "sniper test".to_owned(),
            ..Endpoints::new("ws://127.0.0.1:8099/ws", "http://127.0.0.1:8099/graphql").unwrap()
        }
    }

    fn credential() -> Credential {
        Credential::from_session("hunter2").unwrap()
    }

    const fn template() -> BodyTemplate<'static> {
        BodyTemplate { before_id: r#"{"ids":[""#, after_id: r#""],"note":"é"}"# }
    }

    #[test]
    fn the_request_is_complete_and_its_length_is_right() {
        let (endpoints, credential) = (endpoints(), credential());
        let identity = RequestIdentity { endpoints: &endpoints, credential: &credential };
        let mut request = BuyRequest::new(identity, template()).unwrap();
        let bytes = request.for_id(&TradeId::new("VHJhZGU6MQ").unwrap());
        let expected = "POST /graphql HTTP/1.1\r\n\
            Host: 127.0.0.1:8099\r\n\
            User-Agent: sniper test\r\n\
            Accept: application/json\r\n\
            Accept-Encoding: identity\r\n\
            Origin: https://www.csgoroll.com\r\n\
            Referer: https://www.csgoroll.com/\r\n\
            Cookie: session=hunter2\r\n\
            Content-Type: application/json\r\n\
            Content-Length: 34\r\n\
            \r\n\
            {\"ids\":[\"VHJhZGU6MQ\"],\"note\":\"é\"}";
        assert_eq!(str::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn a_line_break_in_a_header_is_rejected() {
        let endpoints = Endpoints { user_agent: "a\r\nX: y".to_owned(), ..endpoints() };
        let credential = credential();
        let identity = RequestIdentity { endpoints: &endpoints, credential: &credential };
        let error = BuyRequest::new(identity, template()).unwrap_err();
        assert_eq!(error, RequestError::Header { header: "User-Agent" });
    }

    #[test]
    fn a_request_above_the_length_limit_is_an_error() {
        let (endpoints, credential) = (endpoints(), credential());
        let identity = RequestIdentity { endpoints: &endpoints, credential: &credential };
        let long = "x".repeat(REQUEST_BYTES_MAX);
        assert_eq!(WarmRequest::new(identity, &long).unwrap_err(), RequestError::TooLong);
        let long = BodyTemplate { before_id: &long, after_id: "" };
        assert_eq!(BuyRequest::new(identity, long).unwrap_err(), RequestError::TooLong);
    }

    #[test]
    fn debug_output_hides_the_credential() {
        let (endpoints, credential) = (endpoints(), credential());
        let identity = RequestIdentity { endpoints: &endpoints, credential: &credential };
        let buy = BuyRequest::new(identity, template()).unwrap();
        let warm = WarmRequest::new(identity, "{}").unwrap();
        assert!(!format!("{identity:?} {buy:?} {warm:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn a_reused_request_equals_a_new_one_for_any_sequence_of_ids(
            ids in prop::collection::vec("[!#-\\[\\]-~]{1,62}", 1..8)
        ) {
            let (endpoints, credential) = (endpoints(), credential());
            let identity = RequestIdentity { endpoints: &endpoints, credential: &credential };
            let mut request = BuyRequest::new(identity, template()).unwrap();
            let capacity = request.bytes.capacity();
            for id in &ids {
                let body = format!("{}{id}{}", template().before_id, template().after_id);
                let whole = WarmRequest::new(identity, &body).unwrap();
                let bytes = request.for_id(&TradeId::new(id).unwrap());
                prop_assert_eq!(bytes, whole.bytes());
                prop_assert_eq!(request.bytes.capacity(), capacity);
            }
        }

        #[test]
        fn lengths_are_written_as_decimals(number in 0_usize..1_000_000) {
            let mut digits = [0; LENGTH_DIGITS_MAX];
            let expected = number.to_string();
            prop_assert_eq!(decimal(number, &mut digits), expected.as_bytes());
        }
    }
}
