//! Matches responses to orders, and decides whether their connection can be reused.
//!
//! Pure. An HTTP/1.1 response does not identify its request; only its position does. One surplus
//! response shifts every later one to the wrong request. A rejection, which releases coins, is
//! therefore final only if it names its order or if the connection is shown to be in sync
//! afterwards: the keep-warm request is written next, and its response, which no order can cause,
//! arrives next.

use super::{pool::InFlightRequest, response::ResponseError};
use crate::{
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::own_order_id::OwnOrderId,
    markets::order_template::OrderFields,
    markets::{Attribution, MarketApi},
    net::http_message::HttpResponse,
};

/// Conclusion from the first response after an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// This connection yields no further evidence about the order.
    Final {
        outcome: Outcome,
        /// `true` if the connection is in sync and may carry the next order.
        in_sync: bool,
    },
    /// A rejection that does not name the order: the next response on the connection decides.
    Confirm(RejectReason),
}

/// Evaluates the first response after the order was written.
pub(super) fn classify_response(
    market: &impl MarketApi,
    order: &OrderFields,
    response: &HttpResponse,
) -> Conclusion {
    match market.order_outcome(order, response) {
        (Outcome::Rejected(reason), Attribution::Unnamed) => Conclusion::Confirm(reason),
        (Outcome::Rejected(reason), Attribution::Blocked) => {
            Conclusion::Final { outcome: unconfirmed(reason), in_sync: false }
        }
        (outcome, attribution) => {
            Conclusion::Final { outcome, in_sync: attribution == Attribution::Named }
        }
    }
}

/// Evaluates the response after the rejection of the order. `is_next` is `true` if nothing arrived
/// before the confirming request was written, nor after this response.
pub(super) fn classify_confirmation(
    market: &impl MarketApi,
    order: &OrderFields,
    reason: RejectReason,
    response: &HttpResponse,
    is_next: bool,
) -> Outcome {
    if is_next && market.is_keep_warm_response(response) {
        return Outcome::Rejected(reason);
    }
    match market.order_outcome(order, response) {
        // The rejection belonged to another request, and this response names the order.
        (named, Attribution::Named) => named,
        // The confirming request may have been blocked itself; the ledger must react to that.
        (Outcome::Rejected(reason), Attribution::Blocked) => unconfirmed(reason),
        (Outcome::Unknown(unknown @ (Unknown::Status { .. } | Unknown::Unreadable)), _) => {
            Outcome::Unknown(unknown)
        }
        _ => Outcome::Unknown(Unknown::Foreign),
    }
}

/// Returns `true` for the 408 response with which servers close an idle connection.
pub(super) fn is_idle_timeout(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 408") || bytes.starts_with(b"HTTP/1.0 408")
}

/// Returns the rejected order that unrequested data names by its own id, or else the newest one
/// whose listing it names. Unless it is a rejection, such data is the late confirmation of a
/// purchase whose rejection belonged to another request.
pub(super) fn find_late_response<'a>(
    rejected: impl IntoIterator<Item = &'a InFlightRequest, IntoIter: DoubleEndedIterator + Clone>,
    bytes: &[u8],
) -> Option<&'a InFlightRequest> {
    let mut rejected = rejected.into_iter().rev();
    let by_own_id = rejected.clone().find(|InFlightRequest { order, .. }| {
        let own_id = order.own_id.as_ref().map(OwnOrderId::as_bytes);
        own_id.is_some_and(|own_id| memchr::memmem::find(bytes, own_id).is_some())
    });
    by_own_id.or_else(|| {
        rejected.find(|request| contains_value(bytes, request.order.id.as_str().as_bytes()))
    })
}

