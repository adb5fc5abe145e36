//! A settings file as text, and as a tree of values with their positions. Pure.
//!
//! TOML and JSON are parsed into the same [`ConfigNode`]s, so a whitelist is validated by one code
//! path. Numbers are kept as text: amounts are never converted through a binary float.
//!
//! [`TableFields`] reads the keys of one table, typed and bounded. An invalid value is reported and
//! then treated as absent, so that parsing continues and finds further errors. The reported problem
//! prevents the result from being used.
//!
//! JSON is read with the program's own cursor, because `serde_json` gives neither the positions of
//! values nor repeated keys, and the messages about a whitelist need both.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Diagnostics, Problem, SourceLocation};
use crate::{
    domain::money::{Amount, DecimalError, Decimals, Percent},
    json::{Cursor, JsonError, ValueKind},
    text::{Escaped, nearest},
};

/// Text of a file, with its name in error messages.
#[derive(Debug)]
pub(super) struct ConfigDocument<'a> {
    name: &'a str,
    text: &'a str,
    /// Number of decimals of its amounts.
    decimals: Decimals,
    /// Byte offset of each line.
    lines: Vec<usize>,
}

impl<'a> ConfigDocument<'a> {
    pub(super) fn new(name: &'a str, text: &'a str, decimals: Decimals) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes());
        let lines = std::iter::once(0).chain(breaks.map(|at| at.saturating_add(1))).collect();
        Self { name, text, decimals, lines }
    }

    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    pub(super) const fn decimals(&self) -> Decimals {
        self.decimals
    }

    /// Returns the line and column of a byte offset.
    pub(super) fn place(&self, at: usize) -> SourceLocation {
        let line = self.line(at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..at.min(self.text.len())).unwrap_or_default();
        // Counts characters: every byte except UTF-8 continuation bytes.
        let column = before.iter().filter(|byte| **byte & 0xC0 != 0x80).count().saturating_add(1);
        SourceLocation::Column { file: self.name.to_owned(), line, column }
    }

    /// Returns the line of a byte offset, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// Returns the location that stands for the whole document.
    pub(super) fn whole(&self) -> SourceLocation {
        SourceLocation::File(self.name.to_owned())
    }
}

/// A value and its byte offset.
#[derive(Clone, Debug)]
pub(super) struct ConfigNode<'a> {
    pub(super) at: usize,
    pub(super) value: Value<'a>,
}

/// TOML or JSON value.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Cow<'a, str>),
    Flag(bool),
    List(Vec<ConfigNode<'a>>),
    Table(Vec<TableMember<'a>>),
    /// A kind that no setting accepts: a date, `null`, a hexadecimal number.
    Other(&'static str),
}

impl Value<'_> {
    /// Returns the name of the kind for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Key and value of a table.
#[derive(Clone, Debug)]
pub(super) struct TableMember<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) at: usize,
    pub(super) node: ConfigNode<'a>,
}

/// Parses TOML. Returns the parts that could be parsed, and every syntax error.
pub(super) fn parse_toml(text: &str) -> (ConfigNode<'_>, Vec<toml::de::Error>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    (ConfigNode { at: 0, value: Value::Table(table(root.into_inner(), 0)) }, errors)
}

/// Reports the syntax errors of a TOML document.
pub(super) fn report_syntax_errors(
    document: &ConfigDocument<'_>,
    errors: Vec<toml::de::Error>,
    diagnostics: &mut Diagnostics,
) {
    let mut last_amount_line = 0;
    for error in errors {
        let at = error.span().map_or(document.text().len(), |span| span.start);
        let line = document.line(at);
        let text = document.text().lines().nth(line.saturating_sub(1)).unwrap_or_default();
        if let Some((message, remedy)) = amount_mistake(text, document.decimals()) {
            // One mistake can cause several syntax errors.
            if line != last_amount_line {
                diagnostics.problem(Problem::new(document.place(at), message, remedy));
            }
            last_amount_line = line;
            continue;
        }
        let reason = Escaped(error.message()).to_string().replace("\\\"", "\"");
        diagnostics.problem(Problem::new(
            document.place(at),
            format!("not TOML: {reason}"),
            "fix this line; sniper.example.toml shows the syntax of each setting",
        ));
    }
}

