//! Order request of a marketplace, with slots for what differs between orders. Pure.
//!
//! The inserted values need no further escaping: [`Part`]s of the path are percent-encoded, and the
//! values of slots in a body or a header contain neither quotes nor control characters by their
//! types. The marketplace gives only the template; `execution::request` compiles it.

use std::{borrow::Cow, fmt};

use crate::{
    domain::money::Amount,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::{TRADE_ID_BYTES_MAX, TradeId},
    net::http_message::{Method, RequestParts},
    secret::Secret,
};

/// Maximum length of an inserted value: a percent-encoded id.
pub const SLOT_BYTES_MAX: usize = 3 * TRADE_ID_BYTES_MAX;

/// Values that differ between two orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderFields {
    pub id: TradeId,
    /// The most that the order may cost.
    pub price_limit: Amount,
    /// `None` on a market without own order ids.
    pub own_id: Option<OwnOrderId>,
}

/// Order request with slots. Its `Debug` prints no content, because it contains the credential.
#[derive(Clone)]
pub struct OrderTemplate {
    pub method: Method,
    pub path_and_query: Vec<Part>,
    /// Headers except `Host` and `Content-Length`.
    pub headers: Vec<(&'static str, Vec<HeaderPart>)>,
    pub body: Vec<Part>,
}

/// Piece of a path or a body.
#[derive(Clone)]
pub enum Part {
    Text(Cow<'static, str>),
    Slot(Slot),
}

/// Piece of a header's value.
#[derive(Clone)]
pub enum HeaderPart {
    Text(Cow<'static, str>),
    Slot(Slot),
    Signature(Signature),
}

/// Place of a value of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Id,
    PriceLimit(PriceFormat),
    OwnId,
    Time(TimeFormat),
}

/// Notation of a price limit, which is rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceFormat {
    /// Decimal number of units with two decimals, such as `27.44`.
    Decimal2,
    /// Integer of thousandths, such as `27440`.
    Thousandths,
}

/// Notation of the time at which the request is built, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    Seconds,
    Milliseconds,
}

/// Signature over the rest of a request, computed by a pure function of the marketplace.
#[derive(Clone)]
pub struct Signature {
    pub key: Secret,
    pub sign: fn(&Secret, &SignedParts<'_>) -> SlotValue,
}

/// Parts of a built request that a signature can cover.
#[derive(Clone, Copy, Debug)]
pub struct SignedParts<'a> {
    pub method: Method,
    pub path_and_query: &'a [u8],
    pub body: &'a [u8],
    pub time: UnixMs,
}

/// Value of a slot, stored inline. No value is longer than [`SLOT_BYTES_MAX`]; a push beyond it is
/// ignored.
#[derive(Clone, Copy)]
pub struct SlotValue {
    bytes: [u8; SLOT_BYTES_MAX],
    len: usize,
}

impl OrderTemplate {
    pub const fn get(path_and_query: Vec<Part>) -> Self {
        Self { method: Method::Get, path_and_query, headers: Vec::new(), body: Vec::new() }
    }

    pub fn post_json(path_and_query: impl Into<Cow<'static, str>>, body: Vec<Part>) -> Self {
        let mut template = Self {
            method: Method::Post,
            path_and_query: vec![Part::Text(path_and_query.into())],
            headers: Vec::new(),
            body,
        };
        template.push_header("Content-Type", crate::net::http_message::JSON);
        template
    }
}

impl RequestParts for OrderTemplate {
    fn push_header(&mut self, name: &'static str, value: &str) {
        self.headers.push((name, vec![HeaderPart::Text(value.to_owned().into())]));
    }

    fn push_to_query(&mut self, encoded: &str) {
        let is_question_mark = |part: &Part| match part {
            Part::Text(text) => text.contains('?'),
            Part::Slot(_) => false,
        };
        let has_query = self.path_and_query.iter().any(is_question_mark);
        let separator = if has_query { '&' } else { '?' };
        self.path_and_query.push(Part::Text(format!("{separator}{encoded}").into()));
    }
}

impl SlotValue {
    pub const EMPTY: Self = Self { bytes: [0; SLOT_BYTES_MAX], len: 0 };

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub const fn clear(&mut self) {
        self.len = 0;
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// Appends a number in decimal notation with at least `digits_min` digits.
    pub fn push_number(&mut self, mut number: u64, digits_min: usize) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0'.saturating_add(u8::try_from(number % 10).unwrap_or(0));
            number /= 10;
            first = at;
            if number == 0 {
                break;
            }
        }
        let first = first.min(digits.len().saturating_sub(digits_min));
        self.push(digits.get(first..).unwrap_or_default());
    }
}

impl fmt::Debug for OrderTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderTemplate(…)")
    }
}
