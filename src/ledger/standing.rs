//! How everything that belongs to one `SNIPER_DATA` stands: a live bot, a dry run beside it, and the
//! ledger at rest where no live bot runs.

use std::{fmt, path::Path, process::ExitCode, process::Termination};

use serde_json::{Value, json};

use super::{
    LedgerError,
    cli::LedgerCommandError,
    control::{self, ControlAddress, ControlError, ControlReply, ControlRequest, Instance},
    reader::LedgerReader,
    status::{LedgerStatus, NOT_RUNNING},
};
use crate::domain::time::UnixMs;

/// How everything stands that belongs to one `SNIPER_DATA`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The live bot, if one runs.
    pub live: Option<LedgerStatus>,
    /// The dry run, if one runs.
    pub dry: Option<LedgerStatus>,
    /// The ledger, where there is one and no live bot runs.
    pub resting: Option<LedgerStatus>,
}

impl Standing {
    /// Asks the bots that run, and reads the ledger where no live one does.
    ///
    /// # Errors
    ///
    /// A [`LedgerCommandError`] when a bot or the ledger cannot be asked.
    pub fn of(
        folder: &Path,
        state: Option<&Path>,
        now: UnixMs,
    ) -> Result<Self, LedgerCommandError> {
        let bot = |instance| ControlAddress::of(folder, state, instance);
        let live = ask(&bot(Instance::Live), &ControlRequest::Status)?;
        let resting = match live {
            Some(_) => None,
            None => match LedgerReader::open_or_copy(folder, state) {
                Ok(mut archive) => Some(at_rest(&mut archive, now)),
                Err(LedgerError::Missing { .. }) => None,
                Err(error) => return Err(error.into()),
            },
        };
        let dry = match ask(&bot(Instance::Dry), &ControlRequest::Status) {
            Ok(dry) => dry,
            // What can be said of the money is said all the same.
            Err(_unanswered) if live.is_some() || resting.is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { live, dry, resting })
    }

    /// What needs the user; `sniper status` and `sniper doctor` exit with 1 where it is anything.
    pub fn problems(&self) -> Vec<String> {
        let all = [&self.live, &self.dry, &self.resting];
        all.into_iter().flatten().flat_map(LedgerStatus::problems).collect()
    }

    /// What is shown first, and what is shown below it, with the key that it has in JSON.
    fn parts(&self) -> (Option<&LedgerStatus>, Option<(&'static str, &LedgerStatus)>) {
        let Self { live, dry, resting } = self;
        match (live, dry, resting) {
            (Some(live), dry, _) => (Some(live), dry.as_ref().map(|dry| ("dry", dry))),
            (None, Some(dry), resting) => {
                (Some(dry), resting.as_ref().map(|resting| ("ledger", resting)))
            }
            (None, None, resting) => (resting.as_ref(), None),
        }
    }

    /// As one JSON object.
    ///
    /// # Errors
    ///
    /// What the serializer says, which has nothing to say about plain values.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let (first, second) = self.parts();
        let Some(first) = first else {
            return Ok(json!({ "mode": NOT_RUNNING, "ledger": null }));
        };
        let mut value = serde_json::to_value(first)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("problems".to_owned(), json!(self.problems()));
            if let Some((key, second)) = second {
                object.insert(key.to_owned(), serde_json::to_value(second)?);
            }
        }
        Ok(value)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.parts();
        let Some(first) = first else {
            return writeln!(
                f,
                "No bot is running with this SNIPER_DATA, and there is no ledger yet."
            );
        };
        for problem in self.problems() {
            writeln!(f, "PROBLEM         {problem}")?;
        }
        write!(f, "{first}")?;
        match second {
            Some(("dry", dry)) => write!(f, "\nA dry run beside it:\n\n{dry}"),
            Some((_, resting)) => write!(f, "\nThe ledger of the stopped live bot:\n\n{resting}"),
            None => Ok(()),
        }
    }
}

/// Whether anything needs the user, as an exit code: 1 where something does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is the exit code"]
pub struct StandingProblems(pub Vec<String>);

impl Termination for StandingProblems {
    fn report(self) -> ExitCode {
        if self.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Asks one bot; `None`: it does not run.
///
/// # Errors
///
/// A [`LedgerCommandError`] when it runs and does not do what is asked.
pub(super) fn ask(
    address: &ControlAddress,
    request: &ControlRequest,
) -> Result<Option<LedgerStatus>, LedgerCommandError> {
    match control::ask(address, request) {
        Ok(ControlReply::Done(status)) => Ok(Some(*status)),
        Ok(ControlReply::Cannot(why)) => Err(LedgerCommandError::Refused(why)),
        Err(ControlError::NotRunning) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How things stand while no live bot runs.
pub(super) fn at_rest(archive: &mut LedgerReader, now: UnixMs) -> LedgerStatus {
    let mut status = LedgerStatus::of(&archive.book_mut().snapshot(now), NOT_RUNNING, None);
    if status.buying == "not reconciled" {
        "off".clone_into(&mut status.buying);
    }
    status
}
