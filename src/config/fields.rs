//! Typed and bounded access to the keys of one table.
//!
//! An invalid value is reported and then treated as absent, so that parsing continues and finds
//! further errors. The reported problem prevents the result from being used.

use std::time::Duration;

use super::{
    document::{ConfigDocument, ConfigNode, Member, Value, corrected_amount},
    problem::{Diagnostics, Problem},
};
use crate::{
    domain::money::{Amount, DecimalError, Percent},
    text::{Escaped, nearest},
};

/// The document being parsed, and the problems found in it.
#[derive(Debug)]
pub(super) struct ParseContext<'d, 'a> {
    pub(super) document: &'d ConfigDocument<'a>,
    pub(super) diagnostics: &'d mut Diagnostics,
}

impl ParseContext<'_, '_> {
    pub(super) fn problem(&mut self, at: usize, message: String, remedy: impl Into<String>) {
        self.diagnostics.problem(Problem::new(self.document.place(at), message, remedy));
    }

    pub(super) fn warning(&mut self, at: usize, message: String, remedy: impl Into<String>) {
        self.diagnostics.warning(Problem::new(self.document.place(at), message, remedy));
    }
}

/// Members of a table and the keys that it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableFields<'n, 'a> {
    members: &'n [Member<'a>],
    keys: &'static [&'static str],
    /// Byte offset of the table.
    pub(super) at: usize,
}

