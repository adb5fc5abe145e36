//! The practice market's feed: one WebSocket, from its upgrade to its end.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{Callback, ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode, header},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{
    dice::Dice,
    faults::{FaultChannel, FaultInjector, FaultKind},
    protocol::{ProtocolReply, ProtocolSession, Viewer},
    server_state::{FeedOrder, ServerState},
};

/// The only subprotocol that is spoken.
pub(super) const SUBPROTOCOL: &str = "graphql-transport-ws";
/// The longest message that a client may send, in bytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// How long a client may take to initialise the connection.
const INIT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to read what is written to it.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to answer a close.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// How many messages are written before they are flushed.
const WRITTEN_AT_ONCE_MAX: usize = 256;

/// What the upgrade's head says.
struct UpgradeHead<'a> {
    floor: &'a ServerState,
    signed_in: &'a mut bool,
    speaks: &'a mut bool,
}

impl Callback for UpgradeHead<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if !matches!(request.uri().path(), "/ws" | "/graphql") {
            let mut refused = ErrorResponse::new(Some("there is only /ws here".to_owned()));
            *refused.status_mut() = StatusCode::NOT_FOUND;
            return Err(refused);
        }
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let cookie = text(header::COOKIE);
        *self.signed_in = self.floor.with(|state, _, _| state.is_signed_in(cookie));
        let offered = text(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        *self.speaks = offered.split(',').any(|one| one.trim() == SUBPROTOCOL);
        if *self.speaks {
            let chosen = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        Ok(response)
    }
}

/// Serves one feed until it ends.
///
/// # Errors
///
/// An error of the connection; nobody but a log needs to know.
///
/// # Cancel safety
///
/// Dropping it drops the connection.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    floor: &Arc<ServerState>,
) -> Result<(), Error> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let (mut signed_in, mut speaks) = (false, false);
    let upgrade = UpgradeHead { floor, signed_in: &mut signed_in, speaks: &mut speaks };
    let mut socket = accept_hdr_async_with_config(stream, upgrade, Some(config)).await?;
    if !speaks {
        return close(&mut socket, 4406, "Subprotocol not acceptable").await;
    }
    let (number, orders, faults) = floor.with(|state, _, _| {
        let (number, orders) = state.open_feed();
        (number, orders, Arc::clone(&state.faults))
    });
    let dice = Dice::aside(floor.settings.seed, number.saturating_add(1_000));
    let feed = FeedConnection {
        socket,
        session: ProtocolSession::new(Viewer { signed_in }),
        fate: FaultInjector::new(&faults, dice.clone()),
        dice,
        is_silent: false,
        presence: FeedPresence { floor, number, subscribed: false },
    };
    feed.run(orders, floor.settings.ping_every).await
}

/// A feed's place among those of the market; it is given up when the feed ends, however it does.
struct FeedPresence<'a> {
    floor: &'a ServerState,
    number: u64,
    subscribed: bool,
}

impl FeedPresence<'_> {
    fn is_subscribed(&mut self, now: bool) {
        if self.subscribed != now {
            let before = std::mem::replace(&mut self.subscribed, now);
            self.floor.with(|state, _, _| state.subscribed(before, now));
        }
    }
}

impl Drop for FeedPresence<'_> {
    fn drop(&mut self) {
        self.floor.with(|state, _, _| state.close_feed(self.number, self.subscribed));
    }
}

struct FeedConnection<'a, S> {
    socket: WebSocketStream<S>,
    session: ProtocolSession,
    fate: FaultInjector,
    /// What decides what a lie says.
    dice: Dice,
    is_silent: bool,
    presence: FeedPresence<'a>,
}

