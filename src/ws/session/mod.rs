//! One WebSocket session, from its subscriptions to its end.
//!
//! One loop reads, answers pings, writes the outbox and checks the timers; it waits only for the
//! socket and the clock. Frames come first after each wake; after [`FRAMES_PER_TURN`] of them the
//! timers are checked even if more frames arrive. A timer never fires before the bytes in the
//! socket were read: after a standstill of the process both its timers are overdue and its socket
//! is full.
//!
//! # Invariants
//!
//! 1. Every message is bounded by [`MESSAGE_BYTES_MAX`](super::MESSAGE_BYTES_MAX), every write by a
//!    deadline, the outbox by a size.
//! 2. A malformed message is dropped and counted; the connection stays up.
//! 3. A server that violates RFC 6455 is closed with 1002, 1007 or 1009.

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
    ending::CLOSE_TIMEOUT,
    outbox::{OUTBOX_MAX, WriteProgress},
};
use super::{
    error::FeedError,
    policy::ReconnectionLimits,
    socket::{Socket, SocketEvent},
    watchdog::ArrivalStats,
};
use crate::{
    domain::latency::RxTimestamps,
    net::deadline::{CATCH_UP_MAX, DriverTick},
    protocol::{FeedProtocol, SubscriptionState},
};

/// Maximum bytes buffered for writing inside the WebSocket.
pub(super) const WRITE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Maximum frames in a row before the timers are checked and other tasks run.
pub(super) const FRAMES_PER_TURN: usize = 128;
/// Delay of a timer check that indicates a standstill of the process. The interval before the next
/// data is then not recorded.
const STANDSTILL: Duration = Duration::from_secs(1);

/// A session over one socket.
pub(super) struct Session<S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket: Socket<S>,
    state: SessionState<L>,
    timer: Pin<Box<Sleep>>,
    /// Set while a timer check is due and the socket is read first.
    overdue: Option<OverdueWork>,
}

/// Reads that precede an overdue timer check.
struct OverdueWork {
    since: Instant,
    turn: Option<DriverTick>,
}

/// The monotonic clock, which tests can pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: AsyncRead + AsyncWrite + Unpin, L: FeedProtocol> Session<S, L> {
    pub(super) fn new(
        socket: Socket<S>,
        subscriptions: SubscriptionState<L>,
        limits: &ReconnectionLimits,
    ) -> Self {
        let now = now();
        Self {
            socket,
            state: SessionState::new(subscriptions, limits, now),
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            overdue: None,
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

    /// Runs the session until its end and returns the cause.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost between two calls.
    pub(super) async fn run<D: SessionHandler<L>>(
        &mut self,
        handler: &mut D,
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

    fn poll_run<D: SessionHandler<L>>(
        &mut self,
        cx: &mut Context<'_>,
        handler: &mut D,
        arrival_stats: &mut ArrivalStats,
    ) -> Poll<Result<Infallible, FeedError>> {
        loop {
            let mut frames = 0_usize;
            let mut first_frame_at = None;
            let is_drained = loop {
                if frames == FRAMES_PER_TURN {
                    break false;
                }
                match self.socket.poll_next(cx) {
                    Poll::Ready(event) => {
                        let framed = now();
                        if first_frame_at.replace(framed).is_none() {
                            self.state.note_standstill(arrival_stats, framed);
                        }
                        frames = frames.saturating_add(1);
                        let arrival = match &event {
                            Ok(SocketEvent { polled, read, .. }) => {
                                RxTimestamps { polled: *polled, read: *read, framed }
                            }
                            Err(_) => RxTimestamps::at(framed),
                        };
                        let message = event.map(|event| event.message);
                        if let Some(end) =
                            self.state.handle(message, arrival, handler, arrival_stats)
                        {
                            return Poll::Ready(Err(end));
                        }
                    }
                    Poll::Pending => break true,
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

    /// Returns `true` if the timers must wait because the socket may have unread bytes. The task is
    /// then woken again; after [`CATCH_UP_MAX`] the timers wait no longer.
    fn must_read_first(&mut self, cx: &Context<'_>, now: Instant, is_drained: bool) -> bool {
        let overdue = self.overdue.get_or_insert(OverdueWork { since: now, turn: None });
        if DriverTick::poll(&mut overdue.turn, cx).is_pending() {
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
        if self.timer.deadline().into_std() != at {
            self.timer.as_mut().reset(at.into());
        }
    }
}