/// Recognizes an amount that is not a TOML number, such as `12,50` or `$12`. Returns the message
/// and the remedy.
fn amount_mistake(line: &str, decimals: Decimals) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next().unwrap_or_default().trim();
    let number = corrected_amount(value, decimals)?;
    let has_unit =
        value.contains(|char: char| !char.is_ascii_digit() && !matches!(char, '.' | ','));
    let (mistake, fix) = if has_unit {
        ("a currency or unit", "write a plain number")
    } else if value.contains(',') {
        ("a comma", "write a decimal point")
    } else {
        return None;
    };
    let key = Escaped(key.trim());
    Some((format!("`{key}` contains {mistake}"), format!("{fix}: {key} = {number}")))
}

/// Removes a currency or unit from an amount and replaces a decimal comma. Returns `None` if the
/// result is not an amount.
pub(crate) fn corrected_amount(value: &str, decimals: Decimals) -> Option<String> {
    let is_currency = |char: char| char.is_alphabetic() || matches!(char, '$' | '€' | '£' | ' ');
    let number = value.trim_matches(is_currency).replacen(',', ".", 1);
    let is_amount = number.starts_with(|char: char| char.is_ascii_digit());
    (is_amount && Amount::parse(&number, decimals).is_ok()).then_some(number)
}

fn table<'a>(table: DeTable<'a>, at: usize) -> Vec<TableMember<'a>> {
    let member = |(key, value): (Spanned<Cow<'a, str>>, Spanned<DeValue<'a>>)| {
        let key_at = key.span().start;
        TableMember { key: key.into_inner(), at: key_at, node: node(value, at.max(key_at)) }
    };
    table.into_iter().map(member).collect()
}

/// Converts a TOML value. `near` is the position of a value without a span.
fn node<'a>(value: Spanned<DeValue<'a>>, near: usize) -> ConfigNode<'a> {
    let span = value.span();
    let at = if span.is_empty() { near } else { span.start };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) if number.radix() == 10 => {
            Value::Number(Cow::Owned(number.as_str().to_owned()))
        }
        DeValue::Integer(_) => Value::Other("a number that is not decimal"),
        DeValue::Float(number) => Value::Number(Cow::Owned(number.as_str().to_owned())),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(list.into_iter().map(|item| node(item, at)).collect()),
        DeValue::Table(members) => Value::Table(table(members, at)),
    };
    ConfigNode { at, value }
}

/// Parses JSON. Reports a problem and returns `None` if the text is not JSON.
pub(super) fn read_json<'a>(
    document: &ConfigDocument<'a>,
    diagnostics: &mut Diagnostics,
) -> Option<ConfigNode<'a>> {
    let mut cursor = Cursor::new(document.text());
    let read = json_node(&mut cursor, document, diagnostics);
    let error = match read.and_then(|node| cursor.end().map(|()| node)) {
        Ok(node) => return Some(node),
        Err(error) => error,
    };
    let (at, message) = match error {
        JsonError::Syntax { at } | JsonError::Shape { at } => (at, "not JSON"),
        JsonError::TooDeep { at } => (at, "nested too deeply"),
    };
    diagnostics.problem(Problem::new(
        document.place(at),
        message,
        "look for a missing comma, quote or bracket here or just before",
    ));
    None
}

fn json_node<'a>(
    cursor: &mut Cursor<'a>,
    document: &ConfigDocument<'a>,
    diagnostics: &mut Diagnostics,
) -> Result<ConfigNode<'a>, JsonError> {
    let kind = cursor.peek()?;
    let at = cursor.offset();
    let value = match kind {
        ValueKind::String => Value::Text(cursor.string()?.decode()),
        ValueKind::Number => Value::Number(Cow::Borrowed(cursor.number()?)),
        ValueKind::Bool => Value::Flag(cursor.boolean()?),
        ValueKind::Null => cursor.skip().map(|_null| Value::Other("null"))?,
        ValueKind::Array => {
            let mut list = Vec::new();
            cursor.array(|cursor| {
                json_node(cursor, document, diagnostics).map(|node| list.push(node))
            })?;
            Value::List(list)
        }
        ValueKind::Object => Value::Table(json_table(cursor, document, diagnostics)?),
    };
    Ok(ConfigNode { at, value })
}

