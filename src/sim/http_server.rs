//! HTTP/1.1 server of the simulator: `POST /graphql` over kept-alive connections, with limits and
//! injected faults.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    faults::{self, FaultChannel, FaultKind},
    graphql::{self, GraphqlCall, GraphqlRequest, ParsedRequest, error_body},
    history,
    http_head::{BODY_BYTES_MAX, REQUEST_TIME_MAX, RequestHead, read_head},
    listing::Listing,
    market_state::{MarketEvent, MarketState, SaleRejection},
    random::{Rng, RngExt as _},
    server_state::{ServerState, State},
};
use crate::{domain::money::Amount, domain::time::UnixMs};

/// Increase of the price under [`FaultKind::WrongPrice`].
const SURCHARGE: Amount = Amount::from_cents(100);
/// Body of the response under [`FaultKind::Challenge`].
const CHALLENGE_PAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking that you are a person.</body></html>";

/// Identity of a connection in the history.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientConnection {
    pub(super) number: u64,
    /// Time from the start of the simulator to the `accept`.
    pub(super) opened_at: Duration,
}

/// A response and the way to send it.
#[derive(Debug)]
struct ServerReply {
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: String,
    fault: Option<FaultKind>,
    closes: bool,
    /// Listing and connection of the order, if this is the response to one.
    order: Option<(String, u64)>,
    /// Delay of the second response under [`FaultKind::LateRejection`].
    late: Duration,
}

impl ServerReply {
    const fn json(status: u16, body: String) -> Self {
        let (fault, closes, order, late) = (None, false, None, Duration::ZERO);
        Self { status, headers: &[], body, fault, closes, order, late }
    }

    fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    fn bytes(&self, clock: UnixMs) -> Vec<u8> {
        let since = Duration::from_millis(u64::try_from(clock.0).unwrap_or(0));
        let date = httpdate::fmt_http_date(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH));
        let kind = if self.body.starts_with('<') { "text/html" } else { "application/json" };
        let connection = if self.closes { "close" } else { "keep-alive" };
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nDate: {date}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n",
            self.status,
            reason(self.status),
            self.body.len()
        );
        for (name, value) in self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        out.push_str(&self.body);
        out.into_bytes()
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

/// Serves one connection until it ends.
///
/// # Errors
///
/// Returns an error if the connection fails or a request is malformed.
///
/// # Cancel safety
///
/// Dropping the future closes the connection, possibly between a purchase and its response.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut buffer: BytesMut,
    shared: &Arc<ServerState>,
    connection: ClientConnection,
) -> io::Result<()> {
    let idle = shared.settings.http_idle;
    while let Some(head) = read_head(stream, &mut buffer, idle).await? {
        let reply = if let Some(rejection) = reject_head(&head) {
            rejection
        } else {
            buffer.advance(head.bytes);
            let body = timeout(REQUEST_TIME_MAX, read_body(stream, &mut buffer, head.body_bytes));
            let body = body.await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            answer(shared, &head, &body, connection)
        };
        let closes = reply.closes || head.closes;
        if !write(stream, shared, reply).await? || closes {
            break;
        }
    }
    stream.shutdown().await
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<BytesMut> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.split_to(length))
}

/// Returns the response to an unsupported head. The body is not read, so the connection closes.
fn reject_head(head: &RequestHead) -> Option<ServerReply> {
    let reject = |status, message| {
        Some(ServerReply::json(status, error_body(message, "BAD_REQUEST")).closing())
    };
    if head.is_chunked {
        return reject(411, "a Content-Length is required");
    }
    if head.body_bytes > BODY_BYTES_MAX {
        return reject(413, "the body is too long");
    }
    None
}

fn answer(
    shared: &ServerState,
    head: &RequestHead,
    body: &[u8],
    connection: ClientConnection,
) -> ServerReply {
    let path = head.path.split('?').next().unwrap_or_default();
    if path != "/graphql" {
        return ServerReply::json(404, error_body("the paths are /graphql and /ws", "NOT_FOUND"));
    }
    match &*head.method {
        "POST" => {}
        "OPTIONS" => return ServerReply::json(204, String::new()),
        _ => {
            return ServerReply::json(
                405,
                error_body("the method must be POST", "METHOD_NOT_ALLOWED"),
            );
        }
    }
    shared.with(|state, now, events| {
        state.stats.requests = state.stats.requests.saturating_add(1);
        let request = match graphql::parse_request(body) {
            Ok(request) => request,
            Err(rejection) => return ServerReply::json(rejection.status, rejection.body),
        };
        let signed_in = state.is_signed_in(head.cookie.as_deref());
        match request.order_id() {
            Some(id) => {
                let order = OrderAttempt { request: &request, id, signed_in, connection };
                order.execute(state, now, events)
            }
            None => {
                let fault = state.injector.next_fault(channels(&request, &state.market));
                let seeded = fault.map(|kind| (kind, Rng::with_seed(state.rng.u64(..))));
                let parsed = ParsedRequest { request: &request, signed_in, fault: seeded };
                let body = graphql::respond(&mut state.market, now, parsed, events);
                ServerReply { fault, ..ServerReply::json(200, body) }
            }
        }
    })
}

