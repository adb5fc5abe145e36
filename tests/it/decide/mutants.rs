//! Mutations of valid messages, as a hostile or broken server could send them.
#![expect(clippy::indexing_slicing, reason = "indices are taken modulo the length")]

use proptest::prelude::*;

use super::plain::JsonTree;

/// Replacements for values.
const VALUES: [&str; 44] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "10.15",
    "10.150",
    "10.155",
    "1e400",
    "-1e400",
    "1e-400",
    "1E1",
    "1015e-2",
    "99999999999999999999",
    "0.21500000000000000000001",
    "00",
    "1.",
    "NaN",
    "\"\"",
    "\"LISTED\"",
    "\"\\u004cISTED\"",
    "\"JOINED\"",
    "\"10.15\"",
    "\"AK-47 | Redline (Field-Tested)\"",
    "\"AK-47  | Redline  (Field-Tested) \"",
    "\"\\u0041K-47 | Redline\\u0020(Field-Tested)\"",
    "\"StatTrak™ AK-47 | Redline (Field-Tested)\"",
    "\"\\u2605 Karambit | Sapphire (Factory New)\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"a\\\\\\\"b\"",
    "\"VHJhZGU6OTAwMDAwMDE\"",
    "\"2026-03-01T10:00:00.300Z\"",
    "\"2026-03-01T10:00:00Z\"",
    "\"2026-13-01T10:00:00.300Z\"",
    "\"2026-03-01T10:00:00.300\\u005a\"",
    "[]",
    "{}",
    "[{}]",
    "[null]",
    "{\"min\":0.1,\"min\":0.2,\"max\":0.3}",
    "{\"min\":0.3,\"max\":0.1}",
    "{\"trade\":null}",
];

/// Keys that the parsers interpret.
const KEYS: [&str; 28] = [
    "id",
    "type",
    "payload",
    "data",
    "errors",
    "createTrade",
    "createTrades",
    "updateTrade",
    "updateWallet",
    "trade",
    "trades",
    "status",
    "markupPercent",
    "totalValue",
    "canJoin",
    "canJoinAfter",
    "suspectedTraderCanJoinAfter",
    "createdAt",
    "expiresAt",
    "avgPaintWear",
    "avgPaintWearRange",
    "min",
    "max",
    "depositor",
    "tradeItems",
    "marketName",
    "itemVariant",
    "value",
];

