//! State of a session: handles messages and timers without touching the socket, and queues what is
//! to be written.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::Sink as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, Utf8Bytes},
};

use super::{
    HandlingOrder, STANDSTILL, SessionCommand, SessionHandler, SessionNotice, write_error,
};
use crate::{
    clock,
    markets::{Scan, UnnamedEvent},
    protocol::{
        ClientMessage, FeedMessage, FeedProtocol, OperationId, ProtocolEvent, SubscriptionState,
    },
    text::Escaped,
    ws::{
        connect::Arrival,
        error::FeedError,
        frames::WsMessage,
        policy::ReconnectionLimits,
        watchdog::{ArrivalStats, Watchdog, WatchdogAction},
    },
};

pub(super) struct SessionState<P> {
    pub(super) subscriptions: SubscriptionState<P>,
    pub(super) watchdog: Watchdog,
    pub(super) limits: ReconnectionLimits,
    pub(super) outbox: Outbox,
    pub(super) started_at: Instant,
    /// Time of the next timer check.
    pub(super) next_check: Instant,
    is_stable: bool,
    /// Code of the received close frame, if there was one.
    pub(super) received_close: Option<u16>,
}

impl<P: FeedProtocol> SessionState<P> {
    pub(super) fn new(
        subscriptions: SubscriptionState<P>,
        limits: &ReconnectionLimits,
        now: Instant,
    ) -> Self {
        Self {
            subscriptions,
            watchdog: Watchdog::new(limits, now, clock::now()),
            limits: *limits,
            outbox: Outbox::default(),
            started_at: now,
            next_check: now,
            is_stable: false,
            received_close: None,
        }
    }

    /// Handles one received message or error. Returns whether it reset the data timer, or the
    /// error that ends the session.
    #[inline]
    pub(super) fn handle<H: SessionHandler<P>>(
        &mut self,
        message: Result<WsMessage<'_>, FeedError>,
        arrival: &Arrival<'_>,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) -> Result<bool, FeedError> {
        let at = arrival.at.framed;
        self.watchdog.on_frame(at);
        let is_data = self.handle_message(message?, arrival, handler)?;
        if is_data {
            self.watchdog.on_data(at);
            arrival_stats.record(at);
        }
        Ok(is_data)
    }

    /// Decides when a message is handled. If it can wait, its new wanted listings are passed to the
    /// handler here.
    #[inline]
    pub(super) fn handling_order<H: SessionHandler<P>>(
        &self,
        text: &[u8],
        arrival: &Arrival<'_>,
        handler: &mut H,
    ) -> HandlingOrder {
        match self.subscriptions.peek_event(text).map(|payload| handler.scan(payload, arrival)) {
            None => HandlingOrder::InTurn,
            Some(Scan::ReadNow) => HandlingOrder::First,
            Some(Scan::CanWait) => HandlingOrder::Last,
            Some(Scan::Unnamed(event)) => HandlingOrder::Counted(event),
        }
    }

    /// Reads a message that was handled before, and drops its events.
    pub(super) fn read_sample<H: SessionHandler<P>>(&mut self, sample: &str, handler: &H) {
        let message = FeedMessage::Text(std::hint::black_box(sample));
        self.subscriptions.read_again(message, |input| handler.decode(input));
    }

    /// Counts a message that is not read.
    #[inline]
    pub(super) fn count_unnamed<H: SessionHandler<P>>(
        &mut self,
        (event, bytes): (UnnamedEvent, usize),
        framed: Instant,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
    ) {
        self.watchdog.on_frame(framed);
        self.watchdog.on_data(framed);
        arrival_stats.record(framed);
        handler.on_unnamed(event, bytes, framed);
    }

