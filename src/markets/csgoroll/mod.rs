//! Protocol of CSGORoll, the only module that depends on that market. Pure.
//!
//! [`operations`] creates the requests. [`feed`] parses subscription events, [`order_response`] the
//! responses to orders, and [`account`] the user, the balance, own purchases and open listings.
//!
//! All wire formats come from recordings and public clients of 2023–2026 and were never tested
//! against the live market. So parsing is tolerant: unknown fields are ignored, a missing required
//! field makes the listing unbuyable, and no value is guessed.

pub mod account;
pub mod order_response;
mod api;
pub mod feed;
pub mod listing;
pub mod operations;
pub mod scan;

use self::{feed::NextPayload, operations::SubscriptionFilters};
use super::{
    DecodeInput, Decoded, DialPlan, MarketApi as _, MarketSubscription, Marketplace, PrepareError,
    Scan,
};
use crate::{
    config::{Config, Credential, Endpoints, Generation},
    domain::{
        money::Decimals,
        trade::{Trade, TradeId, TradeStatus},
        wanted_items::WantedItems,
        whitelist_entry::WhitelistEntry,
    },
    json::{Cursor, FromCursor as _, JsonError, ValueKind},
    net::http_message::{HttpRequest, HttpResponse},
    protocol::{GraphqlTransportWs, Subscription},
};

/// CSGORoll with its settings.
#[derive(Clone, Debug)]
pub struct Csgoroll {
    endpoints: Endpoints,
    generation: Generation,
}

impl Csgoroll {
    pub fn new(config: &Config) -> Self {
        Self::at(&config.endpoints, config.feed.generation)
    }

    pub fn at(endpoints: &Endpoints, generation: Generation) -> Self {
        Self { endpoints: endpoints.clone(), generation }
    }
}

/// Number of decimals of coins, as measured on 559 recorded listings.
pub const DECIMALS: Decimals = Decimals::Two;

impl Marketplace for Csgoroll {
    type Protocol = GraphqlTransportWs;
    type Events<'a> = NextPayload<'a>;

    fn dial(
        &self,
        credential: Option<&Credential>,
        _token: Option<&HttpResponse>,
    ) -> Result<DialPlan<GraphqlTransportWs>, PrepareError> {
        let Endpoints { ws, origin, user_agent, .. } = &self.endpoints;
        let upgrade = HttpRequest::get(ws.path())
            .with_header("Origin", origin)
            .with_header("User-Agent", user_agent);
        let upgrade = Self::authenticated(credential, upgrade);
        Ok(DialPlan { upgrade, protocol: GraphqlTransportWs })
    }

    fn subscriptions(&self, wanted: Option<&[WhitelistEntry]>) -> Vec<MarketSubscription> {
        let mut operations = operations::subscriptions(self.generation);
        let filters = wanted.and_then(SubscriptionFilters::of);
        if let (Generation::B, Some(listings), Some(filters)) =
            (self.generation, operations.first_mut(), filters)
        {
            *listings = operations::filtered_listings(filters);
        }
        let names = ["listings", "listing updates", "balance updates"];
        let subscription = |(operation, name): (operations::GraphqlOperation, _)| {
            let (topic, is_optional) = (operation.to_json(), !operation.is_essential);
            let subscription = Subscription { topic, is_optional };
            MarketSubscription { name, subscription, is_private: operation.is_private }
        };
        operations.into_iter().zip(names).map(subscription).collect()
    }

    #[inline]
    fn decode<'a>(
        &self,
        input: &mut DecodeInput<'a, Self>,
    ) -> Result<Decoded<NextPayload<'a>>, JsonError> {
        let mut events = NextPayload::from_cursor(input)?;
        if self.generation == Generation::B {
            events.require_can_join();
        }
        let is_data = events.is_known();
        Ok(Decoded { events, is_data })
    }

    #[inline]
    fn scan<'a>(
        &self,
        payload: &'a [u8],
        wanted: &WantedItems,
        sink: &mut impl FnMut(Trade<'a>),
    ) -> Scan {
        scan::scan(payload, wanted, sink)
    }

    #[inline]
    fn removal(&self, message: &[u8], id: &TradeId) -> Option<TradeStatus> {
        scan::removal(message, id)
    }
}

/// Iterates over the entries of an object. Skips any other value and returns `false`.
fn object<'a>(
    cursor: &mut Cursor<'a>,
    mut on_entry: impl FnMut(&str, &mut Cursor<'a>) -> Result<(), JsonError>,
) -> Result<bool, JsonError> {
    if cursor.peek()? != ValueKind::Object {
        cursor.skip()?;
        return Ok(false);
    }
    cursor.object(|key, cursor| match key.plain() {
        Some(key) => on_entry(key, cursor),
        None => on_entry(&key.decode(), cursor),
    })?;
    Ok(true)
}
