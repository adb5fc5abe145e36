//! Pauses entries and groups, and keeps them paused over a reload and for the next run.

use std::{collections::HashSet, sync::Arc};

use super::engine::Engine;
use crate::{
    ledger::{
        control::ControlRequest,
        pauses::{PauseRecorder, PausedNames},
    },
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
    /// Pauses the entries of a new whitelist, by name as a restart does: an edited entry without a
    /// name is another one by its conditions. Takes milliseconds with many entries.
    pub fn prepare(&self, new: &Whitelist) -> PreparedPauses {
        new.set_paused_where(false, |_entry| true);
        let absent = pause_all(new, paused_names(&self.whitelist, &self.absent));
        PreparedPauses { names: paused_names(new, &absent), absent, version: self.version }
    }
}

impl<B> Engine<B> {
    /// Pauses or enables entries, and notes what is paused now. Returns `None` for another request.
    pub(super) fn apply_to_entries(
        &mut self,
        request: &ControlRequest,
    ) -> Option<Result<(), String>> {
        let done = apply_request(&self.whitelist, &mut self.absent_pauses, request)?;
        if done.is_ok() {
            self.pause_version = self.pause_version.wrapping_add(1);
            self.pauses.record(|| paused_names(&self.whitelist, &self.absent_pauses));
        }
        Some(done)
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
}

/// Pauses or enables entries of the whitelist. A paused entry matches nothing. `absent`: paused
/// names that the whitelist does not have. Returns `None` for another request, and a message if no
/// entry has the name.
pub fn apply_request(
    whitelist: &Whitelist,
    absent: &mut PausedNames,
    request: &ControlRequest,
) -> Option<Result<(), String>> {
    use ControlRequest::{EnableEntry, EnableGroup, PauseEntry, PauseGroup};
    let is_paused = matches!(request, PauseEntry { .. } | PauseGroup { .. });
    let (count, names, name, what) = match request {
        PauseEntry { entry, .. } | EnableEntry { entry, .. } => {
            (whitelist.set_paused(entry, is_paused), &mut absent.entries, entry, "named")
        }
        PauseGroup { group, .. } | EnableGroup { group, .. } => {
            let count = whitelist.set_group_paused(group, is_paused);
            (count, &mut absent.groups, group, "in a group named")
        }
        _ => return None,
    };
    let before = names.len();
    names.retain(|it| is_paused || it != name);
    let is_known = 0 < count || names.len() < before;
    Some(
        is_known
            .then_some(())
            .ok_or_else(|| format!("no whitelist entry is {what} \"{}\"", Escaped(name))),
    )
}

/// Names of all that is paused, also of what the whitelist does not have.
pub fn paused_names(whitelist: &Whitelist, absent: &PausedNames) -> PausedNames {
    let PausedNames { mut entries, mut groups } = absent.clone();
    let all = whitelist.entries();
    let paused = whitelist.paused().filter_map(|index| all.get(index));
    entries.extend(paused.map(|entry| entry.label().to_owned()));
    groups.extend(whitelist.paused_groups().into_iter().map(str::to_owned));
    PausedNames { entries, groups }
}

/// Pauses entries and groups by their names, in one pass. Returns the names that the whitelist does
/// not have: if a reload adds them, they are paused.
pub fn pause_all(whitelist: &Whitelist, mut names: PausedNames) -> PausedNames {
    if names.is_empty() {
        return names;
    }
    let entries: HashSet<String> = names.entries.iter().cloned().collect();
    let groups: HashSet<String> = names.groups.iter().cloned().collect();
    let of_group = |entry: &WhitelistEntry| groups.get(entry.group_name()?);
    whitelist.set_paused_where(true, |entry| {
        entries.contains(entry.label()) || of_group(entry).is_some()
    });
    let labels: HashSet<&str> = whitelist.entries().iter().map(WhitelistEntry::label).collect();
    names.entries.retain(|name| !labels.contains(name.as_str()));
    names.groups.retain(|name| !whitelist.mark_group_paused(name, true));
    names
}