    /// Returns `true` if the message resets the data timer.
    #[inline]
    pub(super) fn handle_message<'m, H: SessionHandler<P>>(
        &mut self,
        message: WsMessage<'m>,
        arrival: &Arrival<'m>,
        handler: &mut H,
    ) -> Result<bool, FeedError> {
        match message {
            WsMessage::Text(text) => {
                return self.handle_feed_message(FeedMessage::Text(text), arrival, handler);
            }
            WsMessage::Binary(bytes) => {
                return self.handle_feed_message(FeedMessage::Binary(bytes), arrival, handler);
            }
            WsMessage::Ping(payload) => self.outbox.pong(payload),
            WsMessage::Pong => {}
            WsMessage::Close(close) => {
                let (code, reason) = close.unzip();
                self.received_close = code;
                return Err(FeedError::from_close_of::<P>(code, reason.unwrap_or("")));
            }
        }
        Ok(false)
    }

    #[inline]
    fn handle_feed_message<'m, H: SessionHandler<P>>(
        &mut self,
        message: FeedMessage<'m>,
        arrival: &Arrival<'m>,
        handler: &mut H,
    ) -> Result<bool, FeedError> {
        if !P::KINDS.contains(message) {
            handler.on_notice(SessionNotice::UnusedKind(message));
            return Ok(false);
        }
        handler.on_message(message);
        self.handle_parts(message, arrival, handler)
    }

    /// Handles each part of a message. Most messages have one.
    #[inline]
    fn handle_parts<'m, H: SessionHandler<P>>(
        &mut self,
        message: FeedMessage<'m>,
        arrival: &Arrival<'m>,
        handler: &mut H,
    ) -> Result<bool, FeedError> {
        let (mut part, mut rest) = self.subscriptions.split_first(message);
        let mut is_data = false;
        while let Some(behind) = rest {
            is_data |= self.handle_part(part, &arrival.of_part(behind), handler)?;
            (part, rest) = self.subscriptions.split_first(behind);
        }
        Ok(is_data | self.handle_part(part, arrival, handler)?)
    }

    #[inline]
    fn handle_part<H: SessionHandler<P>>(
        &mut self,
        message: FeedMessage<'_>,
        arrival: &Arrival<'_>,
        handler: &mut H,
    ) -> Result<bool, FeedError> {
        let at = arrival.at.framed;
        match self.subscriptions.receive(message, at, |input| handler.decode(input)) {
            Ok(ProtocolEvent::Data { operation, payload }) => {
                return Ok(handler.on_data(operation, payload, arrival));
            }
            Ok(ProtocolEvent::Ping(payload)) => {
                if let Some(pong) = self.subscriptions.pong(payload) {
                    self.outbox.push_message(pong)?;
                }
            }
            Ok(ProtocolEvent::Reply(reply)) => self.outbox.push_message(reply)?,
            Ok(ProtocolEvent::Acked) => self.next_check = at,
            Ok(ProtocolEvent::Nothing) => {}
            Ok(ProtocolEvent::Rejected(reason)) => {
                let reason = reason.unwrap_or("no reason given");
                return Err(FeedError::SessionRejected { reason: Escaped(reason).to_string() });
            }
            Ok(ProtocolEvent::Closed { code, reason }) => {
                return Err(FeedError::from_close_of::<P>(code, reason.unwrap_or("")));
            }
            Ok(ProtocolEvent::Ended { operation, error, retry_in }) => {
                self.next_check = at;
                handler.on_notice(SessionNotice::Ended { operation, error, retry_in });
            }
            Ok(ProtocolEvent::Unknown) => handler.on_notice(SessionNotice::Unknown(message)),
            Err(error) => handler.on_notice(SessionNotice::Malformed { message, error }),
        }
        Ok(false)
    }

    /// Drops the current arrival interval if the process stood still: its timer check is overdue by
    /// [`STANDSTILL`].
    #[inline]
    pub(super) fn interrupt_after_stall(&self, arrival_stats: &mut ArrivalStats, framed: Instant) {
        if STANDSTILL <= framed.saturating_duration_since(self.next_check) {
            arrival_stats.interrupt();
        }
    }

    /// Applies the commands of the handler.
    #[inline]
    pub(super) fn apply_commands<H: SessionHandler<P>>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &mut H,
        now: Instant,
    ) -> Result<(), FeedError> {
        while self.outbox.has_space() {
            let Poll::Ready(command) = handler.poll_command(cx, now) else { break };
            match command {
                SessionCommand::Subscribe(subscription, at) => {
                    let operation = self.subscriptions.subscribe(subscription, at);
                    handler.on_subscribed(operation);
                    self.next_check = now;
                }
                SessionCommand::Unsubscribe(operation) => {
                    if let Some(message) = self.subscriptions.unsubscribe(operation) {
                        self.outbox.push_message(message)?;
                    }
                }
                SessionCommand::Send(text) => self.outbox.push_tracked(text)?,
            }
        }
        Ok(())
    }

    /// Starts the watchdog at the start of the feed, with the heartbeat interval of the server, if
    /// there is one.
    pub(super) fn start_watchdog(&mut self, now: Instant) {
        self.started_at = now;
        let heartbeat = self.subscriptions.heartbeat();
        self.watchdog = Watchdog::new(&self.limits, now, clock::now()).with_heartbeat(heartbeat);
    }

    /// Queues all subscriptions that are due and calls `on_subscribed` for each.
    pub(super) fn queue_due(
        &mut self,
        now: Instant,
        mut on_subscribed: impl FnMut(OperationId),
    ) -> Result<(), FeedError> {
        while let Some((operation, message)) = self.subscriptions.due(now) {
            if let Some(message) = message {
                self.outbox.push_message(message)?;
            }
            on_subscribed(operation);
        }
        Ok(())
    }

    /// Checks all timers and schedules the next check.
    pub(super) fn check_timers<H: SessionHandler<P>>(
        &mut self,
        handler: &mut H,
        arrival_stats: &mut ArrivalStats,
        now: Instant,
    ) -> Result<(), FeedError> {
        self.outbox.check(self.limits.pong_timeout, now)?;
        match self.watchdog.check(arrival_stats, now, clock::now()) {
            WatchdogAction::Nothing => {}
            WatchdogAction::Ping => self.send_ping()?,
            WatchdogAction::Abort(silent) => return Err(FeedError::Silent(silent)),
            WatchdogAction::Reconnect(silent) => return Err(FeedError::Idle(silent)),
            WatchdogAction::Resubscribe(silent) => {
                for message in self.subscriptions.resubscribe(now) {
                    self.outbox.push_message(message)?;
                }
                handler.on_notice(SessionNotice::Resubscribing { silent });
            }
        }
        self.queue_due(now, |operation| {
            handler.on_notice(SessionNotice::Resubscribed { operation });
        })?;
        let mut next = self.watchdog.next_check(arrival_stats);
        if let Some(due) = self.subscriptions.next_due() {
            next = next.min(due);
        }
        if !self.is_stable {
            let stable = self.started_at.checked_add(self.limits.stable_after).unwrap_or(now);
            if now >= stable {
                self.is_stable = true;
                handler.on_notice(SessionNotice::Stable);
            } else {
                next = next.min(stable);
            }
        }
        self.next_check = next;
        Ok(())
    }

    /// Returns the time of the next check, which is not after the deadline of a stalled write.
    pub(super) fn wake_at(&mut self) -> Instant {
        if let Some(write) = self.outbox.deadline(self.limits.pong_timeout) {
            self.next_check = self.next_check.min(write);
        }
        self.next_check
    }

    fn send_ping(&mut self) -> Result<(), FeedError> {
        match self.subscriptions.ping() {
            Some(ping) => self.outbox.push_message(ping),
            None => self.outbox.push(Message::Ping(Vec::new().into())),
        }
    }
}

