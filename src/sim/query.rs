//! Queries of the marketplace's clients: one operation with arguments, aliases and fragments, and
//! the selection of its fields from a JSON tree. Pure, bounded, and strict about what a query may
//! contain.
//!
//! As in GraphQL, a response contains exactly the requested fields in the requested order. A field
//! that is missing in the tree is an error, so a query for an unknown field fails here before it
//! fails on the marketplace.

use std::collections::BTreeMap;

use apollo_parser::{
    Parser, SyntaxKind,
    cst::{self, CstNode as _},
};
use serde_json::{Map, Value};

/// Maximum nesting of selections and fragments.
const DEPTH_MAX: usize = 24;
/// Maximum number of tokens of a query.
const TOKENS_MAX: usize = 10_000;
/// Maximum number of fields of a query after the expansion of its fragments.
const FIELDS_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    Query,
    Mutation,
    Subscription,
}

/// A field of a query with expanded fragments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryField {
    /// Name in the response: the alias, if there is one.
    pub key: String,
    /// Name in the schema.
    pub name: String,
    args: Map<String, Value>,
    pub selection: Vec<QueryField>,
}

/// Cause of a failed parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error: {0}")]
pub struct QueryError(String);

/// A selection that does not fit the tree. The texts are those of GraphQL servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("Cannot query field \"{field}\" on type \"{of}\".")]
    Field { field: String, of: String },
    #[error("Field \"{0}\" of an object type must have a selection of subfields.")]
    Bare(String),
    #[error("Field \"{0}\" must not have a selection since it has no subfields.")]
    Leaf(String),
}

/// Parses a query of one operation with one top-level field. Variables are replaced by their
/// values.
///
/// # Errors
///
/// Returns a [`QueryError`] if the text is not such a query or exceeds a limit.
pub fn parse(text: &str, variables: &Value) -> Result<(OperationKind, QueryField), QueryError> {
    let tree = Parser::new(text).recursion_limit(DEPTH_MAX).token_limit(TOKENS_MAX).parse();
    if let Some(error) = tree.errors().next() {
        return Err(QueryError(error.message().to_owned()));
    }
    let document = tree.document();
    if document.syntax().descendants().any(|node| node.kind() == SyntaxKind::DIRECTIVE) {
        return Err(error("directives are not supported."));
    }
    let mut expansion = Expansion { fragments: BTreeMap::new(), variables, fields: FIELDS_MAX };
    let mut operations = Vec::new();
    for definition in document.definitions() {
        match definition {
            cst::Definition::OperationDefinition(operation) => operations.push(operation),
            cst::Definition::FragmentDefinition(fragment) => {
                let name = text_of(fragment.fragment_name().and_then(|name| name.name()));
                expansion.fragments.insert(name, fragment.selection_set());
            }
            _ => return Err(error("expected an operation.")),
        }
    }
    let [operation] = &operations[..] else { return Err(error("expected one operation.")) };
    let kind = match operation.operation_type() {
        Some(of) if of.mutation_token().is_some() => OperationKind::Mutation,
        Some(of) if of.subscription_token().is_some() => OperationKind::Subscription,
        _ => OperationKind::Query,
    };
    let mut fields = expansion.fields(operation.selection_set(), DEPTH_MAX)?;
    match (fields.pop(), fields.is_empty()) {
        (Some(field), true) => Ok((kind, field)),
        _ => Err(error("expected one top-level field.")),
    }
}

fn error(message: &str) -> QueryError {
    QueryError(message.to_owned())
}

fn text_of(name: Option<cst::Name>) -> String {
    name.map(|name| name.text().to_string()).unwrap_or_default()
}

/// Replaces fragments by their fields, and variables by their values.
struct Expansion<'a> {
    fragments: BTreeMap<String, Option<cst::SelectionSet>>,
    variables: &'a Value,
    /// Number of further fields that the query may have.
    fields: usize,
}

