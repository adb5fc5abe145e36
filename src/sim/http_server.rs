//! The practice market's HTTP side: `POST /graphql` over HTTP/1.1, kept alive, bounded, and failing
//! on demand.

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
    dice::Dice,
    faults::{self, FaultChannel, FaultKind},
    graphql::{self, GraphqlCall, GraphqlRequest, ParsedRequest, error_body},
    http_head::{BODY_BYTES_MAX, REQUEST_TIME_MAX, RequestHead, read_head},
    listing::Listing,
    market_books,
    market_state::{MarketEvent, MarketState, SaleRejection},
    server_state::{ServerState, State},
};
use crate::{domain::money::Amount, domain::time::UnixMs};

/// What [`FaultKind::WrongPrice`] adds.
const SURCHARGE: Amount = Amount::from_cents(100);
/// What stands in a challenge page.
const CHALLENGE_PAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking that you are a person.</body></html>";

/// A connection, as the books know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientConnection {
    /// Its number.
    pub(super) number: u64,
    /// When it was accepted, since the market opened.
    pub(super) opened: Duration,
}

/// What to write, and what to do then.
#[derive(Debug)]
struct ServerReply {
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: String,
    fault: Option<FaultKind>,
    closes: bool,
    /// The listing and the connection of the order that this answers.
    order: Option<(String, u64)>,
    /// How long after it what belongs to no request is sent, where the fault wants that.
    late: Duration,
}

impl ServerReply {
    const fn json(status: u16, body: String) -> Self {
        let (fault, closes, order, late) = (None, false, None, Duration::ZERO);
        Self { status, headers: &[], body, fault, closes, order, late }
    }

