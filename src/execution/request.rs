//! Prepared bytes of a request, except for the values that differ between orders.
//!
//! Pure. The text of an [`OrderTemplate`] is laid out once, and [`PreparedOrder::bytes_for`] copies
//! the values of an order into their slots. Values of the same lengths, which is the usual case,
//! leave the rest untouched; another length changes `Content-Length` and lays out the request again
//! in the same memory. Nothing is allocated.
//!
//! The bytes contain the credential, so these types print no content.

use std::{fmt, ops::Range};

use crate::{
    domain::time::UnixMs,
    markets::order_template::{
        HeaderPart, OrderFields, OrderTemplate, Part, PriceFormat, SLOT_BYTES_MAX, Signature,
        SignedParts, Slot, SlotValue, TimeFormat,
    },
    net::http_message::{HttpRequest, InvalidHeader, Method, percent_encoded},
};

/// Maximum length of a request, in bytes: a browser's whole `Cookie` header fits many times over.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024;

/// Maximum number of digits of a `Content-Length`.
const LENGTH_DIGITS_MAX: usize = 6;

/// Header that asks for responses without compression. Decompression would cost time, and
/// compressed responses arrive no sooner.
const IDENTITY: (&str, &str) = ("Accept-Encoding", "identity");

/// Reason why a request cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// The path is not shown, because it may contain a key.
    #[error("the path of the request contains a space, a line break or another invalid character")]
    Path,
    #[error("the request is longer than {REQUEST_BYTES_MAX} bytes; shorten the Cookie header")]
    TooLong,
}

/// An order request that is rebuilt for each order in the same memory.
pub struct PreparedOrder {
    method: Method,
    pieces: Vec<Piece>,
    fields: Vec<Field>,
    signatures: Vec<SignatureField>,
    needs_time: bool,
    /// The request as it was last built.
    bytes: Vec<u8>,
    path: Range<usize>,
    body: Range<usize>,
}

/// Piece of the request. The pieces are in the order of its bytes.
enum Piece {
    Text(Vec<u8>),
    /// Index in `fields`.
    Field(usize),
    /// Index in `signatures`.
    Signature(usize),
    ContentLength,
    PathStart,
    PathEnd,
    BodyStart,
}

/// Slot with its last value.
struct Field {
    slot: Slot,
    part: RequestPart,
    value: SlotValue,
    /// Position of the value in the request.
    at: Range<usize>,
}

/// Part of a request that contains a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestPart {
    /// An id is percent-encoded here.
    Path,
    Header,
    Body,
}

struct SignatureField {
    signature: Signature,
    value: SlotValue,
    at: Range<usize>,
}

