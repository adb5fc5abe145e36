//! Entries and groups that the user has paused: changes, reloads, and the next run.

use std::{collections::HashSet, sync::Arc};

use super::engine::Engine;
use crate::{
    ledger::pauses::{PauseRecorder, PausedNames},
    text::Escaped,
    whitelist::{Whitelist, WhitelistEntry},
};

/// What is paused at one moment.
#[derive(Debug)]
pub struct Pauses {
    whitelist: Arc<Whitelist>,
    absent: PausedNames,
    version: u64,
}

/// Pauses that a new whitelist has taken over.
#[derive(Debug, Default)]
pub struct PreparedPauses {
    pub(super) absent: PausedNames,
    /// Names for the next run.
    pub(super) names: PausedNames,
    /// Version of the pauses that were taken over.
    pub(super) version: u64,
}

impl Pauses {
    /// Pauses the entries of a new whitelist. `previous` is that of
    /// [`Rules`](super::rules::Rules). Takes milliseconds with many entries.
    pub fn prepare(&self, new: &Whitelist, previous: &[Option<usize>]) -> PreparedPauses {
        new.set_paused_where(false, |_entry| true);
        new.pause_as(&self.whitelist, previous);
        // By name, as a restart does: an edited entry without a name is another one by its conditions.
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

    /// Pauses what was paused in an earlier run, and keeps later changes. Returns the names that the
    /// whitelist does not have.
    pub fn restore_pauses(&mut self, names: &PausedNames, recorder: PauseRecorder) -> Vec<String> {
        self.pauses = recorder;
        self.absent_pauses = pause_all(&self.whitelist, names.clone());
        let PausedNames { entries, groups } = &self.absent_pauses;
        entries.iter().chain(groups).cloned().collect()
    }

    /// Returns what is paused now, for [`Pauses::prepare`].
    pub fn current_pauses(&self) -> Pauses {
        let (whitelist, absent) = (Arc::clone(&self.whitelist), self.absent_pauses.clone());
        Pauses { whitelist, absent, version: self.pause_version }
    }

    /// Notes what is paused now, for the next run.
    fn record_pauses(&mut self) {
        self.pause_version = self.pause_version.wrapping_add(1);
        self.pauses.record(|| paused_names(&self.whitelist, &self.absent_pauses));
    }
}

/// Names of all that is paused, also of what the whitelist does not have.
fn paused_names(whitelist: &Whitelist, absent: &PausedNames) -> PausedNames {
    let PausedNames { mut entries, mut groups } = absent.clone();
    let all = whitelist.entries();
    let paused = whitelist.paused().filter_map(|index| all.get(index));
    entries.extend(paused.map(|entry| entry.label().to_owned()));
    groups.extend(whitelist.paused_groups().into_iter().map(str::to_owned));
    PausedNames { entries, groups }
}

/// Pauses entries and groups by their names, in one pass. Returns the names that the whitelist does not
/// have: if a reload adds them, they are paused.
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
