//! A feed that needs a token before each dial and sends several binary events per message.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sniper::{
    config::{Config, Credential, Endpoints},
    domain::{
        account::{OwnPurchase, Page, User},
        money::{Amount, Decimals},
        outcome::Outcome,
        time::UnixMs,
        trade::{Defects, KeyedBy, Trade, TradeEvent, TradeId, TradeNotice, TradeStatus},
        whitelist_entry::WhitelistEntry,
    },
    markets::{
        AccountQuery, Attribution, Capabilities, DecodeInput, Decoded, DialPlan, EnvironmentNames,
        MarketApi, MarketEvent, MarketSubscription, Marketplace, PrepareError, ReadError,
        order_template::{OrderFields, OrderTemplate},
    },
    net::http_message::{Auth, HttpRequest, HttpResponse},
    protocol::{
        ClientMessage, FeedMessage, FeedProtocol, Heartbeat, Incoming, MessageError, MessageKinds,
        Opening, Subscription,
    },
    ws::{
        self, Feed, FeedError,
        policy::{ReconnectPolicy, RetryDecision},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    WAIT_MAX,
    peer::{Server, frame},
    quick,
};

/// The server speaks first: `o` and a heartbeat interval in seconds, `a` as the acknowledgment of
/// the token, then `e` with records.
#[derive(Clone, Debug, Default)]
struct Records {
    token: String,
    interval: Option<u8>,
}

impl FeedProtocol for Records {
    type Input<'a> = &'a [u8];
    type DecodeError = MessageError;

    const KINDS: MessageKinds = MessageKinds::Binary;
    const NAMES_SUBSCRIPTIONS: bool = false;

    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn open(&mut self) -> Opening {
        Opening::AwaitAck(None)
    }

    fn subscribe(&mut self, _id: u64, topic: &str) -> Option<ClientMessage> {
        Some(topic.into())
    }

    fn unsubscribe(&mut self, _id: u64, _topic: &str) -> Option<ClientMessage> {
        None
    }

    fn ping(&self) -> Option<ClientMessage> {
        None
    }

    fn pong(&self, _payload: Option<&str>) -> Option<ClientMessage> {
        None
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        let interval = Duration::from_secs(self.interval?.into());
        Some(Heartbeat { interval, timeout: Duration::from_secs(1) })
    }

    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        mut decode: impl FnMut(&mut &'a [u8]) -> Result<T, MessageError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        match message.binary()? {
            [b'o', interval] => {
                self.interval = Some(*interval);
                Ok(Incoming::Reply(format!("token {}", self.token).into()))
            }
            [b'a'] => Ok(Incoming::Ack),
            [b'e', records @ ..] => {
                let mut records = records;
                Ok(Incoming::Data { id: None, payload: decode(&mut records)? })
            }
            _ => Ok(Incoming::Unknown),
        }
    }

    fn skip(input: &mut &[u8]) -> Result<(), MessageError> {
        *input = &[];
        Ok(())
    }
}

/// A market whose feed needs a token, and which changes prices under the same id.
#[derive(Clone, Debug)]
struct TokenMarket;

/// The feed sends no orders and reads no account.
const UNUSED: &str = "the feed does not use the API";

impl MarketApi for TokenMarket {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "records",
        decimals: Decimals::Two,
        has_markup: false,
        has_float: false,
        keyed_by: KeyedBy::IdAndPrice,
        has_own_order_id: true,
        auth: Auth::Bearer,
        environment: EnvironmentNames::UNKNOWN,
    };

    fn order_template(&self) -> OrderTemplate {
        unreachable!("{UNUSED}")
    }

    fn order_outcome(&self, _: &OrderFields, _: &HttpResponse) -> (Outcome, Attribution) {
        unreachable!("{UNUSED}")
    }

    fn error_message(&self, _: &HttpResponse) -> Option<String> {
        unreachable!("{UNUSED}")
    }

    fn account_request(&self, _: &AccountQuery<'_>) -> Option<HttpRequest> {
        unreachable!("{UNUSED}")
    }

    fn read_user(&self, _: &HttpResponse) -> Result<User, ReadError> {
        unreachable!("{UNUSED}")
    }

    fn read_purchases(&self, _: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError> {
        unreachable!("{UNUSED}")
    }

    fn read_listings<'a>(&self, _: &'a HttpResponse) -> Result<Page<Trade<'a>>, ReadError> {
        unreachable!("{UNUSED}")
    }

    fn keep_warm_request(&self) -> HttpRequest {
        unreachable!("{UNUSED}")
    }

    fn is_keep_warm_response(&self, _: &HttpResponse) -> bool {
        unreachable!("{UNUSED}")
    }
}