impl PreparedOrder {
    /// Prepares the requests of a template for the host `authority`.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if a header or the path is invalid, or the request is too long.
    pub fn new(template: &OrderTemplate, authority: &str) -> Result<Self, RequestError> {
        let OrderTemplate { method, path_and_query, headers, body } = template;
        let mut order = Self {
            method: *method,
            pieces: Vec::new(),
            fields: Vec::new(),
            signatures: Vec::new(),
            needs_time: false,
            bytes: Vec::new(),
            path: 0..0,
            body: 0..0,
        };
        order.push_text(method.as_str());
        order.push_text(" ");
        order.pieces.push(Piece::PathStart);
        for part in path_and_query {
            match part {
                Part::Text(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    order.push_text(text);
                }
                Part::Text(_) => return Err(RequestError::Path),
                Part::Slot(slot) => order.push_field(*slot, RequestPart::Path),
            }
        }
        order.pieces.push(Piece::PathEnd);
        order.push_text(" HTTP/1.1\r\n");
        order.push_header("Host", &[HeaderPart::Text(authority.to_owned().into())])?;
        order.push_header(IDENTITY.0, &[HeaderPart::Text(IDENTITY.1.into())])?;
        for (name, value) in headers {
            order.push_header(name, value)?;
        }
        if *method == Method::Post {
            order.push_text("Content-Length: ");
            order.pieces.push(Piece::ContentLength);
            order.push_text("\r\n");
        }
        order.push_text("\r\n");
        order.pieces.push(Piece::BodyStart);
        for part in body {
            match part {
                Part::Text(text) => order.push_text(text),
                Part::Slot(slot) => order.push_field(*slot, RequestPart::Body),
            }
        }
        let len_max = order.pieces.iter().map(Piece::len_max).fold(0, usize::saturating_add);
        if len_max > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong);
        }
        order.bytes.reserve_exact(len_max);
        Ok(order)
    }

    /// Returns `true` if the request contains the time.
    pub const fn needs_time(&self) -> bool {
        self.needs_time
    }

    /// Returns the complete request for this order. `time` is used if
    /// [`needs_time`](Self::needs_time) is `true`.
    pub fn bytes_for(&mut self, order: &OrderFields, time: UnixMs) -> &[u8] {
        let mut is_same_length = !self.bytes.is_empty();
        for field in &mut self.fields {
            field.fill(order, time);
            is_same_length &= field.value.as_bytes().len() == field.at.len();
        }
        if is_same_length {
            for field in &self.fields {
                copy_to(&mut self.bytes, &field.at, &field.value);
            }
        } else {
            self.lay_out();
        }
        if !self.signatures.is_empty() {
            self.sign(time);
        }
        &self.bytes
    }

    fn push_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(bytes)) => bytes.extend_from_slice(text.as_bytes()),
            _ => self.pieces.push(Piece::Text(text.as_bytes().to_vec())),
        }
    }

    fn push_field(&mut self, slot: Slot, part: RequestPart) {
        self.needs_time |= matches!(slot, Slot::Time(_));
        self.pieces.push(Piece::Field(self.fields.len()));
        self.fields.push(Field { slot, part, value: SlotValue::EMPTY, at: 0..0 });
    }

    fn push_header(
        &mut self,
        header: &'static str,
        value: &[HeaderPart],
    ) -> Result<(), RequestError> {
        self.push_text(header);
        self.push_text(": ");
        for part in value {
            match part {
                HeaderPart::Text(text) if text.bytes().any(|byte| byte.is_ascii_control()) => {
                    return Err(InvalidHeader { header }.into());
                }
                HeaderPart::Text(text) => self.push_text(text),
                HeaderPart::Slot(slot) => self.push_field(*slot, RequestPart::Header),
                HeaderPart::Signature(signature) => {
                    self.needs_time = true;
                    self.pieces.push(Piece::Signature(self.signatures.len()));
                    let (signature, value) = (signature.clone(), SlotValue::EMPTY);
                    self.signatures.push(SignatureField { signature, value, at: 0..0 });
                }
            }
        }
        self.push_text("\r\n");
        Ok(())
    }

    fn lay_out(&mut self) {
        let Self { pieces, fields, signatures, bytes, path, body, .. } = self;
        let body_start = pieces.iter().position(|piece| matches!(piece, Piece::BodyStart));
        let body_text = pieces.iter().skip(body_start.unwrap_or(usize::MAX)).map(Piece::text_len);
        let in_body = fields.iter().filter(|field| field.part == RequestPart::Body);
        let in_body = in_body.map(|field| field.value.as_bytes().len());
        let body_len = body_text.chain(in_body).fold(0, usize::saturating_add);
        bytes.clear();
        for piece in &*pieces {
            let start = bytes.len();
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text),
                Piece::Field(index) => {
                    let Some(field) = fields.get_mut(*index) else { continue };
                    bytes.extend_from_slice(field.value.as_bytes());
                    field.at = start..bytes.len();
                }
                Piece::Signature(index) => {
                    let Some(field) = signatures.get_mut(*index) else { continue };
                    bytes.extend_from_slice(field.value.as_bytes());
                    field.at = start..bytes.len();
                }
                Piece::ContentLength => {
                    let mut length = SlotValue::EMPTY;
                    length.push_number(u64::try_from(body_len).unwrap_or(u64::MAX), 1);
                    bytes.extend_from_slice(length.as_bytes());
                }
                Piece::PathStart => path.start = start,
                Piece::PathEnd => path.end = start,
                Piece::BodyStart => body.start = start,
            }
        }
        body.end = bytes.len();
    }

    /// Computes the signatures and writes them into their headers. They cover the path and the
    /// body, which must be laid out before.
    fn sign(&mut self, time: UnixMs) {
        let mut is_same_length = true;
        let parts = SignedParts {
            method: self.method,
            path_and_query: self.bytes.get(self.path.clone()).unwrap_or_default(),
            body: self.bytes.get(self.body.clone()).unwrap_or_default(),
            time,
        };
        for field in &mut self.signatures {
            field.value = (field.signature.sign)(&field.signature.key, &parts);
            is_same_length &= field.value.as_bytes().len() == field.at.len();
        }
        if is_same_length {
            for field in &self.signatures {
                copy_to(&mut self.bytes, &field.at, &field.value);
            }
        } else {
            self.lay_out();
        }
    }
}

impl Piece {
    fn text_len(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }

    fn len_max(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Field(_) | Self::Signature(_) => SLOT_BYTES_MAX,
            Self::ContentLength => LENGTH_DIGITS_MAX,
            Self::PathStart | Self::PathEnd | Self::BodyStart => 0,
        }
    }
}

