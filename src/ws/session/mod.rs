//! One socket, from its subscriptions to its end.
//!
//! One loop reads, answers pings, writes what is waiting and watches the clocks; nothing in it waits
//! for anything but the socket and the time. Frames come first after each wake, and after
//! [`FRAMES_PER_TURN`] of them the clocks are looked at whatever still arrives. No clock calls
//! anything late before what lies in the socket was read: a process that stood still finds its
//! timers over and its socket full.
//!
//! # Invariants
//!
//! 1. Every message has a bound ([`MESSAGE_BYTES_MAX`](super::MESSAGE_BYTES_MAX)), every write a
//!    deadline, the outbox a size.
//! 2. A message that cannot be read is dropped and counted; the link stays.
//! 3. A server that breaks RFC 6455 is told so with 1002, 1007 or 1009, and left.

mod ending;
mod handler;
mod opening;
mod outbox;
mod state;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};

pub(super) use self::handler::{SessionCommand, SessionHandler, SessionNotice};
use self::state::SessionState;
pub use self::{
    ending::FAREWELL_MAX,
    outbox::{OUTBOX_MAX, WriteProgress},
};
use super::{
    error::FeedError,
    policy::ReconnectionLimits,
    protocol::{FeedProtocol, SubscriptionState},
    socket::{Socket, SocketEvent},
    watchdog::ArrivalStats,
};
use crate::{
    latency::RxTimestamps,
    net::deadline::{CATCH_UP_MAX, Turn},
};

/// How much may wait inside the WebSocket to be written.
pub(super) const WRITE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// After so many frames in a row the clocks are looked at, and others get a turn.
pub(super) const FRAMES_PER_TURN: usize = 128;
/// A look at the clocks that comes this much too late shows that the process stood still: the pause
/// before the next data is not one of the feed's own.
const STANDSTILL: Duration = Duration::from_secs(1);

/// One socket, and what is said over it.
pub(super) struct Session<S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket: Socket<S>,
    talk: SessionState<L>,
    timer: Pin<Box<Sleep>>,
    /// A look at the clocks is due, and the socket is read first.
    overdue: Option<OverdueWork>,
}

/// What is done before the clocks are looked at.
struct OverdueWork {
    since: Instant,
    turn: Option<Turn>,
}

/// The monotonic clock, which a test may pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: AsyncRead + AsyncWrite + Unpin, L: FeedProtocol> Session<S, L> {
    pub(super) fn new(
        socket: Socket<S>,
        machine: SubscriptionState<L>,
        limits: &ReconnectionLimits,
    ) -> Self {
        let now = now();
        Self {
            socket,
            talk: SessionState::new(machine, limits, now),
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            overdue: None,
        }
    }

    /// Until when the session that ended like this could surely deliver. A server that answers
    /// pings and delivers nothing has proved its life with its last data only.
    pub(super) const fn alive_until(&self, ended: &FeedError) -> Instant {
        match ended {
            FeedError::Idle(_) => self.talk.clocks.data_since(),
            _ => self.talk.clocks.last_frame(),
        }
    }

    /// Serves the driver until the connection ends, and says how it did.
    ///
    /// # Cancel safety
    ///
    /// Safe: no message is lost between two calls.
    pub(super) async fn run<D: SessionHandler>(
        &mut self,
        driver: &mut D,
        rhythm: &mut ArrivalStats,
    ) -> FeedError {
        let ended = poll_fn(|cx| match self.poll_run(cx, driver, rhythm) {
            Poll::Ready(Err(ended)) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        })
        .await;
        match &ended {
            FeedError::Violation { violation, .. } => self.farewell(violation.code()).await,
            FeedError::Idle(_) => self.farewell(1_000).await,
            FeedError::Closed { .. } => self.return_farewell().await,
            _ => {}
        }
        ended
    }

    fn poll_run<D: SessionHandler>(
        &mut self,
        cx: &mut Context<'_>,
        driver: &mut D,
        rhythm: &mut ArrivalStats,
    ) -> Poll<Result<Infallible, FeedError>> {
        loop {
            let mut frames = 0_usize;
            let mut seen = None;
            let is_drained = loop {
                if frames == FRAMES_PER_TURN {
                    break false;
                }
                match self.socket.poll_next(cx) {
                    Poll::Ready(heard) => {
                        let framed = now();
                        if seen.replace(framed).is_none() {
                            self.talk.note_standstill(rhythm, framed);
                        }
                        frames = frames.saturating_add(1);
                        let arrival = match &heard {
                            Ok(SocketEvent { asked, read, .. }) => {
                                RxTimestamps { asked: *asked, read: *read, framed }
                            }
                            Err(_) => RxTimestamps::at(framed),
                        };
                        let message = heard.map(|heard| heard.message);
                        if let Some(end) = self.talk.serve(message, arrival, driver, rhythm) {
                            return Poll::Ready(Err(end));
                        }
                    }
                    Poll::Pending => break true,
                }
            };
            let now = seen.unwrap_or_else(now);
            self.talk.obey(cx, driver, now)?;
            self.poll_outbox(cx, now)?;
            if self.talk.next_look <= now {
                if self.reads_first(cx, now, is_drained) {
                    return Poll::Pending;
                }
                self.talk.look(driver, rhythm, now)?;
                self.poll_outbox(cx, now)?;
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

    /// Whether the clocks must wait because the socket may hold something that was not read yet. The
    /// task is then woken again, and after [`CATCH_UP_MAX`] the clocks wait no longer.
    fn reads_first(&mut self, cx: &Context<'_>, now: Instant, is_drained: bool) -> bool {
        let overdue = self.overdue.get_or_insert(OverdueWork { since: now, turn: None });
        if Turn::poll(&mut overdue.turn, cx).is_pending() {
            return true;
        }
        if !is_drained && now.saturating_duration_since(overdue.since) < CATCH_UP_MAX {
            cx.waker().wake_by_ref();
            return true;
        }
        self.overdue = None;
        false
    }

    /// Writes as much of what is waiting as the socket takes.
    fn poll_outbox(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), FeedError> {
        self.talk.outbox.poll(self.socket.writer(), cx, now)
    }

    /// The texts of [`SessionCommand::Send`] that were not surely written.
    pub(super) fn unwritten(&self) -> Vec<(String, WriteProgress)> {
        self.talk.outbox.unwritten()
    }

    /// Sets the timer to the next look, unless it is set to it already.
    fn wake_in_time(&mut self) {
        let at = self.talk.wake_at();
        if self.timer.deadline().into_std() != at {
            self.timer.as_mut().reset(at.into());
        }
    }
}