impl Marketplace for TokenMarket {
    type Protocol = Records;
    type Events<'a> = Vec<MarketEvent<'a>>;

    fn token_request(&self, credential: Option<&Credential>) -> Option<HttpRequest> {
        Some(Self::authenticated(credential, HttpRequest::get("/v1/token")))
    }

    fn dial(
        &self,
        _credential: Option<&Credential>,
        token: Option<&HttpResponse>,
    ) -> Result<DialPlan<Records>, PrepareError> {
        let token = token.and_then(|response| response.text().ok()).unwrap_or_default();
        if token.is_empty() {
            return Err(PrepareError::Token { what: "empty" });
        }
        let upgrade = HttpRequest::get("/feed").with_query("token", token);
        Ok(DialPlan { upgrade, protocol: Records { token: token.to_owned(), interval: None } })
    }

    fn subscriptions(&self, _wanted: Option<&[WhitelistEntry]>) -> Vec<MarketSubscription> {
        let subscription = Subscription { topic: "listings".to_owned(), is_optional: false };
        vec![MarketSubscription { name: "listings", subscription, is_private: false }]
    }

    /// Reads records of a kind, an id and a price in cents.
    fn decode<'a>(
        &self,
        input: &mut DecodeInput<'a, Self>,
    ) -> Result<Decoded<Vec<MarketEvent<'a>>>, MessageError> {
        let mut events = Vec::new();
        while let Some((record, rest)) = input.split_first_chunk::<13>() {
            let id = TradeId::from_number(u64::from_be_bytes(*record[1..].first_chunk().unwrap()));
            let cents = u32::from_be_bytes(*record[9..].first_chunk().unwrap());
            events.push(match record[0] {
                b'l' => MarketEvent::Trade(trade(id, TradeEvent::Listed, cents)),
                b'p' => MarketEvent::Trade(trade(id, TradeEvent::Repriced, cents)),
                _ => MarketEvent::Notice(TradeNotice::Removed { id }),
            });
            *input = rest;
        }
        if input.is_empty() {
            return Ok(Decoded { events, is_data: true });
        }
        Err(MessageError::Malformed { what: "incomplete record" })
    }
}

fn trade(id: TradeId, event: TradeEvent, cents: u32) -> Trade<'static> {
    Trade {
        id,
        event,
        status: TradeStatus::Listed,
        market_name: Cow::Borrowed("AK-47 | Redline (Field-Tested)"),
        item: Cow::Borrowed("AK-47 | Redline"),
        is_stattrak: false,
        is_souvenir: false,
        wear: None,
        items: 1,
        markup_percent: None,
        total_value: Some(Amount::from_cents(cents.into())),
        base_value: None,
        can_join: None,
        can_join_after: None,
        suspected_trader_can_join_after: None,
        created_at: None,
        expires_at: Some(UnixMs(i64::MAX)),
        float: None,
        float_range: None,
        is_own: false,
        defects: Defects::NONE,
        arrival: None,
    }
}

fn record(kind: u8, id: u64, cents: u32) -> Vec<u8> {
    [&[kind][..], &id.to_be_bytes(), &cents.to_be_bytes()].concat()
}

/// Serves a response per connection, made of the number of the request. Returns its address and the
/// heads of the requests.
async fn tokens(
    respond: impl Fn(usize) -> String + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "no request");
            }
            seen.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(respond(number).as_bytes()).await.unwrap();
        }
    });
    (address, heads)
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

