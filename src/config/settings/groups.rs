//! Parses the groups of whitelist entries, and resolves those that entries name. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    super::{
        document::{ConfigNode, ParseContext, TableFields, Value},
        problem::{Diagnostics, Problem, SourceLocation},
    },
    NAME_BYTES_MAX, ParsedEntry,
};
use crate::{
    domain::whitelist_entry::{EntryGroup, WhitelistEntry},
    text::{Escaped, is_safe_to_print, nearest},
};

/// Keys of a group.
pub(super) const GROUP_KEYS: [&str; 2] = ["max_total", "max_quantity"];

/// Groups by name, with their locations.
pub(in crate::config) type ParsedGroups = BTreeMap<String, (Arc<EntryGroup>, SourceLocation)>;

/// Reads the tables below `[groups]`.
pub(super) fn read_groups(
    node: &ConfigNode<'_>,
    context: &mut ParseContext<'_, '_>,
) -> ParsedGroups {
    let Value::Table(members) = &node.value else {
        let message = format!("`groups` must be a table, not {}", node.value.kind());
        context.problem(node.at, message, "begin each group with its name: [groups.knives]");
        return ParsedGroups::new();
    };
    let mut groups = ParsedGroups::new();
    for member in members {
        let name: &str = &member.key;
        let is_plain = name.chars().all(is_safe_to_print) && !name.trim().is_empty();
        if !is_plain || NAME_BYTES_MAX < name.len() {
            let message = "the name of a group is empty, too long or contains invisible characters";
            context.problem(member.at, message.to_owned(), "write plain text: [groups.knives]");
            continue;
        }
        let title = format!("[groups.{}]", Escaped(name));
        let fields = TableFields::new(&member.node, &title, &GROUP_KEYS, context);
        let group = EntryGroup {
            name: name.into(),
            max_quantity: fields.whole("max_quantity", (1, u32::MAX), context),
            max_total: fields.limit("max_total", context),
        };
        let place = context.document.place(member.at);
        groups.insert(name.to_owned(), (Arc::new(group), place));
    }
    groups
}

/// Resolves the groups that entries name. Reports unknown ones, those without an entry, and entries
/// that the ledger cannot distinguish in different groups.
pub(in crate::config) fn resolve_groups(
    entries: &mut [ParsedEntry],
    groups: &ParsedGroups,
    diagnostics: &mut Diagnostics,
) {
    let mut used: HashSet<&str> = HashSet::new();
    for ParsedEntry { entry, group, .. } in entries.iter_mut() {
        let Some((name, place)) = group else { continue };
        match groups.get_key_value(name.as_str()) {
            Some((name, (group, _place))) => {
                used.insert(name);
                entry.group = Some(Arc::clone(group));
            }
            None => {
                let known: Vec<&str> = groups.keys().map(String::as_str).collect();
                let remedy = match nearest(name, &known) {
                    Some(known) => format!("did you mean `{}`?", Escaped(known)),
                    None => format!("add it: [groups.{}] with max_total = 100.00", Escaped(name)),
                };
                let message = format!("unknown group \"{}\"", Escaped(name));
                diagnostics.problem(Problem::new(place.clone(), message, remedy));
            }
        }
    }
    for (name, (_group, place)) in groups.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        let message = format!("no entry is in the group \"{}\"", Escaped(name));
        let remedy = format!("add group = \"{}\" to entries, or remove it", Escaped(name));
        diagnostics.warning(Problem::new(place.clone(), message, remedy));
    }
    if !used.is_empty() {
        check_one_group_each(entries, diagnostics);
    }
}

/// Reports equal entries without a name in different groups: the ledger identifies such an entry by
/// its conditions, without its limits, so it could not distinguish them.
fn check_one_group_each(entries: &[ParsedEntry], diagnostics: &mut Diagnostics) {
    let mut groups: HashMap<WhitelistEntry, (Option<&str>, &SourceLocation)> = HashMap::new();
    for ParsedEntry { entry, place, .. } in entries.iter().filter(|it| it.entry.name.is_none()) {
        let conditions =
            WhitelistEntry { max_quantity: 0, max_total: None, group: None, ..entry.clone() };
        let (group, first) = groups.entry(conditions).or_insert((entry.group_name(), place));
        if *group != entry.group_name() {
            let message = format!("the same entry is in another group at {first}");
            let remedy = "give each of them a `name`";
            diagnostics.problem(Problem::new(place.clone(), message, remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Decimals;

    /// Returns the groups of the entries, the problems and the warnings.
    fn read(text: &str) -> (Vec<Option<String>>, Vec<String>, Vec<String>) {
        let mut diagnostics = Diagnostics::default();
        let decimals = |_market| Decimals::Two;
        let mut settings = super::super::read("f", text, decimals, &mut diagnostics);
        resolve_groups(&mut settings.entries.found, &settings.groups, &mut diagnostics);
        let entries = settings.entries.found.iter();
        let groups = entries.map(|it| it.entry.group_name().map(str::to_owned)).collect();
        let lines = |list: &[Problem]| list.iter().map(ToString::to_string).collect();
        match diagnostics.into_warnings() {
            Ok(warnings) => (groups, Vec::new(), lines(&warnings)),
            Err(errors) => (groups, lines(errors.list()), lines(errors.warnings())),
        }
    }

    #[test]
    fn entries_get_the_limits_of_their_group() {
        let text = "[groups.knives]\nmax_total = 50.5\nmax_quantity = 3\n\
             [groups.\"cheap ones\"]\n\
             [[whitelist]]\nitem = \"a\"\nmax_price = 1\ngroup = \"knives\"\n\
             [[whitelist]]\nitem = \"b\"\nmax_price = 1\ngroup = \"cheap ones\"\n\
             [[whitelist]]\nitem = \"c\"\nmax_price = 1\n";
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(read(text), (vec![some("knives"), some("cheap ones"), None], vec![], vec![]));
    }

    #[test]
    fn mistakes_in_groups_are_named_with_a_remedy() {
        let (_, problems, warnings) = read(
            "[groups.knives]\nmax_totals = 1\nmax_quantity = 0\n[groups.gloves]\n\
             [[whitelist]]\nitem = \"a\"\nmax_price = 1\ngroup = \"knive\"\n\
             [[whitelist]]\nitem = \"b\"\nmax_price = 1\ngroup = \"stickers\"\n",
        );
        let expected = [
            "f:2:1: unknown key `max_totals` in [groups.knives]; did you mean `max_total`?",
            "f:3:16: `max_quantity` is out of range",
            "f:8:1: unknown group \"knive\"; did you mean `knives`?",
            "f:12:1: unknown group \"stickers\"; add it: [groups.stickers]",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
        assert!(warnings[0].contains("no entry is in the group \"gloves\""), "{warnings:?}");
        assert!(read("groups = 3").1[0].contains("`groups` must be a table"));
    }

    /// The ledger counts both under one slot, which is in one group.
    #[test]
    fn an_entry_without_a_name_is_in_one_group() {
        let twice = "[groups.a]\n[groups.b]\n\
             [[whitelist]]\nitem = \"x\"\nmax_price = 1\ngroup = \"a\"\n\
             [[whitelist]]\nitem = \"x\"\nmax_price = 1\nmax_quantity = 9\ngroup = \"b\"\n";
        assert!(read(twice).1[0].starts_with("f:7:1: the same entry is in another group at f:3:1"));
        let named = twice.replace("max_quantity = 9", "name = \"y\"");
        assert_eq!(read(&named).1, Vec::<String>::new());
    }
}
