//! Simulator of markets that change prices under one id: state, test controls, HTTP answers.

use std::{marker::PhantomData, time::Duration};

use tokio_tungstenite::tungstenite::{
    handshake::server::{Request, Response},
    http::header,
};

use super::{
    books::SalesBooks,
    listing::SimEvent,
    market::RepricingModel,
    purchase::{BuyRejection, Purchase, ReturnReason, SimOrder},
    query::{Query, RequestLimit, split_target},
};
use crate::{
    domain::{
        money::{Amount, Decimals},
        time::UnixMs,
    },
    sim::{
        catalogue::ListedItem,
        faults::{self, FaultChannel, FaultKind, SURCHARGE},
        history::OrderDecision,
        model::{FeedOutput, FeedSession, MarketModel as _},
        random::{self, Rng, RngExt as _},
        server::{ClientConnection, RequestHead, ServerReply},
        settings::SimSettings,
        state::{Sim, SimState, SimulatedMarket},
    },
};

/// Partner number of the account's trade URL, which is valid nowhere else.
pub const TRADE_PARTNER: &str = "123456789";
/// Token of the account's trade URL.
pub const TRADE_TOKEN: &str = "AbCdEf12";

/// Wire formats of a market that re-prices under one id.
pub trait WireFormat: Send + Sync + Sized + 'static {
    /// The faults that the simulator can inject.
    const FAULTS: &'static [&'static [FaultKind]];
    const DECIMALS: Decimals;
    /// Lowest id of a listing.
    const FIRST_ID: u64;
    const READS_PER_MINUTE: usize;
    /// Limit of orders; `None` for no limit.
    const ORDERS_PER_MINUTE: Option<usize>;
    /// Path and query of the feed.
    const FEED_PATH: &'static str;
    /// Path under which the HTTP endpoints are.
    const HTTP_PATH: &'static str;

    type Feed: FeedSession<Event = SimEvent>;

    /// Opens a feed after the upgrade. Returns `None` if the request is not acceptable.
    fn open_feed(opening: FeedOpening<'_>, now: Duration) -> Option<(Self::Feed, Vec<FeedOutput>)>;

    /// Returns the environment variables that connect a bot, given the URLs of the feed and of the
    /// HTTP endpoints.
    fn environment(account: &AccountKeys, ws: String, http: String) -> Vec<(&'static str, String)>;

    /// Returns `true` if a request contains the valid key.
    fn is_authorized(account: &AccountKeys, request: &SimRequest<'_>) -> bool;

    /// Returns the answer to a request without the valid key.
    fn unauthorized() -> ServerAnswer;

    /// Returns the kind of a request; `None` for an unknown path or method.
    fn route(request: &SimRequest<'_>) -> Option<SimRoute>;

    /// Parses an order.
    ///
    /// # Errors
    ///
    /// Returns the answer to an invalid order.
    fn parse_order(request: &SimRequest<'_>) -> Result<SimOrder, ServerAnswer>;

    /// Returns the answer to an order that bought something; `price` is the reported one. Under
    /// [`FaultKind::Empty`], the purchase is not in it.
    fn sold(purchase: &Purchase, price: Amount, kind: Option<FaultKind>) -> ServerAnswer;

    fn rejected(order: &SimOrder, rejection: BuyRejection, rng: &mut Rng) -> ServerAnswer;

    /// Returns the answer of a fault under which the order is not executed.
    fn not_executed(kind: FaultKind, rng: &mut Rng) -> ServerAnswer;

    /// Answers a read.
    fn read(state: &mut WireState<Self>, request: &SimRequest<'_>, read: SimRead) -> ServerAnswer;

    fn too_many_requests() -> ServerAnswer;
}

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimRoute {
    Order,
    /// A read that these channels of faults can affect.
    Read(&'static [FaultChannel]),
}

/// Circumstances of a read.
#[derive(Clone, Debug)]
pub struct SimRead {
    pub now: Duration,
    /// Fault of the answer, with the generator that chooses its values.
    pub fault: Option<(FaultKind, Rng)>,
}

/// Credentials of the simulated account, which are valid nowhere else.
#[derive(Clone, Debug)]
pub struct AccountKeys {
    pub key: String,
    pub user_id: String,
    /// Determines the signatures of tokens.
    pub seed: u64,
}

impl AccountKeys {
    fn new(seed: u64) -> Self {
        let mut rng = random::stream(seed, 5);
        let key = format!("practice-{seed}-{:016x}{:016x}", rng.u64(..), rng.u64(..));
        Self { key, user_id: rng.u64(1_000..1_000_000).to_string(), seed }
    }

    /// Returns the trade URL of the account.
    pub fn trade_url() -> String {
        format!(
            "https://steamcommunity.com/tradeoffer/new/?partner={TRADE_PARTNER}&token={TRADE_TOKEN}"
        )
    }
}

/// A request as a market reads it.
#[derive(Clone, Debug)]
pub struct SimRequest<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: Query,
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
}

/// Status, headers and body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAnswer {
    pub status: u16,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: String,
}

impl ServerAnswer {
    pub fn new(status: u16, body: impl ToString) -> Self {
        Self { status, headers: &[], body: body.to_string() }
    }

    fn reply(self) -> ServerReply {
        ServerReply { headers: self.headers, ..ServerReply::json(self.status, self.body) }
    }
}

/// Facts about a connection when its feed opens.
#[derive(Clone, Debug)]
pub struct FeedOpening<'a> {
    pub account: &'a AccountKeys,
    pub settings: &'a SimSettings,
    pub query: &'a Query,
    pub authorization: Option<&'a str>,
    /// Time of the market's clock at its opening.
    pub opened_at: UnixMs,
    pub rng: Rng,
}

/// A running simulator.
pub type RepricingServer<W> = Sim<RepricingMarket<W>>;

/// State of the simulator as a wire format sees it.
pub type WireState<W> = SimState<RepricingMarket<W>>;

/// A market with a wire format, and its account.
#[derive(Debug)]
pub struct RepricingMarket<W> {
    pub account: AccountKeys,
    reads: RequestLimit,
    orders: Option<RequestLimit>,
    wire: PhantomData<W>,
}

impl<W: WireFormat> RepricingServer<W> {
    /// Returns the credentials of the account.
    pub fn account(&self) -> AccountKeys {
        self.shared.with(|state, _, _| state.site.account.clone())
    }

    /// Returns the environment variables that connect a bot to this simulator.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        W::environment(&self.account(), self.ws_url(), self.http_url())
    }

    /// Returns a copy of the sales to the account.
    pub fn books(&self) -> SalesBooks {
        self.shared.with(|state, now, events| {
            state.market.advance(now, events);
            state.market.books().clone()
        })
    }

    /// Lists an item that is locked for this time. Returns its id.
    pub fn list_locked(&self, item: ListedItem, lock: Duration) -> u64 {
        self.shared.with(|state, now, events| state.market.list_locked(now, item, lock, events))
    }

    /// Changes the price of an open listing. Returns `false` if no such listing is open.
    pub fn reprice(&self, id: u64, price: Amount) -> bool {
        self.shared.with(|state, now, events| state.market.reprice(id, price, now, events))
    }

    /// Removes an open listing, as its seller may. Returns `false` if no such listing is open.
    pub fn delist(&self, id: u64) -> bool {
        self.shared.with(|state, now, events| state.market.delist(id, now, events))
    }

    /// Lists a removed listing again under the same id. Returns `false` if it is not known.
    pub fn relist(&self, id: u64) -> bool {
        self.shared.with(|state, now, events| state.market.relist(id, now, events))
    }

    /// Reverses a purchase, as after a failed trade.
    pub fn return_purchase(&self, number: u64, reason: ReturnReason) {
        self.shared.with(|state, now, events| {
            state.market.return_purchase(number, reason, now, events);
        });
    }

    /// Credits the money of a returned purchase.
    pub fn refund(&self, number: u64) {
        self.shared.with(|state, now, events| state.market.refund(number, now, events));
    }
}

impl<W: WireFormat> SimulatedMarket for RepricingMarket<W> {
    const FAULTS: &'static [&'static [FaultKind]] = W::FAULTS;
    const FEED_PATH: &'static str = W::FEED_PATH;
    const HTTP_PATH: &'static str = W::HTTP_PATH;
    const NEW_FAULTS_STREAM: u64 = 4;

    type Model = RepricingModel;
    type Feed = W::Feed;
    /// The query and the `Authorization` header.
    type Upgrade = (Query, Option<String>);

    fn open(settings: &SimSettings, opened_at: UnixMs) -> (Self, RepricingModel) {
        let site = Self {
            account: AccountKeys::new(settings.seed),
            reads: RequestLimit::new(W::READS_PER_MINUTE),
            orders: W::ORDERS_PER_MINUTE.map(RequestLimit::new),
            wire: PhantomData,
        };
        (site, RepricingModel::new(settings, W::DECIMALS, W::FIRST_ID, opened_at))
    }

    fn answer(
        state: &mut WireState<W>,
        (head, body): (&RequestHead, &[u8]),
        connection: ClientConnection,
        now: Duration,
        events: &mut Vec<SimEvent>,
    ) -> ServerReply {
        let (path, query) = split_target(&head.path);
        let (method, authorization) = (&*head.method, head.authorization.as_deref());
        let request = SimRequest { method, path, query, authorization, body };
        answer(state, &request, connection, now, events)
    }

    fn upgrade(
        _state: &WireState<W>,
        request: &Request,
        _response: &mut Response,
    ) -> Result<(Query, Option<String>), &'static str> {
        if request.uri().path() != split_target(W::FEED_PATH).0 {
            return Err("no feed at this path");
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let value = request.headers().get(header::AUTHORIZATION);
        Ok((query, value.and_then(|value| value.to_str().ok()).map(str::to_owned)))
    }

    fn open_feed(
        state: &WireState<W>,
        (query, authorization): (Query, Option<String>),
        settings: &SimSettings,
        now: Duration,
        rng: &mut Rng,
    ) -> Result<(W::Feed, Vec<FeedOutput>), (u16, &'static str)> {
        let opening = FeedOpening {
            account: &state.site.account,
            settings,
            query: &query,
            authorization: authorization.as_deref(),
            opened_at: state.market.clock(Duration::ZERO),
            rng: rng.fork(),
        };
        W::open_feed(opening, now).ok_or((1_002, "bad request"))
    }
}

fn answer<W: WireFormat>(
    state: &mut WireState<W>,
    request: &SimRequest<'_>,
    connection: ClientConnection,
    now: Duration,
    events: &mut Vec<SimEvent>,
) -> ServerReply {
    state.stats.requests = state.stats.requests.saturating_add(1);
    let Some(route) = W::route(request) else {
        return ServerAnswer::new(404, r#"{"error":"not_found"}"#).reply();
    };
    if !W::is_authorized(&state.site.account, request) {
        return W::unauthorized().reply();
    }
    let limit = match route {
        SimRoute::Order => state.site.orders.as_mut(),
        SimRoute::Read(_) => Some(&mut state.site.reads),
    };
    let limit = limit.filter(|_limit| state.market.repricing.limits_requests);
    if limit.is_some_and(|limit| !limit.allows(now)) {
        return W::too_many_requests().reply();
    }
    state.market.advance(now, events);
    match route {
        SimRoute::Order => match W::parse_order(request) {
            Ok(order) => execute(state, &order, connection, now, events),
            Err(answer) => answer.reply(),
        },
        SimRoute::Read(channels) => {
            let kind = state.injector.next_fault(channels);
            let fault = kind.map(|kind| (kind, state.rng.fork()));
            let answer = W::read(state, request, SimRead { now, fault });
            ServerReply { fault: kind, ..answer.reply() }
        }
    }
}

/// Executes an order under the next fault, and records it in the history.
fn execute<W: WireFormat>(
    state: &mut WireState<W>,
    order: &SimOrder,
    connection: ClientConnection,
    now: Duration,
    events: &mut Vec<SimEvent>,
) -> ServerReply {
    let fault = state.injector.next_fault(&[FaultChannel::Orders]);
    if let (Some(FaultKind::PriceMoves), Some(id)) = (fault, order.id) {
        state.market.raise_price(id, now, events);
    }
    let not_executed = fault.filter(|kind| !kind.commits() && *kind != FaultKind::PriceMoves);
    let (decision, reply) = match not_executed {
        Some(kind) => {
            let reply = ServerReply::not_executed(kind)
                .unwrap_or_else(|| W::not_executed(kind, &mut state.rng).reply());
            (OrderDecision::Ignored, reply)
        }
        None => {
            let result = state.market.buy(now, order, events);
            let decision = OrderDecision::from(&result);
            let answer = match result {
                Ok(purchase) => sold_answer(state, purchase, fault, now, events),
                Err(rejection) => W::rejected(order, rejection, &mut state.rng),
            };
            (decision, answer.reply())
        }
    };
    state.market.record_order(order, connection.order_record(now, fault, decision));
    let late_rejection = W::rejected(order, BuyRejection::Unavailable, &mut state.rng);
    let delay = state.rng.duration(faults::LATE_REJECTION_AFTER);
    ServerReply {
        fault,
        order_id: order.id.map(|id| id.to_string()),
        late: (delay, late_rejection.status, late_rejection.body),
        ..reply
    }
}

fn sold_answer<W: WireFormat>(
    state: &mut WireState<W>,
    purchase: Purchase,
    fault: Option<FaultKind>,
    now: Duration,
    events: &mut Vec<SimEvent>,
) -> ServerAnswer {
    let number = purchase.number;
    let mut sold = purchase;
    match fault {
        Some(FaultKind::WrongPrice) => {
            if let Some(repriced) = state.market.surcharge(number, SURCHARGE, now, events) {
                sold = repriced;
            }
        }
        Some(FaultKind::ReturnedAtOnce) => {
            state.market.return_purchase(number, ReturnReason::CreateError, now, events);
        }
        Some(FaultKind::Foreign) => sold.number = number.saturating_add(1),
        _ => {}
    }
    let price =
        fault.map_or(sold.price, |kind| faults::reported_price(kind, sold.price, &mut state.rng));
    W::sold(&sold, price, fault)
}
