//! What each step of an examination came to, for a person and as JSON. Pure.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::summary::{decimal, short};

/// The steps, in the order in which they are taken.
pub const STEPS: [&str; 14] = [
    "settings",
    "DNS",
    "TCP",
    "TLS",
    "upgrade",
    "ack",
    "first listing",
    "HTTP",
    "sign-in",
    "balance",
    "own trades",
    "clock interval",
    "disk",
    BOT,
];

/// The step that asks how the bot of this `SNIPER_DATA` stands.
pub const BOT: &str = "bot";

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// It is well.
    Green,
    /// It is not, and this is what to do.
    Red {
        /// What to do.
        remedy: String,
    },
    /// It could not be tried, since an earlier one failed.
    Untried,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorStep {
    /// Which of [`STEPS`].
    pub name: &'static str,
    /// How it went.
    pub finding: StepResult,
    /// How long it took.
    pub took: Duration,
    /// What was seen: fit to be shown.
    pub seen: String,
}

impl DoctorStep {
    /// It is well.
    pub fn green(name: &'static str, took: Duration, seen: impl Into<String>) -> Self {
        Self { name, finding: StepResult::Green, took, seen: seen.into() }
    }

    /// It is not.
    pub fn red(
        name: &'static str,
        took: Duration,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let finding = StepResult::Red { remedy: remedy.into() };
        Self { name, finding, took, seen: seen.into() }
    }

    /// It could not be tried.
    pub fn untried(name: &'static str) -> Self {
        let seen = "not tried, since an earlier step failed".to_owned();
        Self { name, finding: StepResult::Untried, took: Duration::ZERO, seen }
    }

    /// Whether it is well.
    pub fn is_green(&self) -> bool {
        self.finding == StepResult::Green
    }

    /// The line for a person, in color if wanted.
    pub const fn line(&self, colors: bool) -> StepLine<'_> {
        StepLine { step: self, colors }
    }

    fn to_json(&self) -> Value {
        let (state, remedy) = match &self.finding {
            StepResult::Green => ("green", None),
            StepResult::Red { remedy } => ("red", Some(remedy)),
            StepResult::Untried => ("untried", None),
        };
        json!({
            "step": self.name,
            "state": state,
            "ms": decimal(self.took.as_micros(), 3),
            "seen": self.seen,
            "remedy": remedy,
        })
    }
}

/// A step as a line, and what to do below it.
#[derive(Clone, Copy, Debug)]
pub struct StepLine<'s> {
    step: &'s DoctorStep,
    colors: bool,
}

impl fmt::Display for StepLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DoctorStep { name, finding, took, seen } = self.step;
        let (word, color) = match finding {
            StepResult::Green => ("ok  ", "32"),
            StepResult::Red { .. } => ("FAIL", "31"),
            StepResult::Untried => ("--  ", "33"),
        };
        if self.colors {
            write!(f, "\u{1b}[{color}m{word}\u{1b}[0m")?;
        } else {
            f.write_str(word)?;
        }
        let took = match finding {
            StepResult::Untried => String::new(),
            StepResult::Green | StepResult::Red { .. } => short(*took),
        };
        writeln!(f, "  {name:<15} {took:>9}  {seen}")?;
        if let StepResult::Red { remedy } = finding {
            writeln!(f, "      what to do: {remedy}")?;
        }
        Ok(())
    }
}

/// All steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorReport {
    /// In the order of [`STEPS`].
    pub steps: Vec<DoctorStep>,
}

impl DoctorReport {
    /// Whether everything is well.
    pub fn is_well(&self) -> bool {
        self.steps.len() == STEPS.len() && self.steps.iter().all(DoctorStep::is_green)
    }

    /// The exit code: 78 where the settings are wrong; 1, as `sniper status` has it, where the bot or
    /// its ledger needs the user; 69 for anything else (78 and 69 after `sysexits.h`).
    pub fn exit_code(&self) -> u8 {
        let is_red = |name: &str| {
            let is_it = |step: &&DoctorStep| step.name == name;
            self.steps.iter().find(is_it).is_some_and(|step| !step.is_green())
        };
        match self.steps.first() {
            _ if self.is_well() => 0,
            Some(settings) if !settings.is_green() => 78,
            _ if is_red(BOT) => 1,
            _ => 69,
        }
    }

    /// As one JSON object.
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(DoctorStep::to_json).collect();
        json!({ "mode": "doctor", "ok": self.is_well(), "steps": steps })
    }

    /// What it comes to, in one line.
    pub fn verdict(&self) -> String {
        let failed = self.steps.iter().filter(|step| !step.is_green()).count();
        match failed {
            0 => "All is well.\n".to_owned(),
            failed => format!("{failed} of {} steps are not well.\n", STEPS.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_red_step_says_what_to_do() {
        let step = DoctorStep::red("sign-in", 12 * MS, "the session has expired", "log in again");
        let shown = step.line(false).to_string();
        assert!(shown.starts_with("FAIL  sign-in "), "{shown}");
        assert!(shown.contains("12.0 ms  the session has expired\n"), "{shown}");
        assert!(shown.ends_with("what to do: log in again\n"), "{shown}");
        assert!(step.line(true).to_string().starts_with("\u{1b}[31mFAIL"));
    }

    #[test]
    fn only_all_green_is_well() {
        let green = |name| DoctorStep::green(name, MS, "");
        let mut examination = DoctorReport { steps: STEPS.map(green).to_vec() };
        assert_eq!((examination.is_well(), examination.exit_code()), (true, 0));
        examination.steps[3] = DoctorStep::untried("TLS");
        assert_eq!((examination.is_well(), examination.exit_code()), (false, 69));
        let bot = examination.steps.len() - 1;
        examination.steps[bot] = DoctorStep::red(BOT, MS, "halted", "");
        assert_eq!((examination.is_well(), examination.exit_code()), (false, 1));
        examination.steps[0] = DoctorStep::red("settings", MS, "", "");
        assert_eq!(examination.exit_code(), 78);
        let short = DoctorReport { steps: vec![green("settings")] };
        assert!(!short.is_well(), "a step that is missing is not well");
        assert_eq!(examination.to_json()["steps"][0]["state"], "red");
    }
}
