//! Protocol of Waxpeer, the only module that depends on that market. Pure.
//!
//! [`feed`] parses events, [`listing`] the listing in one of them, and [`scan`] finds the wanted
//! ones early. [`order_response`] classifies the responses to orders, and [`account`] parses the
//! user and the look-up of an order. [`api`] creates the requests.
//!
//! All prices and balances are integers of thousandths of a US dollar. The wire formats come from
//! the official documentation, recordings and public clients of 2023–2026 and were never tested
//! against the live market. So parsing is tolerant: unknown fields are ignored, a missing required
//! field makes the listing unbuyable, and no value is guessed.

pub mod account;
pub mod api;
pub mod feed;
pub mod listing;
pub mod order_response;
pub mod scan;

use self::feed::FeedEvents;
use super::{DecodeInput, Decoded, DialPlan, MarketSubscription, Marketplace, PrepareError, Scan};
use crate::{
    config::{Config, Credential, Endpoints, TradeUrl},
    domain::{
        money::Amount,
        trade::{Trade, TradeId, TradeStatus},
        wanted_items::WantedItems,
        whitelist_entry::WhitelistEntry,
    },
    json::JsonError,
    net::http_message::{Auth, HttpRequest, HttpResponse},
    protocol::{SocketIo, Subscription},
};

/// Event that subscribes to the listings of one game.
const SUBSCRIBE: &str = r#"["sub",{"name":"csgo"}]"#;

/// Header of the feed's upgrade request that contains the key.
const FEED_AUTH: Auth = Auth::ApiKeyHeader { name: "Authorization" };

/// Maximum number of digits of an item id, which is a 64-bit number.
const ITEM_ID_DIGITS_MAX: usize = 20;

/// Waxpeer with its settings.
#[derive(Clone, Debug)]
pub struct Waxpeer {
    endpoints: Endpoints,
    /// Recipient of the items. Without one, no order is valid.
    trade_url: Option<TradeUrl>,
    has_key: bool,
}

impl Waxpeer {
    pub fn new(config: &Config) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            trade_url: config.trade_url.clone(),
            has_key: config.credential.is_some(),
        }
    }
}

impl Marketplace for Waxpeer {
    type Protocol = SocketIo;
    type Events<'a> = FeedEvents<'a>;

    const COUNTS_UNNAMED: bool = true;

    /// Plans a connection. Without a key the feed delivers the listings only.
    fn dial(
        &self,
        credential: Option<&Credential>,
        _token: Option<&HttpResponse>,
    ) -> Result<DialPlan<SocketIo>, PrepareError> {
        let Endpoints { ws, user_agent, .. } = &self.endpoints;
        let upgrade = HttpRequest::get(ws.path()).with_header("User-Agent", user_agent);
        let upgrade = match credential {
            Some(credential) => FEED_AUTH.apply(credential, upgrade),
            None => upgrade,
        };
        Ok(DialPlan { upgrade, protocol: SocketIo::default() })
    }

    fn subscriptions(&self, _wanted: Option<&[WhitelistEntry]>) -> Vec<MarketSubscription> {
        let subscription = Subscription { topic: SUBSCRIBE.to_owned(), is_optional: false };
        vec![MarketSubscription { name: "listings", subscription, is_private: false }]
    }

    #[inline]
    fn decode<'a>(
        &self,
        input: &mut DecodeInput<'a, Self>,
    ) -> Result<Decoded<FeedEvents<'a>>, JsonError> {
        feed::read(input, self.has_key)
    }

    #[inline]
    fn scan<'a>(
        &self,
        payload: &'a [u8],
        wanted: &WantedItems,
        _sink: &mut impl FnMut(Trade<'a>),
    ) -> Scan {
        scan::scan(payload, wanted)
    }

    #[inline]
    fn removal(&self, message: &[u8], id: &TradeId) -> Option<TradeStatus> {
        scan::removal(message, id)
    }
}

