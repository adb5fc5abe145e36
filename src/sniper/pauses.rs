//! Pauses entries and groups, and keeps them paused over a reload and for the next run.

use std::{collections::HashSet, sync::Arc};

use super::engine::Engine;
use crate::{
    ledger::pauses::{PauseRecorder, PausedNames},
    text::Escaped,
    whitelist::{Whitelist, WhitelistEntry},
};

/// Paused entries and groups at one moment.
#[derive(Debug)]
pub struct Pauses {
    whitelist: Arc<Whitelist>,
    absent: PausedNames,
    version: u64,
}

/// Pauses that were applied to a new whitelist.
#[derive(Debug, Default)]
pub struct PreparedPauses {
    pub(super) absent: PausedNames,
    /// Names for the next run.
    pub(super) names: PausedNames,
    /// Version of the pauses that were applied.
    pub(super) version: u64,
}

impl Pauses {
    /// Pauses the entries of a new whitelist. `previous` is the field of
    /// [`Rules`](super::rules::Rules). Takes milliseconds with many entries.
    pub fn prepare(&self, new: &Whitelist, previous: &[Option<usize>]) -> PreparedPauses {
        new.set_paused_where(false, |_entry| true);
        new.pause_as(&self.whitelist, previous);
        // Entries are also paused by name, as after a restart, because `previous` does not have an
        // unnamed entry whose conditions were edited.
        let absent = pause_all(new, paused_names(&self.whitelist, &self.absent));
        PreparedPauses { names: paused_names(new, &absent), absent, version: self.version }
    }
}

impl<B> Engine<B> {
    /// Pauses or enables the entries with this label. A paused entry matches nothing.
    ///
    /// # Errors
    ///
    /// Returns a message if no entry has the label.
    pub fn set_entry_paused(&mut self, label: &str, is_paused: bool) -> Result<(), String> {
        let was_absent = !is_paused && forget(&mut self.absent_pauses.entries, label);
        if self.whitelist.set_paused(label, is_paused) == 0 && !was_absent {
            return Err(format!("no whitelist entry is named \"{}\"", Escaped(label)));
        }
        self.record_pauses();
        Ok(())
    }

    /// Pauses or enables the entries of this group.
    ///
    /// # Errors
    ///
    /// Returns a message if no entry is in the group.
    pub fn set_group_paused(&mut self, group: &str, is_paused: bool) -> Result<(), String> {
        let was_absent = !is_paused && forget(&mut self.absent_pauses.groups, group);
        if self.whitelist.set_group_paused(group, is_paused) == 0 && !was_absent {
            return Err(format!("no whitelist entry is in a group named \"{}\"", Escaped(group)));
        }
        self.record_pauses();
        Ok(())
    }

    /// Pauses the entries and groups that were paused in an earlier run, and passes later changes
    /// to `recorder`. Returns the names that the whitelist does not have.
    pub fn restore_pauses(&mut self, names: &PausedNames, recorder: PauseRecorder) -> Vec<String> {
        self.pauses = recorder;
        self.absent_pauses = pause_all(&self.whitelist, names.clone());
        let PausedNames { entries, groups } = &self.absent_pauses;
        entries.iter().chain(groups).cloned().collect()
    }

    /// Returns the current pauses, for [`Pauses::prepare`].
    pub fn current_pauses(&self) -> Pauses {
        let (whitelist, absent) = (Arc::clone(&self.whitelist), self.absent_pauses.clone());
        Pauses { whitelist, absent, version: self.pause_version }
    }

    /// Passes the names of paused entries and groups to the recorder, for the next run.
    fn record_pauses(&mut self) {
        self.pause_version = self.pause_version.wrapping_add(1);
        self.pauses.record(|| paused_names(&self.whitelist, &self.absent_pauses));
    }
}

/// Returns the names of all paused entries and groups, including those that the whitelist does not
/// have.
fn paused_names(whitelist: &Whitelist, absent: &PausedNames) -> PausedNames {
    let PausedNames { mut entries, mut groups } = absent.clone();
    let all = whitelist.entries();
    let paused = whitelist.paused().filter_map(|index| all.get(index));
    entries.extend(paused.map(|entry| entry.label().to_owned()));
    groups.extend(whitelist.paused_groups().into_iter().map(str::to_owned));
    PausedNames { entries, groups }
}

/// Pauses entries and groups by their names, in one pass. Returns the names that the whitelist does
/// not have. If a reload adds them, they are paused then.
fn pause_all(whitelist: &Whitelist, mut names: PausedNames) -> PausedNames {
    if names.is_empty() {
        return names;
    }
    let entries: HashSet<String> = names.entries.iter().cloned().collect();
    let groups: HashSet<String> = names.groups.iter().cloned().collect();
    let of_group = |entry: &WhitelistEntry| groups.get(entry.group_name()?);
    whitelist.set_paused_where(true, |entry| {
        entries.contains(entry.label()) || of_group(entry).is_some()
    });
    let all = || whitelist.entries().iter();
    let labels: HashSet<&str> = all().map(WhitelistEntry::label).collect();
    let present: HashSet<&str> = all().filter_map(WhitelistEntry::group_name).collect();
    names.entries.retain(|name| !labels.contains(name.as_str()));
    names.groups.retain(|name| !present.contains(name.as_str()));
    names
}

/// Removes a name. Returns `true` if it was there.
fn forget(names: &mut Vec<String>, name: &str) -> bool {
    let before = names.len();
    names.retain(|it| it != name);
    names.len() < before
}
