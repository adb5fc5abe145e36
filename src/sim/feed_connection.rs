//! WebSocket server of a feed: serves one connection from its upgrade to its close.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

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
        http::StatusCode,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{
    faults::{FaultChannel, FaultInjector, FaultKind},
    model::{FeedOutput, FeedSession, MarketModel as _},
    random::Rng,
    state::{EventOf, FeedCommand, OpenedFeed, SharedState, SimulatedMarket},
};

/// Maximum size of a client's message.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Timeout of a write to the client.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Timeout of the close handshake.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// Number of queued events after which no more are taken before a flush.
const BATCH_MAX: usize = 256;

/// Checks an upgrade request, and stores the parts that the feed needs.
struct FeedUpgrade<'a, M: SimulatedMarket> {
    shared: &'a SharedState<M>,
    accepted: &'a mut Option<M::Upgrade>,
}

impl<M: SimulatedMarket> Callback for FeedUpgrade<'_, M> {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        match self.shared.with(|state, _, _| M::upgrade(state, request, &mut response)) {
            Ok(accepted) => *self.accepted = Some(accepted),
            Err(text) => {
                let mut not_found = ErrorResponse::new(Some(text.to_owned()));
                *not_found.status_mut() = StatusCode::NOT_FOUND;
                return Err(not_found);
            }
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
pub(super) async fn serve<M: SimulatedMarket, S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    shared: &SharedState<M>,
) -> Result<(), Error> {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let mut accepted = None;
    let upgrade = FeedUpgrade { shared, accepted: &mut accepted };
    let mut socket = accept_hdr_async_with_config(stream, upgrade, Some(config)).await?;
    let Some(accepted) = accepted else { return Ok(()) };
    let opened = shared.with(|state, now, _| state.open_feed(accepted, &shared.settings, now));
    let feed = match opened {
        Ok(feed) => feed,
        Err((code, reason)) => return close(&mut socket, code, reason).await,
    };
    let OpenedFeed { number, session, greeting, injector, rng, commands } = feed;
    let mut presence = FeedPresence { shared, number, subscribed: false };
    presence.set_subscribed(session.is_subscribed());
    let mut feed = FeedConnection { socket, session, injector, rng, is_silent: false, presence };
    match feed.send(greeting).await? {
        None => feed.run(commands).await,
        Some(end) => feed.end(end).await,
    }
}

/// Registration of a feed in the shared state, which ends when it is dropped.
struct FeedPresence<'a, M: SimulatedMarket> {
    shared: &'a SharedState<M>,
    number: u64,
    subscribed: bool,
}

impl<M: SimulatedMarket> FeedPresence<'_, M> {
    fn set_subscribed(&mut self, now: bool) {
        if self.subscribed != now {
            let before = std::mem::replace(&mut self.subscribed, now);
            self.shared.with(|state, _, _| state.count_subscribed(before, now));
        }
    }
}

impl<M: SimulatedMarket> Drop for FeedPresence<'_, M> {
    fn drop(&mut self) {
        self.shared.with(|state, _, _| state.close_feed(self.number, self.subscribed));
    }
}

struct FeedConnection<'a, M: SimulatedMarket, S> {
    socket: WebSocketStream<S>,
    session: M::Feed,
    injector: FaultInjector,
    /// Chooses the values of false events.
    rng: Rng,
    /// Set by [`FaultKind::FeedSilence`]: events are no longer sent.
    is_silent: bool,
    presence: FeedPresence<'a, M>,
}

/// Regular end of a feed.
enum FeedEnd {
    Close(u16, Cow<'static, str>),
    Cut,
}

impl FeedEnd {
    fn of((code, reason): (u16, &'static str)) -> Self {
        Self::Close(code, reason.into())
    }
}

impl<M: SimulatedMarket, S: AsyncRead + AsyncWrite + Unpin> FeedConnection<'_, M, S> {
    fn set_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
        self.session.set_silent(is_silent);
    }

    fn now(&self) -> Duration {
        self.presence.shared.opened_at.elapsed()
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<FeedCommand<EventOf<M>>>,
    ) -> Result<(), Error> {
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
                    None => Some(FeedEnd::Cut),
                },
                command = commands.recv() => match command {
                    Some(command) => self.apply_commands(command, &mut commands).await?,
                    // The sender was dropped because the queue was full.
                    None => Some(FeedEnd::of(M::Feed::TOO_SLOW)),
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

    async fn end(&mut self, end: FeedEnd) -> Result<(), Error> {
        match end {
            FeedEnd::Cut => Ok(()),
            FeedEnd::Close(code, reason) => close(&mut self.socket, code, &reason).await,
        }
    }

    async fn handle_message(&mut self, message: Message) -> Result<Option<FeedEnd>, Error> {
        match message {
            Message::Text(text) => {
                let outputs = self.session.receive(&text, self.now());
                self.send(outputs).await
            }
            Message::Binary(_) => Ok(Some(FeedEnd::of(M::Feed::BINARY))),
            Message::Close(_) => Ok(Some(FeedEnd::Cut)),
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
        command: FeedCommand<EventOf<M>>,
        commands: &mut mpsc::Receiver<FeedCommand<EventOf<M>>>,
    ) -> Result<Option<FeedEnd>, Error> {
        let mut next = Some(command);
        let mut events = Vec::new();
        while let Some(command) = next.take() {
            match command {
                FeedCommand::SendEvent(_) | FeedCommand::SendRaw(_) if self.is_silent => {}
                FeedCommand::SendEvent(event) => events.push(event),
                FeedCommand::SendRaw(text) => {
                    self.send_events(&std::mem::take(&mut events)).await?;
                    self.send(vec![FeedOutput::Text(text.to_string())]).await?;
                }
                FeedCommand::Close(code, reason) => {
                    self.send_events(&events).await?;
                    return Ok(Some(FeedEnd::Close(code, reason.to_string().into())));
                }
                FeedCommand::Inject(kind) => {
                    self.send_events(&events).await?;
                    return self.apply_fault(kind).await;
                }
                FeedCommand::SetFaults(faults) => {
                    self.injector = FaultInjector::new(&faults, self.rng.clone());
                    self.set_silent(false);
                }
            }
            if events.len() < BATCH_MAX {
                next = commands.try_recv().ok();
            }
        }
        self.send_events(&events).await
    }

    async fn send_events(&mut self, events: &[Arc<EventOf<M>>]) -> Result<Option<FeedEnd>, Error> {
        let outputs = self.session.send_events(events);
        self.send(outputs).await
    }

    async fn apply_fault(&mut self, kind: FaultKind) -> Result<Option<FeedEnd>, Error> {
        match kind {
            FaultKind::FeedCut => Ok(Some(FeedEnd::Cut)),
            FaultKind::FeedSilence => {
                self.set_silent(true);
                Ok(None)
            }
            FaultKind::FeedLie
            | FaultKind::PushLie
            | FaultKind::FeedRelist
            | FaultKind::FeedUnlist => {
                if self.is_silent {
                    return Ok(None);
                }
                let (shared, rng) = (self.presence.shared, &mut self.rng);
                let event = shared.with(|state, now, _| state.market.false_event(kind, now, rng));
                let events: Vec<_> = event.map(Arc::new).into_iter().collect();
                self.send_events(&events).await
            }
            kind => {
                let outputs = self.session.fail(kind);
                self.send(outputs).await
            }
        }
    }

    async fn send(&mut self, outputs: Vec<FeedOutput>) -> Result<Option<FeedEnd>, Error> {
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
                        end = Some(FeedEnd::Close(code, reason));
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
