//! A settings file as text and as a tree that knows where each of its values stands.
//!
//! TOML and JSON become the same [`ConfigNode`]s, so what is allowed in a whitelist is checked once.
//! Numbers stay the text that they are: money is never read through a binary float.

use std::{borrow::Cow, collections::BTreeMap};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Diagnostics, Problem, SourceLocation};
use crate::{
    json::{Cursor, JsonError, ValueKind},
    text::Escaped,
};

/// A text with the name that problems call it by.
#[derive(Debug)]
pub(super) struct ConfigDocument<'a> {
    name: &'a str,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'a> ConfigDocument<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        let breaks = memchr::memchr_iter(b'\n', text.as_bytes());
        let lines = std::iter::once(0).chain(breaks.map(|at| at.saturating_add(1))).collect();
        Self { name, text, lines }
    }

    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    /// The place of a byte.
    pub(super) fn place(&self, at: usize) -> SourceLocation {
        let line = self.line(at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..at.min(self.text.len())).unwrap_or_default();
        // Every byte but the continuation bytes of UTF-8 begins a character.
        let column = before.iter().filter(|byte| **byte & 0xC0 != 0x80).count().saturating_add(1);
        SourceLocation::Column { file: self.name.to_owned(), line, column }
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// The document as a whole.
    pub(super) fn whole(&self) -> SourceLocation {
        SourceLocation::File(self.name.to_owned())
    }
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct ConfigNode<'a> {
    pub(super) at: usize,
    pub(super) value: Value<'a>,
}

/// A value of TOML or JSON.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(Cow<'a, str>),
    Flag(bool),
    List(Vec<ConfigNode<'a>>),
    Table(Vec<Member<'a>>),
    /// What no setting is: a date, `null`, a number in hexadecimal.
    Other(&'static str),
}

impl Value<'_> {
    /// What to call it in a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) at: usize,
    pub(super) node: ConfigNode<'a>,
}

/// Reads TOML. Every syntax error is found; what could be understood beside them is returned.
pub(super) fn read_toml<'a>(
    document: &ConfigDocument<'a>,
    findings: &mut Diagnostics,
) -> ConfigNode<'a> {
    let (root, errors) = DeTable::parse_recoverable(document.text());
    for error in errors {
        let at = error.span().map_or(document.text().len(), |span| span.start);
        let reason = Escaped(error.message()).to_string().replace("\\\"", "\"");
        findings.problem(Problem::new(
            document.place(at),
            format!("not TOML: {reason}"),
            "mend this line; sniper.example.toml shows how each setting is written",
        ));
    }
    ConfigNode { at: 0, value: Value::Table(table(root.into_inner(), 0)) }
}

fn table<'a>(table: DeTable<'a>, at: usize) -> Vec<Member<'a>> {
    let member = |(key, value): (Spanned<Cow<'a, str>>, Spanned<DeValue<'a>>)| {
        let key_at = key.span().start;
        Member { key: key.into_inner(), at: key_at, node: node(value, at.max(key_at)) }
    };
    table.into_iter().map(member).collect()
}

/// `near` stands in for the place of a value that has none of its own.
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
        DeValue::Array(list) => Value::List(list.into_iter().map(|each| node(each, at)).collect()),
        DeValue::Table(members) => Value::Table(table(members, at)),
    };
    ConfigNode { at, value }
}

/// Reads JSON; `None` if it is none, which is a problem.
pub(super) fn read_json<'a>(
    document: &ConfigDocument<'a>,
    findings: &mut Diagnostics,
) -> Option<ConfigNode<'a>> {
    let mut cursor = Cursor::new(document.text());
    let read = json_node(&mut cursor, document, findings);
    let error = match read.and_then(|node| cursor.end().map(|()| node)) {
        Ok(node) => return Some(node),
        Err(error) => error,
    };
    let (at, message) = match error {
        JsonError::Syntax { at } | JsonError::Shape { at } => (at, "not JSON"),
        JsonError::TooDeep { at } => (at, "nested too deeply"),
    };
    findings.problem(Problem::new(
        document.place(at),
        message,
        "look for a missing comma, quote or bracket here or just before",
    ));
    None
}

fn json_node<'a>(
    cursor: &mut Cursor<'a>,
    document: &ConfigDocument<'a>,
    findings: &mut Diagnostics,
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
                json_node(cursor, document, findings).map(|node| list.push(node))
            })?;
            Value::List(list)
        }
        ValueKind::Object => Value::Table(json_table(cursor, document, findings)?),
    };
    Ok(ConfigNode { at, value })
}

fn json_table<'a>(
    cursor: &mut Cursor<'a>,
    document: &ConfigDocument<'a>,
    findings: &mut Diagnostics,
) -> Result<Vec<Member<'a>>, JsonError> {
    let mut members = BTreeMap::new();
    cursor.object(|key, cursor| {
        let read = document.text().get(..cursor.offset()).unwrap_or_default();
        let length = key.plain().map_or(0, str::len);
        let at = read.rfind('"').unwrap_or(0).saturating_sub(length.saturating_add(1));
        let key = key.decode();
        let node = json_node(cursor, document, findings)?;
        if members.contains_key(&key) {
            findings.problem(Problem::new(
                document.place(at),
                format!("`{}` stands twice in one object", Escaped(&key)),
                "keep one of them",
            ));
        }
        members.insert(key.clone(), Member { key, at, node });
        Ok(())
    })?;
    Ok(members.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, at: usize, line: usize, column: usize) {
        let place = ConfigDocument::new("f", text).place(at);
        assert_eq!(place, SourceLocation::Column { file: "f".into(), line, column });
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        check("", 0, 1, 1);
        check("ab\ncd", 0, 1, 1);
        check("ab\ncd", 4, 2, 2);
        check("★★x", 6, 1, 3);
        check("ab\n", 3, 2, 1);
        check("ab", 99, 1, 3);
    }

    #[test]
    fn members_of_json_know_their_key() {
        let text = "[\n {\"item\" : \"x\",\n  \"kéy\": 1}]";
        let mut findings = Diagnostics::default();
        let document = ConfigDocument::new("f", text);
        let root = read_json(&document, &mut findings).unwrap();
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
    fn entries_of_a_toml_list_know_their_header() {
        let text = "a = 1\n[[whitelist]]\nitem = \"x\"\n[[whitelist]]\n";
        let mut findings = Diagnostics::default();
        let document = ConfigDocument::new("f", text);
        let Value::Table(root) = read_toml(&document, &mut findings).value else { panic!() };
        let Value::List(list) = &root[1].node.value else { panic!() };
        let lines: Vec<usize> = list.iter().map(|entry| document.line(entry.at)).collect();
        assert_eq!((findings.is_fine(), lines), (true, vec![2, 4]));
    }
}