impl<'n, 'a> TableFields<'n, 'a> {
    /// Reads the members of a table and reports unknown keys. `title` is the name of the table in
    /// messages, such as `[budget]`.
    pub(super) fn new(
        node: &'n ConfigNode<'a>,
        title: &str,
        keys: &'static [&'static str],
        context: &mut ParseContext<'_, '_>,
    ) -> Self {
        let members = match &node.value {
            Value::Table(members) => members.as_slice(),
            other => {
                let message = format!("{title} must be a table, not {}", other.kind());
                context.problem(node.at, message, format!("write its keys below {title}"));
                &[]
            }
        };
        for member in members.iter().filter(|member| !keys.contains(&member.key.as_ref())) {
            let message = format!("unknown key `{}` in {title}", Escaped(&member.key));
            context.problem(member.at, message, suggestion(&member.key, keys));
        }
        Self { members, keys, at: node.at }
    }

    /// Wraps the members of a table whose keys were checked before.
    pub(super) const fn of(members: &'n [Member<'a>], keys: &'static [&'static str]) -> Self {
        Self { members, keys, at: 0 }
    }

    /// Returns the value of a key, if present.
    pub(super) fn get(&self, key: &str) -> Option<&'n ConfigNode<'a>> {
        debug_assert!(self.keys.contains(&key), "`{key}` is read but not listed");
        self.members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// Returns the byte offset of a key, or that of the table if the key is absent.
    pub(super) fn at(&self, key: &str) -> usize {
        self.members.iter().find(|member| member.key == key).map_or(self.at, |member| member.at)
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(&self, key: &str, context: &mut ParseContext<'_, '_>) -> Option<bool> {
        let node = self.get(key)?;
        match &node.value {
            Value::Flag(flag) => Some(*flag),
            other => {
                let message = format!("`{key}` must be true or false, not {}", other.kind());
                context.problem(node.at, message, "write true or false, without quotes");
                None
            }
        }
    }

    pub(super) fn text(&self, key: &str, context: &mut ParseContext<'_, '_>) -> Option<&'n str> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) => Some(text),
            other => {
                let message = format!("`{key}` must be text, not {}", other.kind());
                context.problem(node.at, message, "put the value in double quotes");
                None
            }
        }
    }

    /// Reads the text of a decimal number that is not negative.
    pub(super) fn number(
        &self,
        key: &str,
        context: &mut ParseContext<'_, '_>,
    ) -> Option<(usize, &'n str)> {
        let node = self.get(key)?;
        let text = match &node.value {
            Value::Number(text) => text.strip_prefix('+').unwrap_or(text),
            other => {
                let message = format!("`{key}` must be a number, not {}", other.kind());
                let number = match other {
                    Value::Text(text) => corrected_amount(text, context.document.decimals()),
                    _ => None,
                };
                let remedy = match number {
                    Some(number) => format!("write {key} = {number}"),
                    None => "write a number, such as 12 or 12.50".to_owned(),
                };
                context.problem(node.at, message, remedy);
                return None;
            }
        };
        let digits = text.trim_start_matches('-');
        if digits.starts_with(['i', 'n']) {
            let message = format!("`{key}` is {text}, which is not an amount");
            context.problem(node.at, message, "write a number, such as 12 or 12.50");
            return None;
        }
        if text.starts_with('-') && digits.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
            let message = format!("`{key}` is negative");
            context.problem(node.at, message, "write 0 or more");
            return None;
        }
        Some((node.at, digits))
    }

    /// Reads a number that is not negative.
    fn decimal_number<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, DecimalError>,
        context: &mut ParseContext<'_, '_>,
    ) -> Option<(usize, T)> {
        let (at, text) = self.number(key, context)?;
        match parse(text) {
            Ok(value) => Some((at, value)),
            Err(error) => {
                let remedy = match error {
                    DecimalError::NotANumber => "write a number, such as 12 or 12.50".to_owned(),
                    DecimalError::TooPrecise(decimals) => format!("write at most {decimals}"),
                    DecimalError::OutOfRange => "write a number up to 1000000000000".to_owned(),
                };
                context.problem(at, format!("`{key}` {error}"), remedy);
                None
            }
        }
    }

    /// Reads an amount of coins; zero is allowed.
    pub(super) fn coins(&self, key: &str, context: &mut ParseContext<'_, '_>) -> Option<Amount> {
        self.amount(key, context).map(|(_at, coins)| coins)
    }

    fn amount(&self, key: &str, context: &mut ParseContext<'_, '_>) -> Option<(usize, Amount)> {
        let decimals = context.document.decimals();
        self.decimal_number(key, |text| Amount::parse(text, decimals), context)
    }

    /// Reads an amount of coins greater than zero.
    pub(super) fn limit(&self, key: &str, context: &mut ParseContext<'_, '_>) -> Option<Amount> {
        let (at, coins) = self.amount(key, context)?;
        if coins == Amount::ZERO {
            let message = format!("`{key}` is zero, so nothing can be bought");
            context.problem(
                at,
                message,
                "write an amount above zero, or run without --live to spend nothing",
            );
            return None;
        }
        Some(coins)
    }

    /// Warns about a limit that cannot be reached because another limit is lower.
    pub(super) fn warn_above(
        &self,
        (key, value): (&str, Option<Amount>),
        (limit_key, limit): (&str, Option<Amount>),
        context: &mut ParseContext<'_, '_>,
    ) {
        if let (Some(value), Some(limit)) = (value, limit)
            && value > limit
        {
            let message = format!("`{key}` {value} is above `{limit_key}` {limit}");
            context.warning(self.at(key), message, "the lower one applies; change one of them");
        }
    }

    /// Reads a percentage; zero is allowed.
    pub(super) fn percent(&self, key: &str, context: &mut ParseContext<'_, '_>) -> Option<Percent> {
        self.decimal_number(key, Percent::parse, context).map(|(_at, percent)| percent)
    }

    /// Reads a whole number within inclusive bounds. `4.0` counts as whole.
    pub(super) fn whole(
        &self,
        key: &str,
        (min, max): (u32, u32),
        context: &mut ParseContext<'_, '_>,
    ) -> Option<u32> {
        let (at, text) = self.number(key, context)?;
        let parsed = Percent::parse(text).map(Percent::hundredths);
        let whole = parsed.ok().filter(|hundredths| hundredths % 100 == 0);
        let within = whole
            .and_then(|hundredths| u32::try_from(hundredths / 100).ok())
            .filter(|whole| (min..=max).contains(whole));
        if within.is_none() {
            let what = if whole.is_some() { "is out of range" } else { "is not a whole number" };
            let remedy = match max {
                u32::MAX => format!("write a whole number, {min} or more"),
                _ => format!("write a whole number from {min} to {max}"),
            };
            context.problem(at, format!("`{key}` {what}"), remedy);
        }
        within
    }

    /// Reads a number with at most two decimals; the inclusive bounds and the result are in
    /// hundredths.
    pub(super) fn decimal(
        &self,
        key: &str,
        (min, max): (u32, u32),
        context: &mut ParseContext<'_, '_>,
    ) -> Option<u32> {
        let (at, percent) = self.decimal_number(key, Percent::parse, context)?;
        let within =
            u32::try_from(percent.hundredths()).ok().filter(|value| (min..=max).contains(value));
        if within.is_none() {
            let bound = |value: u32| Percent::from_hundredths(i64::from(value));
            let remedy = format!("write a number from {} to {}", bound(min), bound(max));
            context.problem(at, format!("`{key}` is out of range"), remedy);
        }
        within
    }

    /// Reads a text and parses it with `parse`. The problem of an unknown word lists `words`.
    pub(super) fn choice<T>(
        &self,
        key: &str,
        words: &[&'static str],
        parse: impl FnOnce(&str) -> Option<T>,
        context: &mut ParseContext<'_, '_>,
    ) -> Option<T> {
        let text = self.text(key, context)?;
        let parsed = parse(text);
        if parsed.is_none() {
            let message = format!("`{key}` cannot be \"{}\"", Escaped(text));
            context.problem(self.at(key), message, suggestion(text, words));
        }
        parsed
    }

    /// Reads whole seconds within inclusive bounds.
    pub(super) fn seconds(
        &self,
        key: &str,
        bounds: (u32, u32),
        context: &mut ParseContext<'_, '_>,
    ) -> Option<Duration> {
        self.whole(key, bounds, context).map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Reads whole milliseconds within inclusive bounds.
    pub(super) fn milliseconds(
        &self,
        key: &str,
        bounds: (u32, u32),
        context: &mut ParseContext<'_, '_>,
    ) -> Option<Duration> {
        self.whole(key, bounds, context).map(|ms| Duration::from_millis(ms.into()))
    }
}

/// Suggests the known word most similar to `word`, or lists all known words.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("write one of: {}", known.join(", ")),
    }
}
