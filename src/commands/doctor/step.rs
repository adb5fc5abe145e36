//! Results of the `doctor` steps, as text and as JSON. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    commands::{exit_code, summary::decimal},
    domain::latency::format_latency,
};

/// Names of the steps in JSON, in the order of the report.
pub const STEPS: [&str; 17] = [
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
    "trade URL",
    "clock interval",
    "disk",
    "alerts",
    "shared budget",
    BOT,
];

/// Step that reads the state of the bot with this `SNIPER_DATA`.
pub const BOT: &str = "bot";

/// Steps without a duration: they read the loaded settings, or the response of an earlier step.
const WITHOUT_DURATION: [&str; 4] = ["settings", "sign-in", "balance", "clock interval"];

/// Result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    Ok,
    Failed {
        /// Instruction for the user.
        remedy: String,
    },
    /// Not tried, because an earlier step failed.
    Skipped,
}

/// Problem that a step has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepProblem {
    pub detail: String,
    /// Instruction for the user.
    pub remedy: &'static str,
}

/// A step that was executed or skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorStep {
    /// One of [`STEPS`].
    pub name: &'static str,
    pub result: StepResult,
    pub elapsed: Duration,
    /// Observation or error, escaped for display, in one or more lines; `seen` in JSON.
    pub detail: String,
}

impl DoctorStep {
    pub fn ok(name: &'static str, elapsed: Duration, detail: impl Into<String>) -> Self {
        Self { name, result: StepResult::Ok, elapsed, detail: detail.into() }
    }

    pub fn failed(
        name: &'static str,
        elapsed: Duration,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let result = StepResult::Failed { remedy: remedy.into() };
        Self { name, result, elapsed, detail: detail.into() }
    }

    pub fn skipped(name: &'static str) -> Self {
        let detail = "skipped, because an earlier step failed".to_owned();
        Self { name, result: StepResult::Skipped, elapsed: Duration::ZERO, detail }
    }

    pub fn is_ok(&self) -> bool {
        self.result == StepResult::Ok
    }

    /// Returns the step as a line of text, followed by a line with the remedy if it failed.
    pub fn line(&self, colors: bool) -> String {
        let Self { name, result, elapsed, detail } = self;
        let (word, color) = match result {
            StepResult::Ok => ("ok  ", "32"),
            StepResult::Failed { .. } => ("FAIL", "31"),
            StepResult::Skipped => ("SKIP", "33"),
        };
        let word = if colors { format!("\u{1b}[{color}m{word}\u{1b}[0m") } else { word.to_owned() };
        let elapsed = match result {
            StepResult::Skipped => String::new(),
            _ if WITHOUT_DURATION.contains(name) => String::new(),
            StepResult::Ok | StepResult::Failed { .. } => format_latency(*elapsed),
        };
        let detail = detail.replace('\n', "\n      ");
        let mut line = format!("{word}  {:<19} {elapsed:>9}  {detail}\n", label(name));
        if let StepResult::Failed { remedy } = result {
            line.push_str(&format!("      To do: {remedy}\n"));
        }
        line
    }

    fn to_json(&self) -> Value {
        let (state, remedy) = match &self.result {
            StepResult::Ok => ("green", None),
            StepResult::Failed { remedy } => ("red", Some(remedy)),
            StepResult::Skipped => ("untried", None),
        };
        json!({
            "step": self.name,
            "state": state,
            "ms": decimal(self.elapsed.as_micros(), 3),
            "seen": self.detail,
            "remedy": remedy,
        })
    }
}

/// Results of all steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorReport {
    /// In the order of [`STEPS`].
    pub steps: Vec<DoctorStep>,
}

impl DoctorReport {
    /// Returns `true` if all steps succeeded.
    pub fn is_ok(&self) -> bool {
        self.steps.len() == STEPS.len() && self.steps.iter().all(DoctorStep::is_ok)
    }

    /// Returns the exit code: that of `sniper status` if the bot or its ledger needs the user.
    pub fn exit_code(&self) -> u8 {
        let has_failed = |name: &str| {
            let is_it = |step: &&DoctorStep| step.name == name;
            self.steps.iter().find(is_it).is_some_and(|step| !step.is_ok())
        };
        if self.is_ok() {
            0
        } else if has_failed("settings") {
            exit_code::CONFIG
        } else if has_failed(BOT) {
            exit_code::FAILURE
        } else {
            exit_code::UNAVAILABLE
        }
    }

    /// Returns the report as one JSON object.
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(DoctorStep::to_json).collect();
        json!({ "mode": "doctor", "ok": self.is_ok(), "steps": steps })
    }

    /// Returns the conclusion in one line.
    pub fn conclusion(&self) -> String {
        if self.is_ok() {
            return "All steps succeeded.\n".to_owned();
        }
        let is_skipped = |step: &&DoctorStep| step.result == StepResult::Skipped;
        let skipped = self.steps.iter().filter(is_skipped).count();
        let failed = self.steps.iter().filter(|step| !step.is_ok()).count().saturating_sub(skipped);
        let steps = self.steps.len();
        format!("{failed} of {steps} steps failed, {skipped} skipped; follow the `To do` lines.\n")
    }
}

/// Returns the name of a step in text output.
fn label(name: &'static str) -> &'static str {
    match name {
        "upgrade" => "WebSocket handshake",
        "ack" => "subscription",
        "clock interval" => "clock",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_failed_step_shows_its_remedy() {
        let step =
            DoctorStep::failed("sign-in", 12 * MS, "the session has expired", "log in again");
        let shown = step.line(false);
        assert!(shown.starts_with("FAIL  sign-in "), "{shown}");
        assert!(shown.contains("  the session has expired\n"), "{shown}");
        assert!(shown.ends_with("To do: log in again\n"), "{shown}");
        assert!(step.line(true).starts_with("\u{1b}[31mFAIL"));
    }

    #[test]
    fn the_report_is_ok_only_if_all_steps_are() {
        let ok = |name| DoctorStep::ok(name, MS, "");
        let mut report = DoctorReport { steps: STEPS.map(ok).to_vec() };
        assert_eq!((report.is_ok(), report.exit_code()), (true, 0));
        report.steps[3] = DoctorStep::skipped("TLS");
        assert_eq!((report.is_ok(), report.exit_code()), (false, 69));
        assert_eq!(
            report.conclusion(),
            "0 of 17 steps failed, 1 skipped; follow the `To do` lines.\n"
        );
        let bot = report.steps.len() - 1;
        report.steps[bot] = DoctorStep::failed(BOT, MS, "halted", "");
        assert_eq!((report.is_ok(), report.exit_code()), (false, 1));
        report.steps[0] = DoctorStep::failed("settings", MS, "", "");
        assert_eq!(report.exit_code(), 78);
        let partial = DoctorReport { steps: vec![ok("settings")] };
        assert!(!partial.is_ok(), "a missing step is a failure");
        assert_eq!(report.to_json()["steps"][0]["state"], "red");
    }
}
