//! One WebSocket session, from its subscriptions to its end.
//!
//! One loop reads, answers pings, writes the outbox and checks the timers; it waits only for the
//! socket and the clock. Messages come first after each wake; after [`MESSAGES_PER_TURN`] of them,
//! and the rest of their read, the timers are checked even if more arrive.
//!
//! Messages that arrive together are scanned first. Those with listings of unwanted items only wait
//! until the others are handled and the socket has no more bytes. They are handled in their order,
//! before the session ends, and a few at a time, so that newly received messages come first.
//!
//! A timer never fires before the bytes in the socket were read: after a standstill of the process
//! both its timers are overdue and its socket is full.
//!
//! # Invariants
//!
//! 1. Every message is bounded by [`MESSAGE_BYTES_MAX`](super::MESSAGE_BYTES_MAX), every write by a
//!    deadline, the outbox by a size.
//! 2. A malformed message is dropped and counted; the connection stays up.
//! 3. A server that violates RFC 6455 is closed with 1002, 1007 or 1009.

mod state;

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use futures_util::Sink as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use self::state::SessionState;
pub use self::state::{OUTBOX_MAX, WriteProgress};
use super::{
    connect::{Arrival, HandledBytes, MESSAGES_PER_READ_MAX, MessagesBehind, Socket},
    error::FeedError,
    frames::WsMessage,
    metrics::HandledMessage,
    policy::ReconnectionLimits,
    watchdog::ArrivalStats,
};
use crate::{
    config::CACHE_WARMING_INTERVAL,
    domain::latency::RxTimestamps,
    markets::{Scan, UnnamedEvent},
    net::deadline::{CATCH_UP_MAX, DriverTick},
    protocol::{
        FeedMessage, FeedProtocol, MessageError, OperationId, Subscription, SubscriptionState,
    },
};

/// Maximum bytes buffered for writing inside the WebSocket.
pub(super) const WRITE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Time for which messages wait at least, so that a burst has ended when they are handled.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// Number of received messages after which, at the end of a read, the timers are checked and other
/// tasks run.
const MESSAGES_PER_TURN: usize = 128;
/// Maximum waiting messages that are handled before the socket is read again.
const WAITING_PER_TURN: usize = 8;
/// Interval of messages up to which a message belongs to the burst of the one before it. A message
/// that arrives alone is not scanned, because nothing waits for it.
const BURST_INTERVAL_MAX: Duration = Duration::from_micros(250);
/// Size from which a message is scanned even if it arrived alone: it contains several listings.
pub const BATCH_BYTES_MIN: usize = 8 * 1024;
/// Delay of a timer check that indicates a standstill of the process. The interval before the next
/// data is then not recorded. It is longer than `SUSPEND_DELAY_MIN`, because a busy machine delays
/// timers too, and the watchdog must not lose the intervals that it measures there.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Maximum length of a message that is read again for cache warming, in bytes.
const SAMPLE_BYTES_MAX: usize = 8_192;

/// Order in which a message is handled among those that arrived before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandlingOrder {
    /// After the messages that wait: it may change the meaning of the subscriptions.
    InTurn,
    /// Now, before the messages that wait.
    First,
    /// It waits until the other messages are handled.
    Last,
    /// Counted at once, and not read.
    Counted(UnnamedEvent),
}

/// A session over one socket.
pub(super) struct Session<S, P>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket: Socket<S>,
    state: SessionState<P>,
    timer: Pin<Box<Sleep>>,
    /// Time at which messages that wait are handled.
    waiting_until: Option<Instant>,
    /// Time of the last read with a complete message.
    last_received: Option<Instant>,
    /// Set while a timer check is due and the socket is read first.
    overdue: Option<OverdueCheck>,
    warming: Option<CacheWarming>,
}

/// Reads a message again while the session is idle, to keep the code of its reading in the CPU
/// caches.
struct CacheWarming {
    sample: String,
    due: Instant,
}

/// Reads that precede an overdue timer check.
struct OverdueCheck {
    since: Instant,
    tick: Option<DriverTick>,
}

