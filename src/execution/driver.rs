//! Looks after one connection: opens it, reads its answers, keeps it warm, replaces it.
//!
//! A driver never writes an order; it finishes one of which the system took only a part, reads its
//! answer under a deadline, and reports what became of it. A refusal that names no order is reported
//! twice: at once as unconfirmed, and again when the connection was shown to be in step, or not.
//! Between orders it sends a harmless request now and then, so that neither the server nor anything
//! on the way forgets the connection.

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
    ConnectionConfig, DIAL_DEADLINE,
    answer::{ExchangeResult, HttpResponse, OrderReport, ResponseError},
    answer_reader::{ReadProgress, ResponseReader},
    attribution::{self, Conclusion},
    connection::{ConnectError, Connection, PendingInput},
    pool::{InFlightRequest, PoolState, SlotState, StopPhase},
    redial::{IdleAction, RedialBackoff},
    request::WarmRequest,
};
use crate::{
    config::endpoint::Endpoint,
    domain::outcome::{Outcome, RejectReason},
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    net::{
        deadline::{self, CATCH_UP_MAX, Late},
        tls::Tls,
    },
    text::error_chain,
};

/// How much earlier than planned a connection may be warmed, in percent.
const EARLIER_PERCENT_MAX: u32 = 20;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;
/// How many orders that were rejected on a connection are remembered.
const REJECTED_MAX: usize = 64;

/// What all drivers of a pool have in common.
#[derive(Debug)]
pub(super) struct DriverContext {
    pub(super) shared: Arc<PoolState>,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Tls,
    pub(super) warm: WarmRequest,
    pub(super) habits: ConnectionConfig,
    pub(super) reports: mpsc::Sender<OrderReport>,
    pub(super) started: Instant,
}

/// One connection's driver.
pub(super) struct ConnectionDriver {
    common: Arc<DriverContext>,
    index: usize,
    redial: RedialBackoff,
    /// For how long the server says that it keeps an idle connection.
    patience: Option<Duration>,
    buffer: Vec<u8>,
}

/// One connection's life, as its driver sees it.
struct DriverSession {
    link: Arc<Connection>,
    reader: ResponseReader,
    /// The harmless request under way that keeps it warm: when it was written.
    warming: Option<Instant>,
    confirming: Option<Confirmation>,
    /// Orders whose rejection was confirmed here, the newest last: an answer that names one of them
    /// after all may still come.
    rejected: VecDeque<InFlightRequest>,
    idle_since: Instant,
    /// A moment to act that has passed, and since when that is known.
    overdue: Option<(Instant, Instant)>,
    /// How much earlier than planned this connection is warmed, in percent, so that those of a pool
    /// do not all ask at once.
    earlier_percent: u32,
}

/// A refusal that names no order, until the next answer on the connection decides.
struct Confirmation {
    order: InFlightRequest,
    refusal: RejectReason,
    response: HttpResponse,
    /// When the refusal was complete.
    answered: Instant,
    /// When the harmless request was written that confirms it; `None`: something else had arrived
    /// before it could be.
    asked: Option<Instant>,
}

/// A complete answer, and what was seen around it.
struct ReceivedResponse {
    response: HttpResponse,
    at: Instant,
    /// More bytes came right behind it.
    has_surplus: bool,
    /// The connection can carry another request: HTTP allows it, and the last one left in full.
    is_reusable: bool,
}

impl DriverSession {
    /// Whether no request is under way, but for an order that the pool knows of.
    const fn is_free(&self) -> bool {
        self.warming.is_none() && self.confirming.is_none()
    }
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Go,
    /// It has ended, or must not be used again; this is what an unanswered buy is told.
    End(ResponseError),
}

impl ConnectionDriver {
    pub(super) fn new(common: Arc<DriverContext>, index: usize) -> Self {
        let buffer = vec![0; READ_BYTES];
        Self { common, index, redial: RedialBackoff::default(), patience: None, buffer }
    }

    /// Runs until the pool stops.
    pub(super) async fn run(mut self) {
        while !self.is_stopping() {
            let lived = match self.open().await {
                Some(link) => self.attend(link).await,
                None => Duration::ZERO,
            };
            let wait = self.redial.after(lived, fastrand::u64(..));
            self.pause(wait).await;
        }
        self.common.shared.changed.notify_waiters();
    }