/// Returns `true` if the data contains this id as a JSON string or number.
fn contains_value(bytes: &[u8], id: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, id).any(|at| {
        let before = bytes.get(..at).and_then(<[u8]>::last);
        let after = at.checked_add(id.len()).and_then(|end| bytes.get(end));
        let is_quoted = (before, after) == (Some(&b'"'), Some(&b'"'));
        let is_delimiter = |byte: Option<&u8>| {
            matches!(byte, Some(b':' | b',' | b'[' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n'))
        };
        let is_number = id.iter().all(u8::is_ascii_digit);
        is_quoted || is_number && is_delimiter(before) && is_delimiter(after)
    })
}

/// Returns the outcome of an order whose connection ended with this error before its response, or
/// after a rejection for this reason to which nothing was added.
pub(super) fn classify_failure(reason: Option<RejectReason>, error: ResponseError) -> Outcome {
    use ResponseError::{Cut, Stopped, Timeout};
    match (reason, error) {
        // Nothing contradicts the rejection, but it was not confirmed.
        (Some(reason), Stopped | Cut | Timeout) => unconfirmed(reason),
        (_, error) => Outcome::Unknown(error.into()),
    }
}

/// Returns the outcome of an order whose rejection may belong to another request.
pub(super) const fn unconfirmed(reason: RejectReason) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(reason))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Endpoints, Generation},
        domain::account::{OwnPurchase, Page, User},
        domain::money::{Amount, Decimals},
        domain::own_order_id::StartId,
        domain::trade::{KeyedBy, Trade, TradeId},
        execution::response::SentRequest,
        markets::order_template::OrderTemplate,
        markets::{
            AccountQuery, AccountQueryError, Capabilities, EnvironmentNames, OwnOrderIdSupport,
            ReadError, ReadRate, csgoroll::Csgoroll,
        },
        net::{
            http_head::ResponseHead,
            http_message::{Auth, HttpRequest},
        },
    };

    const ACCOUNT: &str = r#"{"data":{"currentUser":{"id":"u"}}}"#;
    const TAKEN: &str = r#"{"data":null,"errors":[{"message":"no longer available"}]}"#;
    const CAPTCHA: &str = r#"{"data":null,"errors":[{"message":"captcha"}]}"#;
    const OURS: &str = r#"{"data":{"joinTrades":{"trades":[{"id":"ours"}]}}}"#;
    const OTHER: &str = r#"{"data":{"joinTrades":{"trades":[{"id":"other"}]}}}"#;

    fn ours() -> OrderFields {
        let id = TradeId::new("ours").unwrap();
        OrderFields { id, price_limit: Amount::ZERO, own_id: None }
    }

    fn market() -> Csgoroll {
        let endpoints = Endpoints::new("ws://127.0.0.1:1/", "http://127.0.0.1:1/").unwrap();
        Csgoroll::at(&endpoints, Generation::B)
    }

    fn response(status: u16, body: &str) -> HttpResponse {
        let head = ResponseHead::parse(status, std::iter::empty());
        HttpResponse { head, body: body.as_bytes().to_vec() }
    }

    fn any_response() -> impl Strategy<Value = HttpResponse> {
        let status = prop::sample::select(vec![200, 200, 200, 400, 401, 403, 408, 429, 502]);
        let body = prop::sample::select(vec![ACCOUNT, TAKEN, CAPTCHA, OURS, OTHER, "", "{}", "<"]);
        (status, body).prop_map(|(status, body)| response(status, body))
    }

    proptest! {
        /// A first response can belong to an earlier request, so it must not release coins.
        #[test]
        fn no_first_response_releases_the_coins_of_an_order(first in any_response()) {
            let conclusion = classify_response(&market(), &ours(), &first);
            let is_released = matches!(&conclusion, Conclusion::Final { outcome: Outcome::Rejected(_), .. });
            prop_assert!(!is_released, "{conclusion:?}");
            let is_named = first == response(200, OURS);
            let in_sync = matches!(conclusion, Conclusion::Final { in_sync: true, .. });
            prop_assert_eq!(in_sync, is_named, "only a response that names its order is in sync");
        }

        #[test]
        fn only_the_keep_warm_response_releases_coins(
            next in any_response(),
            is_next in any::<bool>(),
        ) {
            let outcome = classify_confirmation(&market(), &ours(), RejectReason::Taken, &next, is_next);
            let is_account = is_next && next == response(200, ACCOUNT);
            prop_assert_eq!(outcome == Outcome::Rejected(RejectReason::Taken), is_account);
            prop_assert_eq!(matches!(outcome, Outcome::Rejected(_)), is_account);
        }
    }

    /// A market that rejects with status 200 and repeats the own id of the order.
    #[derive(Clone, Debug)]
    struct Echoing;

    impl MarketApi for Echoing {
        const CAPABILITIES: Capabilities = Capabilities {
            name: "echoing",
            decimals: Decimals::Two,
            has_markup: false,
            has_float: false,
            has_rarity: false,
            keyed_by: KeyedBy::Id,
            own_order_ids: Some(OwnOrderIdSupport {
                visible_within: Duration::from_secs(60),
                look_ups_min: 1,
                look_ups_per_request: 1,
            }),
            has_price_limit: false,
            has_purchases: false,
            has_open_listings: false,
            auth: Auth::ApiKeyQuery { name: "api" },
            environment: EnvironmentNames::UNKNOWN,
            reads: ReadRate::UNDOCUMENTED,
            listings_lag: None,
            order_timeout: Duration::from_secs(10),
        };

        fn order_template(&self) -> OrderTemplate {
            OrderTemplate::get(Vec::new())
        }

        fn order_outcome(
            &self,
            order: &OrderFields,
            response: &HttpResponse,
        ) -> (Outcome, Attribution) {
            let text = response.text().unwrap_or_default();
            let own_id = order.own_id.map(|own_id| own_id.to_string());
            let is_named = own_id.is_some_and(|own_id| text.contains(&own_id));
            let outcome = match (response.head.status, text.contains(r#""success":false"#)) {
                (200, true) => Outcome::Rejected(RejectReason::Taken),
                _ => Outcome::Unknown(Unknown::Unreadable),
            };
            let attribution = if is_named { Attribution::Named } else { Attribution::Unnamed };
            (outcome, attribution)
        }

        fn error_message(&self, _response: &HttpResponse) -> Option<String> {
            None
        }

        fn account_request(
            &self,
            _query: &AccountQuery<'_>,
        ) -> Result<HttpRequest, AccountQueryError> {
            Err(AccountQueryError::Unsupported)
        }

        fn read_user(&self, _response: &HttpResponse) -> Result<User, ReadError> {
            Err(ReadError::Shape)
        }

        fn read_purchases(&self, _response: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError> {
            Err(ReadError::Shape)
        }

        fn read_listings<'a>(
            &self,
            _response: &'a HttpResponse,
        ) -> Result<Page<Trade<'a>>, ReadError> {
            Err(ReadError::Shape)
        }

        fn keep_warm_request(&self) -> HttpRequest {
            HttpRequest::get("/user")
        }

        fn is_keep_warm_response(&self, _response: &HttpResponse) -> bool {
            false
        }
    }

    #[test]
    fn a_rejection_that_names_its_order_by_the_own_id_is_final() {
        let own_id = StartId::from_bits([1; 16]).order_id(7);
        let order = OrderFields { own_id: Some(own_id), ..ours() };
        let conclusion = |body: &str| classify_response(&Echoing, &order, &response(200, body));
        let rejected = RejectReason::Taken;
        let named = format!(r#"{{"success":false,"project_id":"{own_id}"}}"#);
        let outcome = Outcome::Rejected(rejected);
        assert_eq!(conclusion(&named), Conclusion::Final { outcome, in_sync: true });
        let other = StartId::from_bits([1; 16]).order_id(8);
        for unnamed in [
            r#"{"success":false}"#.to_owned(),
            format!(r#"{{"success":false,"project_id":"{other}"}}"#),
        ] {
            assert_eq!(conclusion(&unnamed), Conclusion::Confirm(rejected));
        }
    }

    #[test]
    fn a_late_response_names_an_order_by_any_id() {
        let (id, now) = (TradeId::new("900000123").unwrap(), Instant::now());
        let own_id = StartId::from_bits([1; 16]).order_id(7);
        let order = OrderFields { id, price_limit: Amount::ZERO, own_id: Some(own_id) };
        let sent = SentRequest { ready: now, begun: now, written: now };
        let rejected = InFlightRequest { key: KeyedBy::Id.key(id, None), order, sent };
        let is_named = |text: &str| find_late_response([&rejected], text.as_bytes()).is_some();
        assert!(is_named(r#"{"id":"900000123"}"#) && is_named(r#"{"id":900000123}"#));
        assert!(is_named(&format!("own={own_id}&x")));
        for other in [r#"{"id":9000001234}"#, r#"{"id":"x900000123"}"#, "1900000123", ""] {
            assert!(!is_named(other), "{other}");
        }
        let letters = OrderFields { id: TradeId::new("ours").unwrap(), own_id: None, ..order };
        let rejected = InFlightRequest { order: letters, ..rejected };
        assert!(find_late_response([&rejected], b"[ours]").is_none());
        assert!(find_late_response([&rejected], b"[\"ours\"]").is_some());
    }

    #[test]
    fn a_408_response_on_an_idle_connection_is_an_idle_timeout() {
        assert!(is_idle_timeout(b"HTTP/1.1 408 Request Timeout\r\n"));
        assert!(!is_idle_timeout(b"HTTP/1.1 200 OK\r\n"));
        assert!(!is_idle_timeout(b"HTTP/1.1 40"));
    }
}
