//! State shared by the sender and the connection drivers.
//!
//! A connection is *idle* (a request may be written to it), or busy with one request. Only the task
//! that removes a connection from the idle list under the lock may write, so two requests never
//! share a connection. The lock is held for one non-blocking check and one non-blocking write, and
//! never across an await.
//!
//! A connection is idle only if all received data was read and matched to a request: its driver
//! removes it from the idle list while it reads, and [`PoolState::send`] checks the socket before
//! it writes.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{
    connection::{Connection, PendingInput},
    redial::DialLimiter,
    request::PreparedOrder,
    response::SentRequest,
};
use crate::{
    clock,
    domain::money::Amount,
    domain::outcome::NotSent,
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeKey},
    markets::order_template::OrderFields,
    net::dial::AddressOrder,
};

/// Index of the connection that stays on another address than the preferred one.
const ELSEWHERE: usize = 0;

/// The connections, and the notifications about their changes.
#[derive(Debug)]
pub(super) struct PoolState {
    pool: Mutex<ConnectionPool>,
    /// One per connection: wakes its driver.
    wakers: Vec<Notify>,
    /// Notified when a connection becomes idle and when a driver ends.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct ConnectionPool {
    request: PreparedOrder,
    /// Order that cache warming prepares: the last one, whose request has the same length as most.
    last_order: Option<OrderFields>,
    slots: Vec<PoolSlot>,
    /// Indices of idle connections. An order takes the last one, which was used most recently,
    /// because the server is least likely to be closing it. [`ELSEWHERE`] is first.
    idle: Vec<usize>,
    /// Address that all connections but [`ELSEWHERE`] use, after it was measured to be faster.
    pub(super) preferred: Option<IpAddr>,
    pub(super) dials: DialLimiter,
    pub(super) stop_phase: StopPhase,
    /// `true` after the lack of connections was logged.
    pub(super) outage_logged: bool,
    /// Newest `Date` of a keep-warm response that was not taken yet.
    pub(super) date: Option<(ClockExchange, UnixMs)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopPhase {
    Running,
    /// No new orders; responses are waited for.
    Draining,
    /// Responses are no longer waited for.
    Aborted,
}

#[derive(Debug)]
struct PoolSlot {
    connection: Option<Arc<Connection>>,
    in_flight: Option<InFlightRequest>,
    /// `true` while a rejection that was received on this connection is being confirmed.
    is_confirming: bool,
}

/// A request of which at least one byte was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlightRequest {
    pub(super) key: TradeKey,
    pub(super) order: OrderFields,
    pub(super) sent: SentRequest,
}

/// Use of a connection.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would allocate for every order")]
pub(super) enum SlotState {
    Idle,
    /// The response to an order is outstanding.
    AwaitingResponse(InFlightRequest),
    /// The connection must be replaced: the sender found it closed before it wrote a byte, or it
    /// was discarded while idle.
    Discarded,
}

impl PoolSlot {
    fn empty() -> Self {
        Self { connection: None, in_flight: None, is_confirming: false }
    }
}

impl PoolState {
    pub(super) fn new(request: PreparedOrder, connections: u32) -> Self {
        let slot_count = usize::try_from(connections).unwrap_or(usize::MAX);
        let pool = ConnectionPool {
            request,
            last_order: TradeId::new("cache-warming").map(|id| OrderFields {
                id,
                price_limit: Amount::from_cents(1),
                own_id: None,
            }),
            slots: std::iter::repeat_with(PoolSlot::empty).take(slot_count).collect(),
            idle: Vec::with_capacity(slot_count),
            preferred: None,
            dials: DialLimiter::new(connections),
            stop_phase: StopPhase::Running,
            outage_logged: false,
            date: None,
        };
        let wakers = std::iter::repeat_with(Notify::new).take(slot_count).collect();
        Self { pool: Mutex::new(pool), wakers, changed: Notify::new() }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, ConnectionPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes this order to an idle connection.
    pub(super) fn send(&self, key: TradeKey, order: OrderFields) -> Result<SentRequest, NotSent> {
        let mut pool = self.pool();
        if pool.stop_phase != StopPhase::Running {
            return Err(NotSent::Stopping);
        }
        let ConnectionPool { request, slots, idle, last_order, .. } = &mut *pool;
        let time = if request.needs_time() { clock::now() } else { UnixMs(0) };
        let mut reason = NotSent::NoConnection;
        // Each iteration removes one idle connection, so the loop ends.
        while let Some(index) = idle.pop() {
            let Some(slot) = slots.get_mut(index) else { continue };
            let Some(connection) = &slot.connection else { continue };
            reason = NotSent::Closed;
            // Pending data would be taken for the response to an order that is written now. The
            // driver reads it first.
            if connection.pending_input() != PendingInput::Nothing {
                self.wake(index);
                continue;
            }
            if let Ok(begun) = connection.write(request.bytes_for(&order, time)) {
                let sent = SentRequest { ready: connection.ready, begun, written: Instant::now() };
                slot.in_flight = Some(InFlightRequest { key, order, sent });
                *last_order = Some(order);
                self.wake(index);
                return Ok(sent);
            }
            slot.connection = None;
            self.wake(index);
        }
        Err(reason)
    }

    /// Prepares the last order again for the connection that is next, and writes nothing.
    pub(super) fn warm_caches(&self) {
        let mut pool = self.pool();
        let ConnectionPool { request, slots, idle, last_order, .. } = &mut *pool;
        let next = idle.last().and_then(|index| slots.get(*index));
        if let Some(connection) = next.and_then(|slot| slot.connection.as_ref()) {
            std::hint::black_box(connection.has_event());
        }
        if let Some(order) = last_order {
            let time = if request.needs_time() { clock::now() } else { UnixMs(0) };
            std::hint::black_box(request.bytes_for(order, time));
        }
    }

    pub(super) fn wake(&self, index: usize) {
        if let Some(waker) = self.wakers.get(index) {
            waker.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        self.wakers.iter().for_each(Notify::notify_one);
    }

    /// Waits for a [`wake`](Self::wake).
    pub(super) async fn wait_for_wake(&self, index: usize) {
        match self.wakers.get(index) {
            Some(waker) => waker.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl ConnectionPool {
    pub(super) const fn ready_count(&self) -> usize {
        self.idle.len()
    }

    /// Returns the number of open connections, idle or not.
    pub(super) fn connection_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.connection.is_some()).count()
    }

    /// Returns the idle connections; the next order takes the last one.
    #[cfg(test)]
    pub(super) fn idle_order(&self) -> &[usize] {
        &self.idle
    }

    /// Returns the number of orders without a final report.
    pub(super) fn in_flight_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.in_flight.is_some() || slot.is_confirming).count()
    }

    /// Stores a connection, not yet idle.
    pub(super) fn insert_connection(&mut self, index: usize, connection: Arc<Connection>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.connection = Some(connection);
        }
    }