    fn last(self) -> Self {
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
/// An error of the connection; nobody but a log needs to know.
///
/// # Cancel safety
///
/// Dropping it drops the connection, maybe between a purchase and its answer.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut buffer: BytesMut,
    floor: &Arc<ServerState>,
    connection: ClientConnection,
) -> io::Result<()> {
    let idle = floor.settings.http_idle;
    while let Some(head) = read_head(stream, &mut buffer, idle).await? {
        let reply = if let Some(refused) = refuse(&head) {
            refused
        } else {
            buffer.advance(head.bytes);
            let body = timeout(REQUEST_TIME_MAX, read_body(stream, &mut buffer, head.body_bytes));
            let body = body.await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            answer(floor, &head, &body, connection)
        };
        let closes = reply.closes || head.closes;
        if !write(stream, floor, reply).await? || closes {
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

/// What is refused for its head alone. The body is not read, so the connection ends.
fn refuse(head: &RequestHead) -> Option<ServerReply> {
    let refuse = |status, message| {
        Some(ServerReply::json(status, error_body(message, "BAD_REQUEST")).last())
    };
    if head.is_chunked {
        return refuse(411, "a length is required");
    }
    if head.body_bytes > BODY_BYTES_MAX {
        return refuse(413, "the body is too long");
    }
    None
}

fn answer(
    floor: &ServerState,
    head: &RequestHead,
    body: &[u8],
    connection: ClientConnection,
) -> ServerReply {
    let path = head.path.split('?').next().unwrap_or_default();
    if path != "/graphql" {
        return ServerReply::json(
            404,
            error_body("there is only /graphql and /ws here", "NOT_FOUND"),
        );
    }
    match &*head.method {
        "POST" => {}
        "OPTIONS" => return ServerReply::json(204, String::new()),
        _ => {
            return ServerReply::json(405, error_body("only POST is served", "METHOD_NOT_ALLOWED"));
        }
    }
    floor.with(|state, now, events| {
        state.visits.requests = state.visits.requests.saturating_add(1);
        let request = match graphql::read(body) {
            Ok(request) => request,
            Err(unreadable) => return ServerReply::json(unreadable.status, unreadable.body),
        };
        let signed_in = state.is_signed_in(head.cookie.as_deref());
        match request.wanted_id() {
            Some(id) => {
                let buy = OrderAttempt { request: &request, id, signed_in, connection };
                buy.carry_out(state, now, events)
            }
            None => {
                let fault = state.fate.strikes(channels(&request, &state.exchange));
                let lie = fault.map(|kind| (kind, Dice::new(state.dice.next())));
                let asked = ParsedRequest { request: &request, signed_in, lie };
                let body = graphql::answer(&mut state.exchange, now, asked, events);
                ServerReply { fault, ..ServerReply::json(200, body) }
            }
        }
    })
}

/// Where a read can go wrong. What keeps a connection warm asks for nothing, and never does.
fn channels(request: &GraphqlRequest, exchange: &MarketState) -> &'static [FaultChannel] {
    match &request.call {
        GraphqlCall::CurrentUser => &[FaultChannel::Reads, FaultChannel::Account],
        GraphqlCall::Trades(listed) if listed.is_of(exchange.user_id()) => {
            &[FaultChannel::Reads, FaultChannel::Purchases]
        }
        GraphqlCall::Trades(_) => &[FaultChannel::Reads],
        GraphqlCall::Join { .. } | GraphqlCall::Typename => &[],
    }
}

/// A request to buy.
struct OrderAttempt<'a> {
    request: &'a GraphqlRequest,
    id: &'a str,
    signed_in: bool,
    connection: ClientConnection,
}

impl OrderAttempt<'_> {
    fn carry_out(
        &self,
        state: &mut State,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) -> ServerReply {
        let fault = state.fate.strikes(&[FaultChannel::Orders]);
        let (decision, reply) = match fault.and_then(canned) {
            Some(reply) => (market_books::JoinDecision::Ignored, reply),
            None => {
                let exchange = &mut state.exchange;
                let result = graphql::joins(exchange, now, self.request, self.signed_in, events);
                let decision = market_books::JoinDecision::from(&result);
                let body = match (&result, fault) {
                    (Err(refusal), _) => self.request.refused(*refusal),
                    (Ok(_), Some(FaultKind::Empty)) => self.request.joined(&[]),
                    (Ok(sold), Some(FaultKind::Foreign)) => {
                        let number = sold.number.saturating_add(1);
                        self.request.joined(&[&Listing { number, ..Listing::clone(sold) }])
                    }
                    (Ok(sold), Some(FaultKind::WrongPrice)) => {
                        let dearer = exchange.surcharge(now, sold, SURCHARGE, events);
                        self.request.joined(&[&dearer])
                    }
                    (Ok(sold), Some(kind)) => {
                        let price = told_price(kind, sold.offer.total, &mut state.dice);
                        self.request.joined(&[&sold.priced(price)])
                    }
                    (Ok(sold), None) => self.request.joined(&[sold]),
                };
                let (least, most) = faults::LATE_REJECTION_AFTER;
                let late = state.dice.wait(least, most);
                (decision, ServerReply { fault, late, ..ServerReply::json(200, body) })
            }
        };
        state.exchange.note(
            self.id,
            market_books::BookedRequest {
                at: now,
                connection: self.connection.number,
                connected_at: self.connection.opened,
                fault,
                decision,
                answered_at: None,
            },
        );
        ServerReply { order: Some((self.id.to_owned(), self.connection.number)), ..reply }
    }
}

/// What the answer says that a purchase cost.
fn told_price(kind: FaultKind, price: Amount, dice: &mut Dice) -> Amount {
    let cents = price.cents();
    Amount::from_cents(match kind {
        FaultKind::PriceLow => dice.cents(1, cents.saturating_sub(1).max(1)),
        FaultKind::PriceZero => 0,
        FaultKind::PriceHigh => dice.cents(cents.saturating_add(1), cents.saturating_mul(3)),
        _ => cents,
    })
}

/// What a fault that leaves the listing alone answers instead.
fn canned(kind: FaultKind) -> Option<ServerReply> {
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

/// Writes a reply, or fails to as told. Says whether the connection goes on.
async fn write(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    floor: &ServerState,
    mut reply: ServerReply,
) -> io::Result<bool> {
    match reply.fault {
        Some(FaultKind::Hang | FaultKind::HangBeforeCommit) => until_closed(stream).await?,
        Some(FaultKind::Slow | FaultKind::ReadSlow) => {
            tokio::time::sleep(faults::SLOW_ANSWER).await
        }
        _ => {}
    }
    if let Some((id, connection)) = &reply.order {
        // Before the answer leaves: the client may send its next order as soon as it has it.
        floor.with(|state, now, _| state.exchange.answered(id, *connection, now));
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
    let clock = floor.with(|state, now, _| state.exchange.clock(now));
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

/// Waits until the client gives up, which closes the connection.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut ignored = [0; 1_024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// The moment at which a connection was accepted, as the books have it.
pub(super) fn opened(floor: &ServerState) -> Duration {
    Instant::now().saturating_duration_since(floor.opened)
}