fn json_table<'a>(
    cursor: &mut Cursor<'a>,
    document: &ConfigDocument<'a>,
    diagnostics: &mut Diagnostics,
) -> Result<Vec<TableMember<'a>>, JsonError> {
    let mut members = BTreeMap::new();
    cursor.object(|key, cursor| {
        let read = document.text().get(..cursor.offset()).unwrap_or_default();
        let length = key.plain().map_or(0, str::len);
        let at = read.rfind('"').unwrap_or(0).saturating_sub(length.saturating_add(1));
        let key = key.decode();
        let node = json_node(cursor, document, diagnostics)?;
        if members.contains_key(&key) {
            diagnostics.problem(Problem::new(
                document.place(at),
                format!("`{}` is duplicated in one object", Escaped(&key)),
                "keep one of them",
            ));
        }
        members.insert(key.clone(), TableMember { key, at, node });
        Ok(())
    })?;
    Ok(members.into_values().collect())
}

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
    members: &'n [TableMember<'a>],
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
    pub(super) const fn of(members: &'n [TableMember<'a>], keys: &'static [&'static str]) -> Self {
        Self { members, keys, at: 0 }
    }

    /// Returns the value of a key, if present.
    pub(super) fn get(&self, key: &str) -> Option<&'n ConfigNode<'a>> {
        debug_assert!(self.keys.contains(&key), "`{key}` is read but not listed");
        self.members.iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// Reports a missing key.
    pub(super) fn missing(&self, key: &str, example: &str, context: &mut ParseContext<'_, '_>) {
        context.problem(self.at, format!("missing `{key}`"), format!("add {key} = {example}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, at: usize, line: usize, column: usize) {
        let place = ConfigDocument::new("f", text, Decimals::Two).place(at);
        assert_eq!(place, SourceLocation::Column { file: "f".into(), line, column });
    }

    #[test]
    fn locations_count_lines_and_characters_from_one() {
        check("", 0, 1, 1);
        check("ab\ncd", 0, 1, 1);
        check("ab\ncd", 4, 2, 2);
        check("★★x", 6, 1, 3);
        check("ab\n", 3, 2, 1);
        check("ab", 99, 1, 3);
    }

    #[test]
    fn json_members_have_the_position_of_their_key() {
        let text = "[\n {\"item\" : \"x\",\n  \"kéy\": 1}]";
        let mut diagnostics = Diagnostics::default();
        let document = ConfigDocument::new("f", text, Decimals::Two);
        let root = read_json(&document, &mut diagnostics).unwrap();
        let Value::List(list) = &root.value else { panic!() };
        let Value::Table(members) = &list[0].value else { panic!() };
        let places: Vec<String> = members
            .iter()
            .flat_map(|member| [member.at, member.node.at])
            .map(|at| document.place(at).to_string())
            .collect();
        assert_eq!(places, ["f:2:3", "f:2:12", "f:3:3", "f:3:10"]);
    }

    #[test]
    fn toml_list_entries_have_the_position_of_their_header() {
        let text = "a = 1\n[[whitelist]]\nitem = \"x\"\n[[whitelist]]\n";
        let document = ConfigDocument::new("f", text, Decimals::Two);
        let (root, errors) = parse_toml(text);
        let Value::Table(root) = root.value else { panic!() };
        let Value::List(list) = &root[1].node.value else { panic!() };
        let lines: Vec<usize> = list.iter().map(|entry| document.line(entry.at)).collect();
        assert_eq!((errors.len(), lines), (0, vec![2, 4]));
    }
}
