//! One order as text, CSV or JSON.

use serde_json::{Value, json};

use crate::{
    domain::time::UnixMs,
    ledger::{
        error::LedgerError,
        event::Sequence,
        intent::Intent,
        reader::{LedgerReader, OrderDetails},
    },
    text::Escaped,
};

pub(super) const HEADER: &str = "number,listing,entry,approved,price,state,reserved_at,sent_at,\
answered_at,settled_at,limits,answer,words";

/// An intent with its details.
#[derive(Debug)]
pub(super) struct ExportRow {
    intent: Intent,
    entry: String,
    details: OrderDetails,
}

impl ExportRow {
    pub(super) fn of(reader: &LedgerReader, intent: &Intent) -> Result<Self, LedgerError> {
        let details = reader.details(intent.sequence)?;
        Ok(Self { intent: *intent, entry: reader.label(intent).to_owned(), details })
    }

    pub(super) fn is(&self, sequence: Sequence) -> bool {
        self.intent.sequence == sequence
    }

    pub(super) fn to_json(&self) -> Value {
        let timestamp = |at: Option<UnixMs>| at.map(|at| at.to_string());
        json!({
            "number": self.intent.sequence.0,
            "listing": self.intent.id.as_str(),
            "entry": self.entry,
            "approved": self.intent.approved.to_string(),
            "price": self.intent.price.to_string(),
            "state": self.intent.state.as_str(),
            "reserved_at": self.intent.reserved_at.to_string(),
            "sent_at": timestamp(self.details.sent_at),
            "answered_at": timestamp(self.details.answered_at),
            "settled_at": timestamp(self.details.settled_at),
            "limits": self.intent.limits,
            "answer": self.details.answer,
            "words": self.details.response,
        })
    }

    pub(super) fn to_csv(&self) -> String {
        let timestamp = |at: Option<UnixMs>| at.map(|at| at.to_string()).unwrap_or_default();
        let columns = [
            self.intent.sequence.to_string(),
            self.intent.id.to_string(),
            self.entry.clone(),
            self.intent.approved.to_string(),
            self.intent.price.to_string(),
            self.intent.state.to_string(),
            self.intent.reserved_at.to_string(),
            timestamp(self.details.sent_at),
            timestamp(self.details.answered_at),
            timestamp(self.details.settled_at),
            self.intent.limits.to_string(),
            self.details.answer.clone().unwrap_or_default(),
            self.details.response.clone().unwrap_or_default(),
        ];
        columns.map(|column| cell(&column)).join(",")
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("{name:<15} {}\n", Escaped(value)));
        };
        line("listing", self.intent.id.as_str());
        line("state", self.intent.state.as_str());
        line("entry", &self.entry);
        line("approved price", &self.intent.approved.to_string());
        line("price", &self.intent.price.to_string());
        line("approved at", &self.intent.reserved_at.to_string());
        let times = [
            ("sent at", self.details.sent_at),
            ("response at", self.details.answered_at),
            ("settled at", self.details.settled_at),
        ];
        for (name, at) in times {
            if let Some(at) = at {
                line(name, &at.to_string());
            }
        }
        for (name, value) in
            [("response", &self.details.answer), ("market message", &self.details.response)]
        {
            if let Some(value) = value {
                line(name, value);
            }
        }
        text
    }
}

/// Quotes a CSV cell. Neutralizes text that a spreadsheet would evaluate as a formula, and
/// replaces characters that a terminal would interpret.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text: String = text
        .chars()
        .map(|char| if crate::text::is_safe_to_print(char) { char } else { '\u{fffd}' })
        .collect();
    let text = if is_formula { format!("'{text}") } else { text };
    if text.contains([',', '"']) || is_formula {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_cell_is_neither_a_formula_nor_a_terminal_escape() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"no\""), "\"say \"\"no\"\"\"");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("a\u{1b}[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
    }
}