impl Field {
    /// Sets the value for this order.
    fn fill(&mut self, order: &OrderFields, time: UnixMs) {
        let Self { slot, part, value, .. } = self;
        value.clear();
        match slot {
            Slot::Id if *part == RequestPart::Path => {
                for byte in order.id.as_str().bytes() {
                    let (escape, length) = percent_encoded(byte);
                    value.push(escape.get(..length).unwrap_or_default());
                }
            }
            Slot::Id => value.push(order.id.as_str().as_bytes()),
            Slot::OwnId => {
                if let Some(own_id) = &order.own_id {
                    value.push(own_id.as_bytes());
                }
            }
            Slot::PriceLimit(format) => {
                let thousandths = u64::try_from(order.price_limit.thousandths()).unwrap_or(0);
                match format {
                    PriceFormat::Thousandths => value.push_number(thousandths, 1),
                    PriceFormat::Decimal2 => {
                        value.push_number(thousandths / 1_000, 1);
                        value.push(b".");
                        value.push_number(thousandths % 1_000 / 10, 2);
                    }
                }
            }
            Slot::Time(format) => {
                let UnixMs(ms) = time;
                let ms = u64::try_from(ms).unwrap_or(0);
                let number = match format {
                    TimeFormat::Seconds => ms / 1_000,
                    TimeFormat::Milliseconds => ms,
                };
                value.push_number(number, 1);
            }
        }
    }
}

fn copy_to(bytes: &mut [u8], at: &Range<usize>, value: &SlotValue) {
    if let Some(place) = bytes.get_mut(at.clone()) {
        place.copy_from_slice(value.as_bytes());
    }
}

impl fmt::Debug for PreparedOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedOrder(…)")
    }
}

/// The keep-warm request, which has no side effects.
pub struct WarmRequest(Vec<u8>);