    /// Makes a connection available for orders. Returns `true` if this ends an outage that was
    /// logged.
    pub(super) fn mark_idle(&mut self, index: usize) -> bool {
        if self.idle.contains(&index) {
            return false;
        }
        if self.is_elsewhere(index) {
            self.idle.insert(0, index);
        } else {
            self.idle.push(index);
        }
        std::mem::take(&mut self.outage_logged)
    }

    pub(super) const fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns `true` for the one of several connections that stays on another address.
    const fn is_elsewhere(&self, index: usize) -> bool {
        self.preferred.is_some() && index == ELSEWHERE && self.slots.len() > 1
    }

    /// Returns the order of the addresses for the next dial of a connection.
    pub(super) fn address_order(&self, index: usize) -> AddressOrder {
        match self.preferred {
            None => AddressOrder::System,
            Some(preferred) if self.is_elsewhere(index) => AddressOrder::Avoid(preferred),
            Some(preferred) => AddressOrder::Prefer(preferred),
        }
    }

    /// Returns the address of most connections.
    pub(super) fn main_address(&self) -> Option<IpAddr> {
        let peers = || self.slots.iter().filter_map(|slot| slot.connection.as_ref()?.peer());
        peers().max_by_key(|peer| peers().filter(|other| other == peer).count())
    }

    /// Discards an idle connection to another address than it should have. Its driver must then be
    /// woken. Returns `false` if there is none.
    pub(super) fn discard_misplaced(&mut self, index: usize) -> bool {
        let order = self.address_order(index);
        let slot = self.slots.get(index);
        let peer = slot.and_then(|slot| slot.connection.as_ref()?.peer());
        let is_misplaced = match (order, peer) {
            (AddressOrder::System, _) | (_, None) => false,
            (AddressOrder::Prefer(address), Some(peer)) => peer != address,
            (AddressOrder::Avoid(address), Some(peer)) => peer == address,
        };
        if !is_misplaced || !self.take_idle(index) {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.connection = None;
        }
        true
    }

    /// Removes a connection from the idle list. Returns `false` if it was not idle.
    pub(super) fn take_idle(&mut self, index: usize) -> bool {
        let position = self.idle.iter().position(|idle| *idle == index);
        position.map(|position| self.idle.remove(position)).is_some()
    }

    pub(super) fn slot_state(&self, index: usize) -> SlotState {
        match self.slots.get(index) {
            Some(PoolSlot { in_flight: Some(in_flight), .. }) => {
                SlotState::AwaitingResponse(*in_flight)
            }
            Some(PoolSlot { connection: Some(_), .. }) => SlotState::Idle,
            _ => SlotState::Discarded,
        }
    }

    /// Marks the order as complete. `is_confirming` is `true` if its final report follows later.
    pub(super) fn complete_order(&mut self, index: usize, is_confirming: bool) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.in_flight = None;
            slot.is_confirming = is_confirming;
        }
    }

    /// Discards every idle connection. Their drivers must be woken.
    pub(super) fn discard_idle(&mut self) {
        for index in std::mem::take(&mut self.idle) {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.connection = None;
            }
        }
    }

    /// Removes a connection. Returns its order without a response, if any.
    pub(super) fn remove_connection(&mut self, index: usize) -> Option<InFlightRequest> {
        let _was_idle = self.take_idle(index);
        let slot = std::mem::replace(self.slots.get_mut(index)?, PoolSlot::empty());
        slot.in_flight
    }
}
