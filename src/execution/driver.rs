//! Task that owns one connection: it opens the connection, reads responses, keeps it warm, and
//! replaces it.
//!
//! A driver never starts an order; it flushes the rest of a partial write, reads the response under
//! a deadline, and reports the outcome. A rejection that does not name the order is reported twice:
//! first as unconfirmed, and again after the connection was shown to be in sync, or not. Between
//! orders the driver sends keep-warm requests, so that neither the server nor a proxy drops the
//! connection.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};
use tracing::{debug, info, warn};

use super::{
    ConnectionConfig, DIAL_TIMEOUT,
    attribution::{self, Conclusion},
    connection::{ConnectError, Connection, PendingInput},
    pool::{InFlightRequest, PoolState, SlotState, StopPhase},
    redial::{IdleAction, RedialBackoff},
    request::WarmRequest,
    response::{ExchangeResult, OrderReport, ResponseError},
    response_reader::{BODY_BYTES_MAX, ReadProgress, ResponseReader},
};
use crate::{
    clock,
    config::endpoint::Endpoint,
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    markets::MarketApi,
    net::{
        deadline::{self, CATCH_UP_MAX, Late},
        http_client::{PAUSE_DEFAULT, pause_host, pause_of_host, try_acquire_quota},
        http_message::HttpResponse,
        tls::Tls,
    },
    text::error_chain,
};

/// Maximum percentage by which a keep-warm request is sent early.
const JITTER_PERCENT_MAX: u32 = 20;

/// Size of the read buffer.
const READ_BYTES: usize = 16 * 1024;
/// Maximum time to read unrequested data that may name a rejected order.
const UNREQUESTED_MAX: Duration = Duration::from_secs(1);
/// Maximum number of rejected orders that are kept per connection.
const REJECTED_MAX: usize = 64;

/// State shared by all drivers of a pool.
#[derive(Debug)]
pub(super) struct DriverContext<M> {
    pub(super) market: M,
    pub(super) shared: Arc<PoolState>,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Tls,
    pub(super) warm: Arc<WarmRequest>,
    pub(super) connection_config: ConnectionConfig,
    pub(super) reports: mpsc::Sender<OrderReport>,
    pub(super) started: Instant,
}

/// Driver of one connection of the pool.
pub(super) struct ConnectionDriver<M> {
    context: Arc<DriverContext<M>>,
    index: usize,
    redial: RedialBackoff,
    /// Idle timeout announced by the server.
    server_timeout: Option<Duration>,
    buffer: Vec<u8>,
}

/// State of one open connection.
struct DriverSession {
    connection: Arc<Connection>,
    reader: ResponseReader,
    /// Time at which the pending keep-warm request was written.
    keep_warm_sent: Option<Instant>,
    confirming: Option<Confirmation>,
    /// Orders that were rejected here, newest last: a response that names one of them may still
    /// arrive.
    rejected: VecDeque<InFlightRequest>,
    idle_since: Instant,
    /// A deadline that has passed, and the time at which the driver saw that.
    passed_deadline: Option<(Instant, Instant)>,
    /// Percentage by which the keep-warm request of this connection is early. It differs between
    /// the connections of a pool, so that they do not send theirs at the same time.
    jitter_percent: u32,
}

/// A rejection that does not name the order, until the next response on the connection decides.
struct Confirmation {
    order: InFlightRequest,
    reason: RejectReason,
    response: HttpResponse,
    /// Time at which the rejection was complete.
    received: Instant,
    /// Time at which the confirming keep-warm request was written; `None` if other data had arrived
    /// before.
    request_sent: Option<Instant>,
    /// Time at which the host's limit allows the keep-warm request.
    postponed_until: Option<Instant>,
}

/// A complete response and the state of its connection.
struct ReceivedResponse {
    response: HttpResponse,
    at: Instant,
    /// `true` if more bytes followed the response.
    has_surplus: bool,
    /// `true` if the connection can carry another request: HTTP allows it, and the last request was
    /// sent in full.
    is_reusable: bool,
}

