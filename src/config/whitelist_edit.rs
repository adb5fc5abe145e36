//! Edits of the whitelist in the text of a `sniper.toml`, which keep its comments and formatting.
//! Pure. The result is not validated.

use std::str::FromStr as _;

use toml_edit::{
    Array, ArrayOfTables, Decor, DocumentMut, InlineTable, Item, RawString, Table, Value,
};

use super::settings::item::spaced_bars;
use crate::{
    domain::item_name::ItemName,
    text::{Escaped, composed, nearest},
};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Value of a key of a new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryValue {
    Text(String),
    Texts(Vec<String>),
    /// Digits, with or without decimals.
    Number(String),
    True,
}

impl EntryValue {
    fn to_toml(&self, key: &'static str) -> Result<Value, EditError> {
        match self {
            Self::Text(text) => Ok(text.as_str().into()),
            Self::Texts(texts) => Ok(texts.iter().map(String::as_str).collect::<Array>().into()),
            Self::True => Ok(true.into()),
            Self::Number(text) => {
                let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let number = Value::from_str(text).ok().filter(|_number| is_plain);
                number.ok_or_else(|| EditError::NotANumber { key, text: text.clone() })
            }
        }
    }
}

/// Reason for which the text stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("it is not valid TOML; `sniper check` shows where")]
    Syntax,
    #[error("its `whitelist` is not a list of entries; `sniper check` shows where")]
    NotAList,
    #[error("`{key}` \"{}\" is not a number; write digits, such as 12.50", Escaped(.text))]
    NotANumber { key: &'static str, text: String },
    #[error(
        "an entry is already named \"{}\"; choose another name, such as --name {}",
        Escaped(.name),
        Escaped(.free)
    )]
    NameTaken { name: String, free: String },
    #[error("no entry is named \"{}\"{}", Escaped(.name), similar(.nearest.as_deref()))]
    NoSuchEntry { name: String, nearest: Option<String> },
    #[error(
        "{count} entries are named \"{}\"; give each its own `name`, and remove one by it",
        Escaped(.name)
    )]
    Ambiguous { name: String, count: usize },
}

fn similar(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean \"{}\"?", Escaped(name))).unwrap_or_default()
}

/// Adds an entry behind the others.
///
/// # Errors
///
/// Returns an [`EditError`] if the text cannot be edited, or another entry has the same name.
pub fn add(text: &str, entry: &[(&'static str, EntryValue)]) -> Result<String, EditError> {
    let mut file = EditedFile::parse(text)?;
    let names = file.labels()?;
    let name = entry.iter().find_map(|(key, value)| match value {
        EntryValue::Text(name) if *key == "name" => Some(name),
        _ => None,
    });
    if let Some(name) = name.filter(|name| names.iter().any(|it| it.is_named(name))) {
        let free = (2_u32..).map(|number| format!("{name}-{number}"));
        let mut free = free.filter(|free| !names.iter().any(|it| it.is_named(free)));
        let free = free.next().unwrap_or_default();
        return Err(EditError::NameTaken { name: name.clone(), free });
    }
    let mut table = Table::new();
    for (key, value) in entry {
        table.insert(key, Item::Value(value.to_toml(key)?));
    }
    file.push(table)?;
    Ok(file.into_text())
}

/// Removes the entry with this name, or the only one without a name for this item. Returns the new
/// text.
///
/// # Errors
///
/// Returns an [`EditError`] if the text cannot be edited, or not exactly one entry is meant.
pub fn remove(text: &str, name: &str) -> Result<String, EditError> {
    let mut file = EditedFile::parse(text)?;
    let labels = file.labels()?;
    let positions = |is_meant: &dyn Fn(&EntryLabel) -> bool| -> Vec<usize> {
        labels.iter().enumerate().filter(|(_, it)| is_meant(it)).map(|(index, _)| index).collect()
    };
    let mut found = positions(&|it| it.is_named(name));
    if found.is_empty() {
        found = positions(&|it| it.name.is_none() && it.label() == name.trim());
    }
    if found.is_empty() {
        let shown = spaced_bars(&composed(name)).to_lowercase();
        found = positions(&|it| it.name.is_none() && shown_item(it.label()) == shown);
    }
    match found.as_slice() {
        [index] => file.remove(*index),
        [] => {
            let known: Vec<&str> = labels.iter().map(EntryLabel::label).collect();
            let nearest = nearest(name, &known).map(str::to_owned);
            return Err(EditError::NoSuchEntry { name: name.to_owned(), nearest });
        }
        several => {
            return Err(EditError::Ambiguous { name: name.to_owned(), count: several.len() });
        }
    }
    Ok(file.into_text())
}

/// Returns an item as `whitelist list` shows it, in lower case: `list` corrects the case by the
/// stored prices.
fn shown_item(item: &str) -> String {
    spaced_bars(&composed(&ItemName::parse(item).base)).to_lowercase()
}

/// Returns the whitelist file that a settings file names.
pub fn whitelist_file(text: &str) -> Option<String> {
    let file = EditedFile::parse(text).ok()?;
    file.document.get("whitelist_file").and_then(Item::as_str).map(str::to_owned)
}

/// Name and item of an entry.
#[derive(Clone, Debug)]
struct EntryLabel {
    name: Option<String>,
    item: String,
}

impl EntryLabel {
    fn of(name: Option<&str>, item: Option<&str>) -> Self {
        let item = item.unwrap_or_default().trim().to_owned();
        Self { name: name.map(str::to_owned), item }
    }

    fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.item)
    }
}

