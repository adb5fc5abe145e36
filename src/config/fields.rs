//! The keys of one table, read with their types and bounds; each mistake is a problem at its
//! place.
//!
//! A value that is wrong reads as absent, so that reading goes on and finds the next mistake; the
//! problem that was noted keeps the result from being used.

use std::time::Duration;

use super::{
    document::{ConfigDocument, ConfigNode, Member, Value},
    problem::{Diagnostics, Problem},
};
use crate::{
    domain::money::{Amount, DecimalError, Percent},
    text::{Escaped, nearest},
};

/// Where reading is, and what was found.
#[derive(Debug)]
pub(super) struct ParseContext<'d, 'a> {
    pub(super) document: &'d ConfigDocument<'a>,
    pub(super) findings: &'d mut Diagnostics,
}

impl ParseContext<'_, '_> {
    pub(super) fn problem(&mut self, at: usize, message: String, remedy: impl Into<String>) {
        self.findings.problem(Problem::new(self.document.place(at), message, remedy));
    }

    pub(super) fn warning(&mut self, at: usize, message: String, remedy: impl Into<String>) {
        self.findings.warning(Problem::new(self.document.place(at), message, remedy));
    }
}

/// The members of a table, and the keys that it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableFields<'n, 'a> {
    members: &'n [Member<'a>],
    keys: &'static [&'static str],
    /// Where the table begins.
    pub(super) at: usize,
}

