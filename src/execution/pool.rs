//! What the one who sends and the drivers of the connections share.
//!
//! A connection is *idle* (anybody may write a request to it), or it is busy with one request. Only
//! whoever takes it from the idle ones under the lock may write, so two requests never meet on a
//! connection. The lock is held for as long as one non-blocking look and one such write take and
//! never across a wait.
//!
//! A connection is idle only if everything that the server has sent on it was read and accounted
//! for: its driver takes it away from the idle ones while it reads, and [`PoolState::send`] looks at the
//! socket before it writes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{
    answer::SentRequest,
    connection::{Connection, PendingInput},
    redial::DialLimiter,
    request::BuyRequest,
};
use crate::{
    domain::outcome::NotSent, domain::server_clock::ClockExchange, domain::time::UnixMs,
    domain::trade::TradeId,
};

/// The state of all connections, and how to wake those who wait for a change of it.
#[derive(Debug)]
pub(super) struct PoolState {
    pool: Mutex<ConnectionPool>,
    /// One per connection: its driver has something new to look at.
    wakers: Vec<Notify>,
    /// A connection has become idle, or the last driver has ended.
    pub(super) changed: Notify,
}

/// All connections.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    request: BuyRequest,
    slots: Vec<Slot>,
    /// The idle ones. The last was used most recently, so it is the least likely to be closed by
    /// the server just now, and is taken first.
    idle: Vec<usize>,
    pub(super) dials: DialLimiter,
    pub(super) stopping: StopPhase,
    /// Whether somebody has been told that there is no connection.
    pub(super) outage_told: bool,
    /// The newest `Date` that nobody has taken yet, of those that no report carries.
    pub(super) date: Option<(ClockExchange, UnixMs)>,
}

/// How far the stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopPhase {
    No,
    /// Nothing new is sent; answers are waited for.
    Waiting,
    /// Answers are not waited for any more.
    Over,
}

#[derive(Debug)]
struct Slot {
    link: Option<Arc<Connection>>,
    in_flight: Option<InFlightRequest>,
    /// A refusal that came over it is being confirmed.
    is_confirming: bool,
}

/// A request of which at least one byte has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlightRequest {
    pub(super) id: TradeId,
    pub(super) written: SentRequest,
}

/// What a driver must do next.
#[derive(Clone, Copy, Debug)]
pub(super) enum SlotState {
    /// Nobody uses the connection.
    Idle,
    /// A buy's answer is due.
    Answer(InFlightRequest),
    /// The connection was found bad by the one who wanted to send, before a byte was written.
    Discard,
}

impl Slot {
    fn empty() -> Self {
        Self { link: None, in_flight: None, is_confirming: false }
    }
}

impl PoolState {
    pub(super) fn new(request: BuyRequest, connections: u32) -> Self {
        let places = usize::try_from(connections).unwrap_or(usize::MAX);
        let pool = ConnectionPool {
            request,
            slots: std::iter::repeat_with(Slot::empty).take(places).collect(),
            idle: Vec::with_capacity(places),
            dials: DialLimiter::new(connections),
            stopping: StopPhase::No,
            outage_told: false,
            date: None,
        };
        let wakers = std::iter::repeat_with(Notify::new).take(places).collect();
        Self { pool: Mutex::new(pool), wakers, changed: Notify::new() }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, ConnectionPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the buy of this listing to an idle connection, from where the caller stands.
    pub(super) fn send(&self, id: &TradeId) -> Result<SentRequest, NotSent> {
        let mut pool = self.pool();
        if pool.stopping != StopPhase::No {
            return Err(NotSent::Stopping);
        }
        let ConnectionPool { request, slots, idle, .. } = &mut *pool;
        let mut reason = NotSent::NoConnection;
        // Each turn takes one idle connection away, so this ends.
        while let Some(index) = idle.pop() {
            let Some(slot) = slots.get_mut(index) else { continue };
            let Some(link) = &slot.link else { continue };
            reason = NotSent::Closed;
            // Its driver finds out what has arrived. It would be taken for the answer to an order
            // that is written now.
            if link.input() != PendingInput::Nothing {
                self.wake(index);
                continue;
            }
            if let Ok(begun) = link.write(request.for_id(id)) {
                let written = SentRequest { ready: link.ready, begun, written: Instant::now() };
                slot.in_flight = Some(InFlightRequest { id: *id, written });
                self.wake(index);
                return Ok(written);
            }
            slot.link = None;
            self.wake(index);
        }
        Err(reason)
    }

    /// Wakes one connection's driver.
    pub(super) fn wake(&self, index: usize) {
        if let Some(waker) = self.wakers.get(index) {
            waker.notify_one();
        }
    }

    /// Wakes all drivers.
    pub(super) fn wake_all(&self) {
        self.wakers.iter().for_each(Notify::notify_one);
    }

    /// Waits for a [`wake`](Self::wake).
    pub(super) async fn woken(&self, index: usize) {
        match self.wakers.get(index) {
            Some(waker) => waker.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl ConnectionPool {
    /// How many connections could take a request now.
    pub(super) const fn ready_count(&self) -> usize {
        self.idle.len()
    }

    /// How many orders wait for their final report.
    pub(super) fn in_flight_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.in_flight.is_some() || slot.is_confirming).count()
    }

    /// Gives a connection into the pool, not yet idle.
    pub(super) fn admit(&mut self, index: usize, link: Arc<Connection>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.link = Some(link);
        }
    }

    /// Lets anybody write to it. Returns whether this ends an outage that was told.
    pub(super) fn make_idle(&mut self, index: usize) -> bool {
        if self.idle.contains(&index) {
            return false;
        }
        self.idle.push(index);
        std::mem::take(&mut self.outage_told)
    }

    /// Takes it away from those who want to send, if nobody has it.
    pub(super) fn take_idle(&mut self, index: usize) -> bool {
        let place = self.idle.iter().position(|idle| *idle == index);
        place.map(|place| self.idle.remove(place)).is_some()
    }

    pub(super) fn duty(&self, index: usize) -> SlotState {
        match self.slots.get(index) {
            Some(Slot { in_flight: Some(in_flight), .. }) => SlotState::Answer(*in_flight),
            Some(Slot { link: Some(_), .. }) => SlotState::Idle,
            _ => SlotState::Discard,
        }
    }

    /// The order's answer is here. `is_confirming` says that its final report is still to come.
    pub(super) fn settle(&mut self, index: usize, is_confirming: bool) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.in_flight = None;
            slot.is_confirming = is_confirming;
        }
    }

    /// Gives up every idle connection. Their drivers must be woken.
    pub(super) fn give_up_idle(&mut self) {
        for index in std::mem::take(&mut self.idle) {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.link = None;
            }
        }
    }

    /// The connection is gone. Returns what it leaves unanswered.
    pub(super) fn dismiss(&mut self, index: usize) -> Option<InFlightRequest> {
        let _was_idle = self.take_idle(index);
        let slot = std::mem::replace(self.slots.get_mut(index)?, Slot::empty());
        slot.in_flight
    }
}
