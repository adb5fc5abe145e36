//! Parts of a simulated market that the server of any market uses: the state machine and the server
//! side of a feed's protocol. Pure: times are relative to the opening of the market.

use std::{borrow::Cow, fmt::Debug, sync::Arc, time::Duration};

use super::{catalogue::ListedItem, faults::FaultKind, history::MarketHistory, random::Rng};
use crate::domain::{money::Amount, time::UnixMs};

/// State machine of a simulated market.
pub trait MarketModel: Send + 'static {
    /// An event of the feed.
    type Event: Clone + Debug + Send + Sync + 'static;
    /// Id of a listing.
    type Id;

    /// Returns the time of the market's clock.
    fn clock(&self, now: Duration) -> UnixMs;

    /// Returns the time of the next arrival or scheduled change.
    fn next_due(&mut self) -> Option<Duration>;

    /// Applies the arrivals and changes that are due, at most a fixed number.
    fn advance(&mut self, now: Duration, events: &mut Vec<Self::Event>);

    fn history(&self) -> &MarketHistory;

    /// Lists items in addition to the generated ones. Returns their ids.
    fn list_items(
        &mut self,
        now: Duration,
        items: Vec<ListedItem>,
        events: &mut Vec<Self::Event>,
    ) -> Vec<Self::Id>;

    /// Changes the balance without a purchase, for tests of the bot's reconciliation.
    fn adjust_balance(&mut self, now: Duration, change: Amount, events: &mut Vec<Self::Event>);

    /// Records the response to the last order for a listing over a connection.
    fn record_response(&mut self, id: &str, connection: u64, at: Duration);

    /// Returns the false event of a fault, without changing the market. Returns `None` if the fault
    /// has none, or if no listing or purchase is suitable.
    fn false_event(&self, kind: FaultKind, now: Duration, rng: &mut Rng) -> Option<Self::Event>;
}

/// A message to the client of a feed, or the end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedOutput {
    Text(String),
    /// Close with this code and reason.
    Close(u16, Cow<'static, str>),
}

impl FeedOutput {
    pub fn close(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Close(code, reason.into())
    }

    /// Returns the text of a message.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Close(..) => None,
        }
    }
}

/// Server side of a feed's protocol on one connection.
pub trait FeedSession: Send {
    type Event;
    /// Close code and reason for a binary message.
    const BINARY: (u16, &'static str);
    /// Close code and reason for a client that reads too slowly.
    const TOO_SLOW: (u16, &'static str);

    /// Handles a text message of the client.
    fn receive(&mut self, text: &str, now: Duration) -> Vec<FeedOutput>;

    /// Returns the messages for these events.
    fn send_events(&mut self, events: &[Arc<Self::Event>]) -> Vec<FeedOutput>;

    /// Returns the messages of a fault that is not an event.
    fn fail(&mut self, kind: FaultKind) -> Vec<FeedOutput>;

    /// Starts or ends [`FaultKind::FeedSilence`], during which no events are sent.
    fn set_silent(&mut self, _is_silent: bool) {}

    /// Returns the time of the next ping or timeout.
    fn next_due(&self) -> Option<Duration>;

    /// Returns the messages that are due: pings and closes.
    fn advance(&mut self, now: Duration) -> Vec<FeedOutput>;

    fn is_subscribed(&self) -> bool;
}
