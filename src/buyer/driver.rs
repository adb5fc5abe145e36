//! Looks after one connection: opens it, reads its answers, keeps it warm, replaces it.
//!
//! A driver never writes a buy; it finishes one of which the system took only a part, reads its
//! answer under a deadline, and reports it exactly once. Between buys it sends a harmless request
//! now and then, so that neither the server nor anything on the way forgets the connection.

use std::{
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
    DIAL_DEADLINE, Habits,
    answer::{Answer, Broken, Report},
    answer_reader::{AnswerReader, Step},
    link::{Link, LinkError},
    pace::{Idle, Redial},
    pool::{Duty, InFlight, Shared, Stopping},
    request::WarmRequest,
};
use crate::{
    config::endpoint::Endpoint,
    net::{
        deadline::{self, CATCH_UP_MAX, Late},
        tls::Tls,
    },
    server_clock::Exchange,
};

/// How much earlier than planned a connection may be warmed, in percent.
const EARLIER_PERCENT_MAX: u32 = 20;

/// How much is read at once.
const READ_BYTES: usize = 16 * 1024;

/// What all drivers of a pool have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Tls,
    pub(super) warm: WarmRequest,
    pub(super) habits: Habits,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) started: Instant,
}

/// One connection's driver.
pub(super) struct Driver {
    common: Arc<Common>,
    index: usize,
    redial: Redial,
    /// For how long the server says that it keeps an idle connection.
    patience: Option<Duration>,
    buffer: Vec<u8>,
}

/// One connection's life, as its driver sees it.
struct Session {
    link: Arc<Link>,
    reader: AnswerReader,
    /// The harmless request under way: when it was written.
    warming: Option<Instant>,
    idle_since: Instant,
    /// A moment to act that has passed, and since when that is known.
    overdue: Option<(Instant, Instant)>,
    /// How much earlier than planned this connection is warmed, in percent, so that those of a pool
    /// do not all ask at once.
    earlier_percent: u32,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Go,
    /// It has ended, or must not be used again; this is what an unanswered buy is told.
    End(Broken),
}

