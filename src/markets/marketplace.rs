//! The trait of a marketplace: its feed. Its orders and accounts are in [`MarketApi`].
//!
//! An implementation makes no connection and reads no clock. It builds requests and reads messages
//! and responses, which `ws`, `account` and `execution` send and receive within the rate limits.

use std::borrow::Cow;

use super::MarketApi;
use crate::{
    config::Credential,
    domain::{
        money::Amount,
        trade::{Trade, TradeEvent, TradeId, TradeNotice, TradeStatus},
        wanted_items::WantedItems,
        whitelist_entry::WhitelistEntry,
    },
    net::http_message::{HttpRequest, HttpResponse},
    protocol::{FeedProtocol, Subscription},
};

/// Parameters of one connection to the feed.
#[derive(Clone, Debug)]
pub struct DialPlan<P> {
    /// The upgrade request with the headers of the marketplace, the credential included.
    pub upgrade: HttpRequest,
    /// The protocol at the start of the connection.
    pub protocol: P,
}

/// A subscription of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketSubscription {
    /// Name in log lines.
    pub name: &'static str,
    pub subscription: Subscription,
    /// `true` if it delivers data of the account, which requires a credential.
    pub is_private: bool,
}

/// Content of one event of a subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<E> {
    pub events: E,
    /// `true` if it is an event that the subscription exists for, even an empty one. Then the
    /// subscription works.
    pub is_data: bool,
}

/// Event of a feed.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a box would allocate for every listing")]
pub enum MarketEvent<'a> {
    /// A listing: new, re-priced or changed, see [`Trade::event`].
    Trade(Trade<'a>),
    /// An event about an id, without a listing.
    Notice(TradeNotice),
    /// The balance of the account, rounded down.
    Balance(Amount),
    /// Number of dropped listings, which have no usable id.
    Unreadable(u32),
    /// An event of an unknown type.
    Unknown,
    /// Error that the server reported beside its data, which does not end the subscription.
    ServerError(Cow<'a, str>),
}

/// Result of [`Marketplace::scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The message must be read in its turn.
    ReadNow,
    /// The message contains only events of listings. New listings of wanted items were passed to
    /// the sink, and there is no other event of a wanted item, so the message can be read after
    /// other messages that arrived with it.
    CanWait,
    /// The message is one event about a listing that no entry names, at any price. It is counted
    /// and need not be read.
    Unnamed(UnnamedEvent),
}

/// Event about a listing of an item that no entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnnamedEvent {
    Listing { id: TradeId, price: Amount, event: TradeEvent },
    Removed { id: TradeId },
}

/// A connection to the feed cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The response to the token request contains no token.
    #[error("the response to the token request is not readable: {what}")]
    Token { what: &'static str },
    /// A setting that the marketplace needs is missing or invalid.
    #[error("{what}; set {setting}")]
    Setting { what: &'static str, setting: &'static str },
}

/// Error of [`Marketplace::decode`].
pub type DecodeError<M> = <<M as Marketplace>::Protocol as FeedProtocol>::DecodeError;

/// Input of [`Marketplace::decode`].
pub type DecodeInput<'a, M> = <<M as Marketplace>::Protocol as FeedProtocol>::Input<'a>;

/// A marketplace: its feed, and the [`MarketApi`] of its orders and accounts.
pub trait Marketplace: MarketApi {
    /// Protocol of the feed.
    type Protocol: FeedProtocol + Default;

    /// Events of one payload.
    type Events<'a>: IntoIterator<Item = MarketEvent<'a>>;

    /// `true` if [`scan`](Self::scan) returns [`Scan::Unnamed`]. Messages that arrive alone are
    /// then scanned, too.
    const COUNTS_UNNAMED: bool = false;

    /// Returns the request for the token of the next connection; `None` if the feed needs none. It
    /// is sent before each dial.
    fn token_request(&self, _credential: Option<&Credential>) -> Option<HttpRequest> {
        None
    }

    /// Prepares one connection. `token` is the response to [`token_request`](Self::token_request),
    /// with status 200.
    ///
    /// # Errors
    ///
    /// Returns a [`PrepareError`] if the token is unreadable or a setting is missing.
    fn dial(
        &self,
        credential: Option<&Credential>,
        token: Option<&HttpResponse>,
    ) -> Result<DialPlan<Self::Protocol>, PrepareError>;

    /// Returns the subscriptions of a connection, that to the listings first. The server may omit
    /// listings that no entry of `wanted` matches; without it, it sends all.
    fn subscriptions(&self, wanted: Option<&[WhitelistEntry]>) -> Vec<MarketSubscription>;

    /// Decodes the payload of one event. Does not allocate for a single listing.
    ///
    /// # Errors
    ///
    /// Returns an error if the payload is malformed. Then nothing of it is delivered.
    fn decode<'a>(
        &self,
        input: &mut DecodeInput<'a, Self>,
    ) -> Result<Decoded<Self::Events<'a>>, DecodeError<Self>>;

    /// Searches a message for new listings of wanted items, without reading the others. `payload`
    /// is the rest of the message from the payload of its event on; the event is one of a live
    /// subscription.
    ///
    /// May return [`Scan::ReadNow`] for any message, and does so by default.
    fn scan<'a>(
        &self,
        _payload: &'a [u8],
        _wanted: &WantedItems,
        _sink: &mut impl FnMut(Trade<'a>),
    ) -> Scan {
        Scan::ReadNow
    }

    /// Returns the new status if a message says that a listing is not for sale any more.
    fn removal(&self, _message: &[u8], _id: &TradeId) -> Option<TradeStatus> {
        None
    }
}
