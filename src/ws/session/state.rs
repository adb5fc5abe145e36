//! What is said over a socket: each message taken in, and each clock looked at. Touches no socket.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use tokio_tungstenite::tungstenite::Message as Outgoing;

use super::{
    STANDSTILL,
    handler::{SessionCommand, SessionHandler, SessionNotice},
    outbox::Outbox,
};
use crate::{
    clock,
    latency::RxTimestamps,
    text::Escaped,
    ws::{
        error::FeedError,
        frames::WsMessage,
        policy::ReconnectionLimits,
        protocol::{FeedProtocol, OperationId, ProtocolEvent, SubscriptionState},
        watchdog::{ArrivalStats, Watchdog, WatchdogAction},
    },
};

/// The state of one conversation.
pub(super) struct SessionState<L> {
    pub(super) machine: SubscriptionState<L>,
    pub(super) clocks: Watchdog,
    pub(super) limits: ReconnectionLimits,
    pub(super) outbox: Outbox,
    /// When the session began.
    pub(super) since: Instant,
    /// When the clocks are to be looked at again.
    pub(super) next_look: Instant,
    is_stable: bool,
    /// The code of the server's farewell, if it has said one.
    pub(super) farewell: Option<Option<u16>>,
}

/// What a message was.
pub(super) enum HandledMessage {
    Data,
    Other,
}

impl<L: FeedProtocol> SessionState<L> {
    pub(super) fn new(
        machine: SubscriptionState<L>,
        limits: &ReconnectionLimits,
        now: Instant,
    ) -> Self {
        Self {
            machine,
            clocks: Watchdog::new(limits, now, clock::now()),
            limits: *limits,
            outbox: Outbox::default(),
            since: now,
            next_look: now,
            is_stable: false,
            farewell: None,
        }
    }

    /// Takes in a message, or the end; `Some`: the session is over, and this is how it ended.
    #[inline]
    pub(super) fn serve<D: SessionHandler>(
        &mut self,
        message: Result<WsMessage<'_>, FeedError>,
        arrival: RxTimestamps,
        driver: &mut D,
        rhythm: &mut ArrivalStats,
    ) -> Option<FeedError> {
        let at = arrival.framed;
        self.clocks.frame(at);
        match message.and_then(|message| self.take(message, arrival, driver)) {
            Ok(HandledMessage::Data) => {
                self.clocks.data(at);
                rhythm.beat(at);
                None
            }
            Ok(HandledMessage::Other) => None,
            Err(error) => Some(error),
        }
    }

    #[inline]
    pub(super) fn take<D: SessionHandler>(
        &mut self,
        message: WsMessage<'_>,
        arrival: RxTimestamps,
        driver: &mut D,
    ) -> Result<HandledMessage, FeedError> {
        match message {
            WsMessage::Text(text) => {
                driver.arrived(text);
                let taken = self.take_text(text, arrival, driver);
                driver.served(text, arrival.framed, matches!(taken, Ok(HandledMessage::Data)));
                return taken;
            }
            WsMessage::Binary(bytes) => driver.notice(SessionNotice::Binary(bytes)),
            WsMessage::Ping(payload) => self.outbox.pong(payload),
            WsMessage::Pong => {}
            WsMessage::Close(farewell) => {
                let (code, reason) = farewell.unzip();
                self.farewell = Some(code);
                return Err(FeedError::from_close(code, reason.unwrap_or("")));
            }
        }
        Ok(HandledMessage::Other)
    }

