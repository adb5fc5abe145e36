//! GraphQL queries, as far as a marketplace's clients write them: one operation with variables,
//! arguments, aliases and fragments. Pure, bounded, and strict about what it does not know.

use std::{collections::BTreeMap, iter::Peekable};

use serde_json::Value;

/// The longest query that is read, in bytes.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// How deeply selections and fragments may nest.
const DEPTH_MAX: u8 = 24;
/// How many fields a query may have once its fragments are spelled out.
const FIELDS_MAX: usize = 2_000;

/// What kind of operation a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// A read.
    Query,
    /// A change.
    Mutation,
    /// A stream of events.
    Subscription,
}

/// A query, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryDocument {
    /// What kind.
    pub kind: OperationKind,
    /// What is asked for at the top.
    pub fields: Vec<QueryField>,
}

/// One field that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryField {
    /// The name that the answer gives it.
    pub key: String,
    /// The name that the market knows it by.
    pub name: String,
    /// What narrows it down.
    pub args: BTreeMap<String, Arg>,
    /// What is asked for of it.
    pub selection: Vec<QueryField>,
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// Stands in the query itself.
    Literal(Value),
    /// Comes with the request.
    Variable(String),
}

/// Why a text is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error: {0}")]
pub struct QueryError(&'static str);

impl QueryField {
    /// The value of an argument; null where it was not given.
    pub fn arg<'a>(&'a self, name: &str, variables: &'a Value) -> &'a Value {
        match self.args.get(name) {
            Some(Arg::Literal(value)) => value,
            Some(Arg::Variable(variable)) => variables.get(variable).unwrap_or(&Value::Null),
            None => &Value::Null,
        }
    }
}

/// Reads a query of one operation.
///
/// # Errors
///
/// A [`QueryError`] that says what was expected.
pub fn parse(text: &str) -> Result<QueryDocument, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError("the document is too long."));
    }
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), depth: 0 };
    let (mut operation, mut fragments) = (None, BTreeMap::new());
    while let Some(token) = parser.tokens.peek() {
        if *token == Token::Name("fragment".to_owned()) {
            let (name, nodes) = parser.fragment()?;
            fragments.insert(name, nodes);
        } else if operation.replace(parser.operation()?).is_some() {
            return Err(QueryError("expected one operation only."));
        }
    }
    let (kind, nodes) = operation.ok_or(QueryError("expected an operation."))?;
    let mut room = FIELDS_MAX;
    let fields = spell_out(nodes, &fragments, DEPTH_MAX, &mut room)?;
    Ok(QueryDocument { kind, fields })
}

#[derive(Clone, Debug)]
enum QueryNode {
    Field(QueryField, Vec<QueryNode>),
    Spread(String),
    Inline(Vec<QueryNode>),
}

/// Replaces fragments by what they stand for.
fn spell_out(
    nodes: Vec<QueryNode>,
    fragments: &BTreeMap<String, Vec<QueryNode>>,
    depth: u8,
    room: &mut usize,
) -> Result<Vec<QueryField>, QueryError> {
    let depth = depth.checked_sub(1).ok_or(QueryError("nested too deeply."))?;
    let mut fields = Vec::new();
    for node in nodes {
        *room = room.checked_sub(1).ok_or(QueryError("too many fields."))?;
        match node {
            QueryNode::Field(field, below) => {
                let selection = spell_out(below, fragments, depth, room)?;
                fields.push(QueryField { selection, ..field });
            }
            QueryNode::Spread(name) => {
                let nodes = fragments.get(&name).ok_or(QueryError("unknown fragment."))?;
                fields.extend(spell_out(nodes.clone(), fragments, depth, room)?);
            }
            QueryNode::Inline(nodes) => fields.extend(spell_out(nodes, fragments, depth, room)?),
        }
    }
    Ok(fields)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Number(String),
    Mark(char),
    Spread,
}

