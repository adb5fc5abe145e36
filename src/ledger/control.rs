//! Words from another terminal to a running bot.
//!
//! One request, one answer, each a line of JSON of bounded length, over a socket that only its owner
//! may open. There is one in `SNIPER_DATA`, and one in the user's state directory that still works
//! when `SNIPER_DATA` was deleted or its path is too long. The bot's own thread answers ([`answer`]), so that nobody else
//! ever holds the ledger; the thread that listens only carries.
//!
//! # Invariants
//!
//! 1. No line is longer than [`LINE_BYTES_MAX`], no wait longer than [`WAIT`], and at most
//!    [`ASKS_MAX`] requests wait for the bot.
//! 2. Nothing is sent or answered through anything that others may open.

#[cfg_attr(unix, path = "control/socket.rs")]
#[cfg_attr(not(unix), path = "control/files.rs")]
mod carrier;

use std::{
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use tokio::sync::mpsc::Sender;

use self::carrier::Listener;
use super::{
    Evidence, HaltReason, InvalidTransition, Ledger, Operator,
    event::{EvidenceSource, OrderState},
    mark::data_key,
    status::LedgerStatus,
};
use crate::{domain::time::UnixMs, domain::trade::TradeId, threads::Alarm};

/// The longest request or answer, in bytes.
pub const LINE_BYTES_MAX: usize = 65_536;
/// How long either side waits for the other.
pub const WAIT: Duration = Duration::from_secs(5);
/// How many requests may wait for the bot.
pub const ASKS_MAX: usize = 8;
/// What power loss may have hidden is resolved under this name instead of a listing's id.
pub const LOST: &str = "lost";

/// Which of the two bots that may run on one `SNIPER_DATA`. Each has a channel of its own, so that
/// neither can take the other's or keep it from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// The one that buys.
    Live,
    /// A dry run.
    Dry,
}

/// The directory of the socket within `SNIPER_DATA`; in the state directory its name goes on.
const DIRECTORY: &str = "control";

/// Where the bot of one `SNIPER_DATA` listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddress {
    /// The first that answers is the bot.
    directories: Vec<PathBuf>,
    instance: Instance,
}

impl ControlAddress {
    /// The places for this `SNIPER_DATA`, and this state directory if there is one.
    pub fn of(data: &Path, state: Option<&Path>, instance: Instance) -> Self {
        let within = |state: &Path| state.join(format!("{DIRECTORY}-{:016x}", data_key(data)));
        let state = state.map(within);
        let directories = std::iter::once(data.join(DIRECTORY)).chain(state).collect();
        Self { directories, instance }
    }
}

/// Listens for as long as it is held.
#[derive(Debug)]
pub struct ControlServer {
    _listeners: Vec<Listener>,
}

impl ControlServer {
    /// Listens at this address, and hands on what is asked. The thread of each listener raises the
    /// alarm if it ends by itself.
    ///
    /// # Errors
    ///
    /// A [`ControlError`] if there is no place where it could listen.
    pub fn start(
        address: &ControlAddress,
        asks: &Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let (mut listeners, mut failed) = (Vec::new(), None);
        for directory in &address.directories {
            match Listener::start(directory, address.instance, asks.clone(), alarm) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    tracing::debug!("no control channel in {directory:?}: {error}");
                    failed = failed.or(Some(error));
                }
            }
        }
        match failed {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok(Self { _listeners: listeners }),
        }
    }
}

/// What a person asks of a bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Say how things stand.
    Status,
    /// Stop buying.
    Halt {
        /// Who asks.
        by: String,
    },
    /// Go on buying: somebody has looked.
    Resume {
        /// Who asks.
        by: String,
    },
    /// Say what became of an unknown or returning order.
    Resolve {
        /// The listing, or [`LOST`].
        id: String,
        /// What became of it.
        verdict: Resolution,
        /// Who says so.
        by: String,
    },
    /// Let `total` count from now.
    NewBudget {
        /// Who says so.
        by: String,
    },
}

/// What an operator found out about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// An unknown order was bought.
    Bought,
    /// An unknown order was not bought.
    NotBought,
    /// The coins of a cancelled order are back.
    Returned,
}

impl Resolution {
    /// The verdict in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bought => "bought",
            Self::NotBought => "not bought",
            Self::Returned => "returned",
        }
    }

    const fn proof(self) -> Evidence {
        match self {
            Self::Bought => Evidence::Bought,
            Self::NotBought => Evidence::NotBought,
            Self::Returned => Evidence::Returned,
        }
    }

    /// The state that an order must be in for this to be said of it.
    const fn about(self) -> OrderState {
        match self {
            Self::Bought | Self::NotBought => OrderState::Unknown,
            Self::Returned => OrderState::Returning,
        }
    }
}