impl Driver {
    pub(super) fn new(common: Arc<Common>, index: usize) -> Self {
        let buffer = vec![0; READ_BYTES];
        Self { common, index, redial: Redial::default(), patience: None, buffer }
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
        self.common.shared.pool().stopping != Stopping::No
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

    async fn open(&self) -> Option<Link> {
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
        let dial =
            deadline::timeout(DIAL_DEADLINE, Link::open(&self.common.endpoint, &self.common.tls));
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
    fn tell_failure(&self, error: Option<&LinkError>) {
        let reason = error.map_or_else(|| "no answer in time".to_owned(), chain);
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
    async fn attend(&mut self, link: Link) -> Duration {
        let opened = Instant::now();
        let link = Arc::new(link);
        debug!(connection = self.index, "Connection for buying ready");
        let mut session = Session {
            link: Arc::clone(&link),
            reader: AnswerReader::new(),
            warming: None,
            idle_since: opened,
            overdue: None,
            earlier_percent: fastrand::u32(..EARLIER_PERCENT_MAX),
        };
        self.common.shared.pool().admit(self.index, link);
        let why = self.session(&mut session).await;
        let left = self.common.shared.pool().dismiss(self.index);
        if let Some(in_flight) = left {
            let head = session.reader.head();
            self.report(in_flight, Answer::Broken { why, head }).await;
        }
        opened.elapsed()
    }

    async fn session(&mut self, session: &mut Session) -> Broken {
        let mut alarm = Box::pin(sleep(Duration::ZERO));
        loop {
            let mut is_news = false;
            if let Flow::End(why) = self.read(session).await {
                return why;
            }
            let duty = {
                let mut pool = self.common.shared.pool();
                let duty = pool.duty(self.index);
                match (pool.stopping, duty) {
                    (Stopping::Over, _) | (Stopping::Waiting, Duty::Idle) | (_, Duty::Discard) => {
                        return Broken::Stopped;
                    }
                    (Stopping::No, Duty::Idle) if session.warming.is_none() => {
                        is_news = pool.make_idle(self.index, session.idle_since);
                    }
                    (Stopping::No, Duty::Idle) | (_, Duty::Answer(_)) => {}
                }
                duty
            };
            if is_news {
                info!("Connected for buying again");
            }
            if matches!(duty, Duty::Idle) && session.warming.is_none() {
                self.common.shared.changed.notify_waiters();
            }
            if let Flow::End(why) = self.wait(session, duty, alarm.as_mut()).await {
                return why;
            }
        }
    }

    /// Waits for bytes, for room, for something new to look at, or for the time to act.
    async fn wait(&self, session: &mut Session, duty: Duty, mut alarm: Pin<&mut Sleep>) -> Flow {
        let due = self.due(session, duty).into();
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        let has_unsent = session.link.has_unsent();
        tokio::select! {
            biased;
            readable = session.link.readable() => match readable {
                Ok(()) => Flow::Go,
                Err(_broken) => Flow::End(Broken::Cut),
            },
            writable = session.link.writable(), if has_unsent => {
                match writable.and_then(|()| session.link.flush()) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        Flow::End(Broken::Cut)
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
    async fn overdue(&self, session: &mut Session, duty: Duty) -> Flow {
        let due = self.due(session, duty);
        let since = match session.overdue {
            Some((passed, since)) if passed == due => since,
            _ => Instant::now(),
        };
        session.overdue = Some((due, since));
        if since.elapsed() <= CATCH_UP_MAX {
            match deadline::once_more(due.into(), session.link.readable()).await {
                Some(Ok(())) => return Flow::Go,
                Some(Err(_broken)) => return Flow::End(Broken::Cut),
                None => {}
            }
        }
        self.act(session, duty)
    }

    /// When it is time to act if nothing comes in.
    fn due(&self, session: &Session, duty: Duty) -> Instant {
        let Habits { answer_deadline, .. } = self.common.habits;
        match (duty, session.warming) {
            (Duty::Answer(in_flight), _) => in_flight.written.written + answer_deadline,
            (_, Some(warming)) => warming + answer_deadline,
            (_, None) => {
                let (Idle::Warm(after) | Idle::Replace(after)) = self.plan();
                let earlier = after.saturating_mul(session.earlier_percent) / 100;
                session.idle_since + after.saturating_sub(earlier)
            }
        }
    }

    fn plan(&self) -> Idle {
        Idle::plan(self.common.habits.keep_warm, self.patience)
    }

    /// It is time to act.
    fn act(&self, session: &mut Session, duty: Duty) -> Flow {
        if matches!(duty, Duty::Answer(_)) || session.warming.is_some() {
            return Flow::End(Broken::Timeout);
        }
        if !self.common.shared.pool().take_idle(self.index) {
            // Somebody has just sent a buy on it.
            return Flow::Go;
        }
        match self.plan() {
            Idle::Replace(_) => Flow::End(Broken::Stopped),
            Idle::Warm(_) => match session.link.write(self.common.warm.bytes()) {
                Ok(begun) => {
                    session.warming = Some(begun);
                    Flow::Go
                }
                Err(_nothing_left) => Flow::End(Broken::Cut),
            },
        }
    }

    /// Reads all that has come.
    async fn read(&mut self, session: &mut Session) -> Flow {
        loop {
            match session.link.read(&mut self.buffer) {
                Ok(0) => {
                    let ended = session.reader.end();
                    self.finish(session).await;
                    return Flow::End(ended.err().unwrap_or(Broken::Cut));
                }
                Ok(count) => {
                    if let Flow::End(why) = self.take(session, count).await {
                        return Flow::End(why);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Flow::Go,
                    io::ErrorKind::Interrupted => {}
                    _ => return Flow::End(Broken::Cut),
                },
            }
        }
    }

    /// Takes what was read into the answer that is due.
    async fn take(&mut self, session: &mut Session, count: usize) -> Flow {
        let duty = self.common.shared.pool().duty(self.index);
        if matches!(duty, Duty::Discard) || matches!(duty, Duty::Idle) && session.warming.is_none()
        {
            // Nobody asked for anything.
            return Flow::End(Broken::Malformed);
        }
        let bytes = self.buffer.get(..count).unwrap_or_default();
        match session.reader.feed(bytes) {
            Err(why) => Flow::End(why),
            Ok(Step::More) => Flow::Go,
            Ok(Step::Done { taken }) => {
                let keep_alive = session.reader.keep_alive();
                self.patience = keep_alive.idle.or(self.patience);
                self.finish(session).await;
                if keep_alive.reusable && taken == count && !session.link.has_unsent() {
                    Flow::Go
                } else {
                    Flow::End(Broken::Cut)
                }
            }
        }
    }

    /// Hands on the answer, if it is complete.
    async fn finish(&self, session: &mut Session) {
        let Some(response) = session.reader.take_response() else { return };
        let received = Instant::now();
        session.idle_since = received;
        let settled = {
            let mut pool = self.common.shared.pool();
            if let Some((sent, date)) = session.warming.take().zip(response.head.date) {
                pool.date = Some((Exchange { sent, received }, date));
            }
            pool.settle(self.index)
        };
        if let Some(in_flight) = settled {
            self.report(in_flight, Answer::Complete(response)).await;
        }
    }

    /// Reports one buy. There is room: the queue holds as many as can be in flight.
    async fn report(&self, in_flight: InFlight, answer: Answer) {
        let InFlight { id, written } = in_flight;
        let report = Report { id, answer, written, answered: Instant::now() };
        if self.common.reports.send(report).await.is_err() {
            warn!("Nobody waits for the answer about {id} any more");
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &LinkError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
