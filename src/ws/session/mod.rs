//! One socket, from its subscriptions to its end.
//!
//! One loop reads, answers pings, writes what is waiting and watches the clocks; nothing in it waits
//! for anything but the socket and the time. Frames come first after each wake, and after
//! [`FRAMES_PER_TURN`] of them the clocks are looked at whatever still arrives.
//!
//! # Invariants
//!
//! 1. Every message has a bound ([`MESSAGE_BYTES_MAX`]), every write a deadline, the outbox a size.
//! 2. A message that cannot be read is dropped and counted; the link stays.
//! 3. A server that breaks RFC 6455 is told so with 1002, 1007 or 1009, and left.

mod driver;
mod ending;
mod opening;
mod outbox;

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_util::{SinkExt as _, Stream as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

pub(super) use self::driver::{Command, Driver, Notice};
pub use self::{
    ending::FAREWELL_MAX,
    outbox::{OUTBOX_MAX, Written},
};
use self::{
    ending::{broken, closed},
    outbox::Outbox,
};
use super::{
    error::FeedError,
    liveness::{Clocks, Due, Rhythm},
    policy::Limits,
    protocol::{Dialect, Event, Machine},
    stamped::Stamped,
};
use crate::{clock, latency::Arrival, text::Escaped};

/// The longest message that is accepted, in bytes. Listings have 1.5 kB.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How much is read from the socket at once.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// How much may wait inside the WebSocket to be written.
pub(super) const WRITE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// After so many frames in a row the clocks are looked at, and others get a turn.
pub(super) const FRAMES_PER_TURN: usize = 128;
/// One socket.
pub(super) struct Session<S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket: WebSocketStream<Stamped<S>>,
    machine: Machine<L>,
    clocks: Clocks,
    limits: Limits,
    outbox: Outbox,
    since: Instant,
    is_stable: bool,
    next_look: Instant,
    timer: Pin<Box<Sleep>>,
}

/// The monotonic clock, which a test may pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: AsyncRead + AsyncWrite + Unpin, L: Dialect> Session<S, L> {
    pub(super) fn new(
        socket: WebSocketStream<Stamped<S>>,
        machine: Machine<L>,
        limits: &Limits,
    ) -> Self {
        let now = now();
        Self {
            socket,
            machine,
            clocks: Clocks::new(limits, now, clock::now()),
            limits: *limits,
            outbox: Outbox::default(),
            since: now,
            is_stable: false,
            next_look: now,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
        }
    }

    /// When the last frame came.
    pub(super) const fn last_frame(&self) -> Instant {
        self.clocks.last_frame()
    }

    /// Serves the driver until the connection ends: `Ok` on a clean close.
    ///
    /// # Cancel safety
    ///
    /// Safe: no message is lost between two calls.
    pub(super) async fn run<D: Driver>(
        &mut self,
        driver: &mut D,
        rhythm: &mut Rhythm,
    ) -> Result<(), FeedError> {
        let ending = poll_fn(|cx| self.poll_run(cx, driver, rhythm)).await;
        match &ending {
            Err(FeedError::Violation { violation, .. }) => self.farewell(violation.code()).await,
            Err(FeedError::Idle(_)) => self.farewell(1_000).await,
            Ok(()) | Err(FeedError::Closed { .. }) => {
                let flush = self.socket.flush();
                // The reply to a close is a courtesy; the connection is gone either way.
                let _courtesy = tokio::time::timeout(FAREWELL_MAX, flush).await;
            }
            Err(_) => {}
        }
        ending
    }

    fn queue_due(&mut self, now: Instant) -> Result<(), FeedError> {
        while let Some((_operation, text)) = self.machine.due(now) {
            if let Some(text) = text {
                self.outbox.push_text(text)?;
            }
        }
        Ok(())
    }

    fn poll_run<D: Driver>(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut D,
        rhythm: &mut Rhythm,
    ) -> Poll<Result<(), FeedError>> {
        let woken = now();
        loop {
            let mut frames = 0_usize;
            let mut seen = None;
            let is_drained = loop {
                if frames == FRAMES_PER_TURN {
                    break false;
                }
                match self.poll_message(cx) {
                    Poll::Ready(message) => {
                        let arrival = self.arrival(woken);
                        seen = Some(arrival.framed);
                        frames = frames.saturating_add(1);
                        if let Some(ending) = self.serve(message, arrival, driver, rhythm) {
                            return Poll::Ready(ending);
                        }
                    }
                    Poll::Pending => break true,
                }
            };
            let now = seen.unwrap_or_else(now);
            self.obey(cx, driver, now)?;
            self.outbox.poll(&mut self.socket, cx, now)?;
            if now >= self.next_look {
                self.look(driver, rhythm, now)?;
                self.outbox.poll(&mut self.socket, cx, now)?;
            }
            self.wake_in_time();
            if !is_drained {
                // More is there; let the others have a turn first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Does what the driver wants.
    #[inline]
    fn obey<D: Driver>(
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

    /// The texts of [`Command::Send`] that were not surely written.
    pub(super) fn unwritten(&self) -> Vec<(String, Written)> {
        self.outbox.unwritten()
    }

    /// Sets the timer to the next look, unless it is set to it already.
    fn wake_in_time(&mut self) {
        let write = self.outbox.deadline(self.limits.pong_timeout);
        let at = write.map_or(self.next_look, |write| write.min(self.next_look));
        self.next_look = at;
        if self.timer.deadline().into_std() != at {
            self.timer.as_mut().reset(at.into());
        }
    }

    #[inline]
    fn serve<D: Driver>(
        &mut self,
        message: Result<Message, FeedError>,
        arrival: Arrival,
        driver: &mut D,
        rhythm: &mut Rhythm,
    ) -> Option<Result<(), FeedError>> {
        let at = arrival.framed;
        self.clocks.frame(at);
        match message.and_then(|message| self.take(message, arrival, driver)) {
            Ok(Taken::Data) => {
                self.clocks.data(at);
                rhythm.beat(at);
                None
            }
            Ok(Taken::Other) => None,
            Ok(Taken::Closed) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    /// How the message that was just taken came in, in the turn that began at `woken`.
    fn arrival(&self, woken: Instant) -> Arrival {
        let read = self.socket.get_ref().read_at();
        // What a turn had no time for was read in the one before.
        Arrival { woken: woken.min(read), read, framed: now() }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, FeedError>> {
        match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(message)) => Poll::Ready(Ok(message)),
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => Poll::Ready(Err(FeedError::Cut)),
        }
    }

    #[inline]
    fn take<D: Driver>(
        &mut self,
        message: Message,
        arrival: Arrival,
        driver: &mut D,
    ) -> Result<Taken, FeedError> {
        match message {
            Message::Text(text) => {
                driver.arrived(&text);
                let taken = self.take_text(&text, arrival, driver);
                driver.served(&text, arrival.framed, matches!(taken, Ok(Taken::Data)));
                return taken;
            }
            Message::Binary(bytes) => driver.notice(Notice::Binary(bytes.len())),
            Message::Close(frame) => return closed(frame).map(|()| Taken::Closed),
            // Pings are answered by the WebSocket itself.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
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

    /// Looks at every clock, and sets when to look again.
    fn look<D: Driver>(
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
        self.queue_due(now)?;
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

    fn ask(&mut self) -> Result<(), FeedError> {
        match self.machine.ping() {
            Some(ping) => self.outbox.push_text(ping.to_owned()),
            None => self.outbox.push(Message::Ping(Vec::new().into())),
        }
    }
}

/// What a message was.
enum Taken {
    Data,
    Other,
    Closed,
}