/// Maximum number of queued messages.
pub const OUTBOX_MAX: usize = 1_024;

/// How much of an unconfirmed message was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteProgress {
    /// No byte was written.
    Nothing,
    /// Some or all of it may have been written.
    Unknown,
}

#[derive(Debug)]
struct PendingWrite {
    message: Message,
    is_tracked: bool,
}

impl PendingWrite {
    const fn tracked(&self) -> Option<&Utf8Bytes> {
        match &self.message {
            Message::Text(text) if self.is_tracked => Some(text),
            _ => None,
        }
    }
}

/// Messages that the socket has not accepted yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<PendingWrite>,
    /// Tracked texts that were passed to the socket and not flushed yet.
    unflushed: Vec<Utf8Bytes>,
    /// Payload of the pong that is due.
    pong: Option<Bytes>,
    needs_flush: bool,
    stalled_since: Option<Instant>,
}

impl Outbox {
    fn push(&mut self, message: Message) -> Result<(), FeedError> {
        self.push_entry(PendingWrite { message, is_tracked: false })
    }

    pub(super) fn push_message(&mut self, message: ClientMessage) -> Result<(), FeedError> {
        self.push(match message {
            ClientMessage::Text(text) => Message::text(text),
            ClientMessage::Binary(bytes) => Message::binary(bytes),
        })
    }