/// Returns the channels whose faults can affect a read. `{ __typename }`, which only keeps a
/// connection warm, has none.
fn channels(request: &GraphqlRequest, market: &MarketState) -> &'static [FaultChannel] {
    match &request.call {
        GraphqlCall::CurrentUser => &[FaultChannel::Reads, FaultChannel::Account],
        GraphqlCall::Trades(query) if query.is_for_user(market.user_id()) => {
            &[FaultChannel::Reads, FaultChannel::Purchases]
        }
        GraphqlCall::Trades(_) => &[FaultChannel::Reads],
        GraphqlCall::Join { .. } | GraphqlCall::Typename => &[],
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
        state: &mut State,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) -> ServerReply {
        let fault = state.injector.next_fault(&[FaultChannel::Orders]);
        let (decision, reply) = match fault.and_then(reply_without_commit) {
            Some(reply) => (history::OrderDecision::Ignored, reply),
            None => {
                let market = &mut state.market;
                let result =
                    graphql::execute_join(market, now, self.request, self.signed_in, events);
                let decision = history::OrderDecision::from(&result);
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
                        let price = reported_price(kind, sold.item.total, &mut state.rng);
                        self.request.join_response(&[&sold.with_price(price)])
                    }
                    (Ok(sold), None) => self.request.join_response(&[sold]),
                };
                let (min, max) = faults::LATE_REJECTION_AFTER;
                let late = state.rng.duration(min, max);
                (decision, ServerReply { fault, late, ..ServerReply::json(200, body) })
            }
        };
        state.market.record_order(
            self.id,
            history::OrderRecord {
                at: now,
                connection: self.connection.number,
                connected_at: self.connection.opened_at,
                fault,
                decision,
                answered_at: None,
            },
        );
        ServerReply { order: Some((self.id.to_owned(), self.connection.number)), ..reply }
    }
}

/// Returns the price in the response to a purchase.
fn reported_price(kind: FaultKind, price: Amount, rng: &mut Rng) -> Amount {
    let cents = price.cents();
    Amount::from_cents(match kind {
        FaultKind::PriceLow => rng.i64(1..=cents.saturating_sub(1).max(1)),
        FaultKind::PriceZero => 0,
        FaultKind::PriceHigh => {
            let least = cents.saturating_add(1);
            rng.i64(least..=cents.saturating_mul(3).max(least))
        }
        _ => cents,
    })
}

/// Returns the response of a fault under which the order is not executed.
fn reply_without_commit(kind: FaultKind) -> Option<ServerReply> {
    if kind.commits() {
        return None;
    }
    let error = |message| {
        Some(ServerReply::json(
            200,
            format!(
                "{{\"errors\":[{{\"message\":\"{message}\",\"path\":[\"joinTrades\"]}}],\"data\":null}}"
            ),
        ))
    };
    let page = |status, headers, body: &str| {
        Some(ServerReply { headers, ..ServerReply::json(status, body.to_owned()) })
    };
    match kind {
        FaultKind::TooMany => {
            page(429, &[("Retry-After", "3")], r#"{"errors":[{"message":"Too many requests"}]}"#)
        }
        FaultKind::Challenge => page(403, &[("cf-mitigated", "challenge")], CHALLENGE_PAGE),
        FaultKind::ServerErrorBeforeCommit => {
            page(503, &[], "<html><body>Service Unavailable</body></html>")
        }
        FaultKind::Captcha => error("Please complete the captcha, or leave incognito mode"),
        FaultKind::Unauthenticated => error("unauthenticated"),
        FaultKind::DailyLimit => error("This trade exceeds your daily withdrawal limit"),
        FaultKind::UnknownError => error("Something went wrong, please try again"),
        _ => Some(ServerReply { fault: Some(kind), ..ServerReply::json(200, String::new()) }),
    }
}

/// Writes a response under its fault. Returns `true` if the connection stays open.
async fn write(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    shared: &ServerState,
    mut reply: ServerReply,
) -> io::Result<bool> {
    match reply.fault {
        Some(FaultKind::Hang | FaultKind::HangBeforeCommit) => until_closed(stream).await?,
        Some(FaultKind::Slow | FaultKind::ReadSlow) => {
            tokio::time::sleep(faults::SLOW_ANSWER).await;
        }
        _ => {}
    }
    if let Some((id, connection)) = &reply.order {
        // Before the write: the client may send its next order as soon as it has the response.
        shared.with(|state, now, _| state.market.record_response(id, *connection, now));
    }
    match reply.fault {
        Some(
            FaultKind::CutBeforeCommit
            | FaultKind::CutAfterCommit
            | FaultKind::Hang
            | FaultKind::HangBeforeCommit,
        ) => return Ok(false),
        Some(FaultKind::ServerErrorAfterCommit | FaultKind::ReadServerError) => {
            reply.status = 502;
            reply.body = "<html><body>Bad Gateway</body></html>".to_owned();
        }
        _ => {}
    }
    let clock = shared.with(|state, now, _| state.market.clock(now));
    let bytes = reply.bytes(clock);
    match reply.fault {
        Some(FaultKind::HalfBody | FaultKind::ReadCut) => {
            let half = bytes.len().saturating_sub(reply.body.len() / 2);
            stream.write_all(bytes.get(..half).unwrap_or_default()).await?;
            stream.flush().await?;
            return Ok(false);
        }
        Some(FaultKind::Doubled) => {
            stream.write_all(&bytes).await?;
            stream.write_all(&bytes).await?;
        }
        Some(FaultKind::LateRejection) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            tokio::time::sleep(reply.late).await;
            let body = error_body(SaleRejection::NotJoinable.message(), "BAD_USER_INPUT");
            stream.write_all(&ServerReply::json(200, body).bytes(clock)).await?;
        }
        _ => stream.write_all(&bytes).await?,
    }
    stream.flush().await?;
    Ok(true)
}

/// Reads until the client closes the connection.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut ignored = [0; 1_024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Returns the time since the start of the simulator, which is the time base of the history.
pub(super) fn elapsed(shared: &ServerState) -> Duration {
    Instant::now().saturating_duration_since(shared.opened_at)
}
