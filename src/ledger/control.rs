//! Words from another terminal to a running bot.
//!
//! One request, one answer, each a line of JSON of bounded length, over a socket in `SNIPER_DATA`
//! that only its owner may open. The bot's own thread answers ([`answer`]), so that nobody else
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

use std::{path::Path, sync::mpsc::SyncSender, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::carrier::Server;
use super::{
    Contradiction, HaltReason, Ledger, Who,
    event::{Source, State},
    status::Status,
};
use crate::{time::UnixMs, trade::TradeId};

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
    /// Say what became of an unknown buy.
    Resolve {
        /// The listing, or [`LOST`].
        id: String,
        /// Whether it was bought.
        bought: bool,
        /// Who says so.
        by: String,
    },
    /// Let `total` count from now.
    NewBudget {
        /// Who says so.
        by: String,
    },
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
        path: std::path::PathBuf,
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

/// Asks the live bot that runs on this folder.
///
/// # Errors
///
/// A [`ControlError`]; [`ControlError::NotRunning`] where there is none.
pub fn ask(folder: &Path, request: &Request) -> Result<Reply, ControlError> {
    ask_instance(folder, Instance::Live, request)
}

/// Asks one of the two bots that may run on this folder.
///
/// # Errors
///
/// As for [`ask`].
pub fn ask_instance(
    folder: &Path,
    instance: Instance,
    request: &Request,
) -> Result<Reply, ControlError> {
    let line = serde_json::to_string(request).map_err(|_never| ControlError::Garbled)?;
    let answer = carrier::exchange(folder, instance, &line)?;
    serde_json::from_str(&answer).map_err(|_not_ours| ControlError::Garbled)
}

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
        Request::Resolve { id, bought, by } => {
            resolve(ledger, id, *bought, now, Who::new(by)).map_err(|why| why.to_string())
        }
    }
}

/// Why a buy cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unresolved {
    #[error("the ledger has no buy of a listing {0:?}")]
    NoSuchListing(String),
    #[error("{id} is {state}; only an unknown buy can be resolved")]
    NotUnknown { id: String, state: State },
    #[error("what power loss may have hidden can only be declared `--not-bought`")]
    LossIsNoPurchase,
    #[error("no loss is on record")]
    NoLoss,
    #[error("{0}")]
    Contradiction(Contradiction),
}

fn resolve(
    ledger: &mut Ledger,
    id: &str,
    bought: bool,
    now: UnixMs,
    by: Who,
) -> Result<(), Unresolved> {
    if id == LOST {
        if bought {
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
    if state != State::Unknown {
        return Err(Unresolved::NotUnknown { id: id.to_owned(), state });
    }
    let resolved = ledger.resolve(&listing, bought, by, now);
    resolved.map(drop).map_err(Unresolved::Contradiction)
}
