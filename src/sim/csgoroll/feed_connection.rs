//! WebSocket server of the simulated feed: serves one connection from its upgrade to its close.

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
    feed::{ProtocolReply, ProtocolSession},
    server::{FeedCommand, ServerState},
};
use crate::sim::{
    faults::{FaultChannel, FaultInjector, FaultKind},
    random::{self, Rng},
};

const SUBPROTOCOL: &str = "graphql-transport-ws";
/// Maximum size of a client's message.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Maximum time until the client sends `connection_init`.
const INIT_TIME_MAX: Duration = Duration::from_secs(10);
/// Timeout of a write to the client.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Timeout of the close handshake.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// Number of queued messages after which no more are taken before a flush.
const BATCH_MAX: usize = 256;

/// Checks the upgrade request, and stores its authentication and its subprotocol.
struct UpgradeHead<'a> {
    shared: &'a ServerState,
    signed_in: &'a mut bool,
    has_subprotocol: &'a mut bool,
}

impl Callback for UpgradeHead<'_> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if !matches!(request.uri().path(), "/ws" | "/graphql") {
            let mut not_found = ErrorResponse::new(Some("the feed is at /ws".to_owned()));
            *not_found.status_mut() = StatusCode::NOT_FOUND;
            return Err(not_found);
        }
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let cookie = text(header::COOKIE);
        *self.signed_in = self.shared.with(|state, _, _| state.is_signed_in(cookie));
        let requested = text(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
        *self.has_subprotocol = requested.split(',').any(|one| one.trim() == SUBPROTOCOL);
        if *self.has_subprotocol {
            let chosen = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        Ok(response)
    }
}

/// Serves one feed until its connection ends.
///
/// # Errors
///
/// Returns an error if the handshake or the connection fails.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    shared: &ServerState,
) -> Result<(), Error> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let (mut signed_in, mut has_subprotocol) = (false, false);
    let upgrade =
        UpgradeHead { shared, signed_in: &mut signed_in, has_subprotocol: &mut has_subprotocol };
    let mut socket = accept_hdr_async_with_config(stream, upgrade, Some(config)).await?;
    if !has_subprotocol {
        return close(&mut socket, 4406, "Subprotocol not acceptable").await;
    }
    let (number, commands, faults) = shared.with(|state, _, _| {
        let (number, commands) = state.open_feed();
        (number, commands, Arc::clone(&state.faults))
    });
    let rng = random::stream(shared.settings.seed, number.saturating_add(1_000));
    let feed = FeedConnection {
        socket,
        session: ProtocolSession::new(signed_in),
        injector: FaultInjector::new(&faults, rng.clone()),
        rng,
        is_silent: false,
        presence: FeedPresence { shared, number, subscribed: false },
    };
    feed.run(commands, shared.settings.ping_every).await
}

/// Registration of a feed in the shared state, which ends when it is dropped.
struct FeedPresence<'a> {
    shared: &'a ServerState,
    number: u64,
    subscribed: bool,
}

impl FeedPresence<'_> {
    fn set_subscribed(&mut self, now: bool) {
        if self.subscribed != now {
            let before = std::mem::replace(&mut self.subscribed, now);
            self.shared.with(|state, _, _| state.count_subscribed(before, now));
        }
    }
}

impl Drop for FeedPresence<'_> {
    fn drop(&mut self) {
        self.shared.with(|state, _, _| state.close_feed(self.number, self.subscribed));
    }
}

struct FeedConnection<'a, S> {
    socket: WebSocketStream<S>,
    session: ProtocolSession,
    injector: FaultInjector,
    /// Chooses the values of false events.
    rng: Rng,
    /// Set by [`FaultKind::FeedSilence`]: neither events nor pings are sent.
    is_silent: bool,
    presence: FeedPresence<'a>,
}

