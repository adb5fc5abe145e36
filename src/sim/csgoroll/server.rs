//! The simulator on a real socket: its control by tests and commands, and its answers to HTTP
//! requests.

use std::{sync::Arc, time::Duration};

use tokio_tungstenite::tungstenite::{
    handshake::server::{Request, Response},
    http::{HeaderValue, header},
};

use super::{
    feed::GraphqlFeed,
    listing::Listing,
    market::{MarketEvent, MarketState, SaleRejection},
    operations::{self, GraphqlCall, GraphqlRequest, ParsedRequest, error_body},
};
use crate::{
    domain::time::UnixMs,
    sim::{
        catalogue::ListedItem,
        faults::{self, FaultChannel, FaultKind, SURCHARGE},
        history::OrderDecision,
        model::FeedOutput,
        random::{self, Rng, RngExt as _},
        server::{ClientConnection, RequestHead, ServerReply},
        settings::SimSettings,
        state::{FeedCommand, Sim, SimState, SimulatedMarket},
    },
};

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// A running simulator.
pub type SimServer = Sim<GraphqlMarket>;

/// Wire formats of the market, and the signed-in account.
#[derive(Debug)]
pub struct GraphqlMarket {
    /// Valid value of the `session` cookie.
    session: String,
}

impl SimServer {
    /// Returns the `session` cookie of the signed-in account. It is valid for this simulator only.
    pub fn session(&self) -> String {
        self.shared.with(|state, _, _| state.site.session.clone())
    }

    /// Returns the environment variables that connect a bot to this simulator.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("CSGOROLL_WS_URL", self.ws_url()),
            ("CSGOROLL_HTTP_URL", self.http_url()),
            ("CSGOROLL_SESSION", self.session()),
        ]
    }

    /// Cancels an open listing, as its seller may. Returns `false` if no such listing is open.
    pub fn delist(&self, id: &str) -> bool {
        self.shared.with(|state, now, events| state.market.delist(now, id, events))
    }

    /// Sends a text message to all feeds, unchanged.
    pub fn send_raw(&self, text: &str) {
        self.broadcast(&FeedCommand::SendRaw(Arc::from(text)));
    }

    /// Closes all feeds with a close frame.
    pub fn close_feeds(&self, code: u16, reason: &str) {
        self.broadcast(&FeedCommand::Close(code, Arc::from(reason)));
    }

    /// Replaces the valid session, which signs out clients with the previous one.
    pub fn replace_session(&self, session: &str) {
        self.shared.with(|state, _, _| session.clone_into(&mut state.site.session));
    }

    /// Makes a purchase without an order. Returns its id.
    pub fn inject_purchase(&self, item: ListedItem) -> Option<String> {
        self.shared.with(|state, now, events| state.market.inject_purchase(now, item, events))
    }
}

/// What the upgrade request of a feed shows.
#[derive(Clone, Copy)]
pub struct GraphqlUpgrade {
    is_signed_in: bool,
    /// `true` if the subprotocol was requested.
    has_subprotocol: bool,
}

impl SimulatedMarket for GraphqlMarket {
    const FAULTS: &'static [&'static [FaultKind]] = super::FAULTS;
    const FEED_PATH: &'static str = "/ws";
    const HTTP_PATH: &'static str = "/graphql";
    const NEW_FAULTS_STREAM: u64 = 7;

    type Model = MarketState;
    type Feed = GraphqlFeed;
    type Upgrade = GraphqlUpgrade;

    fn open(settings: &SimSettings, opened_at: UnixMs) -> (Self, MarketState) {
        let session = session(settings.seed);
        (Self { session }, MarketState::new(settings, opened_at))
    }

    fn answer(
        state: &mut SimState<Self>,
        (head, body): (&RequestHead, &[u8]),
        connection: ClientConnection,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) -> ServerReply {
        let path = head.path.split('?').next().unwrap_or_default();
        let (status, message, code) = match &*head.method {
            _ if path != Self::HTTP_PATH => (404, "the paths are /graphql and /ws", "NOT_FOUND"),
            "OPTIONS" => return ServerReply::json(204, String::new()),
            "POST" => {
                let cookie = head.cookie.as_deref();
                return answer(state, now, (cookie, body), connection, events);
            }
            _ => (405, "the method must be POST", "METHOD_NOT_ALLOWED"),
        };
        ServerReply::json(status, error_body(message, code))
    }

    fn upgrade(
        state: &SimState<Self>,
        request: &Request,
        response: &mut Response,
    ) -> Result<GraphqlUpgrade, &'static str> {
        if ![Self::FEED_PATH, Self::HTTP_PATH].contains(&request.uri().path()) {
            return Err("the feed is at /ws");
        }
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let requested = text(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        let has_subprotocol = requested.split(',').any(|one| one.trim() == SUBPROTOCOL);
        if has_subprotocol {
            let chosen = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        let is_signed_in = state.site.is_signed_in(text(header::COOKIE));
        Ok(GraphqlUpgrade { is_signed_in, has_subprotocol })
    }

    fn open_feed(
        _state: &SimState<Self>,
        upgrade: GraphqlUpgrade,
        settings: &SimSettings,
        now: Duration,
        _rng: &mut Rng,
    ) -> Result<(GraphqlFeed, Vec<FeedOutput>), (u16, &'static str)> {
        if !upgrade.has_subprotocol {
            return Err((4406, "Subprotocol not acceptable"));
        }
        Ok((GraphqlFeed::new(upgrade.is_signed_in, settings.ping_every, now), Vec::new()))
    }
}