/// A settings file that is being edited.
struct EditedFile {
    document: DocumentMut,
    has_mark: bool,
    has_crlf: bool,
}

impl EditedFile {
    fn parse(text: &str) -> Result<Self, EditError> {
        let content = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let lines = content.matches('\n').count();
        let has_crlf = lines > 0 && content.matches("\r\n").count() == lines;
        let content = if has_crlf { content.replace("\r\n", "\n") } else { content.to_owned() };
        Ok(Self {
            document: content.parse().map_err(|_error| EditError::Syntax)?,
            has_mark: text.starts_with(BYTE_ORDER_MARK),
            has_crlf,
        })
    }

    fn into_text(self) -> String {
        let mut text = self.document.to_string();
        if self.has_crlf {
            text = text.replace('\n', "\r\n");
        }
        if self.has_mark {
            text.insert(0, BYTE_ORDER_MARK);
        }
        text
    }

    fn labels(&self) -> Result<Vec<EntryLabel>, EditError> {
        match self.document.get("whitelist") {
            None => Ok(Vec::new()),
            Some(Item::ArrayOfTables(entries)) => {
                let text =
                    |entry: &Table, key| entry.get(key).and_then(Item::as_str).map(str::to_owned);
                let label = |entry: &Table| {
                    EntryLabel::of(text(entry, "name").as_deref(), text(entry, "item").as_deref())
                };
                Ok(entries.iter().map(label).collect())
            }
            Some(Item::Value(Value::Array(entries))) => {
                let label = |entry: &Value| {
                    let entry = entry.as_inline_table();
                    let text = |key| entry.and_then(|it| it.get(key)).and_then(Value::as_str);
                    EntryLabel::of(text("name"), text("item"))
                };
                Ok(entries.iter().map(label).collect())
            }
            Some(_) => Err(EditError::NotAList),
        }
    }

    fn push(&mut self, mut table: Table) -> Result<(), EditError> {
        let mut positions = Vec::new();
        add_positions(self.document.as_table(), &mut positions);
        let last = positions.into_iter().max().unwrap_or_default();
        let is_list = self.document.get("whitelist").is_some();
        let whitelist = self.document.entry("whitelist");
        match whitelist.or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new())) {
            Item::ArrayOfTables(entries) => {
                let before = entries.iter().last().and_then(Table::position);
                let is_last = before.is_none_or(|before| last <= before);
                let position = if is_list { before } else { Some(last.saturating_add(1)) };
                table.set_position(position);
                if is_last {
                    // The text after the last key stays where it is.
                    let mut trailing = raw(self.document.trailing());
                    if !trailing.is_empty() && !trailing.ends_with('\n') {
                        trailing.push('\n');
                    }
                    table.decor_mut().set_prefix(format!("{trailing}\n"));
                    self.document.set_trailing("");
                }
                if let Some(entries) =
                    self.document.get_mut("whitelist").and_then(Item::as_array_of_tables_mut)
                {
                    entries.push(table);
                }
                Ok(())
            }
            Item::Value(Value::Array(entries)) => {
                let mut inline: InlineTable = table.into_inline_table();
                inline.fmt();
                entries.push(inline);
                Ok(())
            }
            _ => Err(EditError::NotAList),
        }
    }

    fn remove(&mut self, index: usize) {
        match self.document.get_mut("whitelist") {
            Some(Item::ArrayOfTables(entries)) => {
                let removed = entries.remove(index);
                if entries.is_empty() {
                    self.document.remove("whitelist");
                }
                self.keep_comments(&removed);
            }
            Some(Item::Value(Value::Array(entries))) => drop(entries.remove(index)),
            _ => {}
        }
    }

    /// Moves the comments above a removed table that are separated from it by a blank line to what
    /// follows it. The others belong to it.
    fn keep_comments(&mut self, removed: &Table) {
        let prefix = prefix(removed.decor());
        let kept = prefix.rfind("\n\n").and_then(|end| prefix.get(..end)).unwrap_or_default();
        if kept.trim().is_empty() {
            return;
        }
        let kept = format!("{}\n", kept.trim_end());
        let position = removed.position().unwrap_or_default();
        let mut positions = Vec::new();
        add_positions(self.document.as_table(), &mut positions);
        let next = positions.into_iter().filter(|other| position < *other).min();
        match next.and_then(|next| table_at(self.document.as_table_mut(), next)) {
            Some(next) => {
                let own = prefix_or_blank(next.decor());
                next.decor_mut().set_prefix(format!("{kept}{own}"));
            }
            None => {
                let trailing = raw(self.document.trailing());
                self.document.set_trailing(format!("{kept}{trailing}"));
            }
        }
    }
}