fn feed(server: &str, http: &str) -> Feed<TokenMarket> {
    let endpoints = Endpoints::new(server, http).unwrap();
    let config = Config {
        reconnection: ReconnectPolicy::new(quick()).unwrap(),
        credential: Some(Credential::from_session("hunter2").unwrap()),
        ..Config::new(endpoints, "unused")
    };
    Feed::new(TokenMarket, config)
}

#[tokio::test]
async fn each_dial_has_its_own_token_and_each_event_of_a_message_is_delivered() {
    let server = Server::play(|_number, mut peer| async move {
        peer.read_head().await;
        let accept = peer.grant().replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
        peer.write(accept.as_bytes()).await;
        peer.write(&frame(0x82, b"o\x07")).await;
        let token = peer.text().await;
        assert!(peer.head.starts_with(&format!("GET /feed?{}", token.replace(' ', "="))));
        peer.write(&frame(0x82, b"a")).await;
        assert_eq!(peer.text().await, "listings");
        peer.write(&frame(0x81, b"text")).await;
        let records = [
            record(b'l', 7, 100),
            record(b'l', 7, 100),
            record(b'p', 7, 90),
            record(b'r', 7, 0),
            record(b'l', u64::MAX, 100),
        ];
        peer.write(&frame(0x82, &[b"e".to_vec(), records.concat()].concat())).await;
        peer.write(&frame(0x82, b"e torn")).await;
        peer.close(1_001, "again").await;
    })
    .await;
    let (http, heads) = tokens(|number| response("200 OK", "", &format!("tok-{number}"))).await;
    let feed = feed(&server.address, &http);
    let removed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&removed);
    let seven = TradeNotice::Removed { id: TradeId::from_number(7) };
    assert!(feed.notices.set(move |notice| {
        assert_eq!(notice, seven);
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let trades = std::cell::RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| {
        let price = trade.total_value.unwrap().to_string();
        trades.borrow_mut().push((trade.id.to_string(), trade.event, price));
    };
    let run = ws::run_with_reconnect(&feed, on_trade);
    let reached = async {
        tokio::select! {
            gave_up = run => panic!("{gave_up}"),
            () = server.wait_for_dials(3) => {}
        }
    };
    tokio::time::timeout(WAIT_MAX, reached).await.expect("no third dial");
    let expected = [("7", TradeEvent::Listed, "1.00"), ("7", TradeEvent::Repriced, "0.90")];
    let last = (u64::MAX.to_string(), TradeEvent::Listed, "1.00".to_owned());
    let expected = expected.map(|(id, event, price)| (id.to_owned(), event, price.to_owned()));
    assert_eq!(*trades.borrow(), [&expected[..], &[last]].concat());
    assert!(removed.load(Ordering::Relaxed) >= 2);
    assert!(feed.metrics.malformed.load(Ordering::Relaxed) >= 4);
    let heads = heads.lock().unwrap();
    assert!(heads.len() >= 3, "{heads:?}");
    for head in heads.iter() {
        assert!(head.starts_with("GET /v1/token HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\nauthorization: bearer "), "{head}");
    }
}

#[tokio::test]
async fn a_missing_token_is_an_error_with_its_own_retry_decision() {
    let wait = Duration::from_secs(7);
    for (answer, decision, is_blocked) in [
        (response("403 Forbidden", "", "{}"), RetryDecision::Suspend, true),
        (response("200 OK", "Content-Type: text/html\r\n", "<p>"), RetryDecision::Suspend, true),
        (response("503 X", "Retry-After: 7\r\n", ""), RetryDecision::RetryAfter(wait), false),
        (response("200 OK", "", ""), RetryDecision::RetryLater, false),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), RetryDecision::Retry, false),
    ] {
        let shown = answer.clone();
        let (http, heads) = tokens(move |_number| answer.clone()).await;
        // No feed listens at this address: without a token it is never dialed.
        let feed = feed("ws://127.0.0.1:9/feed", &http);
        let error: FeedError = ws::connect_once(&feed, |_trade| {}).await.unwrap_err();
        assert_eq!(error.retry_decision(), decision, "{shown:?}: {}", error.chain());
        assert_eq!(error.is_blocked(), is_blocked, "{shown:?}");
        assert!(error.chain().contains("token"), "{}", error.chain());
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(heads.lock().unwrap().len(), 1);
    }
}
