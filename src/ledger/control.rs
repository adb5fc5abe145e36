//! Control channel between the command line and a running bot.
//!
//! The client sends one request and receives one reply, each a line of JSON of bounded length, over
//! a socket that only its owner may open. The bot listens in `SNIPER_DATA` and in the user's state
//! directory; the second socket works when `SNIPER_DATA` was deleted or its path is too long. The
//! listener threads only forward requests. The bot's own thread handles them ([`handle_request`]),
//! so the ledger has one owner.
//!
//! # Invariants
//!
//! 1. A line has at most [`LINE_BYTES_MAX`] bytes. At most [`PENDING_REQUESTS_MAX`] requests wait for
//!    the bot, each for at most [`REPLY_TIMEOUT`].
//! 2. No request or reply passes through a socket that other users can open.

mod socket;

use std::{
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use tokio::sync::mpsc::Sender;

use self::socket::Listener;
use super::{
    Evidence, HaltReason, InvalidTransition, Ledger, Operator,
    event::{EvidenceSource, OrderState},
    mark::data_key,
    status::LedgerStatus,
};
use crate::{domain::time::UnixMs, domain::trade::TradeId, threads::Alarm};

/// Maximum size of a request or reply, without the newline.
pub const LINE_BYTES_MAX: usize = 65_536;
/// Time limit for the bot's thread to handle a request. The client waits twice as long.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Capacity of the queue of requests to the bot's thread.
pub const PENDING_REQUESTS_MAX: usize = 8;
/// Stands in place of a listing's id for the orders that a power loss may have hidden.
pub const LOST_ID: &str = "lost";

/// One of the two bots that may run with one `SNIPER_DATA`. Each has its own channel, so that
/// neither can receive the other's requests or prevent it from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    Live,
    /// Keeps its ledger in memory and sends no orders.
    Dry,
}

/// Name of the socket's directory in `SNIPER_DATA`; in the state directory a hash of the path of
/// `SNIPER_DATA` is appended.
const DIRECTORY: &str = "control";

/// Directories in which the bot of one `SNIPER_DATA` listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddress {
    /// Tried in this order by the client.
    directories: Vec<PathBuf>,
    instance: Instance,
}

impl ControlAddress {
    pub fn new(data: &Path, state: Option<&Path>, instance: Instance) -> Self {
        let within = |state: &Path| state.join(format!("{DIRECTORY}-{:016x}", data_key(data)));
        let state = state.map(within);
        let directories = std::iter::once(data.join(DIRECTORY)).chain(state).collect();
        Self { directories, instance }
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    _listeners: Vec<Listener>,
}

impl ControlServer {
    /// Listens at this address and forwards the requests. The thread of each listener raises the
    /// alarm if it panics or ends early.
    ///
    /// # Errors
    ///
    /// Fails if it cannot listen in any of the directories.
    pub fn start(
        address: &ControlAddress,
        requests: &Sender<PendingRequest>,
        alarm: &Alarm,
    ) -> Result<Self, ControlError> {
        let (mut listeners, mut failed) = (Vec::new(), None);
        for directory in &address.directories {
            match Listener::start(directory, address.instance, requests.clone(), alarm) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    tracing::debug!("Could not open a control channel in {directory:?}: {error}");
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

/// A request of the operator to a bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    Status,
    /// Stops ordering until a resume.
    Halt {
        by: String,
    },
    /// Clears every halt, so that orders are approved again.
    Resume {
        by: String,
    },
    /// Records the outcome of an unknown or returning order.
    Resolve {
        /// Id of the listing, or [`LOST_ID`].
        id: String,
        verdict: Resolution,
        by: String,
    },
    /// Resets the spent coins that count against `total`.
    NewBudget {
        by: String,
    },
}

/// Outcome of an order as found by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    Bought,
    NotBought,
    /// The coins of a cancelled order are back in the account.
    Returned,
}

impl Resolution {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bought => "bought",
            Self::NotBought => "not bought",
            Self::Returned => "returned",
        }
    }

    const fn evidence(self) -> Evidence {
        match self {
            Self::Bought => Evidence::Bought,
            Self::NotBought => Evidence::NotBought,
            Self::Returned => Evidence::Returned,
        }
    }

    /// Returns the only state of an order that this outcome can resolve.
    const fn required_state(self) -> OrderState {
        match self {
            Self::Bought | Self::NotBought => OrderState::Unknown,
            Self::Returned => OrderState::Returning,
        }
    }
}

/// The bot's reply to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// The request was applied; contains the status after it.
    Done(Box<LedgerStatus>),
    /// The request was rejected; contains the reason.
    Cannot(String),
}