/// Returns the time of the monotonic clock, which tests can pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: FeedProtocol> Session<S, P> {
    pub(super) fn new(
        socket: Socket<S>,
        subscriptions: SubscriptionState<P>,
        limits: &ReconnectionLimits,
    ) -> Self {
        let now = now();
        Self {
            socket,
            state: SessionState::new(subscriptions, limits, now),
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            waiting_until: None,
            last_received: None,
            overdue: None,
            warming: None,
        }
    }

    /// Returns the last time at which the session was known to deliver. For a server that answers
    /// pings and delivers nothing this is the time of its last data.
    pub(super) const fn alive_until(&self, ended: &FeedError) -> Instant {
        match ended {
            FeedError::Idle(_) => self.state.watchdog.data_since(),
            _ => self.state.watchdog.last_frame(),
        }
    }

    /// Returns the age at which the server ends the connection.
    pub(super) fn max_age(&self) -> Option<Duration> {
        self.state.subscriptions.max_age()
    }

    /// Runs the session until its end and returns the cause.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost between two calls.
    pub(super) async fn run<H: SessionHandler<P>>(
        &mut self,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> FeedError {
        let ended = poll_fn(|cx| match self.poll_run(cx, handler, arrival_stats) {
            Poll::Ready(Err(ended)) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        })
        .await;
        match &ended {
            FeedError::Violation { violation, .. } => self.close(violation.code()).await,
            FeedError::Idle(_) => self.close(1_000).await,
            FeedError::Closed { .. } => self.answer_close().await,
            _ => {}
        }
        ended
    }

    fn poll_run<H: SessionHandler<P>>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> Poll<Result<Infallible, FeedError>> {
        loop {
            let mut count = 0_usize;
            let mut first_frame_at = None;
            let is_drained = loop {
                if count >= MESSAGES_PER_TURN {
                    break false;
                }
                match self.socket.poll_messages(cx, MESSAGES_PER_READ_MAX) {
                    Poll::Ready(received) => {
                        let framed = now();
                        if first_frame_at.is_none() {
                            first_frame_at = Some(framed);
                            self.state.interrupt_after_stall(arrival_stats, framed);
                        }
                        let handled = received.and_then(|received| {
                            count = count.saturating_add(received);
                            self.handle_received(received, framed, handler, arrival_stats)
                        });
                        if let Err(end) = handled {
                            // Messages that arrived before the end are handled.
                            self.handle_waiting(usize::MAX, handler, arrival_stats)?;
                            return Poll::Ready(Err(end));
                        }
                    }
                    Poll::Pending => {
                        if self.waiting_until.is_some_and(|until| now() < until) {
                            break true;
                        }
                        self.handle_waiting(WAITING_PER_TURN, handler, arrival_stats)?;
                        break self.socket.waiting() == 0;
                    }
                }
            };
            let now = first_frame_at.unwrap_or_else(now);
            self.state.apply_commands(cx, handler, now)?;
            self.poll_outbox(cx, now)?;
            if self.state.next_check <= now {
                if self.must_read_first(cx, now, is_drained) {
                    return Poll::Pending;
                }
                self.state.check_timers(handler, arrival_stats, now)?;
                self.poll_outbox(cx, now)?;
            }
            if is_drained {
                self.warm_caches(handler, now);
            }
            self.arm_timer();
            if !is_drained {
                // More frames are available; other tasks run first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Handles the last `count` messages, except for those that can wait.
    #[inline]
    fn handle_received<H: SessionHandler<P>>(
        &mut self,
        count: usize,
        received: Instant,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> Result<(), FeedError> {
        if count == 0 {
            // The buffer is full of messages that wait.
            return self.handle_waiting(usize::MAX, handler, arrival_stats);
        }
        let mut index = self.socket.waiting().saturating_sub(count);
        let before = self.last_received.replace(received);
        let is_burst = before
            .is_some_and(|before| received.saturating_duration_since(before) < BURST_INTERVAL_MAX);
        let is_alone = self.socket.waiting() == 1 && !is_burst;
        while index < self.socket.waiting() {
            let order = self.handling_order(index, (received, is_alone), handler);
            if order == HandlingOrder::Last {
                let until = received.checked_add(WAIT_MIN).unwrap_or(received);
                self.waiting_until.get_or_insert(until);
                index = index.saturating_add(1);
                continue;
            }
            if let HandlingOrder::Counted(event) = order {
                self.count_unnamed(index, event, handler, arrival_stats);
                index = index.saturating_add(1).saturating_sub(self.release_handled(handler));
                continue;
            }
            if order == HandlingOrder::InTurn {
                while index > 0 {
                    let handled = self.handle_first(handler, arrival_stats)?;
                    index = index.saturating_sub(handled);
                }
            }
            self.handle(index, handler, arrival_stats)?;
            // Without messages that wait before it, the message was removed.
            index = index.saturating_add(1).saturating_sub(self.release_handled(handler));
        }
        Ok(())
    }

    #[inline]
    fn handling_order<H: SessionHandler<P>>(
        &self,
        index: usize,
        (received, is_alone): (Instant, bool),
        handler: &mut H,
    ) -> HandlingOrder {
        let Some(text) = self.socket.unchecked_text(index) else { return HandlingOrder::InTurn };
        let is_single = is_alone && text.len() < BATCH_BYTES_MIN;
        if is_single && !H::COUNTS_UNNAMED {
            return HandlingOrder::InTurn;
        }
        match self.state.handling_order(text, &self.socket.arrival(index, received), handler) {
            // Nothing arrived that it could wait for.
            HandlingOrder::Last if is_single => HandlingOrder::InTurn,
            order => order,
        }
    }

    /// Counts a message without reading it.
    #[inline]
    fn count_unnamed<H: SessionHandler<P>>(
        &mut self,
        index: usize,
        event: UnnamedEvent,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) {
        let Some(text) = self.socket.unchecked_text(index) else { return };
        let (bytes, framed) = (text.len(), now());
        let arrival = self.socket.arrival(index, framed);
        let at = arrival.at.read;
        self.state.count_unnamed((event, bytes), framed, handler, arrival_stats);
        self.socket.mark_handled(index, HandledMessage::new(at, true));
    }

    #[inline]
    fn handle<H: SessionHandler<P>>(
        &mut self,
        index: usize,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> Result<(), FeedError> {
        let arrival = self.socket.arrival(index, now());
        let message = self.socket.message(index);
        let at = arrival.at.read;
        let ended = match self.state.handle(message, &arrival, handler, arrival_stats) {
            Ok(is_data) => {
                if is_data && self.warming.is_none() && handler.warms_caches() {
                    self.start_warming(index);
                }
                self.socket.mark_handled(index, HandledMessage::new(at, is_data));
                return Ok(());
            }
            Err(ended) => ended,
        };
        self.socket.mark_handled(index, HandledMessage::new(at, false));
        self.socket.discard_behind(index);
        Err(ended)
    }

    /// Starts cache warming with a message that was handled.
    #[cold]
    fn start_warming(&mut self, index: usize) {
        let text = self.socket.unchecked_text(index).filter(|text| text.len() <= SAMPLE_BYTES_MAX);
        if let Some(Ok(text)) = text.map(std::str::from_utf8) {
            self.warming = Some(CacheWarming { sample: text.to_owned(), due: now() });
        }
    }

    /// Reads the sample if that is due.
    fn warm_caches<H: SessionHandler<P>>(&mut self, handler: &H, now: Instant) {
        if let Some(warming) = self.warming.as_mut().filter(|warming| warming.due <= now) {
            warming.due = now.checked_add(CACHE_WARMING_INTERVAL).unwrap_or(now);
            self.state.read_sample(&warming.sample, handler);
        }
    }

    /// Handles at most `max` messages that waited.
    fn handle_waiting<H: SessionHandler<P>>(
        &mut self,
        max: usize,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> Result<(), FeedError> {
        for _ in 0..max.min(self.socket.waiting()) {
            if self.socket.waiting() == 0 {
                break;
            }
            self.handle_first(handler, arrival_stats)?;
        }
        Ok(())
    }

    /// Handles the first message, which waited. Returns the number of removed messages.
    fn handle_first<H: SessionHandler<P>>(
        &mut self,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> Result<usize, FeedError> {
        handler.on_waited();
        self.handle(0, handler, arrival_stats)?;
        Ok(self.release_handled(handler))
    }

    /// Passes the handled messages at the front to the handler and removes them. Returns their
    /// number.
    #[inline]
    fn release_handled<H: SessionHandler<P>>(&mut self, handler: &mut H) -> usize {
        let mut count = 0_usize;
        while let Some(handled) = self.socket.pop_handled() {
            handler.on_handled(handled);
            count = count.saturating_add(1);
        }
        if self.socket.waiting() == 0 {
            self.waiting_until = None;
        }
        count
    }

    /// Returns `true` if the timers must wait because the socket may have unread bytes. The task is
    /// then woken again; after [`CATCH_UP_MAX`] the timers wait no longer.
    fn must_read_first(&mut self, cx: &Context<'_>, now: Instant, is_drained: bool) -> bool {
        let overdue = self.overdue.get_or_insert(OverdueCheck { since: now, tick: None });
        if DriverTick::poll(&mut overdue.tick, cx).is_pending() {
            return true;
        }
        if !is_drained && now.saturating_duration_since(overdue.since) < CATCH_UP_MAX {
            cx.waker().wake_by_ref();
            return true;
        }
        self.overdue = None;
        false
    }

    /// Writes as much of the outbox as the socket accepts.
    fn poll_outbox(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), FeedError> {
        self.state.outbox.poll(self.socket.writer(), cx, now)
    }

    /// Returns the texts of [`SessionCommand::Send`] that are not known to be written.
    pub(super) fn unwritten(&self) -> Vec<(String, WriteProgress)> {
        self.state.outbox.unwritten()
    }

    /// Sets the timer to the next check, unless it is set already.
    fn arm_timer(&mut self) {
        let at = self.state.wake_at();
        let at = self.waiting_until.map_or(at, |until| at.min(until));
        let at = self.warming.as_ref().map_or(at, |warming| at.min(warming.due));
        if self.timer.deadline().into_std() != at {
            self.timer.as_mut().reset(at.into());
        }
    }
}

/// Session events other than data.
#[derive(Debug)]
pub(super) enum SessionNotice<'a> {
    /// A message that could not be parsed.
    Malformed { message: FeedMessage<'a>, error: MessageError },
    /// A message of a kind that the protocol does not use.
    UnusedKind(FeedMessage<'a>),
    /// A message of an unknown type.
    Unknown(FeedMessage<'a>),
    /// A subscription ended on a live connection.
    Ended {
        operation: OperationId,
        /// Error of the server, if it was one.
        error: Option<&'a str>,
        /// Time until it is subscribed to again; `None` if it is given up.
        retry_in: Option<Duration>,
    },
    /// A subscription was written again and can deliver from now on.
    Resubscribed { operation: OperationId },
    /// No data arrived for this long: everything is subscribed to again.
    Resubscribing { silent: Duration },
    /// The session has lasted for `stable_after`.
    Stable,
}

/// Requests from a handler to its session.
#[derive(Debug)]
pub(super) enum SessionCommand {
    /// Subscribe at this time, or as soon as the session is live.
    Subscribe(Subscription, Instant),
    Unsubscribe(OperationId),
    /// Write this text unchanged.
    Send(String),
}

/// Receives the events of a session and issues commands.
pub(super) trait SessionHandler<P: FeedProtocol> {
    /// Type of an event's decoded payload.
    type Payload<'a>;

    /// `true` if [`scan`](Self::scan) returns [`Scan::Unnamed`].
    const COUNTS_UNNAMED: bool = false;

    /// Decodes the payload of an event.
    fn decode<'a>(&self, input: &mut P::Input<'a>) -> Result<Self::Payload<'a>, P::DecodeError>;

    /// Returns `true` if listings can lead to orders, so that their code is kept in the CPU caches.
    fn warms_caches(&self) -> bool {
        false
    }

    /// Receives each message before it is parsed.
    fn on_message(&mut self, _message: FeedMessage<'_>) {}

    /// Handles an event. Returns `true` if it resets the data timer.
    fn on_data(
        &mut self,
        operation: Option<OperationId>,
        payload: Self::Payload<'_>,
        arrival: &Arrival<'_>,
    ) -> bool;

    /// Searches the payload of an event for wanted listings and handles them; see
    /// [`Marketplace::scan`](crate::markets::Marketplace::scan).
    fn scan(&mut self, _payload: &[u8], _arrival: &Arrival<'_>) -> Scan {
        Scan::ReadNow
    }

    /// Counts an event of listings that is not read; `bytes` is the size of its message. Such an
    /// event resets the data timer.
    fn on_unnamed(&mut self, _event: UnnamedEvent, _bytes: usize, _framed: Instant) {}

    /// Counts a message that waited for others, before it is handled.
    fn on_waited(&mut self) {}

    /// Receives each message after it and all that arrived before it were handled. An order that
    /// the message caused has been sent by then, so recording adds no latency to it.
    fn on_handled(&mut self, _handled: HandledBytes<'_>) {}

    fn on_notice(&mut self, notice: SessionNotice<'_>);

    /// Polls for the next command, at each wake while the outbox has space.
    fn poll_command(&mut self, _cx: &mut Context<'_>, _now: Instant) -> Poll<SessionCommand> {
        Poll::Pending
    }

    /// Reports the operation that a [`SessionCommand::Subscribe`] created.
    fn on_subscribed(&mut self, _operation: OperationId) {}
}

/// Ignores all events: used before the subscriptions.
struct NoopHandler;

impl<P: FeedProtocol> SessionHandler<P> for NoopHandler {
    type Payload<'a> = ();

    fn decode<'a>(&self, input: &mut P::Input<'a>) -> Result<Self::Payload<'a>, P::DecodeError> {
        P::skip(input)
    }

    fn on_data(&mut self, _of: Option<OperationId>, _payload: (), _arrival: &Arrival<'_>) -> bool {
        false
    }

    fn on_notice(&mut self, _notice: SessionNotice<'_>) {}
}

/// Adds to a close error that the session was not acknowledged yet.
fn closed_before_ack(error: FeedError) -> FeedError {
    const WHEN: &str = "before it acknowledged the session";
    match error {
        FeedError::Closed { code, reason, can_reconnect } => {
            let reason = match reason.as_str() {
                "" => format!(": {WHEN}"),
                reason => format!("{reason} ({WHEN})"),
            };
            FeedError::Closed { code, reason, can_reconnect }
        }
        other => other,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: FeedProtocol> Session<S, P> {
    /// Sends the opening message and waits for the acknowledgment; answers pings meanwhile.
    pub(super) async fn init(&mut self) -> Result<(), FeedError> {
        if let Some(opening) = self.state.subscriptions.open() {
            self.state.outbox.push_message(opening)?;
        }
        poll_fn(|cx| {
            loop {
                if let Err(error) = self.poll_outbox(cx, now()) {
                    return Poll::Ready(Err(self.drain_close(cx, error)));
                }
                if self.state.subscriptions.is_live() {
                    return Poll::Ready(Ok(()));
                }
                let message = ready!(self.socket.poll_next(cx))?;
                let arrival =
                    Arrival { at: RxTimestamps::at(now()), behind: MessagesBehind::default() };
                self.state
                    .handle_message(message, &arrival, &mut NoopHandler)
                    .map_err(closed_before_ack)?;
            }
        })
        .await
    }

    /// Writes and flushes the subscriptions.
    pub(super) async fn subscribe(&mut self) -> Result<(), FeedError> {
        self.state.queue_due(now(), |_operation| {})?;
        poll_fn(|cx| {
            if let Err(error) = self.poll_outbox(cx, now()) {
                return Poll::Ready(Err(self.drain_close(cx, error)));
            }
            if !self.state.outbox.is_written() {
                return Poll::Pending;
            }
            Poll::Ready(Ok::<(), FeedError>(()))
        })
        .await?;
        self.state.start_watchdog(now());
        Ok(())
    }

    /// Returns the close that the server sent before a failed write, if there is one, else the
    /// write error: the close reports the cause.
    fn drain_close(&mut self, cx: &mut Context<'_>, error: FeedError) -> FeedError {
        while let Poll::Ready(Ok(message)) = self.socket.poll_next(cx) {
            if let WsMessage::Close(close) = message {
                let (code, reason) = close.unzip();
                return FeedError::from_close_of::<P>(code, reason.unwrap_or(""));
            }
        }
        error
    }
}

/// Maximum time for a close.
pub const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl<S: AsyncRead + AsyncWrite + Unpin, P: FeedProtocol> Session<S, P> {
    /// Sends a close frame with a code, then reads until the server has closed.
    pub(super) async fn close(&mut self, code: u16) {
        let close = async {
            let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
            if self.socket.writer().close(Some(frame)).await.is_ok() {
                self.socket.drain().await;
            }
        };
        // The server may not wait for the close; the result is irrelevant.
        let _best_effort = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }

    /// Answers the server's close with its own code.
    async fn answer_close(&mut self) {
        let code = self.state.received_close;
        let frame = code.map(|code| CloseFrame { code: code.into(), reason: "".into() });
        // The connection has ended in any case.
        let _best_effort =
            tokio::time::timeout(CLOSE_TIMEOUT, self.socket.writer().close(frame)).await;
    }
}

/// Sends a close frame without blocking, as far as the socket accepts it.
impl<S, P> Drop for Session<S, P>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let code = self.state.received_close.map_or(CloseCode::Normal, CloseCode::from);
        let frame = CloseFrame { code, reason: "".into() };
        let mut socket = Pin::new(self.socket.writer());
        // A closed or blocked socket is dropped without a close frame.
        if socket.as_mut().start_send(Message::Close(Some(frame))).is_ok() {
            let _best_effort = socket.poll_flush(&mut cx);
        }
    }
}

/// Converts a write error of tungstenite.
fn write_error(error: WsError) -> FeedError {
    match error {
        WsError::Io(error) => FeedError::Lost(error),
        WsError::ConnectionClosed | WsError::AlreadyClosed => FeedError::Cut,
        WsError::WriteBufferFull(_) => FeedError::Congested,
        other => FeedError::Lost(io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

    use super::*;
    use crate::{json::JsonError, protocol::PlainJson};

    /// Counts the messages that are decoded, and those that are delivered.
    struct CountingHandler {
        warms_caches: bool,
        decoded: Cell<u32>,
        delivered: u32,
    }

    impl SessionHandler<PlainJson> for CountingHandler {
        type Payload<'a> = ();

        fn decode<'a>(
            &self,
            input: &mut <PlainJson as FeedProtocol>::Input<'a>,
        ) -> Result<Self::Payload<'a>, JsonError> {
            self.decoded.set(self.decoded.get() + 1);
            input.skip().map(drop)
        }

        fn warms_caches(&self) -> bool {
            self.warms_caches
        }

        fn on_data(&mut self, _: Option<OperationId>, _payload: (), _: &Arrival<'_>) -> bool {
            self.delivered += 1;
            true
        }

        fn on_notice(&mut self, _notice: SessionNotice<'_>) {}
    }

    /// Runs a session for 100 ms that receives one message at its start.
    async fn one_message(warms_caches: bool) -> CountingHandler {
        let (client, _server) = tokio::io::duplex(1_024);
        let writer = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let socket = Socket::new(writer, b"\x81\x08{\"id\":1}");
        let wait = Duration::from_secs(1);
        let subscriptions = SubscriptionState::new(PlainJson::default(), wait, wait);
        let mut session = Session::new(socket, subscriptions, &ReconnectionLimits::default());
        let mut handler = CountingHandler { warms_caches, decoded: Cell::new(0), delivered: 0 };
        session.init().await.unwrap();
        let mut arrival_stats = ArrivalStats::default();
        let run = session.run(&mut handler, &mut arrival_stats);
        assert!(tokio::time::timeout(Duration::from_millis(100), run).await.is_err());
        handler
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_read_again_while_idle_and_delivered_once() {
        let warm = one_message(true).await;
        assert!((20..=110).contains(&warm.decoded.get()), "{}", warm.decoded.get());
        assert_eq!(warm.delivered, 1);
        let cold = one_message(false).await;
        assert_eq!((cold.decoded.get(), cold.delivered), (1, 1));
    }
}