impl DriverSession {
    fn remember_rejected(&mut self, order: InFlightRequest) {
        if self.rejected.len() >= REJECTED_MAX {
            self.rejected.pop_front();
        }
        self.rejected.push_back(order);
    }

    fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            reader: ResponseReader::new(),
            keep_warm_sent: None,
            confirming: None,
            rejected: VecDeque::new(),
            idle_since: Instant::now(),
            passed_deadline: None,
            jitter_percent: fastrand::u32(..JITTER_PERCENT_MAX),
        }
    }

    /// Returns `true` if no keep-warm request or confirmation is pending.
    const fn is_free(&self) -> bool {
        self.keep_warm_sent.is_none() && self.confirming.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    /// The connection has ended or must not be reused. An outstanding order is reported with this
    /// error.
    Close(ResponseError),
}

impl<M: MarketApi> ConnectionDriver<M> {
    pub(super) fn new(context: Arc<DriverContext<M>>, index: usize) -> Self {
        let buffer = vec![0; READ_BYTES];
        Self { context, index, redial: RedialBackoff::default(), server_timeout: None, buffer }
    }

    pub(super) async fn run(mut self) {
        while !self.is_stopping() {
            let lifetime = match self.open().await {
                Some(connection) => self.run_connection(connection).await,
                None => Duration::ZERO,
            };
            let wait = self.redial.next_wait(lifetime, fastrand::u64(..));
            self.pause(wait).await;
        }
        self.context.shared.changed.notify_waiters();
    }

    fn is_stopping(&self) -> bool {
        self.context.shared.pool().stop_phase != StopPhase::Running
    }

    /// Waits until the time is over or the pool stops.
    async fn pause(&self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        let until = sleep(wait);
        tokio::pin!(until);
        while !self.is_stopping() {
            tokio::select! {
                () = &mut until => return,
                () = self.context.shared.wait_for_wake(self.index) => {}
            }
        }
    }

    async fn open(&self) -> Option<Connection> {
        loop {
            let allowed =
                self.context.shared.pool().dials.try_acquire(self.context.started.elapsed());
            match allowed {
                Ok(()) => break,
                Err(wait) => self.pause(wait).await,
            }
            if self.is_stopping() {
                return None;
            }
        }
        let order = self.context.shared.pool().address_order(self.index);
        let dial = deadline::timeout(
            DIAL_TIMEOUT,
            Connection::open(&self.context.endpoint, &self.context.tls, order),
        );
        tokio::pin!(dial);
        let outcome = loop {
            tokio::select! {
                outcome = &mut dial => break outcome,
                () = self.context.shared.wait_for_wake(self.index) => {
                    if self.is_stopping() {
                        return None;
                    }
                }
            }
        };
        match outcome {
            Ok(Ok(connection)) => Some(connection),
            Ok(Err(error)) => {
                self.log_failure(Some(&error));
                None
            }
            Err(Late) => {
                self.log_failure(None);
                None
            }
        }
    }

    /// Logs a failed dial. The first one of an outage is a warning.
    fn log_failure(&self, error: Option<&ConnectError>) {
        let reason =
            error.map_or_else(|| "no response in time".to_owned(), |error| error_chain(error));
        let is_first = {
            let mut pool = self.context.shared.pool();
            let is_first = pool.ready_count() == 0 && !pool.outage_logged;
            pool.outage_logged |= is_first;
            is_first
        };
        if is_first {
            warn!("Order connection failed: {reason}; no orders can be sent, retrying");
        } else {
            let failures = self.redial.failures().saturating_add(1);
            debug!(
                connection = self.index,
                failures, "Order connection failed: {reason}; retrying"
            );
        }
    }