    /// Queues a text that [`unwritten`](Self::unwritten) reports until it is flushed.
    fn push_tracked(&mut self, text: String) -> Result<(), FeedError> {
        self.push_entry(PendingWrite { message: Message::text(text), is_tracked: true })
    }

    /// Queues a pong. It replaces an unsent one, as RFC 6455 5.5.3 allows.
    fn pong(&mut self, payload: &[u8]) {
        self.pong = Some(Bytes::copy_from_slice(payload));
    }

    fn push_entry(&mut self, waiting: PendingWrite) -> Result<(), FeedError> {
        if !self.has_space() {
            return Err(FeedError::Congested);
        }
        self.waiting.push_back(waiting);
        Ok(())
    }

    fn has_space(&self) -> bool {
        self.waiting.len() < OUTBOX_MAX
    }

    /// Returns the tracked texts that are not known to be written, in order.
    pub(super) fn unwritten(&self) -> Vec<(String, WriteProgress)> {
        let unknown = self.unflushed.iter().map(|text| (text.to_string(), WriteProgress::Unknown));
        let waiting = self.waiting.iter().filter_map(PendingWrite::tracked);
        unknown.chain(waiting.map(|text| (text.to_string(), WriteProgress::Nothing))).collect()
    }

    /// Returns `true` if everything was passed to the operating system.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty() && self.pong.is_none() && !self.needs_flush
    }

    /// Returns the deadline of a stalled write.
    fn deadline(&self, within: Duration) -> Option<Instant> {
        self.stalled_since?.checked_add(within)
    }

    /// Returns an error if a write has stalled beyond its deadline.
    fn check(&self, within: Duration, now: Instant) -> Result<(), FeedError> {
        match self.deadline(within) {
            Some(deadline) if now >= deadline => Err(FeedError::WriteStalled(within)),
            _ => Ok(()),
        }
    }

    /// Writes as much as the socket accepts.
    #[inline]
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), FeedError> {
        let mut socket = Pin::new(socket);
        while !self.is_written() {
            let progress = if self.waiting.is_empty() && self.pong.is_none() {
                socket.as_mut().poll_flush(cx).map_ok(|()| {
                    self.needs_flush = false;
                    self.unflushed.clear();
                })
            } else {
                socket.as_mut().poll_ready(cx).map(|ready| {
                    ready?;
                    if let Some(payload) = self.pong.take() {
                        self.needs_flush = true;
                        socket.as_mut().start_send(Message::Pong(payload))?;
                    } else if let Some(waiting) = self.waiting.pop_front() {
                        self.needs_flush = true;
                        self.unflushed.extend(waiting.tracked().cloned());
                        socket.as_mut().start_send(waiting.message)?;
                    }
                    Ok(())
                })
            };
            match progress {
                Poll::Ready(result) => result.map_err(write_error)?,
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
            }
        }
        self.stalled_since = None;
        Ok(())
    }
}