    fn is_stopping(&self) -> bool {
        self.common.shared.pool().stopping != StopPhase::No
    }

    /// Waits, unless the pool stops.
    async fn pause(&self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        let until = sleep(wait);
        tokio::pin!(until);
        while !self.is_stopping() {
            tokio::select! {
                () = &mut until => return,
                () = self.common.shared.woken(self.index) => {}
            }
        }
    }

    async fn open(&self) -> Option<Connection> {
        loop {
            let allowed = self.common.shared.pool().dials.take(self.common.started.elapsed());
            match allowed {
                Ok(()) => break,
                Err(wait) => self.pause(wait).await,
            }
            if self.is_stopping() {
                return None;
            }
        }
        let dial = deadline::timeout(
            DIAL_DEADLINE,
            Connection::open(&self.common.endpoint, &self.common.tls),
        );
        tokio::pin!(dial);
        let outcome = loop {
            tokio::select! {
                outcome = &mut dial => break outcome,
                () = self.common.shared.woken(self.index) => {
                    if self.is_stopping() {
                        return None;
                    }
                }
            }
        };
        match outcome {
            Ok(Ok(link)) => Some(link),
            Ok(Err(error)) => {
                self.tell_failure(Some(&error));
                None
            }
            Err(Late) => {
                self.tell_failure(None);
                None
            }
        }
    }

    /// Says once per outage that buys cannot leave.
    fn tell_failure(&self, error: Option<&ConnectError>) {
        let reason =
            error.map_or_else(|| "no answer in time".to_owned(), |error| error_chain(error));
        let is_first = {
            let mut pool = self.common.shared.pool();
            let is_first = pool.ready_count() == 0 && !pool.outage_told;
            pool.outage_told |= is_first;
            is_first
        };
        if is_first {
            warn!("No connection for buying: {reason}");
        } else {
            let failures = self.redial.failures().saturating_add(1);
            debug!(connection = self.index, failures, "No connection for buying: {reason}");
        }
    }

    /// Looks after an open connection until it ends. Returns how long it lived.
    async fn attend(&mut self, link: Connection) -> Duration {
        let opened = Instant::now();
        let link = Arc::new(link);
        debug!(connection = self.index, "Connection for buying ready");
        let mut session = DriverSession {
            rejected: VecDeque::new(),
            link: Arc::clone(&link),
            reader: ResponseReader::new(),
            warming: None,
            confirming: None,
            idle_since: opened,
            overdue: None,
            earlier_percent: fastrand::u32(..EARLIER_PERCENT_MAX),
        };
        self.common.shared.pool().admit(self.index, link);
        let why = self.session(&mut session).await;
        let left = self.common.shared.pool().dismiss(self.index);
        let answer = ExchangeResult::Broken { why, head: session.reader.head() };
        if let Some(order) = left {
            let outcome = attribution::of_broken(&order.id, None, &answer);
            self.report(order, (answer, Instant::now()), outcome, true).await;
        } else if let Some(Confirmation { order, refusal, .. }) = session.confirming.take() {
            let outcome = attribution::of_broken(&order.id, Some(refusal), &answer);
            self.report(order, (answer, Instant::now()), outcome, true).await;
        }
        opened.elapsed()
    }

    async fn session(&mut self, session: &mut DriverSession) -> ResponseError {
        let mut alarm = Box::pin(sleep(Duration::ZERO));
        loop {
            let mut is_news = false;
            // No order may be written between reading what has arrived and accounting for it.
            let _was_idle = self.common.shared.pool().take_idle(self.index);
            if let Flow::End(why) = self.read(session).await {
                return why;
            }
            let duty = {
                let mut pool = self.common.shared.pool();
                let duty = pool.duty(self.index);
                match (pool.stopping, duty) {
                    (StopPhase::Over, _) | (_, SlotState::Discard) => {
                        return ResponseError::Stopped;
                    }
                    (StopPhase::Waiting, SlotState::Idle) if session.confirming.is_none() => {
                        return ResponseError::Stopped;
                    }
                    (StopPhase::No, SlotState::Idle) if session.is_free() => {
                        is_news = pool.make_idle(self.index);
                    }
                    (_, SlotState::Idle | SlotState::Answer(_)) => {}
                }
                duty
            };
            if is_news {
                info!("Connected for buying again");
            }
            if matches!(duty, SlotState::Idle) && session.is_free() {
                self.common.shared.changed.notify_waiters();
            }
            if let Flow::End(why) = self.wait(session, duty, alarm.as_mut()).await {
                return why;
            }
        }
    }

