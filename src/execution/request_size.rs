//! Size of the request of an order, and its largest parts if it exceeds one TCP segment. Pure.
//!
//! A request that fits into one segment arrives complete with its first packet. The second packet
//! of a longer one can be lost or delayed separately.

use super::request::{PreparedOrder, RequestError};
use crate::{
    domain::{money::Amount, time::UnixMs, trade::TradeId},
    markets::order_template::{HeaderPart, OrderFields, OrderTemplate, Part},
};

/// Bytes of a segment in a packet of 1,500 bytes, over IPv6 and with timestamps. IPv4 has room for
/// 20 more, and a tunnel takes some away.
pub const SEGMENT_BYTES: usize = 1_428;

/// Maximum bytes that TLS adds to a record: 22 in version 1.3, 29 in version 1.2.
pub const TLS_BYTES: usize = 29;

/// Maximum content of a TLS record.
const TLS_RECORD_BYTES: usize = 16 * 1024;

/// Id of a listing in the request that is measured, as long as a UUID. Most ids are shorter.
const SAMPLE_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Maximum number of parts that a description names.
const PARTS_NAMED_MAX: usize = 3;

/// Size of the request of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRequestSize {
    /// Size with the overhead of TLS, if the connection uses it.
    pub bytes: usize,
    pub is_tls: bool,
    /// Names and sizes of the headers and the body, the largest first. The values are omitted,
    /// because they contain the credential.
    pub parts: Vec<(&'static str, usize)>,
}

impl OrderRequestSize {
    /// Measures the request of this template.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if the request cannot be prepared.
    pub fn of(
        template: &OrderTemplate,
        authority: &str,
        is_tls: bool,
    ) -> Result<Self, RequestError> {
        // The constant is valid, as every test of this module shows.
        let sample = TradeId::new(SAMPLE_ID).ok_or(RequestError::Path)?;
        let order = OrderFields { id: sample, price_limit: Amount::ZERO, own_id: None };
        let content = PreparedOrder::new(template, authority)?.bytes_for(&order, UnixMs(0)).len();
        let records = content.div_ceil(TLS_RECORD_BYTES);
        let overhead = if is_tls { TLS_BYTES.saturating_mul(records) } else { 0 };
        let headers = template.headers.iter().map(|(name, value)| {
            let text_len = |part: &HeaderPart| match part {
                HeaderPart::Text(text) => text.len(),
                HeaderPart::Slot(_) | HeaderPart::Signature(_) => 0,
            };
            let separators = ": \r\n".len();
            (*name, value.iter().map(text_len).fold(name.len(), usize::saturating_add) + separators)
        });
        let body = template.body.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Slot(_) => SAMPLE_ID.len(),
        });
        let body = ("body", body.fold(0, usize::saturating_add));
        let mut parts: Vec<_> = headers.chain([body]).collect();
        parts.sort_by_key(|(_part, bytes)| std::cmp::Reverse(*bytes));
        Ok(Self { bytes: content.saturating_add(overhead), is_tls, parts })
    }

    /// Returns the number of bytes beyond one segment.
    pub const fn excess(&self) -> usize {
        self.bytes.saturating_sub(SEGMENT_BYTES)
    }

    /// Describes the size in one line, with the largest parts if it exceeds one segment.
    pub fn describe(&self) -> String {
        let (bytes, excess) = (self.bytes, self.excess());
        let tls = if self.is_tls { " with TLS" } else { "" };
        if excess == 0 {
            return format!("{bytes} bytes{tls}, in one TCP segment ({SEGMENT_BYTES} bytes)");
        }
        let parts = self.parts.iter().take(PARTS_NAMED_MAX);
        let parts: Vec<String> =
            parts.map(|(part, bytes)| format!("{part} {bytes} bytes")).collect();
        format!(
            "{bytes} bytes{tls}, {excess} more than one TCP segment ({SEGMENT_BYTES} bytes): {}",
            parts.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Credential, markets::order_template::Slot, net::http_message::Auth};

    /// Returns a session cookie without repeated parts, because the mask of credentials searches
    /// for it in every text of this test process.
    fn cookie(bytes: usize) -> String {
        let numbers = (0_u32..).map(|number| number.to_string()).take(bytes);
        let text = format!("size-test-{}", numbers.collect::<String>());
        text.chars().take(bytes).collect()
    }

    fn template(cookie_bytes: usize) -> OrderTemplate {
        let credential = Credential::from_session(&cookie(cookie_bytes)).unwrap();
        let body = vec![Part::Text("buy ".into()), Part::Slot(Slot::Id)];
        Auth::Cookie.apply(&credential, OrderTemplate::post_json("/graphql", body))
    }

    #[track_caller]
    fn size(cookie_bytes: usize, is_tls: bool) -> OrderRequestSize {
        OrderRequestSize::of(&template(cookie_bytes), "example.com", is_tls).unwrap()
    }

    #[test]
    fn a_request_within_one_segment_is_described_by_its_size() {
        let (plain, tls) = (size(40, false), size(40, true));
        assert_eq!(tls.bytes, plain.bytes + TLS_BYTES);
        let expected = format!("{} bytes, in one TCP segment (1428 bytes)", plain.bytes);
        assert_eq!(plain.describe(), expected);
        assert!(tls.describe().contains(" bytes with TLS, in one"), "{}", tls.describe());
    }

    #[test]
    fn a_long_cookie_is_named_as_the_cause_of_a_second_segment() {
        let small = size(40, true);
        // This request is one byte too long.
        let long = size(40 + SEGMENT_BYTES - small.bytes + 1, true);
        assert_eq!((small.excess(), long.excess()), (0, 1));
        let cookie = format!(": Cookie {} bytes, body 40 bytes, ", long.parts[0].1);
        let text = long.describe();
        assert!(text.starts_with("1429 bytes with TLS, 1 more than one TCP segment"), "{text}");
        assert!(text.contains(&cookie) && !text.contains("size-test"), "{text}");
        assert_eq!(long.parts[0].1, long.bytes - small.bytes + small.parts[0].1);
    }

    #[test]
    fn a_request_of_more_than_16_kib_takes_a_second_tls_record() {
        let long = OrderTemplate::post_json("/", vec![Part::Text("x".repeat(20_000).into())]);
        let size = |is_tls| OrderRequestSize::of(&long, "example.com", is_tls).unwrap().bytes;
        assert_eq!(size(true), size(false) + 2 * TLS_BYTES);
    }
}
