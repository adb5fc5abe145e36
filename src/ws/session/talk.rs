//! What is said over a socket: each message taken in, and each clock looked at. Touches no socket.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use tokio_tungstenite::tungstenite::Message as Outgoing;

use super::{
    STANDSTILL,
    driver::{Command, Driver, Notice},
    outbox::Outbox,
};
use crate::{
    clock,
    latency::Arrival,
    text::Escaped,
    ws::{
        error::FeedError,
        frames::Message,
        liveness::{Clocks, Due, Rhythm},
        policy::Limits,
        protocol::{Dialect, Event, Machine, OperationId},
    },
};

/// The state of one conversation.
pub(super) struct Talk<L> {
    pub(super) machine: Machine<L>,
    pub(super) clocks: Clocks,
    pub(super) limits: Limits,
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
pub(super) enum Taken {
    Data,
    Other,
}

impl<L: Dialect> Talk<L> {
    pub(super) fn new(machine: Machine<L>, limits: &Limits, now: Instant) -> Self {
        Self {
            machine,
            clocks: Clocks::new(limits, now, clock::now()),
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
    pub(super) fn serve<D: Driver>(
        &mut self,
        message: Result<Message<'_>, FeedError>,
        arrival: Arrival,
        driver: &mut D,
        rhythm: &mut Rhythm,
    ) -> Option<FeedError> {
        let at = arrival.framed;
        self.clocks.frame(at);
        match message.and_then(|message| self.take(message, arrival, driver)) {
            Ok(Taken::Data) => {
                self.clocks.data(at);
                rhythm.beat(at);
                None
            }
            Ok(Taken::Other) => None,
            Err(error) => Some(error),
        }
    }

    #[inline]
    pub(super) fn take<D: Driver>(
        &mut self,
        message: Message<'_>,
        arrival: Arrival,
        driver: &mut D,
    ) -> Result<Taken, FeedError> {
        match message {
            Message::Text(text) => {
                driver.arrived(text);
                let taken = self.take_text(text, arrival, driver);
                driver.served(text, arrival.framed, matches!(taken, Ok(Taken::Data)));
                return taken;
            }
            Message::Binary(bytes) => driver.notice(Notice::Binary(bytes)),
            Message::Ping(payload) => self.outbox.pong(payload),
            Message::Pong => {}
            Message::Close(farewell) => {
                let (code, reason) = farewell.unzip();
                self.farewell = Some(code);
                return Err(FeedError::from_close(code, reason.unwrap_or("")));
            }
        }
        Ok(Taken::Other)
    }

    #[inline]
    fn take_text<D: Driver>(
        &mut self,
        text: &str,
        arrival: Arrival,
        driver: &mut D,
    ) -> Result<Taken, FeedError> {
        let at = arrival.framed;
        match self.machine.receive::<D::Payload<'_>>(text, at) {
            Ok(Event::Data { operation, payload }) => {
                let counts = driver.data(operation, payload, arrival);
                return Ok(if counts { Taken::Data } else { Taken::Other });
            }
            Ok(Event::Ping(payload)) => {
                if let Some(pong) = self.machine.pong(payload) {
                    self.outbox.push_text(pong)?;
                }
            }
            Ok(Event::Acked) => self.next_look = at,
            Ok(Event::Nothing) => {}
            Ok(Event::Refused(reason)) => {
                let reason = reason.map_or("no reason given", |reason| reason.0);
                return Err(FeedError::SessionRefused { reason: Escaped(reason).to_string() });
            }
            Ok(Event::Ended { operation, error, again_in }) => {
                self.next_look = at;
                driver.notice(Notice::Ended { operation, error, again_in });
            }
            Ok(Event::Unknown) => driver.notice(Notice::Unknown(text)),
            Err(error) => driver.notice(Notice::Malformed { text, error }),
        }
        Ok(Taken::Other)
    }

    /// The first frame after a wake. Where the clocks should have been looked at long before, the
    /// process stood still: the pause until now is not the feed's.
    #[inline]
    pub(super) fn note_standstill(&self, rhythm: &mut Rhythm, framed: Instant) {
        if STANDSTILL <= framed.saturating_duration_since(self.next_look) {
            rhythm.interrupt();
        }
    }

    /// Does what the driver wants.
    #[inline]
    pub(super) fn obey<D: Driver>(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut D,
        now: Instant,
    ) -> Result<(), FeedError> {
        while self.outbox.has_room() {
            let Poll::Ready(command) = driver.poll_command(cx, now) else { break };
            match command {
                Command::Want(wanted, at) => {
                    let operation = self.machine.want(wanted, at);
                    driver.wanted(operation);
                    self.next_look = now;
                }
                Command::Unwant(operation) => {
                    if let Some(farewell) = self.machine.unwant(operation) {
                        self.outbox.push_text(farewell)?;
                    }
                }
                Command::Send(text) => self.outbox.push_owners(text)?,
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
    pub(super) fn look<D: Driver>(
        &mut self,
        driver: &mut D,
        rhythm: &mut Rhythm,
        now: Instant,
    ) -> Result<(), FeedError> {
        self.outbox.check(self.limits.pong_timeout, now)?;
        match self.clocks.look(rhythm, now, clock::now()) {
            Due::Nothing => {}
            Due::Ping => self.ask()?,
            Due::Dead(silent) => return Err(FeedError::Silent(silent)),
            Due::Idle(silent) => return Err(FeedError::Idle(silent)),
            Due::Renew => {
                for farewell in self.machine.renew(now) {
                    self.outbox.push_text(farewell)?;
                }
                driver.notice(Notice::Renewed);
            }
        }
        self.queue_due(now, |operation| driver.notice(Notice::Asked { operation }))?;
        let mut next = self.clocks.next(rhythm);
        if let Some(due) = self.machine.next_due() {
            next = next.min(due);
        }
        if !self.is_stable {
            let stable = self.since.checked_add(self.limits.stable_after).unwrap_or(now);
            if now >= stable {
                self.is_stable = true;
                driver.notice(Notice::Stable);
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