    #[inline]
    fn take_text<D: SessionHandler>(
        &mut self,
        text: &str,
        arrival: RxTimestamps,
        driver: &mut D,
    ) -> Result<HandledMessage, FeedError> {
        let at = arrival.framed;
        match self.machine.receive::<D::Payload<'_>>(text, at) {
            Ok(ProtocolEvent::Data { operation, payload }) => {
                let counts = driver.data(operation, payload, arrival);
                return Ok(if counts { HandledMessage::Data } else { HandledMessage::Other });
            }
            Ok(ProtocolEvent::Ping(payload)) => {
                if let Some(pong) = self.machine.pong(payload) {
                    self.outbox.push_text(pong)?;
                }
            }
            Ok(ProtocolEvent::Acked) => self.next_look = at,
            Ok(ProtocolEvent::Nothing) => {}
            Ok(ProtocolEvent::Refused(reason)) => {
                let reason = reason.map_or("no reason given", |reason| reason.0);
                return Err(FeedError::SessionRefused { reason: Escaped(reason).to_string() });
            }
            Ok(ProtocolEvent::Ended { operation, error, again_in }) => {
                self.next_look = at;
                driver.notice(SessionNotice::Ended { operation, error, again_in });
            }
            Ok(ProtocolEvent::Unknown) => driver.notice(SessionNotice::Unknown(text)),
            Err(error) => driver.notice(SessionNotice::Malformed { text, error }),
        }
        Ok(HandledMessage::Other)
    }

    /// The first frame after a wake. Where the clocks should have been looked at long before, the
    /// process stood still: the pause until now is not the feed's.
    #[inline]
    pub(super) fn note_standstill(&self, rhythm: &mut ArrivalStats, framed: Instant) {
        if STANDSTILL <= framed.saturating_duration_since(self.next_look) {
            rhythm.interrupt();
        }
    }

    /// Does what the driver wants.
    #[inline]
    pub(super) fn obey<D: SessionHandler>(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut D,
        now: Instant,
    ) -> Result<(), FeedError> {
        while self.outbox.has_room() {
            let Poll::Ready(command) = driver.poll_command(cx, now) else { break };
            match command {
                SessionCommand::Want(wanted, at) => {
                    let operation = self.machine.want(wanted, at);
                    driver.wanted(operation);
                    self.next_look = now;
                }
                SessionCommand::Unwant(operation) => {
                    if let Some(farewell) = self.machine.unwant(operation) {
                        self.outbox.push_text(farewell)?;
                    }
                }
                SessionCommand::Send(text) => self.outbox.push_owners(text)?,
            }
        }
        Ok(())
    }

    /// Puts everything into the outbox that is to be subscribed to by now.
    /// `asked` hears of each.
    pub(super) fn queue_due(
        &mut self,
        now: Instant,
        mut asked: impl FnMut(OperationId),
    ) -> Result<(), FeedError> {
        while let Some((operation, text)) = self.machine.due(now) {
            if let Some(text) = text {
                self.outbox.push_text(text)?;
            }
            asked(operation);
        }
        Ok(())
    }

    /// Looks at every clock, and sets when to look again.
    pub(super) fn look<D: SessionHandler>(
        &mut self,
        driver: &mut D,
        rhythm: &mut ArrivalStats,
        now: Instant,
    ) -> Result<(), FeedError> {
        self.outbox.check(self.limits.pong_timeout, now)?;
        match self.clocks.look(rhythm, now, clock::now()) {
            WatchdogAction::Nothing => {}
            WatchdogAction::Ping => self.ask()?,
            WatchdogAction::Dead(silent) => return Err(FeedError::Silent(silent)),
            WatchdogAction::Idle(silent) => return Err(FeedError::Idle(silent)),
            WatchdogAction::Renew => {
                for farewell in self.machine.renew(now) {
                    self.outbox.push_text(farewell)?;
                }
                driver.notice(SessionNotice::Renewed);
            }
        }
        self.queue_due(now, |operation| driver.notice(SessionNotice::Asked { operation }))?;
        let mut next = self.clocks.next(rhythm);
        if let Some(due) = self.machine.next_due() {
            next = next.min(due);
        }
        if !self.is_stable {
            let stable = self.since.checked_add(self.limits.stable_after).unwrap_or(now);
            if now >= stable {
                self.is_stable = true;
                driver.notice(SessionNotice::Stable);
            } else {
                next = next.min(stable);
            }
        }
        self.next_look = next;
        Ok(())
    }

    /// When to look again at the latest: at the clocks, or at a write that does not go through.
    pub(super) fn wake_at(&mut self) -> Instant {
        if let Some(write) = self.outbox.deadline(self.limits.pong_timeout) {
            self.next_look = self.next_look.min(write);
        }
        self.next_look
    }

    fn ask(&mut self) -> Result<(), FeedError> {
        match self.machine.ping() {
            Some(ping) => self.outbox.push_text(ping.to_owned()),
            None => self.outbox.push(Outgoing::Ping(Vec::new().into())),
        }
    }
}