/// Why a feed ends without an error.
enum FeedEnd {
    Close(u16, Arc<str>),
    Cut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FeedConnection<'_, S> {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<FeedOrder>,
        ping_every: Duration,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + INIT_TIME_MAX;
        let mut ping = every(ping_every);
        let mut second = every(Duration::from_secs(1));
        loop {
            let end = tokio::select! {
                message = self.socket.next() => match message {
                    Some(message) => self.hears(message?).await?,
                    None => Some(FeedEnd::Cut),
                },
                order = orders.recv() => match order {
                    Some(order) => self.obeys(order, &mut orders).await?,
                    None => Some(FeedEnd::Close(1013, Arc::from("Too far behind"))),
                },
                _ = ping.tick(), if self.session.is_acknowledged() && !self.is_silent => {
                    self.say(vec![ProtocolReply::Text(r#"{"type":"ping"}"#.to_owned())]).await?
                }
                _ = second.tick(), if self.session.is_subscribed() => {
                    match self.fate.strikes(&[FaultChannel::Feed]) {
                        Some(kind) => self.fails(kind).await?,
                        None => None,
                    }
                }
                () = sleep_until(deadline), if !self.session.is_acknowledged() => {
                    Some(FeedEnd::Close(4408, Arc::from("Connection initialisation timeout")))
                }
            };
            self.presence.is_subscribed(self.session.is_subscribed());
            match end {
                None => {}
                Some(FeedEnd::Cut) => return Ok(()),
                Some(FeedEnd::Close(code, reason)) => {
                    return close(&mut self.socket, code, &reason).await;
                }
            }
        }
    }

    async fn hears(&mut self, message: Message) -> Result<Option<FeedEnd>, Error> {
        match message {
            Message::Text(text) => {
                let replies = self.session.receive(&text);
                self.say(replies).await
            }
            Message::Binary(_) => {
                Ok(Some(FeedEnd::Close(4400, Arc::from("Invalid message received"))))
            }
            Message::Close(_) => Ok(Some(FeedEnd::Cut)),
            Message::Ping(_) => {
                // The answer is queued already; it only has to leave.
                self.socket.flush().await?;
                Ok(None)
            }
            Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Carries an order out, and those that wait behind it.
    async fn obeys(
        &mut self,
        order: FeedOrder,
        orders: &mut mpsc::Receiver<FeedOrder>,
    ) -> Result<Option<FeedEnd>, Error> {
        let mut next = Some(order);
        let mut replies = Vec::new();
        while let Some(order) = next.take() {
            match order {
                FeedOrder::Tell(_) | FeedOrder::Say(_) if self.is_silent => {}
                FeedOrder::Tell(event) => replies.extend(self.session.tell(&event)),
                FeedOrder::Say(text) => replies.push(ProtocolReply::Text(text.to_string())),
                FeedOrder::Close(code, reason) => {
                    self.say(replies).await?;
                    return Ok(Some(FeedEnd::Close(code, reason)));
                }
                FeedOrder::Fail(kind) => {
                    self.say(replies).await?;
                    return self.fails(kind).await;
                }
                FeedOrder::Faults(faults) => {
                    self.fate = FaultInjector::new(&faults, self.dice.clone());
                    self.is_silent = false;
                }
            }
            if replies.len() < WRITTEN_AT_ONCE_MAX {
                next = orders.try_recv().ok();
            }
        }
        self.say(replies).await
    }

    async fn fails(&mut self, kind: FaultKind) -> Result<Option<FeedEnd>, Error> {
        match kind {
            FaultKind::FeedCut => Ok(Some(FeedEnd::Cut)),
            FaultKind::FeedClose => Ok(Some(FeedEnd::Close(1001, Arc::from("Going away")))),
            FaultKind::FeedSilence => {
                self.is_silent = true;
                Ok(None)
            }
            FaultKind::FeedError => {
                let replies = self.session.fail();
                self.say(replies).await
            }
            FaultKind::FeedComplete => {
                let replies = self.session.complete();
                self.say(replies).await
            }
            _ if self.is_silent => Ok(None),
            kind => {
                let dice = &mut self.dice;
                let lie = self.presence.floor.with(|state, now, _| {
                    state.exchange.lie(kind, state.exchange.clock(now), dice)
                });
                let replies = lie.map(|lie| self.session.tell(&lie)).unwrap_or_default();
                self.say(replies).await
            }
        }
    }

    async fn say(&mut self, replies: Vec<ProtocolReply>) -> Result<Option<FeedEnd>, Error> {
        if replies.is_empty() {
            return Ok(None);
        }
        let socket = &mut self.socket;
        let writing = async {
            for reply in replies {
                match reply {
                    ProtocolReply::Text(text) => socket.feed(Message::text(text)).await?,
                    ProtocolReply::Close(code, reason) => {
                        return Ok(Some(FeedEnd::Close(code, Arc::from(reason))));
                    }
                }
            }
            socket.flush().await?;
            Ok(None)
        };
        match timeout(WRITE_TIME_MAX, writing).await {
            Ok(end) => end,
            Err(_elapsed) => Err(Error::Io(io::ErrorKind::TimedOut.into())),
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Closes properly: says so, and waits a little for the other side to agree.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    code: u16,
    reason: &str,
) -> Result<(), Error> {
    let frame = CloseFrame { code: code.into(), reason: reason.into() };
    let closing = async {
        socket.close(Some(frame)).await?;
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
        Ok(())
    };
    timeout(CLOSE_TIME_MAX, closing).await.unwrap_or(Ok(()))
}