/// Answers a request with this `Cookie` header and body.
fn answer(
    state: &mut SimState<GraphqlMarket>,
    now: Duration,
    (cookie, body): (Option<&str>, &[u8]),
    connection: ClientConnection,
    events: &mut Vec<MarketEvent>,
) -> ServerReply {
    state.stats.requests = state.stats.requests.saturating_add(1);
    let request = match operations::parse_request(body) {
        Ok(request) => request,
        Err(rejection) => return ServerReply::json(rejection.status, rejection.body),
    };
    let signed_in = state.site.is_signed_in(cookie);
    match request.order_id() {
        Some(id) => {
            let order = OrderAttempt { request: &request, id, signed_in, connection };
            order.execute(state, now, events)
        }
        None => {
            let fault = state.injector.next_fault(channels(&request, &state.market));
            let seeded = fault.map(|kind| (kind, state.rng.fork()));
            let parsed = ParsedRequest { request: &request, signed_in, fault: seeded };
            let body = operations::respond(&mut state.market, now, parsed, events);
            ServerReply { fault, ..ServerReply::json(200, body) }
        }
    }
}

impl GraphqlMarket {
    /// Returns `true` if a `Cookie` header contains the valid session.
    fn is_signed_in(&self, cookie: Option<&str>) -> bool {
        let mut pairs = cookie.unwrap_or_default().split(';');
        pairs.any(|pair| pair.trim().strip_prefix("session=") == Some(&*self.session))
    }
}

/// Returns the channels whose faults can affect a read.
fn channels(request: &GraphqlRequest, market: &MarketState) -> &'static [FaultChannel] {
    match &request.call {
        GraphqlCall::CurrentUser => &[FaultChannel::Reads, FaultChannel::Account],
        GraphqlCall::Trades(query) if query.is_for_user(market.user_id()) => {
            &[FaultChannel::Reads, FaultChannel::Purchases]
        }
        GraphqlCall::Trades(_) => &[FaultChannel::Reads],
        GraphqlCall::Join { .. } => &[],
    }
}

/// An order with its authentication and connection.
struct OrderAttempt<'a> {
    request: &'a GraphqlRequest,
    id: &'a str,
    signed_in: bool,
    connection: ClientConnection,
}

impl OrderAttempt<'_> {
    /// Executes the order under the next fault, and records it in the history.
    fn execute(
        &self,
        state: &mut SimState<GraphqlMarket>,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) -> ServerReply {
        let fault = state.injector.next_fault(&[FaultChannel::Orders]);
        let (decision, reply) = match fault.and_then(reply_without_commit) {
            Some(reply) => (OrderDecision::Ignored, ServerReply { fault, ..reply }),
            None => {
                let market = &mut state.market;
                let result =
                    operations::execute_join(market, now, self.request, self.signed_in, events);
                let decision = OrderDecision::from(&result);
                let body = match (&result, fault) {
                    (Err(rejection), _) => self.request.rejected_response(*rejection),
                    (Ok(_), Some(FaultKind::Empty)) => self.request.join_response(&[]),
                    (Ok(sold), Some(FaultKind::Foreign)) => {
                        let number = sold.number.saturating_add(1);
                        self.request.join_response(&[&Listing { number, ..Listing::clone(sold) }])
                    }
                    (Ok(sold), Some(FaultKind::WrongPrice)) => {
                        let repriced = market.surcharge(now, sold, SURCHARGE, events);
                        self.request.join_response(&[&repriced])
                    }
                    (Ok(sold), Some(kind)) => {
                        let price = faults::reported_price(kind, sold.item.total, &mut state.rng);
                        self.request.join_response(&[&sold.with_price(price)])
                    }
                    (Ok(sold), None) => self.request.join_response(&[sold]),
                };
                let rejection = error_body(SaleRejection::NotJoinable.message(), "BAD_USER_INPUT");
                let late = (state.rng.duration(faults::LATE_REJECTION_AFTER), 200, rejection);
                (decision, ServerReply { fault, late, ..ServerReply::json(200, body) })
            }
        };
        state.market.record_order(self.id, self.connection.order_record(now, fault, decision));
        ServerReply { order_id: Some(self.id.to_owned()), ..reply }
    }
}

/// Returns the response of a fault under which the order is not executed.
fn reply_without_commit(kind: FaultKind) -> Option<ServerReply> {
    if kind.commits() {
        return None;
    }
    let message = match kind {
        FaultKind::TooMany => {
            let body = r#"{"errors":[{"message":"Too many requests"}]}"#.to_owned();
            let headers = &[("Retry-After", "3")];
            return Some(ServerReply { headers, ..ServerReply::json(429, body) });
        }
        FaultKind::Captcha => "Please complete the captcha, or leave incognito mode",
        FaultKind::Unauthenticated => "unauthenticated",
        FaultKind::DailyLimit => "This trade exceeds your daily withdrawal limit",
        FaultKind::UnknownError => "Something went wrong, please try again",
        _ => return ServerReply::not_executed(kind),
    };
    let body = format!(
        "{{\"errors\":[{{\"message\":\"{message}\",\"path\":[\"joinTrades\"]}}],\"data\":null}}"
    );
    Some(ServerReply::json(200, body))
}

/// Returns the session of the simulated account, which is valid nowhere else.
fn session(seed: u64) -> String {
    let mut rng = random::stream(seed, 5);
    format!("s%3Apractice-{seed}.{:016x}{:016x}", rng.u64(..), rng.u64(..))
}