/// Parses a price or limit: an integer of thousandths above zero.
#[inline]
fn price(text: &str) -> Option<Amount> {
    thousandths(text).filter(|price| Amount::ZERO < *price)
}

/// Parses an amount: the digits of an integer of thousandths.
#[inline]
fn thousandths(text: &str) -> Option<Amount> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount = Amount::from_thousandths(text.parse().ok()?);
    (amount <= Amount::MAX).then_some(amount)
}

/// Parses a balance and rounds it down to thousandths.
fn balance(text: &str) -> Option<Amount> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    thousandths(whole).filter(|_amount| is_fraction)
}

/// Creates the id of a listing from the digits of its item. Leading zeros would be another spelling
/// of the same id.
#[inline]
fn item_id(text: &str) -> Option<TradeId> {
    let text = text.trim_start_matches('0');
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (is_digits && text.len() <= ITEM_ID_DIGITS_MAX).then(|| TradeId::new(text)).flatten()
}

/// Returns what a status of a purchase means. `is_protected`: the item is accepted, and Steam may
/// still roll the trade back.
const fn purchase_status(status: u64, is_protected: bool) -> TradeStatus {
    match (status, is_protected) {
        // Created, and with the seller.
        (0 | 2, _) => TradeStatus::Joined,
        // The trade offer was sent; a release date appears once it is accepted.
        (4, false) => TradeStatus::Processing,
        (4 | 5, true) => TradeStatus::CompletedProtected,
        (5, false) => TradeStatus::Completed,
        // Failed; the money is returned.
        (6, _) => TradeStatus::Cancelled,
        _ => TradeStatus::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        markets::MarketApi as _,
        protocol::{FeedMessage, FeedProtocol as _, Incoming},
    };

    pub(super) fn market() -> Waxpeer {
        let address = "127.0.0.1:1";
        let feed = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let endpoints = Endpoints::new(&feed, &format!("http://{address}/v1")).unwrap();
        let url = "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";
        let trade_url = Some(TradeUrl::parse(url).unwrap());
        Waxpeer { endpoints, trade_url, has_key: true }
    }

    #[test]
    fn a_feed_without_a_key_has_no_authorization_and_keeps_the_query_of_its_address() {
        let head = |credential: Option<&Credential>| {
            let plan = market().dial(credential, None).unwrap();
            String::from_utf8(plan.upgrade.head_bytes("example.com").unwrap()).unwrap()
        };
        let line = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n";
        assert!(head(None).starts_with(line) && !head(None).contains("Authorization"));
        let key = Credential::from_key("hunter2-key").unwrap();
        let with_key = head(Some(&key));
        assert!(with_key.starts_with(line), "{with_key}");
        assert!(with_key.contains("\r\nAuthorization: hunter2-key\r\n"), "{with_key}");
    }

    #[test]
    fn one_event_subscribes_to_the_listings() {
        let subscriptions = market().subscriptions(None);
        let topics = subscriptions.iter().map(|one| one.subscription.topic.as_str());
        assert_eq!(topics.collect::<Vec<_>>(), [r#"["sub",{"name":"csgo"}]"#]);
        assert!(subscriptions.iter().all(|one| !one.is_private));
        assert!(Waxpeer::CAPABILITIES.own_order_ids.is_some());
    }

    /// An exchange as it was recorded, with other values.
    #[test]
    fn a_recorded_session_is_read_from_its_opening_to_its_events() {
        let mut protocol = market().dial(None, None).unwrap().protocol;
        protocol.open();
        let mut read = |text: &str| {
            let decode = |event: &mut _| {
                let Decoded { events, is_data } = market().decode(event)?;
                Ok((events.into_iter().count(), is_data))
            };
            match protocol.read(FeedMessage::Text(text), decode) {
                Ok(Incoming::Data { payload, .. }) => format!("{payload:?}"),
                Ok(other) => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
                Err(error) => error.to_string(),
            }
        };
        let name = "★ Karambit | Doppler Phase 3 (Factory New)";
        let listing = format!(
            r#"{{"item_id":"40000000123","name":"{name}","price":912340,"game":"csgo","auto":true,"float":0.0213,"paint_index":420,"phase":"Phase 3","sticker_names":null,"classid":null,"instance_id":null,"steam_price":1004500}}"#
        );
        let removed =
            format!(r#"{{"game":"csgo","item_id":"40000000123","name":"{name}","price":912340}}"#);
        for (text, expected) in [
            (
                r#"0{"sid":"Qx","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
                    .to_owned(),
                "Reply",
            ),
            (r#"40{"sid":"Lk"}"#.to_owned(), "Ack"),
            (r#"42["subscribed",{"name":"csgo"}]"#.to_owned(), "(0, false)"),
            (r#"42["handshake",{"id":"11d6f117-1ad2-47e1-aca1-bcasdf9e37fa"}]"#.to_owned(), "(0, false)"),
            (format!(r#"42["new",{listing}]"#), "(1, true)"),
            (format!(r#"42["update",{listing}]"#), "(1, true)"),
            (format!(r#"42["removed",{removed}]"#), "(1, true)"),
            (r#"42["change_user",{"wallet":53300}]"#.to_owned(), "(1, false)"),
            (r#"42["something_new",[1,2]]"#.to_owned(), "(1, false)"),
            ("2".to_owned(), "Ping"),
        ] {
            assert_eq!(read(&text), expected, "{text}");
        }
    }

    #[test]
    fn each_status_of_a_purchase_has_one_meaning() {
        for (status, is_protected, expected) in [
            (0, false, TradeStatus::Joined),
            (2, false, TradeStatus::Joined),
            (4, false, TradeStatus::Processing),
            (4, true, TradeStatus::CompletedProtected),
            (5, true, TradeStatus::CompletedProtected),
            (5, false, TradeStatus::Completed),
            (6, false, TradeStatus::Cancelled),
            (6, true, TradeStatus::Cancelled),
            (1, false, TradeStatus::Other),
            (3, true, TradeStatus::Other),
            (7, false, TradeStatus::Other),
            (u64::MAX, false, TradeStatus::Other),
        ] {
            assert_eq!(purchase_status(status, is_protected), expected, "{status}");
        }
    }

    #[test]
    fn an_amount_is_nothing_but_digits() {
        assert_eq!(price("912340"), Some(Amount::from_thousandths(912_340)));
        let most = Amount::MAX.thousandths();
        assert_eq!(price(&most.to_string()), Some(Amount::MAX));
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "1.0",
            "1e3",
            "0x1",
            " 1",
            &(most + 1).to_string(),
            &"9".repeat(30),
        ] {
            assert_eq!(price(text), None, "{text}");
        }
        assert_eq!(balance("53300.999"), Some(Amount::from_thousandths(53_300)));
        assert_eq!(balance("0"), Some(Amount::ZERO));
        for text in ["", ".5", "5.", "-1", "1.2.3", "null"] {
            assert_eq!(balance(text), None, "{text}");
        }
    }

    #[test]
    fn an_item_is_identified_by_its_digits() {
        assert_eq!(item_id("40000000123").unwrap().as_str(), "40000000123");
        for text in ["040000000123", "00040000000123"] {
            assert_eq!(item_id(text).unwrap().as_str(), "40000000123");
        }
        for text in
            ["", "0", "00", "x1", "1 ", "1&price=1", "-1", &"1".repeat(ITEM_ID_DIGITS_MAX + 1)]
        {
            assert_eq!(item_id(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn amounts_are_read_exactly_or_not_at_all(number in any::<u64>(), text in "\\PC{0,24}") {
            let read = thousandths(&number.to_string()).map(Amount::thousandths);
            let exact = i64::try_from(number).ok().filter(|exact| *exact <= Amount::MAX.thousandths());
            prop_assert_eq!(read, exact);
            if let Some(read) = thousandths(&text) {
                prop_assert_eq!(read.thousandths().to_string(), text.trim_start_matches('0').to_owned().max("0".to_owned()));
            }
        }
    }
}