    /// Waits for bytes, for room, for something new to look at, or for the time to act.
    async fn wait(
        &self,
        session: &mut DriverSession,
        duty: SlotState,
        mut alarm: Pin<&mut Sleep>,
    ) -> Flow {
        let due = self.due(session, duty).into();
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        let has_unsent = session.link.has_unsent();
        tokio::select! {
            biased;
            readable = session.link.readable() => match readable {
                Ok(()) => Flow::Go,
                Err(_broken) => Flow::End(ResponseError::Cut),
            },
            writable = session.link.writable(), if has_unsent => {
                match writable.and_then(|()| session.link.flush()) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        Flow::End(ResponseError::Cut)
                    }
                    Ok(()) | Err(_) => Flow::Go,
                }
            }
            () = self.common.shared.woken(self.index) => Flow::Go,
            () = alarm => self.overdue(session, duty).await,
        }
    }

    /// The time to act has come. What already lies in the socket is read before anything is called
    /// late, for at most [`CATCH_UP_MAX`], so that a server that dribbles gains nothing by it.
    async fn overdue(&self, session: &mut DriverSession, duty: SlotState) -> Flow {
        let due = self.due(session, duty);
        let since = match session.overdue {
            Some((passed, since)) if passed == due => since,
            _ => Instant::now(),
        };
        session.overdue = Some((due, since));
        if since.elapsed() <= CATCH_UP_MAX {
            match deadline::once_more(due.into(), session.link.readable()).await {
                Some(Ok(())) => return Flow::Go,
                Some(Err(_broken)) => return Flow::End(ResponseError::Cut),
                None => {}
            }
        }
        self.act(session, duty)
    }

    /// When it is time to act if nothing comes in.
    fn due(&self, session: &DriverSession, duty: SlotState) -> Instant {
        let ConnectionConfig { answer_deadline, .. } = self.common.habits;
        let asked = session.confirming.as_ref().map(|one| one.asked.unwrap_or(one.answered));
        match (duty, asked.or(session.warming)) {
            (SlotState::Answer(in_flight), _) => in_flight.written.written + answer_deadline,
            (_, Some(asked)) => asked + answer_deadline,
            (_, None) => {
                let (IdleAction::Warm(after) | IdleAction::Replace(after)) = self.plan();
                let earlier = after.saturating_mul(session.earlier_percent) / 100;
                session.idle_since + after.saturating_sub(earlier)
            }
        }
    }

    fn plan(&self) -> IdleAction {
        IdleAction::plan(self.common.habits.keep_warm, self.patience)
    }

    /// It is time to act.
    fn act(&self, session: &mut DriverSession, duty: SlotState) -> Flow {
        if matches!(duty, SlotState::Answer(_)) || !session.is_free() {
            return Flow::End(ResponseError::Timeout);
        }
        if !self.common.shared.pool().take_idle(self.index) {
            // Somebody has just sent a buy on it.
            return Flow::Go;
        }
        match self.plan() {
            IdleAction::Replace(_) => Flow::End(ResponseError::Stopped),
            // What has arrived would be taken for the answer to the request.
            IdleAction::Warm(_) if session.link.input() != PendingInput::Nothing => {
                Flow::End(ResponseError::Cut)
            }
            IdleAction::Warm(_) => match session.link.write(self.common.warm.bytes()) {
                Ok(begun) => {
                    session.warming = Some(begun);
                    Flow::Go
                }
                Err(_nothing_left) => Flow::End(ResponseError::Cut),
            },
        }
    }

    /// Reads all that has come.
    async fn read(&mut self, session: &mut DriverSession) -> Flow {
        loop {
            match session.link.read(&mut self.buffer) {
                Ok(0) => {
                    let ended = session.reader.end();
                    // Only an answer whose length its end tells is complete now.
                    let _ended = self.finish(session, false).await;
                    return Flow::End(ended.err().unwrap_or(ResponseError::Cut));
                }
                Ok(count) => {
                    if let Flow::End(why) = self.take(session, count).await {
                        return Flow::End(why);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Flow::Go,
                    io::ErrorKind::Interrupted => {}
                    _ => return Flow::End(ResponseError::Cut),
                },
            }
        }
    }

    /// Takes what was read into the answers that are due.
    async fn take(&mut self, session: &mut DriverSession, count: usize) -> Flow {
        let mut bytes = self.buffer.get(..count).unwrap_or_default();
        while !bytes.is_empty() {
            let duty = self.common.shared.pool().duty(self.index);
            if matches!(duty, SlotState::Discard)
                || matches!(duty, SlotState::Idle) && session.is_free()
            {
                self.note_unexpected(bytes);
                self.report_late(session, bytes).await;
                return Flow::End(ResponseError::Malformed);
            }
            match session.reader.feed(bytes) {
                Err(why) => return Flow::End(why),
                Ok(ReadProgress::More) => return Flow::Go,
                Ok(ReadProgress::Done { taken }) => {
                    self.patience = session.reader.keep_alive().idle.or(self.patience);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    if let Flow::End(why) = self.finish(session, !bytes.is_empty()).await {
                        return Flow::End(why);
                    }
                }
            }
        }
        Flow::Go
    }

    /// Takes in the answer, if it is complete. `has_surplus`: more bytes came right behind it.
    async fn finish(&self, session: &mut DriverSession, has_surplus: bool) -> Flow {
        let is_reusable = session.reader.keep_alive().reusable && !session.link.has_unsent();
        let Some(response) = session.reader.take_response() else {
            return Flow::End(ResponseError::Cut);
        };
        let at = Instant::now();
        session.idle_since = at;
        let received = ReceivedResponse { response, at, has_surplus, is_reusable };
        if let Some(confirmation) = session.confirming.take() {
            return self.conclude(session, confirmation, received).await;
        }
        if let Some(sent) = session.warming.take() {
            if !attribution::is_warm_answer(&ExchangeResult::Complete(received.response.clone())) {
                self.report_late(session, &received.response.body).await;
            }
            return self.warmed(sent, received);
        }
        let duty = self.common.shared.pool().duty(self.index);
        match duty {
            SlotState::Answer(order) => self.answered(session, order, received).await,
            SlotState::Idle | SlotState::Discard => Flow::End(ResponseError::Malformed),
        }
    }

    /// The first answer since an order was written.
    async fn answered(
        &self,
        session: &mut DriverSession,
        order: InFlightRequest,
        received: ReceivedResponse,
    ) -> Flow {
        let ReceivedResponse { response, at, has_surplus, is_reusable } = received;
        let answer = ExchangeResult::Complete(response);
        let (outcome, in_step) = match attribution::of_order(&order.id, &answer) {
            Conclusion::Final { outcome, in_step } => (outcome, in_step),
            Conclusion::Confirm(refusal) if is_reusable || has_surplus => {
                self.common.shared.pool().settle(self.index, true);
                if let ExchangeResult::Complete(response) = &answer {
                    let (response, asked) = (response.clone(), None);
                    let confirmation =
                        Confirmation { order, refusal, response, answered: at, asked };
                    session.confirming = Some(confirmation);
                }
                let outcome = attribution::unconfirmed(refusal);
                self.report(order, (answer, at), outcome, false).await;
                // What came behind the refusal, or is about to be read, is the next answer.
                return if has_surplus { Flow::Go } else { self.ask(session) };
            }
            // The connection ends with this answer, so nothing can show that it was in step.
            Conclusion::Confirm(refusal) => (attribution::unconfirmed(refusal), false),
        };
        self.common.shared.pool().settle(self.index, false);
        if let ExchangeResult::Complete(response) = &answer
            && !in_step
        {
            self.report_late(session, &response.body).await;
        }
        self.report(order, (answer, at), outcome, true).await;
        // Surplus bytes are noted where they are read.
        if in_step && is_reusable { Flow::Go } else { Flow::End(ResponseError::Cut) }
    }

    /// Writes the request whose answer confirms a refusal, unless something has arrived since.
    fn ask(&self, session: &mut DriverSession) -> Flow {
        if session.link.input() != PendingInput::Nothing {
            return Flow::Go;
        }
        match session.link.write(self.common.warm.bytes()) {
            Ok(begun) => {
                if let Some(confirmation) = &mut session.confirming {
                    confirmation.asked = Some(begun);
                }
                Flow::Go
            }
            Err(_nothing_left) => Flow::End(ResponseError::Cut),
        }
    }

    /// The next answer after a refusal.
    async fn conclude(
        &self,
        session: &mut DriverSession,
        confirmation: Confirmation,
        received: ReceivedResponse,
    ) -> Flow {
        let Confirmation { order, refusal, response: rejection, answered, asked } = confirmation;
        let ReceivedResponse { response, at, has_surplus, is_reusable } = received;
        let date = response.head.date;
        let is_next = asked.is_some()
            && !has_surplus
            && !session.link.has_unsent()
            && session.link.input() != PendingInput::Data;
        let answer = ExchangeResult::Complete(response);
        let outcome = attribution::of_confirmation(&order.id, refusal, &answer, is_next);
        self.common.shared.pool().settle(self.index, false);
        if !matches!(outcome, Outcome::Refused(_)) {
            if let ExchangeResult::Complete(response) = &answer {
                self.report_late(session, &response.body).await;
            }
            debug!(
                connection = self.index,
                "Rejection not confirmed: order {}, another answer than the keep-warm request's \
                 followed; closing the connection",
                order.id
            );
            self.report(order, (answer, at), outcome, true).await;
            return Flow::End(ResponseError::Malformed);
        }
        self.note_date(asked, at, date);
        if session.rejected.len() >= REJECTED_MAX {
            session.rejected.pop_front();
        }
        session.rejected.push_back(order);
        self.report(order, (ExchangeResult::Complete(rejection), answered), outcome, true).await;
        if is_reusable { Flow::Go } else { Flow::End(ResponseError::Cut) }
    }

    /// The answer to a harmless request. Any other answer than its own shows that the connection is
    /// out of step.
    fn warmed(&self, sent: Instant, received: ReceivedResponse) -> Flow {
        let ReceivedResponse { response, at, has_surplus, is_reusable } = received;
        let date = response.head.date;
        if !attribution::is_warm_answer(&ExchangeResult::Complete(response)) {
            debug!(
                connection = self.index,
                "Keep-warm answer not recognised: closing the connection"
            );
            return Flow::End(ResponseError::Malformed);
        }
        self.note_date(Some(sent), at, date);
        if is_reusable && !has_surplus { Flow::Go } else { Flow::End(ResponseError::Cut) }
    }

    fn note_date(&self, sent: Option<Instant>, received: Instant, date: Option<UnixMs>) {
        if let Some((sent, date)) = sent.zip(date) {
            self.common.shared.pool().date = Some((ClockExchange { sent, received }, date));
        }
    }

    /// Reports a rejected order as bought if this data names it: its true answer came late, and the
    /// rejection was another request's. The ledger counts it again and halts.
    async fn report_late(&self, session: &DriverSession, bytes: &[u8]) {
        let Some(order) = attribution::late_answer(&session.rejected, bytes) else { return };
        warn!("Late answer: order {} was rejected before, and now counts as bought", order.id);
        let broken = ExchangeResult::Broken { why: ResponseError::Malformed, head: None };
        let outcome = Outcome::Bought { price: None, server_time: None };
        self.report(*order, (broken, Instant::now()), outcome, true).await;
    }

    /// Bytes arrived while no request was open; the connection ends.
    fn note_unexpected(&self, bytes: &[u8]) {
        let (connection, count) = (self.index, bytes.len());
        if attribution::is_idle_timeout(bytes) {
            debug!(connection, "Idle order connection closed by the server: HTTP 408");
        } else {
            warn!(
                "Unrequested data received: order connection {connection}, {count} bytes; the \
                 connection will be replaced"
            );
        }
    }

    /// Reports an order. There is room: the queue holds as many as orders can be in flight.
    async fn report(
        &self,
        order: InFlightRequest,
        (answer, answered): (ExchangeResult, Instant),
        outcome: Outcome,
        is_final: bool,
    ) {
        let InFlightRequest { id, written } = order;
        let report = OrderReport { id, outcome, is_final, answer, written, answered };
        if self.common.reports.send(report).await.is_err() {
            warn!("Nobody waits for the answer about {id} any more");
        }
    }
}
