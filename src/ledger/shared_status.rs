//! State of a shared budget, for `sniper status`, its JSON, the page and the metrics. Pure.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{money::Amount, time::format_duration},
    text::{Escaped, counted},
};

/// State of a bot that may order.
pub const ACTIVE: &str = "active";
/// State of a bot while another one is active.
pub const STANDBY: &str = "standby";
/// Maximum number of members in a status, and in a step of `doctor`.
pub const MEMBERS_SHOWN_MAX: usize = 20;

/// Returns the line about the members that are not shown, if there are any.
pub fn more_members(count: usize) -> Option<String> {
    let more = counted(count, "more member", "more members");
    (0 < count).then(|| format!("and {more}; see: sniper shared status"))
}

/// Another member of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMember {
    pub name: String,
    pub market: String,
    /// `true` if it had contact with the database recently.
    pub is_live: bool,
    /// `true` if it sends no orders, so that its listings are split among the others.
    #[serde(default)]
    pub is_idle: bool,
    /// Time since its last contact: by the clock of the database at the last exchange of this bot,
    /// plus the time since then if the database does not answer.
    pub silent_ms: u64,
    /// Slice of the total, and its reported usage, in thousandths of the group's unit.
    #[serde(default)]
    pub slice: i64,
    #[serde(default)]
    pub used: i64,
}

impl fmt::Display for SharedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [slice, used] = [self.slice, self.used].map(Amount::from_thousandths);
        let (name, market) = (Escaped(&self.name), Escaped(&self.market));
        let age = format_duration(Duration::from_millis(self.silent_ms));
        write!(f, "{name} on {market}: {used} used of a slice of {slice}, last contact {age} ago")?;
        f.write_str(if self.is_live && self.is_idle { ", sends no orders" } else { "" })
    }
}

/// State of this bot in its group. Amounts are thousandths of the group's unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedStatus {
    pub group: String,
    pub member: String,
    pub unit: String,
    /// `active`, `standby`, `starting`, `no contact` or `refused`.
    pub state: String,
    /// Reason of `refused`.
    pub refused: Option<String>,
    /// Active bot of this one's standby name, with its start.
    pub active: Option<String>,
    pub active_since: Option<String>,
    /// Time since the last contact with the database; `None` before the first.
    pub contact_ms: Option<u64>,
    pub slice: i64,
    pub used: i64,
    /// Part of the group's total that is in no slice.
    pub free: i64,
    pub exchanges: u64,
    pub failures: u64,
    /// Cause of the last failure, if no exchange has succeeded since.
    pub error: Option<String>,
    /// Problem that the state does not show.
    #[serde(default)]
    pub warning: Option<String>,
    /// At most [`MEMBERS_SHOWN_MAX`].
    pub members: Vec<SharedMember>,
    /// Number of other members that are not in `members`, and of the live ones among these.
    #[serde(default)]
    pub more_members: usize,
    #[serde(default)]
    pub more_live: usize,
}

impl SharedStatus {
    pub fn is_active(&self) -> bool {
        self.state == ACTIVE
    }

    pub fn is_standby(&self) -> bool {
        self.state == STANDBY
    }

    /// Returns the problem that needs the user, if there is one.
    pub fn problem(&self) -> Option<String> {
        let error = self.error.as_deref().unwrap_or("no answer");
        match self.state.as_str() {
            "refused" => {
                let reason = self.refused.as_deref().unwrap_or("no reason");
                Some(format!("the shared budget rejects this bot: {reason}"))
            }
            "no contact" => Some(format!("no contact with the shared budget: {error}")),
            _ => self.warning.clone(),
        }
    }

    /// Returns the number of other live members.
    pub fn live_others(&self) -> usize {
        let live = self.members.iter().filter(|member| member.is_live).count();
        live.saturating_add(self.more_live)
    }

    /// Describes the other members, one in a line.
    pub fn member_lines(&self) -> impl Iterator<Item = String> {
        self.members.iter().map(ToString::to_string).chain(more_members(self.more_members))
    }

