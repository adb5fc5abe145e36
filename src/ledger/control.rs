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
    Contradiction, HaltReason, Ledger, Proof, Who,
    event::{Source, State},
    mark::data_key,
    status::Status,
};
use crate::{threads::Alarm, time::UnixMs, trade::TradeId};

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
pub struct Address {
    /// The first that answers is the bot.
    directories: Vec<PathBuf>,
    instance: Instance,
}

impl Address {
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
pub struct Server {
    _listeners: Vec<Listener>,
}

impl Server {
    /// Listens at this address, and hands on what is asked. The thread of each listener raises the
    /// alarm if it ends by itself.
    ///
    /// # Errors
    ///
    /// A [`ControlError`] if there is no place where it could listen.
    pub fn start(
        address: &Address,
        asks: &Sender<Ask>,
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
pub enum Request {
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
        verdict: Verdict,
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
pub enum Verdict {
    /// An unknown order was bought.
    Bought,
    /// An unknown order was not bought.
    NotBought,
    /// The coins of a cancelled order are back.
    Returned,
}

impl Verdict {
    /// The verdict in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bought => "bought",
            Self::NotBought => "not bought",
            Self::Returned => "returned",
        }
    }

    const fn proof(self) -> Proof {
        match self {
            Self::Bought => Proof::Bought,
            Self::NotBought => Proof::NotBought,
            Self::Returned => Proof::Returned,
        }
    }

    /// The state that an order must be in for this to be said of it.
    const fn about(self) -> State {
        match self {
            Self::Bought | Self::NotBought => State::Unknown,
            Self::Returned => State::Returning,
        }
    }
}

/// What the bot answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, and this is how things stand.
    Done(Box<Status>),
    /// It cannot be done.
    Cannot(String),
}

/// A request on its way to the thread that has the ledger.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: SyncSender<Reply>,
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
pub fn ask(address: &Address, request: &Request) -> Result<Reply, ControlError> {
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
pub fn answer(ledger: &mut Ledger, request: &Request, mode: &str, now: UnixMs) -> Reply {
    match perform(ledger, request, now) {
        Ok(()) => {
            let status = Status::of(&ledger.snapshot(now), mode, ledger.failure());
            Reply::Done(Box::new(status))
        }
        Err(why) => Reply::Cannot(why),
    }
}

/// Changes the ledger as asked.
pub(super) fn perform(ledger: &mut Ledger, request: &Request, now: UnixMs) -> Result<(), String> {
    match request {
        Request::Status => Ok(()),
        Request::Halt { by } => {
            let _said = ledger.halt(HaltReason::Person(Who::new(by)), now);
            Ok(())
        }
        Request::Resume { by } => {
            ledger.resume(Who::new(by), now);
            Ok(())
        }
        Request::NewBudget { by } => {
            ledger.new_budget(Who::new(by), now);
            Ok(())
        }
        Request::Resolve { id, verdict, by } => {
            resolve(ledger, id, *verdict, now, Who::new(by)).map_err(|why| why.to_string())
        }
    }
}

/// Why a buy cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unresolved {
    #[error("the ledger has no buy of a listing {0:?}")]
    NoSuchListing(String),
    #[error("{id} is {state}; only {} order can be resolved so", article(*asked))]
    OtherState { id: String, state: State, asked: State },
    #[error("what power loss may have hidden can only be declared `--not-bought`")]
    LossIsNoPurchase,
    #[error("no loss is on record")]
    NoLoss,
    #[error("{0}")]
    Contradiction(Contradiction),
}

const fn article(state: State) -> &'static str {
    match state {
        State::Unknown => "an unknown",
        _ => "a returning",
    }
}

fn resolve(
    ledger: &mut Ledger,
    id: &str,
    verdict: Verdict,
    now: UnixMs,
    by: Who,
) -> Result<(), Unresolved> {
    if id == LOST {
        if verdict != Verdict::NotBought {
            return Err(Unresolved::LossIsNoPurchase);
        }
        if ledger.book().loss().count == 0 {
            return Err(Unresolved::NoLoss);
        }
        ledger.settle_loss(Source::Person(by), now);
        return Ok(());
    }
    let no_such = || Unresolved::NoSuchListing(id.to_owned());
    let listing = TradeId::new(id).ok_or_else(no_such)?;
    let state = ledger.book().intent(&listing).ok_or_else(no_such)?.state;
    let asked = verdict.about();
    if state != asked {
        return Err(Unresolved::OtherState { id: id.to_owned(), state, asked });
    }
    let resolved = ledger.resolve(&listing, verdict.proof(), by, now);
    resolved.map(drop).map_err(Unresolved::Contradiction)
}