fn tokens(text: &str) -> Result<Vec<Token>, QueryError> {
    let mut chars = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(char) = chars.next() {
        let token = match char {
            ' ' | '\t' | '\r' | '\n' | ',' | '\u{feff}' => continue,
            '#' => {
                chars.by_ref().find(|char| *char == '\n');
                continue;
            }
            '"' => Token::Text(string(&mut chars)?),
            '.' => {
                if chars.next() != Some('.') || chars.next() != Some('.') {
                    return Err(QueryError("expected three dots."));
                }
                Token::Spread
            }
            '_' | 'a'..='z' | 'A'..='Z' => {
                let word = |char: &char| char.is_ascii_alphanumeric() || *char == '_';
                Token::Name(take(char, &mut chars, word))
            }
            '-' | '0'..='9' => {
                let part = |char: &char| {
                    char.is_ascii_digit() || matches!(char, '.' | 'e' | 'E' | '+' | '-')
                };
                Token::Number(take(char, &mut chars, part))
            }
            '{' | '}' | '(' | ')' | '[' | ']' | ':' | '$' | '!' | '=' | '@' | '&' | '|' => {
                Token::Mark(char)
            }
            _ => return Err(QueryError("unexpected character.")),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn take(
    first: char,
    chars: &mut Peekable<impl Iterator<Item = char>>,
    fits: impl Fn(&char) -> bool,
) -> String {
    let mut out = String::from(first);
    while let Some(char) = chars.next_if(&fits) {
        out.push(char);
    }
    out
}

fn string(chars: &mut impl Iterator<Item = char>) -> Result<String, QueryError> {
    let mut out = String::new();
    loop {
        match chars.next() {
            None | Some('\n') => return Err(QueryError("unterminated string.")),
            Some('"') => return Ok(out),
            Some('\\') => match chars.next() {
                Some('n') => out.push('\n'),
                Some(char @ ('"' | '\\' | '/')) => out.push(char),
                _ => return Err(QueryError("unknown escape in a string.")),
            },
            Some(char) => out.push(char),
        }
    }
}

struct Parser<I: Iterator<Item = Token>> {
    tokens: Peekable<I>,
    depth: u8,
}

impl<I: Iterator<Item = Token>> Parser<I> {
    fn takes(&mut self, mark: char) -> bool {
        self.tokens.next_if_eq(&Token::Mark(mark)).is_some()
    }

    fn expect(&mut self, mark: char, error: &'static str) -> Result<(), QueryError> {
        if self.takes(mark) { Ok(()) } else { Err(QueryError(error)) }
    }

    fn name(&mut self) -> Result<String, QueryError> {
        match self.tokens.next() {
            Some(Token::Name(name)) => Ok(name),
            _ => Err(QueryError("expected a name.")),
        }
    }

    fn operation(&mut self) -> Result<(OperationKind, Vec<QueryNode>), QueryError> {
        if self.tokens.peek() == Some(&Token::Mark('{')) {
            return Ok((OperationKind::Query, self.selection()?));
        }
        let kind = match self.name()?.as_str() {
            "query" => OperationKind::Query,
            "mutation" => OperationKind::Mutation,
            "subscription" => OperationKind::Subscription,
            _ => return Err(QueryError("expected query, mutation or subscription.")),
        };
        if matches!(self.tokens.peek(), Some(Token::Name(_))) {
            self.name()?;
        }
        if self.takes('(') {
            self.skip_to_closing()?;
        }
        Ok((kind, self.selection()?))
    }

    /// Skips the declaration of variables: what they hold is checked where it is used.
    fn skip_to_closing(&mut self) -> Result<(), QueryError> {
        loop {
            match self.tokens.next() {
                None => return Err(QueryError("expected ).")),
                Some(Token::Mark(')')) => return Ok(()),
                Some(_) => {}
            }
        }
    }

    fn fragment(&mut self) -> Result<(String, Vec<QueryNode>), QueryError> {
        self.name()?;
        let name = self.name()?;
        if self.name()? != "on" {
            return Err(QueryError("expected on."));
        }
        self.name()?;
        Ok((name, self.selection()?))
    }

    fn selection(&mut self) -> Result<Vec<QueryNode>, QueryError> {
        self.expect('{', "expected {.")?;
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err(QueryError("nested too deeply."));
        }
        let mut nodes = Vec::new();
        while !self.takes('}') {
            nodes.push(self.node()?);
        }
        self.depth = self.depth.saturating_sub(1);
        if nodes.is_empty() { Err(QueryError("expected a field.")) } else { Ok(nodes) }
    }

    fn node(&mut self) -> Result<QueryNode, QueryError> {
        if self.tokens.next_if_eq(&Token::Spread).is_some() {
            return match self.tokens.peek() {
                Some(Token::Mark('{')) => Ok(QueryNode::Inline(self.selection()?)),
                _ => match self.name()?.as_str() {
                    "on" => {
                        self.name()?;
                        Ok(QueryNode::Inline(self.selection()?))
                    }
                    name => Ok(QueryNode::Spread(name.to_owned())),
                },
            };
        }
        let key = self.name()?;
        let name = if self.takes(':') { self.name()? } else { key.clone() };
        let mut args = BTreeMap::new();
        if self.takes('(') {
            while !self.takes(')') {
                let arg = self.name()?;
                self.expect(':', "expected :.")?;
                args.insert(arg, self.arg()?);
            }
        }
        let below = match self.tokens.peek() {
            Some(Token::Mark('{')) => self.selection()?,
            _ => Vec::new(),
        };
        Ok(QueryNode::Field(QueryField { key, name, args, selection: Vec::new() }, below))
    }

    fn arg(&mut self) -> Result<Arg, QueryError> {
        if self.takes('$') {
            Ok(Arg::Variable(self.name()?))
        } else {
            self.literal().map(Arg::Literal)
        }
    }

    fn literal(&mut self) -> Result<Value, QueryError> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Value::String(text)),
            Some(Token::Number(text)) => serde_json::from_str(&text)
                .map_err(|_not_a_number| QueryError("expected a number.")),
            Some(Token::Name(name)) => Ok(match name.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => Value::String(name),
            }),
            Some(Token::Mark('[')) => {
                let mut values = Vec::new();
                while !self.takes(']') {
                    values.push(self.flat_literal()?);
                }
                Ok(Value::Array(values))
            }
            _ => Err(QueryError("expected a value.")),
        }
    }

    /// A literal within a list: lists of lists are nobody's argument here.
    fn flat_literal(&mut self) -> Result<Value, QueryError> {
        if self.tokens.peek() == Some(&Token::Mark('[')) {
            return Err(QueryError("nested too deeply."));
        }
        self.literal()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names(fields: &[QueryField]) -> String {
        let each = fields.iter().map(|field| {
            let below = names(&field.selection);
            if below.is_empty() { field.name.clone() } else { format!("{}{{{below}}}", field.name) }
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_operations_of_the_market_are_read() {
        let read = parse(
            "subscription OnCreateTrades($maxPrice: UnsignedFloat) {\n  createTrades(maxPrice: $maxPrice) { trades { ...T } } }
             fragment T on Trade { id tradeItems { marketName, itemVariant { value } } ... on Trade { status } }",
        )
        .unwrap();
        assert_eq!(read.kind, OperationKind::Subscription);
        assert_eq!(
            names(&read.fields),
            "createTrades{trades{id tradeItems{marketName itemVariant{value}} status}}"
        );
    }

    #[test]
    fn arguments_come_from_the_query_or_the_request() {
        let read = parse("query Q($n: Int) { trades(first: $n, orderBy: [ID_DESC], status: LISTED, x: -1) { a } }").unwrap();
        let variables = json!({"n": 5});
        let arg = |name| read.fields[0].arg(name, &variables).clone();
        assert_eq!(
            [arg("first"), arg("orderBy"), arg("status"), arg("x"), arg("none")],
            [json!(5), json!(["ID_DESC"]), json!("LISTED"), json!(-1), Value::Null]
        );
    }

    #[test]
    fn what_is_not_a_query_is_refused() {
        for text in [
            "",
            "{",
            "{}",
            "query",
            "{ a } { b }",
            "{ ...F }",
            "{ ...F } fragment F on T { ...F }",
            "nonsense { a }",
            "{ a(b: ) }",
            "{ \"a\" }",
            "query ($a: ",
            "{ a(b: \"",
            &"{ a".repeat(100),
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    /// Fragments that double each other must not make a small query a large answer.
    #[test]
    fn fragments_cannot_multiply_without_bound() {
        let mut text = String::from("{ ...F0 }");
        for level in 0..20 {
            text.push_str(&format!(" fragment F{level} on T {{ ...F{0} ...F{0} }}", level + 1));
        }
        text.push_str(" fragment F20 on T { a }");
        assert!(parse(&text).is_err());
    }

    proptest! {
        #[test]
        fn reading_a_query_never_panics(text in "[{}()$:.a\" \\[\\]1-]{0,60}|\\PC{0,60}") {
            if let Ok(read) = parse(&text) {
                prop_assert!(!read.fields.is_empty());
            }
        }
    }
}