/// A JSON tree that keeps every scalar and every key as source text.
#[derive(Clone, Debug)]
enum Node {
    Scalar(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// One mutation. The numbers select place and value, modulo the number of choices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutation {
    kind: u8,
    place: u16,
    pick: u16,
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    // Most mutations keep the text valid JSON: entries of objects are the most frequent target,
    // then values, then the text itself.
    let kind = prop_oneof![8 => 0_u8..6, 3 => 6_u8..9, 1 => 9_u8..12];
    let mutation = (kind, any::<u16>(), any::<u16>());
    prop::collection::vec(
        mutation.prop_map(|(kind, place, pick)| Mutation { kind, place, pick }),
        0..5,
    )
}

/// Applies mutations to a message.
pub(crate) fn mutated(text: &str, mutations: &[Mutation]) -> String {
    let mut tree = Node::of(&JsonTree::read(text).unwrap());
    let (in_tree, in_text): (Vec<Mutation>, Vec<Mutation>) =
        mutations.iter().copied().partition(|mutation| mutation.kind < 9);
    for mutation in in_tree {
        let predicate = match mutation.kind {
            0..6 => |node: &Node| matches!(node, Node::Object(_)),
            _ => |_: &Node| true,
        };
        let count = tree.count(predicate);
        let mut place = usize::from(mutation.place) % count.max(1);
        if let Some(node) = tree.nth(predicate, &mut place) {
            mutation.apply(node);
        }
    }
    let mut text = tree.write();
    for mutation in in_text {
        mutation.apply_to_text(&mut text);
    }
    text
}

fn picked<T: Copy>(from: &[T], pick: u16) -> T {
    from[usize::from(pick) % from.len()]
}

impl Mutation {
    fn apply(self, node: &mut Node) {
        let pick = usize::from(self.pick >> 6);
        let value = Node::Scalar(picked(&VALUES, self.pick).to_owned());
        match (self.kind, &mut *node) {
            (0, Node::Object(entries)) if !entries.is_empty() => {
                let at = pick % entries.len();
                entries[at].1 = Node::Scalar(picked(&VALUES, self.pick).to_owned());
            }
            (1, Node::Object(entries)) if !entries.is_empty() => {
                entries.remove(pick % entries.len());
            }
            (2, Node::Object(entries)) if !entries.is_empty() => {
                let mut entry = entries[pick % entries.len()].clone();
                if pick % 3 == 0 {
                    entry.1 = Node::Scalar(picked(&VALUES, self.pick).to_owned());
                }
                entries.insert(usize::from(self.place >> 4) % (entries.len() + 1), entry);
            }
            (3, Node::Object(entries)) => {
                let length = entries.len().max(1);
                entries.rotate_left(pick % length);
                if pick % 2 == 0 {
                    entries.reverse();
                }
            }
            (4, Node::Object(entries)) if !entries.is_empty() => {
                let at = pick % entries.len();
                entries[at].0 = escaped(&entries[at].0, self.pick & 63);
            }
            (5, Node::Object(entries)) => {
                entries.push((format!("\"{}\"", picked(&KEYS, self.place >> 4)), value));
            }
            (6, Node::List(nodes)) => {
                let node = nodes.first().cloned().unwrap_or(value);
                nodes.insert(pick % (nodes.len() + 1), node);
            }
            (7, Node::Scalar(text)) if text.starts_with('"') => *text = escaped(text, self.pick),
            (8, _) => {
                let depth =
                    picked(&[1, 2, 100, 115, 116, 117, 118, 119, 120, 126, 127, 200], self.pick);
                let inner = picked(&["", "1", "1e400", "\"\\u0041\"", "x"], self.place);
                *node = Node::Scalar(format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth)));
            }
            (_, Node::Scalar(_)) => *node = value,
            _ => {}
        }
    }

    fn apply_to_text(self, text: &mut String) {
        let at = |place: u16, text: &str| {
            let mut at = usize::from(place) % (text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let place = at(self.place, text);
        match self.kind {
            9 => text.truncate(place),
            10 => text.insert_str(
                place,
                picked(
                    &[
                        " ", "\n", "\t\r", ",", ":", "{", "}", "[", "]", "\"", "\\", "\u{1}", "0",
                        "★", "\u{b}",
                    ],
                    self.pick,
                ),
            ),
            _ => {
                let end = at(self.pick, text);
                if place < end && end - place < 40 {
                    text.replace_range(place..end, "");
                }
            }
        }
    }
}

/// Replaces one character of a quoted text with its `\uXXXX` escape.
fn escaped(quoted: &str, pick: u16) -> String {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.is_empty() || inner.contains('\\') {
        return quoted.to_owned();
    }
    let chosen = usize::from(pick) % inner.chars().count();
    let each = inner.chars().enumerate().map(|(at, char)| match char.encode_utf16(&mut [0; 2]) {
        [unit] if at == chosen => format!("\\u{unit:04x}"),
        _ => char.to_string(),
    });
    format!("\"{}\"", each.collect::<String>())
}

impl Node {
    fn of(value: &JsonTree) -> Self {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        match value {
            JsonTree::Null => Self::Scalar("null".to_owned()),
            JsonTree::Bool(is) => Self::Scalar(is.to_string()),
            JsonTree::Number(text) => Self::Scalar(text.clone()),
            JsonTree::Text(text) => Self::Scalar(quoted(text)),
            JsonTree::List(values) => Self::List(values.iter().map(Self::of).collect()),
            JsonTree::Object(entries) => Self::Object(
                entries.iter().map(|(key, value)| (quoted(key), Self::of(value))).collect(),
            ),
        }
    }

    /// Counts the nodes that satisfy the predicate, including this one.
    fn count(&self, predicate: fn(&Self) -> bool) -> usize {
        let inside = match self {
            Self::Scalar(_) => 0,
            Self::List(nodes) => nodes.iter().map(|node| node.count(predicate)).sum(),
            Self::Object(entries) => entries.iter().map(|(_, node)| node.count(predicate)).sum(),
        };
        inside + usize::from(predicate(self))
    }

    /// Returns the n-th node that satisfies the predicate, in pre-order.
    fn nth(&mut self, predicate: fn(&Self) -> bool, place: &mut usize) -> Option<&mut Self> {
        if predicate(self) {
            if *place == 0 {
                return Some(self);
            }
            *place -= 1;
        }
        match self {
            Self::Scalar(_) => None,
            Self::List(nodes) => nodes.iter_mut().find_map(|node| node.nth(predicate, place)),
            Self::Object(entries) => {
                entries.iter_mut().find_map(|(_, node)| node.nth(predicate, place))
            }
        }
    }

    fn write(&self) -> String {
        let joined = |parts: Vec<String>| parts.join(",");
        match self {
            Self::Scalar(text) => text.clone(),
            Self::List(nodes) => format!("[{}]", joined(nodes.iter().map(Self::write).collect())),
            Self::Object(entries) => {
                let entry = |(key, node): &(String, Self)| format!("{key}:{}", node.write());
                format!("{{{}}}", joined(entries.iter().map(entry).collect()))
            }
        }
    }
}
