//! Parser of the subset of GraphQL that the marketplace's clients use: one operation with
//! variables, arguments, aliases and fragments. Pure, bounded, and strict about unknown syntax.

use std::{collections::BTreeMap, iter::Peekable};

use serde_json::Value;

pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Maximum nesting of selections and fragments.
const DEPTH_MAX: u8 = 24;
/// Maximum number of fields of a query after the expansion of its fragments.
const FIELDS_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    Query,
    Mutation,
    Subscription,
}

/// A parsed query with expanded fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryDocument {
    pub kind: OperationKind,
    /// The top-level fields.
    pub fields: Vec<QueryField>,
}

/// A field of a selection set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryField {
    /// Name in the response: the alias, if there is one.
    pub key: String,
    /// Name in the schema.
    pub name: String,
    pub args: BTreeMap<String, Arg>,
    pub selection: Vec<QueryField>,
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A value in the query.
    Literal(Value),
    /// Name of a variable, whose value is in the request.
    Variable(String),
}

/// Cause of a failed parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error: {0}")]
pub struct QueryError(&'static str);

impl QueryField {
    /// Returns the value of an argument, or null if it is missing.
    pub fn arg<'a>(&'a self, name: &str, variables: &'a Value) -> &'a Value {
        match self.args.get(name) {
            Some(Arg::Literal(value)) => value,
            Some(Arg::Variable(variable)) => variables.get(variable).unwrap_or(&Value::Null),
            None => &Value::Null,
        }
    }
}

/// Parses a query of one operation.
///
/// # Errors
///
/// Returns a [`QueryError`] if the text is not a valid query or exceeds a limit.
pub fn parse(text: &str) -> Result<QueryDocument, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError("the document is too long."));
    }
    let mut parser = Parser { tokens: tokenize(text)?.into_iter().peekable(), depth: 0 };
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
    let mut remaining = FIELDS_MAX;
    let fields = expand(nodes, &fragments, DEPTH_MAX, &mut remaining)?;
    Ok(QueryDocument { kind, fields })
}

#[derive(Clone, Debug)]
enum QueryNode {
    Field(QueryField, Vec<QueryNode>),
    Spread(String),
    Inline(Vec<QueryNode>),
}

/// Replaces fragments by their fields.
fn expand(
    nodes: Vec<QueryNode>,
    fragments: &BTreeMap<String, Vec<QueryNode>>,
    depth: u8,
    remaining: &mut usize,
) -> Result<Vec<QueryField>, QueryError> {
    let depth = depth.checked_sub(1).ok_or(QueryError("nested too deeply."))?;
    let mut fields = Vec::new();
    for node in nodes {
        *remaining = remaining.checked_sub(1).ok_or(QueryError("too many fields."))?;
        match node {
            QueryNode::Field(field, children) => {
                let selection = expand(children, fragments, depth, remaining)?;
                fields.push(QueryField { selection, ..field });
            }
            QueryNode::Spread(name) => {
                let nodes = fragments.get(&name).ok_or(QueryError("unknown fragment."))?;
                fields.extend(expand(nodes.clone(), fragments, depth, remaining)?);
            }
            QueryNode::Inline(nodes) => fields.extend(expand(nodes, fragments, depth, remaining)?),
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

fn tokenize(text: &str) -> Result<Vec<Token>, QueryError> {
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
                let part = |char: &char| char.is_ascii_alphanumeric() || *char == '_';
                Token::Name(take_while(char, &mut chars, part))
            }
            '-' | '0'..='9' => {
                let part = |char: &char| {
                    char.is_ascii_digit() || matches!(char, '.' | 'e' | 'E' | '+' | '-')
                };
                Token::Number(take_while(char, &mut chars, part))
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

fn take_while(
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
    fn eat(&mut self, mark: char) -> bool {
        self.tokens.next_if_eq(&Token::Mark(mark)).is_some()
    }

    fn expect(&mut self, mark: char, error: &'static str) -> Result<(), QueryError> {
        if self.eat(mark) { Ok(()) } else { Err(QueryError(error)) }
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
        if self.eat('(') {
            self.skip_to_closing()?;
        }
        Ok((kind, self.selection()?))
    }

    /// Skips the declaration of variables. Their values are checked at their use.
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
        while !self.eat('}') {
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
        let name = if self.eat(':') { self.name()? } else { key.clone() };
        let mut args = BTreeMap::new();
        if self.eat('(') {
            while !self.eat(')') {
                let arg = self.name()?;
                self.expect(':', "expected :.")?;
                args.insert(arg, self.arg()?);
            }
        }
        let children = match self.tokens.peek() {
            Some(Token::Mark('{')) => self.selection()?,
            _ => Vec::new(),
        };
        Ok(QueryNode::Field(QueryField { key, name, args, selection: Vec::new() }, children))
    }

    fn arg(&mut self) -> Result<Arg, QueryError> {
        if self.eat('$') {
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
                while !self.eat(']') {
                    values.push(self.flat_literal()?);
                }
                Ok(Value::Array(values))
            }
            _ => Err(QueryError("expected a value.")),
        }
    }

    /// Parses an element of a list. No argument of the marketplace is a list of lists.
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
            let children = names(&field.selection);
            if children.is_empty() {
                field.name.clone()
            } else {
                format!("{}{{{children}}}", field.name)
            }
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_operation_with_fragments_is_parsed() {
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
    fn an_argument_is_a_literal_or_a_variable() {
        let read = parse("query Q($n: Int) { trades(first: $n, orderBy: [ID_DESC], status: LISTED, x: -1) { a } }").unwrap();
        let variables = json!({"n": 5});
        let arg = |name| read.fields[0].arg(name, &variables).clone();
        assert_eq!(
            [arg("first"), arg("orderBy"), arg("status"), arg("x"), arg("none")],
            [json!(5), json!(["ID_DESC"]), json!("LISTED"), json!(-1), Value::Null]
        );
    }

    #[test]
    fn an_invalid_query_is_an_error() {
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

    /// Nested fragments must not turn a small query into a large response.
    #[test]
    fn the_expansion_of_fragments_is_bounded() {
        let mut text = String::from("{ ...F0 }");
        for level in 0..20 {
            text.push_str(&format!(" fragment F{level} on T {{ ...F{0} ...F{0} }}", level + 1));
        }
        text.push_str(" fragment F20 on T { a }");
        assert!(parse(&text).is_err());
    }

    proptest! {
        #[test]
        fn parsing_a_query_never_panics(text in "[{}()$:.a\" \\[\\]1-]{0,60}|\\PC{0,60}") {
            if let Ok(read) = parse(&text) {
                prop_assert!(!read.fields.is_empty());
            }
        }
    }
}