/// Regular end of a feed.
enum FeedEnd {
    Close(u16, Arc<str>),
    Cut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FeedConnection<'_, S> {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<FeedCommand>,
        ping_every: Duration,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + INIT_TIME_MAX;
        let mut ping = interval(ping_every);
        let mut second = interval(Duration::from_secs(1));
        loop {
            let end = tokio::select! {
                message = self.socket.next() => match message {
                    Some(message) => self.handle_message(message?).await?,
                    None => Some(FeedEnd::Cut),
                },
                command = commands.recv() => match command {
                    Some(command) => self.apply_commands(command, &mut commands).await?,
                    None => Some(FeedEnd::Close(1013, Arc::from("Too far behind"))),
                },
                _ = ping.tick(), if self.session.is_acknowledged() && !self.is_silent => {
                    self.send(vec![ProtocolReply::Text(r#"{"type":"ping"}"#.to_owned())]).await?
                }
                _ = second.tick(), if self.session.is_subscribed() => {
                    match self.injector.next_fault(&[FaultChannel::Feed]) {
                        Some(kind) => self.apply_fault(kind).await?,
                        None => None,
                    }
                }
                () = sleep_until(deadline), if !self.session.is_acknowledged() => {
                    Some(FeedEnd::Close(4408, Arc::from("Connection initialisation timeout")))
                }
            };
            self.presence.set_subscribed(self.session.is_subscribed());
            match end {
                None => {}
                Some(FeedEnd::Cut) => return Ok(()),
                Some(FeedEnd::Close(code, reason)) => {
                    return close(&mut self.socket, code, &reason).await;
                }
            }
        }
    }

    async fn handle_message(&mut self, message: Message) -> Result<Option<FeedEnd>, Error> {
        match message {
            Message::Text(text) => {
                let replies = self.session.receive(&text);
                self.send(replies).await
            }
            Message::Binary(_) => {
                Ok(Some(FeedEnd::Close(4400, Arc::from("Invalid message received"))))
            }
            Message::Close(_) => Ok(Some(FeedEnd::Cut)),
            Message::Ping(_) => {
                // tungstenite has queued the pong; the flush sends it.
                self.socket.flush().await?;
                Ok(None)
            }
            Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Applies a command and those queued behind it, with one flush for a batch of messages.
    async fn apply_commands(
        &mut self,
        command: FeedCommand,
        commands: &mut mpsc::Receiver<FeedCommand>,
    ) -> Result<Option<FeedEnd>, Error> {
        let mut next = Some(command);
        let mut replies = Vec::new();
        while let Some(command) = next.take() {
            match command {
                FeedCommand::SendEvent(_) | FeedCommand::SendRaw(_) if self.is_silent => {}
                FeedCommand::SendEvent(event) => {
                    replies.extend(self.session.event_messages(&event));
                }
                FeedCommand::SendRaw(text) => replies.push(ProtocolReply::Text(text.to_string())),
                FeedCommand::Close(code, reason) => {
                    self.send(replies).await?;
                    return Ok(Some(FeedEnd::Close(code, reason)));
                }
                FeedCommand::Inject(kind) => {
                    self.send(replies).await?;
                    return self.apply_fault(kind).await;
                }
                FeedCommand::SetFaults(faults) => {
                    self.injector = FaultInjector::new(&faults, self.rng.clone());
                    self.is_silent = false;
                }
            }
            if replies.len() < BATCH_MAX {
                next = commands.try_recv().ok();
            }
        }
        self.send(replies).await
    }

    async fn apply_fault(&mut self, kind: FaultKind) -> Result<Option<FeedEnd>, Error> {
        match kind {
            FaultKind::FeedCut => Ok(Some(FeedEnd::Cut)),
            FaultKind::FeedClose => Ok(Some(FeedEnd::Close(1001, Arc::from("Going away")))),
            FaultKind::FeedSilence => {
                self.is_silent = true;
                Ok(None)
            }
            FaultKind::FeedError => {
                let replies = self.session.fail();
                self.send(replies).await
            }
            FaultKind::FeedComplete => {
                let replies = self.session.complete();
                self.send(replies).await
            }
            _ if self.is_silent => Ok(None),
            kind => {
                let rng = &mut self.rng;
                let event = self.presence.shared.with(|state, now, _| {
                    state.market.false_event(kind, state.market.clock(now), rng)
                });
                let messages = event.map(|event| self.session.event_messages(&event));
                self.send(messages.unwrap_or_default()).await
            }
        }
    }

    async fn send(&mut self, replies: Vec<ProtocolReply>) -> Result<Option<FeedEnd>, Error> {
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

/// Returns an interval whose first tick is after one period.
fn interval(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Sends a close frame and waits for the client's, at most [`CLOSE_TIME_MAX`].
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