impl Expansion<'_> {
    fn fields(
        &mut self,
        set: Option<cst::SelectionSet>,
        depth: usize,
    ) -> Result<Vec<QueryField>, QueryError> {
        let depth = depth.checked_sub(1).ok_or_else(|| error("nested too deeply."))?;
        let mut fields = Vec::new();
        for selection in set.iter().flat_map(cst::SelectionSet::selections) {
            self.fields = self.fields.checked_sub(1).ok_or_else(|| error("too many fields."))?;
            match selection {
                cst::Selection::Field(field) => fields.push(self.field(&field, depth)?),
                cst::Selection::FragmentSpread(spread) => {
                    let name = text_of(spread.fragment_name().and_then(|name| name.name()));
                    let set = self.fragments.get(&name).cloned();
                    let set = set.ok_or_else(|| error("unknown fragment."))?;
                    fields.extend(self.fields(set, depth)?);
                }
                cst::Selection::InlineFragment(inline) => {
                    fields.extend(self.fields(inline.selection_set(), depth)?);
                }
            }
        }
        Ok(fields)
    }

    fn field(&mut self, field: &cst::Field, depth: usize) -> Result<QueryField, QueryError> {
        let name = text_of(field.name());
        let mut args = Map::new();
        for arg in field.arguments().iter().flat_map(cst::Arguments::arguments) {
            args.insert(text_of(arg.name()), self.value(arg.value())?);
        }
        Ok(QueryField {
            key: field.alias().map_or_else(|| name.clone(), |alias| text_of(alias.name())),
            name,
            args,
            selection: self.fields(field.selection_set(), depth)?,
        })
    }

    fn value(&self, value: Option<cst::Value>) -> Result<Value, QueryError> {
        Ok(match value {
            Some(cst::Value::Variable(variable)) => {
                self.variables.get(text_of(variable.name())).cloned().unwrap_or_default()
            }
            Some(cst::Value::EnumValue(value)) => Value::String(text_of(value.name())),
            Some(cst::Value::ListValue(list)) => {
                let values = list.values().map(|value| self.value(Some(value)));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            Some(cst::Value::ObjectValue(object)) => {
                let field = |field: cst::ObjectField| {
                    Ok((text_of(field.name()), self.value(field.value())?))
                };
                Value::Object(object.object_fields().map(field).collect::<Result<_, _>>()?)
            }
            // Other values are written as in JSON, block strings excepted.
            Some(value) => serde_json::from_str(&value.source_string())
                .map_err(|_not_json| error("expected a value."))?,
            None => return Err(error("expected a value.")),
        })
    }
}

impl QueryField {
    /// Returns the value of an argument, or null if it is missing.
    pub fn arg(&self, name: &str) -> &Value {
        self.args.get(name).unwrap_or(&Value::Null)
    }

    /// Appends the selected fields of a value as JSON. An object names its type in `__typename`.
    ///
    /// # Errors
    ///
    /// Returns a [`SelectError`] if the selection does not fit the value.
    pub fn select(&self, value: &Value, out: &mut String) -> Result<(), SelectError> {
        let is_bare = self.selection.is_empty();
        match value {
            Value::Object(_) if is_bare => return Err(SelectError::Bare(self.name.clone())),
            Value::Object(fields) => {
                let mut separator = '{';
                for field in &self.selection {
                    out.push(separator);
                    separator = ',';
                    out.push('"');
                    out.push_str(&field.key);
                    out.push_str("\":");
                    let value = fields.get(&field.name).ok_or_else(|| {
                        let of = fields.get("__typename").and_then(Value::as_str);
                        let of = of.unwrap_or_default().to_owned();
                        SelectError::Field { field: field.name.clone(), of }
                    })?;
                    field.select(value, out)?;
                }
                out.push('}');
            }
            Value::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.select(value, out)?;
                }
                out.push(']');
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) if !is_bare => {
                return Err(SelectError::Leaf(self.name.clone()));
            }
            leaf => out.push_str(&leaf.to_string()),
        }
        Ok(())
    }
}

