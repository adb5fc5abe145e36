//! What a person wants: `Trade` → verdict, each condition with its value and its bound. Pure.

mod entry;

pub use entry::{Entry, ItemPattern, Wears};

/// The entries of a whitelist, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Whitelist {
    entries: Vec<Entry>,
}

impl Whitelist {
    /// Takes checked entries; their order decides which of several that fit is used.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// The entries, in the order given.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