/// A request in the queue to the thread that owns the ledger.
#[derive(Debug)]
pub struct PendingRequest {
    pub request: ControlRequest,
    /// Has capacity for the one reply, so that the sender never blocks.
    pub reply: SyncSender<ControlReply>,
}

/// A failure of the control channel.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no bot is running with this SNIPER_DATA")]
    NotRunning,
    /// Another bot listens in this directory.
    #[error("another bot is already running with this SNIPER_DATA; stop it first")]
    AlreadyRunning,
    /// Other users could read requests or send replies.
    #[error("{path:?} is accessible to other users; run `chmod 700` on it")]
    NotPrivate { path: PathBuf },
    #[error("cannot {action} the bot's control channel")]
    Io {
        /// The failed operation, as a verb phrase.
        action: &'static str,
        source: std::io::Error,
    },
    /// The reply is not valid JSON of the expected form.
    #[error("cannot read the bot's reply; run this command with the same version as the bot")]
    InvalidReply,
}

/// Sends a request to the bot that listens at this address and waits for its reply.
///
/// # Errors
///
/// Returns [`ControlError::NotRunning`] if no bot listens, and another error if the exchange fails.
pub fn send_request(
    address: &ControlAddress,
    request: &ControlRequest,
) -> Result<ControlReply, ControlError> {
    let line = serde_json::to_string(request).map_err(|_never| ControlError::InvalidReply)?;
    let mut failed = ControlError::NotRunning;
    for directory in &address.directories {
        match socket::exchange(directory, address.instance, &line) {
            Ok(answer) => {
                return serde_json::from_str(&answer)
                    .map_err(|_invalid| ControlError::InvalidReply);
            }
            Err(ControlError::NotRunning) => {}
            // The bot may have received the request, so it is not repeated on the other socket.
            Err(error @ ControlError::Io { action: EXCHANGE, .. }) => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The failed operation of an error after which the bot may still apply the request.
const EXCHANGE: &str = "exchange messages over";

/// Applies a request and builds the reply. Runs in the thread that owns the ledger.
pub fn handle_request(
    ledger: &mut Ledger,
    request: &ControlRequest,
    mode: &str,
    now: UnixMs,
) -> ControlReply {
    match apply_request(ledger, request, now) {
        Ok(()) => {
            let (snapshot, failure) = (ledger.snapshot(now), ledger.failure());
            let status = LedgerStatus::from_snapshot(&snapshot, mode, failure, now);
            ControlReply::Done(Box::new(status))
        }
        Err(why) => ControlReply::Cannot(why),
    }
}

/// Applies a request to the ledger. Returns the reason if it is rejected.
pub(crate) fn apply_request(
    ledger: &mut Ledger,
    request: &ControlRequest,
    now: UnixMs,
) -> Result<(), String> {
    match request {
        ControlRequest::Status => Ok(()),
        ControlRequest::Halt { by } => {
            let _effects = ledger.halt(HaltReason::Operator(Operator::new(by)), now);
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

/// A rejected [`ControlRequest::Resolve`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ResolveError {
    #[error("no order for listing {0:?} in the ledger; list the ids with: sniper ledger export")]
    NoSuchListing(String),
    #[error("order {id} is {state}, nothing was changed: {}", requirement(*required))]
    OtherState { id: String, state: OrderState, required: OrderState },
    #[error("`lost` can only be resolved with --not-bought")]
    LossNotPurchase,
    #[error("nothing to resolve: no power loss is on record")]
    NoLoss,
    #[error("{0}")]
    InvalidTransition(InvalidTransition),
}

const fn requirement(state: OrderState) -> &'static str {
    match state {
        OrderState::Unknown => "--bought and --not-bought apply to unknown orders only",
        _ => "--returned applies to returning orders only",
    }
}

fn resolve(
    ledger: &mut Ledger,
    id: &str,
    verdict: Resolution,
    now: UnixMs,
    by: Operator,
) -> Result<(), ResolveError> {
    if id == LOST_ID {
        if verdict != Resolution::NotBought {
            return Err(ResolveError::LossNotPurchase);
        }
        if ledger.state().loss().count == 0 {
            return Err(ResolveError::NoLoss);
        }
        ledger.clear_crash_reserve(EvidenceSource::Operator(by), now);
        return Ok(());
    }
    let no_such = || ResolveError::NoSuchListing(id.to_owned());
    let listing = TradeId::new(id).ok_or_else(no_such)?;
    let state = ledger.state().intent(&listing).ok_or_else(no_such)?.state;
    let required = verdict.required_state();
    if !ledger.state().orders_of(&listing).any(|intent| intent.state == required) {
        return Err(ResolveError::OtherState { id: id.to_owned(), state, required });
    }
    let resolved = ledger.resolve(&listing, verdict.evidence(), by, now);
    resolved.map(drop).map_err(ResolveError::InvalidTransition)
}