impl<'n, 'a> TableFields<'n, 'a> {
    /// Takes a table apart and reports what it should not hold. `title` is what a message calls
    /// the table: `[budget]`.
    pub(super) fn new(
        node: &'n ConfigNode<'a>,
        title: &str,
        keys: &'static [&'static str],
        reading: &mut ParseContext<'_, '_>,
    ) -> Self {
        let members = match &node.value {
            Value::Table(members) => members.as_slice(),
            other => {
                let message = format!("{title} is {} where a table belongs", other.kind());
                reading.problem(node.at, message, format!("write its keys below {title}"));
                &[]
            }
        };
        for member in members.iter().filter(|member| !keys.contains(&member.key.as_ref())) {
            let message = format!("{title} has no key `{}`", Escaped(&member.key));
            reading.problem(member.at, message, suggestion(&member.key, keys));
        }
        Self { members, keys, at: node.at }
    }

    /// The members of a table that was checked for unknown keys already.
    pub(super) const fn of(members: &'n [Member<'a>], keys: &'static [&'static str]) -> Self {
        Self { members, keys, at: 0 }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<&'n ConfigNode<'a>> {
        debug_assert!(self.keys.contains(&key), "`{key}` is read but not listed");
        self.members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// Where a key stands; where the table does if it is absent.
    pub(super) fn at(&self, key: &str) -> usize {
        self.members.iter().find(|member| member.key == key).map_or(self.at, |member| member.at)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, reading: &mut ParseContext<'_, '_>) -> Option<bool> {
        let node = self.get(key)?;
        match &node.value {
            Value::Flag(flag) => Some(*flag),
            other => {
                let message = format!("`{key}` is {}", other.kind());
                reading.problem(node.at, message, "write true or false, without quotes");
                None
            }
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &str, reading: &mut ParseContext<'_, '_>) -> Option<&'n str> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) => Some(text),
            other => {
                let message = format!("`{key}` is {}", other.kind());
                reading.problem(node.at, message, "write a text in double quotes");
                None
            }
        }
    }

    /// The text of a decimal number that is not negative.
    pub(super) fn number(
        &self,
        key: &str,
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<(usize, &'n str)> {
        let node = self.get(key)?;
        let text = match &node.value {
            Value::Number(text) => text.strip_prefix('+').unwrap_or(text),
            Value::Text(text) if Amount::parse(text).is_ok() => {
                let message = format!("`{key}` is a text");
                reading.problem(node.at, message, format!("write {text} without quotes"));
                return None;
            }
            other => {
                let message = format!("`{key}` is {}", other.kind());
                reading.problem(node.at, message, "write a number, such as 12 or 12.50");
                return None;
            }
        };
        let digits = text.trim_start_matches('-');
        if digits.starts_with(['i', 'n']) {
            let message = format!("`{key}` is {text}, which is no amount");
            reading.problem(node.at, message, "write a number, such as 12 or 12.50");
            return None;
        }
        if text.starts_with('-') && digits.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
            let message = format!("`{key}` is negative");
            reading.problem(node.at, message, "write a number that is not below zero");
            return None;
        }
        Some((node.at, digits))
    }

    /// Any number that is not negative, as hundredths.
    fn hundredths<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, DecimalError>,
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<(usize, T)> {
        let (at, text) = self.number(key, reading)?;
        match parse(text) {
            Ok(value) => Some((at, value)),
            Err(error) => {
                let remedy = match error {
                    DecimalError::NotANumber => "write a number, such as 12 or 12.50",
                    DecimalError::TooPrecise => "write at most two decimals",
                    DecimalError::OutOfRange => "write a number up to 1000000000000",
                };
                reading.problem(at, format!("`{key}` {error}"), remedy);
                None
            }
        }
    }

    /// An amount of coins, zero allowed.
    pub(super) fn coins(&self, key: &str, reading: &mut ParseContext<'_, '_>) -> Option<Amount> {
        self.hundredths(key, Amount::parse, reading).map(|(_at, coins)| coins)
    }

    /// An amount of coins above zero.
    pub(super) fn limit(&self, key: &str, reading: &mut ParseContext<'_, '_>) -> Option<Amount> {
        let (at, coins) = self.hundredths(key, Amount::parse, reading)?;
        if coins == Amount::ZERO {
            let message = format!("`{key}` is zero, so nothing could ever be bought");
            reading.problem(
                at,
                message,
                "write what may be spent, or stay in dry mode to spend nothing",
            );
            return None;
        }
        Some(coins)
    }

    /// Warns about a limit that can never be reached, since another one is below it.
    pub(super) fn warn_above(
        &self,
        (key, value): (&str, Option<Amount>),
        (limit_key, limit): (&str, Option<Amount>),
        reading: &mut ParseContext<'_, '_>,
    ) {
        if let (Some(value), Some(limit)) = (value, limit)
            && value > limit
        {
            let message = format!("`{key}` {value} is above `{limit_key}` {limit}");
            reading.warning(self.at(key), message, "the lower one decides; change one of them");
        }
    }

    /// A percentage, zero allowed.
    pub(super) fn percent(&self, key: &str, reading: &mut ParseContext<'_, '_>) -> Option<Percent> {
        self.hundredths(key, Percent::parse, reading).map(|(_at, percent)| percent)
    }

    /// A whole number within bounds, both allowed. `4.0` is whole.
    pub(super) fn whole(
        &self,
        key: &str,
        (least, greatest): (u32, u32),
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<u32> {
        let (at, text) = self.number(key, reading)?;
        let parsed = Percent::parse(text).map(Percent::hundredths);
        let whole = parsed.ok().filter(|hundredths| hundredths % 100 == 0);
        let within = whole
            .and_then(|hundredths| u32::try_from(hundredths / 100).ok())
            .filter(|whole| (least..=greatest).contains(whole));
        if within.is_none() {
            let what = if whole.is_some() { "is out of range" } else { "is not a whole number" };
            let remedy = format!("write a whole number from {least} to {greatest}");
            reading.problem(at, format!("`{key}` {what}"), remedy);
        }
        within
    }

    /// A decimal with at most two decimals within bounds given in hundredths, both allowed.
    pub(super) fn decimal(
        &self,
        key: &str,
        (least, greatest): (u32, u32),
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<u32> {
        let (at, percent) = self.hundredths(key, Percent::parse, reading)?;
        let within = u32::try_from(percent.hundredths())
            .ok()
            .filter(|value| (least..=greatest).contains(value));
        if within.is_none() {
            let bound = |value: u32| Percent::from_hundredths(i64::from(value));
            let remedy = format!("write a number from {} to {}", bound(least), bound(greatest));
            reading.problem(at, format!("`{key}` is out of range"), remedy);
        }
        within
    }

    /// A text and what `parse` makes of it, or a problem that lists the words it knows.
    pub(super) fn choice<T>(
        &self,
        key: &str,
        words: &[&'static str],
        parse: impl FnOnce(&str) -> Option<T>,
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<T> {
        let text = self.text(key, reading)?;
        let parsed = parse(text);
        if parsed.is_none() {
            let message = format!("`{key}` has no value \"{}\"", Escaped(text));
            reading.problem(self.at(key), message, suggestion(text, words));
        }
        parsed
    }

    /// Whole seconds within bounds.
    pub(super) fn seconds(
        &self,
        key: &str,
        bounds: (u32, u32),
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<Duration> {
        self.whole(key, bounds, reading).map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whole milliseconds within bounds.
    pub(super) fn milliseconds(
        &self,
        key: &str,
        bounds: (u32, u32),
        reading: &mut ParseContext<'_, '_>,
    ) -> Option<Duration> {
        self.whole(key, bounds, reading).map(|ms| Duration::from_millis(ms.into()))
    }
}

/// What to write instead of `word`: the one it is most like, or any of them.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("write one of: {}", known.join(", ")),
    }
}
