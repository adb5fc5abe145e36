//! An order client that is connected to a mock market.

use std::time::Duration;

use sniper::{
    config::{Budget, Credential, Endpoints, Generation},
    domain::money::{Amount, Percent},
    domain::outcome::NotSent,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId},
    execution::{
        ConnectionConfig, OrderClient, OrderClientConfig,
        response::{ExchangeResult, OrderReport, ResponseError, SentRequest},
    },
    ledger::{ApprovedOrder, Ledger, OrderRequest},
    markets::{
        csgoroll::Csgoroll,
        order_template::{OrderTemplate, Part, Slot},
    },
    net::{
        http_message::{Auth, HttpRequest, HttpResponse},
        tls::Tls,
    },
    whitelist::WhitelistEntry,
};
use tokio::{sync::mpsc, time::timeout};

use super::market::{Market, WAIT_MAX};

pub(crate) const SECRET: &str = "s3cr3t-hunter2";

/// An order client that is connected to a mock market.
pub(crate) struct Bot {
    pub(crate) client: OrderClient,
    pub(crate) reports: mpsc::Receiver<OrderReport>,
}

impl Bot {
    pub(crate) fn start(
        market: &Market,
        connections: u32,
        connection_config: ConnectionConfig,
    ) -> Self {
        Self::connect((&market.endpoints, market.tls.clone()), connections, connection_config)
    }

    pub(crate) fn connect(
        (endpoints, tls): (&Endpoints, Tls),
        connections: u32,
        connection_config: ConnectionConfig,
    ) -> Self {
        let credential = Credential::from_session(SECRET).unwrap();
        let body = vec![Part::Text("buy ".into()), Part::Slot(Slot::Id)];
        let order = OrderTemplate::post_json("/graphql", body);
        let setup = OrderClientConfig {
            endpoint: &endpoints.http,
            order: &Auth::Cookie.apply(&credential, order),
            keep_warm: &HttpRequest::post_json("/graphql", "keep-warm"),
            tls,
            connections,
            connection_config,
        };
        let (client, reports) =
            OrderClient::start(&Csgoroll::at(endpoints, Generation::B), setup).unwrap();
        Self { client, reports }
    }

    /// Starts a client and waits until all its connections are open.
    pub(crate) async fn ready(market: &Market, connections: u32) -> Self {
        let bot = Self::start(market, connections, ConnectionConfig::default());
        assert!(bot.client.warm(usize::try_from(connections).unwrap(), WAIT_MAX).await);
        bot
    }

    pub(crate) fn send(&self, id: &str) -> Result<SentRequest, NotSent> {
        self.client.send(approved(id))
    }

    pub(crate) async fn report(&mut self) -> OrderReport {
        timeout(WAIT_MAX, self.reports.recv()).await.expect("no report").expect("no client")
    }

    pub(crate) async fn order(&mut self, id: &str) -> OrderReport {
        self.send(id).unwrap();
        let report = self.report().await;
        assert_eq!(report.key.id.as_str(), id);
        report
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.client.warm(1, WAIT_MAX).await
    }
}

/// Returns an approved order for this listing.
pub(crate) fn approved(id: &str) -> ApprovedOrder {
    let price = Amount::from_cents(1_000);
    let budget = Budget { max_price: price, total: price, ..Budget::default() };
    let entry = WhitelistEntry {
        max_price: price,
        max_markup: Some(Percent::from_hundredths(0)),
        max_quantity: 1,
        ..WhitelistEntry::default()
    };
    let mut ledger = Ledger::in_memory(budget, &[entry], false);
    let (id, keyed_by) = (TradeId::new(id).unwrap(), KeyedBy::Id);
    let want = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
    ledger.reserve(want, UnixMs(0)).unwrap()
}

pub(crate) fn short_deadline() -> ConnectionConfig {
    let timeout = Duration::from_millis(100);
    ConnectionConfig {
        order_timeout: timeout,
        response_timeout: timeout,
        ..ConnectionConfig::default()
    }
}

pub(crate) fn body(response: &ExchangeResult) -> &str {
    match response {
        ExchangeResult::Complete(HttpResponse { body, .. }) => str::from_utf8(body).unwrap(),
        ExchangeResult::Broken { .. } => panic!("{response:?}"),
    }
}

pub(crate) fn error_of(response: &ExchangeResult) -> Option<ResponseError> {
    match response {
        ExchangeResult::Complete(_) => None,
        ExchangeResult::Broken { error, .. } => Some(*error),
    }
}