fn raw(text: &RawString) -> String {
    text.as_str().unwrap_or_default().to_owned()
}

/// Returns the text before the header of a table.
fn prefix(decor: &Decor) -> String {
    decor.prefix().map(raw).unwrap_or_default()
}

/// Returns the same as [`prefix`], with at least a blank line.
fn prefix_or_blank(decor: &Decor) -> String {
    let own = prefix(decor);
    if own.starts_with('\n') { own } else { format!("\n{own}") }
}

/// Appends the position in the file of every table with a header.
fn add_positions(table: &Table, positions: &mut Vec<isize>) {
    positions.extend(table.position());
    for (_key, item) in table {
        match item {
            Item::Table(table) => add_positions(table, positions),
            Item::ArrayOfTables(tables) => {
                tables.iter().for_each(|table| add_positions(table, positions));
            }
            _ => {}
        }
    }
}

fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    if table.position() == Some(position) {
        return Some(table);
    }
    table.iter_mut().find_map(|(_key, item)| match item {
        Item::Table(table) => table_at(table, position),
        Item::ArrayOfTables(tables) => {
            tables.iter_mut().find_map(|table| table_at(table, position))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "\
# Settings of the bot.
market = \"csgoroll\"   # the only one

[budget]
max_price = 50.00
# Items to buy.

# The first one.
[[whitelist]]
name = \"a\"
item = \"AK-47 | Redline\"   # any wear
max_price = 12.50
# max_total = 40

# The second one.
[[whitelist]]
item = \"Fracture Case\"
max_price = 1

# Addresses and such.
[feed]
connections = 2
# last line
";

    fn entry(name: &str) -> Vec<(&'static str, EntryValue)> {
        vec![
            ("name", EntryValue::Text(name.to_owned())),
            ("item", EntryValue::Text("AWP | \"Asiimov\"".to_owned())),
            ("wear", EntryValue::Texts(vec!["FT".to_owned(), "BS".to_owned()])),
            ("stattrak", EntryValue::True),
            ("max_price", EntryValue::Number("90.50".to_owned())),
        ]
    }

    const ADDED: &str = "
[[whitelist]]
name = \"c\"
item = 'AWP | \"Asiimov\"'
wear = [\"FT\", \"BS\"]
stattrak = true
max_price = 90.50
";

    #[test]
    fn an_entry_is_added_behind_the_last_one_and_nothing_else_changes() {
        let added = add(FILE, &entry("c")).unwrap();
        let (before, after) = FILE.split_at(FILE.find("\n# Addresses").unwrap());
        assert_eq!(added, format!("{before}{ADDED}{after}"));
        // At the end of the file, comments included.
        let file = format!("{before}# the end\n");
        assert_eq!(add(&file, &entry("c")).unwrap(), format!("{file}{ADDED}"));
        let without = "[budget]\ntotal = 9\n\n[feed]\nconnections = 2\n# end\n";
        assert_eq!(add(without, &entry("c")).unwrap(), format!("{without}{ADDED}"));
    }

    #[test]
    fn a_removed_entry_takes_its_own_comment_and_leaves_the_others() {
        let first = remove(FILE, "a").unwrap();
        let mut expected = FILE.to_owned();
        let (start, end) = (FILE.find("\n# The first").unwrap(), FILE.find("# max_total").unwrap());
        expected.replace_range(start..end, "\n");
        assert_eq!(first, expected);
        let last = remove(&first, "Fracture Case").unwrap();
        assert!(!last.contains("[[whitelist]]") && last.contains("# Items to buy."), "{last}");
        assert!(last.contains("# max_total = 40") && last.ends_with("# last line\n"), "{last}");
    }

    #[test]
    fn only_one_entry_is_ever_removed_and_names_are_unique() {
        let twice = FILE.replace("Fracture Case", "AK-47 | Redline");
        let unnamed = format!("{twice}{}", FILE.split_at(FILE.find("[[w").unwrap()).1)
            .replace("name = \"a\"\n", "");
        let ambiguous = EditError::Ambiguous { name: "AK-47 | Redline".to_owned(), count: 3 };
        assert_eq!(
            remove(&unnamed.replace("[feed]", "[x]"), "AK-47 | Redline"),
            Err(EditError::Syntax)
        );
        let unnamed = unnamed.split_at(unnamed.find("[feed]").unwrap()).0;
        let unnamed = format!("{unnamed}{}", "[[whitelist]]\nitem = \"AK-47 | Redline\"\n");
        assert_eq!(remove(&unnamed, "AK-47 | Redline"), Err(ambiguous));
        assert!(remove(&twice, "AK-47 | Redline").unwrap().contains("name = \"a\""));
        let missing = remove(FILE, "fracture-case").unwrap_err().to_string();
        assert!(missing.contains("did you mean \"Fracture Case\"?"), "{missing}");
        let taken = add(&add(FILE, &entry("a-2")).unwrap(), &entry("a")).unwrap_err();
        assert!(taken.to_string().contains("--name a-3"), "{taken}");
        let price = vec![("max_price", EntryValue::Number("1\nx = 2".to_owned()))];
        assert!(matches!(add(FILE, &price), Err(EditError::NotANumber { .. })));
        assert_eq!(add("a = ", &entry("c")), Err(EditError::Syntax));
        assert_eq!(add("whitelist = 3", &entry("c")), Err(EditError::NotAList));
    }

    #[test]
    fn an_entry_is_removed_by_the_name_that_the_list_shows() {
        let file = FILE.replace("Fracture Case", "awp|Asiimov  (Field-Tested)");
        let removed = remove(&file, "AWP | Asiimov").unwrap();
        assert!(!removed.contains("Asiimov") && removed.contains("Redline"), "{removed}");
        for other in ["AWP", "AWP | Asiimov (Battle-Scarred)", "StatTrak™ AWP | Asiimov"] {
            assert!(matches!(remove(&file, other), Err(EditError::NoSuchEntry { .. })), "{other}");
        }
        let decomposed = FILE.replace("Fracture Case", "Ko\u{308}nig");
        assert!(remove(&decomposed, "König").is_ok() && remove(FILE, "fracture case").is_ok());
    }

    #[test]
    fn an_inline_list_and_the_line_ends_of_windows_stay() {
        let inline = "whitelist = [{ item = \"x\", max_price = 1 }] # mine\n";
        let added = add(inline, &entry("c")).unwrap();
        assert!(added.starts_with("whitelist = [{ item = \"x\", max_price = 1 }, {"), "{added}");
        assert_eq!(remove(&added, "c").unwrap(), inline);
        let windows = format!("\u{feff}{}", FILE.replace('\n', "\r\n"));
        let added = add(&windows, &entry("c")).unwrap();
        assert_eq!(added.matches('\n').count(), added.matches("\r\n").count());
        assert_eq!(remove(&added, "c").unwrap(), windows);
    }

    proptest! {
        #[test]
        fn adding_and_removing_an_entry_gives_the_same_text(
            blocks in prop::collection::vec(
                prop::sample::select(vec![
                    "[[whitelist]]\nitem = \"x\"\nmax_price = 1\n",
                    "# comment\n",
                    "\n",
                    "\n# above\n[[whitelist]]\nname = \"n\" # here\n",
                    "[[prices.source]]\nkind = \"own\"\n",
                    "  [[whitelist]]   # indented\n",
                ]),
                0..8,
            ),
            has_budget in any::<bool>(),
        ) {
            let mut text = blocks.concat();
            if has_budget {
                text.insert_str(0, "# top\n[budget]\ntotal = 1.50\n");
            }
            let added = add(&text, &entry("c")).unwrap();
            let read: toml::Table = added.parse().unwrap();
            let list = read["whitelist"].as_array().unwrap();
            prop_assert_eq!(list.last().unwrap()["name"].as_str(), Some("c"));
            let removed = remove(&added, "c").unwrap();
            // Comments at the end keep a blank line before them.
            prop_assert_eq!(removed.trim_end(), text.trim_end());
        }
    }
}