    /// Describes the state in one line.
    pub fn headline(&self) -> String {
        let Self { group, member, unit, slice, used, free, .. } = self;
        let [slice, used, free] = [*slice, *used, *free].map(Amount::from_thousandths);
        let (group, member) = (Escaped(group), Escaped(member));
        format!(
            "{group} as {member}: {}, {used} {unit} used of a slice of {slice}, {free} free",
            self.role()
        )
    }

    fn role(&self) -> String {
        let mut text = self.state.clone();
        if let Some(reason) = &self.refused {
            text.push_str(&format!(" ({})", Escaped(reason)));
        }
        if let Some(active) = self.active.as_deref().filter(|_active| !self.is_active()) {
            text.push_str(&format!(", active is {}", Escaped(active)));
        }
        if let Some(since) = &self.active_since {
            text.push_str(&format!(" since {since}"));
        }
        text
    }
}

impl fmt::Display for SharedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = counted(self.live_others(), "other live member", "other live members");
        let (group, member) = (Escaped(&self.group), Escaped(&self.member));
        writeln!(f, "shared          {group} as {member}: {}, {live}", self.role())?;
        let [slice, used, free] = [self.slice, self.used, self.free].map(Amount::from_thousandths);
        let unit = &self.unit;
        writeln!(f, "                {used} {unit} used of a slice of {slice}; {free} free")?;
        for line in self.member_lines() {
            writeln!(f, "                {line}")?;
        }
        let Some(error) = &self.error else { return Ok(()) };
        let age = self.contact_ms.map(|ms| format_duration(Duration::from_millis(ms)));
        let contact =
            age.map_or("no contact yet".to_owned(), |it| format!("last contact {it} ago"));
        writeln!(f, "                {contact}: {}", Escaped(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str) -> SharedStatus {
        SharedStatus {
            group: "main".to_owned(),
            member: "a".to_owned(),
            unit: "USD".to_owned(),
            state: state.to_owned(),
            slice: 40_000,
            used: 12_500,
            free: 460_000,
            ..SharedStatus::default()
        }
    }

    #[test]
    fn a_standby_names_the_active_bot_and_has_no_problem() {
        let shared = SharedStatus {
            active: Some("b".to_owned()),
            active_since: Some("2026-03-01T10:00:00.000Z".to_owned()),
            members: vec![SharedMember {
                name: "b".to_owned(),
                market: "waxpeer".to_owned(),
                is_live: true,
                is_idle: true,
                silent_ms: 2_000,
                slice: 30_000,
                used: 1_500,
            }],
            ..status(STANDBY)
        };
        assert_eq!(
            shared.to_string(),
            "shared          main as a: standby, active is b since 2026-03-01T10:00:00.000Z, 1 other live member\n\
             \x20               12.50 USD used of a slice of 40.00; 460.00 free\n\
             \x20               b on waxpeer: 1.50 used of a slice of 30.00, last contact 2.0 s ago, sends no orders\n"
        );
        assert_eq!(shared.problem(), None);
        let more = SharedStatus { more_members: 4, more_live: 2, ..shared.clone() };
        let text = more.to_string();
        assert!(text.contains(", 3 other live members\n"), "{text}");
        assert!(text.ends_with(" and 4 more members; see: sniper shared status\n"), "{text}");
        let warned = SharedStatus { warning: Some("the same account".to_owned()), ..shared };
        assert_eq!(warned.problem().as_deref(), Some("the same account"));
    }

    #[test]
    fn a_database_that_is_away_is_shown_and_becomes_a_problem_without_contact() {
        let away = SharedStatus {
            contact_ms: Some(61_000),
            error: Some("connection refused".to_owned()),
            ..status(ACTIVE)
        };
        let line = "                last contact 1 min 1 s ago: connection refused\n";
        assert!(away.to_string().ends_with(line), "{away}");
        assert_eq!(away.problem(), None, "its slice is still in force");
        let silent = SharedStatus { state: "no contact".to_owned(), ..away };
        let problem = "no contact with the shared budget: connection refused";
        assert_eq!(silent.problem().as_deref(), Some(problem));
    }
}
