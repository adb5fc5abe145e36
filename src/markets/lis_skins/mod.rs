//! Protocol of LIS-SKINS, the only module that depends on that market. Pure.
//!
//! [`feed`] parses events and [`listing`] the listings in them, [`phase`] names the phases of
//! Dopplers, [`order_response`] classifies the responses to orders, and [`account`] reads the
//! balance, own purchases and open listings.
//!
//! All wire formats come from the market's documentation and from public clients of 2025–2026, and
//! were never tested against the live market. So parsing is tolerant: unknown fields are ignored, a
//! missing required field makes the listing unbuyable, and no value is guessed.

pub mod account;
mod api;
pub mod feed;
pub mod listing;
pub mod order_response;
mod phase;

use super::{
    DecodeInput, Decoded, DialPlan, MarketApi as _, MarketEvent, MarketSubscription, Marketplace,
    PrepareError, Scan, json_object::JsonObject,
};
use crate::{
    config::{Config, Credential, Endpoints, TradeUrl},
    domain::{
        money::Decimals,
        trade::{Trade, TradeId, TradeStatus},
        wanted_items::WantedItems,
        whitelist_entry::WhitelistEntry,
    },
    json::JsonError,
    net::http_message::{HttpRequest, HttpResponse, JSON, RequestParts},
    protocol::{Centrifugo, Subscription},
    secret::{self, Secret},
};

/// Number of decimals of amounts in dollars.
pub const DECIMALS: Decimals = Decimals::Two;

/// Channel of all listings of all games.
const LISTINGS_CHANNEL: &str = "public:obtained-skins";
/// Channel of the account's purchases, without its id.
const PURCHASES_CHANNEL: &str = "private:purchase-skins#";

/// Name of this client towards the feed.
const CLIENT_NAME: &str = "sniper";

/// Maximum length of a token for the feed, in bytes.
const TOKEN_BYTES_MAX: usize = 8_192;

/// LIS-SKINS with its settings.
#[derive(Clone, Debug)]
pub struct LisSkins {
    endpoints: Endpoints,
    /// Recipient of the items; `None` only in a dry run.
    trade_url: Option<TradeUrl>,
    account_id: Option<String>,
}

impl LisSkins {
    pub fn new(config: &Config) -> Self {
        Self {
            endpoints: config.endpoints.clone(),
            trade_url: config.trade_url.clone(),
            account_id: config.account_id.clone(),
        }
    }

    /// Returns the path of an endpoint. The configured address ends with the version of the API.
    fn path(&self, endpoint: &str) -> String {
        let base = self.endpoints.http.path().trim_end_matches('/');
        format!("{base}{endpoint}")
    }

    fn get(&self, endpoint: &str) -> HttpRequest {
        self.with_headers(HttpRequest::get(self.path(endpoint)))
    }

    /// Returns a search of open listings. Locked ones are not bought.
    fn search(&self, sort_by: &str) -> HttpRequest {
        self.get("/market/search")
            .with_query("game", "csgo")
            .with_query("sort_by", sort_by)
            .with_query("only_unlocked", "1")
            .with_query("per_page", api::LISTINGS_PER_PAGE)
    }

    fn with_headers<R: RequestParts>(&self, mut request: R) -> R {
        request.push_header("User-Agent", &self.endpoints.user_agent);
        request.push_header("Accept", JSON);
        request
    }
}

impl Marketplace for LisSkins {
    type Protocol = Centrifugo;
    type Events<'a> = Option<MarketEvent<'a>>;

    fn token_request(&self, credential: Option<&Credential>) -> Option<HttpRequest> {
        // Without a key there is no token, see `dial`.
        credential?;
        Some(Self::authenticated(credential, self.get("/user/get-ws-token")))
    }

    fn dial(
        &self,
        credential: Option<&Credential>,
        token: Option<&HttpResponse>,
    ) -> Result<DialPlan<Centrifugo>, PrepareError> {
        if credential.is_none() {
            let setting = Self::CAPABILITIES.environment.credential;
            return Err(PrepareError::Setting { what: "the feed needs an API key", setting });
        }
        let token = token.ok_or(PrepareError::Token { what: "there is none" })?;
        let protocol = Centrifugo::new(CLIENT_NAME, read_token(token)?);
        let upgrade = HttpRequest::get(self.endpoints.ws.path())
            .with_header("User-Agent", &self.endpoints.user_agent);
        Ok(DialPlan { upgrade, protocol })
    }

    fn subscriptions(&self, _wanted: Option<&[WhitelistEntry]>) -> Vec<MarketSubscription> {
        let subscription = |name, topic, is_private| {
            let subscription = Subscription { topic, is_optional: is_private };
            MarketSubscription { name, subscription, is_private }
        };
        let purchases = self
            .account_id
            .as_ref()
            .map(|id| subscription("own purchases", format!("{PURCHASES_CHANNEL}{id}"), true));
        let listings = subscription("listings", LISTINGS_CHANNEL.to_owned(), false);
        [listings].into_iter().chain(purchases).collect()
    }

    #[inline]
    fn decode<'a>(
        &self,
        input: &mut DecodeInput<'a, Self>,
    ) -> Result<Decoded<Option<MarketEvent<'a>>>, JsonError> {
        feed::read(input)
    }

    #[inline]
    fn scan<'a>(
        &self,
        payload: &'a [u8],
        wanted: &WantedItems,
        _sink: &mut impl FnMut(Trade<'a>),
    ) -> Scan {
        feed::scan(payload, wanted)
    }

    #[inline]
    fn removal(&self, message: &[u8], id: &TradeId) -> Option<TradeStatus> {
        feed::removal(message, id)
    }
}

/// Reads the token of a connection, and registers it for masking.
fn read_token(response: &HttpResponse) -> Result<Secret, PrepareError> {
    let unreadable = |what| PrepareError::Token { what };
    let text = response.text().map_err(|_not_text| unreadable("it is not text"))?;
    let object = JsonObject::parse(text).map_err(|_not_json| unreadable("it is not JSON"))?;
    let data = object.get::<JsonObject<'_>>("data");
    let token = data.and_then(|data| data.get::<String>("token"));
    let token = token.ok_or(unreadable("it has no `data.token`"))?;
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(is_allowed) {
        return Err(unreadable("its token is empty, too long or not plain text"));
    }
    secret::register_token(&token);
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests;
