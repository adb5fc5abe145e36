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
    faults::{Channel, Fate, Kind},
    floor::{Floor, Order},
    protocol::{Reply, Session, Viewer},
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
struct Upgrade<'a> {
    floor: &'a Floor,
    signed_in: &'a mut bool,
    speaks: &'a mut bool,
}

impl Callback for Upgrade<'_> {
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
    floor: &Arc<Floor>,
) -> Result<(), Error> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let (mut signed_in, mut speaks) = (false, false);
    let upgrade = Upgrade { floor, signed_in: &mut signed_in, speaks: &mut speaks };
    let mut socket = accept_hdr_async_with_config(stream, upgrade, Some(config)).await?;
    if !speaks {
        return close(&mut socket, 4406, "Subprotocol not acceptable").await;
    }
    let (number, orders, faults) = floor.with(|state, _, _| {
        let (number, orders) = state.open_feed();
        (number, orders, Arc::clone(&state.faults))
    });
    let dice = Dice::aside(floor.settings.seed, number.saturating_add(1_000));
    let feed = Feed {
        socket,
        session: Session::new(Viewer { signed_in }),
        fate: Fate::new(&faults, dice.clone()),
        dice,
        is_silent: false,
        presence: Presence { floor, number, subscribed: false },
    };
    feed.run(orders, floor.settings.ping_every).await
}

/// A feed's place among those of the market; it is given up when the feed ends, however it does.
struct Presence<'a> {
    floor: &'a Floor,
    number: u64,
    subscribed: bool,
}

impl Presence<'_> {
    fn is_subscribed(&mut self, now: bool) {
        if self.subscribed != now {
            let before = std::mem::replace(&mut self.subscribed, now);
            self.floor.with(|state, _, _| state.subscribed(before, now));
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.floor.with(|state, _, _| state.close_feed(self.number, self.subscribed));
    }
}

struct Feed<'a, S> {
    socket: WebSocketStream<S>,
    session: Session,
    fate: Fate,
    /// What decides what a lie says.
    dice: Dice,
    is_silent: bool,
    presence: Presence<'a>,
}

/// Why a feed ends without an error.
enum End {
    Close(u16, Arc<str>),
    Cut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Feed<'_, S> {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        ping_every: Duration,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + INIT_TIME_MAX;
        let mut ping = every(ping_every);
        let mut second = every(Duration::from_secs(1));
        loop {
            let end = tokio::select! {
                message = self.socket.next() => match message {
                    Some(message) => self.hears(message?).await?,
                    None => Some(End::Cut),
                },
                order = orders.recv() => match order {
                    Some(order) => self.obeys(order, &mut orders).await?,
                    None => Some(End::Close(1013, Arc::from("Too far behind"))),
                },
                _ = ping.tick(), if self.session.is_acknowledged() && !self.is_silent => {
                    self.say(vec![Reply::Text(r#"{"type":"ping"}"#.to_owned())]).await?
                }
                _ = second.tick(), if self.session.is_subscribed() => {
                    match self.fate.strikes(&[Channel::Feed]) {
                        Some(kind) => self.fails(kind).await?,
                        None => None,
                    }
                }
                () = sleep_until(deadline), if !self.session.is_acknowledged() => {
                    Some(End::Close(4408, Arc::from("Connection initialisation timeout")))
                }
            };
            self.presence.is_subscribed(self.session.is_subscribed());
            match end {
                None => {}
                Some(End::Cut) => return Ok(()),
                Some(End::Close(code, reason)) => {
                    return close(&mut self.socket, code, &reason).await;
                }
            }
        }
    }

    async fn hears(&mut self, message: Message) -> Result<Option<End>, Error> {
        match message {
            Message::Text(text) => {
                let replies = self.session.receive(&text);
                self.say(replies).await
            }
            Message::Binary(_) => Ok(Some(End::Close(4400, Arc::from("Invalid message received")))),
            Message::Close(_) => Ok(Some(End::Cut)),
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
        order: Order,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<Option<End>, Error> {
        let mut next = Some(order);
        let mut replies = Vec::new();
        while let Some(order) = next.take() {
            match order {
                Order::Tell(_) | Order::Say(_) if self.is_silent => {}
                Order::Tell(event) => replies.extend(self.session.tell(&event)),
                Order::Say(text) => replies.push(Reply::Text(text.to_string())),
                Order::Close(code, reason) => {
                    self.say(replies).await?;
                    return Ok(Some(End::Close(code, reason)));
                }
                Order::Fail(kind) => {
                    self.say(replies).await?;
                    return self.fails(kind).await;
                }
                Order::Faults(faults) => {
                    self.fate = Fate::new(&faults, self.dice.clone());
                    self.is_silent = false;
                }
            }
            if replies.len() < WRITTEN_AT_ONCE_MAX {
                next = orders.try_recv().ok();
            }
        }
        self.say(replies).await
    }

    async fn fails(&mut self, kind: Kind) -> Result<Option<End>, Error> {
        match kind {
            Kind::FeedCut => Ok(Some(End::Cut)),
            Kind::FeedClose => Ok(Some(End::Close(1001, Arc::from("Going away")))),
            Kind::FeedSilence => {
                self.is_silent = true;
                Ok(None)
            }
            Kind::FeedError => {
                let replies = self.session.fail();
                self.say(replies).await
            }
            Kind::FeedComplete => {
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

    async fn say(&mut self, replies: Vec<Reply>) -> Result<Option<End>, Error> {
        if replies.is_empty() {
            return Ok(None);
        }
        let socket = &mut self.socket;
        let writing = async {
            for reply in replies {
                match reply {
                    Reply::Text(text) => socket.feed(Message::text(text)).await?,
                    Reply::Close(code, reason) => {
                        return Ok(Some(End::Close(code, Arc::from(reason))));
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
