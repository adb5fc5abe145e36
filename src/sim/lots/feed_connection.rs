//! WebSocket server of a feed of lots: serves one connection from its upgrade to its close.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{Callback, ErrorResponse, Request, Response},
        http::{StatusCode, header},
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{
    lot::LotEvent,
    query::Query,
    server::{AccountKeys, LotFeedCommand, LotServerState, LotWire},
};
use crate::{
    domain::time::UnixMs,
    sim::{
        faults::{FaultChannel, FaultInjector, FaultKind},
        random::{self, Rng},
        settings::SimSettings,
    },
};

/// Maximum size of a client's message.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Timeout of a write to the client.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Timeout of the close handshake.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// Number of queued events after which no more are taken before a flush.
const BATCH_MAX: usize = 256;

/// A message to the client, or the end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedOutput {
    Text(String),
    /// Close with this code and reason.
    Close(u16, &'static str),
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

/// Server side of a feed's protocol on one connection. Pure: times are relative to the opening of
/// the market.
pub trait LotFeed: Sized + Send {
    /// Opens the connection after the upgrade. Returns `None` if the request is not acceptable.
    fn open(opening: FeedOpening<'_>, now: Duration) -> Option<(Self, Vec<FeedOutput>)>;

    /// Handles a text message of the client.
    fn receive(&mut self, text: &str, now: Duration) -> Vec<FeedOutput>;

    /// Returns the messages for these events.
    fn send_events(&mut self, events: &[Arc<LotEvent>]) -> Vec<FeedOutput>;

    /// Returns the messages of a fault that is not an event.
    fn fail(&mut self, kind: FaultKind) -> Vec<FeedOutput>;

    /// Returns the time of the next ping or timeout.
    fn next_due(&self) -> Option<Duration>;

    /// Returns the messages that are due: pings and closes.
    fn advance(&mut self, now: Duration) -> Vec<FeedOutput>;

    fn is_subscribed(&self) -> bool;
}

/// Checks the path of an upgrade request, and stores the parts that the feed needs.
struct LotUpgrade<'a> {
    path: &'static str,
    query: &'a mut Query,
    authorization: &'a mut Option<String>,
}

impl Callback for LotUpgrade<'_> {
    fn on_request(self, request: &Request, response: Response) -> Result<Response, ErrorResponse> {
        if request.uri().path() != self.path.split('?').next().unwrap_or_default() {
            let mut not_found = ErrorResponse::new(Some("no feed at this path".to_owned()));
            *not_found.status_mut() = StatusCode::NOT_FOUND;
            return Err(not_found);
        }
        *self.query = Query::parse(request.uri().query().unwrap_or_default());
        let value = request.headers().get(header::AUTHORIZATION);
        *self.authorization = value.and_then(|value| value.to_str().ok()).map(str::to_owned);
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
pub(super) async fn serve<W: LotWire, S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    shared: &LotServerState<W>,
) -> Result<(), Error> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let (mut query, mut authorization) = (Query::default(), None);
    let upgrade =
        LotUpgrade { path: W::FEED_PATH, query: &mut query, authorization: &mut authorization };
    let mut socket = accept_hdr_async_with_config(stream, upgrade, Some(config)).await?;
    let (number, commands, faults, opened_at) = shared.with(|state, _, _| {
        let (number, commands) = state.open_feed();
        let opened_at = state.market.clock(Duration::ZERO);
        (number, commands, Arc::clone(&state.faults), opened_at)
    });
    let mut presence = LotFeedPresence { shared, number, subscribed: false };
    let mut rng = random::stream(shared.settings.seed, number.saturating_add(1_000));
    let opening = FeedOpening {
        account: &shared.account,
        settings: &shared.settings,
        query: &query,
        authorization: authorization.as_deref(),
        opened_at,
        rng: rng.fork(),
    };
    let Some((session, greeting)) = W::Feed::open(opening, shared.opened_at.elapsed()) else {
        return close(&mut socket, 1_002, "bad request").await;
    };
    presence.set_subscribed(session.is_subscribed());
    let injector = FaultInjector::new(&faults, rng.clone());
    let mut feed = LotConnection { socket, session, injector, rng, is_silent: false, presence };
    match feed.send(greeting).await? {
        None => feed.run(commands).await,
        Some(end) => feed.end(end).await,
    }
}

/// Registration of a feed in the shared state, which ends when it is dropped.
struct LotFeedPresence<'a, W: LotWire> {
    shared: &'a LotServerState<W>,
    number: u64,
    subscribed: bool,
}

impl<W: LotWire> LotFeedPresence<'_, W> {
    fn set_subscribed(&mut self, now: bool) {
        if self.subscribed != now {
            let before = std::mem::replace(&mut self.subscribed, now);
            self.shared.with(|state, _, _| state.count_subscribed(before, now));
        }
    }
}

impl<W: LotWire> Drop for LotFeedPresence<'_, W> {
    fn drop(&mut self) {
        self.shared.with(|state, _, _| state.close_feed(self.number, self.subscribed));
    }
}

struct LotConnection<'a, W: LotWire, S> {
    socket: WebSocketStream<S>,
    session: W::Feed,
    injector: FaultInjector,
    /// Chooses the values of false events.
    rng: Rng,
    /// Set by [`FaultKind::FeedSilence`]: events are no longer sent, but pings are.
    is_silent: bool,
    presence: LotFeedPresence<'a, W>,
}