    /// Runs an open connection until it ends. Returns its lifetime.
    async fn run_connection(&mut self, connection: Connection) -> Duration {
        let opened = Instant::now();
        let connection = Arc::new(connection);
        debug!(connection = self.index, "Order connection opened");
        let mut session = DriverSession::new(Arc::clone(&connection));
        self.context.shared.pool().insert_connection(self.index, connection);
        let error = self.run_session(&mut session).await;
        let in_flight = self.context.shared.pool().remove_connection(self.index);
        let result = ExchangeResult::Broken { error, head: session.reader.head() };
        let is_silent = !session.reader.has_begun();
        let confirming = session.confirming.take();
        let confirming = confirming.map(|it| (it.order, is_silent.then_some(it.reason)));
        if let Some((order, reason)) = in_flight.map(|order| (order, None)).or(confirming) {
            let outcome = attribution::classify_failure(reason, error);
            self.report(order, (result, Instant::now()), outcome, true).await;
        }
        opened.elapsed()
    }

    async fn run_session(&mut self, session: &mut DriverSession) -> ResponseError {
        let mut timer = Box::pin(sleep(Duration::ZERO));
        loop {
            let mut outage_ended = false;
            // While received data is read and matched, no order may be written.
            let _was_idle = self.context.shared.pool().take_idle(self.index);
            if let Flow::Close(error) = self.read(session).await {
                return error;
            }
            let slot_state = {
                let mut pool = self.context.shared.pool();
                let slot_state = pool.slot_state(self.index);
                match (pool.stop_phase, slot_state) {
                    (StopPhase::Aborted, _) | (_, SlotState::Discarded) => {
                        return ResponseError::Stopped;
                    }
                    (StopPhase::Draining, SlotState::Idle) if session.confirming.is_none() => {
                        return ResponseError::Stopped;
                    }
                    (StopPhase::Running, SlotState::Idle) if session.is_free() => {
                        outage_ended = pool.mark_idle(self.index);
                    }
                    (_, SlotState::Idle | SlotState::AwaitingResponse(_)) => {}
                }
                slot_state
            };
            if outage_ended {
                info!("Order connection restored: orders can be sent again");
            }
            if matches!(slot_state, SlotState::Idle) && session.is_free() {
                self.context.shared.changed.notify_waiters();
            }
            if let Flow::Close(error) = self.wait(session, slot_state, timer.as_mut()).await {
                return error;
            }
        }
    }

