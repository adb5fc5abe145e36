//! Entries and groups that the user has paused: changes, reloads, and the next run.

use super::engine::Engine;
use crate::{
    ledger::pauses::{PauseRecorder, PausedNames},
    text::Escaped,
};

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
        self.pause_all(names.clone());
        let PausedNames { entries, groups } = &self.absent_pauses;
        entries.iter().chain(groups).cloned().collect()
    }

    /// Pauses entries and groups by their names. Those that the whitelist does not have stay noted: if a
    /// reload adds them, they are paused.
    pub(super) fn pause_all(&mut self, mut names: PausedNames) {
        names.entries.retain(|name| self.whitelist.set_paused(name, true) == 0);
        names.groups.retain(|name| self.whitelist.set_group_paused(name, true) == 0);
        self.absent_pauses = names;
    }

    /// Names of all that is paused, also of what the whitelist does not have now.
    pub(super) fn paused_names(&self) -> PausedNames {
        let PausedNames { mut entries, mut groups } = self.absent_pauses.clone();
        let all = self.whitelist.entries();
        let paused = self.whitelist.paused().filter_map(|index| all.get(index));
        entries.extend(paused.map(|entry| entry.label().to_owned()));
        groups.extend(self.whitelist.paused_groups().into_iter().map(str::to_owned));
        PausedNames { entries, groups }
    }

    /// Notes what is paused now, for the next run.
    pub(super) fn record_pauses(&self) {
        self.pauses.record(|| self.paused_names());
    }
}

/// Removes a name. Returns `true` if it was there.
fn forget(names: &mut Vec<String>, name: &str) -> bool {
    let before = names.len();
    names.retain(|it| it != name);
    names.len() < before
}