/// Returns an amount, a percentage or a float as the marketplace writes it: without trailing zeros.
pub fn number(decimal: &str) -> Value {
    match decimal.strip_suffix(".00").unwrap_or(decimal).parse::<i64>() {
        Ok(whole) => whole.into(),
        // Not by serde_json, which may round the last digit.
        Err(_decimal) => decimal.parse::<f64>().map_or(Value::Null, Value::from),
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
        let (kind, field) = parse(
            "subscription OnCreateTrades($maxPrice: UnsignedFloat) {\n  createTrades(maxPrice: $maxPrice) { trades { ...T } } }
             fragment T on Trade { id tradeItems { marketName, itemVariant { value } } ... on Trade { status } }",
            &Value::Null,
        )
        .unwrap();
        assert_eq!(kind, OperationKind::Subscription);
        assert_eq!(
            names(&[field]),
            "createTrades{trades{id tradeItems{marketName itemVariant{value}} status}}"
        );
    }

    #[test]
    fn an_argument_is_a_literal_or_a_variable() {
        let variables = json!({"n": 5});
        let text = "query Q($n: Int) { trades(first: $n, orderBy: [ID_DESC], status: LISTED, x: -1.5, y: \"a\\\"b\", z: {a: $n, b: null}) { a } }";
        let (_, field) = parse(text, &variables).unwrap();
        let arg = |name| field.arg(name).clone();
        assert_eq!(
            [
                arg("first"),
                arg("orderBy"),
                arg("status"),
                arg("x"),
                arg("y"),
                arg("z"),
                arg("none")
            ],
            [
                json!(5),
                json!(["ID_DESC"]),
                json!("LISTED"),
                json!(-1.5),
                json!("a\"b"),
                json!({"a": 5, "b": null}),
                Value::Null
            ]
        );
    }

    #[test]
    fn an_invalid_query_is_an_error() {
        for text in [
            "",
            "{",
            "{}",
            "query",
            "{ a b }",
            "{ a } { b }",
            "query A { a } query B { b }",
            "type T { a: Int }",
            "{ a @include(if: true) }",
            "{ ...F }",
            "{ ...F } fragment F on T { ...F }",
            "nonsense { a }",
            "{ a(b: ) }",
            "{ \"a\" }",
            "query ($a: ",
            "{ a(b: \"",
            &"{ a".repeat(100),
            &format!("{{ a(b: {}1{}) }}", "[".repeat(9_000), "]".repeat(9_000)),
            &format!("{{ {}}}", "a ".repeat(20_000)),
        ] {
            assert!(parse(text, &Value::Null).is_err(), "{text:?}");
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
        assert!(parse(&text, &Value::Null).is_err());
    }

    #[track_caller]
    fn check(query: &str, expected: Result<&str, &str>) {
        let (_, field) = parse(query, &Value::Null).unwrap();
        let tree = json!({
            "__typename": "Trade",
            "id": "x",
            "items": [{"__typename": "Item", "name": "a \"b\"\n", "n": null}],
            "open": true,
            "none": [],
        });
        let mut out = String::new();
        let result = field.select(&tree, &mut out);
        let shown = result.map(|()| out).map_err(|error| error.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "query: {query}");
    }

    #[test]
    fn a_response_has_the_selected_fields_in_the_selected_order() {
        check("{ a { open id none } }", Ok(r#"{"open":true,"id":"x","none":[]}"#));
        check(
            "{ a { items { __typename called: name } } }",
            Ok(r#"{"items":[{"__typename":"Item","called":"a \"b\"\n"}]}"#),
        );
        check("{ a { items { n } } }", Ok(r#"{"items":[{"n":null}]}"#));
    }

    #[test]
    fn a_selection_that_does_not_fit_is_an_error() {
        check("{ a { price } }", Err("Cannot query field \"price\" on type \"Trade\"."));
        let bare = "Field \"items\" of an object type must have a selection of subfields.";
        check("{ a { items } }", Err(bare));
        let leaf = "Field \"id\" must not have a selection since it has no subfields.";
        check("{ a { id { x } } }", Err(leaf));
        check("{ a }", Err("Field \"a\" of an object type must have a selection of subfields."));
    }

    #[test]
    fn numbers_are_written_without_trailing_zeros_and_exactly() {
        for (decimal, expected) in [
            ("10.00", "10"),
            ("-10.10", "-10.1"),
            ("10.15", "10.15"),
            ("0.00", "0"),
            ("999999999999.99", "999999999999.99"),
            ("0.0706543211234567", "0.0706543211234567"),
        ] {
            assert_eq!(number(decimal).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn parsing_a_query_never_panics(text in "[{}()$:.a\" \\[\\]1-]{0,60}|\\PC{0,60}") {
            if let Ok((_, field)) = parse(&text, &Value::Null) {
                prop_assert!(!field.name.is_empty());
            }
        }
    }
}