    /// Waits for input, for write capacity, for a wake-up, or for the next deadline.
    async fn wait(
        &self,
        session: &mut DriverSession,
        slot_state: SlotState,
        mut timer: Pin<&mut Sleep>,
    ) -> Flow {
        let next_deadline = self.next_deadline(session, slot_state).into();
        if timer.deadline() != next_deadline {
            timer.as_mut().reset(next_deadline);
        }
        let has_unsent = session.connection.has_unsent();
        tokio::select! {
            biased;
            readable = session.connection.readable() => match readable {
                Ok(()) => Flow::Continue,
                Err(_broken) => Flow::Close(ResponseError::Cut),
            },
            writable = session.connection.writable(), if has_unsent => {
                match writable.and_then(|()| session.connection.flush()) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        Flow::Close(ResponseError::Cut)
                    }
                    Ok(()) | Err(_) => Flow::Continue,
                }
            }
            () = self.context.shared.wait_for_wake(self.index) => Flow::Continue,
            () = timer => self.on_timer(session, slot_state).await,
        }
    }

    /// Handles a passed deadline. Data already in the socket is read first, for at most
    /// [`CATCH_UP_MAX`], so that a server that sends byte by byte cannot extend the deadline.
    async fn on_timer(&self, session: &mut DriverSession, slot_state: SlotState) -> Flow {
        let next_deadline = self.next_deadline(session, slot_state);
        let since = match session.passed_deadline {
            Some((passed, since)) if passed == next_deadline => since,
            _ => Instant::now(),
        };
        session.passed_deadline = Some((next_deadline, since));
        if since.elapsed() <= CATCH_UP_MAX {
            match deadline::poll_after_deadline(next_deadline.into(), session.connection.readable())
                .await
            {
                Some(Ok(())) => return Flow::Continue,
                Some(Err(_broken)) => return Flow::Close(ResponseError::Cut),
                None => {}
            }
        }
        self.on_deadline(session, slot_state)
    }

    /// Returns the next deadline.
    fn next_deadline(&self, session: &DriverSession, slot_state: SlotState) -> Instant {
        let ConnectionConfig { order_timeout, response_timeout, .. } =
            self.context.connection_config;
        let confirming = session.confirming.as_ref();
        if let Some(postponed_until) = confirming.and_then(|one| one.postponed_until) {
            return postponed_until;
        }
        let request_sent = confirming.map(|one| one.request_sent.unwrap_or(one.received));
        match (slot_state, request_sent.or(session.keep_warm_sent)) {
            (SlotState::AwaitingResponse(in_flight), _) => in_flight.sent.written + order_timeout,
            (_, Some(request_sent)) => request_sent + response_timeout,
            (_, None) => {
                let (IdleAction::KeepWarm(after) | IdleAction::Replace(after)) = self.idle_action();
                let jitter = after.saturating_mul(session.jitter_percent) / 100;
                session.idle_since + after.saturating_sub(jitter)
            }
        }
    }

    fn idle_action(&self) -> IdleAction {
        IdleAction::decide(self.context.connection_config.keep_warm, self.server_timeout)
    }

    /// Acts on a deadline: closes on a timeout, keeps an idle connection warm or replaces it.
    fn on_deadline(&self, session: &mut DriverSession, slot_state: SlotState) -> Flow {
        let confirming = session.confirming.as_mut();
        if confirming.and_then(|one| one.postponed_until.take()).is_some() {
            return self.send_confirmation_request(session);
        }
        if matches!(slot_state, SlotState::AwaitingResponse(_)) || !session.is_free() {
            return Flow::Close(ResponseError::Timeout);
        }
        let action = self.idle_action();
        let origin = self.context.endpoint.origin();
        let may_send = || pause_of_host(&origin).is_zero() && self.try_acquire_quota().is_ok();
        if matches!(action, IdleAction::KeepWarm(_)) && !may_send() {
            session.idle_since = Instant::now();
            return Flow::Continue;
        }
        if !self.context.shared.pool().take_idle(self.index) {
            // An order was written to the connection in the meantime.
            return Flow::Continue;
        }
        match action {
            IdleAction::Replace(_) => Flow::Close(ResponseError::Stopped),
            // The pending data would be taken for the response to the keep-warm request.
            IdleAction::KeepWarm(_)
                if session.connection.pending_input() != PendingInput::Nothing =>
            {
                Flow::Close(ResponseError::Cut)
            }
            IdleAction::KeepWarm(_) => match session.connection.write(self.context.warm.bytes()) {
                Ok(begun) => {
                    session.keep_warm_sent = Some(begun);
                    Flow::Continue
                }
                Err(_nothing_sent) => Flow::Close(ResponseError::Cut),
            },
        }
    }

    /// Reads all received data.
    async fn read(&mut self, session: &mut DriverSession) -> Flow {
        loop {
            match session.connection.read(&mut self.buffer) {
                Ok(0) => {
                    let ended = session.reader.end();
                    // A response that is delimited by the end of the connection is complete now.
                    let _flow = self.on_response(session, false).await;
                    return Flow::Close(ended.err().unwrap_or(ResponseError::Cut));
                }
                Ok(count) => {
                    if let Flow::Close(error) = self.process_bytes(session, count).await {
                        return Flow::Close(error);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Flow::Continue,
                    io::ErrorKind::Interrupted => {}
                    _ => return Flow::Close(ResponseError::Cut),
                },
            }
        }
    }

    /// Parses the bytes that were read into the outstanding responses.
    async fn process_bytes(&mut self, session: &mut DriverSession, count: usize) -> Flow {
        let mut bytes = self.buffer.get(..count).unwrap_or_default();
        while !bytes.is_empty() {
            let slot_state = self.context.shared.pool().slot_state(self.index);
            if matches!(slot_state, SlotState::Discarded)
                || matches!(slot_state, SlotState::Idle) && session.is_free()
            {
                self.log_unexpected_bytes(bytes);
                let unrequested = self.read_unrequested(session, bytes).await;
                self.report_unrequested(session, &unrequested).await;
                return Flow::Close(ResponseError::Malformed);
            }
            match session.reader.feed(bytes, clock::wall()) {
                Err(error) => return Flow::Close(error),
                Ok(ReadProgress::More) => return Flow::Continue,
                Ok(ReadProgress::Done { taken }) => {
                    self.server_timeout = session.reader.keep_alive().idle.or(self.server_timeout);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    if let Flow::Close(error) = self.on_response(session, !bytes.is_empty()).await {
                        return Flow::Close(error);
                    }
                }
            }
        }
        Flow::Continue
    }

    /// Dispatches a complete response. `has_surplus` is `true` if more bytes followed it.
    async fn on_response(&self, session: &mut DriverSession, has_surplus: bool) -> Flow {
        let is_reusable = session.reader.keep_alive().reusable && !session.connection.has_unsent();
        let Some(response) = session.reader.take_response() else {
            return Flow::Close(ResponseError::Cut);
        };
        let at = Instant::now();
        session.idle_since = at;
        let received = ReceivedResponse { response, at, has_surplus, is_reusable };
        if let Some(confirmation) = session.confirming.take() {
            return self.on_confirmation_response(session, confirmation, received).await;
        }
        if let Some(sent) = session.keep_warm_sent.take() {
            if !self.context.market.is_keep_warm_response(&received.response) {
                self.report_late_response(session, &received.response).await;
            }
            return self.on_keep_warm_response(sent, received);
        }
        let slot_state = self.context.shared.pool().slot_state(self.index);
        match slot_state {
            SlotState::AwaitingResponse(order) => {
                self.on_order_response(session, order, received).await
            }
            SlotState::Idle | SlotState::Discarded => Flow::Close(ResponseError::Malformed),
        }
    }

    /// Handles the first response after an order was written.
    async fn on_order_response(
        &self,
        session: &mut DriverSession,
        order: InFlightRequest,
        received: ReceivedResponse,
    ) -> Flow {
        let ReceivedResponse { response, at, has_surplus, is_reusable } = received;
        let pause = requested_pause::<M>(&response);
        let conclusion =
            attribution::classify_response(&self.context.market, &order.order, &response);
        let (outcome, in_sync) = match conclusion {
            Conclusion::Final { outcome, in_sync } => (outcome, in_sync),
            Conclusion::Confirm(reason) if is_reusable || has_surplus => {
                self.context.shared.pool().complete_order(self.index, true);
                session.confirming = Some(Confirmation {
                    order,
                    reason,
                    response: response.clone(),
                    received: at,
                    request_sent: None,
                    postponed_until: None,
                });
                let outcome = attribution::unconfirmed(reason);
                let result = ExchangeResult::Complete(response);
                self.report(order, (result, at), outcome, false).await;
                self.pause_host(pause);
                // The bytes after the rejection are the next response.
                return if has_surplus {
                    Flow::Continue
                } else {
                    self.send_confirmation_request(session)
                };
            }
            // The connection ends with this response, so nothing can show that it was in sync.
            Conclusion::Confirm(reason) => (attribution::unconfirmed(reason), false),
        };
        self.context.shared.pool().complete_order(self.index, false);
        if !in_sync {
            self.report_late_response(session, &response).await;
        }
        if matches!(outcome, Outcome::Rejected(_)) {
            session.remember_rejected(order);
        }
        self.report(order, (ExchangeResult::Complete(response), at), outcome, true).await;
        self.pause_host(pause);
        if in_sync && is_reusable { Flow::Continue } else { Flow::Close(ResponseError::Cut) }
    }

    /// Pauses reads, tokens and keep-warm requests for a wait that a response has requested.
    fn pause_host(&self, requested: Option<Duration>) {
        if let Some(wait) = requested {
            pause_host(&self.context.endpoint.origin(), wait);
        }
    }

    /// Counts a request other than an order against the host's limit.
    fn try_acquire_quota(&self) -> Result<(), Duration> {
        try_acquire_quota(&self.context.endpoint.origin(), M::CAPABILITIES.reads.other_quota())
    }

    /// Writes the request whose response confirms a rejection, unless data has arrived since. If
    /// the host's limit does not allow it yet, it is written later, within the response timeout.
    fn send_confirmation_request(&self, session: &mut DriverSession) -> Flow {
        if session.connection.pending_input() != PendingInput::Nothing {
            return Flow::Continue;
        }
        if let Err(wait) = self.try_acquire_quota() {
            let (until, timeout) =
                (Instant::now() + wait, self.context.connection_config.response_timeout);
            if let Some(one) = &mut session.confirming {
                one.postponed_until = (until < one.received + timeout).then_some(until);
            }
            return Flow::Continue;
        }
        match session.connection.write(self.context.warm.bytes()) {
            Ok(begun) => {
                if let Some(confirmation) = &mut session.confirming {
                    confirmation.request_sent = Some(begun);
                }
                Flow::Continue
            }
            Err(_nothing_sent) => Flow::Close(ResponseError::Cut),
        }
    }

    /// Handles the next response after a rejection.
    async fn on_confirmation_response(
        &self,
        session: &mut DriverSession,
        confirmation: Confirmation,
        received: ReceivedResponse,
    ) -> Flow {
        let Confirmation {
            order,
            reason,
            response: rejection,
            received: rejected_at,
            request_sent,
            postponed_until: _,
        } = confirmation;
        let ReceivedResponse { response, at, has_surplus, is_reusable } = received;
        let is_next = request_sent.is_some()
            && !has_surplus
            && !session.connection.has_unsent()
            && session.connection.pending_input() != PendingInput::Data;
        let market = &self.context.market;
        let outcome =
            attribution::classify_confirmation(market, &order.order, reason, &response, is_next);
        self.context.shared.pool().complete_order(self.index, false);
        if !matches!(outcome, Outcome::Rejected(_)) {
            self.report_late_response(session, &response).await;
            debug!(
                connection = self.index,
                "Rejection not confirmed: order {}, the next response was not that of the keep-warm \
                 request; closing the connection",
                order.order.id
            );
            self.report(order, (ExchangeResult::Complete(response), at), outcome, true).await;
            return Flow::Close(ResponseError::Malformed);
        }
        self.record_date(request_sent, at, response.head.date);
        session.remember_rejected(order);
        self.report(order, (ExchangeResult::Complete(rejection), rejected_at), outcome, true).await;
        if is_reusable { Flow::Continue } else { Flow::Close(ResponseError::Cut) }
    }

    /// Handles the response to a keep-warm request. Any other response shows that the connection is
    /// out of sync.
    fn on_keep_warm_response(&self, sent: Instant, received: ReceivedResponse) -> Flow {
        let ReceivedResponse { response, at, has_surplus, is_reusable } = received;
        self.pause_host(requested_pause::<M>(&response));
        if !self.context.market.is_keep_warm_response(&response) {
            debug!(
                connection = self.index,
                "Unexpected keep-warm response: closing the connection"
            );
            return Flow::Close(ResponseError::Malformed);
        }
        self.record_date(Some(sent), at, response.head.date);
        if is_reusable && !has_surplus { Flow::Continue } else { Flow::Close(ResponseError::Cut) }
    }

    fn record_date(&self, sent: Option<Instant>, received: Instant, date: Option<UnixMs>) {
        if let Some((sent, date)) = sent.zip(date) {
            self.context.shared.pool().date = Some((ClockExchange { sent, received }, date));
        }
    }

    /// Reports the rejected orders that the responses in unrequested data name. Data that is no
    /// response is searched as a whole.
    async fn report_unrequested(&self, session: &mut DriverSession, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut reader = ResponseReader::new();
            let (body, later) = match reader.feed(rest, clock::wall()) {
                Ok(ReadProgress::Done { taken }) => {
                    rest.split_at_checked(taken).unwrap_or_default()
                }
                Ok(ReadProgress::More) | Err(_) => (rest, [].as_slice()),
            };
            let _is_complete = reader.end().is_ok();
            // The status of an incomplete response may show that it is a rejection.
            let incomplete = reader.head().map(|head| HttpResponse { head, body: body.to_vec() });
            match reader.take_response().or(incomplete) {
                Some(response) => self.report_late_response(session, &response).await,
                None => self.report_late(session, rest).await,
            }
            rest = later;
        }
    }

    /// Does the same as [`report_late`](Self::report_late) for a response, unless it is a
    /// rejection, which may name the listing of an earlier order.
    async fn report_late_response(&self, session: &mut DriverSession, response: &HttpResponse) {
        let found = attribution::find_late_response(&session.rejected, &response.body);
        let is_rejection = found.is_some_and(|found| {
            let (outcome, _) = self.context.market.order_outcome(&found.order, response);
            (400..500).contains(&response.head.status) || matches!(outcome, Outcome::Rejected(_))
        });
        if !is_rejection {
            self.report_late(session, &response.body).await;
        }
    }

    /// Reports a rejected order as bought if this data names it: its response came late, and the
    /// rejection belonged to another request. The ledger counts it again and halts.
    async fn report_late(&self, session: &mut DriverSession, bytes: &[u8]) {
        let found = attribution::find_late_response(&session.rejected, bytes);
        let Some(&order) = found else { return };
        session.rejected.retain(|rejected| rejected.key != order.key);
        debug!("Late response: order {}, rejected before, counts as bought", order.order.id);
        let broken = ExchangeResult::Broken { error: ResponseError::Malformed, head: None };
        let outcome = Outcome::Bought { price: None, server_time: None };
        self.report(order, (broken, Instant::now()), outcome, true).await;
    }

    /// Reads what follows unrequested data for [`UNREQUESTED_MAX`], because only whole responses
    /// show which order they name, and whether they are rejections. Returns at once if no order
    /// was rejected here.
    async fn read_unrequested(&self, session: &DriverSession, first: &[u8]) -> Vec<u8> {
        let mut bytes = first.to_vec();
        if session.rejected.is_empty() || attribution::is_idle_timeout(first) {
            return bytes;
        }
        let read = async {
            let mut buffer = [0; 4 * 1024];
            while bytes.len() < BODY_BYTES_MAX && session.connection.readable().await.is_ok() {
                match session.connection.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_broken) => break,
                }
            }
        };
        // After a timeout, the bytes that were read are searched nevertheless.
        let _late = tokio::time::timeout(UNREQUESTED_MAX, read).await;
        bytes
    }

    /// Logs bytes that arrived without an open request; the connection is then closed.
    fn log_unexpected_bytes(&self, bytes: &[u8]) {
        let (connection, count) = (self.index, bytes.len());
        if attribution::is_idle_timeout(bytes) {
            debug!(connection, "Idle order connection closed by the server: HTTP 408");
        } else {
            debug!(connection, "Order connection replaced: {count} bytes of unrequested data");
        }
    }

    /// Sends a report. The queue has capacity for all orders that can be in flight.
    async fn report(
        &self,
        order: InFlightRequest,
        (result, received): (ExchangeResult, Instant),
        outcome: Outcome,
        is_final: bool,
    ) {
        let InFlightRequest { key, sent, .. } = order;
        let market_error = match (&outcome, &result) {
            (Outcome::Unknown(Unknown::UnknownError), ExchangeResult::Complete(response)) => {
                self.context.market.error_message(response)
            }
            _ => None,
        };
        let response = result;
        let report = OrderReport { key, outcome, is_final, response, market_error, sent, received };
        if self.context.reports.send(report).await.is_err() {
            warn!("Outcome not recorded, because the bot is stopping: order {}", key.id);
        }
    }
}

/// Returns the wait that a response requests: one with 429, or one with 200 that states the wait in
/// its body and not in a header.
fn requested_pause<M: MarketApi>(response: &HttpResponse) -> Option<Duration> {
    match response.head.status {
        429 => Some(M::retry_after(response).unwrap_or(PAUSE_DEFAULT)),
        200 => M::retry_after(response).filter(|_wait| response.head.retry_after.is_none()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
