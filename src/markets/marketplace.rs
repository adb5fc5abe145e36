//! The trait of a marketplace: everything that the rest of the program needs to know about one.
//!
//! An implementation makes no connection and reads no clock. It builds requests and reads messages
//! and responses, which `ws`, `account` and `execution` send and receive within the rate limits.

use std::{borrow::Cow, fmt};

use crate::{
    config::Credential,
    domain::{
        money::Amount,
        trade::{Trade, TradeNotice},
        whitelist_entry::WhitelistEntry,
    },
    net::http_message::{HttpRequest, HttpResponse},
    protocol::{FeedProtocol, Subscription},
};

/// Properties of a marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Name in commands and recordings, in lower case.
    pub name: &'static str,
    /// `true` if listings have a markup over a base price.
    pub has_markup: bool,
    /// `true` if listings have a float.
    pub has_float: bool,
    /// `true` if the price of a listing may change under the same id.
    pub reprices: bool,
    pub environment: EnvironmentNames,
}

/// Names of the environment variables of a marketplace, for advice to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvironmentNames {
    /// Address of the feed.
    pub feed: &'static str,
    /// Address for account reads and orders.
    pub http: &'static str,
    pub credential: &'static str,
}

impl Capabilities {
    /// Returns the settings of whitelist entries that the marketplace cannot honor, each with the
    /// label of its entry.
    pub fn unsupported<'e>(&self, entries: &'e [WhitelistEntry]) -> Vec<(&'e str, &'static str)> {
        let unsupported = |entry: &'e WhitelistEntry| {
            let has_float = entry.float_min.is_some() || entry.float_max.is_some();
            let markup = entry.max_markup.is_some() && !self.has_markup;
            let float = has_float && !self.has_float;
            let settings = [(markup, "max_markup_percent"), (float, "float_min and float_max")];
            let settings = settings.into_iter().filter(|(is_unsupported, _)| *is_unsupported);
            settings.map(|(_, setting)| (entry.label(), setting))
        };
        entries.iter().flat_map(unsupported).collect()
    }
}

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

/// A marketplace. A value is built from the configuration and is cheap to clone.
pub trait Marketplace: Clone + fmt::Debug + Send + Sync + 'static {
    const CAPABILITIES: Capabilities;

    /// Protocol of the feed. Its default value reads the messages of a recording.
    type Protocol: FeedProtocol + Default;

    /// Events of one payload.
    type Events<'a>: IntoIterator<Item = MarketEvent<'a>>;

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{money::Percent, trade::PaintWear},
        whitelist::tests::entry,
    };

    #[test]
    fn a_bound_on_a_value_that_the_market_does_not_state_is_unsupported() {
        let capabilities = |has_markup, has_float| Capabilities {
            name: "other",
            has_markup,
            has_float,
            reprices: true,
            environment: EnvironmentNames { feed: "A", http: "B", credential: "C" },
        };
        let markup = WhitelistEntry { max_markup: Some(Percent::default()), ..entry() };
        let float = WhitelistEntry {
            max_markup: None,
            float_min: PaintWear::parse("0.1"),
            name: Some("b".to_owned()),
            ..entry()
        };
        let entries = [WhitelistEntry { name: Some("a".to_owned()), ..markup }, float];
        assert_eq!(capabilities(true, true).unsupported(&entries), []);
        let unsupported = capabilities(false, false).unsupported(&entries);
        assert_eq!(unsupported, [("a", "max_markup_percent"), ("b", "float_min and float_max")]);
    }
}