impl WarmRequest {
    /// Prepares the request for the host `authority`.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if a header or the path is invalid, or the request is too long.
    pub fn new(request: &HttpRequest, authority: &str) -> Result<Self, RequestError> {
        if !request.path_and_query.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RequestError::Path);
        }
        let request = request.clone().with_header(IDENTITY.0, IDENTITY.1);
        let mut bytes = request.head_bytes(authority)?;
        if request.method == Method::Post {
            bytes.extend_from_slice(
                format!("Content-Length: {}\r\n", request.body.len()).as_bytes(),
            );
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&request.body);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::Credential,
        domain::{money::Amount, own_order_id::StartId, trade::TradeId},
        net::http_message::Auth,
        secret::Secret,
    };

    const HOST: &str = "127.0.0.1:8099";
    const TIME: UnixMs = UnixMs(1_772_359_200_120);

    fn json() -> OrderTemplate {
        let body = vec![
            Part::Text(r#"{"ids":[""#.into()),
            Part::Slot(Slot::Id),
            Part::Text(r#""],"note":"é","#.into()),
            Part::Text(r#""max":"#.into()),
            Part::Slot(Slot::PriceLimit(PriceFormat::Decimal2)),
            Part::Text("}".into()),
        ];
        OrderTemplate::post_json("/buy", body)
    }

    /// An order by `GET`, with every kind of slot and a signature.
    fn signed() -> OrderTemplate {
        let mut template = OrderTemplate::get(vec![
            Part::Text("/buy?id=".into()),
            Part::Slot(Slot::Id),
            Part::Text("&price=".into()),
            Part::Slot(Slot::PriceLimit(PriceFormat::Thousandths)),
            Part::Text("&own=".into()),
            Part::Slot(Slot::OwnId),
        ]);
        template.headers = vec![
            ("X-Time", vec![HeaderPart::Slot(Slot::Time(TimeFormat::Seconds))]),
            (
                "X-Sign",
                vec![
                    HeaderPart::Text("v1 ".into()),
                    HeaderPart::Signature(Signature { key: Secret::new("key"), sign }),
                ],
            ),
        ];
        template
    }

    /// Not a real signature: its length and content depend on everything that it covers.
    fn sign(key: &Secret, parts: &SignedParts<'_>) -> SlotValue {
        let SignedParts { method, path_and_query, body, time } = parts;
        let sum = [key.reveal().as_bytes(), method.as_str().as_bytes(), path_and_query, body]
            .concat()
            .iter()
            .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let mut value = SlotValue::EMPTY;
        value.push_number(sum % 1_000 + u64::try_from(time.0).unwrap() % 7, 1);
        value
    }

    fn order(id: &str, thousandths: i64) -> OrderFields {
        let id = TradeId::new(id).unwrap();
        OrderFields {
            id,
            price_limit: Amount::from_thousandths(thousandths),
            own_id: Some(StartId::from_bits(0x00ff_ee11_u128.to_be_bytes()).order_id(7)),
        }
    }

    fn text(template: &OrderTemplate, order: &OrderFields) -> String {
        let mut request = PreparedOrder::new(template, HOST).unwrap();
        String::from_utf8(request.bytes_for(order, TIME).to_vec()).unwrap()
    }

    #[test]
    fn the_request_is_complete_and_its_length_is_right() {
        let credential = Credential::from_session("hunter2").unwrap();
        let template = Auth::Cookie.apply(&credential, json());
        let expected = "POST /buy HTTP/1.1\r\n\
            Host: 127.0.0.1:8099\r\n\
            Accept-Encoding: identity\r\n\
            Content-Type: application/json\r\n\
            Cookie: session=hunter2\r\n\
            Content-Length: 46\r\n\
            \r\n\
            {\"ids\":[\"VHJhZGU6MQ\"],\"note\":\"é\",\"max\":27.44}";
        assert_eq!(text(&template, &order("VHJhZGU6MQ", 27_449)), expected);
    }

    #[test]
    fn a_query_has_encoded_values_and_a_signature_covers_it() {
        let credential = Credential::from_key("hunter2").unwrap();
        let template = Auth::ApiKeyQuery { name: "api" }.apply(&credential, signed());
        let order = order("a+b/c=&d", 912_340);
        let own_id = order.own_id.unwrap();
        let path = format!("/buy?id=a%2Bb%2Fc%3D%26d&price=912340&own={own_id}&api=hunter2");
        let parts = SignedParts {
            method: Method::Get,
            path_and_query: path.as_bytes(),
            body: b"",
            time: TIME,
        };
        let signature = sign(&Secret::new("key"), &parts);
        let signature = str::from_utf8(signature.as_bytes()).unwrap();
        let expected = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8099\r\nAccept-Encoding: identity\r\n\
             X-Time: 1772359200\r\nX-Sign: v1 {signature}\r\n\r\n"
        );
        assert_eq!(text(&template, &order), expected);
    }

    #[test]
    fn a_price_limit_is_rounded_down() {
        let limit = |thousandths| {
            let text = text(&json(), &order("a", thousandths));
            text.rsplit(':').next().unwrap().to_owned()
        };
        for (thousandths, expected) in
            [(1_009, "1.00}"), (1_010, "1.01}"), (999, "0.99}"), (50, "0.05}"), (-5, "0.00}")]
        {
            assert_eq!(limit(thousandths), expected);
        }
    }

    #[test]
    fn a_control_character_in_a_header_or_a_path_is_rejected() {
        let mut template = json();
        template.headers.push(("User-Agent", vec![HeaderPart::Text("a\r\nX: y".into())]));
        let error = PreparedOrder::new(&template, HOST).unwrap_err();
        assert_eq!(error, RequestError::Header(InvalidHeader { header: "User-Agent" }));
        let path = OrderTemplate::get(vec![Part::Text("/a b".into())]);
        assert_eq!(PreparedOrder::new(&path, HOST).unwrap_err(), RequestError::Path);
        let warm = WarmRequest::new(&HttpRequest::get("/a\r\nb"), HOST);
        assert_eq!(warm.unwrap_err(), RequestError::Path);
    }

    #[test]
    fn a_request_above_the_length_limit_is_an_error() {
        let long = "x".repeat(REQUEST_BYTES_MAX);
        let warm = WarmRequest::new(&HttpRequest::post_json("/", long.clone()), HOST);
        assert_eq!(warm.unwrap_err(), RequestError::TooLong);
        let template = OrderTemplate::post_json("/", vec![Part::Text(long.into())]);
        assert_eq!(PreparedOrder::new(&template, HOST).unwrap_err(), RequestError::TooLong);
    }

    #[test]
    fn debug_output_hides_the_credential() {
        let credential = Credential::from_session("hunter2").unwrap();
        let template = Auth::Cookie.apply(&credential, json());
        let request = Auth::Cookie.apply(&credential, HttpRequest::get("/"));
        let prepared = PreparedOrder::new(&template, HOST).unwrap();
        let warm = WarmRequest::new(&request, HOST).unwrap();
        assert!(!format!("{template:?} {prepared:?} {warm:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn a_reused_request_equals_a_new_one_for_any_sequence_of_orders(
            orders in prop::collection::vec(("[!#-\\[\\]-~]{1,62}", 0_i64..10_000_000), 1..8)
        ) {
            for template in [json(), signed()] {
                let mut request = PreparedOrder::new(&template, HOST).unwrap();
                let capacity = request.bytes.capacity();
                for (id, price) in &orders {
                    let order = order(id, *price);
                    let bytes = request.bytes_for(&order, TIME);
                    let built = str::from_utf8(bytes).unwrap().to_owned();
                    prop_assert_eq!(&built, &text(&template, &order));
                    if let Some((head, body)) = built.split_once("\r\n\r\n")
                        && template.method == Method::Post
                    {
                        let length = format!("Content-Length: {}", body.len());
                        prop_assert!(head.ends_with(&length), "{}", head);
                        prop_assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
                    }
                    prop_assert_eq!(request.bytes.capacity(), capacity);
                }
            }
        }
    }
}