/// Regular end of a feed of lots.
enum LotFeedEnd {
    Close(u16, &'static str),
    Cut,
}

impl<W: LotWire, S: AsyncRead + AsyncWrite + Unpin> LotConnection<'_, W, S> {
    fn now(&self) -> Duration {
        self.presence.shared.opened_at.elapsed()
    }

    async fn run(mut self, mut commands: mpsc::Receiver<LotFeedCommand>) -> Result<(), Error> {
        let every = Duration::from_secs(1);
        let mut second = interval_at(Instant::now() + every, every);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let opened_at = self.presence.shared.opened_at;
            let due = self.session.next_due().and_then(|due| opened_at.checked_add(due));
            let has_due = due.is_some();
            let due = due.map_or_else(Instant::now, Instant::from);
            let end = tokio::select! {
                message = self.socket.next() => match message {
                    Some(message) => self.handle_message(message?).await?,
                    None => Some(LotFeedEnd::Cut),
                },
                command = commands.recv() => match command {
                    Some(command) => self.apply_commands(command, &mut commands).await?,
                    // The sender was dropped because the queue was full.
                    None => Some(LotFeedEnd::Close(1_013, "too far behind")),
                },
                () = sleep_until(due), if has_due => {
                    let outputs = self.session.advance(self.now());
                    self.send(outputs).await?
                }
                _ = second.tick(), if self.session.is_subscribed() => {
                    match self.injector.next_fault(&[FaultChannel::Feed]) {
                        Some(kind) => self.apply_fault(kind).await?,
                        None => None,
                    }
                }
            };
            self.presence.set_subscribed(self.session.is_subscribed());
            if let Some(end) = end {
                return self.end(end).await;
            }
        }
    }

    async fn end(&mut self, end: LotFeedEnd) -> Result<(), Error> {
        match end {
            LotFeedEnd::Cut => Ok(()),
            LotFeedEnd::Close(code, reason) => close(&mut self.socket, code, reason).await,
        }
    }

    async fn handle_message(&mut self, message: Message) -> Result<Option<LotFeedEnd>, Error> {
        match message {
            Message::Text(text) => {
                let outputs = self.session.receive(&text, self.now());
                self.send(outputs).await
            }
            Message::Binary(_) => Ok(Some(LotFeedEnd::Close(1_003, "text expected"))),
            Message::Close(_) => Ok(Some(LotFeedEnd::Cut)),
            Message::Ping(_) => {
                // tungstenite has queued the pong; the flush sends it.
                self.socket.flush().await?;
                Ok(None)
            }
            Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    /// Applies a command and those queued behind it, with one flush for a batch of events.
    async fn apply_commands(
        &mut self,
        command: LotFeedCommand,
        commands: &mut mpsc::Receiver<LotFeedCommand>,
    ) -> Result<Option<LotFeedEnd>, Error> {
        let mut next = Some(command);
        let mut events = Vec::new();
        while let Some(command) = next.take() {
            match command {
                LotFeedCommand::SendEvent(_) if self.is_silent => {}
                LotFeedCommand::SendEvent(event) => events.push(event),
                LotFeedCommand::Inject(kind) => {
                    self.send_events(&events).await?;
                    return self.apply_fault(kind).await;
                }
                LotFeedCommand::SetFaults(faults) => {
                    self.injector = FaultInjector::new(&faults, self.rng.clone());
                    self.is_silent = false;
                }
            }
            if events.len() < BATCH_MAX {
                next = commands.try_recv().ok();
            }
        }
        self.send_events(&events).await
    }

    async fn send_events(&mut self, events: &[Arc<LotEvent>]) -> Result<Option<LotFeedEnd>, Error> {
        let outputs = self.session.send_events(events);
        self.send(outputs).await
    }

    async fn apply_fault(&mut self, kind: FaultKind) -> Result<Option<LotFeedEnd>, Error> {
        match kind {
            FaultKind::FeedCut => Ok(Some(LotFeedEnd::Cut)),
            FaultKind::FeedSilence => {
                self.is_silent = true;
                Ok(None)
            }
            FaultKind::FeedLie
            | FaultKind::PushLie
            | FaultKind::FeedRelist
            | FaultKind::FeedUnlist => {
                if self.is_silent {
                    return Ok(None);
                }
                let rng = &mut self.rng;
                let event =
                    self.presence.shared.with(|state, _, _| state.market.false_event(kind, rng));
                let events: Vec<_> = event.map(Arc::new).into_iter().collect();
                self.send_events(&events).await
            }
            kind => {
                let outputs = self.session.fail(kind);
                self.send(outputs).await
            }
        }
    }

    async fn send(&mut self, outputs: Vec<FeedOutput>) -> Result<Option<LotFeedEnd>, Error> {
        if outputs.is_empty() {
            return Ok(None);
        }
        let socket = &mut self.socket;
        let writing = async {
            let mut end = None;
            for output in outputs {
                match output {
                    FeedOutput::Text(text) => socket.feed(Message::text(text)).await?,
                    FeedOutput::Close(code, reason) => {
                        end = Some(LotFeedEnd::Close(code, reason));
                        break;
                    }
                }
            }
            socket.flush().await?;
            Ok(end)
        };
        match timeout(WRITE_TIME_MAX, writing).await {
            Ok(end) => end,
            Err(_elapsed) => Err(Error::Io(io::ErrorKind::TimedOut.into())),
        }
    }
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