/// What the bot answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// It is done, and this is how things stand.
    Done(Box<LedgerStatus>),
    /// It cannot be done.
    Cannot(String),
}

/// A request on its way to the thread that has the ledger.
#[derive(Debug)]
pub struct PendingRequest {
    /// What is asked.
    pub request: ControlRequest,
    /// Where the answer goes.
    pub reply: SyncSender<ControlReply>,
}

/// Why a bot could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No bot runs on this ledger's folder.
    #[error("no bot is running with this SNIPER_DATA")]
    NotRunning,
    /// Another bot listens there already.
    #[error("another bot with this SNIPER_DATA answers already")]
    Taken,
    /// Somebody else could listen in, or answer.
    #[error("{path:?} can be opened by others; run `chmod 700` on it")]
    Open {
        /// What can be.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot {what} the bot's control channel")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The bot said something that makes no sense.
    #[error("the bot's answer makes no sense; is it another version?")]
    Garbled,
}

/// Asks the bot that listens at this address.
///
/// # Errors
///
/// A [`ControlError`]; [`ControlError::NotRunning`] where there is none.
pub fn ask(
    address: &ControlAddress,
    request: &ControlRequest,
) -> Result<ControlReply, ControlError> {
    let line = serde_json::to_string(request).map_err(|_never| ControlError::Garbled)?;
    let mut failed = ControlError::NotRunning;
    for directory in &address.directories {
        match carrier::exchange(directory, address.instance, &line) {
            Ok(answer) => {
                return serde_json::from_str(&answer).map_err(|_not_ours| ControlError::Garbled);
            }
            Err(ControlError::NotRunning) => {}
            // It may have been heard, so it is not said again elsewhere.
            Err(error @ ControlError::Io { what: TALK, .. }) => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// What failed when a line was perhaps heard.
const TALK: &str = "talk over";

/// Does what is asked, in the thread that has the ledger.
pub fn answer(
    ledger: &mut Ledger,
    request: &ControlRequest,
    mode: &str,
    now: UnixMs,
) -> ControlReply {
    match perform(ledger, request, now) {
        Ok(()) => {
            let status = LedgerStatus::of(&ledger.snapshot(now), mode, ledger.failure());
            ControlReply::Done(Box::new(status))
        }
        Err(why) => ControlReply::Cannot(why),
    }
}

/// Changes the ledger as asked.
pub(super) fn perform(
    ledger: &mut Ledger,
    request: &ControlRequest,
    now: UnixMs,
) -> Result<(), String> {
    match request {
        ControlRequest::Status => Ok(()),
        ControlRequest::Halt { by } => {
            let _said = ledger.halt(HaltReason::Person(Operator::new(by)), now);
            Ok(())
        }
        ControlRequest::Resume { by } => {
            ledger.resume(Operator::new(by), now);
            Ok(())
        }
        ControlRequest::NewBudget { by } => {
            ledger.new_budget(Operator::new(by), now);
            Ok(())
        }
        ControlRequest::Resolve { id, verdict, by } => {
            resolve(ledger, id, *verdict, now, Operator::new(by)).map_err(|why| why.to_string())
        }
    }
}

/// Why a buy cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ResolveError {
    #[error("the ledger has no buy of a listing {0:?}")]
    NoSuchListing(String),
    #[error("{id} is {state}; only {} order can be resolved so", article(*asked))]
    OtherState { id: String, state: OrderState, asked: OrderState },
    #[error("what power loss may have hidden can only be declared `--not-bought`")]
    LossIsNoPurchase,
    #[error("no loss is on record")]
    NoLoss,
    #[error("{0}")]
    Contradiction(InvalidTransition),
}

const fn article(state: OrderState) -> &'static str {
    match state {
        OrderState::Unknown => "an unknown",
        _ => "a returning",
    }
}

fn resolve(
    ledger: &mut Ledger,
    id: &str,
    verdict: Resolution,
    now: UnixMs,
    by: Operator,
) -> Result<(), ResolveError> {
    if id == LOST {
        if verdict != Resolution::NotBought {
            return Err(ResolveError::LossIsNoPurchase);
        }
        if ledger.book().loss().count == 0 {
            return Err(ResolveError::NoLoss);
        }
        ledger.settle_loss(EvidenceSource::Person(by), now);
        return Ok(());
    }
    let no_such = || ResolveError::NoSuchListing(id.to_owned());
    let listing = TradeId::new(id).ok_or_else(no_such)?;
    let state = ledger.book().intent(&listing).ok_or_else(no_such)?.state;
    let asked = verdict.about();
    if state != asked {
        return Err(ResolveError::OtherState { id: id.to_owned(), state, asked });
    }
    let resolved = ledger.resolve(&listing, verdict.proof(), by, now);
    resolved.map(drop).map_err(ResolveError::Contradiction)
}
